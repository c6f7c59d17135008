"""What is read; what changes is in test_keeper."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.vault import reader as reader_module
from services.vault.credential import (
    Mapping,
    OrgKey,
    OrgState,
    Origin,
    Plaintext,
    Resolved,
    Stored,
)
from services.vault.fleet import Sync
from services.vault.memory import MemoryStore, _Row
from services.vault.reader import Owner, Readable
from services.vault.seal import Record
from tenantvault.errors import (
    AuditUnavailable,
    CredentialNotFound,
    CredentialUnreadable,
    OrgFrozen,
    OrgShredded,
    ResourceNotFound,
    TenantVaultError,
    VaultUnavailable,
)
from tests.suites.store_exam import HOUR, ORIGIN, Log, secret
from tests.unit.services.vault.test_keeper import INBOUND, KIND, SECRET, MemoryVault

GLOBEX = replace(INBOUND, resource_id="assistant-2")
OK = ("credential.get", "ok")


class CountingStore(MemoryStore):
    """A store that counts how often it is asked, waits until it is let go, and may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.away = False
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, keys: Sequence[tuple[str, str]], *, newest: bool = False) -> Sequence[Stored | None]:
        self.asked["read"] += 1
        found = await super().read(keys, newest=newest)
        await self._pass()
        return found

    async def resolve(self, keys: Sequence[tuple[str, str]], provider: str | None) -> Sequence[Resolved | None]:
        self.asked["resolve"] += 1
        found = await super().resolve(keys, provider)
        await self._pass()
        return found

    def begin(self) -> None:
        """Count from here."""
        self.asked.clear()
        self.reached.clear()

    async def _pass(self) -> None:
        """What was found so far is found, whatever happens until the gate opens."""
        if self.away:
            raise VaultUnavailable
        self.reached.set()
        # The one that stands there now: another may be put in its place for those who come later.
        gate = self.gate
        await gate.wait()


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def vault(store: CountingStore) -> MemoryVault:
    return MemoryVault(store)


@pytest.fixture
async def connected(vault: MemoryVault, store: CountingStore) -> MemoryVault:
    """Acme with an assistant and two providers, globex with one."""
    await vault.connect("acme", INBOUND, payload=SECRET)
    await vault.connect("acme", provider="twilio")
    await vault.connect("globex", GLOBEX)
    store.begin()
    return vault


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[logging.LogRecord]]]:
    """The records of the vault's log; no secret may be in any."""
    with caplog.at_level(logging.DEBUG, logger="services.vault"):
        yield lambda: caplog.records
    for record in caplog.records:
        assert "canary" not in str(vars(record))


async def test_a_connected_credential_comes_out_with_all_that_belongs_to_it(connected: MemoryVault) -> None:
    got = await connected.get("acme")
    verified = connected.row().facts["vapi"].last_verified_at
    assert verified is not None
    assert (SECRET, "acme", "vapi", 1, [INBOUND], verified, 4, False, None) == (
        got.payload,
        got.label.name.org_id,
        got.label.name.provider,
        got.label.name.version,
        list(got.label.resources),
        got.label.last_verified_at,
        got.label.generation,
        got.served_stale,
        got.previous,
    )
    assert [("acme", "vapi", 1, *OK)] == connected.log.written


async def test_a_plaintext_does_not_show_itself(connected: MemoryVault) -> None:
    connected.keeper._overlap = HOUR
    await connected.connect("acme", payload=b"canary-2", expected=1)
    got = await connected.get("acme", include_previous=True)
    assert got.previous is not None
    assert (b"canary-2", SECRET) == (got.payload, got.previous.payload)
    assert "canary" not in f"{got!r} {got} {got.previous!r} {got.previous}"
    assert "canary" not in repr(vars(connected.credentials))


async def test_what_is_remembered_is_ciphertext(connected: MemoryVault) -> None:
    await connected.get("acme")
    [readable] = connected.credentials._values.values()
    assert isinstance(readable, Readable)
    assert isinstance(readable.record, Record)
    assert SECRET not in readable.record._ciphertext


async def test_a_version_that_is_not_active_is_got_as_the_newest_only(vault: MemoryVault) -> None:
    await vault.put("acme", SECRET)
    with pytest.raises(CredentialNotFound):
        await vault.get("acme")
    assert SECRET == (await vault.get_newest("acme")).payload
    assert [("acme", "vapi", 1, "credential.get_newest", "ok")] == vault.log.written


async def test_where_nothing_is_stored_nothing_is_got_and_nothing_is_audited(vault: MemoryVault) -> None:
    for get in (vault.get, vault.get_newest):
        with pytest.raises(CredentialNotFound):
            await get("acme")
    assert [] == vault.log.written


# How often the store is asked.


async def test_a_read_asks_the_store_once_and_a_repeated_one_not_at_all(
    connected: MemoryVault, store: CountingStore
) -> None:
    for _ in range(3):
        assert SECRET == (await connected.get("acme")).payload
    assert {"read": 1} == store.asked
    assert 3 == len(connected.log.written)


async def test_a_read_of_the_newest_is_not_remembered(connected: MemoryVault, store: CountingStore) -> None:
    for _ in range(2):
        await connected.get_newest("acme")
    assert {"read": 2} == store.asked


async def test_a_credential_of_a_resource_takes_one_call_and_from_memory_none(
    connected: MemoryVault, store: CountingStore
) -> None:
    for provider, payload in (("vapi", SECRET), ("vapi", SECRET)):
        assert payload == (await connected.resolve_credential(INBOUND, provider=provider)).payload
    assert {"resolve": 1} == store.asked
    assert SECRET == (await connected.get("acme")).payload
    assert "acme" == await connected.owner(INBOUND)
    assert {"resolve": 1} == store.asked
    assert [("acme", "vapi", 1, "credential.resolve", "ok")] * 2 == connected.log.written[:2]


async def test_a_credential_of_another_provider_is_read_when_only_the_owner_is_remembered(
    connected: MemoryVault, store: CountingStore
) -> None:
    await connected.owner(INBOUND)
    assert SECRET == (await connected.resolve_credential(INBOUND)).payload
    assert {"resolve": 1, "read": 1} == store.asked
    assert secret("acme", "twilio", 1) == (await connected.resolve_credential(INBOUND, provider="twilio")).payload
    assert {"resolve": 1, "read": 2} == store.asked


async def test_whoever_comes_to_a_look_up_that_is_under_way_reads_what_it_brought(
    connected: MemoryVault, store: CountingStore
) -> None:
    store.gate.clear()
    asking = [asyncio.ensure_future(connected.resolve_credential(INBOUND)) for _ in range(5)]
    await store.reached.wait()
    store.gate.set()
    assert {SECRET} == {got.payload for got in await asyncio.gather(*asking)}
    assert {"resolve": 1} == store.asked
    assert 5 == len(connected.log.written)


async def test_what_changed_while_it_was_read_is_given_and_not_asked_for_again(
    connected: MemoryVault, store: CountingStore
) -> None:
    store.gate.clear()
    asking = asyncio.ensure_future(connected.resolve_credential(INBOUND))
    await store.reached.wait()
    connected.forget("acme")
    store.gate.set()
    assert SECRET == (await asking).payload
    assert {"resolve": 1} == store.asked
    # But it is not kept.
    await connected.get("acme")
    assert {"resolve": 1, "read": 1} == store.asked


async def test_who_wants_nothing_old_asks_each_time(connected: MemoryVault, store: CountingStore) -> None:
    now = connected.credentials._timer()
    sync = Sync(synced_at=now - 1, fresh_until=now + HOUR.total_seconds())
    connected.credentials._freshness = connected.directory._freshness = sync
    for _ in range(2):
        await connected.reader.get("acme", "vapi", ORIGIN, max_staleness=0)
        await connected.reader.resolve_credential(KIND, INBOUND.resource_id, "vapi", ORIGIN, max_staleness=0)
        await connected.reader.batch_get([("acme", "vapi")], ORIGIN, max_staleness=0)
    assert {"read": 4, "resolve": 2} == store.asked


async def test_what_a_database_that_is_away_leaves_is_served_as_stale(
    connected: MemoryVault, store: CountingStore
) -> None:
    now = connected.credentials._timer()
    sync = Sync(synced_at=now, fresh_until=now + HOUR.total_seconds())
    connected.credentials._freshness = connected.directory._freshness = sync
    assert not (await connected.resolve_credential(INBOUND)).served_stale
    sync.lose()
    store.away = True
    for got in (
        await connected.get("acme"),
        await connected.resolve_credential(INBOUND),
        *(await connected.reader.batch_get([("acme", "vapi")], ORIGIN)),
    ):
        assert isinstance(got, Plaintext)
        assert (True, SECRET) == (got.served_stale, got.payload)
    with pytest.raises(VaultUnavailable):
        await connected.get("globex")
    with pytest.raises(VaultUnavailable):
        await connected.reader.get("acme", "vapi", ORIGIN, max_staleness=0)


async def test_a_credential_is_stale_when_only_its_owner_is(connected: MemoryVault, store: CountingStore) -> None:
    now = connected.credentials._timer()
    await connected.resolve_credential(INBOUND)
    connected.directory._freshness = Sync(synced_at=now)
    store.away = True
    assert (await connected.resolve_credential(INBOUND)).served_stale
    assert not (await connected.get("acme")).served_stale


# Batches.


async def test_a_batch_gives_each_key_its_own_outcome_in_one_call(connected: MemoryVault, store: CountingStore) -> None:
    await connected.connect("frozen")
    await connected.keeper.freeze("frozen", ORIGIN)
    await connected.connect("shredded")
    await connected.keeper.shred("shredded", ORIGIN)
    await connected.connect("damaged")
    connected.reseal(b"garbage", org="damaged")
    store.begin()
    keys = [
        ("globex", "vapi"),
        ("acme", "vapi"),
        ("nobody", "vapi"),
        ("acme", "resend"),
        ("frozen", "vapi"),
        ("shredded", "vapi"),
        ("damaged", "vapi"),
        ("acme", "twilio"),
        ("acme", "vapi"),
        ("nobody", "vapi"),
    ]
    outcomes = await connected.reader.batch_get(keys, ORIGIN)
    assert [
        secret("globex", "vapi", 1),
        SECRET,
        CredentialNotFound,
        CredentialNotFound,
        OrgFrozen,
        OrgShredded,
        CredentialUnreadable,
        secret("acme", "twilio", 1),
        SECRET,
        CredentialNotFound,
    ] == [one.payload if isinstance(one, Plaintext) else type(one) for one in outcomes]
    assert {"read": 1} == store.asked
    assert [
        ("damaged", "vapi", 1, "integrity.violation", "record"),
        ("globex", "vapi", 1, *OK),
        ("acme", "vapi", 1, *OK),
        ("acme", "twilio", 1, *OK),
        ("acme", "vapi", 1, *OK),
    ] == connected.log.written
    again = await connected.reader.batch_get(keys, ORIGIN)
    assert [type(one) for one in outcomes] == [type(one) for one in again]
    assert {"read": 1} == store.asked


class KeyServices:
    """Unwraps keys, but for the orgs and keys in `away`; those in `hanging` wait, and are then in `waiting`."""

    def __init__(self, vault: MemoryVault, monkeypatch: pytest.MonkeyPatch) -> None:
        self._unwrap = vault.envelope._master_keys.unwrap
        self.away: set[str] = set()
        self.hanging: dict[str, asyncio.Event] = {}
        self.waiting: set[str] = set()
        for org in ("acme", "globex"):
            vault.envelope.forget(org)
        monkeypatch.setattr(vault.envelope._master_keys, "unwrap", self.unwrap)

    async def unwrap(self, key: OrgKey) -> bytes:
        if gate := self.hanging.get(key.org_id):
            self.waiting.add(key.org_id)
            await gate.wait()
        if {key.org_id, key.key_id} & self.away:
            raise VaultUnavailable
        return await self._unwrap(key)

    async def all_wait(self) -> None:
        async with asyncio.timeout(30):
            while self.waiting != self.hanging.keys():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0)


@pytest.fixture
def services(connected: MemoryVault, monkeypatch: pytest.MonkeyPatch) -> KeyServices:
    return KeyServices(connected, monkeypatch)


BOTH = [("acme", "vapi"), ("globex", "vapi")]


def told(outcomes: Sequence[Plaintext | Owner | TenantVaultError]) -> list[bytes | str | type[TenantVaultError]]:
    return [
        one.payload if isinstance(one, Plaintext) else one.org_id if isinstance(one, Owner) else type(one)
        for one in outcomes
    ]


async def test_a_key_service_that_is_away_fails_the_reads_of_its_orgs_only(
    connected: MemoryVault, services: KeyServices, store: CountingStore
) -> None:
    services.away.add("acme")
    reader = connected.reader
    for _ in range(2):
        assert [VaultUnavailable, secret("globex", "vapi", 1)] == told(await reader.batch_get(BOTH, ORIGIN))
        resources = [(KIND, "assistant-1"), (KIND, "assistant-2")]
        assert [VaultUnavailable, "globex"] == told(await reader.batch_resolve(resources, ORIGIN))
        for ask in (connected.get("acme"), connected.get_newest("acme"), connected.resolve_credential(INBOUND)):
            with pytest.raises(VaultUnavailable):
                await ask
    services.away.clear()
    # Nothing of it is remembered.
    assert [SECRET, secret("globex", "vapi", 1)] == told(await reader.batch_get(BOTH, ORIGIN))
    assert SECRET == (await connected.resolve_credential(INBOUND)).payload
    assert {"acme": 2, "globex": 3} == Counter(org for org, *_, action, _ in connected.log.written)


async def test_who_comes_to_a_batch_under_way_does_not_fail_with_another_orgs_key_service(
    connected: MemoryVault, services: KeyServices, store: CountingStore
) -> None:
    services.away.add("acme")
    store.gate.clear()
    batch = asyncio.ensure_future(connected.reader.batch_get(BOTH, ORIGIN))
    await store.reached.wait()
    joined = asyncio.ensure_future(connected.get("globex"))
    other = asyncio.ensure_future(connected.get("acme"))
    await asyncio.sleep(0)
    store.gate.set()
    assert secret("globex", "vapi", 1) == (await joined).payload
    with pytest.raises(VaultUnavailable):
        await other
    assert [VaultUnavailable, secret("globex", "vapi", 1)] == told(await batch)
    assert {"read": 1} == store.asked


async def test_a_batch_that_comes_to_a_read_under_way_does_not_fail_with_its_key_service(
    connected: MemoryVault, services: KeyServices, store: CountingStore
) -> None:
    services.away.add("acme")
    store.gate.clear()
    alone = asyncio.ensure_future(connected.get("acme"))
    await store.reached.wait()
    batch = asyncio.ensure_future(connected.reader.batch_get(BOTH, ORIGIN))
    await asyncio.sleep(0)
    store.gate.set()
    assert [VaultUnavailable, secret("globex", "vapi", 1)] == told(await batch)
    with pytest.raises(VaultUnavailable):
        await alone


async def test_what_a_key_service_that_is_away_leaves_is_served_as_stale(
    connected: MemoryVault, services: KeyServices
) -> None:
    now = connected.credentials._timer()
    sync = Sync(synced_at=now, fresh_until=now + HOUR.total_seconds())
    connected.credentials._freshness = connected.directory._freshness = sync
    await connected.resolve_credential(INBOUND)
    sync.lose()
    connected.envelope.forget("acme")
    services.away.add("acme")
    for got in (
        await connected.get("acme"),
        await connected.resolve_credential(INBOUND),
        *(await connected.reader.batch_get([("acme", "vapi")], ORIGIN)),
    ):
        assert isinstance(got, Plaintext)
        assert (True, SECRET) == (got.served_stale, got.payload)
    with pytest.raises(VaultUnavailable):
        await connected.reader.get("acme", "vapi", ORIGIN, max_staleness=0)


async def test_a_record_whose_own_key_cannot_be_had_now_is_served_as_stale_for_an_owner_that_is_not(
    connected: MemoryVault, services: KeyServices
) -> None:
    old = connected.row().current_key
    await connected.keeper.rotate_key("acme", ORIGIN)
    now = connected.credentials._timer()
    sync = Sync(synced_at=now, fresh_until=now + HOUR.total_seconds())
    connected.credentials._freshness = connected.directory._freshness = sync
    await connected.resolve_credential(INBOUND)
    sync.lose()
    connected.envelope.forget("acme")
    services.away.add(old)
    got = await connected.resolve_credential(INBOUND)
    assert (True, SECRET) == (got.served_stale, got.payload)
    assert "acme" == await connected.owner(INBOUND)


async def test_the_orgs_of_a_batch_do_not_wait_for_each_others_key_service(
    connected: MemoryVault, services: KeyServices
) -> None:
    services.hanging = {"acme": asyncio.Event(), "globex": asyncio.Event()}
    batch = asyncio.ensure_future(connected.reader.batch_get([("acme", "twilio"), *BOTH], ORIGIN))
    await services.all_wait()
    for gate in services.hanging.values():
        gate.set()
    assert [secret("acme", "twilio", 1), SECRET, secret("globex", "vapi", 1)] == told(await batch)


async def test_a_key_service_that_hangs_does_not_hold_up_the_rest_of_a_batch(
    connected: MemoryVault, services: KeyServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_CHECK_SECONDS", 0.01)
    services.hanging = {"acme": asyncio.Event()}
    keys = [("acme", "twilio"), *BOTH]
    assert [VaultUnavailable, VaultUnavailable, secret("globex", "vapi", 1)] == told(
        await connected.reader.batch_get(keys, ORIGIN)
    )


async def test_a_batch_whose_check_fails_leaves_nothing_running(
    connected: MemoryVault, services: KeyServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.hanging = {"globex": asyncio.Event()}
    connected.reseal(b"garbage")

    def refuse(*_: object, **__: object) -> None:
        raise AuditUnavailable

    monkeypatch.setattr(connected.log, "write", refuse)
    running = asyncio.all_tasks()
    with pytest.raises(AuditUnavailable):
        await connected.reader.batch_get([BOTH[1], BOTH[0]], ORIGIN)
    await asyncio.sleep(0)
    assert running == asyncio.all_tasks()


async def test_a_batch_of_resources_gives_each_its_own_outcome_in_one_call(
    connected: MemoryVault, store: CountingStore
) -> None:
    frozen = replace(INBOUND, resource_id="assistant-3")
    await connected.connect("frozen", frozen)
    await connected.keeper.freeze("frozen", ORIGIN)
    store.begin()
    keys = [(KIND, name) for name in ("assistant-2", "unknown", "assistant-1", "assistant-3", "assistant-1")]
    outcomes = await connected.reader.batch_resolve(keys, ORIGIN)
    assert ["globex", ResourceNotFound, "acme", OrgFrozen, "acme"] == [
        one.org_id if isinstance(one, Owner) else type(one) for one in outcomes
    ]
    assert {"resolve": 1} == store.asked
    assert await connected.reader.batch_resolve(keys[:1], ORIGIN) == outcomes[:1]
    assert {"resolve": 1} == store.asked
    # Whose a resource is, is no secret.
    assert [] == connected.log.written


async def test_a_resource_resolves_to_its_org_and_role(connected: MemoryVault) -> None:
    owner = await connected.reader.resolve(KIND, INBOUND.resource_id, ORIGIN)
    assert ("acme", INBOUND, False) == (owner.org_id, owner.resource, owner.stale)
    assert owner.generation == (await connected.reader.get("acme", "vapi", ORIGIN)).label.generation


# What there is not.


async def test_whatever_cannot_be_resolved_answers_alike(connected: MemoryVault) -> None:
    await connected.disconnect("acme", provider="twilio")
    moved = replace(INBOUND, resource_id="assistant-4")
    await connected.connect("initech", moved)
    await connected.connect("globex", expected=1)
    edit_mapping(connected, "assistant-4", resource=moved, org_id="globex")
    answers = []
    for resource, provider in (
        (replace(INBOUND, resource_id="unknown"), "vapi"),
        (replace(INBOUND, kind="phone_number"), "vapi"),
        # Let go by globex's second version.
        (GLOBEX, "vapi"),
        (moved, "vapi"),
        (INBOUND, "resend"),
        (INBOUND, "twilio"),
    ):
        for _ in range(2):
            with pytest.raises(ResourceNotFound) as refused:
                await connected.resolve_credential(resource, provider=provider)
            error = refused.value
            assert error.__cause__ is None
            answers.append((type(error), error.message, dict(error.fields), error.retry_after))
    assert 1 == len({str(answer) for answer in answers})
    # The integration by itself is whole.
    assert "acme" == await connected.owner(INBOUND)


async def test_of_a_frozen_org_nothing_is_handed_out(connected: MemoryVault) -> None:
    await connected.get("acme")
    await connected.resolve_credential(INBOUND)
    connected.log.written.clear()
    await connected.keeper.freeze("acme", ORIGIN)
    for _ in range(2):
        for ask in (
            connected.get("acme"),
            connected.get_newest("acme"),
            connected.owner(INBOUND),
            connected.resolve_credential(INBOUND),
            connected.resolve_credential(INBOUND, provider="resend"),
        ):
            with pytest.raises(OrgFrozen):
                await ask
    assert [] == connected.log.written
    assert secret("globex", "vapi", 1) == (await connected.get("globex")).payload
    await connected.keeper.unfreeze("acme", ORIGIN)
    assert SECRET == (await connected.resolve_credential(INBOUND)).payload


async def test_of_a_shredded_org_nothing_is_left(connected: MemoryVault) -> None:
    await connected.keeper.shred("acme", ORIGIN)
    for read in (connected.get("acme"), connected.get_newest("acme")):
        with pytest.raises(OrgShredded):
            await read
    for ask in (connected.owner(INBOUND), connected.resolve_credential(INBOUND)):
        with pytest.raises(ResourceNotFound):
            await ask
    assert [] == connected.log.written


# The version before.


@pytest.fixture
def clock() -> list[datetime]:
    return [datetime(2026, 11, 1, tzinfo=UTC)]


@pytest.fixture
async def rotated(clock: list[datetime]) -> MemoryVault:
    vault = MemoryVault(overlap=HOUR, now=lambda: clock[0])
    await vault.connect("acme", INBOUND, payload=b"canary old")
    await vault.connect("acme", INBOUND, payload=b"canary new", expected=1)
    return vault


async def test_the_version_before_is_given_to_who_asks_for_it(rotated: MemoryVault, clock: list[datetime]) -> None:
    for ask in (
        rotated.reader.get("acme", "vapi", ORIGIN, include_previous=True),
        rotated.reader.resolve_credential(KIND, INBOUND.resource_id, "vapi", ORIGIN, include_previous=True),
        rotated.reader.resolve_credential(KIND, INBOUND.resource_id, "vapi", ORIGIN, include_previous=True),
    ):
        got = await ask
        assert got.previous is not None
        assert (b"canary new", b"canary old", 1, clock[0] + HOUR) == (
            got.payload,
            got.previous.payload,
            got.previous.version,
            got.previous.readable_until,
        )
    # Each plaintext that leaves is one event.
    assert [2, 1, 2, 1, 2, 1] == [version for _, _, version, _, _ in rotated.log.written]
    rotated.log.written.clear()
    for got in (await rotated.get("acme"), await rotated.resolve_credential(INBOUND)):
        assert (b"canary new", None) == (got.payload, got.previous)
    assert [2, 2] == [version for _, _, version, _, _ in rotated.log.written]
    assert (await rotated.get_newest("acme")).previous is None
    [one] = await rotated.reader.batch_get([("acme", "vapi")], ORIGIN)
    assert isinstance(one, Plaintext)
    assert one.previous is None


async def test_the_version_before_is_not_given_longer_than_its_overlap_from_memory_either(
    rotated: MemoryVault, clock: list[datetime]
) -> None:
    assert (await rotated.get("acme", include_previous=True)).previous is not None
    clock[0] += HOUR - timedelta(microseconds=1)
    assert (await rotated.get("acme", include_previous=True)).previous is not None
    clock[0] += timedelta(microseconds=1)
    got = await rotated.get("acme", include_previous=True)
    assert (b"canary new", None) == (got.payload, got.previous)
    rotated.forget("acme")
    got = await rotated.get("acme", include_previous=True)
    assert (b"canary new", None) == (got.payload, got.previous)


async def test_a_first_version_has_none_before_it(connected: MemoryVault) -> None:
    assert (await connected.get("acme", include_previous=True)).previous is None


# No audit, no plaintext.


class RefusingLog(Log):
    """It refuses whatever is to be kept."""

    def write(self, origin: Origin, action: str, reads: Sequence[tuple[str, str, int]], *, outcome: str = "ok") -> None:
        super().write(origin, action, reads, outcome=outcome)
        if reads:
            raise AuditUnavailable


READS: dict[str, Callable[[MemoryVault], Awaitable[object]]] = {
    "get": lambda vault: vault.get("acme"),
    "get_newest": lambda vault: vault.get_newest("acme"),
    "batch_get": lambda vault: vault.reader.batch_get([("nobody", "vapi"), ("acme", "vapi")], ORIGIN),
    "resolve_credential": lambda vault: vault.resolve_credential(INBOUND),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("remembered", [True, False])
async def test_what_cannot_be_audited_does_not_leave(connected: MemoryVault, read: str, *, remembered: bool) -> None:
    if remembered:
        await READS[read](connected)
    log = RefusingLog()
    connected.reader._log = log
    for _ in range(2):
        with pytest.raises(AuditUnavailable) as refused:
            await READS[read](connected)
        assert "canary" not in str(refused.value.__dict__) + str(refused.value)
    action = "credential.get" if read == "batch_get" else "credential." + read.removesuffix("_credential")
    assert [("acme", "vapi", 1, action, "ok")] * 2 == log.written


async def test_what_hands_nothing_out_needs_no_audit(connected: MemoryVault) -> None:
    connected.reader._log = RefusingLog()
    assert "acme" == await connected.owner(INBOUND)
    with pytest.raises(CredentialNotFound):
        await connected.get("nobody")
    [nothing] = await connected.reader.batch_get([("nobody", "vapi")], ORIGIN)
    assert isinstance(nothing, CredentialNotFound)


async def test_a_violation_that_cannot_be_audited_hands_nothing_out_either(connected: MemoryVault) -> None:
    connected.reseal(b"garbage")
    connected.reader._log = RefusingLog()
    for ask in (connected.get("acme"), connected.reader.batch_get([("acme", "vapi")], ORIGIN)):
        with pytest.raises(AuditUnavailable):
            await ask
    assert 2 == connected.reader.violations.record


async def test_each_event_is_written_before_the_plaintext_leaves_all_of_a_batch_at_once(
    connected: MemoryVault,
) -> None:
    writes: list[list[tuple[str, str, int]]] = []

    class Writes(Log):
        def write(
            self, origin: Origin, action: str, reads: Sequence[tuple[str, str, int]], *, outcome: str = "ok"
        ) -> None:
            writes.append(list(reads))

    connected.reader._log = Writes()
    await connected.reader.batch_get([("acme", "vapi"), ("globex", "vapi"), ("acme", "twilio")], ORIGIN)
    assert [[("acme", "vapi", 1), ("globex", "vapi", 1), ("acme", "twilio", 1)]] == writes


# What somebody else wrote.


def key_of(vault: MemoryVault, org: str) -> str:
    return vault.row(org).current_key


def swap_records(vault: MemoryVault, place: tuple[str, int], org: str, other: tuple[str, int]) -> None:
    """Put a ciphertext in acme's row; the row's name stays."""
    _, sealed = vault.row(org).records[other]
    name, _ = vault.row().records[place]
    vault.row().records[place] = (name, sealed)


def with_its_key(vault: MemoryVault) -> None:
    """Put globex's ciphertext in acme's row, and globex's key beside it under the name of acme's."""
    swap_records(vault, ("vapi", 1), "globex", ("vapi", 1))
    theirs = vault.row("globex").keys[key_of(vault, "globex")]
    name, sealed = vault.row().records["vapi", 1]
    vault.row().records["vapi", 1] = (replace(name, key_id=theirs.key_id), sealed)
    vault.row().keys[theirs.key_id] = replace(theirs, org_id="acme")


def swap_keys(vault: MemoryVault) -> None:
    mine, theirs = (vault.row(org).keys[key_of(vault, org)] for org in ("acme", "globex"))
    vault.row().keys[mine.key_id] = replace(mine, wrapped=theirs.wrapped)


def edit_key(vault: MemoryVault, **changes: Any) -> None:
    key_id = key_of(vault, "acme")
    vault.row().keys[key_id] = replace(vault.row().keys[key_id], **changes)


def edit_org(vault: MemoryVault, **changes: Any) -> None:
    vault.row().org = replace(vault.row().org, **changes)


def copy_mac(vault: MemoryVault, org: str, provider: str) -> None:
    vault.row().macs["vapi"] = vault.row(org).macs[provider]


def edit_mac(vault: MemoryVault, mac: bytes) -> None:
    vault.row().macs["vapi"] = mac


def edit_mapping(vault: MemoryVault, name: str = "assistant-1", **changes: Any) -> None:
    vault.memory._mappings[KIND, name] = replace(vault.memory._mappings[KIND, "assistant-1"], **changes)


def drop_mapping(vault: MemoryVault) -> None:
    del vault.memory._mappings[KIND, "assistant-1"]


def add_mapping(vault: MemoryVault) -> None:
    edit_mapping(vault, "assistant-9", resource=replace(INBOUND, resource_id="assistant-9"))


LATER = datetime(2099, 1, 1, tzinfo=UTC)

# What acme's rows are made into, and what the reader calls that.
TAMPERINGS: dict[str, tuple[str, Callable[[MemoryVault], object]]] = {
    "version": ("pointer", lambda vault: vault.edit(version=1)),
    "latest version": ("pointer", lambda vault: vault.edit(latest_version=3)),
    "inactive": ("pointer", lambda vault: vault.edit(is_active=False)),
    "version before": ("pointer", lambda vault: vault.edit(previous_version=1, previous_until=LATER)),
    "end of the overlap": ("pointer", lambda vault: vault.edit(previous_until=LATER)),
    "time of registering": ("pointer", lambda vault: vault.edit(registered=1)),
    "time below zero": ("pointer", lambda vault: vault.edit(registered=-1)),
    "number of resources": ("pointer", lambda vault: vault.edit(resources=0)),
    "state": ("pointer", lambda vault: edit_org(vault, state=OrgState.FROZEN)),
    "generation ahead": ("pointer", lambda vault: edit_org(vault, generation=9)),
    "generation behind": ("pointer", lambda vault: edit_org(vault, generation=1)),
    "generation below zero": ("pointer", lambda vault: edit_org(vault, generation=-1)),
    "no proof": ("pointer", lambda vault: edit_mac(vault, b"")),
    "short proof": ("pointer", lambda vault: edit_mac(vault, bytes(31))),
    "another proof": ("pointer", lambda vault: edit_mac(vault, bytes(32))),
    "proof of another provider": ("pointer", lambda vault: copy_mac(vault, "acme", "twilio")),
    "proof of another org": ("pointer", lambda vault: copy_mac(vault, "globex", "vapi")),
    "no key": ("pointer", lambda vault: setattr(vault.row(), "current_key", "")),
    "role of a mapping": ("pointer", lambda vault: edit_mapping(vault, resource=replace(INBOUND, role="outbound"))),
    "provider of a mapping": ("pointer", lambda vault: edit_mapping(vault, provider="twilio")),
    "proof of a mapping": ("pointer", lambda vault: edit_mapping(vault, mac=bytes(32))),
    "no proof of a mapping": ("pointer", lambda vault: edit_mapping(vault, mac=b"")),
    "mapping moved away": ("pointer", lambda vault: edit_mapping(vault, org_id="globex")),
    "mapping removed": ("pointer", drop_mapping),
    "mapping added": ("pointer", add_mapping),
    "key of another org": ("org_key", swap_keys),
    "damaged key": ("org_key", lambda vault: edit_key(vault, wrapped=b"garbage")),
    "empty key": ("org_key", lambda vault: edit_key(vault, wrapped=b"")),
    "another master key": ("org_key", lambda vault: edit_key(vault, master_key_id="gone")),
    "another id of the key": ("org_key", lambda vault: edit_key(vault, key_id="another")),
    "ciphertext of another org": ("record", lambda vault: swap_records(vault, ("vapi", 2), "globex", ("vapi", 1))),
    "ciphertext of another provider": (
        "record",
        lambda vault: swap_records(vault, ("vapi", 2), "acme", ("twilio", 1)),
    ),
    "ciphertext of an older version": ("record", lambda vault: swap_records(vault, ("vapi", 2), "acme", ("vapi", 1))),
    "empty ciphertext": ("record", lambda vault: vault.reseal(b"", version=2)),
    "another scheme": (
        "record",
        lambda vault: vault.reseal(b"\x02" + vault.row().records["vapi", 2][1][1:], version=2),
    ),
    "another tag": (
        "record",
        lambda vault: vault.reseal(
            vault.row().records["vapi", 2][1][:-1] + bytes([vault.row().records["vapi", 2][1][-1] ^ 1]), version=2
        ),
    ),
}

SENTENCES = {
    "pointer": "an integration's proof does not hold: its rows were changed by SQL",
    "org_key": "an org's key does not unwrap",
    "record": "a record does not open",
    "mapping": "a mapping's proof does not hold: its row was changed by SQL",
    "rollback": "an org went back in time: its rows are older than what was read before",
}


@pytest.fixture
async def tampered(request: pytest.FixtureRequest, connected: MemoryVault) -> tuple[MemoryVault, str]:
    """Acme with a second version, and with somebody else's doing in its rows."""
    await connected.connect("acme", INBOUND, expected=1)
    kind, tamper = TAMPERINGS[request.param]
    tamper(connected)
    connected.forget("acme")
    connected.log.written.clear()
    return connected, kind


@pytest.mark.parametrize("tampered", TAMPERINGS, indirect=True)
async def test_what_somebody_else_wrote_is_not_handed_out_and_is_told(
    tampered: tuple[MemoryVault, str], logged: Callable[[], list[logging.LogRecord]]
) -> None:
    vault, kind = tampered
    version = vault.row().org.pointers["vapi"].version
    for count, ask in enumerate(
        (vault.get("acme"), vault.get("acme", include_previous=True), vault.get_newest("acme")), start=1
    ):
        with pytest.raises(CredentialUnreadable) as refused:
            await ask
        assert (CredentialUnreadable.sentence, None) == (refused.value.message, refused.value.__cause__)
        assert {kind: count} == {name: number for name, number in asdict(vault.reader.violations).items() if number}
    [outcome] = await vault.reader.batch_get([("acme", "vapi")], ORIGIN)
    assert isinstance(outcome, CredentialUnreadable)

    assert [("acme", "vapi", version, "integrity.violation", kind)] * 4 == vault.log.written
    records = logged()
    assert [SENTENCES[kind]] * 4 == [record.getMessage() for record in records]
    assert [("ERROR", "acme", "vapi", kind, (), None)] * 4 == [
        (r.levelname, vars(r)["org"], vars(r)["provider"], vars(r)["kind"], r.args, r.exc_info) for r in records
    ]
    if kind == "record":
        assert [(2, key_of(vault, "acme"))] * 4 == [(vars(r)["version"], vars(r)["key_id"]) for r in records]


@pytest.mark.parametrize("tampered", TAMPERINGS, indirect=True)
async def test_a_resource_of_what_somebody_else_wrote_is_nobodys(tampered: tuple[MemoryVault, str]) -> None:
    vault, kind = tampered
    if kind == "record":
        # The rows are as they were written, the record is not.
        assert "acme" == await vault.owner(INBOUND)
        with pytest.raises(CredentialUnreadable):
            await vault.resolve_credential(INBOUND)
        assert secret("acme", "twilio", 1) == (await vault.resolve_credential(INBOUND, provider="twilio")).payload
        return
    for ask in (vault.resolve_credential(INBOUND), vault.owner(INBOUND), vault.resolve_credential(INBOUND)):
        with pytest.raises(ResourceNotFound) as refused:
            await ask
        assert ResourceNotFound.sentence == refused.value.message
    assert {"integrity.violation"} >= {action for _, _, _, action, _ in vault.log.written}


@pytest.mark.parametrize("tampered", [name for name in TAMPERINGS if name != "mapping moved away"], indirect=True)
async def test_what_somebody_else_wrote_in_one_org_leaves_the_others_alone(tampered: tuple[MemoryVault, str]) -> None:
    vault, _ = tampered
    assert secret("globex", "vapi", 1) == (await vault.get("globex")).payload
    assert "globex" == await vault.owner(GLOBEX)


@pytest.mark.parametrize("tampered", ["mapping moved away"], indirect=True)
async def test_a_mapping_that_was_moved_to_another_org_is_one_too_many_there(tampered: tuple[MemoryVault, str]) -> None:
    vault, _ = tampered
    with pytest.raises(CredentialUnreadable):
        await vault.get("globex")
    with pytest.raises(ResourceNotFound):
        await vault.owner(GLOBEX)


async def test_a_record_with_another_orgs_key_beside_it_does_not_open(connected: MemoryVault) -> None:
    with_its_key(connected)
    connected.forget("acme")
    with pytest.raises(CredentialUnreadable):
        await connected.get("acme")
    assert 1 == connected.reader.violations.record


async def test_a_record_of_an_old_key_that_was_changed_does_not_open(connected: MemoryVault) -> None:
    old = key_of(connected, "acme")
    await connected.keeper.rotate_key("acme", ORIGIN)
    assert SECRET == (await connected.get("acme")).payload
    connected.row().keys[old] = replace(connected.row().keys[old], wrapped=b"garbage")
    connected.forget("acme")
    with pytest.raises(CredentialUnreadable):
        await connected.get("acme")
    assert {"record": 1} == {name: number for name, number in asdict(connected.reader.violations).items() if number}
    # The rows are vouched for by the new key.
    assert "acme" == await connected.owner(INBOUND)


async def test_a_version_before_that_does_not_open_is_told(rotated: MemoryVault) -> None:
    rotated.reseal(b"garbage", version=1)
    with pytest.raises(CredentialUnreadable):
        await rotated.get("acme")
    assert 1 == rotated.reader.violations.record
    assert [("acme", "vapi", 2, "integrity.violation", "record")] == rotated.log.written


async def test_a_disconnected_integration_that_was_made_active_again_by_sql_is_not_readable(
    connected: MemoryVault,
) -> None:
    await connected.disconnect("acme")
    connected.edit(is_active=True)
    with pytest.raises(CredentialUnreadable):
        await connected.get("acme")


async def test_a_frozen_org_that_was_unfrozen_by_sql_is_not_readable(connected: MemoryVault) -> None:
    await connected.keeper.freeze("acme", ORIGIN)
    edit_org(connected, state=OrgState.ACTIVE)
    connected.forget("acme")
    with pytest.raises(CredentialUnreadable):
        await connected.get("acme")
    with pytest.raises(ResourceNotFound):
        await connected.owner(INBOUND)


async def test_a_mapping_that_stands_for_another_orgs_resource_is_no_mapping(
    connected: MemoryVault, logged: Callable[[], list[logging.LogRecord]]
) -> None:
    """Two rows of one integration that changed places, so that neither set of rows shows it."""
    connected.edit(resources=1)
    store = connected.memory
    real = store._resolved

    def forged(mapping: Mapping | None, provider: str | None) -> Resolved | None:
        found = real(mapping, provider)
        return found and replace(found, mapping=replace(found.mapping, resource=replace(INBOUND, role="outbound")))

    store._resolved = forged  # type: ignore[method-assign]  # what a row of the directory says
    for ask in (connected.owner(INBOUND), connected.resolve_credential(INBOUND)):
        connected.forget("acme")
        with pytest.raises(ResourceNotFound):
            await ask
    assert 2 == connected.reader.violations.mapping
    assert [("acme", "vapi", 1, "integrity.violation", "mapping")] * 2 == connected.log.written
    assert [SENTENCES["mapping"]] * 2 == [record.getMessage() for record in logged()]


async def test_damage_of_one_provider_does_not_reach_who_asks_for_another_at_the_same_time(
    connected: MemoryVault, store: CountingStore
) -> None:
    connected.reseal(b"garbage")
    store.gate.clear()
    damaged = asyncio.ensure_future(connected.resolve_credential(INBOUND))
    await store.reached.wait()
    others = [
        asyncio.ensure_future(connected.resolve_credential(INBOUND, provider="twilio")),
        asyncio.ensure_future(connected.owner(INBOUND)),
    ]
    await asyncio.sleep(0)
    store.gate.set()
    with pytest.raises(CredentialUnreadable):
        await damaged
    whole, owner = await asyncio.gather(*others)
    assert isinstance(whole, Plaintext)
    assert (secret("acme", "twilio", 1), "acme") == (whole.payload, owner)


# An old state that was put back.


def copied(row: _Row) -> _Row:
    """An org's rows as they are, all of them: what a dump holds."""
    return replace(
        row,
        keys=dict(row.keys),
        macs=dict(row.macs),
        versions=dict(row.versions),
        records=dict(row.records),
        lock=asyncio.Lock(),
    )


async def put_back(vault: MemoryVault) -> None:
    """Acme's rows of before a rotation, whole and in themselves consistent; the mappings too."""
    before, mappings = copied(vault.row()), dict(vault.memory._mappings)
    await vault.connect("acme", INBOUND, payload=b"canary new", expected=1)
    vault.memory._orgs["acme"], vault.memory._mappings = before, mappings
    vault.forget("acme")


async def test_an_older_pointer_with_its_older_proof_is_not_the_pointer_of_now(connected: MemoryVault) -> None:
    row = connected.row()
    pointer, mac, mappings = row.org.pointers["vapi"], row.macs["vapi"], dict(connected.memory._mappings)
    await connected.connect("acme", INBOUND, payload=b"canary new", expected=1)
    row.org = replace(row.org, pointers={**row.org.pointers, "vapi": pointer})
    row.macs["vapi"] = mac
    connected.memory._mappings = mappings
    connected.forget("acme")
    with pytest.raises(CredentialUnreadable):
        await connected.get("acme")
    assert 1 == connected.reader.violations.pointer


async def test_a_whole_org_that_was_put_back_is_seen_by_who_read_it_later(
    connected: MemoryVault, logged: Callable[[], list[logging.LogRecord]]
) -> None:
    await connected.connect("acme", INBOUND, payload=b"canary later", expected=1)
    await put_back_after_a_read(connected)
    for read in (connected.get("acme"), connected.get_newest("acme"), connected.get("acme", provider="twilio")):
        with pytest.raises(CredentialUnreadable):
            await read
    for ask in (connected.owner(INBOUND), connected.resolve_credential(INBOUND)):
        with pytest.raises(ResourceNotFound):
            await ask
    assert {"rollback": 4} == {name: number for name, number in asdict(connected.reader.violations).items() if number}
    assert {("integrity.violation", "rollback")} == {
        (action, outcome) for _, _, _, action, outcome in connected.log.written
    }
    assert {SENTENCES["rollback"]} == {record.getMessage() for record in logged()}
    assert secret("globex", "vapi", 1) == (await connected.get("globex")).payload


async def put_back_after_a_read(vault: MemoryVault) -> None:
    """The newer state is read before the older one is put back."""
    before, mappings = copied(vault.row()), dict(vault.memory._mappings)
    await vault.verify("acme", 2)
    await vault.get("acme")
    vault.log.written.clear()
    vault.memory._orgs["acme"], vault.memory._mappings = before, mappings
    vault.forget("acme")


async def test_a_whole_org_that_was_put_back_is_not_seen_by_who_never_read_it(connected: MemoryVault) -> None:
    """The audit knows better: that is what the proof of it is for."""
    await put_back(connected)
    assert SECRET == (await connected.get("acme")).payload
    assert (4, 6) == await connected.memory.generation("acme")


async def test_after_a_state_that_was_put_back_the_newer_one_is_read_again(connected: MemoryVault) -> None:
    await connected.verify("acme")
    await connected.get("acme")
    newer = copied(connected.row())
    generation = newer.org.generation
    edit_org(connected, generation=generation - 1)
    connected.forget("acme")
    with pytest.raises(CredentialUnreadable):
        await connected.get("acme")
    connected.memory._orgs["acme"] = newer
    assert (SECRET, generation) == ((got := await connected.get("acme")).payload, got.label.generation)


async def test_reads_of_the_same_generation_are_no_going_back(connected: MemoryVault) -> None:
    for _ in range(3):
        connected.forget("acme")
        await connected.get("acme")
        await connected.resolve_credential(INBOUND)
    assert not any(asdict(connected.reader.violations).values())


READS_OF_ONE: dict[str, Callable[[MemoryVault], Awaitable[object]]] = {
    **READS,
    "resolve": lambda vault: vault.reader.resolve(KIND, INBOUND.resource_id, ORIGIN),
    "resolve_credential with its owner at hand": lambda vault: vault.resolve_credential(INBOUND, provider="twilio"),
}


@pytest.mark.parametrize("read", READS_OF_ONE)
async def test_a_read_that_a_change_and_a_newer_read_overtake_is_no_going_back(
    connected: MemoryVault, store: CountingStore, read: str
) -> None:
    if read == "resolve_credential with its owner at hand":
        await connected.owner(INBOUND)
    store.begin()
    store.gate = late = asyncio.Event()
    slow = asyncio.ensure_future(READS_OF_ONE[read](connected))
    await store.reached.wait()
    store.gate = asyncio.Event()
    store.gate.set()
    await connected.verify("acme")
    assert 5 == (await connected.get("acme")).label.generation
    assert "acme" == await connected.owner(INBOUND)
    late.set()
    await slow
    assert not any(asdict(connected.reader.violations).values())
    # Nor is it taken for the newest: what is as old and is asked for from now on was put back.
    edit_org(connected, generation=4)
    connected.row().macs["vapi"] = await connected.envelope.vouch(
        connected.row().keys[key_of(connected, "acme")], connected.row().org, connected.row().org.pointers["vapi"]
    )
    connected.forget("acme")
    with pytest.raises(CredentialUnreadable):
        await connected.get("acme")
    assert 1 == connected.reader.violations.rollback


@pytest.mark.parametrize("error", [CredentialNotFound, OrgFrozen])
async def test_each_caller_gets_an_error_of_its_own(connected: MemoryVault, error: type[TenantVaultError]) -> None:
    if error is OrgFrozen:
        await connected.keeper.freeze("acme", ORIGIN)
    org = "acme" if error is OrgFrozen else "nobody"
    raised = []
    for _ in range(2):
        with pytest.raises(error) as refused:
            await connected.get(org)
        raised.append(refused.value)
    assert raised[0] is not raised[1]
