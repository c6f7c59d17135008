"""A change of an org on PostgreSQL: what it holds and what it writes, in the transaction that is open."""

from collections.abc import Sequence
from typing import Any

from services.vault.credential import Mapping, Org, OrgKey, OrgState, Pointer, RecordName, Stored
from services.vault.database import Connection
from services.vault.keeper import Change, Held
from services.vault.org import Changed
from services.vault.postgres_oauth import forget_oauth_states
from services.vault.postgres_rows import POINTERS, mappings_of, pointer_of, version_of
from services.vault.postgres_work import forget_work, note_what_waits, replace_schedule
from tenantvault.errors import CredentialNotFound, CredentialUnreadable, ResourceConflict, VaultUnavailable


async def hold(db: Connection, org_id: str, provider: str, version: int, *, create: bool) -> Held:
    """Lock the org; its other changes wait until this one is through.

    Raises:
        CredentialNotFound: there is no such org, and `create` does not ask for one.
    """
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
            pointer=pointer_of(found),
            mac=found["mac"],
            key=key,
            mappings=mappings_of(org_id, found["provider"], found["mappings"]),
        )
        for found in await db.fetch(POINTERS, org_id)
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
    return Held(org=org, key=key, pointers=pointers, version=version_of(about) if about else None)


async def write(db: Connection, held: Held, change: Change) -> None:
    """Write what was decided.

    Raises:
        ResourceConflict: another org has one of the resources.
        CredentialUnreadable: the version whose record is replaced is not there any more.
        VaultUnavailable: the org's key is under a master key that was retired meanwhile.
    """
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
