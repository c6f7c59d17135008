"""What an event is about, and the request that asks its provider for it with the org's own credential."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from tenantvault import Credential, ElevenLabsCredential, ResendCredential, Secret, TwilioCredential, VapiCredential
from tenantvault.webhooks import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The base URL of each provider's interface, where it has regions by region. Tests give their own."""

    vapi: Mapping[str, str] = field(
        default_factory=lambda: {"us": "https://api.vapi.ai", "eu": "https://api.eu.vapi.ai"}
    )
    twilio: str = "https://api.twilio.com"
    resend: str = "https://api.resend.com"
    elevenlabs: Mapping[str, str] = field(
        default_factory=lambda: {
            "global": "https://api.elevenlabs.io",
            "us": "https://api.us.elevenlabs.io",
            "eu": "https://api.eu.residency.elevenlabs.io",
            "in": "https://api.in.residency.elevenlabs.io",
            "sg": "https://api.sg.residency.elevenlabs.io",
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A GET, ready to be made. Its headers hold the credential, and are not shown."""

    subject: str
    url: str
    headers: Mapping[str, str] = field(repr=False)


def prepare(event: Event, credential: Credential, hosts: Hosts) -> Lookup | None:
    """The request for what a verified event is about; None when it is about nothing that can be looked up."""
    subject = _subject(event, credential)
    # What a sender calls it must stay one segment of the path; these two would be none, and shorten it.
    if subject in {"", ".", ".."}:
        return None
    name = quote(subject, safe="")
    match credential:
        case VapiCredential():
            return _lookup(subject, f"{hosts.vapi[credential.region]}/call/{name}", _bearer(credential.api_key))
        case TwilioCredential():
            account = f"{hosts.twilio}/2010-04-01/Accounts/{credential.account_sid}"
            return _lookup(subject, f"{account}/Messages/{name}.json", _basic(credential))
        case ResendCredential():
            return _lookup(subject, f"{hosts.resend}/emails/{name}", _bearer(credential.api_key))
        case ElevenLabsCredential():
            url = f"{hosts.elevenlabs[credential.region]}/v1/convai/conversations/{name}"
            return _lookup(subject, url, {"xi-api-key": credential.api_key.reveal()})
        case _:
            return None


_PATHS: Final[Mapping[type[Credential], tuple[str, ...]]] = MappingProxyType(
    {
        VapiCredential: ("message", "call", "id"),
        TwilioCredential: ("MessageSid",),
        ResendCredential: ("data", "email_id"),
        ElevenLabsCredential: ("data", "conversation_id"),
    }
)


def _subject(event: Event, credential: Credential) -> str:
    value: Any = event.payload
    for name in _PATHS.get(type(credential), ()):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _lookup(subject: str, url: str, headers: Mapping[str, str]) -> Lookup:
    return Lookup(subject=subject, url=url, headers=headers)


def _bearer(key: Secret) -> Mapping[str, str]:
    return {"authorization": f"Bearer {key.reveal()}"}


def _basic(credential: TwilioCredential) -> Mapping[str, str]:
    by_key = bool(credential.api_key_sid)
    user = credential.api_key_sid if by_key else credential.account_sid
    password = credential.api_key_secret if by_key else credential.auth_token
    return {"authorization": f"Basic {base64.b64encode(f'{user}:{password.reveal()}'.encode()).decode()}"}
