"""A port in front of a server, at which connections are counted, cut and held up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

_CHUNK = 64 * 1024


class Relay:
    """Passes bytes on to a port or socket of this machine, and back. Where nobody listens, it closes what comes."""

    def __init__(self) -> None:
        self.port = 0
        self.accepted = self.cuts = 0
        self._upstream: int | Path = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._stranded: list[asyncio.Event] = []
        self._open: set[asyncio.StreamWriter] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def served(cls) -> AsyncIterator[Self]:
        """One that listens."""
        relay = cls()
        server = await asyncio.start_server(relay._connection, "127.0.0.1", 0)
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            server.close()
            relay.flow()
            while relay._open:
                relay.cut()
                await asyncio.sleep(0)
            await server.wait_closed()

    def lead_to(self, upstream: int | Path) -> None:
        """Let the connections from now on go to that port or socket, and cut the others."""
        self._upstream = upstream
        self.cut()

    def cut(self) -> None:
        """End every connection, without a word of TLS or HTTP/2."""
        self.cuts += 1
        for writer in self._open:
            writer.transport.abort()
        for flowing in self._stranded:
            flowing.set()
        self._stranded.clear()

    def strand(self) -> None:
        """Pass nothing on any more over the connections that there are, without ending them; new ones are well."""
        self._flowing.clear()
        self._stranded.append(self._flowing)
        self._flowing = asyncio.Event()
        self._flowing.set()

    def stall(self) -> None:
        """Pass nothing on in either direction; connections stay open, and new ones are accepted."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on what was held up, and what comes."""
        self._flowing.set()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._open.add(writer)
        flowing = self._flowing
        try:
            await flowing.wait()
            there, back = await self._reach()
            self._open.add(back)
            try:
                await asyncio.gather(self._pass_on(reader, back, flowing), self._pass_on(there, writer, flowing))
            finally:
                self._open.discard(back)
                back.transport.abort()
        except OSError:
            # Nobody listens, or one end is gone: so is the other.
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, Path):
            return await asyncio.open_unix_connection(self._upstream)
        return await asyncio.open_connection("127.0.0.1", self._upstream)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK):
            await flowing.wait()
            writer.write(data)
            await writer.drain()
        # Whoever ends one direction ends both.
        raise ConnectionResetError
