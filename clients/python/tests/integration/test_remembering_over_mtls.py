"""Both clients remember what a real server says is current, over mutual TLS."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault import CacheSettings, Secret, VapiCredential
from tenantvault._status import to_status
from tenantvault.errors import CredentialNotFound, VaultUnavailable
from tenantvault.messages import credential_to_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb

pytestmark = pytest.mark.enable_socket

RESYNC = access.WatchChangesResponse(resync=access.Resync())


def change(org_id: str, generation: int) -> access.WatchChangesResponse:
    return access.WatchChangesResponse(change=access.Change(org_id=org_id, generation=generation))


class Orgs:
    """What the vault answers: each org's credential at `generation`, or that there is none."""

    def __init__(self) -> None:
        self.generation = 7
        self.connected = True

    async def __call__(self, request: Any, context: Any) -> Any:
        if not self.connected:
            code, message, trailers = to_status(CredentialNotFound())
            context.set_trailing_metadata(trailers)
            await context.abort(code, message)
        credential = credential_to_message(VapiCredential(api_key=Secret("key")))
        return access.GetCredentialResponse(
            credential=pb.ActiveCredential(
                org_id=request.org_id,
                provider=request.provider,
                version=1,
                credential=credential,
                generation=self.generation,
            )
        )


@pytest.fixture
def orgs(vault: Any) -> Orgs:
    vault.answer = orgs = Orgs()
    return orgs


async def until_remembered(client: Any, vault: Any) -> None:
    """Read until a read makes no call."""
    calls = -1
    while calls != vault.calls:
        calls = vault.calls
        await client.vapi("acme")


async def read_until(client: Any, wanted: Callable[[Any], bool]) -> Any:
    """Read until something that is wanted is given. What is given from memory alone leaves others no time."""
    while True:
        found = await client.vapi("acme")
        if wanted(found):
            return found
        await asyncio.sleep(0)


async def test_a_change_reaches_a_client_that_remembers(client: Any, vault: Any, orgs: Orgs) -> None:
    vault.beats = True
    await until_remembered(client, vault)

    orgs.generation = 8
    assert 7 == (await client.vapi("acme")).generation
    await vault.words.put(change("acme", 8))
    await read_until(client, lambda found: found.generation == 8)
    await until_remembered(client, vault)
    assert [[]] == [list(watch.known) for watch in vault.watches]


async def test_a_resync_and_a_revocation_reach_it_too(client: Any, vault: Any, orgs: Orgs) -> None:
    vault.beats = True
    await until_remembered(client, vault)
    orgs.connected = False
    await vault.words.put(RESYNC)

    with pytest.raises(CredentialNotFound):
        await read_until(client, lambda _: False)


async def test_a_vault_that_restarts_is_asked_about_what_is_remembered(client: Any, vault: Any, orgs: Orgs) -> None:
    vault.beats = True
    await until_remembered(client, vault)
    vault.watched.clear()
    vault.beats = False
    await vault.stop()
    await vault.start()
    await vault.watched.wait()

    assert [("acme", 7)] == [(known.org_id, known.generation) for known in vault.watches[-1].known]
    calls = vault.calls
    await client.vapi("acme")
    assert calls + 1 == vault.calls
    vault.beats = True
    await until_remembered(client, vault)
    # What was in memory all the time is given again, by no call.
    assert client.client.cache_statistics.hits >= 2


async def test_a_service_that_may_not_watch_reads_as_without_a_memory(client: Any, vault: Any, orgs: Orgs) -> None:
    vault.refuses_watches = True
    for _ in range(3):
        await client.vapi("acme")
    while client.client.cache_statistics.watches < 1:
        await client.vapi("acme")

    assert 0 == client.client.cache_statistics.entries
    assert client.client.cache_statistics.misses == vault.calls


async def test_a_vault_that_is_away_costs_no_deadline_where_something_may_be_given_instead(
    connect: Any, vault: Any, orgs: Orgs
) -> None:
    client = connect(cache=CacheSettings(max_stale=600), retries=False, deadline=119)
    vault.beats = True
    await until_remembered(client, vault)
    await vault.stop()

    found = await read_until(client, lambda found: found.served_stale)
    assert 7 == found.generation
    await client.close()


async def test_closing_ends_the_watch_on_the_server(client: Any, vault: Any, orgs: Orgs) -> None:
    await client.vapi("acme")
    await vault.watched.wait()
    await client.close()

    await vault.unwatched.wait()


async def refuse(request: Any, context: Any) -> Any:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "")


class Failing:
    """A vault that fails so many times, and then answers. `pushback` is what it says of coming again."""

    def __init__(
        self, orgs: Orgs, times: int, pushback: str = "", code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    ) -> None:
        self._orgs = orgs
        self._times = times
        self._pushback = pushback
        self._code = code

    async def __call__(self, request: Any, context: Any) -> Any:
        if self._times > 0:
            self._times -= 1
            if self._pushback:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", self._pushback),))
            await context.abort(self._code, "")
        return await self._orgs(request, context)


# The second is what a vault says to calls that arrive while it stops.
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_a_read_that_the_vault_was_unavailable_for_is_made_again_within_its_deadline(
    connect: Any, vault: Any, orgs: Orgs, code: grpc.StatusCode
) -> None:
    client = connect(cache=None)
    vault.answer = Failing(orgs, times=2, code=code)

    assert "acme" == (await client.vapi("acme", deadline=60)).org_id
    assert 3 == vault.calls
    await client.close()


async def test_a_read_that_a_vault_broke_off_is_made_again_when_it_is_back(
    connect: Any, vault: Any, orgs: Orgs
) -> None:
    client = connect(cache=None)
    arrived = asyncio.Event()

    async def hang(request: Any, context: Any) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    vault.answer = hang
    call = asyncio.create_task(client.vapi("acme", deadline=60))
    await arrived.wait()
    vault.answer = orgs
    await vault.stop()
    await vault.start()

    assert "acme" == (await call).org_id
    assert 2 == vault.calls
    await client.close()


async def test_the_budget_ends_it_when_everything_fails(connect: Any, vault: Any, orgs: Orgs) -> None:
    client = connect(cache=None)
    vault.answer = refuse
    attempts = []
    for _ in range(6):
        before = vault.calls
        with pytest.raises(VaultUnavailable):
            await client.vapi("acme", deadline=60)
        attempts.append(vault.calls - before)

    # Of ten tokens a failure costs one; at five and below nothing is made again.
    assert [4, 1, 1, 1, 1, 1] == attempts
    await client.close()


@pytest.mark.parametrize(("pushback", "attempts"), [("-1", 1), ("10", 2)])
async def test_a_vault_that_says_when_to_come_again_or_never_is_heeded(
    connect: Any, vault: Any, orgs: Orgs, pushback: str, attempts: int
) -> None:
    client = connect(cache=None)
    vault.answer = Failing(orgs, times=1, pushback=pushback)
    if attempts == 1:
        with pytest.raises(VaultUnavailable):
            await client.vapi("acme", deadline=60)
    else:
        await client.vapi("acme", deadline=60)

    assert attempts == vault.calls
    await client.close()


async def test_what_is_no_read_is_made_once_and_so_is_a_read_where_that_is_wanted(
    connect: Any, vault: Any, provider_service: Any
) -> None:
    vault.answer = provider_service.answer = refuse
    client = connect(cache=None, provider_target=provider_service.target)
    with pytest.raises(VaultUnavailable):
        await client.report_failure("acme", "vapi", 1, deadline=60)
    assert 1 == vault.calls
    await client.close()

    client = connect(cache=None, retries=False)
    with pytest.raises(VaultUnavailable):
        await client.vapi("acme", deadline=60)
    assert 2 == vault.calls
    await client.close()


async def test_a_refresh_is_made_once(connect: Any, vault: Any, provider_service: Any, orgs: Orgs) -> None:
    over = pb.GoogleCalendarCredential(access_token="a", expires_at=Timestamp())

    async def with_a_token_that_is_over(request: Any, context: Any) -> Any:
        return access.GetCredentialResponse(
            credential=pb.ActiveCredential(
                org_id="acme",
                provider=pb.PROVIDER_GOOGLE_CALENDAR,
                version=1,
                credential=pb.Credential(google_calendar=over),
            )
        )

    vault.answer, provider_service.answer = with_a_token_that_is_over, refuse
    client = connect(provider_target=provider_service.target)

    with pytest.raises(Exception, match="cannot answer"):
        await client.google_calendar("acme", deadline=60)
    assert 1 == provider_service.calls
    await client.close()


async def test_a_slow_read_is_asked_over_another_connection_and_the_slow_one_is_ended(
    connect: Any, vault: Any, orgs: Orgs
) -> None:
    client = connect(hedge_after=0.05)
    ended = asyncio.Event()
    peers: list[str] = []

    async def slow_at_first(request: Any, context: Any) -> Any:
        peers.append(context.peer())
        if len(peers) == 1:
            context.add_done_callback(lambda _: ended.set())
            await asyncio.Event().wait()
        return await orgs(request, context)

    vault.answer = slow_at_first

    assert "acme" == (await client.vapi("acme", deadline=60)).org_id
    await ended.wait()
    assert 2 == len(set(peers)) == len(peers)
    await client.close()


async def test_a_read_of_a_client_without_memory_is_hedged_too_and_an_error_is_an_answer(
    connect: Any, vault: Any, orgs: Orgs
) -> None:
    client = connect(hedge_after=0.05, cache=None)
    hang = asyncio.Event()

    async def slow_at_first(request: Any, context: Any) -> Any:
        if vault.calls == 1:
            await hang.wait()
        code, message, trailers = to_status(CredentialNotFound())
        context.set_trailing_metadata(trailers)
        await context.abort(code, message)

    vault.answer = slow_at_first

    with pytest.raises(CredentialNotFound):
        await client.vapi("acme", deadline=60)
    assert 2 == vault.calls
    await client.close()


async def test_calls_take_the_connections_in_turn(connect: Any, vault: Any, orgs: Orgs) -> None:
    client = connect(cache=None, channels=3)
    peers: list[str] = []

    async def note(request: Any, context: Any) -> Any:
        peers.append(context.peer())
        return await orgs(request, context)

    vault.answer = note
    for _ in range(6):
        await client.vapi("acme")

    assert peers[:3] == peers[3:]
    assert 3 == len(set(peers))
    await client.close()
