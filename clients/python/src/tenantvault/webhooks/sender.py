"""The five that send webhooks, and what is particular to each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol, TypeVar

from tenantvault.credentials import (
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    Provider,
    ResendCredential,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.webhooks import elevenlabs, google, resend, twilio, vapi
from tenantvault.webhooks.event import Event
from tenantvault.webhooks.name import Name
from tenantvault.webhooks.request import Request

CredentialT = TypeVar("CredentialT", bound=Credential)
CredentialT_contra = TypeVar("CredentialT_contra", bound=Credential, contravariant=True)

_JSON: Final = "application/json"
_XML: Final = "text/xml"


class Verify(Protocol[CredentialT_contra]):
    """The verification of one provider's requests."""

    def __call__(self, request: Request, credentials: Sequence[CredentialT_contra], *, now: float) -> Event:
        """The event; WebhookRejected when the request proves itself by none of the credentials."""
        ...


def _no_names(_: Request) -> tuple[Name, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender(Generic[CredentialT]):
    """One provider.

    Args:
        provider: which one it is.
        credential: the class of its credentials.
        check: verifies a request.
        names: what a body says it is about.
        methods: how its requests are made.
        quiet: the types of events that say nothing to a handler.
        media_type: of a ready body that a handler answers with.
        empty: the answer where a handler has none.
    """

    provider: Provider
    credential: type[CredentialT]
    check: Verify[CredentialT]
    names: Callable[[Request], tuple[Name, ...]] = _no_names
    methods: tuple[str, ...] = ("POST",)
    quiet: frozenset[str] = frozenset()
    media_type: str = _JSON
    empty: bytes = b""

    def verify(self, request: Request, credentials: Sequence[Credential], *, now: float) -> Event:
        """The event in a request; WebhookRejected when it proves itself by none of the credentials."""
        own = [credential for credential in credentials if isinstance(credential, self.credential)]
        return self.check(request, own, now=now)


_ALL: Final[tuple[Sender[Any], ...]] = (
    Sender(provider=Provider.VAPI, credential=VapiCredential, check=vapi.verify, names=vapi.names),
    Sender(
        provider=Provider.TWILIO,
        credential=TwilioCredential,
        check=twilio.verify,
        names=twilio.names,
        methods=("GET", "POST"),
        media_type=_XML,
        # Twilio takes an answer that is not XML for an error (https://www.twilio.com/docs/api/errors/12300).
        empty=b"<Response/>",
    ),
    Sender(
        provider=Provider.GOOGLE_CALENDAR,
        credential=GoogleCalendarCredential,
        check=google.verify,
        quiet=frozenset({google.SYNC}),
    ),
    Sender(provider=Provider.RESEND, credential=ResendCredential, check=resend.verify),
    Sender(provider=Provider.ELEVENLABS, credential=ElevenLabsCredential, check=elevenlabs.verify),
)

SENDERS: Final[Mapping[Provider, Sender[Any]]] = MappingProxyType({sender.provider: sender for sender in _ALL})
"""Each provider's own."""
