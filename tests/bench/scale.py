"""A million orgs stored against a thousand: a read that goes to the database.

The orgs that are read are stored through the vault on both databases. The rest of the million are copies of the rows of
one of them under other ids, which nobody reads.
"""

import asyncio
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from tests.bench.figure import Figure
from tests.bench.ground import loading, percentile, running, store
from tests.chaos.harness import Ground, Tell, Vault
from tests.integration.conftest import Database

_TABLES: Final[Mapping[str, str]] = {
    "orgs": "",
    "org_keys": "",
    "credential_versions": "",
    "org_credentials": "",
    "assistant_org_mapping": "resource_id",
    "audit_heads": "",
}
"""What an org has rows in, and which other column must differ. Events are left out: no read needs any."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: orgs in the large database and in the small one, rounds at each in turn, their length in seconds."""

    large: int = 1_000_000
    small: int = 1000
    rounds: int = 7
    seconds: float = 1.5


async def run(ground: Ground, plan: Plan, tell: Tell) -> list[Figure]:
    """Measure vaults that remember one credential. To store a million takes a minute or two."""
    crowded = await _second(ground)
    few, many = await _stored(ground, plan.small), await _stored(crowded, plan.small)
    tell(f"scale: storing {plan.large} orgs")
    await _fill(crowded.database, many[0], plan.large - plan.small)
    # The disk is done with it, and the vaults have seen nothing of it.
    await asyncio.to_thread(os.sync)
    forgetful = {"TENANTVAULT_CACHE_ENTRIES": "1"}
    async with (
        running(ground, "small", **forgetful) as small,
        running(crowded, "large", **forgetful) as large,
        loading(ground) as load,
    ):
        orgs = {small: few, large: many}
        for vault, read in orgs.items():
            await load.round(vault, "get", read, calls=plan.small)
        rounds: dict[Vault, list[list[float]]] = {small: [], large: []}
        for number in range(plan.rounds):
            tell(f"scale: round {number + 1} of {plan.rounds}")
            for vault, measured in rounds.items():
                result = await load.round(vault, "get", orgs[vault], seconds=plan.seconds)
                measured.append(result.latencies)

    def middle(vault: Vault, share: float) -> float:
        return median(percentile(each, share) * 1000 for each in rounds[vault])

    return [
        Figure(
            name="get, from the database: p99 with many orgs stored ÷ with few",
            value=middle(large, 0.99) / middle(small, 0.99),
            unit="",
            reference=f"{plan.large} orgs, {plan.small}; p99 {middle(large, 0.99):.2f} ms,"
            f" {middle(small, 0.99):.2f} ms; p50 {middle(large, 0.5):.3f} ms, {middle(small, 0.5):.3f} ms",
            goal="≤ 1.2",
        )
    ]


async def _second(ground: Ground) -> Ground:
    """The same with another migrated database on the same server."""
    name = f"tv_{uuid.uuid4().hex[:12]}"
    first = ground.database
    await first.admin(f"CREATE DATABASE {name} TEMPLATE tenantvault_template")
    admin_url, app_url = (urlsplit(url)._replace(path=f"/{name}").geturl() for url in (first.admin_url, first.app_url))
    return replace(ground, database=Database(admin_url, app_url, first.master_keys))


async def _stored(ground: Ground, count: int) -> list[str]:
    async with running(ground, f"store-{uuid.uuid4().hex[:8]}") as vault:
        return [each.org for each in await store(vault, count)]


async def _fill(database: Database, org: str, count: int) -> None:
    """Copy what an org has so many times, each time for another one with a random id."""
    db = await asyncpg.connect(database.admin_url)
    try:
        # No check of foreign keys: a copy has all its rows, as its model does.
        await db.execute("SET session_replication_role = replica")
        await db.execute(
            "CREATE TEMPORARY TABLE copies AS SELECT md5(random()::text || number) AS org_id"
            f" FROM generate_series(1, {count}) AS number ORDER BY org_id"
        )
        for table, other in _TABLES.items():
            columns = [
                row["attname"]
                for row in await db.fetch(
                    "SELECT attname FROM pg_attribute"
                    " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
                    table,
                )
            ]
            values = {column: f"model.{column}" for column in columns}
            values["org_id"] = "copies.org_id"
            if other:
                values[other] = "copies.org_id"
            await db.execute(
                f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())}"
                f" FROM copies CROSS JOIN {table} AS model WHERE model.org_id = '{org}'"
            )
        await db.execute("VACUUM ANALYZE")
        await db.execute("CHECKPOINT")
    finally:
        await db.close()
