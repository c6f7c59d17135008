"""What changes in the vault, and the ports that changes need.

A change is decided under the org's lock: the store gives the org as it is, a rule of `services.vault.org` says what it
becomes, the org's key vouches for that, and the store writes it together with its audit event. When a call returns, no
vault serves any more what the change took away.
"""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from services.vault import org as rules
from services.vault.credential import (
    Facts,
    Integration,
    Org,
    OrgKey,
    Origin,
    Pointer,
    Record,
    RecordName,
    Resource,
    Stored,
    Version,
)
from services.vault.credential import Mapping as Row
from services.vault.org import Changed
from services.vault.reader import OpenRecord
from services.vault.work import ScheduledWork
from tenantvault.errors import CredentialUnreadable, InternalError, InvalidRequest, LeaseHeld, VersionConflict

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An org under its lock.

    `pointers` is what is stored of each of its integrations, without records; `key` is its current key; `version` is
    the version that the change is about, where there is one of that number.
    """

    org: Org
    key: OrgKey | None
    pointers: Sequence[Stored]
    version: Version | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be written, all of it or nothing.

    `macs` has the proof of each pointer that the org's key vouches for, by provider; the others lose theirs.
    `mappings` replaces the rows of the directory of each provider that it names. `key` becomes the org's current key.
    `sealed` is a new version, or with `replaces_record` what the version that is there holds from now on. `schedule`
    replaces the provider's tasks unless it is None; one that is under way stays with whoever has it.
    """

    changed: Changed
    macs: Mapping[str, bytes] = field(default_factory=dict)
    mappings: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    key: OrgKey | None = None
    name: RecordName | None = None
    sealed: bytes = b""
    hint: str = ""
    replaces_record: bool = False
    schedule: Sequence[ScheduledWork] | None = None
    destroys_version: bool = False
    destroys_keys: bool = False


Decide = Callable[[Held], Awaitable[Change | None]]


class Envelope(Protocol):
    """What seals and vouches."""

    async def new_key(self, org_id: str) -> OrgKey:
        """A new key for an org."""

    async def seal(self, key: OrgKey, name: RecordName, payload: bytes) -> bytes:
        """Seal a payload."""

    async def unlock(self, record: Record) -> OpenRecord:
        """Make a record ready to open."""

    async def vouch(self, key: OrgKey, org: Org, pointer: Pointer) -> bytes:
        """The proof that a pointer is the org's now."""

    async def vouch_mapping(self, key: OrgKey, provider: str, resource: Resource, registered: int) -> bytes:
        """The proof that a resource is the org's."""

    async def trusts(self, stored: Stored) -> bool:
        """Whether the proofs of what is stored hold."""

    def forget(self, org_id: str) -> None:
        """Drop an org's keys from memory."""


class Store(Protocol):
    """Where changes are written. VaultUnavailable when it cannot be reached. It decides nothing."""

    async def change(
        self,
        org_id: str,
        decide: Decide,
        origin: Origin,
        *,
        provider: str = "",
        version: int = 0,
        create: bool = False,
        lease_owner: str = "",
    ) -> int | None:
        """Hold the org, decide, and write the change with its audit event; returns the org's generation now.

        None when nothing is to be changed. `create` makes an org that is not there yet.

        Raises:
            CredentialNotFound: there is no such org.
            ResourceConflict: a resource cannot be registered.
            LeaseHeld: a lease owner is given who does not hold the lease.
        """

    async def read(self, keys: Sequence[tuple[str, str]], *, newest: bool = False) -> Sequence[Stored | None]:
        """What there is of each org and provider."""

    async def integrations(self, org_id: str) -> Sequence[Integration]:
        """What may be shown of the org's integrations, in the order of the providers' names."""


class Vaults(Protocol):
    """All vaults on the same database, this one too."""

    async def settled(self, org_id: str, generation: int) -> None:
        """Return when no vault serves what was before this generation, or can do so any more."""


class Keeper:
    """Makes the changes.

    Args:
        forget: drops what this process remembers of an org.
        unreadable: what the envelope raises for a record or a key that does not open.
        overlap: how long the version before stays readable after a rotation; zero for not at all.
    """

    def __init__(
        self,
        *,
        store: Store,
        envelope: Envelope,
        vaults: Vaults,
        forget: Callable[[str], None],
        unreadable: type[Exception],
        overlap: timedelta = timedelta(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._envelope = envelope
        self._vaults = vaults
        self._forget = forget
        self._unreadable = unreadable
        self._overlap = overlap
        self._now = now

    async def put(
        self, org_id: str, provider: str, payload: bytes, hint: str, *, expected_version: int, origin: Origin
    ) -> int:
        """Store a payload as the version after `expected_version`; nobody can read it before it is activated.

        The newest version's own payload, put again, is that version, and so is the active one's: it may be an older
        one, after a disconnect or a rollback.

        Raises:
            VersionConflict: `expected_version` is not the newest.
            CredentialUnreadable: the org's key does not unwrap.
        """
        if again := await self._put_before(org_id, provider, payload, expected_version):
            return again

        async def decide(held: Held) -> Change:
            changed = rules.put(held.org, provider, expected_version + 1)
            key = held.key or await self._envelope.new_key(org_id)
            name = RecordName(org_id, provider, expected_version + 1, key.key_id)
            # First, since it tells of a key that does not unwrap.
            change = await self._vouched(held, changed, key)
            sealed = await self._envelope.seal(key, name, payload)
            return replace(change, key=None if held.key else key, name=name, sealed=sealed, hint=hint)

        await self._change(org_id, decide, origin, provider=provider, create=True)
        return expected_version + 1

    async def activate(
        self,
        org_id: str,
        provider: str,
        version: int,
        resources: Sequence[Resource],
        origin: Origin,
        *,
        lease_owner: str = "",
        facts: Facts | None = None,
        schedule: Sequence[ScheduledWork] | None = None,
    ) -> Integration:
        """Make a version active, with what was provisioned for it and the work that there is for it from now on.

        Without a schedule, the work stays as it is. The newest version also mends an integration whose proof is broken.

        Raises:
            VersionConflict: it is neither the newest version nor the active one.
            ResourceConflict: a resource cannot be registered.
            LeaseHeld: a lease owner is given who does not hold the lease.
            CredentialUnreadable: the org's key does not unwrap, or the proof is broken and cannot be mended.
        """

        async def decide(held: Held) -> Change:
            changed = rules.activate(
                held.org,
                provider,
                held.version,
                resources,
                now=self._now(),
                overlap=self._overlap,
                facts=facts or Facts(),
            )
            if held.key is None:
                raise VersionConflict
            # An older one says nothing of the newest, which somebody else may have written.
            newest = changed.org.pointers[provider].latest_version == version
            change = await self._vouched(held, changed, held.key, heals=newest)
            return replace(_demand_vouched(change, provider), schedule=schedule)

        await self._change(org_id, decide, origin, provider=provider, version=version, lease_owner=lease_owner)
        return await self._integration(org_id, provider)

    async def refresh(
        self,
        org_id: str,
        provider: str,
        payload: bytes,
        version: int,
        *,
        may_replace: Callable[[bytes, bytes], bool],
        lease_owner: str,
        origin: Origin,
    ) -> None:
        """Replace what the active version holds, e.g. for an access token that ended; its number stays.

        `may_replace` is asked whether the payload (the second) may take the place of the stored one (the first).

        Raises:
            InvalidRequest: it may not.
            VersionConflict: the version is not the active one.
            CredentialNotFound: there is none.
            LeaseHeld: the lease owner does not hold the lease.
            CredentialUnreadable: what is stored does not open, or its proof is broken.
        """
        if not lease_owner:
            raise LeaseHeld
        # Before the org is held: only a holder of the lease changes a version's payload, and that is asked for under
        # the lock.
        [stored] = await self._store.read([(org_id, provider)])
        record = stored.record if stored else None
        compared = record is not None and record.name.version == version
        if record is not None and compared and not may_replace(await self._opened(record), payload):
            raise InvalidRequest(
                "Only the tokens and the access token's end may differ from what is stored: connect anew."
            )

        async def decide(held: Held) -> Change:
            changed = rules.refresh(held.org, provider, version)
            if held.key is None or not compared:
                raise VersionConflict
            change = _demand_vouched(await self._vouched(held, changed, held.key), provider)
            name = RecordName(org_id, provider, version, held.key.key_id)
            sealed = await self._envelope.seal(held.key, name, payload)
            return replace(change, name=name, sealed=sealed, replaces_record=True)

        await self._change(org_id, decide, origin, provider=provider, version=version, lease_owner=lease_owner)

    async def record_verification(
        self, org_id: str, provider: str, version: int, facts: Facts, origin: Origin
    ) -> Integration:
        """Keep the provider's definite answer about the active version; one without an error is a yes.

        Raises:
            VersionConflict: the version is not the active one.
            CredentialNotFound: there is none.
        """
        return await self._apply(
            org_id, provider, lambda held: rules.verify(held.org, provider, version, facts), origin
        )

    async def disconnect(self, org_id: str, provider: str, origin: Origin) -> Integration:
        """Make the credential unreadable and keep its ciphertext; CredentialNotFound when none was ever put."""
        return await self._apply(org_id, provider, lambda held: rules.disconnect(held.org, provider), origin)

    async def reconnect(
        self, org_id: str, provider: str, origin: Origin, *, warnings: Sequence[str] = ()
    ) -> Integration:
        """Make a disconnected credential readable again, with what is to be known until the provider has answered.

        CredentialNotFound when there is none, or a setup only that has not ended.
        """
        return await self._apply(org_id, provider, lambda held: rules.reconnect(held.org, provider, warnings), origin)

    async def roll_back(
        self, org_id: str, provider: str, version: int, *, expected_version: int, origin: Origin
    ) -> Integration:
        """Make an older version active again.

        Raises:
            VersionConflict: `expected_version` is not the active one.
            VersionNotFound: the version was never active, or is destroyed.
        """
        return await self._apply(
            org_id,
            provider,
            lambda held: rules.roll_back(held.org, provider, held.version, expected_version),
            origin,
            version=version,
        )

    async def destroy(self, org_id: str, provider: str, version: int, origin: Origin) -> None:
        """Destroy a version's ciphertext for ever.

        Raises:
            VersionConflict: it is the active one, or that of a setup that has not ended.
            VersionNotFound: there is none of that number.
        """
        await self._apply(
            org_id, provider, lambda held: rules.destroy(held.org, provider, held.version), origin, version=version
        )

    async def freeze(self, org_id: str, origin: Origin) -> int:
        """Refuse every read of an org; returns its generation. An org that is not known yet is frozen beforehand."""
        return await self._apply_to_org(org_id, lambda held: rules.freeze(held.org), origin)

    async def unfreeze(self, org_id: str, origin: Origin) -> int:
        """End a freeze; returns the org's generation."""
        return await self._apply_to_org(org_id, lambda held: rules.unfreeze(held.org), origin)

    async def shred(self, org_id: str, origin: Origin) -> int:
        """Destroy an org's keys for ever; returns its generation."""

        async def decide(held: Held) -> Change | None:
            changed = rules.shred(held.org)
            mappings: dict[str, Sequence[Row]] = dict.fromkeys(held.org.pointers, ())
            return Change(changed=changed, mappings=mappings, destroys_keys=True) if changed else None

        return await self._change(org_id, decide, origin, forgets_keys=True, create=True)

    async def rotate_key(self, org_id: str, origin: Origin) -> str:
        """Give an org a new key, which vouches for everything from now on; returns its id.

        The records are sealed anew in the background: `services.vault.rotation`.
        """
        key = await self._envelope.new_key(org_id)

        async def decide(held: Held) -> Change:
            changed = rules.rotate_key(held.org)
            change = await self._vouched(held, changed, key)
            mappings = {
                stored.pointer.provider: [
                    await self._row(key, changed.org, stored.pointer, mapping.resource) for mapping in stored.mappings
                ]
                for stored in held.pointers
                if stored.pointer.provider in change.macs
            }
            return replace(change, key=key, mappings=mappings)

        await self._change(org_id, decide, origin)
        return key.key_id

    async def _apply(
        self,
        org_id: str,
        provider: str,
        rule: Callable[[Held], Changed | None],
        origin: Origin,
        *,
        version: int = 0,
    ) -> Integration:
        async def decide(held: Held) -> Change | None:
            changed = rule(held)
            if changed is None:
                return None
            change = _demand_vouched(await self._vouched(held, changed, held.key), provider)
            return replace(change, destroys_version=changed.action == "credential.destroy")

        await self._change(org_id, decide, origin, provider=provider, version=version)
        return await self._integration(org_id, provider)

    async def _apply_to_org(self, org_id: str, rule: Callable[[Held], Changed | None], origin: Origin) -> int:
        async def decide(held: Held) -> Change | None:
            changed = rule(held)
            return None if changed is None else await self._vouched(held, changed, held.key)

        return await self._change(org_id, decide, origin, create=True)

    async def _vouched(self, held: Held, changed: Changed, key: OrgKey | None, *, heals: bool = False) -> Change:
        """The change with the proofs of all the org's pointers: the generation that they cover has moved.

        A pointer whose proof did not hold gets none, so that a change elsewhere never vouches for what somebody else
        wrote. Only a change that replaces the whole pointer (`heals`) makes one good again.
        """
        if key is None:
            return Change(changed=changed)
        try:
            broken = {stored.pointer.provider for stored in held.pointers if not await self._envelope.trusts(stored)}
            pointers = [
                self._without_past(pointer) if heals and pointer.provider in broken else pointer
                for pointer in changed.org.pointers.values()
                if pointer.provider not in broken or (heals and pointer.provider == changed.provider)
            ]
            macs = {pointer.provider: await self._envelope.vouch(key, changed.org, pointer) for pointer in pointers}
            org = replace(changed.org, pointers={**changed.org.pointers, **{p.provider: p for p in pointers}})
            mappings: dict[str, Sequence[Row]] = {}
            if changed.resources is not None:
                pointer = org.pointers[changed.provider]
                mappings[changed.provider] = [
                    await self._row(key, org, pointer, resource) for resource in changed.resources
                ]
        except self._unreadable:
            # One that was made just now unwraps.
            raise self._key_refused(held.key or key) from None
        return Change(changed=replace(changed, org=org), macs=macs, mappings=mappings)

    @staticmethod
    def _without_past(pointer: Pointer) -> Pointer:
        return replace(pointer, previous_version=0, previous_until=None)

    async def _row(self, key: OrgKey, org: Org, pointer: Pointer, resource: Resource) -> Row:
        mac = await self._envelope.vouch_mapping(key, pointer.provider, resource, pointer.registered)
        return Row(org.org_id, pointer.provider, resource, mac)

    async def _change(
        self, org_id: str, decide: Decide, origin: Origin, *, forgets_keys: bool = False, **where: Any
    ) -> int:
        """Make a change, then forget what was read before it, everywhere, before it is acknowledged.

        Returns the org's generation now, changed or not. It goes on when the caller gives up: a change that is left in
        the middle may still come about after the cache was dropped, and a read between the two would be remembered.
        """
        found_at = 0

        async def noting(held: Held) -> Change | None:
            nonlocal found_at
            found_at = held.org.generation
            return await decide(held)

        async def make() -> int:
            try:
                try:
                    generation = await self._store.change(org_id, noting, origin, **where)
                finally:
                    self._forget(org_id)
                if generation is None:
                    # Somebody else made it, perhaps just now: whoever repeats a change relies on it no less.
                    generation = found_at
                await self._vaults.settled(org_id, generation)
                return generation
            finally:
                if forgets_keys:
                    self._envelope.forget(org_id)

        making = asyncio.ensure_future(make())
        # Looked at although nobody may wait for it any more: asyncio complains of an error that nobody saw.
        making.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return await asyncio.shield(making)

    async def _integration(self, org_id: str, provider: str) -> Integration:
        for integration in await self._store.integrations(org_id):
            if integration.provider == provider:
                return integration
        raise InternalError

    async def _opened(self, record: Record) -> bytes:
        try:
            return (await self._envelope.unlock(record)).open()
        except self._unreadable:
            name = record.name
            _log.error(
                "a record does not open",
                extra={"org": name.org_id, "provider": name.provider, "version": name.version},
            )
            raise CredentialUnreadable from None

    async def _put_before(self, org_id: str, provider: str, payload: bytes, newest: int) -> int:
        """The version that has the payload: the newest, if it is that of this number, or the active one; 0 for none."""
        [stored] = await self._store.read([(org_id, provider)], newest=True)
        if stored is None or stored.pointer.latest_version != newest:
            return 0
        if stored.record and await self._holds(stored.record, payload):
            return newest
        if not stored.pointer.is_active or stored.pointer.version == newest:
            return 0
        [stored] = await self._store.read([(org_id, provider)])
        if stored is None or stored.record is None or stored.pointer.latest_version != newest:
            return 0
        # Where the proof is broken, only a new version mends it.
        trusted = await self._trusts(stored)
        return stored.record.name.version if trusted and await self._holds(stored.record, payload) else 0

    async def _trusts(self, stored: Stored) -> bool:
        try:
            return await self._envelope.trusts(stored)
        except self._unreadable:
            return False

    async def _holds(self, record: Record, payload: bytes) -> bool:
        try:
            return hmac.compare_digest((await self._envelope.unlock(record)).open(), payload)
        except self._unreadable:
            return False

    def _key_refused(self, key: OrgKey) -> CredentialUnreadable:
        _log.error(
            "an org's key does not unwrap",
            extra={"org": key.org_id, "key_id": key.key_id, "master_key_id": key.master_key_id},
        )
        return CredentialUnreadable()


def _demand_vouched(change: Change, provider: str) -> Change:
    """The change; CredentialUnreadable when the org's key does not vouch for the integration that it is about."""
    if provider not in change.macs:
        raise CredentialUnreadable
    return change
