"""Connecting with a person's consent (OAuth 2.0, RFC 6749 and RFC 9700): the way to the provider's page and back.

The state is random, good for ten minutes and used up by its first return. It is bound to the org, to the browser
session and to the person who began: what comes back to somebody else is refused. The PKCE verifier never leaves this
process: each provider derives it from the state and from a secret of its own.
"""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from services.provider.connect import Connect
from services.provider.integration import Report
from services.provider.provider import Consent, Provider, Refused
from tenantvault.credentials import GoogleCalendarCredential
from tenantvault.credentials import Provider as Name
from tenantvault.errors import InvalidRequest

STATE_SECONDS: Final = 600.0
"""How long a person has for the provider's page."""

_STATE_BYTES: Final = 32
_LONGEST_CODE: Final = 2048


class States(Protocol):
    """Where states are kept: the vault. Hashes are SHA-256."""

    async def keep_state(
        self, org_id: str, provider: Name, *, state_hash: bytes, binding: bytes, seconds: float
    ) -> None:
        """Keep a state."""

    async def use_state(self, org_id: str, provider: Name, *, state_hash: bytes, binding: bytes) -> None:
        """Use a state up; OAuthStateInvalid unless it is the org's, bound to the same and not too old."""


class OAuth:
    """Begins and ends a consent."""

    def __init__(
        self,
        states: States,
        providers: Sequence[Provider[Any]],
        connect: Connect,
        *,
        new_state: Callable[[], str] = lambda: secrets.token_urlsafe(_STATE_BYTES),
    ) -> None:
        self._states = states
        self._providers = {provider.name: provider for provider in providers}
        self._connect = connect
        self._new_state = new_state

    async def start(self, org_id: str, name: Name, *, session: str, on_behalf_of: str) -> str:
        """The URL of the provider's page.

        Raises:
            InvalidRequest: the provider is not connected by consent.
            ProviderMisconfigured: this deployment has no application at the provider.
        """
        consent = self._consent(name)
        state = self._new_state()
        url = consent.authorization_url(state=state)
        await self._states.keep_state(
            org_id, name, state_hash=_hash(state), binding=_hash(session, on_behalf_of), seconds=STATE_SECONDS
        )
        return url

    async def finish(
        self,
        org_id: str,
        name: Name,
        *,
        session: str,
        state: str,
        code: str,
        error: str,
        on_behalf_of: str,
        patience: float,
    ) -> tuple[Report, tuple[str, ...]]:
        """Connect the org with what came back; returns the granted scopes too.

        Raises:
            OAuthStateInvalid: the state is not one of this org, session and person, or is over.
            ProviderRefused: the consent was not given, or not for all that is needed.
            ProviderUnreachable: there was no definite answer.
        """
        consent = self._consent(name)
        await self._states.use_state(org_id, name, state_hash=_hash(state), binding=_hash(session, on_behalf_of))
        if error:
            raise consent.denied(error)
        if not 0 < len(code) <= _LONGEST_CODE or not code.isascii() or not code.isprintable():
            raise InvalidRequest(fields={"code": "Give the code that came back."})
        credential = await consent.redeem(code=code, state=state)
        if isinstance(credential, Refused):
            raise credential.error()
        report = await self._connect(org_id, credential, on_behalf_of=on_behalf_of, patience=patience)
        scopes = credential.scopes if isinstance(credential, GoogleCalendarCredential) else ()
        return report, scopes

    def _consent(self, name: Name) -> Consent[Any]:
        provider = self._providers.get(name)
        if provider is None or provider.consent is None:
            raise InvalidRequest(fields={"provider": "This provider is not connected by consent: give its credential."})
        return provider.consent


def _hash(*parts: str) -> bytes:
    """SHA-256 over the parts, each with its length before it."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.digest()
