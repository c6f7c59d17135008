"""A provider without HTTP: an account with keys, a consent with tokens, and switches for what goes wrong.

`pulse` is called before and after each request takes effect; what it raises is what becomes of the request.
"""

import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from services.provider.description import Description, Field
from services.provider.provider import Accepted, Checkpoint, Provisioned, Refused, Verdict
from tenantvault.credentials import Credential, GoogleCalendarCredential, Provider, ResendCredential, Resource
from tenantvault.errors import (
    ConsentDenied,
    InvalidCredentials,
    ProviderRefused,
    ProviderUnavailable,
    ReauthRequired,
)
from tenantvault.secret import Secret

_DESCRIPTION: Final = Description(
    title="Fake",
    summary="For tests.",
    next="Nothing.",
    console_url="https://fake.test",
    fields=(Field(name="api_key", label="API key", hint="Any.", required=True, secret=True),),
)


def key(value: str, key_id: str = "") -> ResendCredential:
    """A credential of the account."""
    return ResendCredential(api_key=Secret(value), api_key_id=key_id)


@dataclass
class Account:
    """What the provider has: the keys that work. `refuses` are keys that it issues and does not take."""

    keys: set[str] = field(default_factory=lambda: {"key-0"})
    made: list[str] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    issue_refused: type[ProviderRefused] | None = None
    down: bool = False
    requests: int = 0
    pulse: Callable[[str], None] = lambda _: None

    @contextmanager
    def request(self) -> Iterator[None]:
        """One request."""
        self.requests += 1
        if self.down:
            raise ProviderUnavailable
        self.pulse("provider")
        yield
        self.pulse("provider")

    def takes(self, credential: ResendCredential) -> bool:
        value = credential.api_key.reveal()
        return value in self.keys and value not in self.refuses


@dataclass
class Keyed:
    """A provider whose credential is a key that it replaces itself; keys that it issues have an id."""

    account: Account = field(default_factory=Account)
    drift: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    name: Provider = Provider.RESEND
    credential: type[ResendCredential] = ResendCredential
    description: Description = _DESCRIPTION
    consent: None = None
    rotates: bool = True
    may_rotate: bool = True
    released: list[str] = field(default_factory=list)

    @property
    def rotation(self) -> "Keyed | None":
        return self if self.rotates else None

    def normalise(self, credential: ResendCredential) -> ResendCredential:
        return credential

    async def test(self, credential: ResendCredential) -> Verdict:
        with self.account.request():
            if not self.account.takes(credential):
                return Refused(InvalidCredentials, "No such key.", "apiKey")
            return Accepted(("Mind the gap.",), "the account", may_rotate=self.may_rotate)

    async def complete(
        self, org_id: str, credential: ResendCredential, newest: Callable[[], Awaitable[Credential | None]]
    ) -> ResendCredential:
        return credential

    async def provision(
        self, org_id: str, credential: ResendCredential, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> Provisioned:
        return Provisioned((), ("Provisioned with care.",))

    async def inspect(
        self, org_id: str, credential: ResendCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        return self.drift

    async def release(
        self, org_id: str, credential: ResendCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        self.released.append(credential.api_key.reveal())
        return self.left

    def possible(self, credential: ResendCredential) -> bool:
        return bool(credential.api_key)

    async def issue(self, org_id: str, current: ResendCredential) -> ResendCredential | Refused:
        with self.account.request():
            if self.account.issue_refused:
                return Refused(self.account.issue_refused, "It may not issue keys.")
            assert self.account.takes(current), "the current key works"
            for stray in set(self.account.made) - {current.api_key.reveal()}:
                self.account.keys.discard(stray)
            value = f"key-{len(self.account.made) + 1}"
            self.account.made.append(value)
            self.account.keys.add(value)
        return key(value, f"id-{value}")

    async def discard(self, current: ResendCredential, issued: ResendCredential) -> None:
        with self.account.request():
            self.account.keys.discard(issued.api_key.reveal())

    def trace(self, current: ResendCredential) -> str:
        return current.api_key.reveal() if current.api_key_id else f"typed:{current.api_key.reveal()}"

    async def retire(self, active: ResendCredential, trace: str) -> tuple[str, ...]:
        with self.account.request():
            assert self.account.takes(active), "the successor works"
            if trace.startswith("typed:"):
                return ("Delete the replaced key yourself.",)
            self.account.keys.discard(trace)
        return ()


@dataclass
class Consented:
    """A provider that is connected by consent; its tokens last an hour by `now`."""

    now: Callable[[], datetime]
    account: Account = field(default_factory=Account)
    dead: bool = False
    scopes: tuple[str, ...] = ("calendar",)
    name: Provider = Provider.GOOGLE_CALENDAR
    credential: type[GoogleCalendarCredential] = GoogleCalendarCredential
    description: Description = _DESCRIPTION
    rotation: None = None
    codes: dict[str, str] = field(default_factory=dict)
    _tokens: Iterator[int] = field(default_factory=itertools.count)

    @property
    def consent(self) -> "Consented":
        return self

    def normalise(self, credential: GoogleCalendarCredential) -> GoogleCalendarCredential:
        return credential

    async def test(self, credential: GoogleCalendarCredential) -> Verdict:
        with self.account.request():
            if self.dead:
                return Refused(ReauthRequired, "The consent is over.")
            return Accepted((), credential.email)

    async def complete(
        self, org_id: str, credential: GoogleCalendarCredential, newest: Callable[[], Awaitable[Credential | None]]
    ) -> GoogleCalendarCredential:
        return credential

    async def provision(
        self, org_id: str, credential: GoogleCalendarCredential, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> Provisioned:
        return Provisioned(())

    async def inspect(
        self, org_id: str, credential: GoogleCalendarCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        return ()

    async def release(
        self, org_id: str, credential: GoogleCalendarCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        self.dead = True
        return ()

    def authorization_url(self, *, state: str) -> str:
        return f"https://consent.test/?state={state}"

    async def redeem(self, *, code: str, state: str) -> GoogleCalendarCredential | Refused:
        with self.account.request():
            if self.codes.pop(code, None) != state:
                return Refused(ReauthRequired, "No such code.")
            return self._token("ada@example.com")

    def denied(self, error: str) -> ProviderRefused:
        return ConsentDenied()

    def expires_at(self, credential: GoogleCalendarCredential) -> datetime:
        return credential.expires_at

    async def refresh(self, credential: GoogleCalendarCredential) -> GoogleCalendarCredential | Refused:
        with self.account.request():
            if self.dead:
                return Refused(ReauthRequired, "The consent is over.")
            return replace(self._token(credential.email), refresh_token=credential.refresh_token)

    def _token(self, email: str) -> GoogleCalendarCredential:
        return GoogleCalendarCredential(
            refresh_token=Secret("refresh-token-1"),
            access_token=Secret(f"access-token-{next(self._tokens)}"),
            expires_at=self.now() + timedelta(hours=1),
            scopes=self.scopes,
            email=email,
        )
