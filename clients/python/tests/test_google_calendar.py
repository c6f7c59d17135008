"""`google_calendar` gives an access token that lasts, or an error."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from tenantvault import AsyncClient, Client, GoogleCalendarCredential, Secret, _tokens
from tenantvault._status import to_status
from tenantvault.channel import DEFAULT_DEADLINE
from tenantvault.errors import (
    LEAVES,
    CredentialNotFound,
    DeadlineExceeded,
    InvalidRequest,
    LeaseHeld,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ReauthRequired,
    TenantVaultError,
    VaultUnavailable,
)
from tenantvault.messages import credential_to_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import integration_service_pb2 as integration

# What the fixtures' clients take for the time.
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
# How long a new token lasts.
NEW = 3599
REFRESHED = integration.RefreshAccessTokenResponse()
CALLERS = 100


class Google:
    """Orgs' tokens: each has one that lasts `life` seconds, until it is refreshed.

    `vault` and `provider` are the answers of the two services.
    """

    def __init__(self, life: float) -> None:
        self.life = life
        self.versions: dict[str, int] = {}

    def vault(self, call: Any) -> access.GetCredentialResponse:
        version = self.versions.get(call.request.org_id, 1)
        credential = GoogleCalendarCredential(
            refresh_token=Secret("1//refresh"),
            access_token=Secret(f"ya29.{version}"),
            expires_at=NOW + timedelta(seconds=self.life if version == 1 else NEW),
            scopes=("calendar.events",),
        )
        return access.GetCredentialResponse(
            credential=pb.ActiveCredential(
                org_id=call.request.org_id,
                provider=pb.PROVIDER_GOOGLE_CALENDAR,
                version=1,
                credential=credential_to_message(credential),
            )
        )

    def refresh(self, org_id: str = "acme") -> None:
        self.versions[org_id] = 2

    def provider(self, call: Any) -> integration.RefreshAccessTokenResponse:
        self.refresh(call.request.org_id)
        return REFRESHED


def token(found: Any) -> str:
    return str(found.credential.access_token.reveal())


@pytest.fixture
def google(wire: Any, provider_wire: Any) -> Google:
    google = Google(life=30)
    wire.answer = google.vault
    provider_wire.answer = google.provider
    return google


@pytest.mark.parametrize(
    ("life", "min_life", "expected"),
    [
        (60, None, "ya29.1"),
        (59.999999, None, "ya29.2"),
        (1, 1, "ya29.1"),
        (0.999999, 1, "ya29.2"),
        (1800, 1800, "ya29.1"),
        (1799, 1800, "ya29.2"),
        (90.5, 90.5, "ya29.1"),
        (-86400, None, "ya29.2"),
    ],
)
async def test_a_token_that_lasts_is_handed_out_and_another_is_refreshed_first(
    client: Any, google: Google, provider_wire: Any, life: float, min_life: float | None, expected: str
) -> None:
    google.life = life

    found = await client.google_calendar("acme", **({} if min_life is None else {"min_life": min_life}))

    assert expected == token(found)
    assert (expected == "ya29.2") == len(provider_wire.calls)


async def test_a_refresh_is_asked_of_the_provider_service_and_its_token_of_the_vault(
    client: Any, google: Google, wire: Any, provider_wire: Any
) -> None:
    await client.google_calendar("acme", include_previous=True)

    (refresh,) = provider_wire.calls
    assert "/tenantvault.v1.IntegrationService/RefreshAccessToken" == refresh.method
    assert (
        integration.RefreshAccessTokenRequest(
            org_id="acme", provider=pb.PROVIDER_GOOGLE_CALENDAR, min_life=Duration(seconds=1800)
        )
        == refresh.request
    )
    assert refresh.options["wait_for_ready"] is True
    before = access.GetCredentialRequest(org_id="acme", provider=pb.PROVIDER_GOOGLE_CALENDAR, include_previous=True)
    # What is stored now, and nothing older.
    after = access.GetCredentialRequest(
        org_id="acme", provider=pb.PROVIDER_GOOGLE_CALENDAR, include_previous=True, max_staleness=Duration()
    )
    assert [before, after] == [call.request for call in wire.calls]


@pytest.mark.parametrize("min_life", [0, 0.999, 1800.001, -60, math.nan, math.inf, "60", None])
async def test_a_life_that_cannot_be_promised_is_refused_before_anything_is_sent(
    client: Any, wire: Any, min_life: Any
) -> None:
    with pytest.raises(InvalidRequest, match="1 to 1800") as caught:
        await client.google_calendar("acme", min_life=min_life)

    assert ["min_life"] == list(caught.value.fields)
    assert [] == wire.calls


async def test_without_a_provider_service_a_token_that_lasts_is_handed_out(
    client: Any, google: Google, wire: Any
) -> None:
    google.life = 60
    alone = type(client)(type(client.client)(client.client._wire._channels[0], now=lambda: NOW, cache=None))

    assert "ya29.1" == token(await alone.google_calendar("acme"))


async def test_without_a_provider_service_another_is_an_error_that_names_the_setting(
    client: Any, google: Google, wire: Any
) -> None:
    alone = type(client)(type(client.client)(client.client._wire._channels[0], now=lambda: NOW, cache=None))

    with pytest.raises(InvalidRequest, match="set TENANTVAULT_PROVIDER_TARGET"):
        await alone.google_calendar("acme")

    await alone.close()
    assert 1 == wire.closed


async def test_an_org_without_google_has_nothing_refreshed(
    client: Any, google: Google, wire: Any, provider_wire: Any
) -> None:
    wire.answer = client.refused(CredentialNotFound())

    with pytest.raises(CredentialNotFound):
        await client.google_calendar("acme")

    assert [] == provider_wire.calls


@pytest.mark.parametrize("leaf", LEAVES)
async def test_a_refresh_that_fails_raises_its_error(
    client: Any, google: Google, wire: Any, provider_wire: Any, leaf: type[TenantVaultError]
) -> None:
    provider_wire.answer = client.refused(leaf("Do this.", fields={"a": "b"}, retry_after=2.5))

    with pytest.raises(leaf) as caught:
        await client.google_calendar("acme")

    assert leaf is type(caught.value)
    assert ("Do this.", {"a": "b"}, 2.5) == (caught.value.message, caught.value.fields, caught.value.retry_after)
    assert caught.value.__cause__ is None
    assert 1 == len(provider_wire.calls)
    # A definite no needs no second look.
    assert (2 if leaf.retryable else 1) == len(wire.calls)


@pytest.mark.parametrize("error", [LeaseHeld(), ProviderUnavailable()])
async def test_a_token_that_somebody_else_got_meanwhile_is_handed_out(
    client: Any, google: Google, provider_wire: Any, error: TenantVaultError
) -> None:
    def got_by_another(_: Any) -> Exception:
        google.refresh()
        return cast("Exception", client.refused(error))

    provider_wire.answer = got_by_another

    assert "ya29.2" == token(await client.google_calendar("acme"))


async def test_after_a_definite_no_nothing_is_handed_out(client: Any, google: Google, provider_wire: Any) -> None:
    def refuse(_: Any) -> Exception:
        google.refresh()
        return cast("Exception", client.refused(ReauthRequired()))

    provider_wire.answer = refuse

    with pytest.raises(ReauthRequired):
        await client.google_calendar("acme")


@pytest.mark.parametrize(
    ("refresh", "expected"), [(None, VaultUnavailable), (ProviderUnavailable(), ProviderUnavailable)]
)
async def test_a_vault_that_goes_away_meanwhile_is_an_error_unless_there_was_one_before(
    client: Any,
    google: Google,
    wire: Any,
    provider_wire: Any,
    refresh: TenantVaultError | None,
    expected: type[TenantVaultError],
) -> None:
    def gone(_: Any) -> Any:
        wire.answer = client.refused(VaultUnavailable())
        return REFRESHED if refresh is None else client.refused(refresh)

    provider_wire.answer = gone

    with pytest.raises(expected) as caught:
        await client.google_calendar("acme")

    assert expected is type(caught.value)
    assert caught.value.__suppress_context__


async def test_a_new_token_that_does_not_last_either_is_not_handed_out(
    client: Any, google: Google, provider_wire: Any
) -> None:
    provider_wire.answer = REFRESHED

    with pytest.raises(ProviderUnknownAnswer, match="clock"):
        await client.google_calendar("acme")

    assert 1 == len(provider_wire.calls)


async def test_a_provider_service_that_cannot_be_reached_is_named(
    client: Any, google: Google, provider_wire: Any
) -> None:
    provider_wire.answer = client.failed(grpc.StatusCode.DEADLINE_EXCEEDED)

    with pytest.raises(DeadlineExceeded, match="provider service"):
        await client.google_calendar("acme")


class Hours:
    """A monotonic clock that each call moves on by `step` seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, google: Google, step: float) -> None:
        self._google = google
        self._step = step
        self._now = 1000.0
        monkeypatch.setattr(_tokens, "time", SimpleNamespace(monotonic=lambda: self._now))

    def vault(self, call: Any) -> Any:
        self._now += self._step
        return self._google.vault(call)

    def provider(self, call: Any) -> Any:
        self._now += self._step
        return self._google.provider(call)


@pytest.mark.parametrize(("deadline", "refresh", "second"), [(None, DEFAULT_DEADLINE, 3.0), (9, 8.0, 7.0)])
async def test_the_steps_share_one_deadline(
    client: Any,
    google: Google,
    wire: Any,
    provider_wire: Any,
    monkeypatch: pytest.MonkeyPatch,
    deadline: float | None,
    refresh: float,
    second: float,
) -> None:
    hours = Hours(monkeypatch, google, step=1)
    wire.answer, provider_wire.answer = hours.vault, hours.provider

    await client.google_calendar("acme", deadline=deadline)

    assert [deadline or DEFAULT_DEADLINE, second] == [call.options["timeout"] for call in wire.calls]
    # Others may wait for it as long as the client's own deadline.
    assert [refresh] == [call.options["timeout"] for call in provider_wire.calls]


@pytest.mark.parametrize(
    ("deadline", "service", "gets", "refreshes"), [(1, "provider service", 1, 0), (2, "vault", 1, 1)]
)
async def test_a_deadline_that_is_over_ends_it(
    client: Any,
    google: Google,
    wire: Any,
    provider_wire: Any,
    monkeypatch: pytest.MonkeyPatch,
    deadline: float,
    service: str,
    gets: int,
    refreshes: int,
) -> None:
    hours = Hours(monkeypatch, google, step=1)
    wire.answer, provider_wire.answer = hours.vault, hours.provider

    with pytest.raises(DeadlineExceeded, match=f"The {service} "):
        await client.google_calendar("acme", deadline=deadline)

    assert (gets, refreshes) == (len(wire.calls), len(provider_wire.calls))


def refused(error: TenantVaultError) -> grpc.aio.AioRpcError:
    code, _, trailers = to_status(error)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers))


def held_back(google: Google, meet: Callable[[], Awaitable[Any]]) -> Callable[[Any], Any]:
    """A vault whose first answers are all as old as the oldest: they leave together."""

    async def answer(call: Any) -> Any:
        found = google.vault(call)
        if not call.request.HasField("max_staleness"):
            await meet()
        return found

    return answer


async def test_many_tasks_at_once_refresh_once(
    asynchronous: AsyncClient, google: Google, wire: Any, provider_wire: Any
) -> None:
    wire.answer = held_back(google, asyncio.Barrier(CALLERS).wait)

    found = await asyncio.gather(
        *(asynchronous.google_calendar("acme", min_life=100 + number) for number in range(CALLERS))
    )

    assert {"ya29.2"} == {token(each) for each in found}
    assert 1 == len(provider_wire.calls)
    assert 0 == len(asynchronous._refreshes.flights)


def test_many_threads_at_once_refresh_once(blocking: Client, google: Google, wire: Any, provider_wire: Any) -> None:
    together = threading.Barrier(CALLERS)

    def answer(call: Any) -> Any:
        found = google.vault(call)
        if not call.request.HasField("max_staleness"):
            together.wait()
        return found

    wire.answer = answer
    with ThreadPoolExecutor(CALLERS) as threads:
        found = list(threads.map(lambda _: blocking.google_calendar("acme", deadline=60), range(CALLERS)))

    assert {"ya29.2"} == {token(each) for each in found}
    assert 1 == len(provider_wire.calls)
    assert 0 == len(blocking._refreshes.flights)


async def test_orgs_are_refreshed_beside_each_other(
    asynchronous: AsyncClient, google: Google, provider_wire: Any
) -> None:
    both = asyncio.Barrier(2)

    async def refresh(call: Any) -> Any:
        await both.wait()
        return google.provider(call)

    provider_wire.answer = refresh

    found = await asyncio.gather(asynchronous.google_calendar("acme"), asynchronous.google_calendar("globex"))

    assert [("acme", "ya29.2"), ("globex", "ya29.2")] == [(each.org_id, token(each)) for each in found]
    assert 2 == len(provider_wire.calls)


async def test_a_token_that_grew_old_again_is_refreshed_again(client: Any, google: Google, provider_wire: Any) -> None:
    await client.google_calendar("acme")
    google.versions.clear()
    await client.google_calendar("acme")

    assert 2 == len(provider_wire.calls)


def flight_of_another(client: Any, rpc_future: Any) -> tuple[Any, Callable[[TenantVaultError], Any]]:
    """A refresh that is under way, and what ends it with an error."""
    if isinstance(client.client, Client):
        return rpc_future, lambda error: rpc_future.land(client.refused(error))
    future = asyncio.get_running_loop().create_future()
    return future, future.set_result


@pytest.mark.parametrize(
    ("ended", "again", "expected", "timeouts"),
    [
        (DeadlineExceeded(), None, "ya29.2", [8.0]),
        (DeadlineExceeded(), DeadlineExceeded(), DeadlineExceeded, [8.0]),
        (DeadlineExceeded(), ReauthRequired(), ReauthRequired, [8.0]),
        (ProviderUnavailable(), None, ProviderUnavailable, []),
        (ReauthRequired(), None, ReauthRequired, []),
    ],
)
async def test_a_refresh_that_another_gave_too_little_time_is_made_once_more_in_what_is_left(
    client: Any,
    google: Google,
    wire: Any,
    provider_wire: Any,
    rpc_future: Any,
    monkeypatch: pytest.MonkeyPatch,
    ended: TenantVaultError,
    again: TenantVaultError | None,
    expected: str | type[TenantVaultError],
    timeouts: list[float],
) -> None:
    hours = Hours(monkeypatch, google, step=1)
    flight, end = flight_of_another(client, rpc_future)

    def ends_meanwhile(call: Any) -> Any:
        if not flight.done():
            end(ended)
        return hours.vault(call)

    wire.answer = ends_meanwhile
    provider_wire.answer = hours.provider if again is None else client.refused(again)
    with client.client._refreshes.flights.of("acme") as another:
        another(lambda: flight)
        if isinstance(expected, str):
            assert expected == token(await client.google_calendar("acme", deadline=9))
        else:
            with pytest.raises(expected):
                await client.google_calendar("acme", deadline=9)

    assert timeouts == [call.options["timeout"] for call in provider_wire.calls]


async def test_many_tasks_whose_refresh_ran_out_of_time_share_the_next_one_too(
    asynchronous: AsyncClient, google: Google, wire: Any, provider_wire: Any
) -> None:
    def too_late_at_first(call: Any) -> Any:
        return refused(DeadlineExceeded()) if 1 == len(provider_wire.calls) else google.provider(call)

    wire.answer = held_back(google, asyncio.Barrier(CALLERS).wait)
    provider_wire.answer = too_late_at_first

    found = await asyncio.gather(
        *(asynchronous.google_calendar("acme") for _ in range(CALLERS)), return_exceptions=True
    )

    # Who began the first has had its time.
    assert [DeadlineExceeded] == [type(each) for each in found if isinstance(each, BaseException)]
    assert ["ya29.2"] * (CALLERS - 1) == [token(each) for each in found if not isinstance(each, BaseException)]
    assert 2 == len(provider_wire.calls)
    assert 0 == len(asynchronous._refreshes.flights)


class Held:
    """A refresh that is under way until it is released."""

    def __init__(self, google: Google) -> None:
        self._google = google
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, call: Any) -> Any:
        self.arrived.set()
        await self.release.wait()
        return self._google.provider(call)


async def test_a_task_that_gives_up_leaves_the_refresh_to_the_others(
    asynchronous: AsyncClient, google: Google, provider_wire: Any
) -> None:
    provider_wire.answer = held = Held(google)
    patient = asyncio.create_task(asynchronous.google_calendar("acme", deadline=60))
    await held.arrived.wait()

    with pytest.raises(DeadlineExceeded, match="provider service"):
        await asynchronous.google_calendar("acme", deadline=0.01)
    assert not patient.done()
    held.release.set()

    assert "ya29.2" == token(await patient)
    assert 1 == len(provider_wire.calls)


@pytest.mark.parametrize("gives_up", ["by its deadline", "by being cancelled"])
async def test_who_began_a_refresh_may_give_up_before_the_others(
    asynchronous: AsyncClient,
    google: Google,
    wire: Any,
    provider_wire: Any,
    monkeypatch: pytest.MonkeyPatch,
    gives_up: str,
) -> None:
    # However slow this machine is, the deadline is not over before the refresh has begun.
    wire.answer = Hours(monkeypatch, google, step=0).vault
    provider_wire.answer = held = Held(google)
    deadline = 0.01 if gives_up == "by its deadline" else 60
    first = asyncio.create_task(asynchronous.google_calendar("acme", deadline=deadline))
    await held.arrived.wait()
    if gives_up == "by being cancelled":
        first.cancel()
    with pytest.raises((DeadlineExceeded, asyncio.CancelledError)):
        await first

    second = asyncio.create_task(asynchronous.google_calendar("acme", deadline=60))
    held.release.set()

    assert "ya29.2" == token(await second)
    assert 1 == len(provider_wire.calls)
    assert 0 == len(asynchronous._refreshes.flights)


async def test_each_of_many_tasks_raises_an_error_of_its_own(
    asynchronous: AsyncClient, google: Google, wire: Any, provider_wire: Any
) -> None:
    wire.answer = held_back(google, asyncio.Barrier(3).wait)
    provider_wire.answer = refused(ReauthRequired("Do this."))

    caught = await asyncio.gather(*(asynchronous.google_calendar("acme") for _ in range(3)), return_exceptions=True)

    assert [(ReauthRequired, "Do this.")] * 3 == [(type(each), str(each)) for each in caught]
    assert 3 == len({id(each) for each in caught})
    assert 1 == len(provider_wire.calls)


def test_a_thread_that_gives_up_leaves_the_refresh_to_the_others(
    blocking: Client, google: Google, provider_wire: Any, rpc_future: Any
) -> None:
    held = rpc_future
    arrived = threading.Event()

    def refresh(_: Any) -> Any:
        arrived.set()
        return held

    provider_wire.answer = refresh
    with ThreadPoolExecutor(1) as threads:
        patient = threads.submit(blocking.google_calendar, "acme", deadline=60)
        arrived.wait()
        with pytest.raises(DeadlineExceeded, match="provider service"):
            blocking.google_calendar("acme", deadline=0.01)
        assert not patient.done()
        google.refresh()
        held.land()

        assert "ya29.2" == token(patient.result())
    assert 1 == len(provider_wire.calls)
    assert 0 == len(blocking._refreshes.flights)


def test_a_thread_that_another_closes_the_client_under_says_so(
    blocking: Client, google: Google, provider_wire: Any
) -> None:
    def closed_meanwhile(_: Any) -> Exception:
        blocking.close()
        return ValueError("Cannot invoke RPC on closed channel!")

    provider_wire.answer = closed_meanwhile

    with pytest.raises(InvalidRequest, match="closed"):
        blocking.google_calendar("acme")


def test_a_value_error_of_a_refresh_that_is_none_of_the_channels_is_not_hidden(
    blocking: Client, google: Google, provider_wire: Any
) -> None:
    provider_wire.answer = ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        blocking.google_calendar("acme")


async def test_a_refresh_that_closing_cancels_says_so(client: Any, google: Google, provider_wire: Any) -> None:
    def cancelled(_: Any) -> Exception:
        client.client._wire.closed = True
        return cast("Exception", client.failed(grpc.StatusCode.CANCELLED))

    provider_wire.answer = cancelled

    with pytest.raises(InvalidRequest, match="closed"):
        await client.google_calendar("acme")
