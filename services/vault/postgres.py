"""The store on PostgreSQL.

A read is one call of a SQL function that sets the org's context for its own transaction: one round trip, for one key or
many. A change sets the context first, then locks the org's row, so that an org's changes and their audit events have
one order.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from services.vault.audit import Chain, event_of
from services.vault.credential import (
    Integration,
    Mapping,
    Org,
    OrgKey,
    OrgState,
    Origin,
    Pointer,
    Record,
    RecordName,
    Resolved,
    Resource,
    Stored,
    Version,
    state_of,
    version_state,
)
from services.vault.database import Connection, Pool, connection, in_org
from services.vault.keeper import Change, Decide, Held
from services.vault.org import Changed
from services.vault.postgres_audit import append
from services.vault.postgres_oauth import forget_oauth_states
from services.vault.postgres_work import forget_work, note_what_waits, replace_schedule
from tenantvault.errors import (
    CredentialNotFound,
    CredentialUnreadable,
    LeaseHeld,
    ResourceConflict,
    VaultUnavailable,
)

CHANGES: Final = "tenantvault:changes"
"""The channel on which the vaults tell each other that an org has moved on."""

_MOST_VERSIONS: Final = 1000

_INTEGRATION: Final = """
    SELECT c.provider, c.version, c.latest_version, c.hint, c.is_active, c.connected_at, c.last_verified_at,
           c.verification_error, c.verification_reason, c.warnings, c.account,
           r.due_at AS rotation_due_at, NOT r.by_hand AS rotates_by_itself,
           (SELECT jsonb_agg(jsonb_build_array(m.kind, m.resource_id, m.role) ORDER BY m.kind, m.role, m.resource_id)
              FROM assistant_org_mapping m WHERE m.org_id = c.org_id AND m.provider = c.provider) AS resources
      FROM org_credentials c
      LEFT JOIN tasks r ON r.org_id = c.org_id AND r.provider = c.provider AND r.task = 'rotate'
     WHERE c.org_id = $1
"""

_POINTERS: Final = """
    SELECT c.provider, c.version, c.latest_version, c.is_active, c.previous_version, c.previous_until, c.registered,
           c.resources, c.mac, c.last_verified_at,
           (SELECT jsonb_agg(jsonb_build_array(m.kind, m.resource_id, m.role, encode(m.mac, 'hex')))
              FROM assistant_org_mapping m WHERE m.org_id = c.org_id AND m.provider = c.provider) AS mappings
      FROM org_credentials c
     WHERE c.org_id = $1
"""


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
            found[row["place"] - 1] = _stored(row)
        return found

    async def resolve(self, keys: Sequence[tuple[str, str]], provider: str | None) -> Sequence[Resolved | None]:
        """What there is of each resource, with its org's credential for a provider, in one round trip."""
        kinds, ids = [kind for kind, _ in keys], [resource_id for _, resource_id in keys]
        async with connection(self._pool) as db:
            rows = await db.fetch("SELECT * FROM resolve_credentials($1, $2, $3)", kinds, ids, provider)
        found: list[Resolved | None] = [None] * len(keys)
        for row in rows:
            place, stored = row["place"] - 1, _stored(row)
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
            rows = await db.fetch(_INTEGRATION + " ORDER BY c.provider", org_id)
        return [_integration(row) for row in rows]

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
            pointers = await db.fetch(_POINTERS + " AND c.provider = $2", org_id, provider)
            now = await db.fetchval("SELECT now()")
        pointer = _pointer(pointers[0]) if pointers else Pointer(provider=provider)
        found = []
        for row in rows:
            version = _version(row)
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
            held = await _hold(db, org_id, provider, version, create=create)
            if lease_owner:
                await _demand_lease(db, org_id, provider, lease_owner)
            change = await decide(held)
            if change is None:
                return None
            await _write(db, held, change)
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


async def _hold(db: Connection, org_id: str, provider: str, version: int, *, create: bool) -> Held:
    """Lock the org; its other changes wait until this one is through."""
    if create:
        await db.execute("INSERT INTO orgs (org_id) VALUES ($1) ON CONFLICT DO NOTHING", org_id)
    row = await db.fetchrow("SELECT state, generation FROM orgs WHERE org_id = $1 FOR UPDATE", org_id)
    if row is None:
        raise CredentialNotFound
    state, generation = OrgState(row["state"]), row["generation"]
    kept = await db.fetchrow(
        "SELECT key_id, master_key_id, wrapped_key FROM org_keys"
        " WHERE org_id = $1 AND is_current AND destroyed_at IS NULL",
        org_id,
    )
    key = OrgKey(org_id, kept["key_id"], kept["master_key_id"], kept["wrapped_key"]) if kept else None
    pointers = [
        Stored(
            org_id=org_id,
            org_state=state,
            generation=generation,
            pointer=_pointer(found),
            mac=found["mac"],
            key=key,
            mappings=_mappings(org_id, found["provider"], found["mappings"]),
        )
        for found in await db.fetch(_POINTERS, org_id)
    ]
    about = None
    if version:
        about = await db.fetchrow(
            "SELECT version, hint, created_at, activated_at, destroyed_at FROM credential_versions"
            " WHERE org_id = $1 AND provider = $2 AND version = $3",
            org_id,
            provider,
            version,
        )
    org = Org(
        org_id=org_id,
        state=state,
        generation=generation,
        pointers={stored.pointer.provider: stored.pointer for stored in pointers},
    )
    return Held(org=org, key=key, pointers=pointers, version=_version(about) if about else None)


async def _write(db: Connection, held: Held, change: Change) -> None:
    changed, org = change.changed, change.changed.org
    await db.execute(
        "UPDATE orgs SET generation = $2, state = $3 WHERE org_id = $1", org.org_id, org.generation, org.state.value
    )
    if change.key is not None:
        await _keep_key(db, change.key)
    if change.name is not None and change.replaces_record:
        await _replace_record(db, change.name, change.sealed)
    elif change.name is not None:
        await _keep_version(db, change.name, change.sealed, change.hint)
    if change.destroys_version:
        await _destroy_versions(db, org.org_id, changed.provider, changed.version)
    if change.destroys_keys:
        await _destroy_keys(db, org.org_id)
        await forget_work(db, org.org_id)
        await forget_oauth_states(db, org.org_id)
    await _keep_pointers(db, org, change.macs)
    if changed.provider:
        moved = held.org.pointers.get(changed.provider, Pointer(provider=changed.provider)).version
        await _keep_facts(db, changed, moved=org.pointers[changed.provider].version != moved)
    for provider, mappings in change.mappings.items():
        await _replace_mappings(db, org.org_id, provider, mappings)
    if change.schedule is not None:
        await replace_schedule(db, org.org_id, changed.provider, change.schedule)
    if _served(held.org) != _served(org):
        await note_what_waits(db, org.org_id)


def _served(org: Org) -> set[str]:
    """The integrations of which work is done."""
    is_open = org.state is OrgState.ACTIVE
    return {pointer.provider for pointer in org.pointers.values() if is_open and pointer.is_active}


async def _keep_key(db: Connection, key: OrgKey) -> None:
    await db.execute("UPDATE org_keys SET is_current = false WHERE org_id = $1 AND is_current", key.org_id)
    kept = await db.fetchval(
        "INSERT INTO org_keys (org_id, key_id, master_key_id, wrapped_key)"
        " SELECT $1, $2, m.master_key_id, $4 FROM master_keys m"
        "  WHERE m.master_key_id = $3 AND m.state <> 'retired' FOR KEY SHARE RETURNING true",
        key.org_id,
        key.key_id,
        key.master_key_id,
        key.wrapped,
    )
    if not kept:
        # Retired under this vault's hands: its self-check says so, and what to do.
        raise VaultUnavailable


async def _keep_version(db: Connection, name: RecordName, sealed: bytes, hint: str) -> None:
    await db.execute(
        "INSERT INTO org_credentials (org_id, provider) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        name.org_id,
        name.provider,
    )
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


async def _replace_record(db: Connection, name: RecordName, sealed: bytes) -> None:
    """Write what a version holds from now on. The copy beside the pointer follows with the pointer."""
    replaced = await db.fetchval(
        "UPDATE credential_versions SET key_id = $4, encrypted_config = $5"
        " WHERE org_id = $1 AND provider = $2 AND version = $3 AND destroyed_at IS NULL RETURNING true",
        name.org_id,
        name.provider,
        name.version,
        name.key_id,
        sealed,
    )
    if not replaced:
        # Somebody destroyed the active version by SQL.
        raise CredentialUnreadable


async def _destroy_versions(db: Connection, org_id: str, provider: str, version: int) -> None:
    await db.execute(
        "UPDATE credential_versions SET encrypted_config = '', destroyed_at = now()"
        " WHERE org_id = $1 AND provider = $2 AND version = $3 AND destroyed_at IS NULL",
        org_id,
        provider,
        version,
    )


async def _destroy_keys(db: Connection, org_id: str) -> None:
    await db.execute(
        "UPDATE org_keys SET wrapped_key = '', destroyed_at = now(), is_current = false"
        " WHERE org_id = $1 AND destroyed_at IS NULL",
        org_id,
    )
    await db.execute(
        "UPDATE credential_versions SET encrypted_config = '', destroyed_at = now()"
        " WHERE org_id = $1 AND destroyed_at IS NULL",
        org_id,
    )
    await db.execute(
        "UPDATE org_credentials SET encrypted_config = '' WHERE org_id = $1 AND encrypted_config IS NOT NULL", org_id
    )


async def _keep_pointers(db: Connection, org: Org, macs: Any) -> None:
    """Write every pointer: the generation that the proofs cover has moved."""
    pointers = list(org.pointers.values())
    await db.execute(
        "UPDATE org_credentials c SET latest_version = p.latest_version, is_active = p.is_active,"
        "       version = nullif(p.version, 0), previous_version = p.previous_version,"
        "       previous_until = p.previous_until, registered = p.registered, resources = p.resources, mac = p.mac,"
        # What is read belongs to the pointer: they change together.
        "       encrypted_config = coalesce(v.encrypted_config, c.encrypted_config),"
        "       key_id = coalesce(v.key_id, c.key_id), hint = coalesce(v.hint, c.hint)"
        "  FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::boolean[], $6::bigint[], $7::timestamptz[],"
        "              $8::bigint[], $9::int[], $10::bytea[])"
        "       AS p(provider, version, latest_version, is_active, previous_version, previous_until, registered,"
        "            resources, mac)"
        "  LEFT JOIN credential_versions v ON v.org_id = $1 AND v.provider = p.provider AND v.version = p.version"
        " WHERE c.org_id = $1 AND c.provider = p.provider",
        org.org_id,
        [pointer.provider for pointer in pointers],
        [pointer.version for pointer in pointers],
        [pointer.latest_version for pointer in pointers],
        [pointer.is_active for pointer in pointers],
        [pointer.previous_version for pointer in pointers],
        [pointer.previous_until for pointer in pointers],
        [pointer.registered for pointer in pointers],
        [pointer.resources for pointer in pointers],
        [macs.get(pointer.provider, b"") for pointer in pointers],
    )


async def _keep_facts(db: Connection, changed: Changed, *, moved: bool) -> None:
    """Write what only people look at."""
    await db.execute(
        "UPDATE org_credentials SET updated_at = now(),"
        "       connected_at = CASE WHEN $3 THEN now() ELSE connected_at END,"
        "       last_verified_at = CASE WHEN $4 THEN now() ELSE last_verified_at END"
        " WHERE org_id = $1 AND provider = $2",
        changed.org.org_id,
        changed.provider,
        changed.connected,
        changed.verified,
    )
    if changed.facts is not None:
        await db.execute(
            "UPDATE org_credentials SET verification_error = nullif($3, ''), verification_reason = nullif($4, ''),"
            "       warnings = $5, account = coalesce($6, account) WHERE org_id = $1 AND provider = $2",
            changed.org.org_id,
            changed.provider,
            changed.facts.error,
            changed.facts.reason,
            list(changed.facts.warnings),
            changed.facts.account,
        )
    if moved:
        await db.execute(
            "UPDATE credential_versions SET activated_at = coalesce(activated_at, now())"
            " WHERE org_id = $1 AND provider = $2 AND version = $3",
            changed.org.org_id,
            changed.provider,
            changed.version,
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


async def _replace_mappings(db: Connection, org_id: str, provider: str, mappings: Sequence[Mapping]) -> None:
    await db.execute("DELETE FROM assistant_org_mapping WHERE org_id = $1 AND provider = $2", org_id, provider)
    # In one order for all, so that two orgs that name the same resources do not wait for each other.
    for mapping in sorted(mappings, key=lambda mapping: (mapping.resource.kind, mapping.resource.resource_id)):
        resource = mapping.resource
        # A row of another org is not to be seen here, and neither is why the insert came to nothing.
        registered = await db.fetchval(
            "INSERT INTO assistant_org_mapping (kind, resource_id, org_id, provider, role, mac)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true",
            resource.kind,
            resource.resource_id,
            org_id,
            provider,
            resource.role,
            mapping.mac,
        )
        if not registered:
            raise ResourceConflict


def _pointer(row: Any) -> Pointer:
    return Pointer(
        provider=row["provider"],
        version=row["version"] or 0,
        latest_version=row["latest_version"],
        is_active=row["is_active"],
        previous_version=row["previous_version"],
        previous_until=row["previous_until"],
        registered=row["registered"],
        resources=row["resources"],
    )


def _stored(row: Any) -> Stored:
    org_id, provider = row["org_id"], row["provider"]
    return Stored(
        org_id=org_id,
        org_state=OrgState(row["org_state"]),
        generation=row["generation"],
        pointer=_pointer(row),
        mac=row["mac"],
        key=_key(org_id, row, "current"),
        mappings=_mappings(org_id, provider, row["mappings"]),
        record=_record(org_id, provider, row["record_version"], row["record"], _key(org_id, row, "record")),
        previous=_record(
            org_id, provider, row["previous_version"], row["previous_record"], _key(org_id, row, "previous")
        ),
        last_verified_at=row["last_verified_at"],
    )


def _key(org_id: str, row: Any, which: str) -> OrgKey | None:
    key_id = row[f"{which}_key_id"]
    return OrgKey(org_id, key_id, row[f"{which}_master_key_id"], row[f"{which}_wrapped_key"]) if key_id else None


def _record(org_id: str, provider: str, version: int, sealed: bytes | None, key: OrgKey | None) -> Record | None:
    if sealed is None or key is None:
        return None
    # One that was emptied by SQL is there, and does not open.
    return Record(RecordName(org_id, provider, version, key.key_id), sealed, key)


def _mappings(org_id: str, provider: str, encoded: str | None) -> tuple[Mapping, ...]:
    return tuple(
        Mapping(org_id, provider, Resource(kind, resource_id, role), bytes.fromhex(mac))
        for kind, resource_id, role, mac in (json.loads(encoded) if encoded else ())
    )


def _version(row: Any) -> Version:
    return Version(
        version=row["version"],
        hint=row["hint"],
        created_at=row["created_at"],
        was_active=row["activated_at"] is not None,
        destroyed_at=row["destroyed_at"],
    )


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
        hint=row["hint"] if row["version"] else "",
        resources=tuple(Resource(*parts) for parts in json.loads(row["resources"] or "[]")),
        last_verified_at=row["last_verified_at"],
        verification_error=error,
        verification_reason=row["verification_reason"] or "",
        warnings=tuple(row["warnings"]),
        account=row["account"],
        connected_at=row["connected_at"],
        rotation_due_at=row["rotation_due_at"],
        rotates_by_itself=bool(row["rotates_by_itself"]),
    )
