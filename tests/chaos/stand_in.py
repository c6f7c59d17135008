"""A gRPC server in a vault's place: it passes calls on to the vault, or refuses them, or ends watches, and counts."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Self, cast

import grpc
import grpc.aio

from deploy.local.authority import DevelopmentAuthority
from services.rpc.server import server_credentials
from tenantvault._methods import WATCH
from tenantvault._status import to_status
from tenantvault.errors import VaultUnavailable


class StandIn(grpc.GenericRpcHandler):
    """Counts what arrives, by method. It asks `vault` for a channel to where calls go on to, whoever makes them.

    While it `refuses`, everything is UNAVAILABLE, as at a vault that is not ready; while it `ends_watches`, each watch
    ends in order with its first heartbeat.
    """

    def __init__(self, vault: Callable[[], grpc.aio.Channel]) -> None:
        self.port = 0
        self.arrived: Counter[str] = Counter()
        self.refuses = self.ends_watches = False
        self._vault = vault

    @classmethod
    @contextlib.asynccontextmanager
    async def served(
        cls, authority: DevelopmentAuthority, vault: Callable[[], grpc.aio.Channel]
    ) -> AsyncIterator[Self]:
        """One that listens."""
        server, stand_in = grpc.aio.server(options=[("grpc.so_reuseport", 0)]), cls(vault)
        server.add_generic_rpc_handlers([stand_in])
        credentials = server_credentials(authority.issue("vault", server=True))
        stand_in.port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield stand_in
        finally:
            await server.stop(grace=None)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """The handler of any method."""
        method, vault = details.method, cast("Any", self._vault())

        async def answer(request: bytes, context: Any) -> Any:
            await self._arrive(method, context)
            try:
                return await vault.unary_unary(method)(request, timeout=context.time_remaining())
            except grpc.aio.AioRpcError as error:
                await _tell(error, context)

        async def watch(request: bytes, context: Any) -> AsyncIterator[Any]:
            await self._arrive(method, context)
            words = vault.unary_stream(method)(request, timeout=context.time_remaining())
            try:
                async for word in words:
                    yield word
                    if self.ends_watches:
                        return
            except grpc.aio.AioRpcError as error:
                await _tell(error, context)
            finally:
                words.cancel()

        if method.removeprefix("/") == WATCH:
            return grpc.unary_stream_rpc_method_handler(watch)
        return grpc.unary_unary_rpc_method_handler(answer)

    async def _arrive(self, method: str, context: Any) -> None:
        self.arrived[method.removeprefix("/")] += 1
        if self.refuses:
            code, sentence, trailers = to_status(VaultUnavailable())
            await context.abort(code, sentence, trailers)


async def _tell(error: grpc.aio.AioRpcError, context: Any) -> None:
    await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata()))
