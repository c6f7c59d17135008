"""Both clients answer from memory what the vault says is current, and ask it for the rest."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault import (
    AsyncClient,
    CacheSettings,
    CacheStatistics,
    Client,
    GoogleCalendarCredential,
    Provider,
    ResourceKind,
    Secret,
    VapiCredential,
)
from tenantvault._reads import opened
from tenantvault._sharing import Shared
from tenantvault._status import to_status
from tenantvault.errors import (
    LEAVES,
    CredentialNotFound,
    DeadlineExceeded,
    InvalidRequest,
    VaultUnavailable,
)
from tenantvault.messages import credential_to_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory
from tenantvault.v1 import integration_service_pb2 as integration

# What the clients take for the time.
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ASSISTANT = (ResourceKind.VAPI_ASSISTANT, "00000000-0000-4000-8000-000000000001")
CALLERS = 20


class Vault:
    """What a vault answers: orgs that have everything, at a generation. `life` is how long Google's token lasts."""

    def __init__(self) -> None:
        self.generation = 7
        self.stale = False
        self.life = 3600.0
        self.previous_for: float | None = None

    def __call__(self, call: Any) -> Any:
        match call.request:
            case directory.ResolveOrgRequest():
                return directory.ResolveOrgResponse(
                    org_id="acme", role="inbound", generation=self.generation, served_stale=self.stale
                )
            case access.ResolveCredentialRequest():
                return access.ResolveCredentialResponse(credential=self.active("acme", call.request))
            case _:
                return access.GetCredentialResponse(credential=self.active(call.request.org_id, call.request))

    def active(self, org_id: str, request: Any) -> pb.ActiveCredential:
        credential = credential_to_message(VapiCredential(api_key=Secret(f"key-{self.generation}")))
        if request.provider == pb.PROVIDER_GOOGLE_CALENDAR:
            expires_at = NOW + timedelta(seconds=self.life)
            credential = credential_to_message(
                GoogleCalendarCredential(
                    refresh_token=Secret("r"), access_token=Secret("a"), expires_at=expires_at, scopes=()
                )
            )
        active = pb.ActiveCredential(
            org_id=org_id,
            provider=request.provider,
            version=1,
            credential=credential,
            generation=self.generation,
            served_stale=self.stale,
        )
        if request.include_previous and self.previous_for is not None:
            until = Timestamp()
            until.FromDatetime(NOW + timedelta(seconds=self.previous_for))
            active.previous.CopyFrom(pb.PreviousCredential(version=1, credential=credential, readable_until=until))
        return active


@pytest.fixture
def vault(wire: Any) -> Vault:
    wire.answer = vault = Vault()
    return vault


class Failed(grpc.RpcError):
    """A failed blocking call."""

    def __init__(self, code: grpc.StatusCode, trailers: Any = ()) -> None:
        super().__init__()
        self._code = code
        self._trailers = trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def trailing_metadata(self) -> Any:
        return self._trailers


Reading = Callable[[Any], Any]

READS: dict[str, Reading] = {
    "get": lambda client: client.get("acme", Provider.VAPI),
    "vapi": lambda client: client.vapi("acme"),
    "vapi with the previous one": lambda client: client.vapi("acme", include_previous=True),
    "google_calendar": lambda client: client.google_calendar("acme"),
    "resolve_org": lambda client: client.resolve_org(*ASSISTANT),
    "resolve_credential": lambda client: client.resolve_credential(*ASSISTANT, Provider.VAPI),
    "resolve_credential with the previous one": lambda client: client.resolve_credential(
        *ASSISTANT, Provider.VAPI, include_previous=True
    ),
}


@pytest.fixture(params=READS)
def read(request: pytest.FixtureRequest) -> Reading:
    return READS[request.param]


@pytest.mark.usefixtures("vault")
async def test_what_was_read_is_not_asked_for_again(remembering: Any, wire: Any, read: Reading) -> None:
    first = await read(remembering)

    assert first is await read(remembering)
    assert 1 == len(wire.calls)
    statistics = remembering.statistics
    assert (1, 1, 1) == (statistics.hits, statistics.misses, statistics.entries)
    assert statistics.bytes > 0


@pytest.mark.parametrize("verb", ["vapi", "twilio", "resend", "elevenlabs", "google_calendar"])
async def test_a_shortcut_remembers_what_get_does(remembering: Any, wire: Any, verb: str) -> None:
    provider = Provider.GOOGLE_CALENDAR if verb == "google_calendar" else Provider(verb)
    asked = remembering.memory.asked()
    planted = Vault().active("acme", access.GetCredentialRequest(provider=pb.PROVIDER_GOOGLE_CALENDAR))
    value = opened(planted, pb.PROVIDER_GOOGLE_CALENDAR)
    remembering.memory.keep(("acme", provider, False), value, asked, org_id="acme", generation=7, size=1)

    assert value is await getattr(remembering, verb)("acme")
    assert value is await remembering.get("acme", provider)
    assert [] == wire.calls


async def test_a_change_has_it_asked_for_again(remembering: Any, wire: Any, vault: Vault, read: Reading) -> None:
    first = await read(remembering)
    vault.generation = 8
    remembering.memory.changed("acme", 8)
    second = await read(remembering)

    assert (7, 8) == (first.generation, second.generation)
    assert second is await read(remembering)
    assert 2 == len(wire.calls)


async def test_a_change_of_another_org_does_not(remembering: Any, wire: Any, vault: Vault, read: Reading) -> None:
    await read(remembering)
    remembering.memory.changed("globex", 8)
    await read(remembering)

    assert 1 == len(wire.calls)


async def test_the_watch_begins_with_the_first_read_and_nothing_is_kept_before_it_is_heard(
    remember: Any, wire: Any, vault: Vault, read: Reading
) -> None:
    client = remember()
    assert [] == wire.watches
    await read(client)
    await read(client)
    await asyncio.to_thread(wire.watched.wait)

    assert 1 == len(wire.watches)
    assert 2 == len(wire.calls)
    client.memory.heard()
    await read(client)
    await read(client)
    assert 3 == len(wire.calls)


@pytest.mark.usefixtures("vault")
def test_where_no_thread_can_be_started_reads_go_on_without_the_memory_until_one_can(
    thread_client: Client, wire: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as machine:
        machine.setattr(threading.Thread, "start", full)
        assert ["acme", "acme"] == [thread_client.vapi("acme").org_id for _ in range(2)]
        assert "acme" == thread_client.resolve_org(*ASSISTANT).org_id
    (record,) = caplog.records
    assert "nothing is kept in memory" in record.getMessage()
    assert [] == wire.watches
    thread_client.vapi("acme")
    assert wire.watched.wait(60)


@pytest.mark.usefixtures("vault")
def test_a_client_whose_watch_could_not_be_started_is_closed_as_ever(
    thread_client: Client, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError

    with monkeypatch.context() as machine:
        machine.setattr(threading.Thread, "start", full)
        thread_client.vapi("acme")
    thread_client.close()

    assert 1 == wire.closed


async def test_with_several_connections_nothing_is_kept_until_the_watch_has_settled(
    remember: Any, wire: Any, vault: Vault, clock: Any
) -> None:
    client = remember(others=[remember().client._wire._channels[0]])
    for _ in range(3):
        client.memory.heard()
        await client.vapi("acme")
        clock.now += 1
    assert 3 == len(wire.calls)
    client.memory.heard()
    await client.vapi("acme")
    await client.vapi("acme")

    assert 4 == len(wire.calls)


async def test_a_report_begins_no_watch(remember: Any, wire: Any) -> None:
    client = remember()
    wire.answer = access.ReportFailureResponse()
    await client.report_failure("acme", Provider.VAPI, 1)

    assert [] == wire.watches


async def test_without_a_cache_every_read_is_a_call_and_nothing_is_watched(
    client: Any, wire: Any, vault: Vault, read: Reading
) -> None:
    await read(client)
    await read(client)

    assert (2, []) == (len(wire.calls), wire.watches)
    assert CacheStatistics() == client.statistics
    await client.forget()


async def test_forget_has_everything_asked_for_again(remembering: Any, wire: Any, vault: Vault, read: Reading) -> None:
    await read(remembering)
    await remembering.forget()
    await read(remembering)
    await read(remembering)

    assert 2 == len(wire.calls)


async def test_a_closed_client_gives_nothing_and_has_forgotten_everything(
    remembering: Any, wire: Any, vault: Vault, read: Reading
) -> None:
    await read(remembering)
    await remembering.close()

    with pytest.raises(InvalidRequest, match="closed"):
        await read(remembering)
    with pytest.raises(InvalidRequest, match="closed"):
        await remembering.remembered("acme", Provider.VAPI)
    assert (0, 0) == (remembering.statistics.entries, remembering.statistics.bytes)
    assert all(watch.cancelled.is_set() for watch in wire.watches)


async def test_what_the_vault_served_stale_is_not_kept(
    remembering: Any, wire: Any, vault: Vault, read: Reading
) -> None:
    vault.stale = True
    await read(remembering)

    assert (await read(remembering)).served_stale
    assert 2 == len(wire.calls)


async def test_that_there_is_nothing_is_not_kept(remembering: Any, wire: Any, read: Reading) -> None:
    wire.answer = remembering.refused(CredentialNotFound())
    for _ in range(2):
        with pytest.raises(CredentialNotFound):
            await read(remembering)

    assert 2 == len(wire.calls)


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize(
    ("verb", "arguments", "field"),
    [
        ("vapi", (["acme"],), "org_id"),
        ("vapi", ("Acme",), "org_id"),
        ("get", ("acme", []), "provider"),
        ("resolve_org", ({}, "x"), "kind"),
        ("resolve_org", (ResourceKind.PHONE_NUMBER, []), "resource_id"),
        ("resolve_credential", (*ASSISTANT, []), "provider"),
    ],
)
async def test_a_bad_argument_is_refused_as_ever(
    remembering: Any, wire: Any, verb: str, arguments: tuple[Any, ...], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await getattr(remembering, verb)(*arguments)

    assert [field] == list(caught.value.fields)
    assert [] == wire.calls


async def test_memory_alone_may_be_asked_and_memory_may_be_passed_over(
    remembering: Any, wire: Any, vault: Vault
) -> None:
    assert await remembering.remembered("acme", Provider.VAPI) is None
    assert await remembering.remembered([], Provider.VAPI) is None
    assert [] == wire.calls
    first = await remembering.get("acme", Provider.VAPI)
    assert first is await remembering.remembered("acme", Provider.VAPI)
    assert await remembering.remembered("acme", Provider.VAPI, include_previous=True) is None
    second = await remembering.get("acme", Provider.VAPI, from_memory=False)

    assert second is not first
    assert second is await remembering.get("acme", Provider.VAPI)
    assert [False, False] == [call.request.HasField("max_staleness") for call in wire.calls]


async def test_the_previous_one_is_given_no_longer_than_it_is_readable(
    remembering: Any, wire: Any, vault: Vault, clock: Any
) -> None:
    vault.previous_for = 2.0
    await remembering.vapi("acme", include_previous=True)
    clock.now += 1.9
    assert (await remembering.vapi("acme", include_previous=True)).previous is not None
    assert 1 == len(wire.calls)
    clock.now += 0.1
    vault.previous_for = None

    assert (await remembering.vapi("acme", include_previous=True)).previous is None
    assert 2 == len(wire.calls)
    # Without it, the credential is remembered by itself.
    await remembering.vapi("acme")
    assert 3 == len(wire.calls)


@pytest.mark.parametrize(("life", "min_life", "calls"), [(3600, 1800, 1), (61, 60, 1), (61, 62, 2)])
async def test_a_google_token_comes_from_memory_only_while_it_lasts(
    remembering: Any, wire: Any, provider_wire: Any, vault: Vault, life: float, min_life: float, calls: int
) -> None:
    provider_wire.answer = integration.RefreshAccessTokenResponse()
    vault.life = life
    await remembering.get("acme", Provider.GOOGLE_CALENDAR)
    wire.calls.clear()
    vault.life = 3600

    found = await remembering.google_calendar("acme", min_life=min_life)

    assert calls - 1 == len(wire.calls)
    assert found.credential.expires_at >= NOW + timedelta(seconds=min_life)
    assert [] == provider_wire.calls


async def test_a_refreshed_token_is_remembered(remembering: Any, wire: Any, provider_wire: Any, vault: Vault) -> None:
    vault.life = 30

    def refresh(_: Any) -> integration.RefreshAccessTokenResponse:
        vault.life, vault.generation = 3600, 8
        return integration.RefreshAccessTokenResponse()

    provider_wire.answer = refresh
    first = await remembering.google_calendar("acme")
    assert first is await remembering.google_calendar("acme")
    assert (2, 1) == (len(wire.calls), len(provider_wire.calls))
    assert Duration() == wire.calls[1].request.max_staleness


class UnderWay:
    """Another's call, which gets no answer."""

    def done(self) -> bool:
        return False

    def cancel(self) -> None: ...

    def wait(self, timeout: float) -> None:
        threading.Event().wait(timeout)


async def test_a_refreshed_token_is_not_awaited_from_a_call_that_began_before(
    remembering: Any, provider_wire: Any, vault: Vault
) -> None:
    vault.life = 30
    asynchronous = isinstance(remembering.client, AsyncClient)
    work = asyncio.get_running_loop().create_future() if asynchronous else UnderWay()

    def refresh(_: Any) -> integration.RefreshAccessTokenResponse:
        under_way = Shared(work, remembering.memory.asked())
        remembering.client._calls._sharing._under_way["acme", Provider.GOOGLE_CALENDAR, False] = under_way
        vault.life = 3600
        return integration.RefreshAccessTokenResponse()

    provider_wire.answer = refresh

    found = await remembering.google_calendar("acme", deadline=0.2)
    assert found.credential.expires_at == NOW + timedelta(seconds=3600)


@pytest.mark.parametrize("min_life", [0, 1801, "60"])
async def test_a_life_that_cannot_be_promised_is_refused_though_it_is_in_memory(
    remembering: Any, vault: Vault, min_life: Any
) -> None:
    await remembering.google_calendar("acme")

    with pytest.raises(InvalidRequest, match="min_life"):
        await remembering.google_calendar("acme", min_life=min_life)


@pytest.mark.parametrize(
    ("max_staleness", "age", "calls"), [(None, 2.5, 1), (0, 0, 2), (0.5, 0, 1), (0.5, 0.5, 2), (2.0, 1.5, 1)]
)
async def test_a_caller_may_say_how_old_an_answer_may_be(
    remembering: Any, wire: Any, vault: Vault, clock: Any, max_staleness: float | None, age: float, calls: int
) -> None:
    await remembering.vapi("acme")
    clock.now += age
    await remembering.vapi("acme", max_staleness=max_staleness)

    assert calls == len(wire.calls)
    if calls == 2:
        wanted = wire.calls[1].request.max_staleness
        assert max_staleness == wanted.seconds + wanted.nanos / 1e9
        assert wire.calls[1].request.HasField("max_staleness")


@pytest.mark.parametrize("verb", ["get", "vapi", "twilio", "resend", "elevenlabs", "google_calendar"])
async def test_what_is_no_age_is_refused_before_anything_is_sent(remembering: Any, wire: Any, verb: str) -> None:
    arguments = ("acme", Provider.VAPI) if verb == "get" else ("acme",)
    nones: list[Any] = [-1, float("nan"), float("inf"), "0"]
    for max_staleness in nones:
        with pytest.raises(InvalidRequest, match="max_staleness"):
            await getattr(remembering, verb)(*arguments, max_staleness=max_staleness)
        with pytest.raises(InvalidRequest, match="max_staleness"):
            await remembering.resolve_credential(*ASSISTANT, Provider.VAPI, max_staleness=max_staleness)

    assert [] == wire.calls


@pytest.fixture
def lenient(remember: Any) -> Any:
    """A client that may give what was current within the last minute."""
    client = remember(cache=CacheSettings(max_stale=60))
    client.memory.heard()
    return client


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_when_the_vault_cannot_be_reached_what_was_current_is_given_and_says_so(
    lenient: Any, wire: Any, clock: Any, read: Reading, code: grpc.StatusCode
) -> None:
    first = await read(lenient)
    wire.answer = lenient.failed(code)
    clock.now += 59

    found = await read(lenient)
    assert found.served_stale
    assert (first.org_id, first.generation) == (found.org_id, found.generation)
    # It need not wait for a connection.
    assert [True, False] == [call.options["wait_for_ready"] for call in wire.calls]
    assert 1 == lenient.statistics.stale
    clock.now += 1
    with pytest.raises((VaultUnavailable, DeadlineExceeded)):
        await read(lenient)


@pytest.mark.usefixtures("vault")
async def test_any_other_error_is_raised_though_something_is_remembered(lenient: Any, wire: Any, clock: Any) -> None:
    given = wire.answer
    for leaf in set(LEAVES) - {VaultUnavailable, DeadlineExceeded}:
        wire.answer = given
        await lenient.vapi("acme")
        wire.answer = lenient.refused(leaf())
        clock.now += 10

        with pytest.raises(leaf):
            await lenient.vapi("acme")


@pytest.mark.usefixtures("vault")
async def test_a_stale_answer_has_to_be_allowed_by_the_client_and_the_call(
    remembering: Any, lenient: Any, wire: Any, clock: Any
) -> None:
    for client in (remembering, lenient):
        await client.vapi("acme")
    wire.answer = lenient.failed(grpc.StatusCode.UNAVAILABLE)
    clock.now += 10

    with pytest.raises(VaultUnavailable):
        await remembering.vapi("acme")
    with pytest.raises(VaultUnavailable):
        await lenient.vapi("acme", max_staleness=10)
    with pytest.raises(VaultUnavailable):
        await lenient.vapi("acme", max_staleness=0)
    assert (await lenient.vapi("acme", max_staleness=11)).served_stale
    with pytest.raises(VaultUnavailable):
        await lenient.vapi("globex")


@pytest.mark.usefixtures("vault")
async def test_a_change_that_was_told_is_not_given_stale(lenient: Any, wire: Any, clock: Any) -> None:
    await lenient.vapi("acme")
    lenient.memory.changed("acme", 8)
    wire.answer = lenient.failed(grpc.StatusCode.UNAVAILABLE)

    with pytest.raises(VaultUnavailable):
        await lenient.vapi("acme")


class Held:
    """A vault whose answer comes when it is released. `arrived` says that somebody asked."""

    def __init__(self, vault: Callable[[Any], Any]) -> None:
        self._vault = vault
        self.arrived = threading.Event()
        self.release = threading.Event()

    async def __call__(self, call: Any) -> Any:
        self.arrived.set()
        await asyncio.to_thread(self.release.wait)
        return self._vault(call)


@pytest.fixture
async def task_client(asynchronous: AsyncClient, wire: Any, clock: Any) -> AsyncClient:
    """An asyncio client that remembers, and was heard."""
    client = AsyncClient(asynchronous._wire._channels[0], now=lambda: NOW, timer=clock)
    assert client._calls.cache is not None
    client._calls.cache.heard()
    return client


@pytest.fixture
def thread_client(blocking: Client, wire: Any, clock: Any) -> Iterator[Client]:
    with Client(blocking._wire._channels[0], now=lambda: NOW, timer=clock) as client:
        assert client._calls.cache is not None
        client._calls.cache.heard()
        yield client


async def test_many_tasks_that_want_the_same_make_one_call(task_client: AsyncClient, wire: Any, vault: Vault) -> None:
    wire.answer = held = Held(vault)
    calls = [asyncio.create_task(task_client.vapi("acme")) for _ in range(CALLERS)]
    await asyncio.to_thread(held.arrived.wait)
    held.release.set()
    found = await asyncio.gather(*calls)

    assert {id(found[0])} == {id(each) for each in found}
    assert 1 == len(wire.calls)
    assert (CALLERS, CALLERS - 1) == (task_client.cache_statistics.misses, task_client.cache_statistics.joined)
    assert 0 == len(task_client._calls._sharing)


def waiting(client: Client, callers: int) -> None:
    """Wait until so many threads wait for a call."""
    while sum(shared.callers for shared in list(client._calls._sharing._under_way.values())) < callers:
        threading.Event().wait(0.001)


def test_many_threads_that_want_the_same_make_one_call(
    thread_client: Client, wire: Any, vault: Vault, rpc_future: Any
) -> None:
    wire.answer = rpc_future
    with ThreadPoolExecutor(CALLERS) as threads:
        calls = [threads.submit(thread_client.vapi, "acme", deadline=60) for _ in range(CALLERS)]
        waiting(thread_client, CALLERS)
        rpc_future.land(vault(wire.calls[0]))
        found = [call.result() for call in calls]

    assert ["acme"] * CALLERS == [each.org_id for each in found]
    assert 1 == len(wire.calls)
    assert (CALLERS, CALLERS - 1) == (thread_client.cache_statistics.misses, thread_client.cache_statistics.joined)
    assert 0 == len(thread_client._calls._sharing)


async def test_each_task_raises_its_own_copy_of_the_error(task_client: AsyncClient, wire: Any) -> None:
    code, _, trailers = to_status(CredentialNotFound("Do this.", fields={"a": "b"}))
    wire.answer = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers))

    caught = await asyncio.gather(*(task_client.vapi("acme") for _ in range(3)), return_exceptions=True)

    assert [(CredentialNotFound, "Do this.")] * 3 == [(type(each), str(each)) for each in caught]
    assert 3 == len({id(each) for each in caught})
    assert 1 == len(wire.calls)


def test_each_thread_raises_its_own_copy_of_the_error(thread_client: Client, wire: Any, rpc_future: Any) -> None:
    code, _, trailers = to_status(CredentialNotFound("Do this."))
    wire.answer = rpc_future
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(thread_client.vapi, "acme", deadline=60) for _ in range(3)]
        waiting(thread_client, 3)
        rpc_future.land(Failed(code, trailers))
        caught = [call.exception() for call in calls]

    assert [(CredentialNotFound, "Do this.")] * 3 == [(type(each), str(each)) for each in caught]
    assert 3 == len({id(each) for each in caught})


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("gives_up", ["by its deadline", "by being cancelled"])
async def test_a_task_that_gives_up_ends_nobody_elses_call(
    task_client: AsyncClient, wire: Any, vault: Vault, gives_up: str
) -> None:
    wire.answer = held = Held(vault)
    # It began the call.
    deadline = 0.01 if gives_up == "by its deadline" else 60
    first = asyncio.create_task(task_client.vapi("acme", deadline=deadline))
    await asyncio.to_thread(held.arrived.wait)
    second = asyncio.create_task(task_client.vapi("acme", deadline=60))
    await asyncio.sleep(0)
    if gives_up == "by being cancelled":
        first.cancel()
    with pytest.raises((DeadlineExceeded, asyncio.CancelledError)):
        await first
    assert not second.done()
    held.release.set()

    assert "acme" == (await second).org_id
    assert 1 == len(wire.calls)


def test_a_thread_that_gives_up_ends_nobody_elses_call(
    thread_client: Client, wire: Any, vault: Vault, rpc_future: Any
) -> None:
    wire.answer = rpc_future
    with ThreadPoolExecutor(1) as threads:
        patient = threads.submit(thread_client.vapi, "acme", deadline=60)
        waiting(thread_client, 1)
        with pytest.raises(DeadlineExceeded):
            thread_client.vapi("acme", deadline=0.01)
        rpc_future.land(vault(wire.calls[0]))

        assert "acme" == patient.result().org_id
    assert 1 == len(wire.calls)


@pytest.mark.usefixtures("unhurried")
async def test_when_the_last_task_gives_up_the_call_is_ended(task_client: AsyncClient, wire: Any) -> None:
    ended = asyncio.Event()

    async def never(_: Any) -> Any:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    wire.answer = never
    with pytest.raises(DeadlineExceeded):
        await task_client.vapi("acme", deadline=0.01)

    await ended.wait()
    assert 0 == len(task_client._calls._sharing)


@pytest.mark.usefixtures("unhurried")
def test_when_the_last_thread_gives_up_the_call_is_ended(thread_client: Client, wire: Any, rpc_future: Any) -> None:
    wire.answer = rpc_future
    with pytest.raises(DeadlineExceeded):
        thread_client.vapi("acme", deadline=0.01)

    assert rpc_future.cancelled()
    assert 0 == len(thread_client._calls._sharing)


async def test_a_shared_call_has_at_least_the_clients_own_time(remembering: Any, wire: Any, vault: Vault) -> None:
    await remembering.vapi("acme", deadline=0.5)
    await remembering.vapi("globex", deadline=50)

    assert [5.0, 50] == [call.options["timeout"] for call in wire.calls]


async def test_who_joined_a_call_that_had_too_little_time_asks_again(
    task_client: AsyncClient, wire: Any, vault: Vault
) -> None:
    def late(_: Any) -> Any:
        raise grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.Metadata(), grpc.aio.Metadata())

    first = Held(late)
    wire.answer = lambda call: first(call) if len(wire.calls) == 1 else vault(call)
    short = asyncio.create_task(task_client.vapi("acme", deadline=60))
    await asyncio.to_thread(first.arrived.wait)
    long = asyncio.create_task(task_client.vapi("acme", deadline=60))
    await asyncio.sleep(0)
    first.release.set()

    with pytest.raises(DeadlineExceeded):
        await short
    assert "acme" == (await long).org_id
    assert 2 == len(wire.calls)


def test_a_thread_that_joined_a_call_that_had_too_little_time_asks_again(
    thread_client: Client, wire: Any, vault: Vault, rpc_future: Any
) -> None:
    wire.answer = lambda call: rpc_future if len(wire.calls) == 1 else vault(call)
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(thread_client.vapi, "acme", deadline=60) for _ in range(2)]
        waiting(thread_client, 2)
        rpc_future.land(Failed(grpc.StatusCode.DEADLINE_EXCEEDED))
        ended = {type(call.exception()) for call in calls}

    assert {DeadlineExceeded, type(None)} == ended
    assert 2 == len(wire.calls)


async def test_what_began_before_a_change_is_not_joined_after_it(
    task_client: AsyncClient, wire: Any, vault: Vault
) -> None:
    wire.answer = held = Held(vault)
    first = asyncio.create_task(task_client.vapi("acme"))
    await asyncio.to_thread(held.arrived.wait)
    assert task_client._calls.cache is not None
    task_client._calls.cache.changed("acme", 8)
    second = asyncio.create_task(task_client.vapi("acme"))
    await asyncio.sleep(0)
    held.release.set()
    await asyncio.gather(first, second)

    assert 2 == len(wire.calls)


async def test_who_says_how_old_the_answer_may_be_asks_alone(task_client: AsyncClient, wire: Any, vault: Vault) -> None:
    wire.answer = held = Held(vault)
    calls = [asyncio.create_task(task_client.vapi("acme", max_staleness=old)) for old in (None, 0, None)]
    await asyncio.to_thread(held.arrived.wait)
    held.release.set()
    await asyncio.gather(*calls)

    assert 2 == len(wire.calls)
