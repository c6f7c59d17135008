"""What a provider is to this service: one small port, and the nouns of what it says.

A definite answer is a value, `Accepted` or `Refused`; no answer (a time-out, a 5xx, something that cannot be read) is
always an exception, a `ProviderUnreachable`. Whoever holds a verdict may write it down, and nobody can take "the
provider did not answer" for "the provider said no".
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias, TypeVar

from services.provider.description import Description
from tenantvault.credentials import Credential, Resource
from tenantvault.credentials import Provider as Name
from tenantvault.errors import (
    ProviderConflict,
    ProviderRefused,
    ProviderResourceMissing,
    ProviderUnavailable,
    ProviderValidation,
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider's yes. `warnings` are sentences about what the customer should know although it works.

    `account` is what the provider calls the account, e.g. an e-mail address; empty when it does not say. `may_rotate`:
    whether the credential may get itself a successor, as far as the test could tell.
    """

    warnings: tuple[str, ...] = ()
    account: str = ""
    may_rotate: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider's definite no.

    `kind` is the error that it stands for, `sentence` tells the customer what to do, and `field` is the one to mend, in
    the spelling of the REST interface, e.g. `apiKey`; empty when no field is at fault.
    """

    kind: type[ProviderRefused]
    sentence: str
    field: str = ""

    @property
    def is_about_the_credential(self) -> bool:
        """Whether it speaks against the credential, and not against what was asked with it."""
        if issubclass(self.kind, ProviderResourceMissing):
            # A number that is not the account's is; an address that leads nowhere is not.
            return bool(self.field)
        return not issubclass(self.kind, ProviderValidation | ProviderConflict)

    def error(self) -> ProviderRefused:
        """The verdict as an error to raise."""
        return self.kind(self.sentence, fields={self.field: self.sentence} if self.field else None)


Finish: TypeAlias = Callable[[Credential | None], Awaitable[tuple[str, ...]]]
"""The rest of a provisioning; returns what could not be done, a sentence each. Given is the credential of before.

It raises nothing, and repeating it is harmless.
"""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What an org has at the provider, and what the customer should know about it.

    `finish` is what may be done only once the vault has it on record: it changes what others may own, or what works
    with the credential of before.
    """

    resources: tuple[Resource, ...]
    warnings: tuple[str, ...] = ()
    finish: Finish | None = field(default=None, compare=False)


class MayComeAbout(ProviderUnavailable):
    """A request to make something got no answer, and what it makes was not found: it may still appear."""


Verdict: TypeAlias = Accepted | Refused

Checkpoint: TypeAlias = Callable[[str], Awaitable[None]]
"""Awaited with the name of each step of a connect, once the step is done."""

CredentialT = TypeVar("CredentialT", bound=Credential)


async def pass_by(step: str) -> None:
    """The checkpoint that does nothing."""
    del step


class Provider(Protocol[CredentialT]):
    """A provider whose accounts customers bring along; there is one module for each below `providers`."""

    @property
    def name(self) -> Name:
        """Which provider it is."""

    @property
    def credential(self) -> type[CredentialT]:
        """The kind of credential it takes."""

    @property
    def description(self) -> Description:
        """What a form shows of it."""

    @property
    def consent(self) -> "Consent[CredentialT] | None":
        """How it is connected by consent (OAuth 2.0); None for a provider whose credential is typed in."""

    @property
    def rotation(self) -> "Rotation[CredentialT] | None":
        """How its credential is replaced without the customer; None where the provider has no API for that."""

    def normalise(self, credential: CredentialT) -> CredentialT:
        """The credential without what copy and paste leaves around it, ready to be used.

        Raises:
            InvalidRequest: `fields` names every field that is missing or malformed, in the spelling of the REST
                interface.
        """

    async def test(self, credential: CredentialT) -> Verdict:
        """Ask the provider whether the credential does what we need it for. Nothing is changed there.

        Raises:
            ProviderUnreachable: there was no definite answer.
        """

    async def complete(
        self, org_id: str, credential: CredentialT, newest: Callable[[], Awaitable[Credential | None]]
    ) -> CredentialT:
        """The credential with what is chosen or kept in the customer's stead, e.g. a webhook secret.

        `newest` reads the newest version that is stored, None when there is none: what was chosen before a connect was
        cut off must be chosen again.

        Raises:
            ProviderRefused: the provider will not have it.
            ProviderUnreachable: there was no definite answer.
        """

    async def provision(
        self, org_id: str, credential: CredentialT, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> Provisioned:
        """Make what the org needs at the provider, or find it when it is there already; returns all of it.

        Repeating it makes nothing twice, as long as one worker at a time does it for an org. `known` is what the vault
        has on record. What works now goes on working: the vault may yet refuse what is returned.

        Raises:
            ProviderRefused: the provider will not have it.
            ProviderUnreachable: there was no definite answer; what was made is found again by the next attempt.
        """

    async def inspect(self, org_id: str, credential: CredentialT, *, known: tuple[Resource, ...]) -> tuple[str, ...]:
        """What at the provider is not any more as it was provisioned, a sentence each. Nothing is changed there.

        Raises:
            ProviderUnreachable: there was no definite answer.
        """

    async def release(self, org_id: str, credential: CredentialT, *, known: tuple[Resource, ...]) -> tuple[str, ...]:
        """Take back at the provider what was made there; returns what could not be, a sentence each.

        `known` is what the vault has on record: what is not the org's alone is left as it is, unless it is there.
        It raises nothing: a disconnect does not wait for a provider. Repeating it is harmless.
        """


class Consent(Protocol[CredentialT]):
    """How a provider is connected by the consent of a person (OAuth 2.0 with PKCE, RFC 6749 and RFC 7636)."""

    def authorization_url(self, *, state: str) -> str:
        """Where the browser is to be sent."""

    async def redeem(self, *, code: str, state: str) -> CredentialT | Refused:
        """The credential for the code that came back with a state.

        Raises:
            ProviderMisconfigured: the provider refuses this deployment's application.
            ProviderUnreachable: there was no definite answer; the code may be used up.
        """

    def denied(self, error: str) -> ProviderRefused:
        """What the `error` that came back instead of a code means."""

    def expires_at(self, credential: CredentialT) -> datetime:
        """When the access token ends."""

    async def refresh(self, credential: CredentialT) -> CredentialT | Refused:
        """The credential with a new access token; a `Refused` of ReauthRequired when the consent is over.

        Raises:
            ProviderMisconfigured: the provider refuses this deployment's application.
            ProviderUnreachable: there was no definite answer.
        """


class Rotation(Protocol[CredentialT]):
    """How a provider replaces a credential: issue a successor, test it, use it, and then end the one before.

    Each of these may be repeated: a rotation that was cut off anywhere is taken up again.
    """

    def possible(self, credential: CredentialT) -> bool:
        """Whether this credential may do it, as far as one can see."""

    async def issue(self, org_id: str, current: CredentialT) -> CredentialT | Refused:
        """A successor that works beside the current one. It takes away first what an earlier call of it may have left.

        Raises:
            ProviderUnreachable: there was no definite answer; the current one is as it was.
        """

    async def discard(self, current: CredentialT, issued: CredentialT) -> None:
        """Take back a successor that is not used. Raises as `issue` does; one that is gone is no error."""

    def trace(self, current: CredentialT) -> str:
        """What `retire` needs to know of the one that is replaced: no secret, at most 100 characters."""

    async def retire(self, active: CredentialT, trace: str) -> tuple[str, ...]:
        """End the one that was replaced; returns what the customer has to do about it, a sentence each.

        Raises:
            ProviderRefused: the provider will not have it.
            ProviderUnreachable: there was no definite answer.
        """
