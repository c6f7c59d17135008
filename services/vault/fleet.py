"""The vaults on one database, this one among them: each learns of the others' changes, and a change waits for all.

A change is told by NOTIFY when it commits. Each vault drops what it remembers of the org and says so (by NOTIFY too);
the vault that made the change returns when all have. A vault that is silent cannot hold a change up for
ever, nor serve what is gone: it serves from memory only while it holds a lease of `lease_seconds`, which it renews by
asking the database again and again for the generations of what it remembers. A change waits at most that long for it.

So NOTIFY is a hint that makes it quick, and the generations are the truth: when the connection that listens is lost,
this vault at once reads everything anew; when it is back, what moved on meanwhile is dropped.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import asyncpg
from cachetools import TTLCache

from services.rpc.process import in_background
from services.vault.database import AWAY, Pool, connection
from services.vault.postgres import CHANGES
from tenantvault.errors import VaultUnavailable

LEASE_SECONDS: Final = 2.0

ACKNOWLEDGED: Final = "tenantvault:acknowledged"
"""The channel on which vaults say that they dropped what a change took away."""

_BEATS: Final = 4  # in a lease
_FIRST_RETRY: Final = 0.05
_LAST_RETRY: Final = 1.0
_ACKS_AT_ONCE: Final = 50  # a payload of NOTIFY is at most 8000 bytes
_ORG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_GENERATIONS: Final = range(2**63)
_log = logging.getLogger(__name__)

_Listener: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(slots=True)
class Sync:
    """Whether this process has heard of every change, by the monotonic clock.

    `synced_at` is the last moment at which it knew of all. Until `fresh_until` no change takes effect without it.
    `away` says that the database was away when it was last asked.
    """

    synced_at: float = float("-inf")
    fresh_until: float = float("-inf")
    away: bool = False

    def renew(self, began: float, lease: float) -> None:
        """All was known at a moment; the lease is in seconds from then."""
        self.synced_at, self.fresh_until, self.away = began, began + lease, False

    def lose(self) -> None:
        """From now on changes may be missed."""
        self.fresh_until = min(self.fresh_until, self.synced_at)


class Cache(Protocol):
    """A cache that a change elsewhere must reach."""

    def forget(self, org_id: str) -> None:
        """Drop an org's values."""

    def generations(self) -> Mapping[str, int]:
        """The orgs of which something is remembered, with the oldest generation of it."""

    def distrust_reads(self) -> None:
        """Keep nothing of what is being read now."""


class Keys(Protocol):
    """The keys that are in memory."""

    def forget(self, org_id: str) -> None:
        """Drop an org's keys."""

    def forget_all(self) -> None:
        """Drop every org's."""


class Watched(Protocol):
    """Those who watch for changes."""

    def tell(self, org_id: str, generation: int) -> None:
        """An org changed."""

    def resync(self) -> None:
        """Changes were missed."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What this process remembers, and whom it tells when that is no longer so."""

    caches: Sequence[Cache]
    keys: Keys
    watchers: Watched

    def forget(self, org_id: str) -> None:
        """Drop what is remembered of an org."""
        for cache in self.caches:
            cache.forget(org_id)

    def generations(self) -> dict[str, int]:
        """The orgs of which something is remembered, with the oldest generation of it."""
        oldest: dict[str, int] = {}
        for cache in self.caches:
            for org_id, generation in cache.generations().items():
                oldest[org_id] = min(generation, oldest.get(org_id, generation))
        return oldest

    def miss(self) -> None:
        """Changes were missed: what is being read now may be old, and whoever watches has to ask again."""
        for cache in self.caches:
            cache.distrust_reads()
        # An org may have been shredded of which nothing but its key is remembered.
        self.keys.forget_all()
        self.watchers.resync()


class Fleet:
    """This vault's place among the vaults. `run` must be running; before that nothing is served from memory.

    Args:
        connect: opens a connection of its own, to listen on.
        vault_id: who this vault is, anew in each process.
        master_keys: the ids of the master keys that it has, the one that wraps first.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[_Listener]],
        pool: Pool,
        sync: Sync,
        remembered: Remembered,
        vault_id: str,
        master_keys: Sequence[str],
        lease_seconds: float = LEASE_SECONDS,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._pool = pool
        self._sync = sync
        self._remembered = remembered
        self._vault_id = vault_id
        self._master_keys = list(master_keys)
        self._lease = lease_seconds
        self._timer = timer
        self._to_acknowledge: list[tuple[str, int]] = []
        self._wake = asyncio.Event()
        self._hearing = False
        # The newest generation of an org that a vault has acknowledged.
        self._acknowledged: TTLCache[tuple[str, str], int] = TTLCache(100_000, 60, timer=timer)
        self._heard_acknowledgement = asyncio.Event()
        # The newest generation of an org that a change of this vault's own is known to have made.
        self._own: TTLCache[str, int] = TTLCache(10_000, 60, timer=timer)

    async def run(self) -> None:
        """Listen and renew the lease, for ever; a database that is away is waited for."""
        pause, told = _FIRST_RETRY, ""
        while True:
            self._hearing = False
            try:
                await self._listen()
            except AWAY as error:
                if not self._sync.away:
                    _log.warning("other vaults cannot be heard: reading everything anew", extra={"cause": _name(error)})
                # A vault that stood still was late itself: nothing old is served before the database was asked anew.
                self._sync.away = not self._hearing
            except Exception as error:  # noqa: BLE001 - e.g. the schema is not there yet; it must come back by itself
                if _name(error) != told:
                    _log.error("other vaults cannot be heard: reading everything anew", exc_info=error)
                told = _name(error)
            finally:
                self._sync.lose()
            if self._hearing:
                pause, told = _FIRST_RETRY, ""
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_RETRY)

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Be one of the vaults while the body runs."""
        try:
            async with in_background(self.run()):
                yield
        finally:
            await self.leave()

    async def leave(self) -> None:
        """Say that this vault serves nothing any more, so that no change waits for it; `run` must have ended."""
        self._sync.lose()
        try:
            async with connection(self._pool) as db:
                await db.execute("DELETE FROM vaults WHERE vault_id = $1", self._vault_id)
        except (VaultUnavailable, asyncpg.PostgresError):
            _log.info("the other vaults notice by themselves that this one has left")

    async def settled(self, org_id: str, generation: int) -> None:
        """Return when every other vault has dropped what was before this generation, or may not serve it any more."""
        end = self._timer() + self._lease
        self._own[org_id] = max(generation, self._own.get(org_id, 0))
        try:
            async with connection(self._pool) as db:
                rows = await db.fetch(
                    "SELECT vault_id FROM vaults"
                    " WHERE vault_id <> $1 AND seen_at > clock_timestamp() - make_interval(secs => $2)",
                    self._vault_id,
                    self._lease,
                )
            others = {row["vault_id"] for row in rows}
        except VaultUnavailable:
            # Whoever there is, it has to be waited for.
            others = {""}
        reminded = False
        while lacking := [vault for vault in others if self._acknowledged.get((vault, org_id), 0) < generation]:
            left = end - self._timer()
            if left <= 0:
                _log.warning("a change was not acknowledged in time", extra={"org": org_id, "vaults": len(lacking)})
                return
            self._heard_acknowledgement.clear()
            try:
                async with asyncio.timeout(left if reminded else min(left, self._lease / _BEATS / 2)):
                    await self._heard_acknowledgement.wait()
            except TimeoutError:
                if not reminded:
                    reminded = True
                    await self._remind(org_id, generation)

    async def _remind(self, org_id: str, generation: int) -> None:
        """Tell of a change once more, for a vault that did not hear it, or said so long ago."""
        told = json.dumps({"org": org_id, "generation": generation, "vault": self._vault_id})
        try:
            async with connection(self._pool) as db:
                await db.execute("SELECT pg_notify($1, $2)", CHANGES, told)
        except VaultUnavailable:
            _log.info("the database is away: the lease of whoever did not hear ends by itself")

    async def _listen(self) -> None:
        db = await self._connect()
        lost = asyncio.Event()

        def end(_: Any) -> None:
            # At once, before anything else is served: what is said from now on is not heard.
            self._sync.lose()
            lost.set()
            self._wake.set()

        try:
            db.add_termination_listener(end)
            await db.add_listener(CHANGES, self._hear_change)
            await db.add_listener(ACKNOWLEDGED, self._hear_acknowledgement)
            await self._beat(db)
            # What is being read was perhaps read before a change that was not heard of.
            self._remembered.miss()
            # Once more: what was read and kept between the two.
            await self._renew(db)
            self._hearing = True
            _log.info("hearing the other vaults")
            while not lost.is_set():
                await self._acknowledge(db)
                self._wake.clear()
                try:
                    async with asyncio.timeout(max(self._sync.synced_at + self._lease / _BEATS - self._timer(), 0)):
                        await self._wake.wait()
                except TimeoutError:
                    await self._renew(db)
        finally:
            self._sync.lose()
            db.terminate()

    async def _renew(self, db: _Listener) -> None:
        began = self._timer()
        await self._beat(db)
        self._sync.renew(began, self._lease)

    async def _beat(self, db: _Listener) -> None:
        """Say that this vault lives, and drop what moved on unheard."""
        async with asyncio.timeout(self._lease / 2):
            await db.execute(
                "INSERT INTO vaults (vault_id, seen_at, master_keys, wrapping) VALUES ($1, clock_timestamp(), $2, $3)"
                " ON CONFLICT (vault_id) DO UPDATE SET seen_at = clock_timestamp()",
                self._vault_id,
                self._master_keys,
                self._master_keys[0],
            )
            remembered = self._remembered.generations()
            rows = await db.fetch("SELECT org_id, generation FROM generations_of($1)", list(remembered))
        for row in rows:
            if row["generation"] > remembered[row["org_id"]]:
                self._remembered.forget(row["org_id"])
                # It may have been shredded.
                self._remembered.keys.forget(row["org_id"])
                self._remembered.watchers.tell(row["org_id"], row["generation"])

    async def _acknowledge(self, db: _Listener) -> None:
        while self._to_acknowledge:
            said, self._to_acknowledge = self._to_acknowledge[:_ACKS_AT_ONCE], self._to_acknowledge[_ACKS_AT_ONCE:]
            async with asyncio.timeout(self._lease / 2):
                await db.execute(
                    "SELECT pg_notify($1, $2)", ACKNOWLEDGED, json.dumps({"vault": self._vault_id, "orgs": said})
                )

    def _hear_change(self, _: Any, __: int, ___: str, payload: Any) -> None:
        told = _told(payload)
        if (change := _change(told.get("org"), told.get("generation"))) is None:
            return
        org_id, generation = change
        own = told.get("vault") == self._vault_id
        # What was read since a change of its own returned is not old. A change whose outcome it never learned is like
        # another vault's.
        if not own or generation > self._own.get(org_id, 0):
            self._remembered.forget(org_id)
            if told.get("gone"):
                self._remembered.keys.forget(org_id)
        self._remembered.watchers.tell(org_id, generation)
        if not own:
            self._to_acknowledge.append((org_id, generation))
            self._wake.set()

    def _hear_acknowledgement(self, _: Any, __: int, ___: str, payload: Any) -> None:
        told = _told(payload)
        vault, orgs = told.get("vault"), told.get("orgs")
        if vault == self._vault_id or not isinstance(vault, str) or not isinstance(orgs, list):
            return
        for said in orgs:
            if isinstance(said, list) and len(said) == 2 and (change := _change(*said)):  # noqa: PLR2004 - a pair
                org_id, generation = change
                self._acknowledged[vault, org_id] = max(generation, self._acknowledged.get((vault, org_id), 0))
        self._heard_acknowledgement.set()


class Alone:
    """The fleet of a vault that is alone: nobody has to be waited for."""

    async def settled(self, org_id: str, generation: int) -> None:
        """Return at once."""


def _told(payload: Any) -> dict[str, Any]:
    """What a notification says. Anybody with the database can send one: what is none of ours says nothing."""
    try:
        told = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _change(org_id: Any, generation: Any) -> tuple[str, int] | None:
    """An org and its generation; None when they cannot be that: it would break those who are told of it."""
    if not isinstance(org_id, str) or not isinstance(generation, int):
        return None
    return (org_id, generation) if _ORG.fullmatch(org_id) and generation in _GENERATIONS else None


def _name(error: BaseException) -> str:
    return type(error).__name__
