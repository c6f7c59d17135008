"""What every store must do. A test module gives the fixtures `parts` and `pass_time` and imports all of this.

A keeper and a reader drive the store, with a real envelope; what they never do is asked of the store directly.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from typing import Any, Protocol

import pytest

from services.vault import keeper as keeper_ports
from services.vault import org as rules
from services.vault import reader as reader_ports
from services.vault import rotation
from services.vault import work as work_ports
from services.vault.audit import Page, event_of
from services.vault.cache import Cache, Freshness
from services.vault.credential import (
    Facts,
    Integration,
    Org,
    OrgState,
    Origin,
    Plaintext,
    Pointer,
    Read,
    ReadCount,
    Reads,
    Record,
    RecordName,
    Resolved,
    Resource,
    State,
    Stored,
    Version,
    VersionState,
)
from services.vault.credential import Mapping as Row
from services.vault.envelope import Envelope
from services.vault.fleet import Alone, Sync
from services.vault.keeper import Change, Held, Keeper
from services.vault.keyring import Keyring
from services.vault.reader import Nothing, Owned, Readable, Reader
from services.vault.rotation import OrgRotations
from services.vault.seal import Unreadable
from services.vault.work import DueWork, Finish, OAuthState, Piece, ScheduledWork, Task
from tenantvault.audit import Event, Head, Link, check_signature, prove
from tenantvault.errors import (
    CredentialNotFound,
    InvalidRequest,
    LeaseHeld,
    OAuthStateInvalid,
    OrgFrozen,
    OrgShredded,
    ResourceConflict,
    ResourceNotFound,
    TenantVaultError,
    VersionConflict,
    VersionNotFound,
)

ORIGIN = Origin("provider", "ada@example.com", "request-0001")
HOUR = timedelta(hours=1)


class Store(keeper_ports.Store, reader_ports.Store, Protocol):
    """All that the vault asks of a store."""

    async def versions(self, org_id: str, provider: str) -> Sequence[Version]: ...

    async def generations(self, orgs: Sequence[str]) -> Mapping[str, int]: ...

    async def acquire_lease(self, org_id: str, provider: str, owner: str, seconds: float) -> None: ...

    async def release_lease(self, org_id: str, provider: str, owner: str) -> None: ...


class Audit(Protocol):
    """All that the vault asks of the audit."""

    async def add(self, events: Sequence[Event]) -> None: ...

    async def events(
        self,
        org_id: str,
        *,
        before: int = 0,
        limit: int = 100,
        provider: str = "",
        action: str = "",
        peer: str = "",
        failed: bool = False,
        at_most: int = ...,
    ) -> Page: ...

    async def reads(self, org_id: str, since: datetime, *, at_most: int = ...) -> Reads: ...

    def chain_of(self, org_id: str) -> AsyncIterator[Link | Head]: ...

    async def generation(self, org_id: str) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """A store in its parts, the master keys that it knows, and the public key that its audit is signed for."""

    store: Store
    audit: Audit
    keys: rotation.RecordStore
    ring: Keyring
    public_key: bytes
    work: work_ports.Work
    oauth_states: work_ports.OAuthStates


class Log:
    """The audit of what is read: org, provider, version, action and outcome."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, int, str, str]] = []

    def write(self, origin: Origin, action: str, reads: Sequence[tuple[str, str, int]], *, outcome: str = "ok") -> None:
        assert origin == ORIGIN
        self.written.extend((*read, action, outcome) for read in reads)


class Vault:
    """A keeper and a reader on a store. Without a freshness nothing is served from memory."""

    def __init__(
        self,
        parts: Parts,
        *,
        freshness: Freshness | None = None,
        vaults: keeper_ports.Vaults | None = None,
        overlap: timedelta = timedelta(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.parts = parts
        self.store = parts.store
        self.log = Log()
        self.envelope = Envelope(parts.ring)
        self.credentials: Cache[Readable | Nothing] = Cache(freshness=freshness or Sync())
        self.directory: Cache[Owned | Nothing] = Cache(freshness=freshness or Sync(), owned=False)
        self.keeper = Keeper(
            store=parts.store,
            envelope=self.envelope,
            vaults=vaults or Alone(),
            forget=self.forget,
            unreadable=Unreadable,
            overlap=overlap,
            now=now,
        )
        self.reader = Reader(
            store=parts.store,
            envelope=self.envelope,
            credentials=self.credentials,
            directory=self.directory,
            log=self.log,
            unreadable=Unreadable,
            now=now,
        )
        self.rotations = OrgRotations(parts.keys, self.envelope, Unreadable)

    def forget(self, org_id: str) -> None:
        self.credentials.forget(org_id)
        self.directory.forget(org_id)

    async def put(self, org: str, payload: bytes = b"", *, provider: str = "vapi", expected: int = 0) -> int:
        version = expected + 1
        return await self.keeper.put(
            org,
            provider,
            payload or secret(org, provider, version),
            f"••••000{version}",
            expected_version=expected,
            origin=ORIGIN,
        )

    async def activate(
        self,
        org: str,
        version: int = 1,
        *resources: Resource,
        provider: str = "vapi",
        lease_owner: str = "",
        facts: Facts | None = None,
        schedule: Sequence[ScheduledWork] | None = None,
    ) -> Integration:
        return await self.keeper.activate(
            org, provider, version, resources, ORIGIN, lease_owner=lease_owner, facts=facts, schedule=schedule
        )

    async def connect(
        self,
        org: str,
        *resources: Resource,
        payload: bytes = b"",
        provider: str = "vapi",
        expected: int = 0,
        schedule: Sequence[ScheduledWork] | None = None,
    ) -> Integration:
        version = await self.put(org, payload, provider=provider, expected=expected)
        return await self.activate(org, version, *resources, provider=provider, schedule=schedule)

    async def refresh(
        self,
        org: str,
        payload: bytes,
        version: int = 1,
        *,
        provider: str = "vapi",
        lease_owner: str = "worker",
        may_replace: Callable[[bytes, bytes], bool] = lambda _, __: True,
    ) -> None:
        await self.store.acquire_lease(org, provider, "worker", 60)
        await self.keeper.refresh(
            org, provider, payload, version, may_replace=may_replace, lease_owner=lease_owner, origin=ORIGIN
        )

    async def verify(self, org: str, version: int = 1, error: str = "", **said: Any) -> Integration:
        return await self.keeper.record_verification(org, "vapi", version, Facts(error=error, **said), ORIGIN)

    async def disconnect(self, org: str, *, provider: str = "vapi") -> Integration:
        return await self.keeper.disconnect(org, provider, ORIGIN)

    async def reconnect(self, org: str, *, provider: str = "vapi", warnings: Sequence[str] = ()) -> Integration:
        return await self.keeper.reconnect(org, provider, ORIGIN, warnings=warnings)

    async def roll_back(self, org: str, version: int, *, expected: int, provider: str = "vapi") -> Integration:
        return await self.keeper.roll_back(org, provider, version, expected_version=expected, origin=ORIGIN)

    async def destroy(self, org: str, version: int, *, provider: str = "vapi") -> None:
        await self.keeper.destroy(org, provider, version, ORIGIN)

    async def get(self, org: str, *, provider: str = "vapi", include_previous: bool = False) -> Plaintext:
        return await self.reader.get(org, provider, ORIGIN, include_previous=include_previous)

    async def get_newest(self, org: str, *, provider: str = "vapi") -> Plaintext:
        return await self.reader.get_newest(org, provider, ORIGIN)

    async def resolve_credential(self, resource: Resource, *, provider: str = "vapi") -> Plaintext:
        return await self.reader.resolve_credential(resource.kind, resource.resource_id, provider, ORIGIN)

    async def owner(self, resource: Resource) -> str:
        return (await self.reader.resolve(resource.kind, resource.resource_id, ORIGIN)).org_id

    async def integration(self, org: str, *, provider: str = "vapi") -> Integration:
        [found] = [each for each in await self.store.integrations(org) if each.provider == provider]
        return found

    async def generation(self, org: str) -> int:
        return (await self.store.generations([org])).get(org, 0)

    async def events(self, org: str) -> list[tuple[str, str, int, str]]:
        """Action, provider, version and outcome of an org's events, the oldest first."""
        links = [link for link in await chain_of(self.parts.audit, org) if isinstance(link, Link)]
        return [(e.action, e.provider, e.version, e.outcome) for e in (link.event for link in links)]


def secret(org: str, provider: str, version: int) -> bytes:
    return f"canary of {org}, {provider} {version}".encode()


def assistant(role: str = "inbound") -> Resource:
    return Resource("vapi_assistant", str(uuid.uuid4()), role)


async def chain_of(audit: Audit, org: str) -> list[Link | Head]:
    return [part async for part in audit.chain_of(org)]


async def proved(parts: Parts, org: str) -> int:
    """Prove an org's chain against the key that signs; how many events it has."""
    *links, head = await chain_of(parts.audit, org)
    assert isinstance(head, Head)
    assert parts.public_key == head.public_key
    return prove((link for link in links if isinstance(link, Link)), head, check_signature)


async def read(store: Store, org: str, *, provider: str = "vapi", newest: bool = False) -> Stored:
    [stored] = await store.read([(org, provider)], newest=newest)
    assert stored is not None
    return stored


async def readable(store: Store, org: str, *, provider: str = "vapi", newest: bool = False) -> int:
    """The version that can be read; 0 for none."""
    record = (await read(store, org, provider=provider, newest=newest)).record
    return record.name.version if record else 0


async def states(store: Store, org: str, *, provider: str = "vapi") -> dict[int, str]:
    return {version.version: version.state.value for version in await store.versions(org, provider)}


@pytest.fixture
def store(parts: Parts) -> Store:
    return parts.store


@pytest.fixture
def vault(parts: Parts) -> Vault:
    return Vault(parts)


@pytest.fixture
def org() -> str:
    return f"org-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def other_org() -> str:
    return f"org-{uuid.uuid4().hex[:12]}"


async def test_an_org_without_anything_reads_as_empty(parts: Parts, org: str) -> None:
    store, audit, keys = parts.store, parts.audit, parts.keys
    assert [None] == list(await store.read([(org, "vapi")]))
    assert [None] == list(await store.read([(org, "vapi")], newest=True))
    assert [] == list(await store.integrations(org))
    assert [] == list(await store.versions(org, "vapi"))
    assert {} == await store.generations([org])
    assert Page([]) == await audit.events(org)
    assert [] == await chain_of(audit, org)
    assert (0, 0) == await audit.generation(org)
    key, records = await keys.records_under_old_keys(org, at_most=10)
    assert (None, []) == (key, list(records))
    assert 0 == await keys.destroy_old_keys(org)


async def test_the_first_key_of_an_org_is_the_one_that_stays(vault: Vault, store: Store, org: str) -> None:
    await vault.put(org)
    first = (await read(store, org)).key
    assert first is not None
    assert org == first.org_id
    await vault.activate(org)
    await vault.connect(org, expected=1)
    await vault.connect(org, provider="twilio")
    assert first == (await read(store, org)).key == (await read(store, org, provider="twilio")).key


async def test_of_two_orgs_each_has_its_own_key(vault: Vault, store: Store, org: str, other_org: str) -> None:
    await vault.put(org)
    await vault.put(other_org)
    mine, theirs = (await read(store, org)).key, (await read(store, other_org)).key
    assert mine is not None
    assert theirs is not None
    assert (mine.org_id, theirs.org_id) == (org, other_org)
    assert mine.key_id != theirs.key_id
    assert mine.wrapped != theirs.wrapped


async def test_of_two_first_puts_at_the_same_time_both_are_under_the_key_that_stays(
    vault: Vault, store: Store, org: str
) -> None:
    await asyncio.gather(*(vault.put(org, provider=provider) for provider in ("vapi", "twilio", "resend")))
    found = [await read(store, org, provider=provider, newest=True) for provider in ("vapi", "twilio", "resend")]
    assert 1 == len({stored.key for stored in found})
    assert all(stored.record and stored.record.key == stored.key for stored in found)
    for provider in ("vapi", "twilio", "resend"):
        assert secret(org, provider, 1) == (await vault.get_newest(org, provider=provider)).payload


async def test_a_put_version_is_seen_by_a_read_of_the_newest_only(vault: Vault, store: Store, org: str) -> None:
    await vault.put(org)
    assert 0 == await readable(store, org)
    newest = await read(store, org, newest=True)
    assert newest.record is not None
    assert newest.key is not None
    assert (org, "vapi", 1, newest.key.key_id) == (
        newest.record.name.org_id,
        newest.record.name.provider,
        newest.record.name.version,
        newest.record.name.key_id,
    )
    assert secret(org, "vapi", 1) not in newest.record.sealed
    with pytest.raises(CredentialNotFound):
        await vault.get(org)
    assert secret(org, "vapi", 1) == (await vault.get_newest(org)).payload
    integration = await vault.integration(org)
    assert (State.CONNECTING, 0, 1, "", None) == (
        integration.state,
        integration.version,
        integration.latest_version,
        integration.hint,
        integration.connected_at,
    )


async def test_an_activated_version_is_read_with_its_key_its_proofs_and_its_resources(
    vault: Vault, store: Store, org: str
) -> None:
    inbound, outbound = assistant(), assistant("outbound")
    shown = await vault.connect(org, outbound, inbound)
    stored = await read(store, org)
    assert stored.record is not None
    assert (org, OrgState.ACTIVE, 2) == (stored.org_id, stored.org_state, stored.generation)
    assert (
        Pointer(provider="vapi", version=1, latest_version=1, is_active=True, registered=2, resources=2)
        == stored.pointer
    )
    assert stored.record.key == stored.key
    assert stored.previous is None
    assert [inbound, outbound] == [mapping.resource for mapping in stored.mappings]
    assert {(org, "vapi")} == {(mapping.org_id, mapping.provider) for mapping in stored.mappings}
    assert await vault.envelope.trusts(stored)
    assert stored.last_verified_at is not None
    got = await vault.get(org)
    assert (secret(org, "vapi", 1), 1, [inbound, outbound], 2, stored.last_verified_at) == (
        got.payload,
        got.label.name.version,
        list(got.label.resources),
        got.label.generation,
        got.label.last_verified_at,
    )
    assert (State.CONNECTED, 1, 1, "••••0001", [inbound, outbound]) == (
        shown.state,
        shown.version,
        shown.latest_version,
        shown.hint,
        list(shown.resources),
    )
    assert shown.connected_at is not None
    assert shown == await vault.integration(org)


async def test_the_old_version_is_read_until_the_new_one_is_activated(vault: Vault, store: Store, org: str) -> None:
    await vault.connect(org)
    await vault.put(org, expected=1)
    assert (1, 2) == (await readable(store, org), await readable(store, org, newest=True))
    assert "••••0001" == (await vault.integration(org)).hint
    assert "••••0002" == (await vault.activate(org, 2)).hint
    assert (2, 2) == (await readable(store, org), await readable(store, org, newest=True))
    assert secret(org, "vapi", 2) == (await vault.get(org)).payload


@pytest.mark.parametrize("expected", [0, 2, 3])
async def test_a_put_that_does_not_follow_the_newest_is_refused(vault: Vault, org: str, expected: int) -> None:
    await vault.connect(org)
    with pytest.raises(VersionConflict):
        await vault.put(org, expected=expected)
    assert 1 == (await vault.integration(org)).latest_version


@pytest.mark.parametrize("version", [1, 3])
async def test_only_the_newest_version_can_be_activated(vault: Vault, store: Store, org: str, version: int) -> None:
    await vault.put(org)
    await vault.put(org, expected=1)
    with pytest.raises(VersionConflict):
        await vault.activate(org, version)
    assert 0 == await readable(store, org)


async def test_of_concurrent_puts_one_wins(vault: Vault, org: str) -> None:
    results = await asyncio.gather(*(vault.put(org) for _ in range(8)), return_exceptions=True)
    assert 7 == sum(isinstance(result, VersionConflict) for result in results)
    assert 1 == (await vault.integration(org)).latest_version


async def test_activating_again_replaces_the_resources(vault: Vault, store: Store, org: str) -> None:
    first, second = assistant(), assistant()
    await vault.connect(org, first)
    connected_at = (await vault.integration(org)).connected_at
    shown = await vault.activate(org, 1, second)
    assert ([second], connected_at) == (list(shown.resources), shown.connected_at)
    stored = await read(store, org)
    assert [second] == [mapping.resource for mapping in stored.mappings]
    assert (3, 1) == (stored.pointer.registered, stored.pointer.resources)
    assert org == await vault.owner(second)
    with pytest.raises(ResourceNotFound):
        await vault.owner(first)


async def test_many_are_read_at_once_in_the_order_of_the_keys(
    vault: Vault, store: Store, org: str, other_org: str
) -> None:
    await vault.connect(org)
    await vault.connect(other_org)
    await vault.connect(org, provider="twilio")
    keys = [(other_org, "vapi"), (org, "twilio"), ("nobody", "vapi"), (org, "vapi"), (org, "resend"), (org, "twilio")]
    found = await store.read(keys)
    assert [(other_org, "vapi"), (org, "twilio"), None, (org, "vapi"), None, (org, "twilio")] == [
        stored and (stored.org_id, stored.pointer.provider) for stored in found
    ]
    assert [(await store.read([key]))[0] for key in keys] == list(found)


async def test_a_resource_resolves_to_its_org_and_integration(
    vault: Vault, store: Store, org: str, other_org: str
) -> None:
    mine, theirs = assistant(), assistant("outbound")
    await vault.connect(org, mine)
    await vault.connect(other_org, theirs)
    keys = [
        (theirs.kind, theirs.resource_id),
        (mine.kind, "unknown"),
        ("phone_number", mine.resource_id),
        (mine.kind, mine.resource_id),
        (theirs.kind, theirs.resource_id),
    ]
    found = await store.resolve(keys, None)
    assert [other_org, None, None, org, other_org] == [each and each.mapping.org_id for each in found]
    for each, resource in ((found[0], theirs), (found[3], mine)):
        assert each is not None
        assert ("vapi", resource, None) == (each.mapping.provider, each.mapping.resource, each.credential)
        assert [each.mapping] == list(each.integration.mappings)
        # Without its record: no credential was asked for.
        integration = await read(store, each.mapping.org_id)
        assert replace(integration, record=None) == replace(each.integration, record=None)
        assert integration.key is not None
        assert await vault.envelope.trusts_mapping(integration.key, each.mapping, integration.pointer)
    assert (org, other_org) == (await vault.owner(mine), await vault.owner(theirs))


async def test_a_resource_resolves_to_the_credential_of_its_org(
    vault: Vault, store: Store, org: str, other_org: str
) -> None:
    mine = assistant()
    await vault.connect(org, mine)
    await vault.connect(org, provider="twilio")
    await vault.connect(other_org, provider="resend")
    for provider in ("vapi", "twilio"):
        [found] = await store.resolve([(mine.kind, mine.resource_id)], provider)
        assert found is not None
        assert await read(store, org, provider=provider) == found.credential
        assert "vapi" == found.integration.pointer.provider
        assert secret(org, provider, 1) == (await vault.resolve_credential(mine, provider=provider)).payload
    for provider, resource in (("resend", mine), ("vapi", replace(mine, resource_id="unknown"))):
        with pytest.raises(ResourceNotFound):
            await vault.resolve_credential(resource, provider=provider)
    [found, unknown] = await store.resolve([(mine.kind, mine.resource_id), (mine.kind, "unknown")], "resend")
    assert isinstance(found, Resolved)
    assert (None, None) == (found.credential, unknown)


async def test_many_resources_resolve_to_their_credentials_in_the_order_of_the_keys(
    vault: Vault, store: Store, org: str, other_org: str
) -> None:
    mine, theirs = assistant(), assistant()
    for of, resource in ((org, mine), (other_org, theirs)):
        await vault.connect(of, resource)
        await vault.connect(of, provider="twilio")
    keys = [(theirs.kind, theirs.resource_id), (mine.kind, mine.resource_id), (theirs.kind, theirs.resource_id)]
    found = await store.resolve(keys, "twilio")
    assert [other_org, org, other_org] == [each and each.credential and each.credential.org_id for each in found]
    assert {"twilio"} == {each.credential.pointer.provider for each in found if each and each.credential}


async def test_a_resource_of_another_org_cannot_be_registered(
    vault: Vault, store: Store, org: str, other_org: str
) -> None:
    theirs = assistant()
    await vault.connect(other_org, theirs)
    await vault.put(org)
    with pytest.raises(ResourceConflict):
        await vault.activate(org, 1, assistant(), theirs)
    assert 0 == await readable(store, org)
    assert [] == list((await read(store, org)).mappings)
    assert (1, [("credential.put", "vapi", 1, "ok")]) == (await vault.generation(org), await vault.events(org))
    assert other_org == await vault.owner(theirs)


async def test_a_resource_that_another_integration_of_the_org_has_is_the_same_conflict(vault: Vault, org: str) -> None:
    number = Resource("phone_number", f"+1{uuid.uuid4().int % 10**10}", "voice")
    await vault.connect(org, number, provider="twilio")
    await vault.put(org)
    with pytest.raises(ResourceConflict):
        await vault.activate(org, 1, number)


async def test_a_resource_twice_in_one_change_is_the_same_conflict(vault: Vault, org: str) -> None:
    number = assistant()
    await vault.put(org)
    with pytest.raises(ResourceConflict):
        await vault.activate(org, 1, number, replace(number, role="outbound"))


async def test_a_resource_that_was_let_go_is_anybodys(vault: Vault, org: str, other_org: str) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    await vault.connect(org, expected=1)
    await vault.connect(other_org, resource)
    assert other_org == await vault.owner(resource)


async def test_a_disconnected_credential_is_not_read_and_comes_back(vault: Vault, store: Store, org: str) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    assert State.DISCONNECTED is (await vault.disconnect(org)).state
    assert (0, 0) == (await readable(store, org), await readable(store, org, newest=True))
    assert await vault.envelope.trusts(await read(store, org))
    for ask in (vault.get(org), vault.get_newest(org)):
        with pytest.raises(CredentialNotFound):
            await ask
    shown = await vault.reconnect(org)
    assert (State.CONNECTED, [resource]) == (shown.state, list(shown.resources))
    assert secret(org, "vapi", 1) == (await vault.get(org)).payload


async def test_a_newer_version_of_a_disconnected_integration_can_be_taken_up_again(
    vault: Vault, store: Store, org: str
) -> None:
    await vault.connect(org)
    await vault.disconnect(org)
    await vault.put(org, expected=2)
    assert (0, 3) == (await readable(store, org), await readable(store, org, newest=True))
    assert State.CONNECTED is (await vault.activate(org, 3)).state


async def test_a_disconnect_ends_a_connect_that_is_under_way(vault: Vault, store: Store, org: str) -> None:
    await vault.connect(org)
    await vault.put(org, expected=1)
    await vault.disconnect(org)
    with pytest.raises(VersionConflict):
        await vault.activate(org, 2)
    assert (0, 0) == (await readable(store, org), await readable(store, org, newest=True))
    integration = await vault.integration(org)
    assert (State.DISCONNECTED, 1, 3) == (integration.state, integration.version, integration.latest_version)
    await vault.connect(org, expected=3)
    assert 4 == await readable(store, org)
    assert {1: "stored", 2: "stored", 4: "active"} == await states(store, org)


@pytest.mark.parametrize("comes_back", [False, True], ids=["disconnected", "reconnected"])
async def test_a_disconnect_ends_work_that_has_put_nothing_yet(vault: Vault, org: str, *, comes_back: bool) -> None:
    await vault.connect(org)
    await vault.disconnect(org)
    if comes_back:
        await vault.reconnect(org)
    with pytest.raises(VersionConflict):
        await vault.put(org, expected=1)
    shown = await vault.integration(org)
    assert (1, 2) == (shown.version, shown.latest_version)
    assert 3 == (await vault.connect(org, expected=2)).version


async def test_after_a_reconnect_the_active_version_is_older_than_the_newest(
    vault: Vault, store: Store, org: str
) -> None:
    resource = assistant()
    await vault.connect(org)
    await vault.connect(org, resource, expected=1)
    await vault.disconnect(org)
    await vault.reconnect(org)
    # The number that was passed over has nothing.
    assert (2, 0) == (await readable(store, org), await readable(store, org, newest=True))
    with pytest.raises(CredentialNotFound):
        await vault.get_newest(org)
    assert {1: "stored", 2: "active"} == await states(store, org)
    with pytest.raises(VersionConflict):
        await vault.activate(org, 3)
    generation = await vault.generation(org)
    assert 2 == await vault.put(org, secret(org, "vapi", 2), expected=3)
    assert generation == await vault.generation(org)
    assert (2, 3, [resource]) == (
        (shown := await vault.activate(org, 2, resource)).version,
        shown.latest_version,
        list(shown.resources),
    )
    assert 1 == (await vault.roll_back(org, 1, expected=2)).version
    assert secret(org, "vapi", 1) == (await vault.get(org)).payload
    assert 4 == await vault.put(org, secret(org, "vapi", 2), expected=3)
    assert (1, 4) == (await readable(store, org), await readable(store, org, newest=True))
    assert 1 == await vault.put(org, secret(org, "vapi", 1), expected=4)


@pytest.mark.parametrize("verb", [Vault.disconnect, Vault.reconnect])
async def test_what_was_never_connected_cannot_be_disconnected_or_reconnected(
    vault: Vault, org: str, verb: Callable[[Vault, str], Awaitable[Integration]]
) -> None:
    with pytest.raises(CredentialNotFound):
        await verb(vault, org)
    await vault.put(org, provider="twilio")
    with pytest.raises(CredentialNotFound):
        await verb(vault, org)


async def test_a_setup_that_has_not_ended_is_given_up_and_its_credential_can_be_taken_up(
    vault: Vault, store: Store, org: str
) -> None:
    await vault.put(org)
    with pytest.raises(CredentialNotFound):
        await vault.reconnect(org)
    with pytest.raises(VersionConflict):
        await vault.destroy(org, 1)
    shown = await vault.disconnect(org)
    assert (State.DISCONNECTED, 1, 2) == (shown.state, shown.version, shown.latest_version)
    assert (0, 0) == (await readable(store, org), await readable(store, org, newest=True))
    with pytest.raises(VersionConflict):
        await vault.activate(org)
    assert await vault.envelope.trusts(await read(store, org))
    await vault.reconnect(org)
    assert secret(org, "vapi", 1) == (await vault.get(org)).payload


async def test_what_a_reconnect_says_stays_until_the_provider_has_answered(vault: Vault, org: str) -> None:
    before = (await vault.connect(org)).last_verified_at
    await vault.disconnect(org)
    shown = await vault.reconnect(org, warnings=["Not set up yet."])
    assert (State.CONNECTED, ("Not set up yet.",), before) == (
        shown.state,
        tuple(shown.warnings),
        shown.last_verified_at,
    )
    await vault.reconnect(org)
    assert ("Not set up yet.",) == tuple((await vault.integration(org)).warnings)
    assert not (await vault.verify(org)).warnings


async def test_a_refusal_is_kept_and_does_not_stop_reading(vault: Vault, store: Store, org: str) -> None:
    before = (await vault.connect(org)).last_verified_at
    refused = await vault.verify(org, 1, "Key refused.")
    assert (State.REFUSED, "Key refused.", before) == (
        refused.state,
        refused.verification_error,
        refused.last_verified_at,
    )
    assert 1 == await readable(store, org)
    healed = await vault.verify(org)
    assert (State.CONNECTED, "") == (healed.state, healed.verification_error)
    assert before is not None
    assert healed.last_verified_at is not None
    assert healed.last_verified_at >= before
    await vault.verify(org, 1, "Key refused.")
    assert State.CONNECTED is (await vault.activate(org)).state


async def test_only_the_active_version_can_be_verified(vault: Vault, org: str) -> None:
    with pytest.raises(CredentialNotFound):
        await vault.verify(org)
    await vault.connect(org)
    await vault.put(org, expected=1)
    with pytest.raises(VersionConflict):
        await vault.verify(org, 2)
    await vault.disconnect(org)
    with pytest.raises(VersionConflict):
        await vault.verify(org, 1)


async def test_every_change_counts_the_generation_up_by_one(vault: Vault, store: Store, org: str) -> None:
    await vault.connect(org)
    assert 2 == (await read(store, org)).generation
    await vault.verify(org)
    assert 3 == (await read(store, org)).generation
    await vault.connect(org, provider="twilio")
    assert 5 == (await read(store, org)).generation == (await read(store, org, provider="twilio")).generation
    assert {org: 5} == await store.generations([org, "nobody"])
    assert (5, 5) == await vault.parts.audit.generation(org)


# The versions.


async def test_the_versions_are_listed_newest_first_with_what_they_are(parts: Parts, store: Store, org: str) -> None:
    vault = Vault(parts, overlap=HOUR)
    began = datetime.now(UTC) - HOUR
    await vault.connect(org)
    await vault.connect(org, expected=1)
    await vault.connect(org, expected=2)
    await vault.put(org, expected=3)
    await vault.put(org, provider="twilio")
    await vault.destroy(org, 1)
    listed = await store.versions(org, "vapi")
    assert [
        (4, "••••0004", VersionState.STORED, False),
        (3, "••••0003", VersionState.ACTIVE, True),
        (2, "••••0002", VersionState.PREVIOUS, True),
        (1, "••••0001", VersionState.DESTROYED, True),
    ] == [(version.version, version.hint, version.state, version.was_active) for version in listed]
    assert all(version.created_at > began for version in listed)
    until = (await read(store, org)).pointer.previous_until
    assert until is not None
    assert [None, None, until, None] == [version.readable_until for version in listed]
    assert [False, False, False, True] == [version.destroyed_at is not None for version in listed]
    assert [1] == [version.version for version in await store.versions(org, "twilio")]
    assert [] == list(await store.versions(org, "resend"))


async def test_a_rollback_makes_an_older_version_the_active_one_again(vault: Vault, store: Store, org: str) -> None:
    resource = assistant()
    await vault.connect(org)
    await vault.connect(org, resource, expected=1)
    await vault.verify(org, 2, "Key refused.")
    shown = await vault.roll_back(org, 1, expected=2)
    assert (State.CONNECTED, 1, 2, "••••0001", [resource]) == (
        shown.state,
        shown.version,
        shown.latest_version,
        shown.hint,
        list(shown.resources),
    )
    assert secret(org, "vapi", 1) == (await vault.get(org)).payload
    assert org == await vault.owner(resource)
    assert {1: "active", 2: "stored"} == await states(store, org)
    await vault.roll_back(org, 2, expected=1)
    assert secret(org, "vapi", 2) == (await vault.get(org)).payload


async def test_a_rollback_to_what_is_active_changes_nothing(vault: Vault, org: str) -> None:
    await vault.connect(org)
    await vault.connect(org, expected=1)
    assert 2 == (await vault.roll_back(org, 2, expected=1)).version
    assert 4 == await vault.generation(org) == len(await vault.events(org))


async def test_a_rollback_is_refused_for_what_was_never_active_or_is_destroyed(
    vault: Vault, store: Store, org: str
) -> None:
    await vault.put(org)
    with pytest.raises(CredentialNotFound):
        await vault.roll_back(org, 1, expected=1)
    await vault.connect(org, expected=1)
    await vault.connect(org, expected=2)
    await vault.put(org, expected=3)
    await vault.destroy(org, 2)
    for version in (1, 2, 4, 5):
        with pytest.raises(VersionNotFound):
            await vault.roll_back(org, version, expected=3)
    assert 3 == await readable(store, org)


async def test_a_rollback_of_what_somebody_else_changed_is_a_conflict(vault: Vault, store: Store, org: str) -> None:
    await vault.connect(org)
    await vault.connect(org, expected=1)
    with pytest.raises(VersionConflict):
        await vault.roll_back(org, 1, expected=1)
    await vault.disconnect(org)
    with pytest.raises(CredentialNotFound):
        await vault.roll_back(org, 1, expected=2)
    assert 2 == (await vault.integration(org)).version


async def test_after_a_rollback_the_versions_go_on_counting(vault: Vault, store: Store, org: str) -> None:
    await vault.connect(org)
    await vault.connect(org, expected=1)
    await vault.roll_back(org, 1, expected=2)
    with pytest.raises(VersionConflict):
        await vault.put(org, expected=1)
    await vault.connect(org, expected=2)
    assert 3 == await readable(store, org)


async def test_a_destroyed_version_is_gone(vault: Vault, store: Store, org: str) -> None:
    await vault.connect(org)
    await vault.put(org, expected=1)
    await vault.destroy(org, 2)
    assert (1, 0) == (await readable(store, org), await readable(store, org, newest=True))
    with pytest.raises(VersionConflict):
        await vault.activate(org, 2)
    assert {1: "active", 2: "destroyed"} == await states(store, org)
    [destroyed, _] = await store.versions(org, "vapi")
    await vault.destroy(org, 2)
    assert [destroyed] == [version for version in await store.versions(org, "vapi") if version.version == 2]
    assert ("credential.destroy", "vapi", 2, "ok") == (await vault.events(org))[-1]
    assert 4 == await vault.generation(org) == len(await vault.events(org))
    await vault.connect(org, expected=2)
    assert 3 == await readable(store, org)


async def test_the_active_version_and_what_is_not_there_cannot_be_destroyed(
    vault: Vault, store: Store, org: str
) -> None:
    await vault.connect(org)
    with pytest.raises(VersionConflict):
        await vault.destroy(org, 1)
    for version, provider in ((2, "vapi"), (1, "twilio")):
        with pytest.raises(VersionNotFound):
            await vault.destroy(org, version, provider=provider)
    await vault.disconnect(org)
    with pytest.raises(VersionConflict):
        await vault.destroy(org, 1)
    assert {1: "active"} == await states(store, org)


async def test_the_version_before_stays_readable_for_the_overlap(parts: Parts, store: Store, org: str) -> None:
    vault = Vault(parts, overlap=HOUR)
    began = datetime.now(UTC)
    await vault.connect(org)
    assert (await read(store, org)).previous is None
    await vault.connect(org, expected=1)
    stored = await read(store, org)
    assert stored.previous is not None
    assert stored.previous.name.version == 1 == stored.pointer.previous_version
    until = stored.pointer.previous_until
    assert until is not None
    assert began + HOUR <= until <= datetime.now(UTC) + HOUR
    got = await vault.get(org, include_previous=True)
    assert got.previous is not None
    assert (secret(org, "vapi", 2), secret(org, "vapi", 1), until) == (
        got.payload,
        got.previous.payload,
        got.previous.readable_until,
    )
    assert (await vault.get(org)).previous is None
    # What is the newest has nothing before it.
    assert (await read(store, org, newest=True)).previous is None


async def test_activating_again_leaves_the_overlap_as_it_is(parts: Parts, store: Store, org: str) -> None:
    vault = Vault(parts, overlap=HOUR)
    await vault.connect(org)
    await vault.connect(org, expected=1)
    before = (await read(store, org)).pointer
    await vault.activate(org, 2)
    after = (await read(store, org)).pointer
    assert (before.previous_version, before.previous_until) == (after.previous_version, after.previous_until)


async def test_without_an_overlap_the_version_before_is_not_readable(vault: Vault, store: Store, org: str) -> None:
    await vault.connect(org)
    await vault.connect(org, expected=1)
    stored = await read(store, org)
    assert (None, 0, None) == (stored.previous, stored.pointer.previous_version, stored.pointer.previous_until)
    assert {1: "stored", 2: "active"} == await states(store, org)


async def test_an_overlap_that_is_over_is_over(parts: Parts, store: Store, org: str) -> None:
    vault = Vault(parts, overlap=HOUR, now=lambda: datetime.now(UTC) - 2 * HOUR)
    await vault.connect(org)
    await vault.connect(org, expected=1)
    stored = await read(store, org)
    assert (None, 1) == (stored.previous, stored.pointer.previous_version)
    assert {1: "stored", 2: "active"} == await states(store, org)
    assert [None, None] == [version.readable_until for version in await store.versions(org, "vapi")]


@pytest.mark.parametrize(
    "end",
    [
        lambda vault, org: vault.disconnect(org),
        lambda vault, org: vault.roll_back(org, 1, expected=2),
        lambda vault, org: vault.destroy(org, 1),
    ],
    ids=["disconnect", "roll back", "destroy"],
)
async def test_an_overlap_can_be_ended(
    parts: Parts, store: Store, org: str, end: Callable[[Vault, str], Awaitable[object]]
) -> None:
    vault = Vault(parts, overlap=HOUR)
    await vault.connect(org)
    await vault.connect(org, expected=1)
    assert "previous" in (await states(store, org)).values()
    await end(vault, org)
    stored = await read(store, org)
    assert (None, 0, None) == (stored.previous, stored.pointer.previous_version, stored.pointer.previous_until)
    assert "previous" not in (await states(store, org)).values()
    assert await vault.envelope.trusts(stored)


async def test_a_reconnect_brings_no_version_before_back(parts: Parts, store: Store, org: str) -> None:
    vault = Vault(parts, overlap=HOUR)
    await vault.connect(org)
    await vault.connect(org, expected=1)
    await vault.disconnect(org)
    await vault.reconnect(org)
    assert (2, None) == (await readable(store, org), (await read(store, org)).previous)


# Whole orgs.


async def test_a_frozen_org_is_refused_until_that_ends(vault: Vault, store: Store, org: str, other_org: str) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    await vault.connect(other_org)
    assert 3 == await vault.keeper.freeze(org, ORIGIN)
    assert OrgState.FROZEN is (await read(store, org)).org_state
    for ask in (
        vault.get(org),
        vault.get_newest(org),
        vault.owner(resource),
        vault.resolve_credential(resource),
        vault.put(org, expected=1),
        vault.activate(org),
        vault.verify(org),
        vault.reconnect(org),
        vault.roll_back(org, 1, expected=1),
        vault.keeper.rotate_key(org, ORIGIN),
    ):
        with pytest.raises(OrgFrozen):
            await ask
    assert secret(other_org, "vapi", 1) == (await vault.get(other_org)).payload
    assert 4 == await vault.keeper.unfreeze(org, ORIGIN)
    assert secret(org, "vapi", 1) == (await vault.get(org)).payload
    assert org == await vault.owner(resource)
    assert [("org.freeze", "", 0, "ok"), ("org.unfreeze", "", 0, "ok")] == (await vault.events(org))[2:]


async def test_freezing_and_unfreezing_again_changes_nothing(vault: Vault, org: str) -> None:
    await vault.connect(org)
    assert 2 == await vault.keeper.unfreeze(org, ORIGIN)
    assert [3, 3] == [await vault.keeper.freeze(org, ORIGIN) for _ in range(2)]
    assert [4, 4] == [await vault.keeper.unfreeze(org, ORIGIN) for _ in range(2)]
    assert [5, 5] == [await vault.keeper.shred(org, ORIGIN) for _ in range(2)]
    assert 5 == await vault.generation(org) == len(await vault.events(org))


async def test_an_org_can_be_frozen_before_it_has_anything(vault: Vault, org: str) -> None:
    assert 1 == await vault.keeper.freeze(org, ORIGIN)
    with pytest.raises(OrgFrozen):
        await vault.put(org)
    assert 2 == await vault.keeper.unfreeze(org, ORIGIN)
    await vault.connect(org)
    assert secret(org, "vapi", 1) == (await vault.get(org)).payload


async def test_a_frozen_integration_can_be_disconnected(vault: Vault, org: str) -> None:
    await vault.connect(org)
    await vault.keeper.freeze(org, ORIGIN)
    assert State.DISCONNECTED is (await vault.disconnect(org)).state
    await vault.keeper.unfreeze(org, ORIGIN)
    with pytest.raises(CredentialNotFound):
        await vault.get(org)


async def test_a_shredded_org_is_gone_for_ever(parts: Parts, store: Store, org: str, other_org: str) -> None:
    vault, resource = Vault(parts, overlap=HOUR), assistant()
    await vault.connect(org, resource)
    await vault.connect(org, assistant(), resource, expected=1)
    await vault.connect(org, provider="twilio")
    await vault.keeper.rotate_key(org, ORIGIN)
    key = (await read(store, org)).key
    assert 8 == await vault.keeper.shred(org, ORIGIN)
    for provider in ("vapi", "twilio"):
        for newest in (False, True):
            stored = await read(store, org, provider=provider, newest=newest)
            assert (OrgState.SHREDDED, 8, None, None, None) == (
                stored.org_state,
                stored.generation,
                stored.record,
                stored.previous,
                stored.key,
            )
            assert [] == list(stored.mappings)
        assert {"destroyed"} == set((await states(store, org, provider=provider)).values())
    for ask in (
        vault.get(org),
        vault.get_newest(org),
        vault.put(org, expected=2),
        vault.put(org, provider="resend"),
        vault.activate(org, 2),
        vault.verify(org, 2),
        vault.disconnect(org),
        vault.reconnect(org),
        vault.roll_back(org, 1, expected=2),
        vault.destroy(org, 1),
        vault.keeper.freeze(org, ORIGIN),
        vault.keeper.unfreeze(org, ORIGIN),
        vault.keeper.rotate_key(org, ORIGIN),
    ):
        with pytest.raises(OrgShredded):
            await ask
    shown = await vault.integration(org)
    assert (State.DISCONNECTED, 2, []) == (shown.state, shown.version, list(shown.resources))
    assert key is not None
    old, records = await parts.keys.records_under_old_keys(org, at_most=10)
    assert (None, []) == (old, list(records))
    assert org not in await old_keys(parts)
    with pytest.raises(ResourceNotFound):
        await vault.owner(resource)
    await vault.connect(other_org, resource)
    assert other_org == await vault.owner(resource)
    assert 8 == await proved(parts, org)


async def test_an_org_can_be_shredded_before_it_has_anything(vault: Vault, org: str) -> None:
    assert 1 == await vault.keeper.shred(org, ORIGIN)
    with pytest.raises(OrgShredded):
        await vault.put(org)


# An org's key that rotates.


async def old_keys(parts: Parts, *, at_most: int = 2) -> list[str]:
    """The orgs with old keys, in pages."""
    found: list[str] = []
    while page := await parts.keys.orgs_with_old_keys(after=found[-1] if found else "", at_most=at_most):
        assert len(page) <= at_most
        found.extend(page)
    return found


async def test_a_new_key_vouches_at_once_and_the_old_one_is_destroyed_in_the_end(
    parts: Parts, store: Store, org: str
) -> None:
    vault, resource = Vault(parts, overlap=HOUR), assistant()
    await vault.connect(org)
    await vault.connect(org, resource, expected=1)
    await vault.put(org, expected=2)
    await vault.connect(org, provider="twilio")
    old = (await read(store, org)).key
    key_id = await vault.keeper.rotate_key(org, ORIGIN)

    stored = await read(store, org)
    assert stored.key is not None
    assert stored.record is not None
    assert (key_id, old) == (stored.key.key_id, stored.record.key)
    assert await vault.envelope.trusts(stored)
    assert ("org.rotate_key", "", 0, "ok") == (await vault.events(org))[-1]
    assert org in await old_keys(parts)

    async def everything() -> list[bytes]:
        got = await vault.get(org, include_previous=True)
        assert got.previous is not None
        return [
            got.payload,
            got.previous.payload,
            (await vault.get_newest(org)).payload,
            (await vault.resolve_credential(resource, provider="twilio")).payload,
        ]

    expected = [secret(org, "vapi", version) for version in (2, 1, 3)] + [secret(org, "twilio", 1)]
    assert expected == await everything()
    generation = await vault.generation(org)
    assert await vault.rotations.run() >= 1
    assert expected == await everything()
    assert generation == await vault.generation(org)

    stored = await read(store, org)
    assert stored.record is not None
    assert stored.previous is not None
    assert stored.key is not None
    assert {key_id} == {stored.key.key_id, stored.record.name.key_id, stored.previous.name.key_id}
    assert stored.key == stored.record.key == stored.previous.key
    assert org not in await old_keys(parts)
    assert 0 == await parts.keys.destroy_old_keys(org)
    assert await everything() == expected


async def test_a_rotation_is_taken_up_record_by_record(vault: Vault, parts: Parts, store: Store, org: str) -> None:
    await vault.connect(org)
    await vault.connect(org, expected=1)
    await vault.connect(org, provider="twilio")
    key_id = await vault.keeper.rotate_key(org, ORIGIN)
    done: set[tuple[str, int]] = set()
    for left in (3, 2, 1):
        assert 1 == await parts.keys.destroy_old_keys(org)
        key, records = await parts.keys.records_under_old_keys(org, at_most=10)
        assert left == len(records)
        key, [record] = await parts.keys.records_under_old_keys(org, at_most=1)
        assert key is not None
        assert key_id == key.key_id != record.name.key_id == record.key.key_id
        name = replace(record.name, key_id=key.key_id)
        payload = (await vault.envelope.unlock(record)).open()
        assert secret(org, name.provider, name.version) == payload
        anew = Record(name, await vault.envelope.seal(key, name, payload), key)
        assert await parts.keys.replace_record(record, anew)
        # It is not there any more, so nothing takes its place twice.
        assert not await parts.keys.replace_record(record, anew)
        done.add((name.provider, name.version))
    assert {("vapi", 1), ("vapi", 2), ("twilio", 1)} == done
    assert 0 == await parts.keys.destroy_old_keys(org)
    assert [2, 1] == [await readable(store, org, provider=provider) for provider in ("vapi", "twilio")]


async def test_a_record_that_was_destroyed_meanwhile_stays_destroyed(
    vault: Vault, parts: Parts, store: Store, org: str
) -> None:
    await vault.connect(org)
    await vault.connect(org, expected=1)
    await vault.keeper.rotate_key(org, ORIGIN)
    key, records = await parts.keys.records_under_old_keys(org, at_most=10)
    [first] = [record for record in records if record.name.version == 1]
    assert key is not None
    await vault.destroy(org, 1)
    name = replace(first.name, key_id=key.key_id)
    assert not await parts.keys.replace_record(first, Record(name, first.sealed, key))
    assert {1: "destroyed", 2: "active"} == await states(store, org)
    await vault.rotations.run()
    assert org not in await old_keys(parts)


async def test_a_version_that_is_destroyed_does_not_keep_an_old_key(vault: Vault, parts: Parts, org: str) -> None:
    await vault.connect(org)
    await vault.connect(org, expected=1)
    await vault.keeper.rotate_key(org, ORIGIN)
    await vault.connect(org, expected=2)
    await vault.destroy(org, 1)
    await vault.destroy(org, 2)
    assert 0 == await parts.keys.destroy_old_keys(org)
    assert secret(org, "vapi", 3) == (await vault.get(org)).payload


async def test_keys_that_rotate_twice_leave_one(vault: Vault, parts: Parts, store: Store, org: str) -> None:
    await vault.connect(org)
    await vault.keeper.rotate_key(org, ORIGIN)
    await vault.connect(org, expected=1)
    last = await vault.keeper.rotate_key(org, ORIGIN)
    assert 2 == await parts.keys.destroy_old_keys(org)
    await vault.rotations.run()
    assert 0 == await parts.keys.destroy_old_keys(org)
    stored = await read(store, org)
    assert stored.record is not None
    assert (last, 2) == (stored.record.name.key_id, stored.record.name.version)
    await vault.roll_back(org, 1, expected=2)
    assert secret(org, "vapi", 1) == (await vault.get(org)).payload


async def test_orgs_with_old_keys_come_in_pages_each_once(vault: Vault, parts: Parts) -> None:
    begun = [f"org-{uuid.uuid4().hex[:12]}" for _ in range(5)]
    for org in begun:
        await vault.connect(org)
        await vault.keeper.rotate_key(org, ORIGIN)
    found = await old_keys(parts)
    assert len(found) == len(set(found))
    assert set(begun) <= set(found)
    await vault.rotations.run()
    assert set(begun).isdisjoint(await old_keys(parts))


async def test_an_org_that_is_not_known_has_no_key_to_rotate(vault: Vault, org: str) -> None:
    with pytest.raises(CredentialNotFound):
        await vault.keeper.rotate_key(org, ORIGIN)
    assert 0 == await vault.generation(org)


# Leases.


async def test_a_lease_is_one_owners_until_it_is_given_back(store: Store, org: str) -> None:
    await store.release_lease(org, "vapi", "worker-1")
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


async def test_a_worker_without_the_lease_activates_nothing(vault: Vault, store: Store, org: str) -> None:
    await vault.put(org)
    with pytest.raises(LeaseHeld):
        await vault.activate(org, 1, lease_owner="worker-1")
    await store.acquire_lease(org, "vapi", "worker-1", 60)
    await store.acquire_lease(org, "twilio", "worker-2", 60)
    with pytest.raises(LeaseHeld):
        await vault.activate(org, 1, lease_owner="worker-2")
    assert (0, 1) == (await readable(store, org), await vault.generation(org))
    await vault.activate(org, 1, lease_owner="worker-1")
    assert 1 == await readable(store, org)


async def test_a_worker_whose_lease_ran_out_activates_nothing(vault: Vault, store: Store, org: str) -> None:
    await vault.put(org)
    await store.acquire_lease(org, "vapi", "worker-1", 1e-6)
    with pytest.raises(LeaseHeld):
        await vault.activate(org, 1, lease_owner="worker-1")
    assert 0 == await readable(store, org)


async def test_a_lease_is_no_change(vault: Vault, store: Store, org: str) -> None:
    await store.acquire_lease(org, "vapi", "worker-1", 60)
    assert (0, []) == (await vault.generation(org), await vault.events(org))
    with pytest.raises(CredentialNotFound):
        await vault.disconnect(org)


# Each from the others.


async def test_orgs_do_not_see_each_other(vault: Vault, parts: Parts, org: str, other_org: str) -> None:
    store, resource = parts.store, assistant()
    await vault.connect(org, resource)
    await vault.keeper.rotate_key(org, ORIGIN)
    await vault.put(other_org, provider="twilio")
    before = await read(store, org)
    for newest in (False, True):
        assert [None] == list(await store.read([(other_org, "vapi")], newest=newest))
    assert ["twilio"] == [shown.provider for shown in await store.integrations(other_org)]
    assert [] == list(await store.versions(other_org, "vapi"))
    assert {other_org} == {link.event.org_id for link in (await parts.audit.events(other_org)).links}
    key, records = await parts.keys.records_under_old_keys(other_org, at_most=10)
    assert key is not None
    assert (other_org, []) == (key.org_id, list(records))
    assert 0 == await parts.keys.destroy_old_keys(other_org)
    for change in (
        vault.activate(other_org, 1, resource),
        vault.disconnect(other_org),
        vault.destroy(other_org, 1),
        vault.roll_back(other_org, 1, expected=1),
    ):
        with pytest.raises(TenantVaultError):
            await change
    await vault.keeper.shred(other_org, ORIGIN)
    assert before == await read(store, org)
    assert org == await vault.owner(resource)
    assert secret(org, "vapi", 1) == (await vault.get(org)).payload


# The audit.


async def test_every_change_leaves_one_event_in_order(parts: Parts, vault: Vault, org: str) -> None:
    await vault.connect(org)
    await vault.verify(org, 1, "No.")
    await vault.verify(org)
    await vault.disconnect(org)
    await vault.disconnect(org)
    await vault.reconnect(org)
    await vault.reconnect(org)
    await vault.connect(org, expected=2)
    await vault.roll_back(org, 1, expected=3)
    await vault.destroy(org, 3)
    assert [
        ("credential.put", "vapi", 1, "ok"),
        ("credential.activate", "vapi", 1, "ok"),
        ("credential.verify", "vapi", 1, "refused"),
        ("credential.verify", "vapi", 1, "ok"),
        ("credential.disconnect", "vapi", 1, "ok"),
        ("credential.reconnect", "vapi", 1, "ok"),
        ("credential.put", "vapi", 3, "ok"),
        ("credential.activate", "vapi", 3, "ok"),
        ("credential.roll_back", "vapi", 1, "ok"),
        ("credential.destroy", "vapi", 3, "ok"),
    ] == await vault.events(org)
    links = [link for link in await chain_of(parts.audit, org) if isinstance(link, Link)]
    assert [*range(1, 11)] == [link.sequence for link in links] == [link.event.generation for link in links]
    assert {(org, ORIGIN.peer, ORIGIN.on_behalf_of, ORIGIN.request_id)} == {
        (link.event.org_id, link.event.peer, link.event.on_behalf_of, link.event.request_id) for link in links
    }
    assert len({link.event.event_id for link in links}) == len(links)
    assert 10 == await proved(parts, org)


async def test_a_change_that_fails_leaves_no_event(vault: Vault, org: str) -> None:
    await vault.put(org)
    for refused in (
        vault.put(org),
        vault.activate(org, 7),
        vault.verify(org),
        vault.reconnect(org),
        vault.roll_back(org, 1, expected=1),
        vault.destroy(org, 7),
    ):
        with pytest.raises((VersionConflict, VersionNotFound, CredentialNotFound)):
            await refused
    assert (1, [("credential.put", "vapi", 1, "ok")]) == (await vault.generation(org), await vault.events(org))


def happening(org: str, action: str = "credential.get", *, provider: str = "vapi") -> Event:
    return event_of(ORIGIN, org_id=org, action=action, provider=provider, version=1)


async def test_events_that_are_no_changes_are_put_behind_the_chain_as_they_are(
    parts: Parts, vault: Vault, org: str, other_org: str
) -> None:
    await vault.connect(org)
    events = [happening(of) for of in (other_org, org, org, other_org, org)]
    await parts.audit.add(events)
    await parts.audit.add([])
    await vault.verify(org)
    links = [link for link in await chain_of(parts.audit, org) if isinstance(link, Link)]
    assert [*range(1, 7)] == [link.sequence for link in links]
    assert [events[1], events[2], events[4]] == [link.event for link in links[2:5]]
    assert [1, 2, 0, 0, 0, 3] == [link.event.generation for link in links]
    assert (3, 3) == await parts.audit.generation(org)
    assert (6, 2) == (await proved(parts, org), await proved(parts, other_org))


async def test_an_event_that_is_added_twice_is_there_once(parts: Parts, org: str, other_org: str) -> None:
    first, second, third = (happening(org) for _ in range(3))
    theirs = happening(other_org)
    await parts.audit.add([first, second, first])
    await parts.audit.add([first, theirs])
    await parts.audit.add([second, third, theirs, third])
    *links, _ = await chain_of(parts.audit, org)
    assert [(first, 1), (second, 2), (third, 3)] == [
        (link.event, link.sequence) for link in links if isinstance(link, Link)
    ]
    assert (3, 1) == (await proved(parts, org), await proved(parts, other_org))


async def test_events_are_found_newest_first_in_pages_and_by_what_they_are(
    parts: Parts, vault: Vault, org: str
) -> None:
    await parts.audit.add([happening(org, provider=provider) for provider in ("vapi", "twilio") * 3])
    await parts.audit.add([happening(org, "credential.resolve")])

    async def found(**wanted: object) -> list[int]:
        page = await parts.audit.events(org, **wanted)  # type: ignore[arg-type]  # by name
        return [link.sequence for link in page.links]

    assert [7, 6, 5, 4, 3, 2, 1] == await found()
    assert [7, 6, 5] == await found(limit=3)
    assert [4, 3, 2] == await found(before=5, limit=3)
    assert [1] == await found(before=2)
    assert [] == await found(before=1)
    assert [6, 4, 2] == await found(provider="twilio")
    assert [7] == await found(action="credential.resolve")
    assert [5, 3] == await found(provider="vapi", action="credential.get", before=6, limit=2)
    assert [] == await found(provider="resend")
    whole = {link.sequence: link for link in await chain_of(parts.audit, org) if isinstance(link, Link)}
    assert Page([whole[7]], whole[7]) == await parts.audit.events(org, limit=1)
    await parts.audit.add([replace(happening(org), peer="voice-agent", outcome=how) for how in ("ok", "refused", "ok")])
    assert [10, 9, 8] == await found(peer="voice-agent")
    assert [9] == await found(failed=True)
    assert [] == await found(peer="provider", failed=True)
    assert [9] == await found(peer="voice-agent", failed=True, provider="vapi", action="credential.get", before=10)


async def test_pages_have_every_event_that_is_wanted_once_however_far_each_looks(
    parts: Parts, org: str, other_org: str
) -> None:
    kinds = [
        ("vapi", "credential.get", "ok"),
        ("twilio", "credential.verify", "refused"),
        ("vapi", "credential.put", "ok"),
    ]
    chosen = [kinds[number] for number in (1, 2, *[0] * 7, 1, 0, 1, 2, *[0] * 4)]
    events = [replace(happening(org, action, provider=of), outcome=how) for of, action, how in chosen]
    await parts.audit.add([*events, *(happening(other_org) for _ in range(3))])
    filters: list[dict[str, Any]] = [{}, {"provider": "twilio"}, {"action": "credential.put"}, {"failed": True}]
    filters += [{"peer": "nobody"}, {"peer": ORIGIN.peer, "provider": "vapi", "action": "credential.get"}]
    for wanted, limit, at_most in product(filters, (1, 3, 100), (1, 4, len(events), 100)):
        found: list[Event] = []
        before, pages = 0, 0
        while True:
            page = await parts.audit.events(org, before=before, limit=limit, at_most=at_most, **wanted)
            found += [link.event for link in page.links]
            pages += 1
            assert len(page.links) <= limit
            if page.last is None:
                break
            assert 1 <= (before or len(events) + 1) - page.last.sequence <= at_most
            before = page.last.sequence
        failed = wanted.pop("failed", False)
        assert found == [
            event
            for event in reversed(events)
            if all(getattr(event, name) == value for name, value in wanted.items())
            and not (failed and event.outcome == "ok")
        ]
        assert pages <= len(found) // limit + -(-len(events) // at_most)


async def test_reads_are_counted_by_service_and_provider_since_a_moment(parts: Parts, org: str, other_org: str) -> None:
    def at(minute: int, peer: str, provider: str, **more: str) -> Event:
        moment = datetime(2026, 11, 24, 12, minute, tzinfo=UTC)
        return replace(happening(org, provider=provider), occurred_at=moment, peer=peer, **more)  # type: ignore[arg-type]  # texts

    def moment(minute: int) -> datetime:
        return at(minute, "", "").occurred_at

    assert Reads([], moment(0)) == await parts.audit.reads(org, moment(0))
    await parts.audit.add(
        [
            at(1, "voice-agent", "twilio"),
            at(3, "voice-agent", "vapi"),
            # It was brought in late.
            at(2, "provider", "vapi", action=Read.GET_NEWEST),
            at(4, "voice-agent", "vapi", outcome="refused"),
            at(4, "provider", "vapi", action="credential.verify"),
            at(5, "voice-agent", "vapi", action=Read.RESOLVE),
            replace(at(6, "voice-agent", "vapi"), org_id=other_org),
        ]
    )
    counts = [
        ReadCount("voice-agent", "vapi", 2, moment(5)),
        ReadCount("provider", "vapi", 1, moment(2)),
        ReadCount("voice-agent", "twilio", 1, moment(1)),
    ]
    assert Reads(counts, moment(0)) == await parts.audit.reads(org, moment(0))
    assert Reads(counts[:2], moment(2)) == await parts.audit.reads(org, moment(2))
    assert Reads([], moment(59)) == await parts.audit.reads(org, moment(59))
    # All were looked at; then all but the first; then what is asked for is within what was looked at.
    assert Reads(counts, moment(0)) == await parts.audit.reads(org, moment(0), at_most=6)
    assert Reads(counts[:1], moment(3)) == await parts.audit.reads(org, moment(0), at_most=5)
    assert Reads([replace(counts[0], reads=1)], moment(5)) == await parts.audit.reads(org, moment(5), at_most=3)


async def test_under_concurrent_changes_and_reads_nothing_is_lost_and_nothing_is_counted_twice(
    parts: Parts, vault: Vault, org: str, other_org: str
) -> None:
    for of in (org, other_org):
        await vault.connect(of)
        await vault.connect(of, provider="twilio")
    await asyncio.gather(
        *(vault.verify(of, 1, error) for of in (org, other_org) for error in ("No.", "", "No.", "")),
        *(vault.keeper.rotate_key(of, ORIGIN) for of in (org, other_org)),
        *(parts.audit.add([happening(org), happening(other_org), happening(org)]) for _ in range(4)),
    )
    for of, reads in ((org, 8), (other_org, 4)):
        links = [link for link in await chain_of(parts.audit, of) if isinstance(link, Link)]
        assert [*range(1, 9 + reads + 1)] == [link.sequence for link in links]
        generations = [link.event.generation for link in links if link.event.generation]
        assert [*range(1, 10)] == generations
        assert reads == len(links) - len(generations)
        assert (9, 9) == await parts.audit.generation(of)
        assert 9 + reads == await proved(parts, of)
        for provider in ("vapi", "twilio"):
            assert await vault.envelope.trusts(await read(parts.store, of, provider=provider))


async def test_an_event_may_say_whatever_can_be_said(parts: Parts, org: str) -> None:
    said = replace(
        happening(org),
        peer="spiffe://tenantvault/voice-agent",
        on_behalf_of="ädä 🔑 'x' \\ \t \n \\N",
        outcome='"," {NULL}',
        request_id="",
        version=2**53 - 1,
        occurred_at=datetime(2031, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    )
    await parts.audit.add([said])
    link, _ = await chain_of(parts.audit, org)
    assert isinstance(link, Link)
    assert said == link.event
    assert 1 == await proved(parts, org)


# One change is one transaction: what the keeper never does.


class Mistake(Exception):
    """An error of the one who decides."""


async def noted(held: Held) -> Change:
    """A change of nothing but the org's generation."""
    org = replace(held.org, generation=held.org.generation + 1)
    return Change(changed=rules.Changed(org=org, action="org.noted"))


async def test_who_decides_is_given_the_org_as_it_is(vault: Vault, store: Store, org: str) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    await vault.put(org, expected=1)
    await vault.connect(org, provider="twilio")
    seen: list[Held] = []

    async def decide(held: Held) -> None:
        seen.append(held)

    assert await store.change(org, decide, ORIGIN) is None
    assert await store.change(org, decide, ORIGIN, provider="vapi", version=1) is None
    assert await store.change(org, decide, ORIGIN, provider="vapi", version=2) is None
    assert await store.change(org, decide, ORIGIN, provider="vapi", version=3) is None
    stored = {provider: await read(store, org, provider=provider) for provider in ("vapi", "twilio")}
    for held in seen:
        assert held.key == stored["vapi"].key
        assert held.org == Org(
            org_id=org, generation=5, pointers={provider: each.pointer for provider, each in stored.items()}
        )
        assert {provider: facts_aside(each) for provider, each in stored.items()} == {
            each.pointer.provider: facts_aside(each) for each in held.pointers
        }
    assert [None, (1, True), (2, False), None] == [
        held.version and (held.version.version, held.version.was_active) for held in seen
    ]
    assert 5 == await vault.generation(org)


def facts_aside(stored: Stored) -> Stored:
    """What a change is told of an integration."""
    return replace(stored, record=None, last_verified_at=None)


async def test_an_org_that_is_not_there_is_asked_nothing(store: Store, org: str) -> None:
    async def decide(_: Held) -> None:
        pytest.fail("there is nothing to decide about")

    with pytest.raises(CredentialNotFound):
        await store.change(org, decide, ORIGIN)
    assert {} == await store.generations([org])


async def test_an_org_that_is_made_is_empty_and_active(vault: Vault, store: Store, org: str) -> None:
    seen: list[Held] = []

    async def decide(held: Held) -> Change:
        seen.append(held)
        return await noted(held)

    assert 1 == await store.change(org, decide, ORIGIN, create=True)
    assert [Held(org=Org(org_id=org), key=None, pointers=[])] == seen
    assert {org: 1} == await store.generations([org])
    assert [("org.noted", "", 0, "ok")] == await vault.events(org)


async def test_an_error_of_who_decides_leaves_nothing(vault: Vault, store: Store, org: str) -> None:
    async def decide(held: Held) -> Change:
        await noted(held)
        raise Mistake

    with pytest.raises(Mistake):
        await store.change(org, decide, ORIGIN, create=True)
    assert {} == await store.generations([org])
    with pytest.raises(CredentialNotFound):
        await store.change(org, noted, ORIGIN)
    await vault.connect(org, assistant())
    before = await read(store, org), await vault.integration(org), await vault.events(org)
    with pytest.raises(Mistake):
        await store.change(org, decide, ORIGIN)
    assert before == (await read(store, org), await vault.integration(org), await vault.events(org))
    # And the org is not held any more.
    assert 3 == await store.change(org, noted, ORIGIN)


async def with_a_resource(vault: Vault, held: Held, resource: Resource, *, version: int) -> Change:
    """A version that is put with a new key and a resource, all in one change."""
    key = await vault.envelope.new_key(held.org.org_id)
    changed = rules.put(held.org, "vapi", version)
    pointer = changed.org.pointers["vapi"]
    row = Row(
        held.org.org_id, "vapi", resource, await vault.envelope.vouch_mapping(key, "vapi", resource, pointer.registered)
    )
    name = RecordName(held.org.org_id, "vapi", version, key.key_id)
    return Change(
        changed=changed,
        macs={"vapi": await vault.envelope.vouch(key, changed.org, pointer)},
        mappings={"vapi": [row]},
        key=key,
        name=name,
        sealed=await vault.envelope.seal(key, name, b"canary"),
        hint="••••",
    )


async def test_a_resource_that_is_anothers_leaves_nothing_of_the_whole_change(
    vault: Vault, store: Store, org: str, other_org: str
) -> None:
    theirs = assistant()
    await vault.connect(other_org, theirs)

    with pytest.raises(ResourceConflict):
        await store.change(org, lambda held: with_a_resource(vault, held, theirs, version=1), ORIGIN, create=True)
    assert {} == await store.generations([org])
    assert ([], []) == (list(await store.versions(org, "vapi")), await vault.events(org))

    await vault.connect(org, assistant())
    before = await read(store, org), await store.versions(org, "vapi"), await vault.events(org)
    with pytest.raises(ResourceConflict):
        await store.change(org, lambda held: with_a_resource(vault, held, theirs, version=2), ORIGIN)
    assert before == (await read(store, org), await store.versions(org, "vapi"), await vault.events(org))
    assert other_org == await vault.owner(theirs)

    mine = assistant()
    assert 3 == await store.change(org, lambda held: with_a_resource(vault, held, mine, version=2), ORIGIN)
    stored = await read(store, org)
    assert before[0].key != stored.key
    assert (2, [mine]) == (stored.pointer.latest_version, [mapping.resource for mapping in stored.mappings])


async def test_a_change_that_is_given_up_leaves_nothing(vault: Vault, store: Store, org: str) -> None:
    await vault.connect(org)
    begun = asyncio.Event()

    async def decide(held: Held) -> Change:
        begun.set()
        await asyncio.Event().wait()
        return await noted(held)

    changing = asyncio.ensure_future(store.change(org, decide, ORIGIN))
    await begun.wait()
    changing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await changing
    assert 2 == await vault.generation(org)
    assert 3 == await store.change(org, noted, ORIGIN)
    assert 3 == await proved(vault.parts, org)


async def test_a_pointer_that_nobody_vouches_for_loses_its_proof(vault: Vault, store: Store, org: str) -> None:
    await vault.connect(org)
    assert await vault.envelope.trusts(await read(store, org))
    await store.change(org, noted, ORIGIN)
    stored = await read(store, org)
    assert b"" == stored.mac
    assert not await vault.envelope.trusts(stored)


async def test_changes_of_an_org_wait_for_each_other_and_not_for_another_orgs(
    vault: Vault, store: Store, org: str, other_org: str
) -> None:
    for of in (org, other_org):
        await vault.put(of)
    first_is_in, others_are_through = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def first(held: Held) -> Change:
        first_is_in.set()
        await others_are_through.wait()
        order.append(f"first at {held.org.generation}")
        return await noted(held)

    async def second(held: Held) -> Change:
        order.append(f"second at {held.org.generation}")
        return await noted(held)

    one = asyncio.ensure_future(store.change(org, first, ORIGIN))
    await first_is_in.wait()
    other = asyncio.ensure_future(store.change(org, second, ORIGIN))
    await vault.activate(other_org)
    await vault.verify(other_org)
    others_are_through.set()
    assert (2, 3) == (await one, await other)
    assert ["first at 1", "second at 2"] == order


async def test_the_chain_begins_anew_for_no_one(vault: Vault, parts: Parts, org: str) -> None:
    """Whatever was done, each link is behind the one before."""
    await vault.connect(org, assistant())
    await vault.keeper.freeze(org, ORIGIN)
    await vault.keeper.unfreeze(org, ORIGIN)
    await vault.keeper.rotate_key(org, ORIGIN)
    await parts.audit.add([happening(org)])
    await vault.keeper.shred(org, ORIGIN)
    *links, head = await chain_of(parts.audit, org)
    found = [link for link in links if isinstance(link, Link)]
    assert all(after.sequence == before.sequence + 1 for before, after in pairwise(found))
    assert isinstance(head, Head)
    assert (org, 7, found[-1].hash) == (head.org_id, head.sequence, head.hash)
    assert 7 == await proved(parts, org)


# What a provider said.


async def test_what_the_provider_said_is_shown_until_it_says_something_else(vault: Vault, org: str) -> None:
    async def said() -> tuple[str, str, list[str], str]:
        shown = await vault.integration(org)
        return shown.verification_error, shown.verification_reason, list(shown.warnings), shown.account

    await vault.put(org)
    assert ("", "", [], "") == await said()
    await vault.activate(org, facts=Facts(warnings=("Soon over.", "Spare numbers."), account="ada@example.com"))
    assert ("", "", ["Soon over.", "Spare numbers."], "ada@example.com") == await said()
    await vault.verify(org, error="Refused.", reason="INVALID_CREDENTIALS", warnings=("Not kept.",))
    assert ("Refused.", "INVALID_CREDENTIALS", [], "ada@example.com") == await said()
    await vault.refresh(org, b"another")
    await vault.disconnect(org)
    await vault.reconnect(org)
    assert ("Refused.", "INVALID_CREDENTIALS", [], "ada@example.com") == await said()
    await vault.verify(org, warnings=("Soon over.",), account="")
    assert ("", "", ["Soon over."], "ada@example.com") == await said()
    await vault.verify(org, account="bob@example.com")
    assert ("", "", [], "bob@example.com") == await said()
    await vault.verify(org, error="Refused.", reason="INVALID_CREDENTIALS")
    await vault.activate(org)
    assert ("", "", [], "bob@example.com") == await said()
    await vault.activate(org, facts=Facts(account=""))
    assert ("", "", [], "bob@example.com") == await said()
    await vault.activate(org, facts=Facts(account="ada@example.com"))
    assert ("", "", [], "ada@example.com") == await said()
    await vault.connect(org, expected=2)
    assert ("", "", [], "") == await said()


async def test_after_a_rollback_nothing_is_known_of_what_the_provider_says(vault: Vault, org: str) -> None:
    await vault.connect(org)
    await vault.put(org, expected=1)
    await vault.activate(org, 2, facts=Facts(warnings=("Soon over.",), account="ada@example.com"))
    shown = await vault.roll_back(org, 1, expected=2)
    assert ([], "") == (list(shown.warnings), shown.account)


async def test_the_active_version_can_be_registered_again_when_a_newer_one_is_not_active(
    parts: Parts, store: Store, org: str
) -> None:
    vault, resource = Vault(parts, overlap=HOUR), assistant()
    await vault.connect(org)
    await vault.connect(org, expected=1)
    await vault.put(org, expected=2)
    before = (await read(store, org)).pointer
    connected_at = (await vault.integration(org)).connected_at
    shown = await vault.activate(org, 2, resource, facts=Facts(account="ada@example.com"))
    assert (2, 3, [resource], "ada@example.com", connected_at) == (
        shown.version,
        shown.latest_version,
        list(shown.resources),
        shown.account,
        shown.connected_at,
    )
    after = await read(store, org)
    assert replace(before, registered=6, resources=1) == after.pointer
    assert await vault.envelope.trusts(after)
    assert {1: "previous", 2: "active", 3: "stored"} == await states(store, org)
    await vault.roll_back(org, 1, expected=2)
    assert 1 == (await vault.activate(org, 1, resource)).version
    with pytest.raises(VersionConflict):
        await vault.activate(org, 2)
    await vault.disconnect(org)
    with pytest.raises(VersionConflict):
        await vault.activate(org, 1)


# Work that comes due.

MINUTE, DAY, NOW = timedelta(minutes=1), timedelta(days=1), timedelta()


def due_now(*tasks: Task) -> list[ScheduledWork]:
    return [ScheduledWork(task=task, due_in=NOW) for task in tasks or (Task.VERIFY,)]


async def claimed(work: work_ports.Work, *orgs: str, owner: str = "worker", lease: timedelta = MINUTE) -> list[DueWork]:
    """What there is to be taken of these orgs. What other tests left behind is taken too."""
    found: list[DueWork] = []
    while page := await work.claim(owner, lease, at_most=100):
        assert len(page) <= 100
        found.extend(page)
        if not lease:
            break
    return [each for each in found if each.piece.org_id in orgs]


@pytest.fixture
def work(parts: Parts) -> work_ports.Work:
    return parts.work


async def test_work_is_taken_when_it_is_due_the_longest_due_first(
    vault: Vault, work: work_ports.Work, org: str, other_org: str
) -> None:
    later = ScheduledWork(task=Task.REFRESH, due_in=HOUR)
    await vault.connect(other_org, schedule=due_now())
    await vault.connect(org, schedule=[*due_now(Task.ROTATE), later])
    await vault.connect(org, provider="twilio", schedule=due_now())
    found = await claimed(work, org, other_org)
    assert [
        Piece(other_org, "vapi", Task.VERIFY),
        Piece(org, "vapi", Task.ROTATE),
        Piece(org, "twilio", Task.VERIFY),
    ] == [each.piece for each in found]
    assert {(1, "")} == {(each.attempts, each.progress) for each in found}
    assert sorted(each.due_at for each in found) == [each.due_at for each in found]
    assert datetime.now(UTC) - MINUTE < found[0].due_at <= datetime.now(UTC)
    # It is no change.
    assert 2 == await vault.generation(other_org) == len(await vault.events(other_org))


async def test_no_more_is_taken_than_is_wanted(vault: Vault, work: work_ports.Work, org: str) -> None:
    await claimed(work)
    await vault.connect(org, schedule=due_now(*Task))
    first = await work.claim("worker", MINUTE, at_most=2)
    second = await work.claim("worker", MINUTE, at_most=2)
    assert (2, 1) == (len(first), len(second))
    assert set(Task) == {each.piece.task for each in (*first, *second)}


async def test_what_one_worker_has_no_other_gets(vault: Vault, work: work_ports.Work, org: str, other_org: str) -> None:
    for of in (org, other_org):
        await vault.connect(of, schedule=due_now(*Task))
    found = await asyncio.gather(*(claimed(work, org, other_org, owner=f"worker-{n}") for n in range(4)))
    pieces = [each.piece for part in found for each in part]
    assert (6, 6) == (len(pieces), len(set(pieces)))
    assert [] == await claimed(work, org, other_org)


async def test_work_whose_worker_is_gone_is_taken_again(vault: Vault, work: work_ports.Work, org: str) -> None:
    await claimed(work)
    await vault.connect(org, schedule=due_now())
    [lost] = await claimed(work, org, owner="worker-1", lease=NOW)
    [again] = await claimed(work, org, owner="worker-2")
    assert (lost.piece, 1, 2, lost.due_at) == (again.piece, lost.attempts, again.attempts, again.due_at)
    for done in (
        work.keep_progress(lost.piece, "worker-1", "half"),
        work.finish(lost.piece, "worker-1", Finish(due_in=DAY)),
    ):
        with pytest.raises(LeaseHeld):
            await done
    await work.finish(again.piece, "worker-2", Finish(due_in=NOW))
    [third] = await claimed(work, org)
    assert (1, "") == (third.attempts, third.progress)


async def test_only_who_has_a_piece_gives_it_back(
    vault: Vault, work: work_ports.Work, org: str, other_org: str
) -> None:
    await claimed(work)
    await vault.connect(org, schedule=due_now(Task.VERIFY, Task.ROTATE))
    [mine] = [each.piece for each in await claimed(work, org) if each.piece.task is Task.VERIFY]
    for piece, owner in (
        (mine, "worker-2"),
        (mine, ""),
        (replace(mine, org_id=other_org), "worker"),
        (replace(mine, provider="twilio"), "worker"),
        (replace(mine, task=Task.REFRESH), "worker"),
    ):
        with pytest.raises(LeaseHeld):
            await work.finish(piece, owner, Finish(due_in=NOW))
        with pytest.raises(LeaseHeld):
            await work.keep_progress(piece, owner, "half")
    await work.finish(mine, "worker", Finish(due_in=DAY))
    for done in (work.keep_progress(mine, "worker", "half"), work.finish(mine, "worker", Finish(due_in=NOW))):
        with pytest.raises(LeaseHeld):
            await done
    # A lease that ran out is nobody's, its owner's neither.
    await vault.connect(other_org, schedule=due_now())
    [lost] = await claimed(work, other_org, lease=NOW)
    with pytest.raises(LeaseHeld):
        await work.finish(lost.piece, "worker", Finish(due_in=NOW))


async def test_work_that_failed_goes_on_counting_and_where_it_was(
    vault: Vault, work: work_ports.Work, org: str
) -> None:
    await vault.connect(org, schedule=due_now())
    [first] = await claimed(work, org)
    await work.keep_progress(first.piece, "worker", "a key was made")
    await work.finish(first.piece, "worker", Finish(due_in=NOW, failed=True, progress="a key was made: 7"))
    [second] = await claimed(work, org)
    assert (2, "a key was made: 7") == (second.attempts, second.progress)
    await work.finish(first.piece, "worker", Finish(due_in=NOW))
    [third] = await claimed(work, org)
    assert (1, "") == (third.attempts, third.progress)
    await work.finish(first.piece, "worker", Finish(due_in=DAY))
    assert [] == await claimed(work, org)


async def test_how_far_work_has_come_is_kept_for_who_takes_it_up(
    vault: Vault, work: work_ports.Work, org: str, pass_time: "PassTime"
) -> None:
    await vault.connect(org, schedule=due_now(Task.ROTATE))
    [first] = await claimed(work, org, owner="worker-1")
    await work.keep_progress(first.piece, "worker-1", "a key was made: 7")
    assert [] == await claimed(work, org)
    await pass_time(org, 2 * MINUTE)
    with pytest.raises(LeaseHeld):
        await work.keep_progress(first.piece, "worker-1", "nothing was made")
    [again] = await claimed(work, org, owner="worker-2")
    assert (2, "a key was made: 7") == (again.attempts, again.progress)


async def test_what_is_done_by_hand_no_worker_gets(vault: Vault, work: work_ports.Work, org: str) -> None:
    await vault.connect(org, schedule=[ScheduledWork(task=Task.ROTATE, due_in=NOW, by_hand=True), *due_now()])
    [verify] = await claimed(work, org)
    assert Task.VERIFY is verify.piece.task
    await work.finish(verify.piece, "worker", Finish(due_in=NOW, by_hand=True))
    assert [] == await claimed(work, org)


async def test_of_what_is_disconnected_or_frozen_there_is_no_work_until_it_comes_back(
    vault: Vault, work: work_ports.Work, org: str
) -> None:
    await vault.connect(org, schedule=due_now())
    await vault.connect(org, provider="twilio", schedule=due_now())
    await vault.disconnect(org)
    assert ["twilio"] == [each.piece.provider for each in await claimed(work, org)]
    await vault.reconnect(org)
    await vault.keeper.freeze(org, ORIGIN)
    assert [] == await claimed(work, org)
    await vault.keeper.unfreeze(org, ORIGIN)
    assert ["vapi"] == [each.piece.provider for each in await claimed(work, org)]


async def test_of_a_shredded_org_there_is_no_work_left(vault: Vault, work: work_ports.Work, org: str) -> None:
    await vault.connect(org, schedule=[*due_now(), ScheduledWork(task=Task.ROTATE, due_in=DAY)])
    [mine] = await claimed(work, org)
    await vault.keeper.shred(org, ORIGIN)
    assert [] == await claimed(work, org)
    assert (await vault.integration(org)).rotation_due_at is None
    with pytest.raises(LeaseHeld):
        await work.finish(mine.piece, "worker", Finish(due_in=NOW))


async def test_a_schedule_takes_the_place_of_the_one_before(
    vault: Vault, work: work_ports.Work, org: str, other_org: str
) -> None:
    for of, provider in ((org, "vapi"), (org, "twilio"), (other_org, "vapi")):
        await vault.connect(of, provider=provider, schedule=due_now(Task.VERIFY, Task.REFRESH))
    # Without one, it stays as it is.
    await vault.activate(org)
    await vault.activate(org, provider="twilio", schedule=[])
    await vault.activate(other_org, schedule=[*due_now(Task.ROTATE), ScheduledWork(task=Task.VERIFY, due_in=HOUR)])
    assert {
        (org, Task.VERIFY, "vapi"),
        (org, Task.REFRESH, "vapi"),
        (other_org, Task.ROTATE, "vapi"),
    } == {(each.piece.org_id, each.piece.task, each.piece.provider) for each in await claimed(work, org, other_org)}


async def test_a_new_schedule_begins_to_count_anew(vault: Vault, work: work_ports.Work, org: str) -> None:
    await vault.connect(org, schedule=due_now())
    [first] = await claimed(work, org)
    await work.finish(first.piece, "worker", Finish(due_in=DAY, failed=True))
    await vault.activate(org, schedule=due_now())
    [again] = await claimed(work, org)
    assert (1, "") == (again.attempts, again.progress)


@pytest.mark.parametrize(("was_due_in", "is_due_in", "kept"), [(HOUR, DAY, HOUR), (DAY, HOUR, HOUR), (NOW, DAY, NOW)])
async def test_work_that_has_come_some_way_stays_that_far_and_is_due_no_later_under_a_new_schedule(
    vault: Vault, work: work_ports.Work, org: str, was_due_in: timedelta, is_due_in: timedelta, kept: timedelta
) -> None:
    async def due_in() -> timedelta:
        at = (await vault.integration(org)).rotation_due_at
        assert at is not None
        return at - datetime.now(UTC)

    rotation = ScheduledWork(task=Task.ROTATE, due_in=is_due_in)
    await vault.connect(org, schedule=due_now(Task.ROTATE))
    [first] = await claimed(work, org)
    await work.finish(first.piece, "worker", Finish(due_in=was_due_in, failed=True, progress="half"))
    shown = await vault.activate(org, schedule=[*due_now(), rotation])
    assert shown.rotates_by_itself
    assert kept - MINUTE < await due_in() < kept + MINUTE
    await vault.activate(org, schedule=due_now(Task.ROTATE))
    [again] = await claimed(work, org)
    assert (first.piece, 1, "half") == (again.piece, again.attempts, again.progress)
    # What was done to its end is scheduled as it is said.
    await work.finish(first.piece, "worker", Finish(due_in=HOUR))
    await vault.activate(org, schedule=[ScheduledWork(task=Task.ROTATE, due_in=DAY)])
    assert DAY - MINUTE < await due_in() < DAY + MINUTE


async def test_a_piece_that_is_under_way_stays_its_workers_under_a_new_schedule(
    vault: Vault, work: work_ports.Work, org: str, pass_time: "PassTime"
) -> None:
    await vault.connect(org, schedule=due_now(*Task))
    found = {each.piece.task: each.piece for each in await claimed(work, org)}
    await work.keep_progress(found[Task.ROTATE], "worker", "half")
    shown = await vault.connect(
        org, expected=1, schedule=[*due_now(), ScheduledWork(task=Task.ROTATE, due_in=DAY, by_hand=True)]
    )
    assert shown.rotation_due_at is not None
    # It has come some way: that is not put off.
    assert shown.rotation_due_at <= datetime.now(UTC)
    assert not shown.rotates_by_itself
    await vault.activate(org, 2, schedule=due_now(Task.VERIFY, Task.ROTATE))
    assert [] == await claimed(work, org, owner="worker-2")
    with pytest.raises(LeaseHeld):
        await work.finish(found[Task.REFRESH], "worker", Finish(due_in=NOW))
    await work.finish(found[Task.VERIFY], "worker", Finish(due_in=DAY))
    # The other one's worker is gone.
    await pass_time(org, 2 * MINUTE)
    [again] = await claimed(work, org, owner="worker-2")
    assert (Task.ROTATE, 2, "half") == (again.piece.task, again.attempts, again.progress)


async def test_an_activation_that_fails_leaves_the_schedule(
    vault: Vault, work: work_ports.Work, org: str, other_org: str
) -> None:
    theirs = assistant()
    await vault.connect(other_org, theirs)
    await vault.connect(org, schedule=due_now())
    await vault.put(org, expected=1)
    rotation = [ScheduledWork(task=Task.ROTATE, due_in=NOW)]
    with pytest.raises(ResourceConflict):
        await vault.activate(org, 2, theirs, schedule=rotation)
    with pytest.raises(LeaseHeld):
        await vault.activate(org, 2, lease_owner="worker", schedule=rotation)
    assert [Task.VERIFY] == [each.piece.task for each in await claimed(work, org)]


async def test_a_rotation_that_is_to_come_is_shown(vault: Vault, work: work_ports.Work, org: str) -> None:
    began = datetime.now(UTC) - MINUTE
    shown = await vault.connect(org, schedule=due_now())
    assert (None, False) == (shown.rotation_due_at, shown.rotates_by_itself)
    for by_hand in (False, True):
        rotation = ScheduledWork(task=Task.ROTATE, due_in=DAY, by_hand=by_hand)
        shown = await vault.activate(org, schedule=[*due_now(), rotation])
        assert shown.rotation_due_at is not None
        assert began < shown.rotation_due_at - DAY <= datetime.now(UTC)
        assert by_hand is not shown.rotates_by_itself
    assert shown == await vault.integration(org)


# A failure that is reported.

PassTime = Callable[[str, timedelta], Awaitable[None]]
"""Lets time pass for what was tested of an org and for its work that somebody has: the fixture `pass_time`."""

IN_A_DAY = [ScheduledWork(task=Task.VERIFY, due_in=DAY)]


async def test_a_failure_makes_a_test_due_once(
    vault: Vault, work: work_ports.Work, org: str, pass_time: PassTime
) -> None:
    await vault.connect(org, schedule=IN_A_DAY)
    generation = await vault.generation(org)
    # The connect has just tested it.
    assert not await work.report_failure(org, "vapi", 1, ORIGIN)
    await pass_time(org, 2 * MINUTE)
    told = await asyncio.gather(*(work.report_failure(org, "vapi", 1, ORIGIN) for _ in range(100)))
    assert 1 == sum(told)
    [link] = (await vault.parts.audit.events(org, action="credential.report_failure")).links
    event = link.event
    assert ("provider", "ada@example.com", "request-0001", "vapi", 1, "ok", 0) == (
        event.peer,
        event.on_behalf_of,
        event.request_id,
        event.provider,
        event.version,
        event.outcome,
        event.generation,
    )
    assert generation == await vault.generation(org)
    await proved(vault.parts, org)
    # While the test is under way, none is due; nor just after it.
    [piece] = await claimed(work, org)
    assert not await work.report_failure(org, "vapi", 1, ORIGIN)
    await work.finish(piece.piece, "worker", Finish(due_in=DAY))
    assert not await work.report_failure(org, "vapi", 1, ORIGIN)
    await pass_time(org, 2 * MINUTE)
    assert await work.report_failure(org, "vapi", 1, ORIGIN)
    assert 2 == len((await vault.parts.audit.events(org, action="credential.report_failure")).links)


async def test_a_failure_of_what_was_just_confirmed_makes_no_test_due(
    vault: Vault, work: work_ports.Work, org: str, pass_time: PassTime
) -> None:
    await vault.connect(org, schedule=IN_A_DAY)
    await pass_time(org, 2 * MINUTE)
    await vault.verify(org)
    assert not await work.report_failure(org, "vapi", 1, ORIGIN)
    await pass_time(org, timedelta(seconds=50))
    assert not await work.report_failure(org, "vapi", 1, ORIGIN)
    await pass_time(org, timedelta(seconds=11))
    assert await work.report_failure(org, "vapi", 1, ORIGIN)


async def test_a_failure_of_anything_but_the_active_version_makes_no_test_due(
    vault: Vault, work: work_ports.Work, org: str, other_org: str, pass_time: PassTime
) -> None:
    await vault.connect(org)
    await vault.connect(org, expected=1, schedule=[ScheduledWork(task=Task.ROTATE, due_in=DAY)])
    await vault.put(org, provider="twilio")
    await pass_time(org, 2 * MINUTE)
    # Nothing is scheduled.
    assert not await work.report_failure(org, "vapi", 2, ORIGIN)
    await vault.activate(org, 2, schedule=IN_A_DAY)
    await pass_time(org, 2 * MINUTE)
    for of, provider, version in (
        (org, "vapi", 1),
        (org, "vapi", 3),
        (org, "twilio", 1),
        (org, "resend", 1),
        (other_org, "vapi", 2),
    ):
        assert not await work.report_failure(of, provider, version, ORIGIN)
    await vault.keeper.freeze(org, ORIGIN)
    assert not await work.report_failure(org, "vapi", 2, ORIGIN)
    await vault.keeper.unfreeze(org, ORIGIN)
    await vault.disconnect(org)
    assert not await work.report_failure(org, "vapi", 2, ORIGIN)
    assert {} == await vault.store.generations([other_org])
    assert [] == await vault.events(other_org)
    assert Page([]) == await vault.parts.audit.events(org, action="credential.report_failure")
    await vault.reconnect(org)
    assert await work.report_failure(org, "vapi", 2, ORIGIN)


async def test_what_is_due_anyway_is_not_due_because_of_a_failure(
    vault: Vault, work: work_ports.Work, org: str, pass_time: PassTime
) -> None:
    await vault.connect(org, schedule=due_now())
    await pass_time(org, 2 * MINUTE)
    assert not await work.report_failure(org, "vapi", 1, ORIGIN)
    await vault.activate(org, schedule=[ScheduledWork(task=Task.VERIFY, due_in=DAY, by_hand=True)])
    await pass_time(org, 2 * MINUTE)
    assert not await work.report_failure(org, "vapi", 1, ORIGIN)


async def test_while_a_test_is_under_way_none_is_due_also_when_it_was_scheduled_anew(
    vault: Vault, work: work_ports.Work, org: str, pass_time: PassTime
) -> None:
    await vault.connect(org, schedule=due_now())
    [mine] = await claimed(work, org, lease=HOUR)
    await vault.activate(org, schedule=IN_A_DAY)
    await pass_time(org, 2 * MINUTE)
    assert not await work.report_failure(org, "vapi", 1, ORIGIN)
    await work.keep_progress(mine.piece, "worker", "half")


# What an active version holds is replaced.


async def test_a_refresh_replaces_what_the_active_version_holds(parts: Parts, store: Store, org: str) -> None:
    vault, resource = Vault(parts, overlap=HOUR), assistant()
    await vault.connect(org)
    await vault.connect(org, resource, expected=1)
    before, shown, versions = await read(store, org), await vault.integration(org), await store.versions(org, "vapi")
    await vault.refresh(org, b"refreshed", 2)
    stored = await read(store, org)
    assert before.record is not None
    assert stored.record is not None
    assert (before.record.name, before.record.key) == (stored.record.name, stored.record.key)
    assert before.record.sealed != stored.record.sealed
    assert (before.pointer, before.previous, 5) == (stored.pointer, stored.previous, stored.generation)
    assert (await read(store, org, newest=True)).record == stored.record
    assert await vault.envelope.trusts(stored)
    got = await vault.get(org, include_previous=True)
    assert got.previous is not None
    assert (b"refreshed", 2, secret(org, "vapi", 1)) == (got.payload, got.label.name.version, got.previous.payload)
    assert b"refreshed" == (await vault.get_newest(org)).payload == (await vault.resolve_credential(resource)).payload
    assert (shown, versions) == (await vault.integration(org), await store.versions(org, "vapi"))
    assert ("credential.refresh", "vapi", 2, "ok") == (await vault.events(org))[-1]
    # What waits to be activated is another matter.
    await vault.put(org, expected=2)
    await vault.refresh(org, b"refreshed again", 2)
    assert secret(org, "vapi", 3) == (await vault.get_newest(org)).payload
    assert b"refreshed again" == (await vault.get(org)).payload
    await vault.disconnect(org)
    await vault.reconnect(org)
    assert b"refreshed again" == (await vault.get(org)).payload


async def test_without_the_lease_nothing_is_refreshed(vault: Vault, org: str) -> None:
    await vault.connect(org)
    for owner in ("worker-2", ""):
        with pytest.raises(LeaseHeld):
            await vault.refresh(org, b"refreshed", lease_owner=owner)
    assert (secret(org, "vapi", 1), 2) == ((await vault.get(org)).payload, await vault.generation(org))


async def test_only_the_active_version_is_refreshed(vault: Vault, org: str) -> None:
    with pytest.raises(CredentialNotFound):
        await vault.refresh(org, b"refreshed")
    await vault.put(org)
    with pytest.raises(VersionConflict):
        await vault.refresh(org, b"refreshed")
    await vault.activate(org)
    await vault.put(org, expected=1)
    for version in (2, 3):
        with pytest.raises(VersionConflict):
            await vault.refresh(org, b"refreshed", version)
    await vault.keeper.freeze(org, ORIGIN)
    with pytest.raises(OrgFrozen):
        await vault.refresh(org, b"refreshed")
    await vault.keeper.unfreeze(org, ORIGIN)
    await vault.disconnect(org)
    with pytest.raises(VersionConflict):
        await vault.refresh(org, b"refreshed")
    await vault.reconnect(org)
    with pytest.raises(InvalidRequest):
        await vault.refresh(org, b"refreshed", may_replace=lambda _, __: False)
    assert secret(org, "vapi", 1) == (await vault.get(org)).payload


async def test_a_refresh_is_sealed_under_the_orgs_new_key_and_a_rotation_does_not_undo_it(
    vault: Vault, parts: Parts, store: Store, org: str
) -> None:
    await vault.connect(org)
    key_id = await vault.keeper.rotate_key(org, ORIGIN)
    key, [old] = await parts.keys.records_under_old_keys(org, at_most=10)
    assert key is not None
    # The rotation has read the record, and seals it anew, when the refresh comes.
    name = replace(old.name, key_id=key.key_id)
    late = Record(name, await vault.envelope.seal(key, name, secret(org, "vapi", 1)), key)
    await vault.refresh(org, b"refreshed")
    refreshed = (await read(store, org)).record
    assert refreshed is not None
    assert key_id == refreshed.name.key_id
    assert not await parts.keys.replace_record(old, late)
    assert not await parts.keys.replace_record(replace(refreshed, sealed=late.sealed), late)
    for newest in (False, True):
        assert refreshed == (await read(store, org, newest=newest)).record
    assert 0 == await parts.keys.destroy_old_keys(org)
    assert b"refreshed" == (await vault.get(org)).payload
    assert await parts.keys.replace_record(refreshed, late)
    assert late == (await read(store, org)).record


# Consents that people were sent to.


@pytest.fixture
def oauth_states(parts: Parts) -> work_ports.OAuthStates:
    return parts.oauth_states


def a_state(org: str, number: int = 0, *, provider: str = "googleCalendar", binding: int = 0) -> OAuthState:
    return OAuthState(
        org_id=org, provider=provider, state_hash=number.to_bytes(32, "big"), binding=binding.to_bytes(32, "little")
    )


async def is_good(states: work_ports.OAuthStates, state: OAuthState) -> bool:
    try:
        await states.use_oauth_state(state)
    except OAuthStateInvalid:
        return False
    return True


async def test_a_state_is_good_once(oauth_states: work_ports.OAuthStates, store: Store, org: str) -> None:
    state = a_state(org)
    assert not await is_good(oauth_states, state)
    assert {} == await store.generations([org])
    await oauth_states.keep_oauth_state(state, MINUTE)
    assert {org: 0} == await store.generations([org])
    told = await asyncio.gather(*(is_good(oauth_states, state) for _ in range(10)))
    assert 1 == sum(told)


@pytest.mark.parametrize("other", [{"binding": 1}, {"provider": "resend"}], ids=["binding", "provider"])
async def test_a_state_that_comes_back_elsewhere_is_not_good_and_used_up(
    oauth_states: work_ports.OAuthStates, org: str, other: Any
) -> None:
    await oauth_states.keep_oauth_state(a_state(org), MINUTE)
    assert not await is_good(oauth_states, a_state(org, **other))
    assert not await is_good(oauth_states, a_state(org))


async def test_a_state_of_another_org_is_not_good_and_stays_that_orgs(
    oauth_states: work_ports.OAuthStates, org: str, other_org: str
) -> None:
    await oauth_states.keep_oauth_state(a_state(org), MINUTE)
    assert not await is_good(oauth_states, a_state(other_org))
    assert await is_good(oauth_states, a_state(org))


async def test_a_state_that_is_too_old_is_not_good(oauth_states: work_ports.OAuthStates, org: str) -> None:
    await oauth_states.keep_oauth_state(a_state(org), NOW)
    assert not await is_good(oauth_states, a_state(org))


async def test_of_too_many_states_the_oldest_go_and_those_that_are_over_before_them(
    oauth_states: work_ports.OAuthStates, org: str, other_org: str
) -> None:
    await oauth_states.keep_oauth_state(a_state(other_org), MINUTE)
    for number in range(10):
        await oauth_states.keep_oauth_state(a_state(org, number), HOUR if number == 3 else MINUTE)
    for number in range(100, 120):
        await oauth_states.keep_oauth_state(a_state(org, number), NOW)
    for number in range(10, 20):
        await oauth_states.keep_oauth_state(a_state(org, number), HOUR if number % 2 else MINUTE)
    # One that is kept again is one, and the newest.
    await oauth_states.keep_oauth_state(a_state(org, 1, binding=7), MINUTE)
    await asyncio.gather(*(oauth_states.keep_oauth_state(a_state(org, number), MINUTE) for number in range(20, 25)))
    good = [
        number for number in range(30) if await is_good(oauth_states, a_state(org, number, binding=7 * (number == 1)))
    ]
    assert [1, *range(6, 25)] == good
    assert await is_good(oauth_states, a_state(other_org))


async def test_a_shredded_orgs_states_are_gone(vault: Vault, oauth_states: work_ports.OAuthStates, org: str) -> None:
    await oauth_states.keep_oauth_state(a_state(org), MINUTE)
    await vault.keeper.shred(org, ORIGIN)
    assert not await is_good(oauth_states, a_state(org))
