"""The store on PostgreSQL.

A read is one call of a SQL function that sets the org's context for its own transaction: one round trip. A mutation
sets the context first, then locks the org's row by counting its generation up, so that an org's changes and their
audit events have one order.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, TypeAlias

import asyncpg

from services.vault.credential import (
    Integration,
    Mapping,
    OrgKey,
    Origin,
    RecordName,
    Resource,
    StoredCredential,
    state_of,
)
from tenantvault.errors import CredentialNotFound, LeaseHeld, ResourceConflict, VaultUnavailable, VersionConflict

ACQUIRE_SECONDS: Final = 2.0
"""How long a call waits for a connection before the database counts as away."""

STATEMENT_SECONDS: Final = 5.0
"""How long a statement may run."""

# What the database's being away looks like, and what leaves nothing behind and may go well the next time.
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InvalidCachedStatementError,
)

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

_INTEGRATION: Final = """
    SELECT c.provider, c.version, c.latest_version, c.hint, c.is_active, c.connected_at, c.last_verified_at,
           c.verification_error,
           (SELECT jsonb_agg(jsonb_build_array(m.kind, m.resource_id, m.role) ORDER BY m.kind, m.role, m.resource_id)
              FROM assistant_org_mapping m WHERE m.org_id = c.org_id AND m.provider = c.provider) AS resources
      FROM org_credentials c
     WHERE c.org_id = $1
"""


def open_pool(database_url: str, *, connections: int = 10) -> Pool:
    """A pool that connects when it is first used; await or enter it. It never logs the URL."""
    return asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=connections,
        timeout=ACQUIRE_SECONDS,
        command_timeout=STATEMENT_SECONDS,
        reset=_leave_as_it_is,
        server_settings={"application_name": "tenantvault-vault", "search_path": "public, pg_temp"},
    )


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection; whatever says that the database is away becomes VaultUnavailable."""
    try:
        async with pool.acquire(timeout=ACQUIRE_SECONDS) as lent:
            yield lent
    except _AWAY as error:
        raise VaultUnavailable from error


async def _leave_as_it_is(_: object) -> None:
    """Give a connection back without asyncpg's reset query, which would be a second round trip of every read.

    There is nothing to reset: what is set here is set for a transaction. One that is open is still rolled back.
    """


class PostgresStore:
    """The vault's store port on a pool of the application role."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def org_key(self, org_id: str) -> OrgKey | None:
        """The org's current key."""
        async with self._in_org(org_id) as db:
            return await _org_key(db, org_id)

    async def add_org_key(self, key: OrgKey) -> OrgKey:
        """Keep the org's first key, or return the one that came first."""
        async with self._in_org(key.org_id) as db:
            await db.execute("INSERT INTO orgs (org_id) VALUES ($1) ON CONFLICT DO NOTHING", key.org_id)
            await db.execute(
                "INSERT INTO org_keys (org_id, key_id, master_key_id, wrapped_key) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (org_id) WHERE is_current DO NOTHING",
                key.org_id,
                key.key_id,
                key.master_key_id,
                key.wrapped,
            )
            return await _org_key(db, key.org_id) or key

    async def read(self, org_id: str, provider: str) -> StoredCredential | None:
        """The active version, in one round trip."""
        return await self._read(org_id, provider, newest=False)

    async def read_newest(self, org_id: str, provider: str) -> StoredCredential | None:
        """The newest version, in one round trip."""
        return await self._read(org_id, provider, newest=True)

    async def resolve(self, kind: str, resource_id: str) -> tuple[Mapping, OrgKey] | None:
        """The mapping of a resource, in one round trip."""
        row = await self._resource(kind, resource_id, None)
        return _mapping(row, kind, resource_id) if row else None

    async def resolve_credential(
        self, kind: str, resource_id: str, provider: str
    ) -> tuple[Mapping, OrgKey, StoredCredential | None] | None:
        """The mapping of a resource and its org's credential, in one round trip."""
        row = await self._resource(kind, resource_id, provider)
        if row is None:
            return None
        stored = None if row["version"] is None else _stored(row["org_id"], provider, row)
        return *_mapping(row, kind, resource_id), stored

    async def integrations(self, org_id: str) -> Sequence[Integration]:
        """What may be shown, in the order of the providers' names."""
        async with self._in_org(org_id) as db:
            rows = await db.fetch(_INTEGRATION + " ORDER BY c.provider", org_id)
        return [_integration(row) for row in rows]

    async def put(self, name: RecordName, sealed: bytes, hint: str, origin: Origin) -> None:
        """Add a version after the newest."""
        async with self._in_org(name.org_id) as db:
            generation = await _next_generation(db, name.org_id)
            await db.execute(
                "INSERT INTO org_credentials (org_id, provider) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                name.org_id,
                name.provider,
            )
            moved = await db.fetchval(
                "UPDATE org_credentials SET latest_version = $3, updated_at = now()"
                " WHERE org_id = $1 AND provider = $2 AND latest_version = $3 - 1 RETURNING true",
                name.org_id,
                name.provider,
                name.version,
            )
            if not moved:
                raise VersionConflict
            await db.execute(
                "INSERT INTO credential_versions (org_id, provider, version, key_id, encrypted_config, hint)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                name.org_id,
                name.provider,
                name.version,
                name.key_id,
                sealed,
                hint,
            )
            await _audit(db, "credential.put", name.org_id, name.provider, name.version, generation, origin)

    async def activate(
        self,
        org_id: str,
        provider: str,
        version: int,
        mappings: Sequence[Mapping],
        origin: Origin,
        *,
        lease_owner: str = "",
    ) -> Integration:
        """Make a version active and replace the mappings."""
        async with self._in_org(org_id) as db:
            generation = await _next_generation(db, org_id)
            if lease_owner:
                await _demand_lease(db, org_id, provider, lease_owner)
            moved = await db.fetchval(
                "UPDATE org_credentials c"
                "   SET version = v.version, encrypted_config = v.encrypted_config, key_id = v.key_id, hint = v.hint,"
                "       is_active = true, last_verified_at = now(), verification_error = NULL, updated_at = now(),"
                "       connected_at = CASE WHEN c.is_active AND c.version = v.version THEN c.connected_at"
                "                           ELSE now() END"
                "  FROM credential_versions v"
                " WHERE c.org_id = $1 AND c.provider = $2 AND c.latest_version = $3"
                "   AND v.org_id = c.org_id AND v.provider = c.provider AND v.version = $3 RETURNING true",
                org_id,
                provider,
                version,
            )
            if not moved:
                raise VersionConflict
            await _replace_mappings(db, org_id, provider, mappings)
            await _audit(db, "credential.activate", org_id, provider, version, generation, origin)
            return await _integration_of(db, org_id, provider)

    async def record_verification(
        self, org_id: str, provider: str, version: int, error: str, origin: Origin
    ) -> Integration:
        """Keep the provider's answer about the active version."""
        async with self._in_org(org_id) as db:
            generation = await _next_generation(db, org_id)
            moved = await db.fetchval(
                "UPDATE org_credentials SET verification_error = nullif($4, ''), updated_at = now(),"
                "       last_verified_at = CASE WHEN $4 = '' THEN now() ELSE last_verified_at END"
                " WHERE org_id = $1 AND provider = $2 AND version = $3 AND is_active RETURNING true",
                org_id,
                provider,
                version,
                error,
            )
            if not moved:
                await _integration_of(db, org_id, provider)
                raise VersionConflict
            action, outcome = "credential.verify", "refused" if error else "ok"
            await _audit(db, action, org_id, provider, version, generation, origin, outcome=outcome)
            return await _integration_of(db, org_id, provider)

    async def set_active(self, org_id: str, provider: str, active: bool, origin: Origin) -> Integration:  # noqa: FBT001 - the column it sets
        """Disconnect or reconnect; saying what already is changes nothing and leaves no event.

        A disconnect also passes over the number of a version that waits to be activated, so that a connect under way
        cannot undo it.
        """
        async with self._in_org(org_id) as db:
            generation = await _next_generation(db, org_id)
            version = await db.fetchval(
                "UPDATE org_credentials SET is_active = $3, updated_at = now(),"
                "       latest_version = latest_version + (latest_version > version AND NOT $3)::int,"
                "       connected_at = CASE WHEN $3 THEN now() ELSE connected_at END"
                " WHERE org_id = $1 AND provider = $2 AND version IS NOT NULL AND is_active <> $3 RETURNING version",
                org_id,
                provider,
                active,
            )
            integration = await _integration_of(db, org_id, provider)
            if not integration.version:
                raise CredentialNotFound
            if version is not None:
                action = "credential.reconnect" if active else "credential.disconnect"
                await _audit(db, action, org_id, provider, version, generation, origin)
            return integration

    async def acquire_lease(self, org_id: str, provider: str, owner: str, seconds: float) -> None:
        """Take or prolong a lease."""
        async with self._in_org(org_id) as db:
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
        async with self._in_org(org_id) as db:
            await db.execute(
                "DELETE FROM work WHERE org_id = $1 AND provider = $2 AND owner = $3", org_id, provider, owner
            )

    async def _read(self, org_id: str, provider: str, *, newest: bool) -> StoredCredential | None:
        async with connection(self._pool) as db:
            row = await db.fetchrow(
                "SELECT version, encrypted_config, key_id, master_key_id, wrapped_key, last_verified_at, generation,"
                " resources FROM read_credential($1, $2, $3)",
                org_id,
                provider,
                newest,
            )
        return _stored(org_id, provider, row) if row else None

    async def _resource(self, kind: str, resource_id: str, provider: str | None) -> Any:
        async with connection(self._pool) as db:
            return await db.fetchrow(
                "SELECT org_id, mapped_provider, role, mac, mac_key_id, mac_master_key_id, mac_wrapped_key, version,"
                " encrypted_config, key_id, master_key_id, wrapped_key, last_verified_at, generation, resources"
                " FROM resolve_resource($1, $2, $3)",
                kind,
                resource_id,
                provider,
            )

    @asynccontextmanager
    async def _in_org(self, org_id: str) -> AsyncIterator[Connection]:
        """A transaction in the org's context; the context ends with it."""
        async with connection(self._pool) as db, db.transaction():
            await db.execute("SELECT set_config('tenantvault.org_id', $1, true)", org_id)
            yield db


async def _next_generation(db: Connection, org_id: str) -> int:
    """Count the org's generation up; the row lock holds the org's other changes back until this one is through."""
    generation = await db.fetchval(
        "UPDATE orgs SET generation = generation + 1 WHERE org_id = $1 RETURNING generation", org_id
    )
    if generation is None:
        raise CredentialNotFound
    return int(generation)


async def _audit(
    db: Connection,
    action: str,
    org_id: str,
    provider: str,
    version: int,
    generation: int,
    origin: Origin,
    *,
    outcome: str = "ok",
) -> None:
    await db.execute(
        "INSERT INTO audit_events (org_id, generation, peer, on_behalf_of, action, provider, version, outcome,"
        " request_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        org_id,
        generation,
        origin.peer,
        origin.on_behalf_of,
        action,
        provider,
        version,
        outcome,
        origin.request_id,
    )


async def _org_key(db: Connection, org_id: str) -> OrgKey | None:
    row = await db.fetchrow(
        "SELECT key_id, master_key_id, wrapped_key FROM org_keys WHERE org_id = $1 AND is_current", org_id
    )
    return OrgKey(org_id, row["key_id"], row["master_key_id"], row["wrapped_key"]) if row else None


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


async def _replace_mappings(db: Connection, org_id: str, provider: str, mappings: Sequence[Mapping]) -> None:
    await db.execute("DELETE FROM assistant_org_mapping WHERE org_id = $1 AND provider = $2", org_id, provider)
    # In one order for all, so that two orgs that name the same resources do not wait for each other.
    for mapping in sorted(mappings, key=lambda mapping: (mapping.resource.kind, mapping.resource.resource_id)):
        resource = mapping.resource
        # A row of another org is not to be seen here, and neither is why the insert came to nothing.
        registered = await db.fetchval(
            "INSERT INTO assistant_org_mapping (kind, resource_id, org_id, provider, role, key_id, mac)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING true",
            resource.kind,
            resource.resource_id,
            org_id,
            provider,
            resource.role,
            mapping.key_id,
            mapping.mac,
        )
        if not registered:
            raise ResourceConflict


async def _integration_of(db: Connection, org_id: str, provider: str) -> Integration:
    row = await db.fetchrow(_INTEGRATION + " AND c.provider = $2", org_id, provider)
    if row is None:
        raise CredentialNotFound
    return _integration(row)


def _integration(row: Any) -> Integration:
    error = row["verification_error"] or ""
    return Integration(
        provider=row["provider"],
        state=state_of(
            version=row["version"],
            is_active=row["is_active"],
            latest_version=row["latest_version"],
            verification_error=error,
        ),
        version=row["version"] or 0,
        latest_version=row["latest_version"],
        hint=row["hint"],
        resources=_resources(row["resources"]),
        last_verified_at=row["last_verified_at"],
        verification_error=error,
        connected_at=row["connected_at"],
    )


def _stored(org_id: str, provider: str, row: Any) -> StoredCredential:
    return StoredCredential(
        name=RecordName(org_id, provider, row["version"], row["key_id"]),
        sealed=row["encrypted_config"],
        key=OrgKey(org_id, row["key_id"], row["master_key_id"], row["wrapped_key"]),
        resources=_resources(row["resources"]),
        last_verified_at=row["last_verified_at"],
        generation=row["generation"],
    )


def _mapping(row: Any, kind: str, resource_id: str) -> tuple[Mapping, OrgKey]:
    org_id = row["org_id"]
    key = OrgKey(org_id, row["mac_key_id"], row["mac_master_key_id"], row["mac_wrapped_key"])
    resource = Resource(kind, resource_id, row["role"])
    return Mapping(org_id, row["mapped_provider"], resource, key.key_id, row["mac"]), key


def _resources(encoded: str | None) -> tuple[Resource, ...]:
    return tuple(Resource(*parts) for parts in json.loads(encoded)) if encoded else ()
