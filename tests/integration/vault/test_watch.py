"""Watching for changes: nothing is missed, and whoever may have missed something is told so."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import grpc.aio
import pytest

from deploy.local.authority import DevelopmentAuthority
from services.vault.fleet import ACKNOWLEDGED
from services.vault.postgres import CHANGES
from services.vault.watchers import Watchers
from tenantvault._status import FailedCall, from_status
from tenantvault.channel import call
from tenantvault.errors import DeadlineRequired, InvalidRequest, TenantVaultError, VaultUnavailable
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.integration.conftest import Database
from tests.integration.vault.conftest import (
    OTHER_VAPI,
    TWILIO,
    Journal,
    RunningVault,
    answers,
    assistant,
    eventually,
    held,
    running_vault,
    vault_settings,
)

LONG = 15.0


@dataclass
class Watch:
    """A watch under way. What it hears is read as it comes."""

    calling: Any
    heard: "asyncio.Queue[access_pb.WatchChangesResponse | None]" = field(default_factory=asyncio.Queue)
    failure: TenantVaultError | None = None

    async def read(self) -> None:
        try:
            while (message := await self.calling.read()) is not grpc.aio.EOF:
                self.heard.put_nowait(message)
        except grpc.aio.AioRpcError as error:
            self.failure = from_status(cast("FailedCall", error))
        self.heard.put_nowait(None)

    async def next(self) -> access_pb.WatchChangesResponse | None:
        """The next message; None when the watch has ended."""
        async with asyncio.timeout(LONG):
            return await self.heard.get()

    async def next_but_heartbeats(self) -> access_pb.WatchChangesResponse | None:
        async with asyncio.timeout(LONG):
            while (message := await self.next()) is not None and message.HasField("heartbeat"):
                pass
        return message

    async def change(self) -> tuple[str, int]:
        """The next thing that is no heartbeat, which must be a change."""
        message = await self.next_but_heartbeats()
        assert message is not None
        assert message.HasField("change"), message
        return message.change.org_id, message.change.generation

    async def until(self, org: str, generation: int) -> None:
        """Hear that an org has come to a generation, and of nothing beyond it."""
        while (told := await self.change()) != (org, generation):
            assert told < (org, generation), told

    async def resync(self) -> None:
        message = await self.next_but_heartbeats()
        assert message is not None
        assert message.HasField("resync"), message

    async def heartbeat(self) -> None:
        """Nothing else before it."""
        message = await self.next()
        assert message is not None
        assert message.HasField("heartbeat"), message


def wanted(known: Mapping[str, int]) -> access_pb.WatchChangesRequest:
    orgs = [access_pb.KnownOrg(org_id=org, generation=generation) for org, generation in known.items()]
    return access_pb.WatchChangesRequest(known=orgs)


@contextlib.asynccontextmanager
async def listening(calling: Any) -> AsyncIterator[Watch]:
    watch = Watch(calling)
    reading = asyncio.create_task(watch.read())
    try:
        yield watch
    finally:
        calling.cancel()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


@contextlib.asynccontextmanager
async def watching(vault: RunningVault, **known: int) -> AsyncIterator[Watch]:
    async with listening((await vault.access()).WatchChanges(wanted(known), timeout=600)) as watch:
        yield watch


@contextlib.asynccontextmanager
async def watching_already(vault: RunningVault) -> AsyncIterator[Watch]:
    """A watch that has begun."""
    async with watching(vault) as watch:
        await watch.heartbeat()
        yield watch


def watchers(vault: RunningVault) -> Watchers:
    ends: Any = vault.server._stopping
    watchers = ends.__self__
    assert isinstance(watchers, Watchers)
    return watchers


async def generation(database: Database, org: str) -> int:
    [row] = await database.admin("SELECT generation FROM orgs WHERE org_id = $1", org)
    return int(row["generation"])


@pytest.fixture
def org() -> str:
    """That can be the name of an argument."""
    return f"acme_{random.randbytes(4).hex()}"


@pytest.fixture
def other_org() -> str:
    return f"globex_{random.randbytes(4).hex()}"


@pytest.fixture
async def another_vault(
    database: Database, authority: DevelopmentAuthority, vault: RunningVault
) -> AsyncIterator[RunningVault]:
    async with running_vault(vault_settings(database, authority), authority) as another:
        yield another


async def test_every_kind_of_change_is_told_by_every_vault_whichever_made_it(
    vault: RunningVault, another_vault: RunningVault, database: Database, org: str
) -> None:
    at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI}
    store, other_store = await vault.store(), await another_vault.store()
    changes: list[Callable[[], Awaitable[Any]]] = [
        lambda: vault.put(org),
        lambda: call(other_store.RegisterResources, store_pb.RegisterResourcesRequest(**at, version=1)),
        lambda: call(store.RecordVerification, store_pb.RecordVerificationRequest(**at, version=1)),
        lambda: call(other_store.Disconnect, store_pb.DisconnectRequest(**at)),
        lambda: call(store.Reconnect, store_pb.ReconnectRequest(**at)),
        lambda: another_vault.put(org, OTHER_VAPI, expected=2),
        lambda: call(store.RegisterResources, store_pb.RegisterResourcesRequest(**at, version=3)),
        lambda: call(
            other_store.RollBackCredential, store_pb.RollBackCredentialRequest(**at, version=1, expected_version=3)
        ),
        lambda: call(store.DestroyVersion, store_pb.DestroyVersionRequest(**at, version=3)),
        lambda: another_vault.freeze(org),
        lambda: vault.unfreeze(org),
        lambda: another_vault.shred(org),
    ]
    async with watching_already(vault) as here, watching_already(another_vault) as there:
        for number, change in enumerate(changes, start=1):
            await change()
            for watch in (here, there):
                await watch.until(org, number)
        # What changes nothing is no change; it may be told of the last one again.
        await vault.shred(org)
        for watch in (here, there):
            while (message := await watch.next()) is not None and message.HasField("change"):
                assert (org, len(changes)) == (message.change.org_id, message.change.generation)
            assert message is not None
            assert message.HasField("heartbeat")
    assert len(changes) == await generation(database, org)


async def test_a_watch_begins_with_what_the_watcher_has_missed(vault: RunningVault, org: str, other_org: str) -> None:
    for of in (org, other_org):
        await vault.connect(of)
    async with watching(vault, **{org: 1, other_org: 2, "nobody": 0}) as watch:
        assert (org, 2) == await watch.change()
        await watch.heartbeat()
        await vault.put(other_org, expected=1, credential=OTHER_VAPI)
        assert (other_org, 3) == await watch.change()


async def test_a_watch_that_was_cut_off_is_taken_up_by_another_vault_without_a_gap(
    vault: RunningVault, another_vault: RunningVault, org: str, other_org: str
) -> None:
    async with watching_already(vault) as watch:
        for of in (org, other_org):
            await vault.connect(of)
            await watch.until(of, 2)
    await vault.put(org, OTHER_VAPI, expected=1)
    async with watching(another_vault, **{org: 2, other_org: 2}) as watch:
        assert (org, 3) == await watch.change()
        await watch.heartbeat()
    async with watching(another_vault, **{org: 3, other_org: 2}) as watch:
        await watch.heartbeat()


async def test_more_than_ten_thousand_known_orgs_are_too_many(vault: RunningVault) -> None:
    access = await vault.access()
    known = {f"org-{number}": 1 for number in range(10_001)}
    with pytest.raises(InvalidRequest) as refused:
        await answers(access.WatchChanges(wanted(known), timeout=5))
    assert {"known": "Give at most 10000: drop the others and watch anew."} == dict(refused.value.fields)
    del known["org-0"]
    async with watching(vault, **known) as watch:
        await watch.heartbeat()


async def test_an_org_that_can_be_none_is_refused(vault: RunningVault) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await answers((await vault.access()).WatchChanges(wanted({"Acme": 1}), timeout=5))
    assert ["org_id"] == list(refused.value.fields)


@pytest.mark.parametrize("seconds", [None, 3601])
async def test_a_watch_has_an_end_that_its_caller_says(vault: RunningVault, seconds: float | None) -> None:
    with pytest.raises(DeadlineRequired):
        await answers((await vault.access()).WatchChanges(wanted({}), timeout=seconds))


async def test_a_watcher_that_has_gone_is_forgotten(vault: RunningVault) -> None:
    async with watching_already(vault), watching_already(vault):
        assert 2 == len(watchers(vault)._watchers)

    async def nobody_watches() -> bool:
        return not watchers(vault)._watchers

    await eventually(nobody_watches)


async def test_a_watcher_that_does_not_read_is_told_to_resync_and_the_watch_goes_on(
    vault_environ: dict[str, str], authority: DevelopmentAuthority, database: Database, org: str
) -> None:
    # The flood keeps this process busy for a while: the vault's lease is longer than that.
    settings = {**vault_environ, "TENANTVAULT_RECONCILE_SECONDS": "60"}
    async with running_vault(settings, authority) as vault:
        calling: Any = (await vault.access()).WatchChanges(wanted({}), timeout=600)
        first = await calling.read()
        assert first.HasField("heartbeat")
        # More orgs than may wait for it, beside those that are on their way to it.
        await database.admin(
            "SELECT pg_notify($1, json_build_object('org', 'flood-' || n, 'generation', n)::text)"
            " FROM generate_series(1, 40000) n",
            CHANGES,
        )

        async def fell_behind() -> bool:
            return any(watcher._resync for watcher in watchers(vault)._watchers)

        await eventually(fell_behind, within=30)
        # Nobody waits for it.
        async with asyncio.timeout(LONG):
            await vault.connect(org)
        async with listening(calling) as watch:
            told = 0
            while (message := await watch.next_but_heartbeats()) is not None and message.HasField("change"):
                told += 1
            assert message is not None
            assert message.HasField("resync")
            assert told < 40_000
            # From then on nothing is missed again.
            await vault.put(org, TWILIO)
            while (await watch.change()) != (org, 3):
                pass


async def lost(vault: RunningVault) -> bool:
    return time.monotonic() >= vault.sync.fresh_until


async def test_a_vault_that_cannot_hear_says_nothing_and_then_that_something_may_have_been_missed(
    vault: RunningVault, database: Database, org: str
) -> None:
    async with watching_already(vault) as watch:
        # It cannot ask what moved on, and so does not know.
        async with held(database, "vaults"):
            await eventually(lambda: lost(vault))
            while not watch.heard.empty():
                await watch.heartbeat()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2.5):
                    assert (await watch.heard.get()) is None
        await watch.resync()
        await watch.heartbeat()
        await vault.connect(org)
        await watch.until(org, 2)


async def test_a_vault_that_was_cut_off_and_hears_again_says_that_something_may_have_been_missed(
    vault: RunningVault, another_vault: RunningVault, database: Database, org: str
) -> None:
    async with watching_already(vault) as here, watching_already(another_vault) as there:
        cut = await database.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'tenantvault-listener' AND datname = current_database()"
        )
        assert 2 == len(cut)
        for watch in (here, there):
            await watch.resync()
            await watch.heartbeat()
        await another_vault.connect(org)
        for watch in (here, there):
            await watch.until(org, 2)


async def test_what_is_none_of_the_vaults_on_their_channels_is_passed_over(
    vault: RunningVault, database: Database, journal: Journal, org: str
) -> None:
    async with watching_already(vault) as watch:
        for channel in (CHANGES, ACKNOWLEDGED):
            for payload in (
                "",
                "garbage",
                "[]",
                "null",
                "{",
                "{}",
                '{"org": 1, "generation": 1}',
                '{"org": "x", "generation": "1"}',
                '{"org": "x"}',
                '{"vault": 1, "orgs": []}',
                '{"vault": "x", "orgs": {"a": 1}}',
                '{"vault": "x", "orgs": [1, "a", ["a"], ["a", "b"], [1, 2], ["a", 1, 2]]}',
            ):
                await database.admin("SELECT pg_notify($1, $2)", channel, payload)
        await vault.connect(org)
        await watch.until(org, 2)
        assert not await lost(vault)
    assert [] == [line for line in journal.text.splitlines() if json.loads(line)["level"] in {"error", "critical"}]


async def test_a_vault_that_stops_ends_its_watches(
    vault_environ: dict[str, str], authority: DevelopmentAuthority, org: str
) -> None:
    async with running_vault(vault_environ, authority) as vault:
        await vault.connect(org)
        async with watching(vault, **{org: 1}) as watch:
            assert (org, 2) == await watch.change()
            async with asyncio.timeout(LONG):
                await vault.server.stop(grace=LONG)
            while (message := await watch.next()) is not None:
                assert message.HasField("heartbeat")
            assert watch.failure is None


async def test_a_vault_that_does_not_serve_cannot_be_watched(
    vault_environ: dict[str, str], authority: DevelopmentAuthority
) -> None:
    async with running_vault(vault_environ, authority, ready=False) as vault:
        with pytest.raises(VaultUnavailable):
            await answers((await vault.access()).WatchChanges(wanted({}), timeout=5))


@dataclass
class Follower:
    """Keeps what it knows of each org up to date, through watches that end whenever it pleases somebody."""

    vaults: list[RunningVault]
    known: dict[str, int] = field(default_factory=dict)
    watches: int = 0

    async def follow(self) -> None:
        while True:
            vault = self.vaults[self.watches % len(self.vaults)]
            self.watches += 1
            async with watching(vault, **self.known) as watch:
                while (message := await watch.next()) is not None and not message.HasField("resync"):
                    if message.HasField("change"):
                        org, generation = message.change.org_id, message.change.generation
                        assert generation > 0
                        self.known[org] = max(generation, self.known.get(org, 0))


@dataclass
class Crowd:
    """Many that change the same orgs at the same time, through two vaults."""

    vaults: list[RunningVault]
    orgs: list[str]
    chance: random.Random

    async def work(self, times: int) -> None:
        for _ in range(times):
            # Some changes are refused, of an org that is frozen for instance.
            with contextlib.suppress(TenantVaultError):
                await self.change(self.chance.choice(self.orgs), self.chance.choice(self.vaults))

    async def change(self, org: str, vault: RunningVault) -> None:
        store = await vault.store()
        at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI}
        register = store_pb.RegisterResourcesRequest(**at, version=1, resources=[assistant(org)])
        changes: list[Callable[[], Awaitable[Any]]] = [
            lambda: call(store.Disconnect, store_pb.DisconnectRequest(**at)),
            lambda: call(store.Reconnect, store_pb.ReconnectRequest(**at)),
            lambda: call(store.RegisterResources, register),
            lambda: vault.freeze(org),
            lambda: vault.unfreeze(org),
        ]
        await self.chance.choice(changes)()


@dataclass
class Followers:
    """Followers, some of whom somebody disturbs all the time."""

    steady: list[Follower]
    unsteady: list[Follower]
    following: "dict[int, asyncio.Task[None]]" = field(default_factory=dict)

    def begin(self, followers: list[Follower]) -> None:
        for follower in followers:
            self.following[id(follower)] = asyncio.create_task(follower.follow())

    async def end(self, followers: list[Follower]) -> None:
        tasks = [self.following.pop(id(follower)) for follower in followers]
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes

    async def disturb(self, crowd: Crowd, times: int) -> None:
        for _ in range(times):
            await self.end(self.unsteady)
            # They miss at least this.
            await crowd.work(3)
            self.begin(self.unsteady)
            await crowd.work(3)


async def test_a_watcher_never_misses_a_change(
    vault: RunningVault, another_vault: RunningVault, database: Database, org: str
) -> None:
    vaults, orgs = [vault, another_vault], [f"{org}_{number}" for number in range(10)]
    for of in orgs:
        await vault.connect(of)
    begin = dict.fromkeys(orgs, 2)
    crowd = Crowd(vaults, orgs, random.Random(2026))
    followers = Followers(
        [Follower([each], dict(begin)) for each in vaults], [Follower(vaults, dict(begin)) for _ in range(2)]
    )
    everybody = [*followers.steady, *followers.unsteady]
    followers.begin(everybody)
    await asyncio.gather(*(crowd.work(25) for _ in range(8)), followers.disturb(crowd, 8))
    stored = {of: await generation(database, of) for of in orgs}
    assert all(number > 2 for number in stored.values()), stored

    async def all_know() -> bool:
        return all(follower.known == stored for follower in everybody)

    try:
        await eventually(all_know, within=30)
    finally:
        await followers.end(everybody)
    assert all(follower.watches > 8 for follower in followers.unsteady)
