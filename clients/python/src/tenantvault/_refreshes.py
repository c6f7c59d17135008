"""New Google access tokens: asked of the provider service once for all who want one, for tasks and for threads."""

import asyncio
from contextlib import AbstractContextManager
from typing import Any

import grpc

from tenantvault._async_wire import AsyncWire
from tenantvault._failures import copied, no_answer
from tenantvault._flights import Flights, Join
from tenantvault._methods import REFRESH
from tenantvault._tokens import refresh_request, remaining
from tenantvault._wire import Wire
from tenantvault.errors import DeadlineExceeded, TenantVaultError


class AsyncRefreshes:
    """The refreshes of an asyncio client. Each goes on for at least `deadline` seconds, whoever gives up."""

    def __init__(self, wire: AsyncWire, deadline: float) -> None:
        self._wire = wire
        self._deadline = deadline
        self.flights: Flights[asyncio.Task[TenantVaultError | None]] = Flights()

    def of(self, org_id: str) -> "AbstractContextManager[Join[asyncio.Task[TenantVaultError | None]]]":
        """Enter it before looking whether a refresh is needed, and give `refreshed` what it gives."""
        return self.flights.of(org_id)

    async def refreshed(
        self, org_id: str, join: "Join[asyncio.Task[TenantVaultError | None]]", ends: float
    ) -> TenantVaultError | None:
        """What kept the stored access token from being replaced; None when it was."""
        error, own = await self._waited(org_id, join, ends)
        if not own and isinstance(error, DeadlineExceeded):
            # Who began it may have had less time. Only once: a slow service is not asked by every caller in turn.
            error, _ = await self._waited(org_id, join, ends)
        return error

    async def _waited(
        self, org_id: str, join: "Join[asyncio.Task[TenantVaultError | None]]", ends: float
    ) -> tuple[TenantVaultError | None, bool]:
        """How a refresh ended, and whether it was begun by this call."""
        self._wire.demand_provider()
        wait = remaining(ends, "provider service")
        limit = max(self._deadline, wait)

        async def refresh() -> TenantVaultError | None:
            try:
                await self._wire.call(REFRESH, refresh_request(org_id), limit, "provider service")
            except TenantVaultError as error:
                return error
            return None

        own = False

        def begin() -> "asyncio.Task[TenantVaultError | None]":
            nonlocal own
            own = True
            return asyncio.create_task(refresh())

        flight = join(begin)
        await asyncio.wait({flight}, timeout=wait)
        if not flight.done():
            raise no_answer("provider service")
        error = flight.result()
        return None if error is None else copied(error), own


class Refreshes:
    """The same for threads."""

    def __init__(self, wire: Wire, deadline: float) -> None:
        self._wire = wire
        self._deadline = deadline
        self.flights: Flights[grpc.Future[Any]] = Flights()

    def of(self, org_id: str) -> "AbstractContextManager[Join[grpc.Future[Any]]]":
        """Enter it before looking whether a refresh is needed, and give `refreshed` what it gives."""
        return self.flights.of(org_id)

    def refreshed(self, org_id: str, join: "Join[grpc.Future[Any]]", ends: float) -> TenantVaultError | None:
        """What kept the stored access token from being replaced; None when it was."""
        error, own = self._waited(org_id, join, ends)
        if not own and isinstance(error, DeadlineExceeded):
            # As above.
            error, _ = self._waited(org_id, join, ends)
        return error

    def _waited(self, org_id: str, join: "Join[grpc.Future[Any]]", ends: float) -> tuple[TenantVaultError | None, bool]:
        """How a refresh ended, and whether it was begun by this call."""
        self._wire.demand_provider()
        wait = remaining(ends, "provider service")
        limit = max(self._deadline, wait)
        own = False

        def begin() -> "grpc.Future[Any]":
            nonlocal own
            own = True
            return self._wire.begin(REFRESH, refresh_request(org_id), limit)

        return self._wire.error(join(begin), "provider service", wait), own
