import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.provider import outbound
from services.provider.outbound import LARGEST_ANSWER, WHOLE_SECONDS, Answer, AnswerTooLarge, Method, Outbound
from tenantvault.credentials import Provider
from tenantvault.errors import ProviderUnavailable, ProviderUnknownAnswer, RateLimited

CANARY = "canary-1f7d"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
URL = "https://provider.test/things"
Handler = Callable[[httpx.Request], httpx.Response]


class World:
    """An `Outbound` in front of a handler, with a clock that only sleeping moves."""

    def __init__(self, *answers: httpx.Response | Exception, jitter: float = 1.0, **more: float) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.time = 0.0
        self.slept: list[float] = []
        self.client = outbound.new_client(httpx.MockTransport(self._handle))
        self.outbound = Outbound(
            self.client,
            clock=lambda: self.time,
            now=lambda: NOW,
            sleep=self._sleep,
            jitter=lambda: jitter,
            **more,  # type: ignore[arg-type]  # numbers, by name
        )

    async def get(self, method: Method = "GET", **options: object) -> Answer:
        return await self.outbound.request(Provider.VAPI, method, URL, route="/things", **options)  # type: ignore[arg-type]

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_an_answer_is_its_status_and_its_json() -> None:
    answer = await World(httpx.Response(200, json=[{"id": 1}])).get()
    assert Answer(200, [{"id": 1}]) == answer


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000, b"1" * 10_000, b'{"a":', b"null"], ids=range(7)
)
async def test_a_body_that_is_no_json_is_none(body: bytes) -> None:
    assert Answer(404, None) == await World(httpx.Response(404, content=body)).get()


async def test_every_request_says_who_asks_and_how_it_authenticates() -> None:
    world = World(httpx.Response(200, json={}), httpx.Response(200, json={}))
    await world.get(headers={"Authorization": f"Bearer {CANARY}"}, params={"limit": 1})
    await world.get(basic=("user", "pass"))
    first, second = world.requests
    assert first.headers["User-Agent"].startswith("TenantVault/")
    assert f"Bearer {CANARY}" == first.headers["Authorization"]
    assert "identity" == first.headers["Accept-Encoding"]
    assert f"{URL}?limit=1" == str(first.url)
    assert "Basic dXNlcjpwYXNz" == second.headers["Authorization"]


async def test_a_compressed_answer_is_not_unpacked() -> None:
    packed = gzip.compress(b" " * 100 * LARGEST_ANSWER)
    assert len(packed) < LARGEST_ANSWER
    world = World(httpx.Response(200, stream=httpx.ByteStream(packed), headers={"Content-Encoding": "gzip"}))
    with pytest.raises(ProviderUnknownAnswer):
        await world.get()


async def test_a_body_travels_as_json() -> None:
    world = World(httpx.Response(201, json={}))
    await world.get("POST", body={"name": "x"})
    assert {"name": "x"} == json.loads(world.requests[0].content)
    assert "application/json" == world.requests[0].headers["Content-Type"]


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("no route"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.PoolTimeout("busy"),
        httpx.RemoteProtocolError("gone"),
        httpx.Response(408),
        httpx.Response(429),
        httpx.Response(500),
        httpx.Response(503),
    ],
    ids=str,
)
async def test_a_get_is_tried_again(failure: httpx.Response | Exception) -> None:
    world = World(failure, failure, httpx.Response(200, json=[]))
    assert Answer(200, []) == await world.get()
    assert 3 == len(world.requests)


@pytest.mark.parametrize("status", [200, 301, 400, 401, 404, 409])
async def test_a_definite_answer_is_not_asked_for_twice(status: int) -> None:
    world = World(httpx.Response(status, json={}))
    assert status == (await world.get()).status
    assert 1 == len(world.requests)


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("failure", [httpx.ReadTimeout("slow"), httpx.ConnectError("no route")], ids=str)
async def test_what_changes_something_is_never_tried_again(method: Method, failure: Exception) -> None:
    world = World(failure)
    with pytest.raises(ProviderUnavailable):
        await world.get(method)
    assert 1 == len(world.requests)


@pytest.mark.parametrize("status", [429, 500, 502])
async def test_a_post_gives_back_its_one_answer(status: int) -> None:
    world = World(httpx.Response(status, headers={"Retry-After": "1"}))
    assert Answer(status, None, 1.0) == await world.get("POST")
    assert not world.slept


async def test_after_three_attempts_the_last_answer_counts() -> None:
    world = World(httpx.ReadTimeout("slow"), httpx.Response(500), httpx.Response(503, json={"a": 1}))
    assert Answer(503, {"a": 1}) == await world.get()
    assert 3 == len(world.requests)


async def test_after_three_failures_the_provider_is_unavailable() -> None:
    world = World(*[httpx.ConnectError(CANARY)] * 3)
    with pytest.raises(ProviderUnavailable) as caught:
        await world.get()
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(("jitter", "slept"), [(1.0, [1.0, 2.0]), (0.5, [0.5, 1.0]), (0.0, [0.0, 0.0])])
async def test_the_pauses_grow_exponentially_with_full_jitter(jitter: float, slept: list[float]) -> None:
    world = World(httpx.Response(500), httpx.Response(500), httpx.Response(200, json=[]), jitter=jitter)
    await world.get()
    assert slept == world.slept


@pytest.mark.parametrize(
    ("headers", "slept"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "2.5"}, 2.5),
        ({"retry-after-ms": "4500"}, 4.5),
        ({"retry-after-ms": "4500", "Retry-After": "9"}, 4.5),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=8), usegmt=True)}, 8.0),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:08 -0000"}, 8.0),
        ({"Retry-After": format_datetime(NOW - timedelta(days=1), usegmt=True)}, 1.0),
        ({"Retry-After": "0"}, 1.0),
        ({"Retry-After": "soon"}, 1.0),
        ({"Retry-After": "-5"}, 1.0),
        ({"Retry-After": "nan"}, 1.0),
        ({"Retry-After": "٣"}, 1.0),
        ({"Retry-After": "9" * 400}, 1.0),
    ],
    ids=str,
)
async def test_a_pause_is_at_least_what_the_provider_asks_for(headers: dict[str, str], slept: float) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    world = World(httpx.Response(429, headers=encoded), httpx.Response(200, json=[]))
    await world.get()
    assert [slept] == world.slept


@given(st.text(st.characters(max_codepoint=0xFF)))
def test_no_retry_after_breaks_anything(value: str) -> None:
    headers = httpx.Headers([(b"retry-after", value.encode("latin-1"))])
    found = outbound._retry_after(headers, NOW)
    assert found is None or found >= 0


async def test_a_pause_that_does_not_fit_is_not_begun() -> None:
    world = World(httpx.Response(429, headers={"Retry-After": f"{WHOLE_SECONDS:g}"}))
    assert Answer(429, None, WHOLE_SECONDS) == await world.get()
    assert not world.slept


async def test_the_time_left_shrinks_with_each_attempt() -> None:
    pauses = httpx.Response(503, headers={"Retry-After": "13"})
    world = World(pauses, pauses)
    assert 503 == (await world.get()).status
    assert [13.0] == world.slept
    assert 2 == len(world.requests)


async def test_where_nobody_waits_a_get_is_made_once() -> None:
    world = World(httpx.Response(503, json={}), retries=0)
    assert 503 == (await world.get()).status
    assert 1 == len(world.requests)


async def test_an_answer_that_never_ends_is_cut_off_in_time() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.Event().wait()

    world = World(httpx.Response(200, content=endless()), whole_seconds=0.01)
    with pytest.raises(ProviderUnavailable):
        await world.get("POST")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_reading_stops_at_the_cap(method: Method) -> None:
    read = 0

    async def large() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(64):
            read += 1
            yield b"x" * (LARGEST_ANSWER // 8)

    world = World(httpx.Response(200, content=large()))
    with pytest.raises(AnswerTooLarge) as caught:
        await world.get(method)
    assert 9 == read
    assert isinstance(caught.value, ProviderUnknownAnswer)


async def test_an_answer_of_exactly_the_cap_is_read() -> None:
    body = b'"' + b"x" * (LARGEST_ANSWER - 2) + b'"'
    assert "x" * (LARGEST_ANSWER - 2) == (await World(httpx.Response(200, content=body)).get()).json


async def test_a_redirect_is_not_followed() -> None:
    world = World(httpx.Response(302, headers={"Location": "https://elsewhere.test/"}))
    assert 302 == (await world.get()).status
    assert 1 == len(world.requests)


async def test_cookies_are_not_kept() -> None:
    world = World(httpx.Response(200, json=[], headers={"Set-Cookie": "a=b; Path=/"}), httpx.Response(200, json=[]))
    await world.get()
    await world.get()
    assert "Cookie" not in world.requests[1].headers
    assert not list(world.client.cookies.jar)


async def test_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with outbound.new_client() as client:
        assert not client.trust_env
        assert not client.follow_redirects
        assert httpx.Timeout(15.0, connect=5.0, pool=5.0) == client.timeout
        assert not client._mounts


async def test_only_method_provider_route_status_and_time_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        body = {"auth_token": f"{CANARY}-answer"}
        world = World(
            httpx.Response(500, json=body, headers={"X-Secret": f"{CANARY}-header"}),
            httpx.ConnectError(f"{CANARY}-text"),
            httpx.Response(200, json=body),
        )
        answer = await world.get(
            params={"q": f"{CANARY}-query"}, headers={"X-Key": CANARY}, basic=(CANARY, CANARY), body={"s": CANARY}
        )
    records = [record for record in caplog.records if record.name != "asyncio"]
    assert ["services.provider.outbound"] * 3 == [record.name for record in records]
    assert [500, None, 200] == [getattr(record, "status", None) for record in records]
    assert {"/things"} == {record.route for record in records}  # type: ignore[attr-defined]
    assert CANARY not in repr([vars(record) for record in records])
    assert CANARY not in caplog.text
    assert CANARY not in repr(answer)


async def test_a_request_that_is_cut_off_is_logged_as_such(caplog: pytest.LogCaptureFixture) -> None:
    started = asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    with caplog.at_level(logging.INFO):
        sender = Outbound(outbound.new_client(httpx.MockTransport(hang)))
        task = asyncio.create_task(sender.request(Provider.VAPI, "GET", URL, route="/things"))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ["cut off"] == [record.failure for record in caplog.records]  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [200, 201, 204, 400, 401, 404, 409, 422])
def test_json_below_500_is_the_providers_word(status: int) -> None:
    answer = Answer(status, {})
    assert answer.definite() is answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(429, {}, 3.0), RateLimited),
        (Answer(429, None, 3.0), RateLimited),
        (Answer(408, {}), ProviderUnavailable),
        (Answer(500, {}), ProviderUnavailable),
        (Answer(599, None, 3.0), ProviderUnavailable),
        (Answer(200, None), ProviderUnavailable),
        (Answer(401, None), ProviderUnavailable),
        (Answer(403, None), ProviderUnavailable),
        (Answer(301, {}), ProviderUnknownAnswer),
        (Answer(304, None), ProviderUnknownAnswer),
        (Answer(101, {}), ProviderUnknownAnswer),
    ],
    ids=repr,
)
def test_what_says_nothing_is_an_error(answer: Answer, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        answer.definite()
    assert type(caught.value) is error
    assert answer.retry_after == getattr(caught.value, "retry_after", None)
