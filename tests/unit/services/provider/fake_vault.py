"""The vault's ports in memory, as the contract describes them, with faults that can be ordered."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from services.provider.integration import Integration, State
from services.provider.provider import Refused
from services.provider.work import Done, DueWork, ScheduledWork, Task
from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    Provider,
    ResendCredential,
    Resource,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.errors import (
    CredentialNotFound,
    LeaseHeld,
    OAuthStateInvalid,
    ResourceConflict,
    VaultUnavailable,
    VersionConflict,
    VersionNotFound,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OVERLAP = 86_400.0
Key = tuple[str, Provider]
_OF = {
    VapiCredential: Provider.VAPI,
    TwilioCredential: Provider.TWILIO,
    GoogleCalendarCredential: Provider.GOOGLE_CALENDAR,
    ResendCredential: Provider.RESEND,
    ElevenLabsCredential: Provider.ELEVENLABS,
}


@dataclass
class Row:
    """A piece of work. Times are the vault's `time`."""

    due_at: float
    by_hand: bool = False
    owner: str = ""
    leased_until: float = 0.0
    attempts: int = 0
    progress: str = ""


@dataclass
class FakeVault:
    """`faults` holds, for each method, its next failures: `before` or `after` it took effect; None lets one pass.

    `pulse` is called before and after each call takes effect; what it raises is what becomes of the call.
    """

    time: float = 0.0
    # None where a number was passed over by a disconnect.
    versions: dict[Key, list[Credential | None]] = field(default_factory=dict)
    integrations: dict[Key, Integration] = field(default_factory=dict)
    leases: dict[Key, tuple[str, float]] = field(default_factory=dict)
    tasks: dict[tuple[str, Provider, Task], Row] = field(default_factory=dict)
    states: dict[tuple[str, Provider, bytes], tuple[bytes, float]] = field(default_factory=dict)
    destroyed: set[tuple[str, Provider, int]] = field(default_factory=set)
    # Until when the version before the active one is readable.
    previous: dict[Key, float] = field(default_factory=dict)
    faults: dict[str, deque[str | None]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    pulse: Callable[[str], None] = lambda _: None

    def moment(self) -> datetime:
        """The time of day."""
        return NOW + timedelta(seconds=self.time)

    async def check(self) -> None:
        self.calls.append("check")

    async def integration(self, org_id: str, provider: Provider) -> Integration:
        with self._call("integration"):
            return self._shown(org_id, provider)

    async def credential(self, org_id: str, provider: Provider) -> ActiveCredential[Credential]:
        with self._call("credential"):
            integration = self.integrations.get((org_id, provider))
            if integration is None or integration.state not in {State.CONNECTED, State.REFUSED}:
                raise CredentialNotFound
            return ActiveCredential(
                org_id=org_id,
                provider=provider,
                version=integration.version,
                credential=self.stored(org_id, provider, integration.version),
                resources=integration.resources,
                last_verified_at=integration.last_verified_at,
                generation=1,
            )

    async def newest_credential(self, org_id: str, provider: Provider) -> Credential | None:
        with self._call("newest_credential"):
            versions = self.versions.get((org_id, provider))
            known = self.integrations.get((org_id, provider))
            if not versions or known is None:
                return None
            if versions[-1] is None:
                is_active = known.state in {State.CONNECTED, State.REFUSED}
                return self.stored(org_id, provider, known.version) if is_active else None
            return None if (org_id, provider, len(versions)) in self.destroyed else versions[-1]

    async def previous_until(self, org_id: str, provider: Provider) -> datetime | None:
        with self._call("previous_until"):
            until = self.previous.get((org_id, provider), 0.0)
            return NOW + timedelta(seconds=until) if self.time < until else None

    def stored(self, org_id: str, provider: Provider, version: int) -> Credential:
        """The value of a version."""
        credential = self.versions[org_id, provider][version - 1]
        assert credential is not None
        return credential

    async def put(self, org_id: str, credential: Credential, *, expected_version: int, on_behalf_of: str) -> int:
        provider = _OF[type(credential)]
        with self._call("put"):
            self.origins.append(on_behalf_of)
            versions = self.versions.setdefault((org_id, provider), [])
            if len(versions) != expected_version:
                raise VersionConflict
            known = self.integrations.get((org_id, provider))
            is_active = known is not None and known.state in {State.CONNECTED, State.REFUSED}
            if known and is_active and self.stored(org_id, provider, known.version) == credential:
                return known.version
            if not versions or versions[-1] != credential:
                versions.append(credential)
            before = self.integrations.get((org_id, provider), Integration(provider=provider, state=State.CONNECTING))
            self.integrations[org_id, provider] = replace(before, latest_version=len(versions))
            return len(versions)

    async def register(
        self,
        org_id: str,
        provider: Provider,
        *,
        version: int,
        resources: tuple[Resource, ...],
        warnings: tuple[str, ...],
        account: str,
        schedule: Sequence[ScheduledWork] | None,
        lease_owner: str,
        on_behalf_of: str,
    ) -> Integration:
        with self._call("register"):
            self.origins.append(on_behalf_of)
            self._demand_lease(org_id, provider, lease_owner)
            before = self.integrations[org_id, provider]
            again = before.version == version and before.state in {State.CONNECTED, State.REFUSED}
            if before.latest_version != version and not again:
                raise VersionConflict
            if any(self._is_anothers(org_id, resource) for resource in resources):
                raise ResourceConflict
            if schedule is not None:
                self._schedule(org_id, provider, schedule)
            if not again and before.version:
                self.previous[org_id, provider] = self.time + OVERLAP
            self.integrations[org_id, provider] = replace(
                before,
                state=State.CONNECTED,
                version=version,
                resources=resources,
                warnings=warnings,
                account=account,
                last_verified_at=NOW,
                verification_error="",
                verification_reason="",
                connected_at=before.connected_at if again else self.moment(),
            )
            return self._shown(org_id, provider)

    async def record_verification(
        self,
        org_id: str,
        provider: Provider,
        *,
        version: int,
        refusal: Refused | None,
        warnings: tuple[str, ...],
        account: str,
        on_behalf_of: str,
    ) -> Integration:
        with self._call("record_verification"):
            self.origins.append(on_behalf_of)
            before = self.integrations[org_id, provider]
            if before.version != version:
                raise VersionConflict
            self.integrations[org_id, provider] = replace(
                before,
                state=State.REFUSED if refusal else State.CONNECTED,
                verification_error=refusal.sentence if refusal else "",
                verification_reason=refusal.kind.reason if refusal else "",
                warnings=warnings,
                account=account or before.account,
            )
            return self._shown(org_id, provider)

    async def refresh(
        self, org_id: str, credential: Credential, *, version: int, lease_owner: str, on_behalf_of: str
    ) -> None:
        provider = _OF[type(credential)]
        with self._call("refresh"):
            self.origins.append(on_behalf_of)
            self._demand_lease(org_id, provider, lease_owner)
            if self.integrations[org_id, provider].version != version:
                raise VersionConflict
            self.versions[org_id, provider][version - 1] = credential

    async def roll_back(
        self, org_id: str, provider: Provider, *, version: int, expected_version: int, on_behalf_of: str
    ) -> Integration:
        with self._call("roll_back"):
            self.origins.append(on_behalf_of)
            before = self.integrations[org_id, provider]
            if before.version not in {expected_version, version}:
                raise VersionConflict
            if (org_id, provider, version) in self.destroyed:
                raise VersionNotFound
            self.previous.pop((org_id, provider), None)
            self.integrations[org_id, provider] = replace(before, version=version)
            return self._shown(org_id, provider)

    async def destroy(self, org_id: str, provider: Provider, *, version: int, on_behalf_of: str) -> None:
        with self._call("destroy"):
            self.origins.append(on_behalf_of)
            if self.integrations[org_id, provider].version == version:
                raise VersionConflict
            self.destroyed.add((org_id, provider, version))

    async def disconnect(self, org_id: str, provider: Provider, *, on_behalf_of: str) -> Integration:
        return self._set("disconnect", org_id, provider, State.DISCONNECTED, on_behalf_of)

    async def reconnect(
        self, org_id: str, provider: Provider, *, warnings: tuple[str, ...] = (), on_behalf_of: str
    ) -> Integration:
        before = self.integrations.get((org_id, provider))
        shown = self._set("reconnect", org_id, provider, State.CONNECTED, on_behalf_of)
        if warnings and before and before.state is State.DISCONNECTED:
            shown = self.integrations[org_id, provider] = replace(shown, warnings=warnings)
        return shown

    async def acquire_lease(self, org_id: str, provider: Provider, *, owner: str, seconds: float) -> None:
        with self._call("acquire_lease"):
            holder, until = self.leases.get((org_id, provider), (owner, 0.0))
            if holder != owner and until > self.time:
                raise LeaseHeld(retry_after=until - self.time)
            self.leases[org_id, provider] = (owner, self.time + seconds)

    async def release_lease(self, org_id: str, provider: Provider, *, owner: str) -> None:
        with self._call("release_lease"):
            if self.leases.get((org_id, provider), ("", 0.0))[0] == owner:
                del self.leases[org_id, provider]

    async def keep_state(
        self, org_id: str, provider: Provider, *, state_hash: bytes, binding: bytes, seconds: float
    ) -> None:
        with self._call("keep_state"):
            self.states[org_id, provider, state_hash] = (binding, self.time + seconds)

    async def use_state(self, org_id: str, provider: Provider, *, state_hash: bytes, binding: bytes) -> None:
        with self._call("use_state"):
            bound, until = self.states.pop((org_id, provider, state_hash), (b"", 0.0))
            if bound != binding or until <= self.time:
                raise OAuthStateInvalid

    async def claim(self, *, owner: str, seconds: float, at_most: int) -> Sequence[DueWork]:
        with self._call("claim"):
            due = sorted(
                (row.due_at, org_id, provider, task)
                for (org_id, provider, task), row in self.tasks.items()
                if row.due_at <= self.time
                and not row.by_hand
                and row.leased_until <= self.time
                and self.integrations[org_id, provider].state in {State.CONNECTED, State.REFUSED}
            )
            claimed = []
            for _, org_id, provider, task in due[:at_most]:
                row = self.tasks[org_id, provider, task]
                row.owner, row.leased_until, row.attempts = owner, self.time + seconds, row.attempts + 1
                claimed.append(
                    DueWork(org_id=org_id, provider=provider, task=task, attempts=row.attempts, progress=row.progress)
                )
            return claimed

    async def keep_progress(self, work: DueWork, *, owner: str, progress: str) -> None:
        with self._call("keep_progress"):
            self._held(work, owner).progress = progress

    async def finish(self, work: DueWork, *, owner: str, done: Done) -> None:
        with self._call("finish"):
            row = self._held(work, owner)
            row.due_at, row.by_hand, row.progress = self.time + done.due_in, done.by_hand, done.progress
            row.owner, row.leased_until = "", 0.0
            row.attempts = row.attempts if done.failed else 0

    def _is_anothers(self, org_id: str, resource: Resource) -> bool:
        return any(
            (known.kind, known.resource_id) == (resource.kind, resource.resource_id)
            for (owner, _), integration in self.integrations.items()
            if owner != org_id
            for known in integration.resources
        )

    def _held(self, work: DueWork, owner: str) -> Row:
        row = self.tasks[work.org_id, work.provider, work.task]
        if row.owner != owner or row.leased_until <= self.time:
            raise LeaseHeld
        return row

    def _schedule(self, org_id: str, provider: Provider, schedule: Sequence[ScheduledWork]) -> None:
        before = {key: row for key, row in self.tasks.items() if key[:2] == (org_id, provider)}
        for key in before:
            del self.tasks[key]
        for work in schedule:
            row = before.get((org_id, provider, work.task), Row(0.0))
            row.due_at, row.by_hand = self.time + work.due_in, work.by_hand
            self.tasks[org_id, provider, work.task] = row

    def _demand_lease(self, org_id: str, provider: Provider, owner: str) -> None:
        holder, until = self.leases.get((org_id, provider), ("", 0.0))
        if holder != owner or until <= self.time:
            raise LeaseHeld

    def _shown(self, org_id: str, provider: Provider) -> Integration:
        integration = self.integrations.get((org_id, provider), Integration(provider=provider))
        rotation = self.tasks.get((org_id, provider, Task.ROTATE))
        if rotation is None:
            return integration
        due_at = NOW + timedelta(seconds=rotation.due_at)
        return replace(integration, rotation_due_at=due_at, rotates_by_itself=not rotation.by_hand)

    def _set(self, verb: str, org_id: str, provider: Provider, state: State, on_behalf_of: str) -> Integration:
        with self._call(verb):
            self.origins.append(on_behalf_of)
            before = self.integrations.get((org_id, provider))
            if before is None or (not before.version and state is State.CONNECTED):
                raise CredentialNotFound
            if state is State.DISCONNECTED and before.state is not state:
                # A put that was under way must not come after it.
                self.versions[org_id, provider].append(None)
                latest = len(self.versions[org_id, provider])
                before = replace(before, version=before.version or latest - 1, latest_version=latest)
            if state is State.DISCONNECTED:
                self.previous.pop((org_id, provider), None)
            elif before.state is not state:
                before = replace(before, connected_at=self.moment())
            self.integrations[org_id, provider] = replace(before, state=state)
            return self._shown(org_id, provider)

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        self.calls.append(method)
        ordered = self.faults.get(method)
        fault = ordered.popleft() if ordered else None
        if fault == "before":
            raise VaultUnavailable
        self.pulse("vault")
        yield
        self.pulse("vault")
        if fault == "after":
            raise VaultUnavailable


def connected(vault: FakeVault, org_id: str, provider: Provider, credential: Credential, *resources: Resource) -> None:
    """An integration as it is after a connect."""
    vault.versions[org_id, provider] = [credential]
    vault.integrations[org_id, provider] = Integration(
        provider=provider,
        state=State.CONNECTED,
        version=1,
        latest_version=1,
        hint="••••1234",
        resources=resources,
        last_verified_at=NOW,
        connected_at=vault.moment(),
    )
