"""What may stand in the fields of a Twilio credential.

Source of the SIDs' form: https://www.twilio.com/docs/glossary/what-is-a-sid. The vendor says nothing about the form of
Auth Tokens and of API keys' secrets.
"""

import re
from collections.abc import Iterator
from typing import Final

from services.provider.fields import flaw_of_secret, is_e164, pasted, pasted_number, pasted_secret
from tenantvault.credentials import TwilioCredential

ALGORITHMS: Final = ("HMAC_SHA256", "HMAC_SHA1")
"""What webhooks may be signed with a shared key by."""

ACCOUNT_SID_FORM: Final = "AC[0-9a-fA-F]{32}"
API_KEY_SID_FORM: Final = "SK[0-9a-fA-F]{32}"

_ACCOUNT_SID = re.compile(ACCOUNT_SID_FORM)
_API_KEY_SID = re.compile(API_KEY_SID_FORM)
_LIKE_A_TOKEN = re.compile("[0-9a-f]{32}")
_SWAPPED: Final = "The Account SID and the Auth Token look swapped: the Account SID starts with AC."
_KEY_SWAPPED: Final = "The SID and the secret of the API key look swapped: the SID starts with SK."
_NO_ACCOUNT: Final = "The Account SID starts with AC; 32 digits and letters from a to f follow."
_E164: Final = "Write the number with + and the country code, without anything else, e.g. +14155550100."

Problem = tuple[str, str]
"""A field and what is wrong with it."""


def trimmed(credential: TwilioCredential) -> TwilioCredential:
    """The credential without what copy and paste leaves around it. What is not typed in is left out."""
    shared_key = pasted_secret(credential.webhook_shared_key)
    algorithm = pasted(credential.webhook_algorithm).upper()
    # Forms send the choice whether there is a key or not.
    if not shared_key and algorithm in ALGORITHMS:
        algorithm = ""
    elif shared_key:
        algorithm = algorithm or ALGORITHMS[0]
    return TwilioCredential(
        account_sid=pasted(credential.account_sid),
        auth_token=pasted_secret(credential.auth_token),
        api_key_sid=pasted(credential.api_key_sid),
        api_key_secret=pasted_secret(credential.api_key_secret),
        phone_number=pasted_number(credential.phone_number),
        whatsapp_number=pasted_number(credential.whatsapp_number),
        webhook_shared_key=shared_key,
        webhook_algorithm=algorithm,
    )


def problems(credential: TwilioCredential) -> Iterator[Problem]:
    """Everything that is wrong with a trimmed credential."""
    yield from _of_account(credential)
    yield from _of_key(credential)
    if not is_e164(credential.phone_number):
        yield "phoneNumber", _E164
    if credential.whatsapp_number and not is_e164(credential.whatsapp_number):
        yield "whatsappNumber", _E164
    if credential.webhook_shared_key and (flaw := flaw_of_secret(credential.webhook_shared_key)):
        yield "webhookSharedKey", f"The shared key {flaw}"
    if credential.webhook_algorithm not in {"", *ALGORITHMS}:
        yield "webhookAlgorithm", f"Give one of these: {', '.join(ALGORITHMS)}."


def _of_account(credential: TwilioCredential) -> Iterator[Problem]:
    sid, token = credential.account_sid, credential.auth_token
    if _ACCOUNT_SID.fullmatch(token.reveal()):
        is_twice = _ACCOUNT_SID.fullmatch(sid) is not None
        yield (
            "authToken",
            "This is an Account SID. The Auth Token is beside it in the console." if is_twice else _SWAPPED,
        )
        if not is_twice:
            yield "accountSid", _SWAPPED
        return
    if _API_KEY_SID.fullmatch(sid):
        yield "accountSid", "This is the SID of an API key. The Account SID starts with AC."
    elif not _ACCOUNT_SID.fullmatch(sid):
        yield (
            "accountSid",
            f"This looks like an Auth Token. {_NO_ACCOUNT}" if _LIKE_A_TOKEN.fullmatch(sid) else _NO_ACCOUNT,
        )
    if _API_KEY_SID.fullmatch(token.reveal()):
        yield "authToken", "This is the SID of an API key: it belongs into the field for that, with its secret."
    elif token and (flaw := flaw_of_secret(token)):
        yield "authToken", f"The Auth Token {flaw}"
    if not (token or credential.api_key_sid or credential.api_key_secret):
        yield "authToken", "Give the Auth Token, or the SID and the secret of an API key."


def _of_key(credential: TwilioCredential) -> Iterator[Problem]:
    sid, secret = credential.api_key_sid, credential.api_key_secret
    if _API_KEY_SID.fullmatch(secret.reveal()):
        yield "apiKeySid", _KEY_SWAPPED
        yield "apiKeySecret", _KEY_SWAPPED
        return
    if secret and not sid:
        yield "apiKeySid", "Give the SID of the API key too; it starts with SK."
    elif sid and not _API_KEY_SID.fullmatch(sid):
        yield "apiKeySid", "The SID of an API key starts with SK; 32 digits and letters from a to f follow."
    if sid and not secret:
        yield "apiKeySecret", "Give the secret of the API key too."
    elif secret and (flaw := flaw_of_secret(secret)):
        yield "apiKeySecret", f"The secret of the API key {flaw}"
