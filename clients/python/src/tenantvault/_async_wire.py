"""The asyncio client's way to the services: connections, deadlines, errors as classes."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, cast

import grpc.aio

from tenantvault._failures import Service, client_closed, failure
from tenantvault._hedge import first_answer
from tenantvault._manner import Manner
from tenantvault._methods import Methods, provider_methods, vault_methods
from tenantvault._status import FailedCall
from tenantvault._tokens import end_after, nobody_to_refresh, remaining


class AsyncWire:
    """Calls over several connections to the vault, used in turn, and one to the provider service.

    Each call raises a `TenantVaultError` and nothing else; a task that is cancelled still gets its CancelledError.
    """

    def __init__(
        self, channels: Sequence[grpc.aio.Channel], provider_channel: grpc.aio.Channel | None, manner: Manner
    ) -> None:
        self._manner = manner
        self._channels = [*channels, *([] if provider_channel is None else [provider_channel])]
        self._connections = [vault_methods(channel) for channel in channels]
        self._provider = None if provider_channel is None else provider_methods(provider_channel)
        self._turn = count()
        self.closed = False

    def demand_provider(self) -> Methods:
        """The methods of the provider service; InvalidRequest when nobody said where that is."""
        if self._provider is None:
            raise nobody_to_refresh()
        return self._provider

    @property
    def vault(self) -> Methods:
        """The methods of the first connection."""
        return self._connections[0]

    async def read(self, method: str, request: Any, limit: float, *, ready: bool = True) -> Any:
        """Make a call that changes nothing, over the next connection; where it is hedged, over the one after it too."""
        turn, ends = next(self._turn), end_after(limit)

        async def ask(number: int) -> Any:
            connection = self._connections[(turn + number) % len(self._connections)]
            left = remaining(ends, "vault") if number else limit
            return await self._send(connection, method, request, left, "vault", ready=ready)

        after = self._manner.hedge_after
        return await (ask(0) if after is None else first_answer(ask, after))

    async def call(self, method: str, request: Any, limit: float, service: Service = "vault") -> Any:
        """Make a call that may change something, once."""
        methods = self.vault if service == "vault" else self.demand_provider()
        return await self._send(methods, method, request, limit, service)

    async def close(self) -> None:
        """End the connections, and every call under way."""
        self.closed = True
        async with AsyncExitStack() as stack:
            for channel in self._channels:
                stack.push_async_callback(channel.close)

    async def _send(
        self, methods: Methods, method: str, request: Any, limit: float, service: Service, *, ready: bool = True
    ) -> Any:
        if self.closed:
            raise client_closed()
        span = self._manner.begin(method, service, request)
        metadata = None if span is None else span.metadata
        code, reason = "CANCELLED", "CANCELLED"
        try:
            # A call waits for a channel that is connecting, so that a restart of a service costs its callers time and
            # no error. It may: nothing of it was sent before.
            response = await methods[method](request, timeout=limit, wait_for_ready=ready, metadata=metadata)
            code, reason = "OK", ""
        except grpc.aio.AioRpcError as error:
            failed = failure(cast("FailedCall", error), closed=self.closed, service=service)
            code, reason = error.code().name, failed.reason
            raise failed from None
        except asyncio.CancelledError:
            # Closing the channel cancels its calls as if the waiting task had been cancelled.
            if not _wanted(asyncio.current_task()) and self.closed:
                raise client_closed() from None
            raise
        else:
            return response
        finally:
            if span is not None:
                span.end(code, reason)


def _wanted(task: asyncio.Task[Any] | None) -> bool:
    """Whether somebody asked for this task's cancellation."""
    return task is not None and task.cancelling() > 0
