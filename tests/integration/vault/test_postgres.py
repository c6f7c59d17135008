"""The exam of the store on PostgreSQL, and what only PostgreSQL can do wrong."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from services.vault import postgres_audit
from services.vault.audit import SigningKey, event_of
from services.vault.credential import Facts
from services.vault.database import Pool, open_pool
from services.vault.keyring import Keyring
from services.vault.local_key import LocalKey
from services.vault.memory import MemoryStore
from services.vault.postgres import PostgresStore
from services.vault.postgres_audit import PostgresAudit
from services.vault.postgres_keys import PostgresKeys
from services.vault.postgres_oauth import PostgresOAuthStates
from services.vault.postgres_work import PostgresWork
from services.vault.seal import Unreadable
from services.vault.selfcheck import SelfCheck
from services.vault.work import Finish, Piece, ScheduledWork, Task
from tenantvault.audit import Head, Link, Prover
from tenantvault.errors import CredentialUnreadable, TenantVaultError, VaultUnavailable
from tests.integration.conftest import Database
from tests.integration.vault.conftest import eventually, forced, waiting_for_locks
from tests.suites.store_exam import *  # noqa: F403 - the exam is the test
from tests.suites.store_exam import HOUR, ORIGIN, Parts, PassTime, Vault, assistant, chain_of, claimed, secret


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.app_url) as pool:
        yield pool


@pytest.fixture
async def parts(pool: Pool, database: Database) -> Parts:
    return await parts_of(pool, Keyring.parse(database.master_keys))


@pytest.fixture
def pass_time(database: Database) -> PassTime:
    async def passed(org: str, time: timedelta) -> None:
        await database.admin(
            "UPDATE org_credentials SET last_verified_at = last_verified_at - $2::interval WHERE org_id = $1", org, time
        )
        await database.admin(
            "UPDATE tasks SET finished_at = finished_at - $2::interval, leased_until = leased_until - $2::interval"
            " WHERE org_id = $1",
            org,
            time,
        )

    return passed


async def parts_of(pool: Pool, ring: Keyring) -> Parts:
    keys = PostgresKeys(pool)
    chain = SigningKey(keys, ring, random=os.urandom).chain
    # It makes the master keys known.
    await SelfCheck(pool, ring, chain=chain, unreadable=Unreadable)()
    return Parts(
        store=PostgresStore(pool, chain=chain),
        audit=PostgresAudit(pool, chain=chain),
        keys=keys,
        ring=ring,
        public_key=(await chain()).public_key,
        work=PostgresWork(pool, chain=chain),
        oauth_states=PostgresOAuthStates(pool),
    )


async def test_the_head_is_the_end_of_the_chain(parts: Parts, pool: Pool, vault: Vault, org: str) -> None:
    async def no_chain() -> Any:
        pytest.fail("a look needs no key")

    audit = PostgresAudit(pool, chain=no_chain)
    assert await audit.head(org) is None
    await vault.connect(org)
    head = await audit.head(org)
    assert isinstance(head, Head)
    assert head == (await chain_of(parts.audit, org))[-1]


async def test_a_database_that_is_slow_takes_events_a_few_at_a_time(
    parts: Parts, database: Database, org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of them at once would take longer than a statement may.
    monkeypatch.setattr(postgres_audit, "IDLE_SECONDS", 0.2)
    await database.admin(
        "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$"
    )
    await database.admin(
        "CREATE TRIGGER be_slow BEFORE INSERT ON audit_events FOR EACH ROW"
        f" WHEN (NEW.org_id = '{org}') EXECUTE FUNCTION be_slow()"
    )
    try:
        events = [event_of(ORIGIN, org_id=org, action="credential.get", version=n + 1) for n in range(400)]
        failed = 0
        while True:
            try:
                await parts.audit.add(events)
                break
            except VaultUnavailable:
                failed += 1
                assert failed < 20
    finally:
        await database.admin("DROP TRIGGER be_slow ON audit_events")
        await database.admin("DROP FUNCTION be_slow")
    assert 0 < failed
    *links, _ = await chain_of(parts.audit, org)
    assert [event.event_id for event in events] == [link.event.event_id for link in links if isinstance(link, Link)]


async def test_events_of_many_orgs_and_many_of_one_are_each_there_once_and_in_order(
    parts: Parts, pool: Pool, org: str
) -> None:
    each = dict.fromkeys((f"{org}-{number}" for number in range(120)), 1) | {org: 1300}
    events = [
        event_of(ORIGIN, org_id=of, action="credential.get", version=n + 1) for of in each for n in range(each[of])
    ]
    random.Random(1).shuffle(events)
    # A part of them is there already: an answer of the database was lost.
    await parts.audit.add(events[:700])
    await parts.audit.add(events)
    for of in (org, f"{org}-0", f"{org}-119"):
        *links, head = await chain_of(parts.audit, of)
        prover = Prover(of)
        for link in links:
            assert isinstance(link, Link)
            prover.add(link)
        assert isinstance(head, Head)
        assert (each[of], prover.last) == (head.sequence, head.hash)
        mine = [event.event_id for event in events if event.org_id == of]
        assert mine == [link.event.event_id for link in links if isinstance(link, Link)]


async def test_under_a_master_key_that_was_retired_meanwhile_nothing_new_is_stored(
    fresh_database: Database, org: str, other_org: str
) -> None:
    async with open_pool(fresh_database.app_url) as pool:
        vault = Vault(await parts_of(pool, Keyring.parse(fresh_database.master_keys)))
        await vault.connect(org)
        await fresh_database.admin("UPDATE master_keys SET state = 'retired'")
        for change in (vault.put(other_org), vault.keeper.rotate_key(org, ORIGIN)):
            with pytest.raises(VaultUnavailable):
                await change
        assert {org: 2} == await vault.store.generations([org, other_org])
        assert [] == await vault.events(other_org)
        # What is under the key already goes on.
        await vault.connect(org, expected=1)
        assert secret(org, "vapi", 2) == (await vault.get(org)).payload


async def test_under_a_master_key_that_is_being_retired_nothing_is_wrapped_anew(
    fresh_database: Database, org: str
) -> None:
    old, new = LocalKey("old", os.urandom(32)), LocalKey("new", os.urandom(32))
    async with open_pool(fresh_database.app_url) as pool:
        ring, keys = Keyring([new, old]), PostgresKeys(pool)
        vault = Vault(await parts_of(pool, ring))
        await vault.connect(org)
        [key] = await keys.keys_under_others("old", after="", at_most=1)
        signing = await keys.signing_key()
        assert signing is not None
        under_old = Keyring([old])
        moved = [await under_old.wrap(each.org_id, each.key_id, await ring.unwrap(each)) for each in (key, signing)]
        db = await asyncpg.connect(fresh_database.app_url)
        try:
            async with asyncio.TaskGroup() as group:
                async with db.transaction():
                    await db.execute("SELECT FROM master_keys WHERE master_key_id = 'old' FOR UPDATE")
                    rewrapping = group.create_task(keys.rewrap([key], moved[:1]))
                    signs = group.create_task(keys.rewrap_signing_key(signing, moved[1]))
                    await eventually(lambda: waiting_for_locks(fresh_database, 2))
                    await db.execute("UPDATE master_keys SET state = 'retired' WHERE master_key_id = 'old'")
                assert 0 == await rewrapping
                await signs
        finally:
            await db.close()
        assert [key] == await keys.keys_under_others("old", after="", at_most=1)
        assert signing == await keys.signing_key()
        assert secret(org, "vapi", 1) == (await vault.get(org)).payload
        # Under one that is not, they are.
        await fresh_database.admin("UPDATE master_keys SET state = 'active' WHERE master_key_id = 'old'")
        assert 1 == await keys.rewrap([key], moved[:1])
        await keys.rewrap_signing_key(signing, moved[1])
        assert moved == [*await keys.keys_under_others("new", after="", at_most=1), await keys.signing_key()]


@pytest.mark.parametrize(
    "edit",
    [
        # With the record that belongs to it.
        (
            "version = 1, encrypted_config = (SELECT encrypted_config FROM credential_versions v"
            " WHERE v.org_id = $1 AND v.version = 1 AND v.provider = 'vapi')"
        ),
        "latest_version = 3",
        "latest_version = -1",
        "is_active = false",
        "previous_version = 0",
        "previous_version = -1",
        "previous_until = previous_until + interval '1 microsecond'",
        "previous_until = NULL",
        "previous_until = '1969-12-31'",
        "previous_until = 'infinity'",
        "previous_until = '-infinity'",
        "registered = 2",
        "registered = -1",
        "resources = 0",
        "resources = -1",
        "mac = ''",
        "mac = mac || '\\x00'",
    ],
)
async def test_a_pointer_that_was_edited_is_not_followed_and_does_not_stop_an_operator(
    parts: Parts, database: Database, org: str, edit: str
) -> None:
    vault, resource = Vault(parts, overlap=HOUR), assistant()
    await vault.connect(org, resource)
    await vault.connect(org, resource, expected=1)
    await vault.connect(org, provider="twilio")
    await database.admin(
        f"UPDATE org_credentials SET {edit} WHERE org_id = $1 AND provider = 'vapi'",
        org,
    )
    for ask in (vault.get(org), vault.get_newest(org)):
        with pytest.raises(CredentialUnreadable):
            await ask
    [outcome] = await vault.reader.batch_get([(org, "vapi")], ORIGIN)
    assert isinstance(outcome, CredentialUnreadable)
    assert {"pointer": 3} == {name: number for name, number in asdict(vault.reader.violations).items() if number}
    assert [(org, "integrity.violation", "pointer")] * 3 == [
        (of, action, outcome) for of, _, _, action, outcome in vault.log.written
    ]
    assert secret(org, "twilio", 1) == (await vault.get(org, provider="twilio")).payload
    assert 7 == await vault.keeper.freeze(org, ORIGIN)
    assert 8 == await vault.keeper.unfreeze(org, ORIGIN)
    with pytest.raises(CredentialUnreadable):
        await vault.get(org)
    [latest] = await database.admin(
        "SELECT latest_version FROM org_credentials WHERE org_id = $1 AND provider = 'vapi'", org
    )
    if latest["latest_version"] != 2:
        return
    await vault.activate(org, 2, resource)
    assert (secret(org, "vapi", 2), None) == (
        (await vault.get(org, include_previous=True)).payload,
        (await vault.get(org, include_previous=True)).previous,
    )
    assert org == await vault.owner(resource)


@pytest.mark.parametrize(
    "edit",
    [
        "encrypted_config = ''",
        "encrypted_config = encrypted_config || '\\x00'",
        "encrypted_config = (SELECT encrypted_config FROM credential_versions WHERE org_id = $1 AND version = 1)",
    ],
)
async def test_a_record_that_was_edited_does_not_open_and_is_taken_from_its_version_by_the_next_change(
    parts: Parts, database: Database, org: str, edit: str
) -> None:
    vault = Vault(parts)
    await vault.connect(org)
    await vault.connect(org, expected=1)
    await database.admin(f"UPDATE org_credentials SET {edit} WHERE org_id = $1", org)
    with pytest.raises(CredentialUnreadable):
        await vault.get(org)
    assert {"record": 1} == {name: number for name, number in asdict(vault.reader.violations).items() if number}
    assert secret(org, "vapi", 2) == (await vault.get_newest(org)).payload
    await vault.verify(org, 2)
    assert secret(org, "vapi", 2) == (await vault.get(org)).payload


PAUSED = """
    ALTER FUNCTION resolve_resources(text[], text[]) RENAME TO resolve_resources_itself;
    CREATE FUNCTION resolve_resources(wanted_kinds text[], wanted_ids text[])
        RETURNS TABLE (place int, org_id text, provider text, role text, mac bytea)
        LANGUAGE plpgsql STABLE
        AS $$
    BEGIN
        RETURN QUERY SELECT * FROM resolve_resources_itself(wanted_kinds, wanted_ids);
        PERFORM pg_advisory_xact_lock_shared(1);
    END $$;
"""
"""A look-up that stops between its two looks, while somebody holds the lock."""


@pytest.mark.parametrize(
    "change",
    [
        lambda vault, org, resource: vault.activate(org, 1, resource),
        lambda vault, org, resource: vault.keeper.rotate_key(org, ORIGIN),
        lambda vault, org, resource: vault.verify(org),
    ],
    ids=["register again", "rotate the key", "verify"],
)
async def test_a_look_up_sees_one_moment_although_it_looks_twice(
    fresh_database: Database, org: str, change: Callable[..., Awaitable[object]]
) -> None:
    db = await asyncpg.connect(fresh_database.admin_url)
    try:
        async with open_pool(fresh_database.app_url) as pool:
            vault, resource = Vault(await parts_of(pool, Keyring.parse(fresh_database.master_keys))), assistant()
            await vault.connect(org, resource)
            await db.execute(PAUSED)
            await db.execute("SELECT pg_advisory_lock(1)")
            asking = asyncio.ensure_future(vault.owner(resource))
            await eventually(lambda: waiting_for_locks(fresh_database, 1))
            await change(vault, org, resource)
            await db.execute("SELECT pg_advisory_unlock(1)")
            assert org == await asking
            assert not any(asdict(vault.reader.violations).values())
    finally:
        await db.close()


def a_verb(draw: random.Random, org: str) -> Callable[[Vault], Awaitable[object]]:
    """Some verb with arguments that often fit, the same for each vault that it is done to."""
    provider, version, expected = draw.choice(["vapi", "twilio"]), draw.randint(1, 4), draw.randint(0, 4)
    resources = [replace(assistant(), resource_id=f"{draw.choice('ab')}{n}") for n in range(draw.randint(0, 2))]
    payload, error = draw.choice([b"one", b"two"]), draw.choice(["", "No."])
    due_in, by_hand = draw.choice([timedelta(), HOUR]), draw.choice([True, False, False])
    tasks = draw.sample([*Task], draw.randint(0, 3))
    schedule = draw.choice([None, [ScheduledWork(task=task, due_in=due_in, by_hand=by_hand) for task in tasks]])
    facts = Facts(reason=error and "NO", warnings=("Soon over.",) * len(tasks), account=draw.choice([None, "", "ada"]))
    piece, lease = Piece(org, provider, draw.choice([*Task])), draw.choice([timedelta(), HOUR])
    finish = Finish(due_in=due_in, failed=draw.choice([True, False]), progress="done")
    verbs: list[Callable[[Vault], Awaitable[object]]] = [
        lambda vault: vault.put(org, payload, provider=provider, expected=expected),
        lambda vault: vault.put(org, payload, provider=provider, expected=expected),
        lambda vault: vault.activate(org, version, *resources, provider=provider),
        lambda vault: vault.activate(org, version, *resources, provider=provider),
        lambda vault: vault.activate(org, version, provider=provider, lease_owner="worker"),
        lambda vault: vault.activate(org, version, provider=provider, schedule=schedule, facts=facts),
        lambda vault: vault.activate(org, version, provider=provider, schedule=schedule, facts=facts),
        lambda vault: vault.keeper.record_verification(org, provider, version, replace(facts, error=error), ORIGIN),
        lambda vault: vault.refresh(org, payload, version, provider=provider),
        lambda vault: vault.parts.work.finish(piece, "worker", finish),
        lambda vault: vault.parts.work.keep_progress(piece, "worker", "half"),
        lambda vault: vault.parts.work.report_failure(org, provider, version, ORIGIN),
        lambda vault: taken(vault, lease),
        lambda vault: taken(vault, lease),
        lambda vault: vault.disconnect(org, provider=provider),
        lambda vault: vault.reconnect(org, provider=provider),
        lambda vault: vault.roll_back(org, version, expected=expected, provider=provider),
        lambda vault: vault.destroy(org, version, provider=provider),
        lambda vault: vault.keeper.freeze(org, ORIGIN),
        lambda vault: vault.keeper.unfreeze(org, ORIGIN),
        lambda vault: vault.keeper.unfreeze(org, ORIGIN),
        lambda vault: vault.keeper.rotate_key(org, ORIGIN),
        lambda vault: vault.rotations.run(),
        lambda vault: vault.store.acquire_lease(org, provider, "worker", 60),
        lambda vault: vault.store.release_lease(org, provider, "worker"),
    ]
    return draw.choice(verbs)


async def taken(vault: Vault, lease: timedelta) -> frozenset[object]:
    """All work that is due, taken: whose it is, how often it was, and how far it had come."""
    found = await vault.parts.work.claim("worker", lease, at_most=100)
    return frozenset(
        (each.piece.org_id, each.piece.provider, each.piece.task.value, each.attempts, each.progress) for each in found
    )


async def outcome_of(verb: Awaitable[object]) -> str:
    try:
        result = await verb
    except TenantVaultError as error:
        return error.reason
    if isinstance(result, frozenset):
        return f"ok: {sorted(result)}"
    # What another verb returns is chance, e.g. a key's id, or is seen in the whole.
    return f"ok: {type(result).__name__}"


async def whole(vault: Vault, orgs: list[str]) -> object:
    """All that can be seen of orgs and does not hang on the moment or on chance."""
    found: list[object] = [await vault.store.generations(orgs)]
    for org in orgs:
        found.extend(
            (
                replace(
                    each,
                    resources=sorted(each.resources, key=repr),
                    connected_at=None,
                    last_verified_at=None,
                    rotation_due_at=None,
                ),
                each.rotation_due_at is None,
            )
            for each in await vault.store.integrations(org)
        )
        for provider in ("vapi", "twilio"):
            found.extend(
                (each.version, each.hint, each.state, each.was_active, each.destroyed_at is not None)
                for each in await vault.store.versions(org, provider)
            )
            try:
                found.append((await vault.get(org, provider=provider)).payload)
            except TenantVaultError as error:
                found.append(error.reason)
            for newest in (False, True):
                [stored] = await vault.store.read([(org, provider)], newest=newest)
                if stored is None:
                    continue
                pointer = replace(stored.pointer, previous_until=None)
                until = stored.pointer.previous_until is not None
                records = [record and record.name.version for record in (stored.record, stored.previous)]
                found.append((stored.org_state, stored.generation, pointer, until, records))
                found.append(stored.key is None or await vault.envelope.trusts(stored))
                found.append(sorted(repr(mapping.resource) for mapping in stored.mappings))
        for resource_id in ("a0", "a1", "b0", "b1"):
            [resolved] = await vault.store.resolve([("vapi_assistant", resource_id)], "vapi")
            found.append(resolved and (resolved.mapping.org_id, resolved.mapping.provider, resolved.credential is None))
        found.append(
            [
                (link.sequence, link.event.action, link.event.provider, link.event.version, link.event.outcome)
                for link in await chain_of(vault.parts.audit, org)
                if isinstance(link, Link)
            ]
        )
        found.append(await vault.parts.audit.generation(org))
        key, old = await vault.parts.keys.records_under_old_keys(org, at_most=100)
        found.append((key is None, sorted((record.name.provider, record.name.version) for record in old)))
    return found


@pytest.mark.parametrize("seed", range(2))
async def test_it_does_what_the_store_in_memory_does(seed: int, fresh_database: Database) -> None:
    draw, orgs = random.Random(seed), ["acme", "globex"]
    async with open_pool(fresh_database.app_url) as pool:
        ring = Keyring.parse(fresh_database.master_keys)
        memory = MemoryStore()
        vaults = [
            Vault(parts, overlap=HOUR)
            for parts in (
                await parts_of(pool, ring),
                Parts(memory, memory, memory, ring, b"", memory.work, memory.oauth_states),
            )
        ]
        done: list[str] = []
        for _ in range(120):
            verb = a_verb(draw, draw.choice(orgs))
            outcomes = [await outcome_of(verb(vault)) for vault in vaults]
            done.append(outcomes[0])
            assert outcomes[0] == outcomes[1], done
            seen = [await whole(vault, orgs) for vault in vaults]
            assert seen[0] == seen[1], done
        # It was no row of refusals.
        assert sum(outcome.startswith("ok") for outcome in done) > 40
        for vault in vaults:
            await vault.keeper.shred("acme", ORIGIN)
        assert await whole(vaults[0], orgs) == await whole(vaults[1], orgs)


async def test_of_four_workers_each_gets_work_that_no_other_has(fresh_database: Database) -> None:
    await forced(
        fresh_database,
        "INSERT INTO orgs (org_id) SELECT 'org-' || n FROM generate_series(1, 300) n;"
        " INSERT INTO org_credentials (org_id, provider, version, key_id, encrypted_config, is_active)"
        " SELECT 'org-' || n, 'vapi', 1, 'k', 'x', true FROM generate_series(1, 300) n;"
        " INSERT INTO tasks (org_id, provider, task, due_at)"
        " SELECT 'org-' || n, 'vapi', 'verify', now() - n * interval '1 minute' FROM generate_series(1, 300) n",
    )
    async with open_pool(fresh_database.app_url) as pool:
        parts = await parts_of(pool, Keyring.parse(fresh_database.master_keys))

        async def work_through(owner: str) -> list[str]:
            orgs: list[str] = []
            while found := await parts.work.claim(owner, HOUR, at_most=7):
                assert sorted(each.due_at for each in found) == [each.due_at for each in found]
                orgs.extend(each.piece.org_id for each in found)
            return orgs

        found = await asyncio.gather(*(work_through(f"worker-{number}") for number in range(4)))
    assert all(found)
    assert [f"org-{number}" for number in range(1, 301)] == sorted(
        (org for orgs in found for org in orgs), key=lambda org: int(org.removeprefix("org-"))
    )
    rows = await fresh_database.admin("SELECT owner, count(*) AS number, max(attempts) AS most FROM tasks GROUP BY 1")
    assert {(f"worker-{number}", len(orgs), 1) for number, orgs in enumerate(found)} == {
        (row["owner"], row["number"], row["most"]) for row in rows
    }


async def test_work_that_somebody_else_is_about_to_take_is_passed_by_and_not_waited_for(
    database: Database, vault: Vault, org: str, other_org: str
) -> None:
    for of in (org, other_org):
        await vault.connect(of, schedule=[ScheduledWork(task=Task.VERIFY, due_in=timedelta())])
    db = await asyncpg.connect(database.admin_url)
    try:
        async with db.transaction():
            await db.execute("SELECT FROM tasks WHERE org_id = $1 FOR UPDATE", org)
            assert [other_org] == [each.piece.org_id for each in await claimed(vault.parts.work, org, other_org)]
    finally:
        await db.close()
    assert [org] == [each.piece.org_id for each in await claimed(vault.parts.work, org, other_org)]


async def test_looking_for_work_does_not_come_past_what_waits(database: Database, vault: Vault, org: str) -> None:
    """The index has only what would be done; the integration and the org still have the last word."""

    async def waiting() -> dict[str, bool]:
        rows = await database.admin(
            "SELECT provider, bool_and(waits) AS waits FROM tasks WHERE org_id = $1 GROUP BY 1", org
        )
        return {row["provider"]: row["waits"] for row in rows}

    schedule = [ScheduledWork(task=task, due_in=HOUR) for task in Task]
    for provider in ("vapi", "twilio"):
        await vault.connect(org, provider=provider, schedule=schedule)
    neither, vapi, both = (
        {"vapi": first, "twilio": second} for first, second in ((False, False), (True, False), (True, True))
    )
    assert neither == await waiting()
    await vault.disconnect(org)
    assert vapi == await waiting()
    await vault.keeper.freeze(org, ORIGIN)
    assert both == await waiting()
    await vault.keeper.unfreeze(org, ORIGIN)
    assert vapi == await waiting()
    await vault.reconnect(org)
    assert neither == await waiting()
    # Taken up again by a new version, with the schedule that it had.
    await vault.disconnect(org)
    await vault.connect(org, expected=3)
    assert neither == await waiting()
    [index] = await database.admin(
        "SELECT pg_get_expr(indpred, indrelid) AS of FROM pg_index WHERE indexrelid = 'tasks_due'::regclass"
    )
    assert "((NOT by_hand) AND (NOT waits))" == index["of"]
