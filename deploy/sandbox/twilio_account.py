"""Which accounts and API keys the stand-in for Twilio knows, and which numbers an account owns.

An account exists for every SID: `AC` and 32 hexadecimal digits in lower case. Its Auth Token is those digits
backwards. When the last ten are decimal, they are the US number that the account owns, and the two numbers after it
are its as well. An API key is `SK` and 32 digits that end in the same ten as its account's; its secret is its digits
backwards. What an SID begins with changes what it does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ROOT: Final = "/2010-04-01/Accounts"
CREATED: Final = "Thu, 01 Jan 2026 00:00:00 +0000"
"""When everything was created, as RFC 2822 writes it."""

_SID: Final = re.compile(r"(?:AC|SK)[0-9a-f]{32}")
_NATIONAL: Final = 10
_CAPABILITIES: Final = ((True, True), (True, False), (False, True))
"""Voice and messaging of the numbers that an account owns, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is unusual about an account."""

    status: str = "active"
    type: str = "Full"
    owned_by: str = ""


_KINDS: Final[Mapping[str, Kind]] = {
    "0ff0": Kind(status="suspended"),
    "dead": Kind(status="closed"),
    "f2ee": Kind(type="Trial"),
    "c11d": Kind(owned_by="AC" + "0" * 32),
}
_KEY_KINDS: Final[Mapping[str, str]] = {"a110": "main", "deaf": "restricted"}

# The fields that an update may name, in the spelling of the answer, as they are on a fresh number.
SETTINGS: Final[Mapping[str, str | None]] = {
    "sms_application_sid": "",
    "sms_fallback_method": "POST",
    "sms_fallback_url": "",
    "sms_method": "POST",
    "sms_url": "",
    "status_callback": "",
    "status_callback_method": "POST",
    "trunk_sid": None,
    "voice_application_sid": "",
    "voice_fallback_method": "POST",
    "voice_fallback_url": "",
    "voice_method": "POST",
    "voice_url": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A phone number that an account owns. `settings` are the fields that the account has changed."""

    account_sid: str
    sid: str
    phone_number: str
    voice: bool
    messaging: bool
    settings: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "beta": False,
            "capabilities": {"fax": False, "mms": self.messaging, "sms": self.messaging, "voice": self.voice},
            "date_created": CREATED,
            "date_updated": CREATED,
            "friendly_name": self.phone_number,
            "origin": "twilio",
            "phone_number": self.phone_number,
            "sid": self.sid,
            "status": "in-use",
            "type": "local",
            "uri": f"{ROOT}/{self.account_sid}/IncomingPhoneNumbers/{self.sid}.json",
            **SETTINGS,
            **self.settings,
        }


def is_sid(text: str) -> bool:
    """Whether it has the form of an account's or an API key's SID."""
    return _SID.fullmatch(text) is not None


def secret_of(sid: str) -> str:
    """The Auth Token of an account, or the secret of an API key."""
    return sid[:1:-1]


def may_ask(user: str, account: str) -> bool:
    """Whether an account or an API key may ask for this account at all."""
    if user.startswith("SK"):
        return is_sid(account) and user[-_NATIONAL:] == account[-_NATIONAL:]
    return user == account


def kind_of(account: str) -> Kind:
    """What is unusual about an account."""
    return _KINDS.get(account[2:6], Kind())


def power_of(user: str) -> str:
    """`main` for an account and for an API key that may do everything; else `standard` or `restricted`."""
    return _KEY_KINDS.get(user[2:6], "standard") if user.startswith("SK") else "main"


def numbers_of(account: str, changed: Mapping[str, Mapping[str, str]]) -> list[Number]:
    """The numbers that an account owns. `changed` holds settings by the number's SID."""
    first = account[-_NATIONAL:]
    if not first.isdecimal():
        return []
    numbers = []
    for offset, (voice, messaging) in enumerate(_CAPABILITIES):
        national = f"{(int(first) + offset) % 10**_NATIONAL:0{_NATIONAL}}"
        sid = f"PN{account[2:-_NATIONAL]}{national}"
        numbers.append(
            Number(
                account_sid=account,
                sid=sid,
                phone_number=f"+1{national}",
                voice=voice,
                messaging=messaging,
                settings=changed.get(sid, {}),
            )
        )
    return numbers
