"""The steps by which a credential is replaced: one saga, over hours, that may be killed at any of them.

    issued      the provider gave a successor, which works beside the current one
    stored      the vault has it as a version that nobody can read yet
    tested      it does what the current one does; if not, it is taken back and destroyed
    noted       the work's row says so: from here on the successor is kept
    switched    the successor is the active version; the one before stays readable, and works, until the overlap ends
    retired     the provider ended the one before

What is active works at every moment: until `switched` nothing happened to the current one, and after it nobody ends the
successor. A successor that was issued and not noted is taken back by the next attempt. Somebody who goes back to the
one before, or connects anew, while this is under way keeps what they chose. The overlap ends early when the vault hands
out the one before no more, e.g. after a disconnect: what the provider still signs with it, nobody could verify. When
the overlap ends, the successor is tested once more: if the provider refuses it then, the one before is made active
again.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self

from services.provider.integration import Integration
from services.provider.provider import Accepted, Checkpoint, Provider, Refused, Rotation
from services.provider.work import Done, ScheduledWork, Timetable
from tenantvault.credentials import ActiveCredential, Credential, Resource
from tenantvault.credentials import Provider as Name
from tenantvault.errors import (
    InsufficientScope,
    InvalidCredentials,
    ProviderRefused,
    ProviderUnreachable,
    WrongCredentialType,
)

STEPS: Final = ("issued", "stored", "tested", "noted", "switched", "retired")
"""The steps, as the checkpoint hears of them."""

_DAY: Final = 86_400.0
_PARTS: Final = 4
_NOTED: Final = "successor"
_SWITCHED: Final = "switched"
_log = logging.getLogger(__name__)

Note = Callable[[str], Awaitable[None]]
"""Writes down how far the work has come."""


class Vault(Protocol):
    """What the steps need of the vault. Each method raises a `TenantVaultError`."""

    async def credential(self, org_id: str, provider: Name) -> ActiveCredential[Credential]:
        """The active version; CredentialNotFound when there is none."""

    async def newest_credential(self, org_id: str, provider: Name) -> Credential | None:
        """The newest version, active or not; None when there is none that can be read."""

    async def integration(self, org_id: str, provider: Name) -> Integration:
        """The integration as it is now."""

    async def put(self, org_id: str, credential: Credential, *, expected_version: int, on_behalf_of: str) -> int:
        """Store a version that nobody can read yet; returns its number."""

    async def register(
        self,
        org_id: str,
        provider: Name,
        *,
        version: int,
        resources: tuple[Resource, ...],
        warnings: tuple[str, ...],
        account: str,
        schedule: Sequence[ScheduledWork] | None,
        lease_owner: str,
        on_behalf_of: str,
    ) -> Integration:
        """Make a version active with these resources; no schedule leaves the work as it is."""

    async def roll_back(
        self, org_id: str, provider: Name, *, version: int, expected_version: int, on_behalf_of: str
    ) -> Integration:
        """Make an older version active again."""

    async def destroy(self, org_id: str, provider: Name, *, version: int, on_behalf_of: str) -> None:
        """Destroy a version that is not active."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the work's row says of a rotation that has a tested successor: both versions, and the provider's trace."""

    replaced: int
    successor: int
    trace: str
    has_switched: bool = False

    @classmethod
    def read(cls, progress: str) -> Self | None:
        """From a row; None for a rotation that has not come so far."""
        parts = progress.split(":", _PARTS - 1)
        if len(parts) != _PARTS or parts[0] not in {_NOTED, _SWITCHED} or not (parts[1] + parts[2]).isdecimal():
            return None
        return cls(int(parts[1]), int(parts[2]), parts[3], has_switched=parts[0] == _SWITCHED)

    def __str__(self) -> str:
        return f"{_SWITCHED if self.has_switched else _NOTED}:{self.replaced}:{self.successor}:{self.trace}"


@dataclass(frozen=True, slots=True)
class Replacement:
    """One piece of a rotation, under the lease of `owner`. `checkpoint` is awaited after each step."""

    vault: Vault
    provider: Provider[Any]
    rotation: Rotation[Any]
    timetable: Timetable
    checkpoint: Checkpoint
    org_id: str
    owner: str
    on_behalf_of: str
    note: Note
    attempts: int

    async def go_on(self, active: ActiveCredential[Credential], stage: Stage | None) -> Done:
        """From where the row says that it is."""
        if stage and active.version == stage.successor:
            return await self.retire(active, stage)
        if stage and (stage.has_switched or active.version != stage.replaced):
            # Somebody went back to the one before, or connected anew: what they chose stays.
            return Done(self.timetable.next_rotation(self.provider.name))
        if stage and (done := await self.switch_noted(active, stage)):
            return done
        if not self.timetable.rotates(self.provider.name):
            return Done(self.timetable.next_rotation(self.provider.name))
        return await self.begin(active)

    async def begin(self, active: ActiveCredential[Credential]) -> Done:
        """From the issue to the switch."""
        integration = await self.vault.integration(self.org_id, self.provider.name)
        issued = await self.rotation.issue(self.org_id, active.credential)
        if isinstance(issued, Refused):
            _log.warning("a credential did not rotate", extra=self._about(reason=issued.kind.reason))
            # What this credential may never do is for the customer to do; anything else may pass.
            if issubclass(issued.kind, InsufficientScope | WrongCredentialType):
                return Done(0.0, by_hand=True)
            return Done(_DAY, failed=True)
        await self.checkpoint("issued")
        version = await self.vault.put(
            self.org_id, issued, expected_version=integration.latest_version, on_behalf_of=self.on_behalf_of
        )
        await self.checkpoint("stored")
        verdict = await self.provider.test(issued)
        if isinstance(verdict, Refused):
            _log.warning("a successor was refused", extra=self._about(reason=verdict.kind.reason))
            await self.rotation.discard(active.credential, issued)
            await self.vault.destroy(self.org_id, self.provider.name, version=version, on_behalf_of=self.on_behalf_of)
            return Done(_DAY, failed=True)
        await self.checkpoint("tested")
        stage = Stage(active.version, version, self.rotation.trace(active.credential))
        await self.note(str(stage))
        await self.checkpoint("noted")
        return await self._switch(active, stage, verdict)

    async def switch_noted(self, active: ActiveCredential[Credential], stage: Stage) -> Done | None:
        """Switch to a successor that was noted; None when it is not there any more, or is refused by now."""
        integration = await self.vault.integration(self.org_id, self.provider.name)
        successor = await self.vault.newest_credential(self.org_id, self.provider.name)
        if successor is None or integration.latest_version != stage.successor:
            return None
        verdict = await self.provider.test(successor)
        return None if isinstance(verdict, Refused) else await self._switch(active, stage, verdict)

    async def _switch(self, active: ActiveCredential[Credential], stage: Stage, verdict: Accepted) -> Done:
        await self.vault.register(
            self.org_id,
            self.provider.name,
            version=stage.successor,
            resources=active.resources,
            warnings=verdict.warnings,
            account=verdict.account,
            schedule=None,
            lease_owner=self.owner,
            on_behalf_of=self.on_behalf_of,
        )
        switched = str(replace(stage, has_switched=True))
        await self.note(switched)
        await self.checkpoint("switched")
        return Done(self.timetable.next_look(self.timetable.overlap_seconds), progress=switched)

    async def retire(self, active: ActiveCredential[Credential], stage: Stage) -> Done:
        """End the one that was replaced, or go back to it: the overlap is over."""
        # The vault hands out the one before for some hours more: another attempt must come well within them.
        again = Done(self.timetable.backoff(self.attempts), failed=True, progress=str(stage))
        verdict = await self.provider.test(active.credential)
        if isinstance(verdict, Refused):
            # Only what the successor itself is refused for speaks for the one before.
            if issubclass(verdict.kind, InvalidCredentials | WrongCredentialType):
                return await self._go_back(active, stage, verdict)
            return again
        try:
            left_to_do = await self.rotation.retire(active.credential, stage.trace)
        except ProviderRefused as error:
            _log.warning("what was replaced could not be ended", extra=self._about(reason=error.reason))
            return again
        await self.checkpoint("retired")
        if left_to_do:
            await self.vault.register(
                self.org_id,
                self.provider.name,
                version=active.version,
                resources=active.resources,
                warnings=verdict.warnings + left_to_do,
                account=verdict.account,
                schedule=None,
                lease_owner=self.owner,
                on_behalf_of=self.on_behalf_of,
            )
        return Done(self.timetable.next_rotation(self.provider.name))

    async def _go_back(self, active: ActiveCredential[Credential], stage: Stage, verdict: Refused) -> Done:
        """The provider refuses what it issued: the one before, which still works, is made active again."""
        _log.error("a successor is refused: going back", extra=self._about(reason=verdict.kind.reason))
        await self.vault.roll_back(
            self.org_id,
            self.provider.name,
            version=stage.replaced,
            expected_version=stage.successor,
            on_behalf_of=self.on_behalf_of,
        )
        before = await self.vault.credential(self.org_id, self.provider.name)
        with suppress(ProviderRefused, ProviderUnreachable):
            await self.rotation.discard(before.credential, active.credential)
        return Done(_DAY, failed=True)

    def _about(self, **more: str) -> dict[str, str]:
        return {"org": self.org_id, "provider": self.provider.name.value, **more}
