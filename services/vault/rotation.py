"""Keys that rotate while everything is read.

A master key's life: staged (in the vaults' keyrings, behind the first), active (the first of some vault's), retired
(nothing is wrapped under it, and nothing may be). `MasterRotation` wraps every org's key anew under the first key of
this vault. An org's key is rotated by `Keeper.rotate_key`; `OrgRotations` then seals its records anew in the background
and destroys the old key. Both work in steps that may each be repeated: what was killed is taken up where it was.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from services.vault.audit import event_of
from services.vault.credential import OrgKey, Origin, Record, RecordName
from services.vault.reader import OpenRecord
from tenantvault.audit import VAULT_CHAIN, Event
from tenantvault.errors import KeyNotEverywhere, TenantVaultError, VaultUnavailable

BATCH: Final = 200
"""Org keys wrapped anew in one transaction."""

_AT_ONCE: Final = 8
_PAUSE: Final = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MasterKeyRow:
    """A master key as the database knows it: its state is `staged`, `active` or `retired`."""

    master_key_id: str
    state: str
    fingerprint: bytes
    org_keys: int


@dataclass(frozen=True, slots=True)
class RunningVault:
    """A vault that runs: the ids of the master keys that it has, and of the one it wraps with."""

    vault_id: str
    master_keys: frozenset[str]
    wrapping: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rotation is: keys wrapped by this run, keys that are left, and at the end the keys retired now."""

    master_key_id: str
    done: int
    left: int
    retired: Sequence[str] = ()


class MasterKeys(Protocol):
    """What wraps."""

    @property
    def wrapping(self) -> str:
        """The id of the key that wraps."""

    async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
        """Wrap a key under it."""

    async def unwrap(self, key: OrgKey) -> bytes:
        """A key in the open."""


class KeyStore(Protocol):
    """Where wrapped keys are."""

    async def master_keys(self) -> Sequence[MasterKeyRow]:
        """Every master key that was ever seen."""

    async def running_vaults(self) -> Sequence[RunningVault]:
        """The vaults that run."""

    async def keys_under_others(self, master_key_id: str, *, after: str, at_most: int) -> Sequence[OrgKey]:
        """Keys of the next orgs, in the order of their ids, that have one under another master key."""

    async def rewrap(self, old: Sequence[OrgKey], new: Sequence[OrgKey]) -> int:
        """Replace wrapped keys that did not change meanwhile; how many. None under a master key that is retired."""

    async def signing_key(self) -> OrgKey | None:
        """The key that signs the audit."""

    async def rewrap_signing_key(self, old: OrgKey, new: OrgKey) -> None:
        """Replace it, if it did not change meanwhile and the new master key is not retired."""

    async def retire(self, master_key_id: str) -> bool:
        """Retire a master key under which nothing is wrapped; whether it is retired now."""


class Audit(Protocol):
    """Where it is told."""

    async def add(self, events: Sequence[Event]) -> None:
        """Keep events."""


class MasterRotation:
    """Wraps everything anew under the master key that this vault wraps with.

    A key whose own master key does not answer is left as it is, told in the log, and counts as left.

    Args:
        unreadable: what a key that does not unwrap raises; it is left as it is, and told in the log.
    """

    def __init__(
        self, *, master_keys: MasterKeys, store: KeyStore, audit: Audit, unreadable: type[Exception], batch: int = BATCH
    ) -> None:
        self._master_keys = master_keys
        self._store = store
        self._audit = audit
        self._unreadable = unreadable
        self._batch = batch

    async def run(self, origin: Origin) -> AsyncIterator[Progress]:
        """Rotate, and tell how far it is after each batch. Run again, it goes on with what is left.

        Raises:
            KeyNotEverywhere: a vault that runs does not have the key, or this one's is retired; nothing was done.
        """
        target = self._master_keys.wrapping
        if any(row.master_key_id == target and row.state == "retired" for row in await self._store.master_keys()):
            raise KeyNotEverywhere(
                f"master key {target} is retired: put the key that is in use first in this vault's keyring, then rotate"
            )
        vaults = await self._store.running_vaults()
        if lacking := [vault.vault_id for vault in vaults if target not in vault.master_keys]:
            raise KeyNotEverywhere(
                f"vault {lacking[0]} does not have master key {target} yet: give it to all vaults, then rotate"
            )
        await self._tell(origin, "master_key.rotate", "begun")
        left = await self._left(target)
        yield Progress(target, 0, left)
        done, after = 0, ""
        silent: Counter[str] = Counter()
        while keys := await self._store.keys_under_others(target, after=after, at_most=self._batch):
            done += await self._rewrap(keys, silent)
            after = max(key.org_id for key in keys)
            yield Progress(target, done, max(left - done, 0))
        signs = await self._rewrap_signing_key(target, silent)
        retired = await self._retire(target)
        left = await self._left(target)
        await self._tell(origin, "master_key.rotate", "ok" if signs and not left else "incomplete")
        yield Progress(target, done, left, retired)

    async def _left(self, target: str) -> int:
        return sum(row.org_keys for row in await self._store.master_keys() if row.master_key_id != target)

    async def _rewrap(self, keys: Sequence[OrgKey], silent: Counter[str]) -> int:
        gate = asyncio.Semaphore(_AT_ONCE)
        pairs: list[tuple[OrgKey, OrgKey]] = []

        async def one(key: OrgKey) -> None:
            async with gate:
                if rewrapped := await self._rewrapped(key, silent):
                    pairs.append((key, rewrapped))
                # Wrapping with a local key does not wait for anything: reads get their turn here.
                await asyncio.sleep(0)

        try:
            async with asyncio.TaskGroup() as group:
                for key in keys:
                    group.create_task(one(key))
        except ExceptionGroup as errors:
            # The caller knows what to do about a key service that is away, not about a group.
            raise errors.exceptions[0] from None
        return await self._store.rewrap([old for old, _ in pairs], [new for _, new in pairs]) if pairs else 0

    async def _rewrap_signing_key(self, target: str, silent: Counter[str]) -> bool:
        """Wrap the key that signs the audit anew; whether it is under the target now."""
        signing = await self._store.signing_key()
        if signing is None or signing.master_key_id == target:
            return True
        rewrapped = await self._rewrapped(signing, silent)
        if rewrapped is None:
            return False
        await self._store.rewrap_signing_key(signing, rewrapped)
        kept = await self._store.signing_key()
        return kept is not None and kept.master_key_id == target

    async def _rewrapped(self, key: OrgKey, silent: Counter[str]) -> OrgKey | None:
        """A key under the target; None when it stays as it is. `silent`: how often a master key did not answer."""
        told = {"org": key.org_id, "key_id": key.key_id, "master_key_id": key.master_key_id}
        if silent[key.master_key_id] >= _AT_ONCE:
            return None
        try:
            opened = await self._master_keys.unwrap(key)
        except self._unreadable:
            signs = key.org_id == VAULT_CHAIN
            _log.error(
                "the key that signs the audit does not unwrap" if signs else "an org's key does not unwrap", extra=told
            )
            return None
        except VaultUnavailable:
            silent[key.master_key_id] += 1
            _log.warning("a key waits: its master key does not answer", extra=told)
            return None
        silent.pop(key.master_key_id, None)
        return await self._master_keys.wrap(key.org_id, key.key_id, opened)

    async def _retire(self, target: str) -> list[str]:
        """Retire the keys that nothing is wrapped under and that no vault that runs wraps with."""
        wrapping = {vault.wrapping for vault in await self._store.running_vaults()}
        candidates = [
            row.master_key_id
            for row in await self._store.master_keys()
            if row.state == "active" and row.master_key_id not in wrapping | {target}
        ]
        return [key_id for key_id in candidates if await self._store.retire(key_id)]

    async def _tell(self, origin: Origin, action: str, outcome: str) -> None:
        await self._audit.add([event_of(origin, org_id=VAULT_CHAIN, action=action, outcome=outcome)])


class RecordStore(Protocol):
    """Where records are that an old key still seals."""

    async def orgs_with_old_keys(self, *, after: str, at_most: int) -> Sequence[str]:
        """The next orgs whose rotation has not ended."""

    async def records_under_old_keys(self, org_id: str, *, at_most: int) -> tuple[OrgKey | None, Sequence[Record]]:
        """An org's current key, and records that are not sealed under it."""

    async def replace_record(self, old: Record, new: Record) -> bool:
        """Put a record in the place of the old one, if that is still there."""

    async def destroy_old_keys(self, org_id: str) -> int:
        """Destroy an org's keys that seal nothing any more; how many old ones are left."""


class Envelope(Protocol):
    """What seals and opens."""

    async def seal(self, key: OrgKey, name: RecordName, payload: bytes) -> bytes:
        """Seal a payload."""

    async def unlock(self, record: Record) -> OpenRecord:
        """Make a record ready to open."""


class _NoAnswer(Exception):
    """A master key that an org's keys are wrapped under does not answer."""


@dataclass(slots=True)
class OrgRotations:
    """Ends the rotations of orgs' keys, those that other vaults began and left too.

    A record that does not open is left where it is, told in the log, and keeps its old key alive. An org whose master
    key does not answer is told in the log, and has its turn again in the next run.
    """

    store: RecordStore
    envelope: Envelope
    unreadable: type[Exception]
    pause: float = _PAUSE
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _stuck: set[tuple[str, str, int]] = field(default_factory=set)

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    async def keep_going(self) -> None:
        """End rotations for ever; a database that is away is waited for."""
        while True:
            self._wake.clear()
            try:
                await self.run()
            except TenantVaultError as error:
                _log.warning("rotations of org keys wait", extra={"reason": error.reason})
            except Exception as error:  # noqa: BLE001 - e.g. the schema is not there yet; it must go on by itself
                _log.error("rotations of org keys do not end", exc_info=error)
            try:
                async with asyncio.timeout(self.pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def run(self) -> int:
        """End what there is to end now; returns how many orgs' old keys were destroyed."""
        ended, after = 0, ""
        waiting: list[str] = []
        while orgs := await self.store.orgs_with_old_keys(after=after, at_most=BATCH):
            for org_id in orgs:
                try:
                    ended += await self._end(org_id)
                except _NoAnswer:
                    waiting.append(org_id)
            after = orgs[-1]
        if waiting:
            _log.warning(
                "rotations of org keys wait",
                extra={"reason": VaultUnavailable.reason, "org": waiting[0], "orgs": len(waiting)},
            )
        return ended

    async def _end(self, org_id: str) -> bool:
        while True:
            key, records = await self.store.records_under_old_keys(org_id, at_most=BATCH)
            fresh = [record for record in records if self._place(record) not in self._stuck]
            if key is None or not fresh:
                break
            for record in fresh:
                await self._seal_anew(key, record)
        return await self.store.destroy_old_keys(org_id) == 0

    async def _seal_anew(self, key: OrgKey, record: Record) -> None:
        name = RecordName(record.name.org_id, record.name.provider, record.name.version, key.key_id)
        try:
            payload = (await self.envelope.unlock(record)).open()
            sealed = await self.envelope.seal(key, name, payload)
        except VaultUnavailable:
            raise _NoAnswer from None
        except self.unreadable:
            # Also when it is the new key that does not unwrap: the other orgs must not wait for this one.
            self._stuck.add(self._place(record))
            _log.error(
                "a record does not open",
                extra={"org": name.org_id, "provider": name.provider, "version": name.version},
            )
            return
        await self.store.replace_record(record, Record(name, sealed, key))

    @staticmethod
    def _place(record: Record) -> tuple[str, str, int]:
        return record.name.org_id, record.name.provider, record.name.version
