import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from services.vault.cache import Cache
from services.vault.credential import Integration, Mapping, OrgKey, Origin, Plaintext, Resource, State
from services.vault.envelope import Envelope
from services.vault.keeper import Keeper, Readable
from services.vault.keyring import Keyring
from services.vault.memory import MemoryStore
from services.vault.seal import Record, Unreadable
from tenantvault.errors import (
    CredentialNotFound,
    CredentialUnreadable,
    LeaseHeld,
    ResourceConflict,
    ResourceNotFound,
    TenantVaultError,
    VaultUnavailable,
    VersionConflict,
)

ORIGIN = Origin("provider", "ada@example.com", "request-0001")
SECRET = b"canary-5d9f of acme"
INBOUND = Resource("vapi_assistant", "assistant-1", "inbound")
KIND = INBOUND.kind


class Vault:
    """A keeper on a store in memory, with everything real around it."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.cache: Cache[Readable] = Cache()
        self.keeper = Keeper(
            store=self.store, envelope=Envelope(Keyring({"m": bytes(32)})), cache=self.cache, unreadable=Unreadable
        )

    async def put(self, payload: bytes = SECRET, *, org: str = "acme", expected: int = 0) -> int:
        return await self.keeper.put(org, "vapi", payload, "••••acme", expected_version=expected, origin=ORIGIN)

    async def activate(self, version: int = 1, *resources: Resource, org: str = "acme") -> Integration:
        return await self.keeper.activate(org, "vapi", version, resources, ORIGIN)

    async def connect(self, payload: bytes = SECRET, *resources: Resource, org: str = "acme") -> None:
        await self.put(payload, org=org)
        await self.activate(1, *resources, org=org)

    def version(self, org: str = "acme", version: int = 1) -> tuple[Any, bytes, str]:
        return self.store._orgs[org].versions["vapi", version]

    def replace_version(self, sealed: bytes, *, org: str = "acme", version: int = 1, **name: Any) -> None:
        old, _, hint = self.version(org, version)
        self.store._orgs[org].versions["vapi", version] = (replace(old, **name), sealed, hint)


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[logging.LogRecord]]]:
    """The records of the keeper's log; no secret may be in any."""
    with caplog.at_level(logging.DEBUG, logger="services.vault"):
        yield lambda: caplog.records
    for record in caplog.records:
        assert SECRET.decode() not in str(vars(record))


async def test_a_connected_credential_comes_out_as_it_went_in(vault: Vault) -> None:
    await vault.connect(SECRET, INBOUND)
    got = await vault.keeper.get("acme", "vapi")
    assert (SECRET, "acme", "vapi", 1, (INBOUND,)) == (
        got.payload,
        got.name.org_id,
        got.name.provider,
        got.name.version,
        tuple(got.resources),
    )
    assert got.last_verified_at is not None
    assert 2 == got.generation


async def test_a_plaintext_does_not_show_itself(vault: Vault) -> None:
    await vault.connect()
    got = await vault.keeper.get("acme", "vapi")
    assert SECRET.decode() not in repr(got)
    assert SECRET.decode() not in repr(vars(vault.cache))


async def test_nothing_in_the_store_or_the_cache_is_plaintext(vault: Vault) -> None:
    await vault.connect()
    await vault.keeper.get("acme", "vapi")
    assert SECRET not in vault.version()[1]
    [readable] = vault.cache._values.values()
    assert SECRET not in readable.stored.sealed
    assert isinstance(readable.record, Record)
    assert SECRET not in readable.record._ciphertext


async def test_a_version_that_is_not_active_is_got_as_the_newest_only(vault: Vault) -> None:
    assert 1 == await vault.put()
    with pytest.raises(CredentialNotFound):
        await vault.keeper.get("acme", "vapi")
    assert (await vault.keeper.get_newest("acme", "vapi")).payload == SECRET


async def test_where_nothing_is_stored_nothing_is_got(vault: Vault) -> None:
    for get in (vault.keeper.get, vault.keeper.get_newest):
        with pytest.raises(CredentialNotFound):
            await get("acme", "vapi")


async def test_putting_the_newest_value_again_is_that_version(vault: Vault) -> None:
    await vault.put()
    before = vault.version()
    assert 1 == await vault.put(expected=1)
    assert before == vault.version()
    assert ["credential.put"] == [event.action for event in vault.store.events]
    await vault.activate()
    assert 1 == await vault.put(expected=1)


async def test_putting_another_value_is_the_next_version(vault: Vault) -> None:
    await vault.put()
    assert 2 == await vault.put(b"another", expected=1)
    assert (await vault.keeper.get_newest("acme", "vapi")).payload == b"another"


@pytest.mark.parametrize("expected", [0, 2, 7])
async def test_putting_on_anything_but_the_newest_is_a_conflict(vault: Vault, expected: int) -> None:
    await vault.put()
    for payload in (SECRET, b"another"):
        with pytest.raises(VersionConflict):
            await vault.put(payload, expected=expected)


async def test_putting_over_a_record_that_does_not_open_mends_it(vault: Vault) -> None:
    await vault.connect()
    vault.replace_version(b"garbage")
    assert 2 == await vault.put(expected=1)
    await vault.activate(2)
    assert (await vault.keeper.get("acme", "vapi")).payload == SECRET


async def test_after_a_disconnect_the_same_value_is_a_new_version(vault: Vault) -> None:
    await vault.connect()
    await vault.keeper.disconnect("acme", "vapi", ORIGIN)
    assert 2 == await vault.put(expected=1)


async def test_all_credentials_of_an_org_are_under_one_key_and_of_two_under_two(vault: Vault) -> None:
    await vault.put()
    await vault.put(b"another", expected=1)
    await vault.put(org="globex")
    ours, again, theirs = (vault.version(*of)[0].key_id for of in (("acme", 1), ("acme", 2), ("globex", 1)))
    assert ours == again != theirs


async def test_concurrent_puts_make_one_version_and_one_key(vault: Vault) -> None:
    results = await asyncio.gather(*(vault.put(f"{n}".encode()) for n in range(20)), return_exceptions=True)
    assert 1 == results.count(1)
    assert 19 == sum(isinstance(result, VersionConflict) for result in results)


async def test_an_org_that_put_nothing_has_nothing_to_activate(vault: Vault) -> None:
    with pytest.raises(VersionConflict):
        await vault.activate()


async def test_without_the_lease_nothing_is_activated(vault: Vault) -> None:
    await vault.put()
    with pytest.raises(LeaseHeld):
        await vault.keeper.activate("acme", "vapi", 1, [], ORIGIN, lease_owner="worker")


async def test_a_resource_resolves_to_its_org_and_role(vault: Vault) -> None:
    await vault.connect(SECRET, INBOUND)
    mapping = await vault.keeper.resolve(KIND, INBOUND.resource_id)
    assert ("acme", "vapi", INBOUND) == (mapping.org_id, mapping.provider, mapping.resource)


async def test_a_resource_resolves_to_the_credential(vault: Vault) -> None:
    await vault.connect(SECRET, INBOUND)
    await vault.connect(b"of globex", replace(INBOUND, resource_id="assistant-2"), org="globex")
    assert (await vault.keeper.resolve_credential(KIND, "assistant-1", "vapi")).payload == SECRET
    assert (await vault.keeper.resolve_credential(KIND, "assistant-2", "vapi")).payload == b"of globex"


async def test_whatever_cannot_be_resolved_answers_alike(vault: Vault) -> None:
    await vault.connect(SECRET, INBOUND)
    answers = []
    for resource_id, provider in (("unknown", "vapi"), (INBOUND.resource_id, "twilio")):
        with pytest.raises(ResourceNotFound) as refused:
            await vault.keeper.resolve_credential(KIND, resource_id, provider)
        answers.append((refused.value.reason, refused.value.message, dict(refused.value.fields)))
    await vault.keeper.disconnect("acme", "vapi", ORIGIN)
    with pytest.raises(ResourceNotFound) as refused:
        await vault.keeper.resolve_credential(KIND, INBOUND.resource_id, "vapi")
    answers.append((refused.value.reason, refused.value.message, dict(refused.value.fields)))
    assert 1 == len({str(answer) for answer in answers})


async def forged(vault: Vault) -> dict[str, Mapping]:
    """Ways to hand acme's assistant to globex, or to change what it is, in the table."""
    ours = vault.store._mappings[KIND, INBOUND.resource_id]
    theirs = await vault.keeper._envelope.vouch(
        vault.store._orgs["globex"].key,  # type: ignore[arg-type]  # there is one
        "vapi",
        replace(INBOUND, resource_id="assistant-2"),
    )
    return {
        "moved": replace(ours, org_id="globex"),
        "moved with another's proof": replace(ours, org_id="globex", mac=theirs),
        "moved with no proof": replace(ours, org_id="globex", mac=b""),
        "another role": replace(ours, resource=replace(INBOUND, role="outbound")),
        "another provider": replace(ours, provider="twilio"),
        "another proof": replace(ours, mac=bytes(32)),
    }


@pytest.mark.parametrize(
    "way",
    ["moved", "moved with another's proof", "moved with no proof", "another role", "another provider", "another proof"],
)
async def test_a_mapping_that_was_changed_in_the_table_is_no_mapping(
    vault: Vault, way: str, logged: Callable[[], list[logging.LogRecord]]
) -> None:
    await vault.connect(SECRET, INBOUND)
    await vault.connect(b"of globex", org="globex")
    vault.store._mappings[KIND, INBOUND.resource_id] = mapping = (await forged(vault))[way]
    with pytest.raises(ResourceNotFound):
        await vault.keeper.resolve(KIND, INBOUND.resource_id)
    with pytest.raises(ResourceNotFound):
        await vault.keeper.resolve_credential(KIND, INBOUND.resource_id, "vapi")
    records = logged()
    assert 2 == len(records)
    assert {("ERROR", mapping.org_id, KIND)} == {(r.levelname, vars(r)["org"], vars(r)["kind"]) for r in records}


async def test_a_mapping_under_a_key_that_does_not_unwrap_is_no_mapping(vault: Vault) -> None:
    await vault.connect(SECRET, INBOUND)
    key = vault.store._orgs["acme"].key
    assert key is not None
    vault.store._orgs["acme"].key = replace(key, wrapped=b"garbage")
    with pytest.raises(ResourceNotFound):
        await vault.keeper.resolve(KIND, INBOUND.resource_id)


def damage(sealed: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "another scheme": b"\x02" + sealed[1:],
        "another salt": sealed[:1] + bytes(32) + sealed[33:],
        "another tag": sealed[:-1] + bytes([sealed[-1] ^ 1]),
    }


@pytest.mark.parametrize("way", ["empty", "another scheme", "another salt", "another tag"])
async def test_a_record_that_does_not_open_is_unreadable_and_logged_by_name(
    vault: Vault, way: str, logged: Callable[[], list[logging.LogRecord]]
) -> None:
    await vault.connect(SECRET, INBOUND)
    name, sealed, _ = vault.version()
    vault.replace_version(damage(sealed)[way])
    messages = set()
    for ask in (
        vault.keeper.get("acme", "vapi"),
        vault.keeper.get("acme", "vapi"),
        vault.keeper.get_newest("acme", "vapi"),
        vault.keeper.resolve_credential(KIND, INBOUND.resource_id, "vapi"),
    ):
        with pytest.raises(CredentialUnreadable) as refused:
            await ask
        messages.add(refused.value.message)
    assert {CredentialUnreadable.sentence} == messages
    records = logged()
    assert [("acme", "vapi", 1, name.key_id)] * 4 == [
        (vars(r)["org"], vars(r)["provider"], vars(r)["version"], vars(r)["key_id"]) for r in records
    ]
    assert all(record.exc_info is None for record in records)


async def test_under_a_key_that_does_not_unwrap_nothing_is_put_or_activated(
    vault: Vault, logged: Callable[[], list[logging.LogRecord]]
) -> None:
    await vault.connect()
    key = vault.store._orgs["acme"].key
    assert key is not None
    vault.store._orgs["acme"].key = replace(key, wrapped=b"garbage")
    events = len(vault.store.events)
    for change in (vault.put(b"another", expected=1), vault.activate(1, INBOUND)):
        with pytest.raises(CredentialUnreadable):
            await change
    assert events == len(vault.store.events)
    told = [record for record in logged() if record.message == "an org's key does not unwrap"]
    assert [("acme", key.key_id, "m")] * 2 == [
        (vars(r)["org"], vars(r)["key_id"], vars(r)["master_key_id"]) for r in told
    ]


async def test_a_record_of_another_org_does_not_open_here(vault: Vault) -> None:
    await vault.connect()
    await vault.connect(b"of globex", org="globex")
    vault.replace_version(vault.version("acme")[1], org="globex")
    with pytest.raises(CredentialUnreadable):
        await vault.keeper.get("globex", "vapi")
    # And not with the key that it was sealed under, either.
    vault.store._orgs["globex"].key = vault.store._orgs["acme"].key
    vault.cache.forget("globex")
    with pytest.raises(CredentialUnreadable):
        await vault.keeper.get("globex", "vapi")


async def test_an_older_record_does_not_open_as_a_newer_version(vault: Vault) -> None:
    await vault.connect(b"old")
    await vault.put(expected=1)
    await vault.activate(2)
    vault.replace_version(vault.version("acme", 1)[1], version=2)
    with pytest.raises(CredentialUnreadable):
        await vault.keeper.get("acme", "vapi")


async def test_a_repeated_read_does_not_ask_the_store(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    await vault.connect()
    await vault.keeper.get("acme", "vapi")
    monkeypatch.setattr(vault.store, "read", lambda *_: pytest.fail("it is in memory"))
    assert (await vault.keeper.get("acme", "vapi")).payload == SECRET


class GatedStore(MemoryStore):
    """A store whose changes wait until they are let go, and may fail after they were made."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    async def set_active(self, org_id: str, provider: str, active: bool, origin: Origin) -> Integration:
        return await self._gated(super().set_active(org_id, provider, active, origin))

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
        return await self._gated(super().activate(org_id, provider, version, mappings, origin))

    async def record_verification(
        self, org_id: str, provider: str, version: int, error: str, origin: Origin
    ) -> Integration:
        return await self._gated(super().record_verification(org_id, provider, version, error, origin))

    async def _gated(self, change: Any) -> Integration:
        await self.gate.wait()
        result: Integration = await change
        if self.fails:
            raise VaultUnavailable
        return result


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


CHANGES: dict[str, Callable[[Vault], Any]] = {
    "activate": lambda vault: vault.activate(2),
    "verify": lambda vault: vault.keeper.record_verification("acme", "vapi", 1, "Refused.", ORIGIN),
    "disconnect": lambda vault: vault.keeper.disconnect("acme", "vapi", ORIGIN),
}


async def generation_served(vault: Vault) -> int:
    """The generation of what a read gives; 0 when there is nothing to read."""
    try:
        return (await vault.keeper.get("acme", "vapi")).generation
    except CredentialNotFound:
        return 0


@pytest.fixture
def store() -> GatedStore:
    return GatedStore()


@pytest.fixture
async def gated(store: GatedStore) -> Vault:
    vault = Vault(store)
    await vault.connect(b"old")
    await vault.put(expected=1)
    return vault


@pytest.mark.parametrize("change", CHANGES)
async def test_after_each_change_the_next_read_is_of_what_is_stored(gated: Vault, change: str) -> None:
    before = await generation_served(gated)
    await CHANGES[change](gated)
    after = await generation_served(gated)
    assert before != after
    assert after in {0, gated.store._orgs["acme"].generation}


async def test_after_a_reconnect_the_next_read_finds_it(vault: Vault) -> None:
    await vault.connect()
    await vault.keeper.disconnect("acme", "vapi", ORIGIN)
    with pytest.raises(CredentialNotFound):
        await vault.keeper.get("acme", "vapi")
    assert State.CONNECTED is (await vault.keeper.reconnect("acme", "vapi", ORIGIN)).state
    assert (await vault.keeper.get("acme", "vapi")).payload == SECRET


@pytest.mark.parametrize("change", CHANGES)
async def test_a_read_between_a_change_and_its_answer_is_not_remembered(
    gated: Vault, store: GatedStore, change: str
) -> None:
    store.gate.clear()
    changing = asyncio.ensure_future(CHANGES[change](gated))
    await settle()
    old = await generation_served(gated)
    store.gate.set()
    await changing
    assert old != await generation_served(gated)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_whose_caller_gave_up_ends_and_is_seen(gated: Vault, store: GatedStore, change: str) -> None:
    store.gate.clear()
    changing = asyncio.ensure_future(CHANGES[change](gated))
    await settle()
    changing.cancel()
    await settle()
    assert changing.cancelled()
    old = await generation_served(gated)
    store.gate.set()
    await settle()
    assert old != await generation_served(gated)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_that_came_about_and_failed_to_say_so_is_seen(
    gated: Vault, store: GatedStore, change: str
) -> None:
    old = await generation_served(gated)
    store.fails = True
    with pytest.raises(VaultUnavailable):
        await CHANGES[change](gated)
    assert old != await generation_served(gated)


async def test_a_failure_that_nobody_waits_for_is_quiet(gated: Vault, store: GatedStore) -> None:
    left_over: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left_over.append(context))
    store.fails = True
    store.gate.clear()
    changing = asyncio.ensure_future(gated.keeper.disconnect("acme", "vapi", ORIGIN))
    await settle()
    changing.cancel()
    store.gate.set()
    await settle()
    assert [] == left_over


@dataclass
class Expected:
    """What must be so of one integration."""

    payloads: list[bytes] = field(default_factory=list)
    active: int = 0
    connected: bool = False
    refused: str = ""
    resources: tuple[Resource, ...] = ()


class KeeperMachine(RuleBasedStateMachine):
    """Two orgs with two providers, any verb in any order, against what each verb must have done."""

    WHERE = st.tuples(st.sampled_from(["acme", "globex"]), st.sampled_from(["vapi", "twilio"]))
    PAYLOADS = st.sampled_from([b"one", b"two", b"three"])
    RESOURCES = st.lists(st.sampled_from([Resource(KIND, f"r{n}", "inbound") for n in range(3)]), unique=True)

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()

    @initialize()
    def begin(self) -> None:
        self.vault = Vault()
        self.expected = {(org, provider): Expected() for org in ("acme", "globex") for provider in ("vapi", "twilio")}

    def teardown(self) -> None:
        self.runner.close()

    def outcome(self, verb: Any) -> Any:
        async def run() -> Any:
            try:
                return await verb
            except TenantVaultError as error:
                return type(error)

        return self.runner.run(run())

    @rule(where=WHERE, payload=PAYLOADS, behind=st.sampled_from([0, 0, 0, 1, -1]))
    def put(self, where: tuple[str, str], payload: bytes, behind: int) -> None:
        expected = self.expected[where]
        newest = len(expected.payloads)
        outcome = self.outcome(
            self.vault.keeper.put(*where, payload, "hint", expected_version=newest - behind, origin=ORIGIN)
        )
        if behind:
            assert VersionConflict is outcome
            return
        gone = expected.active == newest and not expected.connected
        if not (newest and expected.payloads[-1] == payload and not gone):
            expected.payloads.append(payload)
        assert outcome == len(expected.payloads)

    @rule(where=WHERE, resources=RESOURCES, behind=st.sampled_from([0, 0, 0, 1, -1]))
    def activate(self, where: tuple[str, str], resources: list[Resource], behind: int) -> None:
        expected = self.expected[where]
        version = len(expected.payloads) - behind
        outcome = self.outcome(self.vault.keeper.activate(*where, version, resources, ORIGIN))
        if behind or not expected.payloads:
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
        expected.active, expected.connected, expected.refused = version, True, ""
        expected.resources = tuple(sorted(resources, key=lambda resource: resource.resource_id))
        assert State.CONNECTED is outcome.state

    @rule(where=WHERE, connected=st.booleans())
    def switch(self, where: tuple[str, str], *, connected: bool) -> None:
        expected = self.expected[where]
        verb = self.vault.keeper.reconnect if connected else self.vault.keeper.disconnect
        outcome = self.outcome(verb(*where, ORIGIN))
        if not expected.active:
            assert CredentialNotFound is outcome
            return
        expected.connected = connected
        assert self.state(expected) is outcome.state

    @rule(where=WHERE, error=st.sampled_from(["", "Refused."]), behind=st.sampled_from([0, 0, 1]))
    def verify(self, where: tuple[str, str], error: str, behind: int) -> None:
        expected = self.expected[where]
        outcome = self.outcome(
            self.vault.keeper.record_verification(*where, expected.active - behind or 1, error, ORIGIN)
        )
        if not expected.payloads:
            assert CredentialNotFound is outcome
        elif not expected.connected or (expected.active - behind or 1) != expected.active:
            assert VersionConflict is outcome
        else:
            expected.refused = error
            assert self.state(expected) is outcome.state

    @rule(where=WHERE)
    def get(self, where: tuple[str, str]) -> None:
        expected = self.expected[where]
        outcome = self.outcome(self.vault.keeper.get(*where))
        if not expected.connected:
            assert CredentialNotFound is outcome
            return
        assert isinstance(outcome, Plaintext)
        assert (expected.payloads[expected.active - 1], expected.active, expected.resources) == (
            outcome.payload,
            outcome.name.version,
            tuple(outcome.resources),
        )

    @rule(where=WHERE)
    def get_newest(self, where: tuple[str, str]) -> None:
        expected = self.expected[where]
        outcome = self.outcome(self.vault.keeper.get_newest(*where))
        newest = len(expected.payloads)
        if not newest or (expected.active == newest and not expected.connected):
            assert CredentialNotFound is outcome
        else:
            assert (expected.payloads[-1], newest) == (outcome.payload, outcome.name.version)

    @precondition(lambda self: any(expected.resources for expected in self.expected.values()))
    @rule(data=st.data(), provider=st.sampled_from(["vapi", "twilio"]))
    def resolve(self, data: st.DataObject, provider: str) -> None:
        where = data.draw(st.sampled_from([where for where, expected in self.expected.items() if expected.resources]))
        resource = data.draw(st.sampled_from(self.expected[where].resources))
        mapping = self.outcome(self.vault.keeper.resolve(resource.kind, resource.resource_id))
        assert (*where, resource) == (mapping.org_id, mapping.provider, mapping.resource)
        outcome = self.outcome(self.vault.keeper.resolve_credential(resource.kind, resource.resource_id, provider))
        asked = self.expected[where[0], provider]
        if asked.connected:
            assert asked.payloads[asked.active - 1] == outcome.payload
        else:
            assert ResourceNotFound is outcome

    @staticmethod
    def state(expected: Expected) -> State:
        if not expected.connected:
            return State.DISCONNECTED
        return State.REFUSED if expected.refused else State.CONNECTED


KeeperMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestKeeperAgainstItsModel = KeeperMachine.TestCase


async def test_only_a_key_that_is_kept_seals(vault: Vault) -> None:
    """Of two first puts at the same time, the one whose key came second must not seal under it."""
    first = OrgKey("acme", "first", "m", b"")
    real = await vault.keeper._envelope.new_key("acme")

    async def overtaken(key: OrgKey) -> OrgKey:
        assert key != first
        return await MemoryStore.add_org_key(vault.store, real)

    vault.store.add_org_key = overtaken  # type: ignore[method-assign]  # the other put was first
    await vault.connect()
    assert real.key_id == vault.version()[0].key_id
    assert (await vault.keeper.get("acme", "vapi")).payload == SECRET
