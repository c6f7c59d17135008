import asyncio
import io
import json
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import jwt
import pytest

from tenantvault.v1 import access_service_pb2 as pb
from tests.unit.gateway.fakes import OWN_PAGE, Gateway, MakeGateway, bearer
from tests.unit.gateway.streaming import Caller
from tests.unit.gateway.test_changes import HEARTBEAT, LONG, change

EVENTS = "/api/integrations/events"
OPENING = "retry: 3000\n\nevent: ready\ndata: {}\n\n"
CHANGED = "event: changed\ndata: {}\n\n"
COMMENT = ":\n\n"


async def watch_of(gateway: Gateway) -> "asyncio.Queue[pb.WatchChangesResponse | Exception | None]":
    async with asyncio.timeout(LONG):
        return await gateway.services.watches.get()


async def open_streams(gateway: Gateway) -> str:
    text = (await gateway.client.get("/metrics")).text
    return next(line for line in text.splitlines() if line.startswith("tenantvault_http_streams "))


async def test_a_page_hears_that_something_changed_and_nothing_of_what(gateway: Gateway, log: io.StringIO) -> None:
    async with Caller(gateway.app, EVENTS, bearer()) as page:
        assert await page.next() == OPENING
        assert page.status == 200
        assert {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-store",
            "x-accel-buffering": "no",
        }.items() <= page.headers.items()
        assert await open_streams(gateway) == "tenantvault_http_streams 1.0"
        (await watch_of(gateway)).put_nowait(HEARTBEAT)
        assert await page.next() == CHANGED
    assert await open_streams(gateway) == "tenantvault_http_streams 0.0"
    async with asyncio.timeout(LONG):
        await gateway.services.unwatched.wait()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["route"], line["status"]) for line in lines if line["event"] == "request"][1] == (EVENTS, 200)
    assert "unexpected error" not in log.getvalue()


async def test_a_page_of_another_org_hears_nothing(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(stream={"gap": 0})
    async with Caller(gateway.app, EVENTS, bearer()) as acme, Caller(gateway.app, EVENTS, bearer(org_id="o")) as other:
        watch = await watch_of(gateway)
        watch.put_nowait(HEARTBEAT)
        for page in (acme, other):
            assert [await page.next(), await page.next()] == [OPENING, CHANGED]
        watch.put_nowait(change("acme"))
        assert await acme.next() == CHANGED
        gateway.changes.end()
        assert await other.rest() == ""


async def test_many_changes_are_told_at_once_and_then_once_a_second(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    seconds: asyncio.Queue[None] = asyncio.Queue()

    async def pause(length: float) -> None:
        pauses.append(length)
        await seconds.get()

    monkeypatch.setattr(gateway.changes, "pause", pause)
    with gateway.changes.listening("witness") as witness:
        async with Caller(gateway.app, EVENTS, bearer()) as page:
            assert await page.next() == OPENING
            watch = await watch_of(gateway)
            watch.put_nowait(HEARTBEAT)
            assert await page.next() == CHANGED
            assert await witness.told(LONG)
            for _ in range(3):
                watch.put_nowait(change("acme"))
                watch.put_nowait(change("witness"))
                assert await witness.told(LONG)
            assert pauses == [1.0]
            seconds.put_nowait(None)
            assert await page.next() == CHANGED
            gateway.changes.end()
            seconds.put_nowait(None)
            assert await page.rest() == ""
    assert pauses == [1.0, 1.0]


async def test_pages_ask_now_and_then_while_the_vault_tells_nothing(make_gateway: MakeGateway) -> None:
    clock = [0.0]
    gateway = await make_gateway(bounds={"now": lambda: clock[0]}, stream={"beat": 0.001, "gap": 0})
    async with Caller(gateway.app, EVENTS, bearer()) as page, asyncio.timeout(LONG):
        assert [await page.next(), await page.next()] == [OPENING, COMMENT]
        clock[0] = 6.0
        while await page.next() != CHANGED:
            pass
        assert {await page.next() for _ in range(3)} == {CHANGED}
        (await watch_of(gateway)).put_nowait(HEARTBEAT)
        while await page.next() != COMMENT:
            pass
        assert {await page.next() for _ in range(3)} == {COMMENT}


async def test_a_stream_ends_by_itself_after_ten_minutes(make_gateway: MakeGateway) -> None:
    clock = [0.0]
    gateway = await make_gateway(stream={"beat": 0.001, "now": lambda: clock[0]})
    async with Caller(gateway.app, EVENTS, bearer()) as page:
        assert [await page.next() for _ in range(3)] == [OPENING, ":\n\n", ":\n\n"]
        clock[0] = 600.0
        assert set((await page.rest()).split("\n\n")) <= {":", ""}
        assert page.is_complete


async def test_a_stream_ends_with_its_session(gateway: Gateway) -> None:
    await gateway.sign_in()
    cookie = {"Cookie": f"__Host-tenantvault={gateway.client.cookies['__Host-tenantvault']}"}
    async with Caller(gateway.app, EVENTS, cookie) as page:
        assert await page.next() == OPENING
        assert (await gateway.client.delete("/session", headers=OWN_PAGE)).status_code == 200
        (await watch_of(gateway)).put_nowait(HEARTBEAT)
        assert await page.rest() == ""
        assert page.is_complete


class Tomorrow(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.now(UTC) + timedelta(days=1)


async def test_a_stream_ends_with_its_token(make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = await make_gateway(stream={"beat": 0.001})
    async with Caller(gateway.app, EVENTS, bearer()) as page:
        assert [await page.next() for _ in range(2)] == [OPENING, ":\n\n"]
        monkeypatch.setattr(jwt.api_jwt, "datetime", Tomorrow)
        await page.rest()
        assert page.is_complete


@pytest.mark.parametrize("was_told", [False, True])
async def test_a_stream_ends_at_once_when_the_process_stops(make_gateway: MakeGateway, was_told: bool) -> None:
    gateway = await make_gateway(stream={"gap": 3600})
    async with Caller(gateway.app, EVENTS, bearer()) as page:
        assert await page.next() == OPENING
        if was_told:
            (await watch_of(gateway)).put_nowait(HEARTBEAT)
            assert await page.next() == CHANGED
        gateway.changes.end()
        assert await page.rest() == ""
        assert page.is_complete


async def test_too_many_streams_are_a_problem(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(bounds={"per_org": 1})
    async with Caller(gateway.app, EVENTS, bearer()) as page:
        assert await page.next() == OPENING
        answer = await gateway.client.get(EVENTS, headers=bearer())
        assert (answer.status_code, answer.json()["code"]) == (429, "TOO_MANY_STREAMS")
        assert "retry-after" in answer.headers


async def test_a_look_at_the_headers_opens_no_stream(gateway: Gateway) -> None:
    answer = await gateway.client.head(EVENTS, headers=bearer())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert gateway.services.watches.empty()


async def test_a_stream_takes_no_parameters(gateway: Gateway) -> None:
    answer = await gateway.client.get(f"{EVENTS}?org=globex", headers=bearer())
    assert (answer.status_code, list(answer.json()["fields"])) == (422, ["org"])
