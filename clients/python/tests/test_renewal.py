"""Channels of both kinds whose TLS files are replaced, without a socket."""

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from tenantvault._channels import AsyncChannel, BlockingChannel
from tenantvault._renewal import LOOK_EVERY


@dataclass
class Files:
    """Files that hold what the test says, and how often somebody looked at them."""

    content: str = "first"
    broken: str = ""
    gone: bool = False
    looks: int = 0

    def stamp(self) -> object:
        self.looks += 1
        if self.gone:
            raise FileNotFoundError("key.pem is gone")
        return self.content, self.broken

    def channel_credentials(self) -> Any:
        if self.broken:
            raise OSError(self.broken)
        return self.content


class Stream:
    """A call that says one word, and then waits."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.cancels = 0

    def cancel(self) -> bool:
        self.cancels += 1
        self.over.set()
        return True

    async def __aiter__(self) -> AsyncIterator[str]:
        yield "word"
        await self.over.wait()
        raise asyncio.CancelledError


class Method:
    """A method that answers with its channel's credentials, in each of the ways of gRPC."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def __call__(self, request: str, *, timeout: float | None) -> tuple[str, str, float | None]:
        return self._answer, request, timeout

    future = with_call = __call__


@dataclass
class Raw:
    """A channel of gRPC."""

    credentials: str
    closed: int = 0
    streams: "weakref.WeakSet[Stream]" = field(default_factory=weakref.WeakSet)

    def unary_unary(self, path: str, *, _registered_method: bool = False) -> Method:
        assert "/service/Method" == path
        return Method(self.credentials)

    stream_unary = unary_unary

    def unary_stream(self, *_: Any) -> Any:
        def begin(*_: Any, **__: Any) -> Stream:
            stream = Stream()
            self.streams.add(stream)
            return stream

        return begin

    stream_stream = unary_stream

    def close(self) -> None:
        self.closed += 1


class AsyncRaw(Raw):
    async def close(self, _grace: float | None = None) -> None:  # type: ignore[override]  # as gRPC's kinds differ
        super().close()


class Channels:
    """A channel of ours, and those of gRPC that it has opened."""

    def __init__(self, kind: Any, clock: Any) -> None:
        self.files = Files()
        self.opened: list[Raw] = []
        self.clock = clock
        self._raw = AsyncRaw if kind is AsyncChannel else Raw
        self.channel: Any = kind("localhost:7401", self.files, self._open, clock)
        self.method = self.channel.unary_unary("/service/Method", _registered_method=True)

    def _open(self, credentials: Any) -> Any:
        self.opened.append(self._raw(credentials))
        return self.opened[-1]

    def call(self, timeout: float | None = 5.0) -> str:
        """Make a call now, and say with what credentials it went."""
        answer: str = self.method("request", timeout=timeout)[0]
        return answer

    async def later(self, seconds: float = LOOK_EVERY) -> str:
        """The same so many seconds later, when all that has ended is closed."""
        self.clock.now += seconds
        answer = self.call()
        await asyncio.sleep(0)
        return answer

    @property
    def closed(self) -> list[int]:
        return [raw.closed for raw in self.opened]


@pytest.fixture(params=[AsyncChannel, BlockingChannel])
def channels(request: pytest.FixtureRequest, clock: Any) -> Channels:
    return Channels(request.param, clock)


async def test_as_long_as_the_files_are_the_same_so_is_the_channel(channels: Channels) -> None:
    assert ["first"] * 3 == [await channels.later() for _ in range(3)]
    assert [0] == channels.closed


def test_calls_look_at_the_files_once_a_second_at_most(channels: Channels) -> None:
    looks = channels.files.looks
    channels.files.content = "second"

    assert ["first"] * 9 == [channels.call() for _ in range(9)]
    channels.clock.now += LOOK_EVERY
    assert ["second"] * 9 == [channels.call() for _ in range(9)]
    assert looks + 1 == channels.files.looks


async def test_every_method_goes_over_the_new_channel(channels: Channels) -> None:
    gathering = channels.channel.stream_unary("/service/Method")
    channels.files.content = "second"
    await channels.later()

    assert ("second", "request", 2) == channels.method("request", timeout=2) == gathering("request", timeout=2)
    assert ("second", "request", None) == channels.method.future("request") == channels.method.with_call("request")
    assert ("second", "request", None) == channels.channel.unary_unary("/service/Method")("request")


async def test_an_old_channel_is_closed_when_the_deadlines_of_its_calls_are_over(channels: Channels) -> None:
    channels.call(timeout=60)
    channels.call(timeout=5)
    channels.files.content = "second"

    await channels.later()
    await channels.later(59)
    assert [0, 0] == channels.closed
    await channels.later(1)
    assert [1, 0] == channels.closed
    await channels.later(60)
    assert [1, 0] == channels.closed


async def test_one_that_has_no_calls_is_closed_at_once(channels: Channels) -> None:
    channels.files.content = "second"
    await channels.later()

    assert [1, 0] == channels.closed


async def test_a_call_without_a_deadline_keeps_its_channel_and_no_other(channels: Channels) -> None:
    channels.call(timeout=None)
    for content in ("second", "third"):
        channels.files.content = content
        await channels.later()
    await channels.later(10**6)

    assert [0, 1, 0] == channels.closed


@pytest.mark.parametrize("trouble", [{"broken": "a.pem is not PEM"}, {"gone": True}])
async def test_files_that_cannot_be_used_change_nothing_and_are_told_of_once(
    channels: Channels, trouble: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "tenantvault._renewal")
    for name, value in trouble.items():
        setattr(channels.files, name, value)

    assert ["first"] * 3 == [await channels.later() for _ in range(3)]
    (record,) = caplog.records
    assert "localhost:7401" in record.getMessage()
    assert ("a.pem" in record.getMessage(), "key.pem" in record.getMessage()) == (
        "broken" in trouble,
        "gone" in trouble,
    )

    channels.files.broken, channels.files.gone, channels.files.content = "", False, "second"
    assert "second" == await channels.later()
    channels.files.broken = "once more"
    assert "second" == await channels.later()
    assert 2 == len(caplog.records)


async def test_files_that_are_as_before_again_are_no_renewal(
    channels: Channels, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        channels.files.gone = True
        await channels.later()
        channels.files.gone = False
        await channels.later()

    assert [0] == channels.closed
    assert 2 == len(caplog.records)


def test_files_that_cannot_be_used_from_the_start_make_no_channel(channels: Channels) -> None:
    channels.files.broken = "a.pem is not PEM"

    with pytest.raises(OSError, match="not PEM"):
        type(channels.channel)("localhost:7401", channels.files, channels._open)


async def test_what_happened_is_in_the_log(channels: Channels, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tenantvault._renewal")
    channels.files.content = "second"
    await channels.later()

    assert ["the TLS files have changed: there is a new channel to localhost:7401"] == [
        record.getMessage() for record in caplog.records
    ]


async def test_closing_closes_the_old_ones_too_and_opens_none(channels: Channels) -> None:
    channels.call(timeout=60)
    channels.files.content = "second"
    await channels.later()
    for _ in range(2):
        closing = channels.channel.close()
        if closing is not None:
            await closing
    channels.files.content = "third"

    assert "second" == await channels.later()
    assert [1, 2] == channels.closed


async def read(stream: Any, words: list[str]) -> None:
    async for word in stream:
        words.append(word)  # noqa: PERF401 - one by one, as they come


@pytest.fixture
def words() -> list[str]:
    return []


@pytest.fixture
def tasks(clock: Any) -> Channels:
    return Channels(AsyncChannel, clock)


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
async def test_a_stream_of_a_task_ends_with_its_channel_and_its_task_goes_on(
    tasks: Channels, kind: str, words: list[str]
) -> None:
    begin = getattr(tasks.channel, kind)("/service/Method")
    task = asyncio.create_task(read(begin("request"), words))
    await asyncio.sleep(0)
    tasks.files.content = "second"
    await tasks.later()
    await task

    assert ["word"] == words
    assert [1, 0] == tasks.closed
    begin("request")
    tasks.channel.unary_stream("/service/Method")("request")


async def test_a_stream_of_the_new_channel_goes_on(tasks: Channels, words: list[str]) -> None:
    tasks.files.content = "second"
    await tasks.later()
    stream = tasks.channel.unary_stream("/service/Method")("request")
    task = asyncio.create_task(read(stream, words))
    await tasks.later()

    assert not task.done()
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_is_cancelled_with_its_stream_is_cancelled(tasks: Channels, words: list[str]) -> None:
    task = asyncio.create_task(read(tasks.channel.unary_stream("/service/Method")("request"), words))
    await asyncio.sleep(0)
    task.cancel()
    tasks.files.content = "second"
    await tasks.later()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_stream_of_a_thread_is_cancelled_with_its_channel(clock: Any) -> None:
    threads = Channels(BlockingChannel, clock)
    stream = threads.channel.unary_stream("/service/Method")("request")
    threads.files.content = "second"
    await threads.later()
    await threads.later()

    assert 1 == stream.cancels


def test_the_channels_are_grpcs_kinds(channels: Channels) -> None:
    assert isinstance(channels.channel, grpc.Channel | grpc.aio.Channel)
