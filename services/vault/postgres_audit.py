"""The audit on PostgreSQL: links are put behind each org's chain under the lock of its head."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import asyncpg

from services.vault.audit import SEARCHED, Chain, End, Page
from services.vault.credential import LOOKED_THROUGH, Read, ReadCount, Reads
from services.vault.database import IDLE_SECONDS, Connection, Pool, connection, enter, in_org
from tenantvault.audit import Event, Head, Link
from tenantvault.errors import VaultUnavailable

BUSY: Final = "Other audits are being exported or verified: try again when they are done."

_COLUMNS: Final = (
    "event_id, org_id, sequence, occurred_at, peer, on_behalf_of, action, provider, version, outcome, request_id,"
    " generation, hash"
)
_PAGE: Final = 1000
# At the same time, for each holds a connection for as long as it is read; and how long the next one waits.
_CHAINS_READ: Final = 2
_TURN_SECONDS: Final = 30.0
# The largest bigint: a plan for a number that may be left out does not find its place by the index.
_BEYOND: Final = 2**63 - 1
# Of one transaction, for as long as which changes of these orgs wait, and calls while it signs.
_CHAINS: Final = 50
_EVENTS: Final = 500
# What a database that is slow is asked to take at the least.
_FEW_EVENTS: Final = 10


class PostgresAudit:
    """The audit's events. `chain` gives what extends the chains."""

    def __init__(self, pool: Pool, *, chain: Callable[[], Awaitable[Chain]]) -> None:
        self._pool = pool
        self._chain = chain
        self._at_once = _EVENTS
        self._turns = asyncio.Semaphore(_CHAINS_READ)

    async def add(self, events: Sequence[Event]) -> None:
        """Put events of any orgs behind their chains, by COPY, some orgs' in one transaction.

        One that is there stays as it is. VaultUnavailable when that cannot be done now: then a part of it may have been
        done, and may be done again. It is done in smaller transactions then, for the database may only be slow.
        """
        by_org: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            by_org[event.org_id].append(event)
        for some in _parts(by_org.values(), self._at_once):
            try:
                await self._add_once(some)
            except VaultUnavailable:
                self._at_once = max(self._at_once // 2, _FEW_EVENTS)
                raise
            self._at_once = min(self._at_once + _FEW_EVENTS, _EVENTS)

    async def _add_once(self, events: Sequence[Event]) -> None:
        try:
            await self._add(events, known=())
        except asyncpg.UniqueViolationError:
            # Seldom: a killed vault's file is replayed, or an answer of the database was lost.
            await self._add(events, known=await self._known(events))

    async def _add(self, events: Sequence[Event], *, known: Collection[str]) -> None:
        chain = await self._chain()
        by_org: dict[str, dict[str, Event]] = defaultdict(dict)
        for event in events:
            if event.event_id not in known:
                by_org[event.org_id][event.event_id] = event
        if not by_org:
            return
        async with connection(self._pool) as db, db.transaction():
            # A process that halts in the middle of a COPY is not idle to PostgreSQL, and would hold the heads.
            await db.execute(f"SET LOCAL statement_timeout = {IDLE_SECONDS * 1000:.0f}")
            heads = await db.fetch("SELECT * FROM lock_audit_heads($1)", list(by_org))
            links: list[Link] = []
            ends: list[Head] = []
            for head in heads:
                more, signed = chain.extend(head["org_id"], _end(head), by_org[head["org_id"]].values())
                links.extend(more)
                ends.append(signed)
            await _copy(db, links)
            await db.execute("SELECT keep_audit_events()")
            await _keep_heads(db, ends)

    async def _known(self, events: Sequence[Event]) -> Collection[str]:
        async with connection(self._pool) as db:
            rows = await db.fetch(
                "SELECT known_audit_events($1, $2) AS event_id",
                [event.org_id for event in events],
                [event.event_id for event in events],
            )
        return {str(row["event_id"]) for row in rows}

    async def events(
        self,
        org_id: str,
        *,
        before: int = 0,
        limit: int = 100,
        provider: str = "",
        action: str = "",
        peer: str = "",
        failed: bool = False,
        at_most: int = SEARCHED,
    ) -> Page:
        """Events of an org, newest first: before a number, of a provider, an action, a peer, where one is given.

        `failed` leaves out what ended well. `at_most` events are looked through: what seldom happens is not looked for
        until the statement's time is over.
        """
        async with in_org(self._pool, org_id) as db:
            rows = await db.fetch(
                # Counted and not reckoned from the numbers: a row that somebody made up may leave a gap.
                f"SELECT * FROM (SELECT {_COLUMNS}, row_number() OVER (ORDER BY sequence DESC) AS place,"  # noqa: S608 - a constant
                " ($3 = '' OR provider = $3) AND ($4 = '' OR action = $4) AND ($5 = '' OR peer = $5)"
                " AND (NOT $6 OR outcome <> 'ok') AS is_wanted FROM audit_events"
                " WHERE org_id = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT $8"
                ") AS searched WHERE is_wanted OR place = $8 ORDER BY sequence DESC LIMIT $7",
                org_id,
                before or _BEYOND,
                provider,
                action,
                peer,
                failed,
                limit,
                at_most,
            )
        links = [_link(row) for row in rows if row["is_wanted"]]
        if rows and rows[-1]["sequence"] > 1 and (len(rows) == limit or rows[-1]["place"] == at_most):
            return Page(links, _link(rows[-1]))
        return Page(links)

    async def reads(self, org_id: str, since: datetime, *, at_most: int = LOOKED_THROUGH) -> Reads:
        """How often each service was given the org's credentials since then, among the newest `at_most` events.

        When there are more, the answer's `since` is not before the oldest event that was looked at.
        """
        async with in_org(self._pool, org_id) as db:
            oldest = await db.fetchrow(
                "SELECT sequence, occurred_at FROM audit_events WHERE org_id = $1 AND sequence >"
                " (SELECT max(sequence) FROM audit_events WHERE org_id = $1) - $2 ORDER BY sequence LIMIT 1",
                org_id,
                at_most,
            )
            if oldest is None:
                return Reads([], since)
            if oldest["sequence"] > 1:
                since = max(since, oldest["occurred_at"])
            # Not as far as the first event before `since`: reads come into the chain later than changes.
            rows = await db.fetch(
                "SELECT peer, provider, count(*) AS reads, max(occurred_at) AS last_read_at FROM audit_events"
                " WHERE org_id = $1 AND sequence >= $2 AND occurred_at >= $3 AND action = ANY($4) AND outcome = 'ok'"
                " GROUP BY peer, provider ORDER BY reads DESC, peer, provider",
                org_id,
                oldest["sequence"],
                since,
                list(Read),
            )
        return Reads([ReadCount(**row) for row in rows], since)

    async def chain_of(self, org_id: str) -> AsyncIterator[Link | Head]:
        """An org's chain as it is at one moment: its events, the oldest first, and then its head.

        Raises:
            VaultUnavailable: the database is away, or others are reading chains.
        """
        async with (
            self._turn(),
            connection(self._pool) as db,
            db.transaction(isolation="repeatable_read", readonly=True),
        ):
            await enter(db, org_id)
            # It holds nothing that others wait for, and whoever is sent the chain may be slow.
            await db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            head = await _head(db, org_id)
            query = f"SELECT {_COLUMNS} FROM audit_events WHERE org_id = $1 ORDER BY sequence"  # noqa: S608 - a constant
            async for row in db.cursor(query, org_id, prefetch=_PAGE):
                yield _link(row)
            if head is not None:
                yield head

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise VaultUnavailable(BUSY) from None
        try:
            yield
        finally:
            self._turns.release()

    async def head(self, org_id: str) -> Head | None:
        """The signed head of an org's chain; None when nothing ever happened."""
        async with in_org(self._pool, org_id) as db:
            return await _head(db, org_id)

    async def generation(self, org_id: str) -> tuple[int, int]:
        """An org's generation as its row says, and as its last change in the audit says."""
        async with in_org(self._pool, org_id) as db:
            row = await db.fetchrow(
                "SELECT coalesce((SELECT generation FROM orgs WHERE org_id = $1), 0) AS stored,"
                " coalesce((SELECT max(generation) FROM audit_events WHERE org_id = $1), 0) AS told",
                org_id,
            )
        return (row["stored"], row["told"]) if row else (0, 0)


async def append(db: Connection, chain: Chain, org_id: str, events: Sequence[Event]) -> None:
    """Put events behind an org's chain, in the transaction and the org's context that are open."""
    row = await db.fetchrow("SELECT * FROM lock_audit_heads(ARRAY[$1])", org_id)
    links, head = chain.extend(org_id, _end(row), events)
    await db.executemany(
        f"INSERT INTO audit_events ({_COLUMNS})"  # noqa: S608 - a constant
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        [_row(link) for link in links],
    )
    await _keep_heads(db, [head])


def _parts(of_orgs: Iterable[Sequence[Event]], at_once: int) -> Iterator[Sequence[Event]]:
    """The events of orgs as parts for one transaction each; they are in the order that they were in."""
    part: list[Event] = []
    chains = 0
    for events in of_orgs:
        for begin in range(0, len(events), at_once):
            some = events[begin : begin + at_once]
            if part and (chains == _CHAINS or len(part) + len(some) > at_once):
                yield part
                part, chains = [], 0
            part += some
            chains += 1
    if part:
        yield part


def _end(row: Any) -> End:
    """Where to go on: behind the last event, also when the head was set back and so is not signed for it."""
    return End(max(row["sequence"], row["last"]), row["hash"], row["signature"])


async def _head(db: Connection, org_id: str) -> Head | None:
    row = await db.fetchrow("SELECT sequence, hash, signature, public_key FROM audit_heads WHERE org_id = $1", org_id)
    return Head(org_id, row["sequence"], row["hash"], row["signature"], row["public_key"]) if row else None


async def _copy(db: Connection, links: Sequence[Link]) -> None:
    # COPY cannot go into a table with row-level security.
    await db.execute(
        "CREATE TEMPORARY TABLE IF NOT EXISTS audit_batch (LIKE public.audit_events) ON COMMIT DELETE ROWS"
    )
    await db.copy_records_to_table(
        "audit_batch", schema_name="pg_temp", records=[_row(link) for link in links], columns=_COLUMNS.split(", ")
    )


async def _keep_heads(db: Connection, heads: Sequence[Head]) -> None:
    await db.execute(
        "SELECT keep_audit_heads($1, $2, $3, $4, $5)",
        [head.org_id for head in heads],
        [head.sequence for head in heads],
        [head.hash for head in heads],
        [head.signature for head in heads],
        heads[0].public_key,
    )


def _row(link: Link) -> tuple[Any, ...]:
    event = link.event
    return (
        event.event_id,
        event.org_id,
        link.sequence,
        event.occurred_at,
        event.peer,
        event.on_behalf_of,
        event.action,
        event.provider,
        event.version,
        event.outcome,
        event.request_id,
        event.generation,
        link.hash,
    )


def _link(row: Any) -> Link:
    event = Event(
        event_id=str(row["event_id"]),
        org_id=row["org_id"],
        occurred_at=row["occurred_at"],
        peer=row["peer"],
        on_behalf_of=row["on_behalf_of"],
        action=row["action"],
        provider=row["provider"],
        version=row["version"],
        outcome=row["outcome"],
        request_id=row["request_id"],
        generation=row["generation"],
    )
    return Link(event, row["sequence"], row["hash"])
