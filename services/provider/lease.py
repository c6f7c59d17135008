"""One worker at a time for an org and a provider, over all processes.

The lease itself is a row in the vault with an owner and an end. Here it is taken, kept up while the work goes on, and
given back. A worker that cannot keep it up is stopped before it ends: two workers that look for an assistant at the
same moment would both make one.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol
from weakref import WeakValueDictionary

from services.provider.provider import MayComeAbout
from tenantvault.credentials import Provider
from tenantvault.errors import DeadlineExceeded, LeaseHeld, TenantVaultError, VaultUnavailable

_POLL: Final = 0.5
_OWNER_BYTES: Final = 16
# Parts of a lease: when it is prolonged, when that is tried again, and how long before its end the work is stopped.
_PROLONGED_EVERY: Final = 3
_RETRIED_EVERY: Final = 15
_MARGIN: Final = 10
_log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[object]]


class LeaseStore(Protocol):
    """Where leases are: the vault."""

    async def acquire_lease(self, org_id: str, provider: Provider, *, owner: str, seconds: float) -> None:
        """Take or prolong a lease; LeaseHeld when another owner has it."""

    async def release_lease(self, org_id: str, provider: Provider, *, owner: str) -> None:
        """Give a lease back; one that is not the owner's stays as it is."""


class Leases:
    """Takes leases of `seconds` each and keeps them up."""

    def __init__(
        self,
        store: LeaseStore,
        *,
        seconds: float,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        new_owner: Callable[[], str] = lambda: secrets.token_hex(_OWNER_BYTES),
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._margin = seconds / _MARGIN
        self._sleep = sleep
        self._jitter = jitter
        self._new_owner = new_owner
        # Those who wait in this process stand in a queue; only the first of them asks the vault again and again.
        self._queues: WeakValueDictionary[tuple[str, Provider], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, org_id: str, provider: Provider, *, patience: float) -> AsyncIterator[str]:
        """Hold the lease while the body runs; gives its owner.

        The body is cancelled when the lease is lost. A lease under which work was cut off, or ended in MayComeAbout,
        is left to run out: a request of that work may still be on its way, and what it makes must be visible before
        another worker looks.

        Raises:
            LeaseHeld: others had it for `patience` seconds, or took it over.
            VaultUnavailable: it could not be prolonged in time.
        """
        owner = self._new_owner()
        queue = self._queues.setdefault((org_id, provider), asyncio.Lock())
        try:
            async with asyncio.timeout(patience) as waiting, queue:
                end = await self._take(org_id, provider, owner)
                waiting.reschedule(None)
                async with self._kept(org_id, provider, owner, end):
                    yield owner
        except TimeoutError:
            if waiting.expired():
                raise LeaseHeld(retry_after=_POLL) from None
            raise

    async def _take(self, org_id: str, provider: Provider, owner: str) -> float:
        """Take the lease, however long it takes; returns when it ends, by the loop's clock."""
        while True:
            asked = asyncio.get_running_loop().time()
            try:
                await self._store.acquire_lease(org_id, provider, owner=owner, seconds=self._seconds)
            except LeaseHeld as held:
                # Work usually ends long before its lease would.
                await self._sleep(min(held.retry_after or _POLL, _POLL) * (0.5 + self._jitter()))
            except (asyncio.CancelledError, DeadlineExceeded):
                # The vault may have given it all the same.
                await asyncio.shield(self._give_back(org_id, provider, owner))
                raise
            else:
                return asked + self._seconds

    @asynccontextmanager
    async def _kept(self, org_id: str, provider: Provider, owner: str, end: float) -> AsyncIterator[None]:
        reason: object = None
        try:
            async with asyncio.timeout_at(end - self._margin) as stop:
                keeper = asyncio.create_task(self._keep_up(org_id, provider, owner, stop))
                try:
                    yield
                finally:
                    keeper.cancel()
                    (reason,) = await asyncio.gather(keeper, return_exceptions=True)
        except TimeoutError:
            if not stop.expired():
                raise
            _log.warning("lost a lease", extra={"org": org_id, "provider": provider.value})
            raise reason if isinstance(reason, LeaseHeld) else VaultUnavailable() from None
        except MayComeAbout:
            raise
        except Exception:
            await self._give_back(org_id, provider, owner)
            raise
        else:
            await self._give_back(org_id, provider, owner)

    async def _keep_up(self, org_id: str, provider: Provider, owner: str, stop: asyncio.Timeout) -> LeaseHeld:
        """Prolong the lease again and again, and move `stop` along with it; returns when somebody else has it."""
        clock = asyncio.get_running_loop().time
        pause = self._seconds / _PROLONGED_EVERY
        while True:
            await self._sleep(pause)
            asked = clock()
            try:
                await self._store.acquire_lease(org_id, provider, owner=owner, seconds=self._seconds)
            except LeaseHeld as taken_over:
                _move(stop, asked)
                return taken_over
            except TenantVaultError as error:
                _log.warning("a lease was not prolonged", extra={"org": org_id, "reason": error.reason})
                pause = self._seconds / _RETRIED_EVERY
            else:
                _move(stop, asked + self._seconds - self._margin)
                pause = self._seconds / _PROLONGED_EVERY

    async def _give_back(self, org_id: str, provider: Provider, owner: str) -> None:
        try:
            await self._store.release_lease(org_id, provider, owner=owner)
        except TenantVaultError as error:
            _log.warning("a lease was not given back and has to run out", extra={"reason": error.reason})


def _move(stop: asyncio.Timeout, moment: float) -> None:
    if not stop.expired():
        stop.reschedule(moment)
