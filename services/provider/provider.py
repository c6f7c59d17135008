"""What a provider is to this service: one small port, and the nouns of what it says.

A definite answer is a value, `Accepted` or `Refused`; no answer (a time-out, a 5xx, something that cannot be read) is
always an exception, a `ProviderUnreachable`. Whoever holds a verdict may write it down, and nobody can take "the
provider did not answer" for "the provider said no".
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from tenantvault.credentials import Credential, Resource
from tenantvault.credentials import Provider as Name
from tenantvault.errors import ProviderRefused, ProviderUnavailable


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider's yes. `warnings` are sentences about what the customer should know although it works."""

    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider's definite no.

    `kind` is the error that it stands for, `sentence` tells the customer what to do, and `field` is the one to mend, in
    the spelling of the REST interface, e.g. `apiKey`; empty when no field is at fault.
    """

    kind: type[ProviderRefused]
    sentence: str
    field: str = ""

    def error(self) -> ProviderRefused:
        """The verdict as an error to raise."""
        return self.kind(self.sentence, fields={self.field: self.sentence} if self.field else None)


class MayComeAbout(ProviderUnavailable):
    """A request to make something got no answer, and what it makes was not found: it may still appear."""


Verdict: TypeAlias = Accepted | Refused

Checkpoint: TypeAlias = Callable[[str], Awaitable[None]]
"""Awaited with the name of each step of a connect, once the step is done."""

CredentialT = TypeVar("CredentialT", bound=Credential)


class Provider(Protocol[CredentialT]):
    """A provider whose accounts customers bring along; there is one module for each below `providers`."""

    @property
    def name(self) -> Name:
        """Which provider it is."""

    @property
    def credential(self) -> type[CredentialT]:
        """The kind of credential it takes."""

    def normalise(self, credential: CredentialT) -> CredentialT:
        """The credential without what copy and paste leaves around it, ready to be used.

        Raises:
            InvalidRequest: `fields` names every field that is missing or malformed.
        """

    async def test(self, credential: CredentialT) -> Verdict:
        """Ask the provider whether the credential does what we need it for. Nothing is changed there.

        Raises:
            ProviderUnreachable: there was no definite answer.
        """

    async def complete(
        self, credential: CredentialT, newest: Callable[[], Awaitable[Credential | None]]
    ) -> CredentialT:
        """The credential with what we choose in the customer's stead, e.g. a webhook secret.

        `newest` reads the newest version that is stored, None when there is none: what was chosen before a connect was
        cut off must be chosen again.
        """

    async def provision(
        self, org_id: str, credential: CredentialT, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> tuple[Resource, ...]:
        """Make what the org needs at the provider, or find it when it is there already; returns all of it.

        Repeating it makes nothing twice, as long as one worker at a time does it for an org. `known` is what the vault
        has on record.

        Raises:
            ProviderRefused: the provider will not have it.
            ProviderUnreachable: there was no definite answer; what was made is found again by the next attempt.
        """
