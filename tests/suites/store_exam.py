"""What every store must do. A test module gives the fixture `store` and imports all of this."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest

from services.vault.credential import Mapping, OrgKey, Origin, RecordName, Resource, State
from services.vault.keeper import Store
from tenantvault.errors import CredentialNotFound, LeaseHeld, ResourceConflict, VersionConflict

ORIGIN = Origin("provider", "ada@example.com", "request-0001")
MASTER = "exam"


@pytest.fixture
def org() -> str:
    return f"org-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def other_org() -> str:
    return f"org-{uuid.uuid4().hex[:12]}"


async def keyed(store: Store, org: str) -> OrgKey:
    return await store.add_org_key(OrgKey(org, uuid.uuid4().hex, MASTER, b"wrapped"))


async def put(store: Store, org: str, version: int, *, provider: str = "vapi", sealed: bytes = b"") -> RecordName:
    key = await keyed(store, org)
    name = RecordName(org, provider, version, key.key_id)
    await store.put(name, sealed or f"sealed {version}".encode(), f"••••000{version}", ORIGIN)
    return name


def mapped(name: RecordName, *resources: Resource) -> list[Mapping]:
    return [Mapping(name.org_id, name.provider, resource, name.key_id, b"mac") for resource in resources]


async def connect(store: Store, org: str, version: int = 1, *resources: Resource, provider: str = "vapi") -> RecordName:
    name = await put(store, org, version, provider=provider)
    await store.activate(org, provider, version, mapped(name, *resources), ORIGIN)
    return name


def assistant() -> Resource:
    return Resource("vapi_assistant", str(uuid.uuid4()), "inbound")


async def test_the_first_key_of_an_org_is_the_one_that_stays(store: Store, org: str) -> None:
    assert await store.org_key(org) is None
    first = await keyed(store, org)
    assert first == await keyed(store, org)
    assert first == await store.org_key(org)


async def test_an_org_without_anything_reads_as_empty(store: Store, org: str) -> None:
    assert await store.read(org, "vapi") is None
    assert await store.read_newest(org, "vapi") is None
    assert list(await store.integrations(org)) == []


async def test_a_put_version_is_seen_by_read_newest_only(store: Store, org: str) -> None:
    name = await put(store, org, 1)
    assert await store.read(org, "vapi") is None
    newest = await store.read_newest(org, "vapi")
    assert newest is not None
    assert (name, b"sealed 1") == (newest.name, newest.sealed)
    [integration] = await store.integrations(org)
    assert (State.CONNECTING, 0, 1, "") == (
        integration.state,
        integration.version,
        integration.latest_version,
        integration.hint,
    )


async def test_an_activated_version_is_read_with_its_key_and_resources(store: Store, org: str) -> None:
    inbound, outbound = assistant(), replace(assistant(), role="outbound")
    name = await connect(store, org, 1, outbound, inbound)
    stored = await store.read(org, "vapi")
    assert stored is not None
    assert (name, b"sealed 1", await store.org_key(org)) == (stored.name, stored.sealed, stored.key)
    assert (inbound, outbound) == tuple(stored.resources)
    assert stored.last_verified_at is not None
    [integration] = await store.integrations(org)
    assert (State.CONNECTED, 1, "••••0001") == (integration.state, integration.version, integration.hint)
    assert integration.connected_at is not None


async def test_the_old_version_is_read_until_the_new_one_is_activated(store: Store, org: str) -> None:
    await connect(store, org)
    name = await put(store, org, 2)
    before = await store.read(org, "vapi")
    await store.activate(org, "vapi", 2, [], ORIGIN)
    after = await store.read(org, "vapi")
    assert before is not None
    assert after is not None
    assert (1, name) == (before.name.version, after.name)


@pytest.mark.parametrize("version", [1, 3, 4])
async def test_a_put_that_does_not_follow_the_newest_is_refused(store: Store, org: str, version: int) -> None:
    await connect(store, org)
    if version > 1:
        await keyed(store, org)
    with pytest.raises(VersionConflict):
        await put(store, org, version)
    assert 1 == (await store.integrations(org))[0].latest_version


@pytest.mark.parametrize("version", [1, 3])
async def test_only_the_newest_version_can_be_activated(store: Store, org: str, version: int) -> None:
    await put(store, org, 1)
    await put(store, org, 2)
    with pytest.raises(VersionConflict):
        await store.activate(org, "vapi", version, [], ORIGIN)
    assert await store.read(org, "vapi") is None


async def test_of_concurrent_puts_one_wins(store: Store, org: str) -> None:
    await keyed(store, org)
    results = await asyncio.gather(*(put(store, org, 1) for _ in range(8)), return_exceptions=True)
    conflicts = [result for result in results if isinstance(result, VersionConflict)]
    assert 7 == len(conflicts)
    assert 1 == (await store.integrations(org))[0].latest_version


async def test_activating_again_replaces_the_resources(store: Store, org: str) -> None:
    first, second = assistant(), assistant()
    name = await connect(store, org, 1, first)
    await store.activate(org, "vapi", 1, mapped(name, second), ORIGIN)
    stored = await store.read(org, "vapi")
    assert stored is not None
    assert [second] == list(stored.resources)
    assert await store.resolve(first.kind, first.resource_id) is None


async def test_a_resource_resolves_to_its_org_and_key(store: Store, org: str, other_org: str) -> None:
    mine, theirs = assistant(), assistant()
    name = await connect(store, org, 1, mine)
    await connect(store, other_org, 1, theirs)
    found = await store.resolve(mine.kind, mine.resource_id)
    assert (mapped(name, mine)[0], await store.org_key(org)) == found
    assert await store.resolve(mine.kind, "unknown") is None
    assert await store.resolve("phone_number", mine.resource_id) is None


async def test_a_resource_resolves_to_the_credential_of_its_org(store: Store, org: str, other_org: str) -> None:
    mine = assistant()
    await connect(store, org, 1, mine)
    await connect(store, org, provider="twilio")
    await connect(store, other_org, provider="resend")
    for provider in ("vapi", "twilio"):
        found = await store.resolve_credential(mine.kind, mine.resource_id, provider)
        assert found is not None
        assert await store.read(org, provider) == found[2]
    found = await store.resolve_credential(mine.kind, mine.resource_id, "resend")
    assert found is not None
    assert found[2] is None
    assert await store.resolve_credential(mine.kind, "unknown", "vapi") is None


async def test_a_resource_of_another_org_cannot_be_registered(store: Store, org: str, other_org: str) -> None:
    theirs = assistant()
    await connect(store, other_org, 1, theirs)
    name = await put(store, org, 1)
    with pytest.raises(ResourceConflict):
        await store.activate(org, "vapi", 1, mapped(name, assistant(), theirs), ORIGIN)
    assert await store.read(org, "vapi") is None
    found = await store.resolve(theirs.kind, theirs.resource_id)
    assert found is not None
    assert other_org == found[0].org_id


async def test_a_resource_that_another_integration_of_the_org_has_is_the_same_conflict(store: Store, org: str) -> None:
    number = Resource("phone_number", f"+1{uuid.uuid4().int % 10**10}", "voice")
    await connect(store, org, 1, number, provider="twilio")
    name = await put(store, org, 1)
    with pytest.raises(ResourceConflict):
        await store.activate(org, "vapi", 1, mapped(name, number), ORIGIN)


async def test_a_disconnected_credential_is_not_read_and_comes_back(store: Store, org: str) -> None:
    name = await connect(store, org)
    assert State.DISCONNECTED is (await store.set_active(org, "vapi", False, ORIGIN)).state
    assert await store.read(org, "vapi") is None
    assert await store.read_newest(org, "vapi") is None
    assert State.CONNECTED is (await store.set_active(org, "vapi", True, ORIGIN)).state
    stored = await store.read(org, "vapi")
    assert stored is not None
    assert name == stored.name


async def test_a_newer_version_of_a_disconnected_integration_can_be_taken_up_again(store: Store, org: str) -> None:
    await connect(store, org)
    await store.set_active(org, "vapi", False, ORIGIN)
    name = await put(store, org, 2)
    newest = await store.read_newest(org, "vapi")
    assert newest is not None
    assert name == newest.name
    assert State.CONNECTED is (await store.activate(org, "vapi", 2, [], ORIGIN)).state


async def test_a_disconnect_ends_a_connect_that_is_under_way(store: Store, org: str) -> None:
    await connect(store, org)
    await put(store, org, 2)
    await store.set_active(org, "vapi", False, ORIGIN)
    with pytest.raises(VersionConflict):
        await store.activate(org, "vapi", 2, [], ORIGIN)
    assert await store.read(org, "vapi") is None
    assert await store.read_newest(org, "vapi") is None
    [integration] = await store.integrations(org)
    assert (State.DISCONNECTED, 1, 3) == (integration.state, integration.version, integration.latest_version)
    await connect(store, org, 4)
    stored = await store.read(org, "vapi")
    assert stored is not None
    assert 4 == stored.name.version


@pytest.mark.parametrize("active", [True, False])
async def test_what_was_never_connected_cannot_be_disconnected_or_reconnected(
    store: Store, org: str, active: bool
) -> None:
    for prepare in (None, put):
        if prepare is not None:
            await prepare(store, org, 1)
        with pytest.raises(CredentialNotFound):
            await store.set_active(org, "vapi", active, ORIGIN)


async def test_a_refusal_is_kept_and_does_not_stop_reading(store: Store, org: str) -> None:
    await connect(store, org)
    before = (await store.integrations(org))[0].last_verified_at
    refused = await store.record_verification(org, "vapi", 1, "Key refused.", ORIGIN)
    assert (State.REFUSED, "Key refused.", before) == (
        refused.state,
        refused.verification_error,
        refused.last_verified_at,
    )
    assert await store.read(org, "vapi") is not None
    healed = await store.record_verification(org, "vapi", 1, "", ORIGIN)
    assert (State.CONNECTED, "") == (healed.state, healed.verification_error)
    assert before is not None
    assert healed.last_verified_at is not None
    assert healed.last_verified_at >= before


async def test_only_the_active_version_can_be_verified(store: Store, org: str) -> None:
    with pytest.raises(CredentialNotFound):
        await store.record_verification(org, "vapi", 1, "", ORIGIN)
    await connect(store, org)
    await put(store, org, 2)
    with pytest.raises(VersionConflict):
        await store.record_verification(org, "vapi", 2, "", ORIGIN)
    await store.set_active(org, "vapi", False, ORIGIN)
    with pytest.raises(VersionConflict):
        await store.record_verification(org, "vapi", 1, "", ORIGIN)


async def test_every_change_counts_the_generation_up(store: Store, org: str) -> None:
    await connect(store, org)
    first = await store.read(org, "vapi")
    await store.record_verification(org, "vapi", 1, "", ORIGIN)
    second = await store.read(org, "vapi")
    assert first is not None
    assert second is not None
    assert second.generation > first.generation


async def test_a_lease_is_one_owners_until_it_is_given_back(store: Store, org: str) -> None:
    await store.acquire_lease(org, "vapi", "worker-1", 60)
    await store.acquire_lease(org, "vapi", "worker-1", 60)
    with pytest.raises(LeaseHeld) as held:
        await store.acquire_lease(org, "vapi", "worker-2", 60)
    assert held.value.retry_after is not None
    assert 0 < held.value.retry_after <= 60
    await store.acquire_lease(org, "twilio", "worker-2", 60)
    await store.release_lease(org, "vapi", "worker-2")
    with pytest.raises(LeaseHeld):
        await store.acquire_lease(org, "vapi", "worker-2", 60)
    await store.release_lease(org, "vapi", "worker-1")
    await store.acquire_lease(org, "vapi", "worker-2", 60)


async def test_a_lease_that_ran_out_can_be_taken(store: Store, org: str) -> None:
    await store.acquire_lease(org, "vapi", "worker-1", 1e-6)
    await store.acquire_lease(org, "vapi", "worker-2", 60)
    await store.release_lease(org, "vapi", "worker-1")
    with pytest.raises(LeaseHeld):
        await store.acquire_lease(org, "vapi", "worker-1", 60)


async def test_of_concurrent_takers_of_a_lease_one_wins(store: Store, org: str) -> None:
    takers = (store.acquire_lease(org, "vapi", f"worker-{number}", 60) for number in range(8))
    results = await asyncio.gather(*takers, return_exceptions=True)
    assert 7 == sum(isinstance(result, LeaseHeld) for result in results)


async def test_a_worker_without_the_lease_activates_nothing(store: Store, org: str) -> None:
    await put(store, org, 1)
    await store.acquire_lease(org, "vapi", "worker-1", 60)
    with pytest.raises(LeaseHeld):
        await store.activate(org, "vapi", 1, [], ORIGIN, lease_owner="worker-2")
    assert await store.read(org, "vapi") is None
    await store.activate(org, "vapi", 1, [], ORIGIN, lease_owner="worker-1")
    assert await store.read(org, "vapi") is not None


async def test_orgs_do_not_see_each_other(store: Store, org: str, other_org: str) -> None:
    await connect(store, org, 1, assistant())
    await keyed(store, other_org)
    assert await store.read(other_org, "vapi") is None
    assert await store.read_newest(other_org, "vapi") is None
    assert list(await store.integrations(other_org)) == []
    with pytest.raises(CredentialNotFound):
        await store.set_active(other_org, "vapi", False, ORIGIN)
    assert (await store.integrations(org))[0].state is State.CONNECTED


Events = Callable[[str], "asyncio.Future[list[tuple[int, str, str, int, str, Origin]]]"]


async def test_every_change_leaves_one_event_in_order(store: Store, org: str, events: Events) -> None:
    await connect(store, org)
    await store.record_verification(org, "vapi", 1, "No.", ORIGIN)
    await store.set_active(org, "vapi", False, ORIGIN)
    await store.set_active(org, "vapi", False, ORIGIN)
    await store.set_active(org, "vapi", True, ORIGIN)
    found = await events(org)
    assert [
        ("credential.put", "vapi", 1, "ok", ORIGIN),
        ("credential.activate", "vapi", 1, "ok", ORIGIN),
        ("credential.verify", "vapi", 1, "refused", ORIGIN),
        ("credential.disconnect", "vapi", 1, "ok", ORIGIN),
        ("credential.reconnect", "vapi", 1, "ok", ORIGIN),
    ] == [event[1:] for event in found]
    generations = [event[0] for event in found]
    assert sorted(set(generations)) == generations


async def test_a_change_that_fails_leaves_no_event(store: Store, org: str, events: Events) -> None:
    await put(store, org, 1)
    for refused in (
        lambda: put(store, org, 1),
        lambda: store.activate(org, "vapi", 7, [], ORIGIN),
        lambda: store.record_verification(org, "vapi", 1, "", ORIGIN),
        lambda: store.set_active(org, "vapi", True, ORIGIN),
    ):
        with pytest.raises((VersionConflict, CredentialNotFound)):
            await refused()
    assert ["credential.put"] == [event[1] for event in await events(org)]
