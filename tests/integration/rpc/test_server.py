"""What a server does around its handlers, seen from the wire."""

import asyncio
import contextlib
import io
import logging
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import generate_latest

from deploy.local.ports import free_port
from services.rpc import logs
from services.rpc.server import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, NotReady
from tenantvault.channel import call
from tenantvault.errors import (
    CredentialNotFound,
    DeadlineExceeded,
    DeadlineRequired,
    InternalError,
    InvalidRequest,
    LeaseHeld,
    PermissionDenied,
    VaultUnavailable,
)
from tests.integration.rpc.conftest import Authority, Running, method, serving

CANARY = "canary-4f2c"
HELLO = StringValue(value="hello")
SERVING, NOT_SERVING = 1, 2


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("services")
    before = (root.handlers, root.level, ours.level)
    stream = io.StringIO()
    logs.configure(level="debug", service="echo", stream=stream)
    yield stream
    root.handlers = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def raising(error: BaseException) -> Callable[[str, Any], Any]:
    async def ask(_: str, __: Any) -> str:
        raise error

    return ask


async def failed(awaitable: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await awaitable
    return refused.value


def trailers(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    return dict(error.trailing_metadata() or ())


@pytest.mark.parametrize(
    ("deadline", "admitted"), [(None, False), (121.0, False), (10_000.0, False), (119.0, True), (1.0, True)]
)
async def test_a_call_needs_a_deadline_within_the_limit(
    running: Running, deadline: float | None, *, admitted: bool
) -> None:
    ask = method(await running.channel())
    if admitted:
        assert (await ask(HELLO, timeout=deadline)).value == "hello"
        return
    error = await failed(ask(HELLO, timeout=deadline))
    assert grpc.StatusCode.INVALID_ARGUMENT is error.code()
    assert DeadlineRequired.sentence == error.details()
    assert {("/tests.Echo/Ask", "caller", "INVALID_ARGUMENT"): 1.0} == running.counted()


@pytest.mark.parametrize("name", ["Ask", "Gather"])
async def test_what_goes_wrong_in_a_handler_reaches_neither_caller_nor_log(
    running: Running, log: io.StringIO, name: str
) -> None:
    running.echo.ask = raising(ValueError(f"token={CANARY}"))
    given = HELLO if name == "Ask" else iter([HELLO])
    error = await failed(method(await running.channel(), name)(given, timeout=5))
    assert (grpc.StatusCode.INTERNAL, InternalError.sentence) == (error.code(), error.details())
    assert CANARY not in f"{error!r} {error.debug_error_string()} {error.trailing_metadata()}"
    assert CANARY not in log.getvalue()
    assert '"error": "builtins.ValueError"' in log.getvalue()
    assert str(trailers(error)["x-request-id"]) in log.getvalue()


async def test_a_refused_call_is_counted_and_logged(running: Running, log: io.StringIO) -> None:
    with pytest.raises(PermissionDenied):
        await call(method(await running.channel(running.authority.issue("stranger"))), HELLO)
    assert {("/tests.Echo/Ask", "stranger", "PERMISSION_DENIED"): 1.0} == running.counted()
    assert '"code": "PERMISSION_DENIED"' in log.getvalue()
    assert '"peer": "stranger"' in log.getvalue()


async def test_a_refused_call_does_not_reach_the_handler(running: Running) -> None:
    running.echo.ask = raising(AssertionError("it was reached"))
    ask = method(await running.channel(running.authority.issue("stranger")))
    assert grpc.StatusCode.PERMISSION_DENIED is (await failed(ask(HELLO, timeout=5))).code()
    ask = method(await running.channel())
    assert grpc.StatusCode.INVALID_ARGUMENT is (await failed(ask(HELLO))).code()


@pytest.mark.parametrize("given", ["request-0001", None, "bad id", "x"])
async def test_a_request_id_is_taken_over_or_made_and_told(
    running: Running, log: io.StringIO, given: str | None
) -> None:
    running.echo.ask = raising(CredentialNotFound())
    metadata = (("x-request-id", given),) if given else None
    error = await failed(method(await running.channel())(HELLO, timeout=5, metadata=metadata))
    used = str(trailers(error)["x-request-id"])
    assert (used == given) == (given == "request-0001")
    assert f'"request_id": "{used}"' in log.getvalue()


async def test_errors_of_ours_come_back_as_themselves(running: Running) -> None:
    channel = await running.channel()
    running.echo.ask = raising(LeaseHeld(retry_after=3))
    with pytest.raises(LeaseHeld) as held:
        await call(method(channel), HELLO)
    assert 3 == held.value.retry_after
    running.echo.ask = raising(InvalidRequest("Mend it.", fields={"org_id": "Give one."}))
    with pytest.raises(InvalidRequest, match=r"Mend it\.") as refused:
        await call(method(channel), HELLO)
    assert {"org_id": "Give one."} == dict(refused.value.fields)


async def test_bytes_that_are_no_message_are_an_invalid_request(running: Running, log: io.StringIO) -> None:
    raw: Any = (await running.channel()).unary_unary("/tests.Echo/Ask")
    for data in (b"\xff" * 8, b"\x0a\x7f" + CANARY.encode(), b"\x0a\x02\xff\xfe"):
        error = await failed(raw(data, timeout=5))
        assert grpc.StatusCode.INVALID_ARGUMENT is error.code()
        assert CANARY not in f"{error.details()} {error.debug_error_string()}"
    assert {("/tests.Echo/Ask", "caller", "INVALID_ARGUMENT"): 3.0} == running.counted()
    assert CANARY not in log.getvalue()
    assert '"level": "error"' not in log.getvalue()


async def test_a_message_beyond_the_limit_is_refused_unread(running: Running, log: io.StringIO) -> None:
    running.echo.ask = raising(AssertionError("it was read"))
    much = StringValue(value=CANARY * (MAX_REQUEST_BYTES // len(CANARY) + 1))
    credentials = running.authority.issue("caller").channel_credentials()
    # A client of ours would not send it.
    async with grpc.aio.secure_channel(running.target, credentials) as channel:
        error = await failed(method(channel)(much, timeout=5))
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is error.code()
    assert CANARY not in f"{error.details()} {log.getvalue()}"


async def test_an_answer_beyond_the_limit_is_an_error_and_the_server_goes_on(running: Running) -> None:
    async def much(_: str, __: Any) -> str:
        return "x" * (MAX_RESPONSE_BYTES + 1)

    running.echo.ask = much
    channel = await running.channel()
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is (await failed(method(channel)(HELLO, timeout=5))).code()
    running.echo.ask = running.echo._same
    assert "hello" == (await call(method(channel), HELLO)).value


async def test_an_unknown_method_is_not_a_label(running: Running) -> None:
    channel: Any = await running.channel()
    for path in ("/tests.Echo/Other", f"/{CANARY}/Ask", "/tests.echo/Ask", "/tests.Echo/Ask/", "tests.Echo/Ask"):
        error = await failed(channel.unary_unary(path)(b"", timeout=5))
        assert grpc.StatusCode.UNIMPLEMENTED is error.code()
    assert {} == running.counted()


async def test_no_metric_holds_what_a_caller_sent(running: Running) -> None:
    channel = await running.channel()
    metadata = (("x-request-id", f"{CANARY}{CANARY}"), ("user-agent-2", CANARY))
    await method(channel)(StringValue(value=CANARY), timeout=5, metadata=metadata)
    running.echo.ask = raising(ValueError(CANARY))
    await failed(method(channel)(StringValue(value=CANARY), timeout=5, metadata=metadata))
    assert CANARY not in generate_latest(running.telemetry.registry).decode()


async def test_a_call_that_its_caller_cancels_is_recorded_as_cancelled(running: Running, log: io.StringIO) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(_: str, __: Any) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    running.echo.ask = wait
    under_way = method(await running.channel())(HELLO, timeout=60)
    await asyncio.wait_for(begun.wait(), 5)
    under_way.cancel()
    await asyncio.wait_for(ended.wait(), 5)
    assert {("/tests.Echo/Ask", "caller", "CANCELLED"): 1.0} == running.counted()
    assert '"code": "CANCELLED"' in log.getvalue()


async def test_a_handler_does_not_outlive_its_deadline(running: Running) -> None:
    ended = asyncio.Event()

    async def wait(_: str, __: Any) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    running.echo.ask = wait
    with pytest.raises(DeadlineExceeded):
        await call(method(await running.channel()), HELLO, deadline=0.2)
    await asyncio.wait_for(ended.wait(), 5)


async def test_streams_of_every_kind_carry_their_messages(running: Running) -> None:
    channel = await running.channel()
    word = StringValue(value="abc")
    letters = [StringValue(value=letter) for letter in "abc"]
    for name in ("Yield", "Write"):
        assert letters == [answer async for answer in method(channel, name)(word, timeout=5)]
    assert [*letters] == [answer async for answer in method(channel, "Chat")(iter(letters), timeout=5)]
    assert "abc" == (await method(channel, "Gather")(iter(letters), timeout=5)).value
    assert {"OK"} == {code for _, _, code in running.counted()}
    assert 4 == sum(running.counted().values())


@pytest.mark.parametrize("name", ["Yield", "Write", "Chat"])
async def test_a_stream_that_fails_half_way_ends_with_its_error(running: Running, log: io.StringIO, name: str) -> None:
    async def twice(value: str, _: Any) -> str:
        if value == "c":
            raise ValueError(CANARY)
        return value

    running.echo.ask = twice
    given = iter([StringValue(value=letter) for letter in "abc"]) if name == "Chat" else StringValue(value="abc")
    answers = aiter(method(await running.channel(), name)(given, timeout=5))
    assert ["a", "b"] == [(await anext(answers)).value, (await anext(answers)).value]
    error = await failed(anext(answers))
    assert (grpc.StatusCode.INTERNAL, InternalError.sentence) == (error.code(), error.details())
    assert CANARY not in log.getvalue()


async def silent() -> AsyncIterator[StringValue]:
    """A caller that opens a stream and says nothing."""
    await asyncio.Event().wait()
    yield HELLO


@pytest.mark.parametrize("name", ["Yield", "Write", "Gather", "Chat"])
async def test_a_stranger_gets_no_stream(running: Running, name: str) -> None:
    channel = await running.channel(running.authority.issue("stranger"))
    given = silent() if name in {"Chat", "Gather"} else HELLO
    calling = method(channel, name)(given, timeout=5)
    if name == "Gather":
        error = await failed(calling)
    else:
        error = await failed(anext(aiter(calling)))
    assert grpc.StatusCode.PERMISSION_DENIED is error.code()


class Check:
    def __init__(self) -> None:
        self.passes = False

    async def __call__(self) -> None:
        if not self.passes:
            raise NotReady("not yet")


@pytest.fixture
def check() -> Check:
    return Check()


@pytest.fixture
async def unready(authority: Authority, tmp_path: Path, check: Check) -> AsyncIterator[Running]:
    async with serving(authority, tmp_path, check=check) as running:
        yield running


async def test_while_it_is_not_ready_it_answers_health_alone(unready: Running, check: Check) -> None:
    channel = await unready.channel()
    health = health_pb2_grpc.HealthStub(channel)
    asked = health_pb2.HealthCheckRequest(service="tests.Echo")
    watch = aiter(health.Watch(asked))
    assert NOT_SERVING == (await health.Check(asked)).status == (await anext(watch)).status
    with pytest.raises(VaultUnavailable):
        await call(method(channel), HELLO)
    check.passes = True
    await unready.server.check()
    assert SERVING == (await health.Check(asked)).status == (await anext(watch)).status
    assert "hello" == (await call(method(channel), HELLO)).value
    check.passes = False
    await unready.server.check()
    assert NOT_SERVING == (await health.Check(asked)).status == (await anext(watch)).status
    with pytest.raises(VaultUnavailable):
        await call(method(channel), HELLO)


async def test_a_stop_lets_calls_under_way_finish_and_ends_watches(running: Running) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(value: str, _: Any) -> str:
        begun.set()
        await go_on.wait()
        return value

    running.echo.ask = wait
    channel = await running.channel()
    watch = aiter(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()))
    assert SERVING == (await anext(watch)).status
    under_way = asyncio.ensure_future(call(method(channel), HELLO, deadline=30))
    await asyncio.wait_for(begun.wait(), 5)
    stopping = asyncio.ensure_future(running.server.stop(grace=60))
    assert NOT_SERVING == (await anext(watch)).status
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    with pytest.raises(VaultUnavailable):
        await call(method(await running.channel()), HELLO, deadline=2)
    assert not stopping.done()
    go_on.set()
    assert "hello" == (await under_way).value
    await asyncio.wait_for(stopping, 5)


async def test_a_stop_does_not_wait_beyond_its_grace(running: Running) -> None:
    begun = asyncio.Event()

    async def wait(_: str, __: Any) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    running.echo.ask = wait
    under_way = asyncio.ensure_future(call(method(await running.channel()), HELLO, deadline=30))
    await asyncio.wait_for(begun.wait(), 5)
    await asyncio.wait_for(running.server.stop(grace=0.1), 5)
    with pytest.raises(VaultUnavailable):
        await under_way


async def fetched(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_metrics_are_served_as_long_as_the_server_is(authority: Authority, tmp_path: Path) -> None:
    port = free_port()
    async with serving(authority, tmp_path, metrics_listen=f"127.0.0.1:{port}") as running:
        await call(method(await running.channel()), HELLO)
        answer = await fetched(port)
        assert 'tenantvault_rpc_calls_total{code="OK",method="/tests.Echo/Ask",peer="caller"} 1.0' in answer
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await fetched(port)


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:x", "192.0.2.1:1"])
async def test_an_address_that_cannot_be_listened_on_is_told_in_a_sentence(
    authority: Authority, tmp_path: Path, listen: str
) -> None:
    with pytest.raises(
        OSError, match=rf"^cannot listen on {re.escape(listen)}: it is taken or no address of this machine"
    ):
        async with serving(authority, tmp_path, listen=listen):
            pass


async def test_two_servers_do_not_share_a_port(running: Running, authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^cannot listen on 127\.0\.0\.1:"):
        async with serving(authority, tmp_path, listen=f"127.0.0.1:{running.port}"):
            pass
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            async with serving(authority, tmp_path, metrics_listen=f"127.0.0.1:{port}"):
                pass


async def test_noise_on_the_port_does_not_disturb_others(running: Running) -> None:
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""):
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(noise)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    assert "hello" == (await call(method(await running.channel()), HELLO)).value
