"""A vault and a provider service without a socket, and each client in front of them."""

import asyncio
import concurrent.futures
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from hypothesis import settings

from tenantvault import AsyncClient, CacheStatistics, Client, _tokens
from tenantvault._cache_settings import DEFAULT_CACHE
from tenantvault._status import to_status
from tenantvault.errors import TenantVaultError

# No test is timed: machines are busy. What else is set, e.g. how many examples, stays.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")

# A response, or what the call ends with.
Answer = Any


def pytest_configure() -> None:
    """Keep no record of gRPC's that names a server whose memory is being freed: it would end the process."""
    logging.getLogger("grpc").setLevel(logging.INFO)


# What the clients take for the time.
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@dataclass(slots=True)
class Call:
    """One call that reached the transport."""

    method: str
    request: Any
    options: dict[str, Any]


class Watch:
    """A watch under way, which says nothing until it is cancelled: tests tell the memory themselves."""

    def __init__(self, request: Any, options: dict[str, Any]) -> None:
        self.request = request
        self.options = options
        self.cancelled = threading.Event()

    def cancel(self) -> bool:
        self.cancelled.set()
        return True

    def __iter__(self) -> Iterator[Any]:
        self.cancelled.wait()
        raise RpcError(grpc.StatusCode.CANCELLED)

    async def __aiter__(self) -> AsyncIterator[Any]:
        await asyncio.get_running_loop().create_future()
        yield None


@dataclass(slots=True)
class Wire:
    """What the fake transport answers with, and what it has seen."""

    answer: Answer = None
    calls: list[Call] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    watched: threading.Event = field(default_factory=threading.Event)
    closed: int = 0

    def take(self, call: Call) -> Any:
        self.calls.append(call)
        answer = self.answer(call) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer


class RpcError(grpc.RpcError):
    """A failed blocking call, as the transport raises it."""

    def __init__(self, code: grpc.StatusCode, trailers: tuple[tuple[str, str | bytes], ...] = ()) -> None:
        super().__init__()
        self._code = code
        self._trailers = trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def trailing_metadata(self) -> Any:
        return self._trailers


class RpcFuture:
    """A blocking call under way, as the transport tells of it. It is over when it is landed, or cancelled."""

    def __init__(self) -> None:
        self._over: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def land(self, answer: Any = None) -> "RpcFuture":
        self._over.set_result(answer)
        return self

    def done(self) -> bool:
        return self._over.done()

    def cancel(self) -> bool:
        return self._over.cancel()

    def cancelled(self) -> bool:
        return self._over.cancelled()

    def exception(self, timeout: float | None = None) -> Exception | None:
        try:
            answer = self._over.result(timeout)
        except concurrent.futures.TimeoutError:
            raise grpc.FutureTimeoutError from None
        except concurrent.futures.CancelledError:
            raise grpc.FutureCancelledError from None
        return answer if isinstance(answer, Exception) else None

    def result(self) -> Any:
        return self._over.result()

    def code(self) -> grpc.StatusCode:
        if self.cancelled():
            return grpc.StatusCode.CANCELLED
        error = self.exception()
        return error.code() if isinstance(error, grpc.RpcError) else grpc.StatusCode.OK

    def trailing_metadata(self) -> Any:
        error = self.exception()
        return error.trailing_metadata() if isinstance(error, RpcError) else ()

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        self._over.add_done_callback(lambda _: fn(self))


class BlockingMethod:
    def __init__(self, wire: Wire, method: str) -> None:
        self._wire = wire
        self._method = method

    def __call__(self, request: Any, **options: Any) -> Any:
        return self._wire.take(Call(self._method, request, options))

    def future(self, request: Any, **options: Any) -> RpcFuture:
        try:
            answer = self(request, **options)
        except grpc.RpcError as error:
            return RpcFuture().land(error)
        return answer if isinstance(answer, RpcFuture) else RpcFuture().land(answer)


class BlockingChannel:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        return BlockingMethod(self._wire, method)

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        def begin(request: Any, **options: Any) -> Watch:
            self._wire.watches.append(Watch(request, options))
            self._wire.watched.set()
            return self._wire.watches[-1]

        return begin

    def close(self) -> None:
        self._wire.closed += 1


class AsyncChannel(BlockingChannel):
    def unary_unary(self, method: str, *_: Any, **__: Any) -> Callable[..., Awaitable[Any]]:
        call = super().unary_unary(method)

        async def run(request: Any, **options: Any) -> Any:
            answer = call(request, **options)
            return await answer if inspect.isawaitable(answer) else answer

        return run

    async def close(self) -> None:  # type: ignore[override]  # as grpc's two kinds of channel differ
        super().close()


class AnyClient:
    """Either client, awaited: the verbs are the same, so one test serves both."""

    def __init__(self, client: AsyncClient | Client) -> None:
        self.client = client

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        async def run(*arguments: Any, **options: Any) -> Any:
            result = getattr(self.client, verb)(*arguments, **options)
            return await result if inspect.isawaitable(result) else result

        return run

    @property
    def memory(self) -> Any:
        """The client's memory, to be told what a watch would tell it."""
        return self.client._calls.cache

    @property
    def statistics(self) -> CacheStatistics:
        return self.client.cache_statistics

    def failed(self, code: grpc.StatusCode, trailers: tuple[tuple[str, str | bytes], ...] = ()) -> Exception:
        """How this client's transport tells of a failed call."""
        if isinstance(self.client, Client):
            return RpcError(code, trailers)
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), "foreign text")

    def refused(self, error: TenantVaultError) -> Exception:
        """How this client's transport tells of an error of the server."""
        code, _, trailers = to_status(error)
        return self.failed(code, trailers)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def provider_wire() -> Wire:
    """The way to the provider service."""
    return Wire()


@pytest.fixture
def rpc_future() -> RpcFuture:
    """An answer of the blocking client's transport that is under way until it is landed."""
    return RpcFuture()


@dataclass(slots=True)
class Clock:
    """The monotonic time of a client's memory."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, a deadline is not over before what has it has begun."""
    monkeypatch.setattr(_tokens, "time", SimpleNamespace(monotonic=lambda: 1000.0))


def _made(kind: Any, channel: Any, wires: tuple[Wire, Wire], **options: Any) -> Any:
    return kind(*(channel(wire) for wire in wires), **{"now": lambda: NOW, "cache": None, **options})


@pytest.fixture(params=["asynchronous", "blocking"])
def remember(
    request: pytest.FixtureRequest, wire: Wire, provider_wire: Wire, clock: Clock
) -> Iterator[Callable[..., AnyClient]]:
    """Makes a client that remembers, and for which no time passes but that of the clock."""
    kind: Any = AsyncClient if request.param == "asynchronous" else Client
    channel: Any = AsyncChannel if request.param == "asynchronous" else BlockingChannel
    made: list[Any] = []

    def make(**options: Any) -> AnyClient:
        made.append(_made(kind, channel, (wire, provider_wire), **{"cache": DEFAULT_CACHE, "timer": clock, **options}))
        return AnyClient(made[-1])

    yield make
    for client in made:
        if isinstance(client, Client):
            client.close()


@pytest.fixture
def remembering(remember: Callable[..., AnyClient]) -> AnyClient:
    """A client that remembers, and whose watch has begun and was heard."""
    client = remember()
    client.memory.heard()
    return client


@pytest.fixture
def blocking(wire: Wire, provider_wire: Wire) -> Iterator[Client]:
    with _made(Client, BlockingChannel, (wire, provider_wire)) as client:
        yield client


@pytest.fixture
def asynchronous(wire: Wire, provider_wire: Wire) -> AsyncClient:
    return cast("AsyncClient", _made(AsyncClient, AsyncChannel, (wire, provider_wire)))


@pytest.fixture(params=["asynchronous", "blocking"])
def client(request: pytest.FixtureRequest) -> AnyClient:
    """A client that remembers nothing."""
    return AnyClient(request.getfixturevalue(request.param))
