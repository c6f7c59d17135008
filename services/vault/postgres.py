"""The store on PostgreSQL.

A read is one call of a SQL function that sets the org's context for its own transaction: one round trip, for one key or
many. A change sets the context first, then locks the org's row, so that an org's changes and their audit events have
one order.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from services.vault.audit import Chain, event_of
from services.vault.credential import (
    Integration,
    Mapping,
    Origin,
    Pointer,
    Resolved,
    Resource,
    Stored,
    Version,
    version_state,
)
from services.vault.database import Connection, Pool, connection, in_org
from services.vault.keeper import Decide
from services.vault.postgres_audit import append
from services.vault.postgres_change import hold, write
from services.vault.postgres_rows import INTEGRATIONS, POINTERS, integration_of, pointer_of, stored_of, version_of
from tenantvault.errors import LeaseHeld

CHANGES: Final = "tenantvault:changes"
"""The channel on which the vaults tell each other that an org has moved on."""

_MOST_VERSIONS: Final = 1000


class PostgresStore:
    """The vault's store ports on a pool of the application role.

    Args:
        chain: gives what extends the audit's chains.
        sender: who this vault is, for the others that are told of its changes.
    """

    def __init__(self, pool: Pool, *, chain: Callable[[], Awaitable[Chain]], sender: str = "") -> None:
        self._pool = pool
        self._chain = chain
        self._sender = sender

    async def read(self, keys: Sequence[tuple[str, str]], *, newest: bool = False) -> Sequence[Stored | None]:
        """What there is of each org and provider, in one round trip."""
        orgs, providers = [org_id for org_id, _ in keys], [provider for _, provider in keys]
        async with connection(self._pool) as db:
            rows = await db.fetch("SELECT * FROM read_credentials($1, $2, $3)", orgs, providers, newest)
        found: list[Stored | None] = [None] * len(keys)
        for row in rows:
            found[row["place"] - 1] = stored_of(row)
        return found

    async def resolve(self, keys: Sequence[tuple[str, str]], provider: str | None) -> Sequence[Resolved | None]:
        """What there is of each resource, with its org's credential for a provider, in one round trip."""
        kinds, ids = [kind for kind, _ in keys], [resource_id for _, resource_id in keys]
        async with connection(self._pool) as db:
            rows = await db.fetch("SELECT * FROM resolve_credentials($1, $2, $3)", kinds, ids, provider)
        found: list[Resolved | None] = [None] * len(keys)
        for row in rows:
            place, stored = row["place"] - 1, stored_of(row)
            known = found[place]
            if known is None:
                kind, resource_id = keys[place]
                resource = Resource(kind, resource_id, row["mapped_role"])
                mapping = Mapping(row["mapped_org"], row["mapped_provider"], resource, row["mapped_mac"])
                known = Resolved(mapping, stored)
            found[place] = replace(known, credential=stored) if row["provider"] == provider else known
        return found

    async def integrations(self, org_id: str) -> Sequence[Integration]:
        """What may be shown, in the order of the providers' names."""
        async with in_org(self._pool, org_id) as db:
            rows = await db.fetch(INTEGRATIONS + " ORDER BY c.provider", org_id)
        return [integration_of(row) for row in rows]

    async def versions(self, org_id: str, provider: str) -> Sequence[Version]:
        """What may be shown of the newest versions, newest first."""
        async with in_org(self._pool, org_id) as db:
            rows = await db.fetch(
                "SELECT version, hint, created_at, activated_at, destroyed_at FROM credential_versions"
                " WHERE org_id = $1 AND provider = $2 ORDER BY version DESC LIMIT $3",
                org_id,
                provider,
                _MOST_VERSIONS,
            )
            pointers = await db.fetch(POINTERS + " AND c.provider = $2", org_id, provider)
            now = await db.fetchval("SELECT now()")
        pointer = pointer_of(pointers[0]) if pointers else Pointer(provider=provider)
        found = []
        for row in rows:
            version = version_of(row)
            state = version_state(version, pointer, now)
            until = pointer.previous_until if state == "previous" else None
            found.append(replace(version, state=state, readable_until=until))
        return found

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
        """Hold the org, decide, and write the change with its audit event, in one transaction."""
        chain = await self._chain()
        async with in_org(self._pool, org_id) as db:
            held = await hold(db, org_id, provider, version, create=create)
            if lease_owner:
                await _demand_lease(db, org_id, provider, lease_owner)
            change = await decide(held)
            if change is None:
                return None
            await write(db, held, change)
            changed = change.changed
            event = event_of(
                origin,
                org_id=org_id,
                action=changed.action,
                provider=changed.provider,
                version=changed.version,
                outcome=changed.outcome,
                generation=changed.org.generation,
            )
            await append(db, chain, org_id, [event])
            told = {"org": org_id, "generation": changed.org.generation, "vault": self._sender}
            if change.destroys_keys:
                told["gone"] = True
            await db.execute("SELECT pg_notify($1, $2)", CHANGES, json.dumps(told))
            return changed.org.generation

    async def generations(self, orgs: Sequence[str]) -> dict[str, int]:
        """The generation of each org that is known."""
        async with connection(self._pool) as db:
            rows = await db.fetch("SELECT org_id, generation FROM generations_of($1)", list(orgs))
        return {row["org_id"]: row["generation"] for row in rows}

    async def acquire_lease(self, org_id: str, provider: str, owner: str, seconds: float) -> None:
        """Take or prolong a lease."""
        async with in_org(self._pool, org_id) as db:
            await db.execute("INSERT INTO orgs (org_id) VALUES ($1) ON CONFLICT DO NOTHING", org_id)
            taken = await db.fetchval(
                "INSERT INTO work AS w (org_id, provider, owner, leased_until)"
                " VALUES ($1, $2, $3, clock_timestamp() + $4)"
                " ON CONFLICT (org_id, provider) DO UPDATE SET owner = $3, leased_until = clock_timestamp() + $4"
                " WHERE w.owner = $3 OR w.leased_until <= clock_timestamp() RETURNING true",
                org_id,
                provider,
                owner,
                timedelta(seconds=seconds),
            )
            if not taken:
                left = await db.fetchval(
                    "SELECT extract(epoch FROM leased_until - clock_timestamp())::float8 FROM work"
                    " WHERE org_id = $1 AND provider = $2",
                    org_id,
                    provider,
                )
                raise LeaseHeld(retry_after=max(left or 0.0, 0.0))

    async def release_lease(self, org_id: str, provider: str, owner: str) -> None:
        """Give a lease back, if the owner has it."""
        async with in_org(self._pool, org_id) as db:
            await db.execute(
                "DELETE FROM work WHERE org_id = $1 AND provider = $2 AND owner = $3", org_id, provider, owner
            )


async def _demand_lease(db: Connection, org_id: str, provider: str, owner: str) -> None:
    held = await db.fetchval(
        "SELECT true FROM work WHERE org_id = $1 AND provider = $2 AND owner = $3"
        " AND leased_until > clock_timestamp() FOR UPDATE",
        org_id,
        provider,
        owner,
    )
    if not held:
        raise LeaseHeld
