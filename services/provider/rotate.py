"""Rotation: when a credential is replaced by a successor, and when the one before ends. `replacement` has the steps."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from services.provider import replacement
from services.provider.integration import Integration
from services.provider.lease import Leases
from services.provider.provider import Checkpoint, Provider, Refused, pass_by
from services.provider.replacement import Note, Replacement, Stage
from services.provider.work import Done, Timetable
from tenantvault.credentials import Provider as Name
from tenantvault.errors import InvalidRequest


class Vault(replacement.Vault, Protocol):
    """What a rotation needs of the vault. Each method raises a `TenantVaultError`."""

    async def previous_until(self, org_id: str, provider: Name) -> datetime | None:
        """Until when the version before the active one is readable; None when it is not."""


class Rotate:
    """Rotates. `checkpoint` is awaited after each step."""

    def __init__(
        self,
        vault: Vault,
        providers: Sequence[Provider[Any]],
        leases: Leases,
        timetable: Timetable,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        checkpoint: Checkpoint = pass_by,
    ) -> None:
        self._vault = vault
        self._providers = {provider.name: provider for provider in providers}
        self._leases = leases
        self._timetable = timetable
        self._now = now
        self._checkpoint = checkpoint

    async def ask_for(self, org_id: str, name: Name, *, on_behalf_of: str, patience: float = 60.0) -> Integration:
        """Have a rotation begin now instead of when it is due.

        Raises:
            InvalidRequest: the provider has no way to replace this credential, this deployment replaces none of it, or
                it is being replaced and the one before still works.
            CredentialNotFound: nothing is connected.
            ProviderRefused: the provider does not take the credential any more.
            ProviderUnreachable: there was no definite answer.
        """
        provider = self._providers[name]
        if not self._timetable.rotates(name):
            raise InvalidRequest(
                "Rotation is switched off for this provider here: make a new key, and connect with it."
            )
        async with self._leases.hold(org_id, name, patience=patience) as owner:
            active = await self._vault.credential(org_id, name)
            title = provider.description.title
            no_way = InvalidRequest(
                f"{title} has no way to replace this credential: make a new one there, and connect with it."
            )
            if provider.rotation is None or not provider.rotation.possible(active.credential):
                raise no_way
            if until := await self._under_way_until(org_id, name):
                raise InvalidRequest(
                    "A rotation is under way, and the credential before it still works. It can be rotated again after"
                    f" {until.day} {until:%B %Y, %H:%M} UTC. If one of them has leaked, end it at {title} and connect"
                    " with a new one."
                )
            verdict = await provider.test(active.credential)
            if isinstance(verdict, Refused):
                raise verdict.error()
            if not verdict.may_rotate:
                raise no_way
            return await self._vault.register(
                org_id,
                name,
                version=active.version,
                resources=active.resources,
                warnings=verdict.warnings,
                account=verdict.account,
                schedule=self._timetable.of(provider, active.credential, verdict, rotate_now=True),
                lease_owner=owner,
                on_behalf_of=on_behalf_of,
            )

    async def __call__(
        self,
        org_id: str,
        name: Name,
        *,
        progress: str,
        note: Note,
        attempts: int,
        on_behalf_of: str = "",
        patience: float = 60.0,
    ) -> Done:
        """Go on with a rotation from where the row says that it is, the `attempts`th time; returns when it goes on.

        Raises:
            ProviderUnreachable: there was no definite answer: try again later.
        """
        provider = self._providers[name]
        stage = Stage.read(progress)
        async with self._leases.hold(org_id, name, patience=patience) as owner:
            if stage and (left := await self._overlap_left(org_id, name, stage)):
                return Done(self._timetable.next_look(left), progress=progress)
            active = await self._vault.credential(org_id, name)
            rotation = provider.rotation
            if rotation is None or not rotation.possible(active.credential):
                return Done(self._timetable.next_rotation(name), by_hand=True)
            run = Replacement(
                self._vault,
                provider,
                rotation,
                self._timetable,
                self._checkpoint,
                org_id,
                owner,
                on_behalf_of,
                note,
                attempts,
            )
            return await run.go_on(active, stage)

    async def _overlap_left(self, org_id: str, name: Name, stage: Stage) -> float:
        """Seconds for which the one that was replaced goes on working; 0 when the successor is not active."""
        integration = await self._vault.integration(org_id, name)
        ends = self._overlap_ends(integration)
        if integration.version != stage.successor or ends is None:
            return 0.0
        left = (ends - self._now()).total_seconds()
        return left if left > 0 and await self._vault.previous_until(org_id, name) else 0.0

    async def _under_way_until(self, org_id: str, name: Name) -> datetime | None:
        """When the overlap ends of a rotation that has switched; None when there is none."""
        integration = await self._vault.integration(org_id, name)
        due_at, until = integration.rotation_due_at, await self._vault.previous_until(org_id, name)
        # After a connect the one before is readable too, but the next rotation is far away.
        if due_at is None or until is None or due_at > until:
            return None
        return max(due_at, self._overlap_ends(integration) or due_at)

    def _overlap_ends(self, integration: Integration) -> datetime | None:
        since = integration.connected_at
        return since and since + timedelta(seconds=self._timetable.overlap_seconds)
