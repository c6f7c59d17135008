"""Work that comes due, on PostgreSQL."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from services.vault.audit import Chain, event_of
from services.vault.credential import Origin
from services.vault.database import Connection, Pool, connection, in_org
from services.vault.postgres_audit import append
from services.vault.work import REPORTED, TESTED_LATELY, DueWork, Finish, Piece, ScheduledWork, Task
from tenantvault.errors import LeaseHeld


class PostgresWork:
    """The port of work on a pool of the application role. `chain` gives what extends the audit's chains."""

    def __init__(self, pool: Pool, *, chain: Callable[[], Awaitable[Chain]]) -> None:
        self._pool = pool
        self._chain = chain

    async def claim(self, owner: str, lease: timedelta, *, at_most: int) -> Sequence[DueWork]:
        """Take work that is due, over all orgs, in one round trip."""
        async with connection(self._pool) as db:
            rows = await db.fetch("SELECT * FROM claim_due_work($1, $2, $3)", owner, lease, at_most)
        return [
            DueWork(
                piece=Piece(row["org_id"], row["provider"], Task(row["task"])),
                attempts=row["attempts"],
                progress=row["progress"],
                due_at=row["due_at"],
            )
            for row in rows
        ]

    async def keep_progress(self, piece: Piece, owner: str, progress: str) -> None:
        """Note how far a piece has come."""
        async with in_org(self._pool, piece.org_id) as db:
            kept = await db.fetchval(
                "UPDATE tasks SET progress = $5 WHERE org_id = $1 AND provider = $2 AND task = $3 AND owner = $4"
                " AND leased_until > clock_timestamp() RETURNING true",
                piece.org_id,
                piece.provider,
                piece.task.value,
                owner,
                progress,
            )
        if not kept:
            raise LeaseHeld

    async def finish(self, piece: Piece, owner: str, finish: Finish) -> None:
        """Give a piece back."""
        async with in_org(self._pool, piece.org_id) as db:
            given_back = await db.fetchval(
                "UPDATE tasks SET due_at = clock_timestamp() + $5, owner = '', leased_until = NULL,"
                "       attempts = CASE WHEN $6 THEN attempts ELSE 0 END, progress = $7, by_hand = $8,"
                "       finished_at = clock_timestamp()"
                " WHERE org_id = $1 AND provider = $2 AND task = $3 AND owner = $4"
                "   AND leased_until > clock_timestamp() RETURNING true",
                piece.org_id,
                piece.provider,
                piece.task.value,
                owner,
                finish.due_in,
                finish.failed,
                finish.progress,
                finish.by_hand,
            )
        if not given_back:
            raise LeaseHeld

    async def report_failure(self, org_id: str, provider: str, version: int, origin: Origin) -> bool:
        """Make a test due, with its event, in one transaction."""
        chain = await self._chain()
        async with in_org(self._pool, org_id) as db:
            # Of many at once, each waits for the row and then finds the test due.
            is_due = await db.fetchval(
                "UPDATE tasks t SET due_at = clock_timestamp() FROM org_credentials c, orgs o"
                " WHERE o.org_id = $1 AND o.state = 'active'"
                "   AND c.org_id = $1 AND c.provider = $2 AND c.version = $3 AND c.is_active"
                "   AND t.org_id = $1 AND t.provider = $2 AND t.task = $4 AND NOT t.by_hand"
                "   AND t.due_at > clock_timestamp()"
                "   AND (t.leased_until IS NULL OR t.leased_until <= clock_timestamp())"
                "   AND coalesce(greatest(c.last_verified_at, t.finished_at), '-infinity')"
                "       <= clock_timestamp() - $5::interval"
                " RETURNING true",
                org_id,
                provider,
                version,
                Task.VERIFY.value,
                TESTED_LATELY,
            )
            if is_due:
                event = event_of(origin, org_id=org_id, action=REPORTED, provider=provider, version=version)
                await append(db, chain, org_id, [event])
        return bool(is_due)


async def replace_schedule(db: Connection, org_id: str, provider: str, schedule: Sequence[ScheduledWork]) -> None:
    """Put other tasks in the place of an integration's, in the transaction and the org's context that are open.

    One that somebody has stays theirs. One that has come some way stays that far, and is due no later than it was.
    """
    tasks = [work.task.value for work in schedule]
    await db.execute(
        "DELETE FROM tasks WHERE org_id = $1 AND provider = $2 AND task <> ALL ($3::text[])", org_id, provider, tasks
    )
    await db.execute(
        "INSERT INTO tasks AS t (org_id, provider, task, due_at, by_hand)"
        " SELECT $1, $2, s.task, clock_timestamp() + s.due_in, s.by_hand"
        "   FROM unnest($3::text[], $4::interval[], $5::boolean[]) AS s(task, due_in, by_hand)"
        " ON CONFLICT (org_id, provider, task) DO UPDATE SET by_hand = EXCLUDED.by_hand,"
        "   due_at = CASE WHEN t.progress = '' THEN EXCLUDED.due_at ELSE least(t.due_at, EXCLUDED.due_at) END,"
        "   owner = CASE WHEN t.leased_until > clock_timestamp() THEN t.owner ELSE '' END,"
        "   leased_until = CASE WHEN t.leased_until > clock_timestamp() THEN t.leased_until END,"
        "   attempts = CASE WHEN t.leased_until > clock_timestamp() THEN t.attempts ELSE 0 END",
        org_id,
        provider,
        tasks,
        [work.due_in for work in schedule],
        [work.by_hand for work in schedule],
    )


async def note_what_waits(db: Connection, org_id: str) -> None:
    """Note of an org's tasks which wait until an integration or the org comes back, in the transaction that is open."""
    await db.execute(
        "UPDATE tasks t SET waits = NOT c.is_active OR o.state <> 'active' FROM org_credentials c, orgs o"
        " WHERE t.org_id = $1 AND c.org_id = $1 AND c.provider = t.provider AND o.org_id = $1"
        "   AND t.waits <> (NOT c.is_active OR o.state <> 'active')",
        org_id,
    )


async def forget_work(db: Connection, org_id: str) -> None:
    """Delete an org's tasks, in the transaction and the org's context that are open."""
    await db.execute("DELETE FROM tasks WHERE org_id = $1", org_id)
