"""What changes; what is read is in test_reader."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.vault.cache import AlwaysFresh, Freshness
from services.vault.credential import Facts, Integration, OrgState, Origin, Plaintext, Resource, State, VersionState
from services.vault.keeper import Decide, Vaults
from services.vault.keyring import Keyring
from services.vault.local_key import LocalKey
from services.vault.memory import MemoryStore, _Row
from tenantvault.errors import (
    CredentialNotFound,
    CredentialUnreadable,
    InternalError,
    InvalidRequest,
    LeaseHeld,
    OrgFrozen,
    ResourceConflict,
    ResourceNotFound,
    TenantVaultError,
    VaultUnavailable,
    VersionConflict,
    VersionNotFound,
)
from tests.suites.store_exam import HOUR, ORIGIN, Parts, Vault, proved

SECRET = b"canary-5d9f of acme"
INBOUND = Resource("vapi_assistant", "assistant-1", "inbound")
KIND = INBOUND.kind


class MemoryVault(Vault):
    """A vault on a store in memory, with the means to write past it, as somebody with the database could."""

    def __init__(
        self,
        memory: MemoryStore | None = None,
        *,
        freshness: Freshness | None = None,
        vaults: Vaults | None = None,
        overlap: timedelta = timedelta(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.memory = memory or MemoryStore(now=now)
        parts = Parts(
            store=self.memory,
            audit=self.memory,
            keys=self.memory,
            ring=Keyring([LocalKey("m", bytes(32))]),
            public_key=self.memory._chain.public_key,
            work=self.memory.work,
            oauth_states=self.memory.oauth_states,
        )
        super().__init__(parts, freshness=freshness or AlwaysFresh(), vaults=vaults, overlap=overlap, now=now)

    def row(self, org: str = "acme") -> _Row:
        return self.memory._orgs[org]

    def edit(self, *, org: str = "acme", provider: str = "vapi", **changes: Any) -> None:
        """Write into a pointer."""
        row = self.row(org)
        pointer = replace(row.org.pointers[provider], **changes)
        row.org = replace(row.org, pointers={**row.org.pointers, provider: pointer})
        self.forget(org)

    def reseal(self, sealed: bytes, *, org: str = "acme", provider: str = "vapi", version: int = 1) -> None:
        """Write into a record."""
        row = self.row(org)
        row.records[provider, version] = (row.records[provider, version][0], sealed)
        self.forget(org)

    def break_key(self, *, org: str = "acme") -> None:
        """Write into the org's current key."""
        row = self.row(org)
        row.keys[row.current_key] = replace(row.keys[row.current_key], wrapped=b"garbage")
        self.forget(org)


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[logging.LogRecord]]]:
    """The records of the vault's log; no secret may be in any."""
    with caplog.at_level(logging.DEBUG, logger="services.vault"):
        yield lambda: caplog.records
    for record in caplog.records:
        assert "canary" not in str(vars(record))


async def test_a_connected_credential_comes_out_as_it_went_in(vault: MemoryVault) -> None:
    await vault.connect("acme", INBOUND, payload=SECRET)
    got = await vault.get("acme")
    assert (SECRET, "acme", "vapi", 1, [INBOUND], 2) == (
        got.payload,
        got.label.name.org_id,
        got.label.name.provider,
        got.label.name.version,
        list(got.label.resources),
        got.label.generation,
    )


async def test_nothing_in_the_store_is_plaintext(vault: MemoryVault) -> None:
    await vault.connect("acme", payload=SECRET)
    _, sealed = vault.row().records["vapi", 1]
    assert SECRET not in sealed
    assert b"canary" not in sealed


async def test_putting_the_newest_value_again_is_that_version(vault: MemoryVault) -> None:
    await vault.put("acme", SECRET)
    before = vault.row().records["vapi", 1]
    assert 1 == await vault.put("acme", SECRET, expected=1)
    assert before == vault.row().records["vapi", 1]
    assert ["credential.put"] == [action for action, *_ in await vault.events("acme")]
    await vault.activate("acme")
    assert 1 == await vault.put("acme", SECRET, expected=1)


async def test_putting_another_value_is_the_next_version(vault: MemoryVault) -> None:
    await vault.put("acme", SECRET)
    assert 2 == await vault.put("acme", b"another", expected=1)
    assert b"another" == (await vault.get_newest("acme")).payload


@pytest.mark.parametrize("expected", [0, 2, 7])
async def test_putting_on_anything_but_the_newest_is_a_conflict(vault: MemoryVault, expected: int) -> None:
    await vault.put("acme", SECRET)
    for payload in (SECRET, b"another"):
        with pytest.raises(VersionConflict):
            await vault.put("acme", payload, expected=expected)


async def test_putting_over_a_record_that_does_not_open_mends_it(vault: MemoryVault) -> None:
    await vault.connect("acme", payload=SECRET)
    vault.reseal(b"garbage")
    assert 2 == await vault.put("acme", SECRET, expected=1)
    await vault.activate("acme", 2)
    assert SECRET == (await vault.get("acme")).payload


async def test_after_a_disconnect_the_same_value_is_a_new_version(vault: MemoryVault) -> None:
    await vault.connect("acme", payload=SECRET)
    await vault.disconnect("acme")
    assert 3 == await vault.put("acme", SECRET, expected=2)


async def test_putting_the_active_value_again_is_that_version_also_when_it_is_not_the_newest(
    vault: MemoryVault,
) -> None:
    await vault.connect("acme", payload=SECRET)
    await vault.disconnect("acme")
    await vault.reconnect("acme")
    before = await vault.events("acme")
    assert 1 == await vault.put("acme", SECRET, expected=2)
    assert before == await vault.events("acme")
    for expected in (0, 1, 3):
        with pytest.raises(VersionConflict):
            await vault.put("acme", SECRET, expected=expected)
    assert 3 == await vault.put("acme", b"another", expected=2)
    # The newest one's own value comes first, then the active one's.
    assert (3, 1) == (
        await vault.put("acme", b"another", expected=3),
        await vault.put("acme", SECRET, expected=3),
    )


async def test_the_active_value_is_a_new_version_when_its_proof_is_broken_or_it_does_not_open(
    vault: MemoryVault,
) -> None:
    """Only a newer version mends that."""
    await vault.connect("acme", payload=SECRET)
    await vault.disconnect("acme")
    await vault.reconnect("acme")
    vault.edit(registered=1)
    assert 3 == await vault.put("acme", SECRET, expected=2)
    await vault.activate("acme", 3)
    assert SECRET == (await vault.get("acme")).payload
    await vault.roll_back("acme", 1, expected=3)
    await vault.put("acme", b"another", expected=3)
    assert 1 == await vault.put("acme", SECRET, expected=4)
    vault.reseal(b"garbage")
    assert 5 == await vault.put("acme", SECRET, expected=4)


@pytest.mark.parametrize(
    ("payload", "looks"), [(SECRET, 2), (b"another", 1), (b"a third", 2)], ids=["active", "newest", "neither"]
)
async def test_the_active_record_is_read_only_where_the_newest_is_another_value(
    vault: MemoryVault, monkeypatch: pytest.MonkeyPatch, payload: bytes, looks: int
) -> None:
    await vault.connect("acme", payload=SECRET)
    await vault.put("acme", b"another", expected=1)
    look, asked = vault.memory.read, []

    async def counted(keys: Any, *, newest: bool = False) -> Any:
        asked.append(newest)
        return await look(keys, newest=newest)

    monkeypatch.setattr(vault.memory, "read", counted)
    await vault.put("acme", payload, expected=2)
    assert [True, False][:looks] == asked


async def test_a_put_that_is_outrun_while_the_active_record_is_read_is_a_conflict(
    vault: MemoryVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await vault.connect("acme", payload=SECRET)
    await vault.put("acme", b"another", expected=1)
    look = vault.memory.read

    async def outrun(keys: Any, *, newest: bool = False) -> Any:
        if not newest:
            monkeypatch.undo()
            await vault.put("acme", b"a third", expected=2)
        return await look(keys, newest=newest)

    monkeypatch.setattr(vault.memory, "read", outrun)
    with pytest.raises(VersionConflict):
        await vault.put("acme", SECRET, expected=2)


async def test_concurrent_puts_make_one_version(vault: MemoryVault) -> None:
    puts = (vault.put("acme", f"{number}".encode()) for number in range(20))
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert 1 == results.count(1)
    assert 19 == sum(isinstance(result, VersionConflict) for result in results)
    assert 1 == len(vault.row().keys)


async def test_what_was_not_put_cannot_be_activated(vault: MemoryVault) -> None:
    with pytest.raises(CredentialNotFound):
        await vault.activate("acme")
    await vault.put("acme", provider="twilio")
    with pytest.raises(VersionConflict):
        await vault.activate("acme")


async def test_without_the_lease_nothing_is_activated(vault: MemoryVault) -> None:
    await vault.put("acme")
    with pytest.raises(LeaseHeld):
        await vault.activate("acme", lease_owner="worker")


async def test_the_overlap_ends_after_the_time_that_the_keeper_was_given() -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    vault = MemoryVault(overlap=HOUR, now=lambda: at)
    await vault.connect("acme")
    await vault.connect("acme", expected=1)
    pointer = vault.row().org.pointers["vapi"]
    assert (1, at + HOUR) == (pointer.previous_version, pointer.previous_until)


async def test_an_integration_that_is_not_there_after_a_change_is_a_mistake(
    vault: MemoryVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await vault.put("acme")

    async def none(org_id: str) -> list[Integration]:
        return []

    monkeypatch.setattr(vault.memory, "integrations", none)
    with pytest.raises(InternalError):
        await vault.activate("acme")


# What somebody else wrote.


async def tampered(vault: MemoryVault) -> None:
    """Acme's vapi points at its first version again; its twilio is as it should be."""
    await vault.connect("acme", INBOUND)
    await vault.connect("acme", INBOUND, expected=1)
    await vault.connect("acme", provider="twilio")
    vault.edit(version=1)
    with pytest.raises(CredentialUnreadable):
        await vault.get("acme")
    assert 1 == (await vault.get("acme", provider="twilio")).label.name.version


ELSEWHERE: dict[str, Callable[[MemoryVault], Awaitable[object]]] = {
    "put": lambda vault: vault.put("acme", expected=2),
    "put elsewhere": lambda vault: vault.put("acme", provider="twilio", expected=1),
    "connect elsewhere": lambda vault: vault.connect("acme", provider="resend"),
    "disconnect elsewhere": lambda vault: vault.disconnect("acme", provider="twilio"),
    "freeze": lambda vault: vault.keeper.freeze("acme", ORIGIN),
    "rotate the key": lambda vault: vault.keeper.rotate_key("acme", ORIGIN),
}


@pytest.mark.parametrize("change", ELSEWHERE)
async def test_no_change_elsewhere_vouches_for_what_somebody_else_wrote(vault: MemoryVault, change: str) -> None:
    await tampered(vault)
    generation = await vault.generation("acme")
    await ELSEWHERE[change](vault)
    assert generation < await vault.generation("acme")
    await vault.keeper.unfreeze("acme", ORIGIN)
    with pytest.raises(CredentialUnreadable):
        await vault.get("acme")
    with pytest.raises(ResourceNotFound):
        await vault.owner(INBOUND)
    if change != "disconnect elsewhere":
        assert (await vault.get("acme", provider="twilio")).payload


async def test_a_new_key_vouches_for_no_mapping_that_somebody_else_wrote(vault: MemoryVault) -> None:
    await tampered(vault)
    await vault.connect("acme", replace(INBOUND, resource_id="assistant-2"), provider="resend")
    planted, theirs = vault.memory._mappings[KIND, "assistant-1"], vault.memory._mappings[KIND, "assistant-2"]
    await vault.keeper.rotate_key("acme", ORIGIN)
    assert planted == vault.memory._mappings[KIND, "assistant-1"]
    assert theirs.mac != vault.memory._mappings[KIND, "assistant-2"].mac


HERE: dict[str, Callable[[MemoryVault], Awaitable[object]]] = {
    "verify": lambda vault: vault.verify("acme"),
    "register again": lambda vault: vault.activate("acme", 1, INBOUND),
    "refresh": lambda vault: vault.refresh("acme", b"another"),
    "disconnect": lambda vault: vault.disconnect("acme"),
    "roll back": lambda vault: vault.roll_back("acme", 2, expected=1),
    "destroy": lambda vault: vault.destroy("acme", 2),
}


@pytest.mark.parametrize("change", HERE)
async def test_what_somebody_else_wrote_is_not_built_upon(vault: MemoryVault, change: str) -> None:
    await tampered(vault)
    before = (vault.row().org, dict(vault.row().macs), await vault.events("acme"))
    with pytest.raises(CredentialUnreadable):
        await HERE[change](vault)
    assert before == (vault.row().org, vault.row().macs, await vault.events("acme"))


async def test_what_somebody_else_disconnected_is_not_reconnected(vault: MemoryVault) -> None:
    await vault.connect("acme")
    vault.edit(is_active=False)
    with pytest.raises(CredentialUnreadable):
        await vault.reconnect("acme")


async def test_an_activation_mends_what_somebody_else_wrote(vault: MemoryVault) -> None:
    await tampered(vault)
    await vault.activate("acme", 2, INBOUND)
    got = await vault.get("acme")
    assert (2, [INBOUND]) == (got.label.name.version, list(got.label.resources))
    assert "acme" == await vault.owner(INBOUND)
    assert 1 == (await vault.get("acme", provider="twilio")).label.name.version
    assert State.DISCONNECTED is (await vault.disconnect("acme")).state


async def test_an_activation_mends_one_integration_and_no_other(vault: MemoryVault) -> None:
    await tampered(vault)
    vault.edit(provider="twilio", registered=1)
    await vault.activate("acme", 2, INBOUND)
    assert 2 == (await vault.get("acme")).label.name.version
    with pytest.raises(CredentialUnreadable):
        await vault.get("acme", provider="twilio")


@pytest.mark.parametrize("again", [True, False], ids=["activated again", "rotated"])
async def test_an_activation_that_mends_takes_over_no_version_before(*, again: bool) -> None:
    """It would be one that somebody else named: a version that was destroyed, or that never was the one before."""
    vault = MemoryVault(overlap=HOUR)
    await vault.connect("acme")
    await vault.connect("acme", expected=1)
    await vault.put("acme", expected=2)
    vault.edit(previous_until=datetime(2099, 1, 1, tzinfo=UTC), latest_version=2 if again else 3)
    await vault.activate("acme", 2 if again else 3)
    assert (await vault.get("acme", include_previous=True)).previous is None
    pointer = vault.row().org.pointers["vapi"]
    assert (0, None) == (pointer.previous_version, pointer.previous_until)


async def test_an_activation_that_mends_nothing_keeps_the_version_before() -> None:
    vault = MemoryVault(overlap=HOUR)
    await vault.connect("acme")
    await vault.connect("acme", expected=1)
    await vault.activate("acme", 2)
    assert (await vault.get("acme", include_previous=True)).previous is not None


async def test_a_mapping_that_somebody_else_wrote_is_gone_after_an_activation(vault: MemoryVault) -> None:
    await vault.connect("acme", INBOUND)
    planted = replace(INBOUND, resource_id="planted")
    vault.memory._mappings[KIND, "planted"] = replace(vault.memory._mappings[KIND, "assistant-1"], resource=planted)
    await vault.activate("acme", 1, INBOUND)
    assert "acme" == await vault.owner(INBOUND)
    with pytest.raises(ResourceNotFound):
        await vault.owner(planted)


# What an active version holds is replaced.


async def test_a_refreshed_credential_is_read_at_once_under_the_same_version(vault: MemoryVault) -> None:
    await vault.connect("acme", INBOUND, payload=SECRET)
    asked: list[tuple[bytes, bytes]] = []

    def may_replace(stored: bytes, payload: bytes) -> bool:
        asked.append((stored, payload))
        return True

    assert SECRET == (await vault.get("acme")).payload
    await vault.refresh("acme", b"another", may_replace=may_replace)
    got = await vault.get("acme")
    assert (b"another", 1, 3, [INBOUND]) == (
        got.payload,
        got.label.name.version,
        got.label.generation,
        list(got.label.resources),
    )
    assert [(SECRET, b"another")] == asked


async def test_what_may_not_replace_it_does_not(vault: MemoryVault) -> None:
    await vault.connect("acme", payload=SECRET)
    with pytest.raises(InvalidRequest) as refused:
        await vault.refresh("acme", b"another", may_replace=lambda _, __: False)
    assert "canary" not in refused.value.message
    assert (SECRET, 2) == ((await vault.get("acme")).payload, await vault.generation("acme"))


async def test_a_record_that_does_not_open_is_not_refreshed(
    vault: MemoryVault, logged: Callable[[], list[logging.LogRecord]]
) -> None:
    await vault.connect("acme", payload=SECRET)
    vault.reseal(b"garbage")
    with pytest.raises(CredentialUnreadable) as refused:
        await vault.refresh("acme", b"another")
    assert refused.value.__cause__ is None
    assert ["a record does not open"] == [record.message for record in logged()]


async def test_a_version_that_became_active_unseen_is_not_refreshed(vault: MemoryVault) -> None:
    """It was not compared with what is to replace it."""
    await vault.connect("acme", payload=SECRET)
    await vault.put("acme", b"newer", expected=1)
    await vault.memory.acquire_lease("acme", "vapi", "worker", 60)
    look = vault.memory.read

    async def outrun(keys: Any, *, newest: bool = False) -> Any:
        found = await look(keys, newest=newest)
        await vault.activate("acme", 2)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault.memory, "read", outrun)
        with pytest.raises(VersionConflict):
            await vault.refresh("acme", b"another", 2)
    assert b"newer" == (await vault.get("acme")).payload


# A key that does not unwrap.


UNDER_THE_KEY: dict[str, Callable[[MemoryVault], Awaitable[object]]] = {
    "put": lambda vault: vault.put("acme", b"another", expected=1),
    "put elsewhere": lambda vault: vault.put("acme", provider="twilio"),
    "activate": lambda vault: vault.activate("acme", 1, INBOUND),
    "verify": lambda vault: vault.verify("acme"),
    "disconnect": lambda vault: vault.disconnect("acme"),
    "freeze": lambda vault: vault.keeper.freeze("acme", ORIGIN),
    "rotate the key": lambda vault: vault.keeper.rotate_key("acme", ORIGIN),
}


@pytest.mark.parametrize("change", UNDER_THE_KEY)
async def test_under_a_key_that_does_not_unwrap_nothing_changes(
    vault: MemoryVault, change: str, logged: Callable[[], list[logging.LogRecord]]
) -> None:
    await vault.connect("acme", INBOUND, payload=SECRET)
    vault.break_key()
    before = (vault.row().org, await vault.events("acme"))
    with pytest.raises(CredentialUnreadable) as refused:
        await UNDER_THE_KEY[change](vault)
    assert refused.value.__cause__ is None
    assert before == (vault.row().org, await vault.events("acme"))
    [told] = [record for record in logged() if record.message == "an org's key does not unwrap"]
    assert ("ERROR", "acme", vault.row().current_key, "m", None) == (
        told.levelname,
        vars(told)["org"],
        vars(told)["key_id"],
        vars(told)["master_key_id"],
        told.exc_info,
    )


async def test_under_a_key_that_does_not_unwrap_an_org_can_be_shredded(vault: MemoryVault) -> None:
    await vault.connect("acme")
    vault.break_key()
    assert 3 == await vault.keeper.shred("acme", ORIGIN)


async def test_an_org_whose_key_was_taken_away_can_be_frozen_and_not_read(vault: MemoryVault) -> None:
    await vault.connect("acme")
    vault.row().current_key = ""
    vault.forget("acme")
    with pytest.raises(VersionConflict):
        await vault.activate("acme")
    with pytest.raises(CredentialUnreadable):
        await vault.disconnect("acme")
    assert 3 == await vault.keeper.freeze("acme", ORIGIN)
    with pytest.raises(CredentialUnreadable):
        await vault.get("acme")
    # A new version gets a new key, under which alone it is vouched for.
    await vault.keeper.unfreeze("acme", ORIGIN)
    await vault.connect("acme", payload=SECRET, expected=1)
    assert SECRET == (await vault.get("acme")).payload


# What is remembered.


class Recorder:
    """All vaults, which settle when they are let; and what became of the change until then."""

    def __init__(self) -> None:
        self.settles = asyncio.Event()
        self.settles.set()
        self.asked: list[tuple[str, int]] = []

    async def settled(self, org_id: str, generation: int) -> None:
        self.asked.append((org_id, generation))
        await self.settles.wait()


class GatedStore(MemoryStore):
    """A store whose changes wait until they are let go, and may fail after they were made."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    async def change(self, org_id: str, decide: Decide, origin: Origin, **where: Any) -> int | None:
        await self.gate.wait()
        result = await super().change(org_id, decide, origin, **where)
        if self.fails:
            raise VaultUnavailable
        return result


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


CHANGES: dict[str, Callable[[MemoryVault], Awaitable[object]]] = {
    "activate": lambda vault: vault.activate("acme", 2),
    "verify": lambda vault: vault.verify("acme", 1, "Refused."),
    "disconnect": lambda vault: vault.disconnect("acme"),
    "roll back": lambda vault: vault.roll_back("acme", 1, expected=2),
    "freeze": lambda vault: vault.keeper.freeze("acme", ORIGIN),
    "shred": lambda vault: vault.keeper.shred("acme", ORIGIN),
    "rotate the key": lambda vault: vault.keeper.rotate_key("acme", ORIGIN),
}


async def served(vault: MemoryVault) -> object:
    """What a read gives that tells one state of the org from another."""
    try:
        return (await vault.get("acme")).label.generation
    except TenantVaultError as error:
        return type(error)


@pytest.fixture
def store() -> GatedStore:
    return GatedStore()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=CHANGES)
async def change(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def gated(store: GatedStore, recorder: Recorder, change: str) -> MemoryVault:
    """With a version before and one that waits, as the change needs it."""
    vault = MemoryVault(store, vaults=recorder)
    await vault.connect("acme", INBOUND)
    if change == "roll back":
        await vault.connect("acme", INBOUND, expected=1)
    else:
        await vault.put("acme", expected=1)
    recorder.asked.clear()
    return vault


async def test_after_each_change_the_next_read_is_of_what_is_stored(gated: MemoryVault, change: str) -> None:
    before = await served(gated)
    await CHANGES[change](gated)
    after = await served(gated)
    assert before != after
    assert after in {CredentialNotFound, OrgFrozen, await gated.generation("acme")} or change == "shred"


async def test_after_each_change_the_next_look_up_is_of_what_is_stored(gated: MemoryVault, change: str) -> None:
    assert "acme" == await gated.owner(INBOUND)
    asked_before = gated.directory.counts.misses
    await CHANGES[change](gated)
    with_an_answer = {"verify", "disconnect", "roll back", "rotate the key"}
    if change in with_an_answer:
        assert "acme" == await gated.owner(INBOUND)
    else:
        with pytest.raises((ResourceNotFound, OrgFrozen)):
            await gated.owner(INBOUND)
    assert asked_before + 1 == gated.directory.counts.misses


async def test_a_read_between_a_change_and_its_answer_is_not_remembered(
    gated: MemoryVault, store: GatedStore, change: str
) -> None:
    store.gate.clear()
    changing = asyncio.ensure_future(CHANGES[change](gated))
    await settle()
    old = await served(gated)
    store.gate.set()
    await changing
    assert old != await served(gated)


async def test_a_change_whose_caller_gave_up_ends_and_is_seen(
    gated: MemoryVault, store: GatedStore, recorder: Recorder, change: str
) -> None:
    store.gate.clear()
    changing = asyncio.ensure_future(CHANGES[change](gated))
    await settle()
    changing.cancel()
    await settle()
    assert changing.cancelled()
    old = await served(gated)
    store.gate.set()
    await settle()
    assert old != await served(gated)
    assert [("acme", await gated.generation("acme"))] == recorder.asked


async def test_a_change_that_came_about_and_failed_to_say_so_is_seen(
    gated: MemoryVault, store: GatedStore, change: str
) -> None:
    old = await served(gated)
    store.fails = True
    with pytest.raises(VaultUnavailable):
        await CHANGES[change](gated)
    assert old != await served(gated)


async def test_a_change_returns_when_every_vault_has_settled_and_not_before(
    gated: MemoryVault, recorder: Recorder, change: str
) -> None:
    old = await served(gated)
    recorder.settles.clear()
    changing = asyncio.ensure_future(CHANGES[change](gated))
    await settle()
    assert not changing.done()
    assert [("acme", await gated.generation("acme"))] == recorder.asked
    # Here it is gone already, although the others have not said so yet.
    assert old != await served(gated)
    recorder.settles.set()
    assert await changing


@pytest.mark.parametrize("change", ["disconnect"], indirect=True)
async def test_a_change_that_was_made_already_is_waited_for_all_the_same(
    gated: MemoryVault, recorder: Recorder
) -> None:
    """Whoever made it may have given up before every vault had settled."""
    await gated.disconnect("acme")
    recorder.asked.clear()
    recorder.settles.clear()
    repeating = asyncio.ensure_future(gated.disconnect("acme"))
    await settle()
    assert not repeating.done()
    assert [("acme", 4)] == recorder.asked
    recorder.settles.set()
    assert State.DISCONNECTED is (await repeating).state
    assert 4 == await gated.keeper.unfreeze("acme", ORIGIN) == await gated.generation("acme")


@pytest.mark.parametrize("change", ["disconnect"], indirect=True)
async def test_a_failure_that_nobody_waits_for_is_quiet(gated: MemoryVault, store: GatedStore) -> None:
    left_over: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left_over.append(context))
    store.fails = True
    store.gate.clear()
    changing = asyncio.ensure_future(gated.disconnect("acme"))
    await settle()
    changing.cancel()
    store.gate.set()
    await settle()
    assert changing.cancelled()
    assert CredentialNotFound is await served(gated)
    assert [] == left_over


def keys_in_memory(vault: MemoryVault) -> list[str]:
    return sorted(key.org_id for key in vault.envelope._keys)


@pytest.mark.parametrize("change", ["shred"], indirect=True)
async def test_after_a_shredding_no_key_of_the_org_is_in_memory(gated: MemoryVault) -> None:
    await gated.connect("globex")
    assert ["acme", "globex"] == keys_in_memory(gated)
    await gated.keeper.shred("acme", ORIGIN)
    assert ["globex"] == keys_in_memory(gated)


@pytest.mark.parametrize("change", ["shred"], indirect=True)
async def test_after_a_shredding_whose_caller_gave_up_no_key_of_the_org_is_in_memory(
    gated: MemoryVault, store: GatedStore
) -> None:
    store.gate.clear()
    shredding = asyncio.ensure_future(gated.keeper.shred("acme", ORIGIN))
    await settle()
    shredding.cancel()
    store.gate.set()
    await settle()
    assert shredding.cancelled()
    assert OrgState.SHREDDED is gated.row().org.state
    assert [] == keys_in_memory(gated)


@pytest.mark.parametrize("change", ["freeze"], indirect=True)
async def test_another_change_leaves_the_keys_in_memory(gated: MemoryVault) -> None:
    await gated.keeper.freeze("acme", ORIGIN)
    assert ["acme"] == keys_in_memory(gated)


# Any verb in any order.


@dataclass
class Expected:
    """What must be so of one integration: its payloads by version, None for one that is gone or never was."""

    payloads: list[bytes | None] = field(default_factory=list)
    was_active: set[int] = field(default_factory=set)
    active: int = 0
    connected: bool = False
    refused: str = ""
    previous: int = 0
    resources: tuple[Resource, ...] = ()

    def payload(self, version: int) -> bytes | None:
        return self.payloads[version - 1] if 0 < version <= len(self.payloads) else None

    @property
    def state(self) -> State:
        if not self.connected:
            return State.DISCONNECTED
        return State.REFUSED if self.refused else State.CONNECTED


class KeeperMachine(RuleBasedStateMachine):
    """Two orgs with two providers, any verb in any order, against what each verb must have done."""

    ORGS = st.sampled_from(["acme", "globex"])
    WHERE = st.tuples(ORGS, st.sampled_from(["vapi", "twilio"]))
    PAYLOADS = st.sampled_from([b"one", b"two", b"three"])
    RESOURCES = st.lists(st.sampled_from([Resource(KIND, f"r{n}", "inbound") for n in range(3)]), unique=True)
    BEHIND = st.sampled_from([0, 0, 0, 1, -1])
    VERSIONS = st.integers(1, 5)

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()

    @initialize()
    def begin(self) -> None:
        self.vault = MemoryVault(overlap=HOUR)
        self.expected = {(org, provider): Expected() for org in ("acme", "globex") for provider in ("vapi", "twilio")}
        self.frozen: set[str] = set()
        self.changes = {"acme": 0, "globex": 0}
        self.known: set[str] = set()

    def teardown(self) -> None:
        self.runner.close()

    def outcome(self, verb: Any) -> Any:
        async def run() -> Any:
            try:
                return await verb
            except TenantVaultError as error:
                return type(error)

        return self.runner.run(run())

    @invariant()
    def every_change_is_counted_once_and_in_a_chain_that_proves(self) -> None:
        for org, changes in getattr(self, "changes", {}).items():
            assert changes == self.runner.run(self.vault.generation(org))
            assert not changes or changes == self.runner.run(proved(self.vault.parts, org))

    def changed(self, org: str) -> None:
        self.changes[org] += 1
        self.known.add(org)

    @rule(where=WHERE, payload=PAYLOADS, behind=BEHIND)
    def put(self, where: tuple[str, str], payload: bytes, behind: int) -> None:
        expected = self.expected[where]
        newest = len(expected.payloads)
        outcome = self.outcome(
            self.vault.keeper.put(*where, payload, "hint", expected_version=newest - behind, origin=ORIGIN)
        )
        gone = expected.active == newest and not expected.connected
        if not behind and newest and expected.payloads[-1] == payload and not gone:
            assert outcome == newest
            return
        if not behind and expected.connected and expected.payload(expected.active) == payload:
            assert outcome == expected.active
            return
        if where[0] in self.frozen:
            assert OrgFrozen is outcome
            return
        if behind:
            assert VersionConflict is outcome
            return
        expected.payloads.append(payload)
        self.changed(where[0])
        assert outcome == len(expected.payloads)

    @rule(where=WHERE, resources=RESOURCES, behind=BEHIND)
    def activate(self, where: tuple[str, str], resources: list[Resource], behind: int) -> None:
        expected = self.expected[where]
        version = len(expected.payloads) - behind
        outcome = self.outcome(self.vault.keeper.activate(*where, version, resources, ORIGIN))
        if where[0] not in self.known:
            assert CredentialNotFound is outcome
            return
        if where[0] in self.frozen:
            assert OrgFrozen is outcome
            return
        again = expected.connected and version == expected.active
        if not again and (behind or expected.payload(version) is None):
            assert VersionConflict is outcome
            return
        taken = {
            resource
            for other, integration in self.expected.items()
            for resource in integration.resources
            if other != where
        }
        if taken.intersection(resources):
            assert ResourceConflict is outcome
            return
        if not again:
            expected.previous = expected.active if expected.connected else 0
        expected.active, expected.connected, expected.refused = version, True, ""
        expected.was_active.add(version)
        expected.resources = tuple(sorted(resources, key=lambda resource: resource.resource_id))
        self.changed(where[0])
        assert State.CONNECTED is outcome.state

    @rule(where=WHERE, connected=st.booleans())
    def switch(self, where: tuple[str, str], *, connected: bool) -> None:
        expected = self.expected[where]
        verb = self.vault.keeper.reconnect if connected else self.vault.keeper.disconnect
        outcome = self.outcome(verb(*where, ORIGIN))
        if connected and where[0] in self.frozen:
            assert OrgFrozen is outcome
            return
        if not expected.active and (connected or not expected.payloads):
            assert CredentialNotFound is outcome
            return
        if connected != expected.connected or not expected.active:
            self.changed(where[0])
            # A setup that has not ended is given up, and kept.
            expected.active = expected.active or len(expected.payloads)
            expected.was_active.add(expected.active)
            if not connected:
                expected.previous = 0
                expected.payloads.append(None)
        expected.connected = connected
        assert expected.state is outcome.state

    @rule(where=WHERE, error=st.sampled_from(["", "Refused."]), behind=st.sampled_from([0, 0, 1]))
    def verify(self, where: tuple[str, str], error: str, behind: int) -> None:
        expected = self.expected[where]
        version = expected.active - behind or 1
        outcome = self.outcome(self.vault.keeper.record_verification(*where, version, Facts(error=error), ORIGIN))
        if where[0] in self.frozen:
            assert OrgFrozen is outcome
        elif not expected.payloads:
            assert CredentialNotFound is outcome
        elif not expected.connected or version != expected.active:
            assert VersionConflict is outcome
        else:
            expected.refused = error
            self.changed(where[0])
            assert expected.state is outcome.state

    @rule(where=WHERE, payload=PAYLOADS, behind=st.sampled_from([0, 0, 1]))
    def refresh(self, where: tuple[str, str], payload: bytes, behind: int) -> None:
        expected = self.expected[where]
        version = expected.active - behind or 1
        outcome = self.outcome(self.vault.refresh(where[0], payload, version, provider=where[1]))
        # It was made for the lease.
        self.known.add(where[0])
        if where[0] in self.frozen:
            assert OrgFrozen is outcome
        elif not expected.payloads:
            assert CredentialNotFound is outcome
        elif not expected.connected or version != expected.active:
            assert VersionConflict is outcome
        else:
            assert outcome is None
            expected.payloads[version - 1] = payload
            self.changed(where[0])

    @rule(where=WHERE, version=VERSIONS, behind=st.sampled_from([0, 0, 1]))
    def roll_back(self, where: tuple[str, str], version: int, behind: int) -> None:
        expected = self.expected[where]
        outcome = self.outcome(
            self.vault.keeper.roll_back(*where, version, expected_version=expected.active - behind, origin=ORIGIN)
        )
        if where[0] in self.frozen:
            assert OrgFrozen is outcome
        elif not expected.connected:
            assert CredentialNotFound is outcome
        elif version not in expected.was_active or expected.payload(version) is None:
            assert VersionNotFound is outcome
        elif version == expected.active:
            assert expected.state is outcome.state
        elif behind:
            assert VersionConflict is outcome
        else:
            expected.active, expected.refused, expected.previous = version, "", 0
            self.changed(where[0])
            assert State.CONNECTED is outcome.state

    @rule(where=WHERE, version=VERSIONS)
    def destroy(self, where: tuple[str, str], version: int) -> None:
        expected = self.expected[where]
        listed = {listed.version: listed.state for listed in self.runner.run(self.vault.memory.versions(*where))}
        outcome = self.outcome(self.vault.keeper.destroy(*where, version, ORIGIN))
        if where[0] not in self.known:
            assert CredentialNotFound is outcome
        elif version not in listed:
            assert VersionNotFound is outcome
        elif version == (expected.active or len(expected.payloads)):
            assert VersionConflict is outcome
        elif listed[version] is VersionState.DESTROYED:
            assert outcome is None
        else:
            assert outcome is None
            expected.payloads[version - 1] = None
            expected.previous = 0 if expected.previous == version else expected.previous
            self.changed(where[0])

    @rule(org=ORGS, frozen=st.booleans())
    def freeze(self, org: str, *, frozen: bool) -> None:
        if frozen != (org in self.frozen):
            self.changed(org)
        verb = self.vault.keeper.freeze if frozen else self.vault.keeper.unfreeze
        assert self.changes[org] == self.outcome(verb(org, ORIGIN))
        # Even an unfreeze of nothing.
        self.known.add(org)
        (self.frozen.add if frozen else self.frozen.discard)(org)

    @rule(org=ORGS)
    def rotate_key(self, org: str) -> None:
        outcome = self.outcome(self.vault.keeper.rotate_key(org, ORIGIN))
        if org not in self.known:
            assert CredentialNotFound is outcome
        elif org in self.frozen:
            assert OrgFrozen is outcome
        else:
            self.changed(org)
            assert isinstance(outcome, str)

    @rule()
    def end_rotations(self) -> None:
        self.runner.run(self.vault.rotations.run())
        assert [] == self.runner.run(self.vault.memory.orgs_with_old_keys(after="", at_most=10))

    @rule(where=WHERE, include_previous=st.booleans())
    def get(self, where: tuple[str, str], *, include_previous: bool) -> None:
        expected = self.expected[where]
        outcome = self.outcome(self.vault.reader.get(*where, ORIGIN, include_previous=include_previous))
        if not expected.payloads:
            assert CredentialNotFound is outcome
            return
        if where[0] in self.frozen:
            assert OrgFrozen is outcome
            return
        if not expected.connected:
            assert CredentialNotFound is outcome
            return
        assert isinstance(outcome, Plaintext)
        assert (expected.payload(expected.active), expected.active, expected.resources) == (
            outcome.payload,
            outcome.label.name.version,
            tuple(outcome.label.resources),
        )
        before = outcome.previous
        assert (before and (before.version, before.payload)) == (
            (expected.previous, expected.payload(expected.previous)) if include_previous and expected.previous else None
        )

    @rule(where=WHERE)
    def get_newest(self, where: tuple[str, str]) -> None:
        expected = self.expected[where]
        outcome = self.outcome(self.vault.reader.get_newest(*where, ORIGIN))
        newest = len(expected.payloads)
        if newest and where[0] in self.frozen:
            assert OrgFrozen is outcome
        elif expected.payload(newest) is None or (expected.active == newest and not expected.connected):
            assert CredentialNotFound is outcome
        else:
            assert (expected.payloads[-1], newest) == (outcome.payload, outcome.label.name.version)

    @precondition(lambda self: any(expected.resources for expected in self.expected.values()))
    @rule(data=st.data(), provider=st.sampled_from(["vapi", "twilio"]))
    def resolve(self, data: st.DataObject, provider: str) -> None:
        where = data.draw(st.sampled_from([where for where, expected in self.expected.items() if expected.resources]))
        resource = data.draw(st.sampled_from(self.expected[where].resources))
        found = self.outcome(self.vault.reader.resolve(resource.kind, resource.resource_id, ORIGIN))
        outcome = self.outcome(self.vault.resolve_credential(resource, provider=provider))
        if where[0] in self.frozen:
            assert OrgFrozen is found is outcome
            return
        assert (where[0], resource) == (found.org_id, found.resource)
        asked = self.expected[where[0], provider]
        if asked.connected:
            assert asked.payload(asked.active) == outcome.payload
        else:
            assert ResourceNotFound is outcome


KeeperMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestKeeperAgainstItsModel = KeeperMachine.TestCase
