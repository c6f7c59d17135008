import asyncio

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from deploy.sandbox.__main__ import Config, Protocol
from deploy.sandbox.app import create_app


def test_the_agreed_place_is_the_default() -> None:
    assert Config(host="127.0.0.1", port=7499, log_level="INFO") == Config.from_env({})


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("127.0.0.1:0", "127.0.0.1", 0), ("localhost:80", "127.0.0.1", 80), ("[::1]:7499", "::1", 7499)],
)
def test_loopback_will_do(listen: str, host: str, port: int) -> None:
    config = Config.from_env({"TENANTVAULT_SANDBOX_LISTEN": listen})

    assert (host, port) == (config.host, config.port)


@pytest.mark.parametrize("listen", ["0.0.0.0:7499", "192.168.0.1:7499", "[::]:7499", "203.0.113.9:1"])
def test_nothing_but_loopback_will_do(listen: str) -> None:
    with pytest.raises(ValueError, match="TENANTVAULT_SANDBOX_LISTEN: the sandbox listens on loopback only"):
        Config.from_env({"TENANTVAULT_SANDBOX_LISTEN": listen})


@pytest.mark.parametrize("listen", ["", "7499", "127.0.0.1", "127.0.0.1:x", "example.com:7499", "127.0.0.1:99999"])
def test_a_place_that_is_none_is_named(listen: str) -> None:
    with pytest.raises(ValueError, match="TENANTVAULT_SANDBOX_LISTEN"):
        Config.from_env({"TENANTVAULT_SANDBOX_LISTEN": listen})


def test_the_log_level_is_checked() -> None:
    assert "DEBUG" == Config.from_env({"TENANTVAULT_LOG_LEVEL": "debug"}).log_level
    with pytest.raises(ValueError, match="TENANTVAULT_LOG_LEVEL"):
        Config.from_env({"TENANTVAULT_LOG_LEVEL": "loud"})


class Wire(asyncio.Transport):
    """A connection without a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.ended.is_set()

    def close(self) -> None:
        self.ended.set()

    def abort(self) -> None:
        self.ended.set()


@pytest.mark.parametrize(("path", "answer"), [("/_sandbox/faults", b"HTTP/1.1 200 OK"), ("/vapi/assistant", b"")])
async def test_the_server_cuts_the_connection_of_a_dropped_request_without_a_word(path: str, answer: bytes) -> None:
    app = create_app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sandbox") as sandbox:
        await sandbox.post("/_sandbox/faults", json={"provider": "vapi", "drop": True})
    config = uvicorn.Config(app, http=Protocol, log_config=None, lifespan="off")
    config.load()
    state, wire = ServerState(), Wire()
    protocol = Protocol(config, state, {}, asyncio.get_running_loop())

    protocol.connection_made(wire)
    protocol.data_received(f"GET {path} HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n".encode())
    await wire.ended.wait()
    protocol.connection_lost(None)
    await asyncio.gather(*state.tasks)

    assert answer == wire.written[: len(b"HTTP/1.1 200 OK")]
