"""Field rules: from what a person pasted to a typed credential, with every bad field reported at once."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantvault.credentials import TwilioCredential, VapiCredential
from tenantvault.errors import InvalidRequest
from tenantvault.secret import Secret

ANY: Final = "body"
"""The name under which a complaint stands that is about no single field that we could name."""

_LONGEST: Final = 256
_SHORTEST_VAPI_KEY: Final = 20
_SHORTEST_SECRET: Final = 8
# White space, quotes of every sort, and what cannot be seen: zero-width characters and the byte order mark.
_AROUND: Final = (
    " \t\r\n\u00a0\u202f\u3000\u200b\u200c\u200d\u2060\ufeff\"'`\u00b4\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
)
_LEADING: Final = re.compile(rf"(?:[{_AROUND}]|bearer[ \t])*", re.IGNORECASE)
_VISIBLE: Final = re.compile(r"[\x21-\x7e]*")
_ACCOUNT_SID: Final = re.compile(r"AC[0-9a-fA-F]{32}")
_API_KEY_SID: Final = re.compile(r"SK[0-9a-fA-F]{32}")
_E164: Final = re.compile(r"\+[1-9][0-9]{1,14}")
_WHATSAPP: Final = re.compile(r"\Awhatsapp:", re.IGNORECASE)
# A trunk prefix in parentheses, as in +44 (0)20, stays and is refused: without the marks it would be another number.
_BETWEEN_DIGITS: Final = re.compile(r"[\s.\-/\u2010-\u2015]|\((?!0\))|(?<!\(0)\)")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]{1,32}")

Check = Callable[[str], str]
"""Says what is wrong with a value, in a sentence; empty when nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a body. `clean` runs before `check`."""

    check: Check
    required: str = ""
    """What to say when it is missing; empty for an optional field."""
    clean: Callable[[str], str] = lambda value: value


def vapi(body: Mapping[str, Any]) -> VapiCredential:
    """A Vapi credential from a body; InvalidRequest names every bad field."""
    values, wrong = _read(body, _VAPI)
    _raise_if(wrong)
    return VapiCredential(
        api_key=Secret(values["apiKey"]),
        webhook_secret=Secret(values["webhookSecret"]),
        region=values["region"] or "us",
    )


def twilio(body: Mapping[str, Any]) -> TwilioCredential:
    """A Twilio credential, by Auth Token or by API key, from a body; InvalidRequest names every bad field."""
    values, wrong = _read(body, _TWILIO)
    # A field that is there and wrong has its complaint already.
    has_token, has_sid, has_secret = (
        bool(values[name]) or name in wrong for name in ("authToken", "apiKeySid", "apiKeySecret")
    )
    if has_sid and not has_secret:
        wrong["apiKeySecret"] = "Enter the secret that belongs to this API key."
    elif has_secret and not has_sid:
        wrong["apiKeySid"] = "Enter the SID of the API key that this secret belongs to."
    elif not (has_sid or has_token):
        wrong["authToken"] = "Enter the Auth Token, or an API key SID with its secret."
    _raise_if(wrong)
    return TwilioCredential(
        account_sid=values["accountSid"],
        auth_token=Secret(values["authToken"]),
        api_key_sid=values["apiKeySid"],
        api_key_secret=Secret(values["apiKeySecret"]),
        phone_number=values["phoneNumber"],
        whatsapp_number=values["whatsappNumber"],
    )


def org(body: Mapping[str, Any]) -> str:
    """The org that a person picks on the local sign-in page; InvalidRequest without one."""
    values, wrong = _read(body, {"org": Field(check=lambda _: "", required="Pick an organisation.")})
    _raise_if(wrong)
    return values["org"]


def nothing(body: Mapping[str, Any]) -> None:
    """For calls that take no fields; InvalidRequest names those that came."""
    _, wrong = _read(body, {})
    _raise_if(wrong)


def trim(value: str) -> str:
    """What was meant by a pasted value: without white space and quotes around it, and without `Bearer `."""
    return _LEADING.sub("", value, count=1).rstrip(_AROUND)


def _number(value: str) -> str:
    return _BETWEEN_DIGITS.sub("", _WHATSAPP.sub("", value, count=1))


def _read(body: Mapping[str, Any], rules: Mapping[str, Field]) -> tuple[dict[str, str], dict[str, str]]:
    values, wrong = dict.fromkeys(rules, ""), _unknown(body, rules)
    for name, rule in rules.items():
        given = body.get(name)
        if given is not None and not isinstance(given, str):
            wrong[name] = "This must be text."
            continue
        values[name] = rule.clean(trim(given or ""))
        if what := rule.check(values[name]) if values[name] else rule.required:
            wrong[name] = what
    return values, wrong


def _unknown(body: Mapping[str, Any], rules: Mapping[str, Field]) -> dict[str, str]:
    # A name is given back only when it looks like one: a secret pasted in the wrong place must not come back.
    names = [name if _PLAIN_NAME.fullmatch(name) else ANY for name in body if name not in rules]
    return dict.fromkeys(names, "This field is not known here: leave it out.")


def _raise_if(wrong: Mapping[str, str]) -> None:
    if wrong:
        count = "One field needs" if len(wrong) == 1 else f"{len(wrong)} fields need"
        raise InvalidRequest(f"{count} attention.", fields=wrong)


def _secret(shortest: int, name: str) -> Check:
    def check(value: str) -> str:
        if not _VISIBLE.fullmatch(value):
            return f"{name} has no spaces or special characters: copy it again."
        if not shortest <= len(value) <= _LONGEST:
            return f"{name} has at least {shortest} characters and at most {_LONGEST}: copy the whole of it."
        return ""

    return check


def _account_sid(value: str) -> str:
    if _API_KEY_SID.fullmatch(value):
        return "This is the SID of an API key (SK…): enter the Account SID, which begins with AC."
    return "" if _ACCOUNT_SID.fullmatch(value) else "An Account SID is AC followed by 32 digits and letters a to f."


def _auth_token(value: str) -> str:
    if _ACCOUNT_SID.fullmatch(value):
        return "This is an Account SID: enter the Auth Token, which stands below it in the Twilio console."
    return _secret(_SHORTEST_SECRET, "An Auth Token")(value)


def _matches(pattern: re.Pattern[str], sentence: str) -> Check:
    return lambda value: "" if pattern.fullmatch(value) else sentence


_PHONE: Final = _matches(_E164, "Enter the number with + and its country code, e.g. +14155550100.")

_VAPI: Final[Mapping[str, Field]] = {
    "apiKey": Field(check=_secret(_SHORTEST_VAPI_KEY, "A Vapi API key"), required="Enter the private API key."),
    "webhookSecret": Field(check=_secret(_SHORTEST_SECRET, "A webhook secret")),
    "region": Field(check=_matches(re.compile("us|eu"), "The region is us or eu."), clean=str.lower),
}

_TWILIO: Final[Mapping[str, Field]] = {
    "accountSid": Field(check=_account_sid, required="Enter the Account SID."),
    "authToken": Field(check=_auth_token),
    "apiKeySid": Field(check=_matches(_API_KEY_SID, "An API key SID is SK followed by 32 digits and letters a to f.")),
    "apiKeySecret": Field(check=_secret(_SHORTEST_SECRET, "An API key secret")),
    "phoneNumber": Field(check=_PHONE, required="Enter the phone number.", clean=_number),
    "whatsappNumber": Field(check=_PHONE, clean=_number),
}
