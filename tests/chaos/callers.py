"""Clients of both kinds under load, each behind a relay of its own, and what every call of theirs gave.

Moments are by the monotonic clock. A call is noted when it has ended, whatever came of it.
"""

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from tenantvault import (
    ActiveCredential,
    AsyncClient,
    Batch,
    CacheSettings,
    Client,
    Provider,
    ResolvedOrg,
    ResourceKind,
    TenantVaultError,
    TlsFiles,
)
from tests.chaos.relay import Relay

AnyClient = AsyncClient | Client

REPORTED: Final = "reported"
"""The org whose credential is reported as refused, again and again."""

_FIRST: Final = 1
_LOOKS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of client: what it remembers, and over how many connections it calls."""

    name: str
    made: type[AnyClient]
    cache: CacheSettings
    hedge_after: float | None = None

    @property
    def connections(self) -> int:
        """How many it has to the vault."""
        return 1 if self.hedge_after is None else 2


@dataclass(frozen=True, slots=True)
class Given:
    """What a call gave of one org: an error's reason, or nothing, and whether it is what was there at first."""

    caller: str
    verb: str
    org: str
    began: float
    ended: float
    error: str
    old: bool
    marked: bool


@dataclass(frozen=True, slots=True)
class Org:
    """An org that is read, whose first version was there at a generation."""

    org_id: str
    generation: int

    @property
    def resource(self) -> tuple[ResourceKind, str]:
        """Its assistant."""
        return ResourceKind.VAPI_ASSISTANT, f"{self.org_id}-vapi"


_VERBS: Final[Mapping[str, Callable[[Any, Org], Any]]] = {
    "vapi": lambda client, org: client.vapi(org.org_id),
    "get at once": lambda client, org: client.get(org.org_id, Provider.VAPI, max_staleness=0),
    "get_many": lambda client, org: client.get_many([(org.org_id, Provider.VAPI)]),
    "resolve_org": lambda client, org: client.resolve_org(*org.resource),
    "resolve_orgs": lambda client, org: client.resolve_orgs([org.resource]),
    "resolve_credential": lambda client, org: client.resolve_credential(*org.resource, Provider.VAPI),
    "report_failure": lambda client, _: client.report_failure(REPORTED, Provider.VAPI, _FIRST),
}

VERBS: Final = tuple(_VERBS)


class Caller:
    """One client, its relay, and who calls it: tasks of this event loop, or threads."""

    def __init__(self, kind: Kind, client: Any, relay: Relay, *, pause: float, seed: int) -> None:
        self.kind = kind
        self.relay = relay
        self.given: list[Given] = []
        self.orgs: tuple[Org, ...] = ()
        self._client = client
        self._pause = pause
        self._verbs = itertools.cycle(VERBS)
        self._chance = random.Random(seed)
        self._over = threading.Event()

    @property
    def name(self) -> str:
        """Its kind's."""
        return self.kind.name

    @property
    def watches(self) -> int:
        """How many watches the client has begun."""
        return int(self._client.cache_statistics.watches)

    def remembers(self, org: Org, version: int) -> bool:
        """Whether a version is what would be given from memory now."""
        found = self._client.remembered(org.org_id, Provider.VAPI)
        return found is not None and found.version == version

    @contextlib.asynccontextmanager
    async def calling(self, callers: int) -> AsyncIterator[None]:
        """Call with so many tasks, or threads, at the same time."""
        if isinstance(self._client, Client):
            with ThreadPoolExecutor(callers) as threads:
                working = [threads.submit(self._block) for _ in range(callers)]
                try:
                    yield
                finally:
                    self._over.set()
                    await asyncio.gather(*map(asyncio.wrap_future, working))
        else:
            tasks = [asyncio.create_task(self._call()) for _ in range(callers)]
            try:
                yield
            finally:
                self._over.set()
                await asyncio.gather(*tasks)

    async def _call(self) -> None:
        for verb, org in self._turns():
            began = time.monotonic()
            try:
                found = await _VERBS[verb](self._client, org)
            except TenantVaultError as error:
                found = error
            self._note(verb, org, began, found)
            await asyncio.sleep(self._pause)

    def _block(self) -> None:
        for verb, org in self._turns():
            began = time.monotonic()
            try:
                found = _VERBS[verb](self._client, org)
            except TenantVaultError as error:
                found = error
            self._note(verb, org, began, found)
            time.sleep(self._pause)

    def _turns(self) -> Iterator[tuple[str, Org]]:
        while not self._over.is_set():
            yield next(self._verbs), self._chance.choice(self.orgs)

    def _note(self, verb: str, org: Org, began: float, found: Any) -> None:
        ended = time.monotonic()
        if isinstance(found, Batch):
            [found] = found.values()
        error = found.reason if isinstance(found, TenantVaultError) else ""
        match found:
            case ActiveCredential():
                old = found.version == _FIRST
            case ResolvedOrg():
                old = found.generation <= org.generation
            case _:
                old = False
        marked = bool(getattr(found, "served_stale", False))
        self.given.append(Given(self.name, verb, org.org_id, began, ended, error, old, marked))


@contextlib.asynccontextmanager
async def lateness() -> AsyncIterator[list[tuple[float, float]]]:
    """Moments, each with the seconds by which this process was late for something of its own: no client is to blame."""
    late = [(0.0, 0.0)]

    async def look() -> None:
        while True:
            due = time.monotonic() + _LOOKS
            await asyncio.sleep(_LOOKS)
            late.append((due, time.monotonic() - due))

    looking = asyncio.create_task(look())
    try:
        yield late
    finally:
        looking.cancel()


@contextlib.asynccontextmanager
async def calling(
    kinds: Iterator[Kind], tls: TlsFiles, port: int, first: Org, *, deadline: float, tasks: int, pause: float
) -> AsyncIterator[list[Caller]]:
    """A caller of each kind, calling, led to a vault at a port of this machine."""
    callers: list[Caller] = []
    async with contextlib.AsyncExitStack() as stack:
        for seed, kind in enumerate(kinds):
            relay = await stack.enter_async_context(Relay.served())
            relay.lead_to(port)
            client = kind.made.connect(
                f"127.0.0.1:{relay.port}", tls, deadline=deadline, cache=kind.cache, hedge_after=kind.hedge_after
            )
            if isinstance(client, AsyncClient):
                await stack.enter_async_context(client)
            else:
                stack.enter_context(client)
            caller = Caller(kind, client, relay, pause=pause, seed=seed)
            caller.orgs = (first,)
            callers.append(caller)
        for caller in callers:
            await stack.enter_async_context(caller.calling(tasks))
        yield callers
