import io
import json
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from gateway.metrics import Metrics
from gateway.request_log import RequestLog
from tests.unit.gateway.fakes import VAPI, Gateway, bearer


def requests_in(log: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["logger"] == "gateway.request_log"]


async def test_a_line_has_the_route_and_the_org_and_nothing_that_was_sent(gateway: Gateway, log: io.StringIO) -> None:
    path = "/api/integrations/vapi?apiKey=in-the-query"
    answer = await gateway.client.post(path, json=VAPI, headers=bearer() | {"User-Agent": "in-a-header"})
    (line,) = requests_in(log)
    assert {
        "event": "request",
        "level": "info",
        "method": "POST",
        "route": "/api/integrations/{provider}",
        "status": 200,
        "org": "acme",
        "request_id": answer.headers["x-request-id"],
    }.items() <= line.items()
    assert line["ms"] >= 0
    assert set(line) == {
        *("event", "level", "logger", "timestamp", "service"),
        *("request_id", "method", "route", "status", "ms", "org"),
    }


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/", "/", 303),
        ("GET", "/static/style.css", "/static/*", 200),
        ("GET", "/static/none.css", "/static/*", 404),
        ("GET", "/some/where/else", "unmatched", 404),
        ("GET", "/api/some/where", "/api/*", 401),
        ("BREW", "/sign-in", "/sign-in", 405),
    ],
)
async def test_the_route_is_a_template_whatever_the_path(
    gateway: Gateway, log: io.StringIO, method: str, path: str, route: str, status: int
) -> None:
    await gateway.client.request(method, path)
    (line,) = requests_in(log)
    assert (line["route"], line["status"], line["org"]) == (route, status, "")
    assert line["method"] == ("other" if method == "BREW" else method)


async def test_probes_do_not_fill_the_log(gateway: Gateway, log: io.StringIO) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        await gateway.client.get(path)
    assert {line["level"] for line in requests_in(log)} == {"debug"}


@pytest.mark.parametrize("given", ["request-0001", "A_b-9" * 4, "x" * 64])
async def test_a_plain_request_id_of_the_caller_is_kept(gateway: Gateway, given: str) -> None:
    assert (await gateway.client.get("/healthz", headers={"X-Request-Id": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "with space 1", "tab\there12", 'quote"12345', "ünicode-1234"])
async def test_another_request_id_is_replaced(gateway: Gateway, given: str) -> None:
    headers = {b"X-Request-Id": given.encode()}
    made = (await gateway.client.get("/nowhere", headers=headers)).headers["x-request-id"]
    assert len(made) == 32
    assert made != given


async def test_requests_are_counted_by_template_method_and_status(gateway: Gateway) -> None:
    await gateway.client.post("/api/integrations/vapi", json=VAPI, headers=bearer())
    await gateway.client.post("/api/integrations/nobody", json=VAPI, headers=bearer())
    await gateway.client.get("/made/up/path")
    text = (await gateway.client.get("/metrics")).text
    assert (
        'tenantvault_http_requests_total{method="POST",route="/api/integrations/{provider}",status="200"} 1.0' in text
    )
    assert (
        'tenantvault_http_requests_total{method="POST",route="/api/integrations/{provider}",status="404"} 1.0' in text
    )
    assert 'tenantvault_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'tenantvault_http_seconds_count{method="POST",route="/api/integrations/{provider}"} 2.0' in text
    assert "acme" not in text
    assert "made/up" not in text


async def test_how_long_somebody_listens_is_logged_and_is_no_latency(log: io.StringIO) -> None:
    metrics = Metrics()

    async def listen(scope: Scope, receive: Receive, send: Send) -> None:
        kind = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})

    async def nothing(*_: Any) -> Any:
        return None

    times = iter([100.0, 100.5, 700.0])
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await RequestLog(listen, metrics=metrics, clock=lambda: next(times))(scope, nothing, nothing)
    (line,) = requests_in(log)
    assert line["ms"] == 600000
    assert (
        metrics.registry.get_sample_value("tenantvault_http_seconds_sum", {"route": "unmatched", "method": "GET"})
        == 0.5
    )


async def run(app: Any) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await RequestLog(app, metrics=Metrics(), new_id=lambda: "id-00000001")(scope, receive, send)
    return sent


async def test_an_unexpected_error_is_answered_and_its_text_stays_out(log: io.StringIO) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("canary-in-the-text")

    start, body = await run(fail)
    assert start["status"] == 500
    assert json.loads(body["body"])["requestId"] == "id-00000001"
    error, request = requests_in(log)
    assert (error["event"], error["error"], error["request_id"]) == (
        "unexpected error",
        "builtins.RuntimeError",
        "id-00000001",
    )
    assert request["status"] == 500
    assert "canary" not in log.getvalue() + str(body)


async def test_an_error_after_the_answer_began_adds_nothing_to_it(log: io.StringIO) -> None:
    async def fail_late(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    assert [message["type"] for message in await run(fail_late)] == ["http.response.start"]
    assert [line["event"] for line in requests_in(log)] == ["unexpected error", "request"]


async def test_a_caller_who_left_is_no_error(log: io.StringIO) -> None:
    async def left(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    assert await run(left) == []
    assert [(line["level"], line["status"]) for line in requests_in(log)] == [("info", 499)]


async def test_what_is_no_request_passes_by() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    await RequestLog(app, metrics=Metrics())({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]
