"""Channels that outlast their certificates: one for threads, one for tasks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from tenantvault._renewal import Succession


class BlockingChannel(Succession[grpc.Channel], grpc.Channel):
    """A channel for threads. A stream that is ended for a new channel is CANCELLED."""

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:  # noqa: FBT001, FBT002 - gRPC's
        """See gRPC; of the channel of the time."""
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """See gRPC."""
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        """End every call."""
        with ExitStack() as stack:
            for channel in self._ended():
                stack.callback(channel.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _let_go(self, stream: Any) -> None:
        stream.cancel()

    def _end(self, channel: grpc.Channel) -> None:
        channel.close()


class AsyncChannel(Succession[grpc.aio.Channel], grpc.aio.Channel):
    """A channel for tasks. A stream that is ended for a new channel ends as if it had no more to say."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._closing: set[asyncio.Task[None]] = set()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - gRPC's
        """See gRPC; of the channel of the time."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See gRPC."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See gRPC."""
        await self._channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """End every call, those that are through within `grace` seconds aside."""
        async with AsyncExitStack() as stack:
            for channel in self._ended():
                stack.push_async_callback(channel.close, grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def began(self, stream: Any) -> Any:
        """See above."""
        return super().began(_Stream(stream))

    def _let_go(self, stream: "_Stream") -> None:
        stream.let_go()

    def _end(self, channel: grpc.aio.Channel) -> None:
        closing = asyncio.get_running_loop().create_task(channel.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


class _Stream:
    """A call of an asyncio channel whose words end where it is let go; cancelled, it would take its task along."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def let_go(self) -> None:
        """There are no more words."""
        self._gone = True
        self._call.cancel()

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for word in self._call:
                yield word
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._gone or (task is not None and task.cancelling()):
                raise
