"""Keys on PostgreSQL: master keys' states, org keys that are wrapped anew, records that are sealed anew."""

from collections.abc import Sequence
from typing import Final

from services.vault.credential import OrgKey, Record, RecordName
from services.vault.database import Connection, Pool, connection, in_org
from services.vault.rotation import MasterKeyRow, RunningVault
from tenantvault.audit import VAULT_CHAIN

_ALIVE_SECONDS: Final = 30.0
"""How long after it was last heard of a vault counts as running, where its keys are concerned."""


class PostgresKeys:
    """The key ports on a pool of the application role."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def signing_key(self) -> OrgKey | None:
        """The current signing key."""
        async with connection(self._pool) as db:
            return await _signing_key(db)

    async def add_signing_key(self, key: OrgKey, public_key: bytes) -> OrgKey:
        """Keep the first signing key, or return the one that came first."""
        async with connection(self._pool) as db:
            await db.execute(
                "INSERT INTO signing_keys (key_id, master_key_id, wrapped_key, public_key) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (is_current) WHERE is_current DO NOTHING",
                key.key_id,
                key.master_key_id,
                key.wrapped,
                public_key,
            )
            return await _signing_key(db) or key

    async def master_keys(self) -> Sequence[MasterKeyRow]:
        """Every master key that was ever seen, by id, with how many org keys are wrapped under it."""
        async with connection(self._pool) as db:
            rows = await db.fetch(
                "SELECT m.master_key_id, m.state, m.fingerprint, coalesce(u.org_keys, 0) AS org_keys"
                "  FROM master_keys m LEFT JOIN org_keys_by_master_key() u USING (master_key_id)"
                " ORDER BY m.master_key_id"
            )
        return [MasterKeyRow(row["master_key_id"], row["state"], row["fingerprint"], row["org_keys"]) for row in rows]

    async def running_vaults(self) -> Sequence[RunningVault]:
        """The vaults that were heard of lately, with the master keys that they have."""
        async with connection(self._pool) as db:
            return await running(db)

    async def keys_under_others(self, master_key_id: str, *, after: str, at_most: int) -> Sequence[OrgKey]:
        """Keys of the next orgs that have one under another master key than this."""
        async with connection(self._pool) as db:
            rows = await db.fetch(
                "SELECT k.org_id, k.key_id, k.master_key_id, k.wrapped_key FROM keys_of_orgs("
                "  ARRAY(SELECT orgs_under_other_master_keys($1, $2, $3))) k WHERE k.master_key_id <> $1",
                master_key_id,
                after,
                at_most,
            )
        return [OrgKey(row["org_id"], row["key_id"], row["master_key_id"], row["wrapped_key"]) for row in rows]

    async def rewrap(self, old: Sequence[OrgKey], new: Sequence[OrgKey]) -> int:
        """Replace wrapped keys, those that did not change meanwhile; returns how many. None under a retired key."""
        async with connection(self._pool) as db:
            done = await db.fetchval(
                "SELECT rewrap_org_keys($1, $2, $3, $4, $5)",
                [key.org_id for key in old],
                [key.key_id for key in old],
                [key.wrapped for key in old],
                new[0].master_key_id,
                [key.wrapped for key in new],
            )
        return int(done)

    async def rewrap_signing_key(self, old: OrgKey, new: OrgKey) -> None:
        """Replace the wrapped signing key, if it did not change meanwhile and the new master key is not retired."""
        async with connection(self._pool) as db:
            await db.execute(
                "WITH held AS MATERIALIZED (SELECT master_key_id FROM master_keys"
                "                            WHERE master_key_id = $3 AND state <> 'retired' FOR KEY SHARE)"
                " UPDATE signing_keys SET master_key_id = held.master_key_id, wrapped_key = $4"
                "   FROM held WHERE key_id = $1 AND wrapped_key = $2",
                old.key_id,
                old.wrapped,
                new.master_key_id,
                new.wrapped,
            )

    async def retire(self, master_key_id: str) -> bool:
        """Retire a master key under which nothing is wrapped; whether it is retired now."""
        async with connection(self._pool) as db, db.transaction():
            # Whoever wraps something anew under this key waits for this lock and then finds the key retired.
            await db.execute("SELECT FROM master_keys WHERE master_key_id = $1 FOR UPDATE", master_key_id)
            if not (used := await is_used(db, master_key_id)):
                await db.execute("UPDATE master_keys SET state = 'retired' WHERE master_key_id = $1", master_key_id)
        return not used

    async def orgs_with_old_keys(self, *, after: str, at_most: int) -> Sequence[str]:
        """The next orgs whose rotation has not ended."""
        async with connection(self._pool) as db:
            rows = await db.fetch("SELECT orgs_with_old_keys($1, $2) AS org_id", after, at_most)
        return [row["org_id"] for row in rows]

    async def records_under_old_keys(self, org_id: str, *, at_most: int) -> tuple[OrgKey | None, Sequence[Record]]:
        """An org's current key, and records that are not sealed under it."""
        async with in_org(self._pool, org_id) as db:
            kept = await db.fetchrow(
                "SELECT key_id, master_key_id, wrapped_key FROM org_keys"
                " WHERE org_id = $1 AND is_current AND destroyed_at IS NULL",
                org_id,
            )
            rows = await db.fetch(
                "SELECT v.provider, v.version, v.encrypted_config, k.key_id, k.master_key_id, k.wrapped_key"
                "  FROM credential_versions v JOIN org_keys k ON k.org_id = v.org_id AND k.key_id = v.key_id"
                " WHERE v.org_id = $1 AND v.destroyed_at IS NULL AND NOT k.is_current AND k.destroyed_at IS NULL"
                " ORDER BY v.provider, v.version DESC LIMIT $2",
                org_id,
                at_most,
            )
        key = OrgKey(org_id, kept["key_id"], kept["master_key_id"], kept["wrapped_key"]) if kept else None
        return key, [
            Record(
                RecordName(org_id, row["provider"], row["version"], row["key_id"]),
                row["encrypted_config"],
                OrgKey(org_id, row["key_id"], row["master_key_id"], row["wrapped_key"]),
            )
            for row in rows
        ]

    async def replace_record(self, old: Record, new: Record) -> bool:
        """Put a record that is sealed anew in the place of the old one; False when that is not there any more."""
        name = old.name
        async with in_org(self._pool, name.org_id) as db:
            # The org's lock first, as every change takes it, so that the two copies of a record stay alike.
            await db.execute("SELECT FROM orgs WHERE org_id = $1 FOR UPDATE", name.org_id)
            done = await db.fetchval(
                "UPDATE credential_versions SET key_id = $5, encrypted_config = $6"
                " WHERE org_id = $1 AND provider = $2 AND version = $3 AND key_id = $4 AND destroyed_at IS NULL"
                # What a version holds may be replaced under the same key.
                "   AND encrypted_config = $7"
                # A key that was replaced meanwhile, and was found to seal nothing, may be destroyed by now.
                "   AND EXISTS (SELECT FROM org_keys k"
                "                WHERE k.org_id = $1 AND k.key_id = $5 AND k.destroyed_at IS NULL)"
                " RETURNING true",
                name.org_id,
                name.provider,
                name.version,
                name.key_id,
                new.name.key_id,
                new.sealed,
                old.sealed,
            )
            if done:
                await db.execute(
                    "UPDATE org_credentials SET key_id = $4, encrypted_config = $5"
                    " WHERE org_id = $1 AND provider = $2 AND version = $3",
                    name.org_id,
                    name.provider,
                    name.version,
                    new.name.key_id,
                    new.sealed,
                )
        return bool(done)

    async def destroy_old_keys(self, org_id: str) -> int:
        """Destroy an org's keys that seal nothing any more; returns how many old ones are left."""
        async with in_org(self._pool, org_id) as db:
            await db.execute("SELECT FROM orgs WHERE org_id = $1 FOR UPDATE", org_id)
            await db.execute(
                "UPDATE org_keys k SET wrapped_key = '', destroyed_at = now()"
                " WHERE k.org_id = $1 AND NOT k.is_current AND k.destroyed_at IS NULL"
                "   AND NOT EXISTS (SELECT FROM credential_versions v WHERE v.org_id = k.org_id"
                "                    AND v.key_id = k.key_id AND v.destroyed_at IS NULL)",
                org_id,
            )
            return int(
                await db.fetchval(
                    "SELECT count(*) FROM org_keys WHERE org_id = $1 AND NOT is_current AND destroyed_at IS NULL",
                    org_id,
                )
            )


async def running(db: Connection) -> list[RunningVault]:
    """The vaults that were heard of lately, with the master keys that they have."""
    rows = await db.fetch(
        "SELECT vault_id, master_keys, wrapping FROM vaults"
        " WHERE seen_at > now() - make_interval(secs => $1) ORDER BY vault_id",
        _ALIVE_SECONDS,
    )
    return [RunningVault(row["vault_id"], frozenset(row["master_keys"]), row["wrapping"]) for row in rows]


async def is_used(db: Connection, master_key_id: str) -> bool:
    """Whether anything is wrapped under a master key."""
    return bool(
        await db.fetchval(
            "SELECT EXISTS (SELECT FROM org_keys_by_master_key() WHERE master_key_id = $1)"
            "    OR EXISTS (SELECT FROM signing_keys WHERE master_key_id = $1)",
            master_key_id,
        )
    )


async def _signing_key(db: Connection) -> OrgKey | None:
    row = await db.fetchrow("SELECT key_id, master_key_id, wrapped_key FROM signing_keys WHERE is_current")
    return OrgKey(VAULT_CHAIN, row["key_id"], row["master_key_id"], row["wrapped_key"]) if row else None
