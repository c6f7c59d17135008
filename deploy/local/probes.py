"""How the supervisor knows that a process is ready: each probe returns once it is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tenantvault.tls import TlsFiles

Probe = Callable[[], Awaitable[None]]

_POLL: Final = 0.03
_ONE_CALL: Final = 2.0


def accepts(check: Callable[[], bool]) -> Probe:
    """Ready when the check says so; it may block for a moment."""
    return lambda: _until(lambda: asyncio.to_thread(check))


def http_answers(port: int, path: str) -> Probe:
    """Ready when `GET path` on 127.0.0.1 answers 200."""
    return lambda: _until(lambda: _answers(port, path))


def grpc_serves(port: int, tls: Callable[[], TlsFiles]) -> Probe:
    """Ready when grpc.health.v1.Health on 127.0.0.1 says SERVING over mutual TLS."""

    async def probe() -> None:
        # A plain connection first: it costs less than a channel, and a new channel has no backoff to sit out.
        await _until(lambda: _listens(port))
        await _until(lambda: _serves(port, tls()))

    return probe


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():  # noqa: ASYNC110  # no event of ours tells what another process does
        await asyncio.sleep(_POLL)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _answers(port: int, path: str) -> bool:
    try:
        async with asyncio.timeout(_ONE_CALL):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split(b" ")[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def _serves(port: int, tls: TlsFiles) -> bool:
    # Imported late: by then the processes are on their way, and these take a tenth of a second.
    import grpc.aio  # noqa: PLC0415
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    from tenantvault.channel import open_channel  # noqa: PLC0415

    async with open_channel(f"127.0.0.1:{port}", tls) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=_ONE_CALL)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
