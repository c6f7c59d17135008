"""What people type and paste into the fields of a credential."""

import re
from typing import Final

from tenantvault.secret import Secret

LONGEST: Final = 256
"""Characters that a secret may have."""

# Looking for what to cut off takes time with the square of a run of blanks.
_TOO_LONG_TO_MEND: Final = 4 * LONGEST

# White space, quotes (accents and « » among them), and what cannot be seen: marks of zero width, of direction and of
# byte order.
_WRAPPING: Final = r"\s\"'`\u00b4\u00ab\u00bb\u2018-\u201f\u200b-\u200f\u202a-\u202e\u2060\ufeff"
_AROUND = re.compile(rf"\A[{_WRAPPING}]+|[{_WRAPPING}]+\Z")
_BEARER = re.compile(rf"\Abearer[{_WRAPPING}]+", re.IGNORECASE)
# Marks between digits. A trunk prefix in parentheses, as in +44 (0)20, stays: it is no part of the number, and leaving
# the parentheses out alone would make another number of it.
_IN_NUMBERS = re.compile(rf"[{_WRAPPING}.\-\u2010-\u2015]|\((?!0\))|(?<!\(0)\)")
_WHATSAPP = re.compile(r"\A(?:whatsapp:)+", re.IGNORECASE)
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_VISIBLE = re.compile(r"[!-~]+")


def pasted(text: str) -> str:
    """What was meant by a pasted text: without the white space, the quotes and the `Bearer ` around it.

    A text that is much too long is returned as it is.
    """
    if len(text) > _TOO_LONG_TO_MEND:
        return text
    while (shorter := _BEARER.sub("", _AROUND.sub("", text))) != text:
        text = shorter
    return text


def pasted_secret(secret: Secret) -> Secret:
    """`pasted` for a secret."""
    return Secret(pasted(secret.reveal()))


def pasted_number(text: str) -> str:
    """The digits of a phone number, also without the marks that people set between them."""
    return text if len(text) > _TOO_LONG_TO_MEND else _WHATSAPP.sub("", _IN_NUMBERS.sub("", text))


def is_e164(number: str) -> bool:
    """Whether a number is written as ITU-T E.164 has it: `+`, the country code, the number, 15 digits at most."""
    return _E164.fullmatch(number) is not None


def flaw_of_secret(secret: Secret, *, shortest: int = 1) -> str:
    """What is wrong with a secret, as the end of a sentence; empty when nothing is. It must fit into an HTTP header."""
    value = secret.reveal()
    if not _VISIBLE.fullmatch(value):
        return "holds white space or characters that do not belong into it: copy it again."
    if len(value) < shortest:
        return f"has at least {shortest} characters: copy the whole of it."
    if len(value) > LONGEST:
        return f"has at most {LONGEST} characters: copy nothing else with it."
    return ""
