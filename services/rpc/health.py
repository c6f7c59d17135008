"""The standard health service (grpc.health.v1), with one status for the whole process.

It stands in for grpcio-health-checking's own, which writes to watchers under a lock: a peer that opens a watch and does
not read would hold up every change of status, the self-check and the stop with it. Here nobody waits for a watcher, and
a stop ends the watches.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package brings no types
    """Answers for the process, named "", and for each of the services that it serves."""

    def __init__(self, services: Iterable[str]) -> None:
        self._names = ["", *services]
        self._status = _NOT_SERVING
        self._changed = asyncio.Event()
        self._ended = False

    def set(self, *, serving: bool) -> None:
        """Tell what is so from now on; after `end` nothing changes any more."""
        if not self._ended:
            self._status = _SERVING if serving else _NOT_SERVING
            self._wake()

    def end(self) -> None:
        """Not serving, for good: the watches get that as their last answer and end."""
        self._status = _NOT_SERVING
        self._ended = True
        self._wake()

    async def Check(self, request: Any, context: _Context) -> Any:  # noqa: N802 - the contract's name
        """The status; NOT_FOUND for a service that is not served here."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "This service is not served here.")
        return health_pb2.HealthCheckResponse(status=self._status)

    async def Watch(self, request: Any, context: _Context) -> AsyncIterator[Any]:  # noqa: ARG002, N802 - the contract's
        """The status now, and each time that it changes."""
        told = None
        while True:
            changed, status = self._changed, self._status if request.service in self._names else _UNKNOWN
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            elif self._ended:
                return
            else:
                await changed.wait()

    async def List(self, request: Any, context: _Context) -> Any:  # noqa: ARG002, N802 - the contract's
        """The status of each."""
        return health_pb2.HealthListResponse(
            statuses={name: health_pb2.HealthCheckResponse(status=self._status) for name in self._names}
        )

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
