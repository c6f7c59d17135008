"""The ways in which clients lose their vault, and what is known of each time that they did."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from tests.chaos.callers import Caller
from tests.chaos.harness import Vault
from tests.chaos.stand_in import StandIn


@dataclass(frozen=True, slots=True)
class Stage:
    """A vault, the second one on its database, the clients of the first, and what may take its place."""

    vault: Vault
    second: Vault
    callers: list[Caller]
    stand_in: StandIn
    every: float

    def lead_to(self, port: int) -> None:
        """Have all clients reach a port of this machine from now on."""
        for caller in self.callers:
            caller.relay.lead_to(port)

    def back_to_the_vault(self) -> None:
        """Have all clients reach the vault again."""
        self.lead_to(self.vault.port)


@contextlib.asynccontextmanager
async def _killed(stage: Stage) -> AsyncIterator[None]:
    await stage.vault.kill()
    yield
    await stage.vault.start()
    stage.back_to_the_vault()


@contextlib.asynccontextmanager
async def _stopped(stage: Stage) -> AsyncIterator[None]:
    await stage.vault.stop()
    yield
    await stage.vault.start()
    stage.back_to_the_vault()


@contextlib.asynccontextmanager
async def _hangs(stage: Stage) -> AsyncIterator[None]:
    stage.vault.pause()
    yield
    stage.vault.resume()


@contextlib.asynccontextmanager
async def _stalls(stage: Stage) -> AsyncIterator[None]:
    for caller in stage.callers:
        caller.relay.stall()
    yield
    for caller in stage.callers:
        caller.relay.flow()


@contextlib.asynccontextmanager
async def _strands(stage: Stage) -> AsyncIterator[None]:
    for caller in stage.callers:
        caller.relay.strand()
    yield


@contextlib.asynccontextmanager
async def _refuses(stage: Stage) -> AsyncIterator[None]:
    stage.stand_in.refuses = True
    stage.lead_to(stage.stand_in.port)
    yield
    stage.back_to_the_vault()
    stage.stand_in.refuses = False


@contextlib.asynccontextmanager
async def _ends(stage: Stage) -> AsyncIterator[None]:
    stage.stand_in.ends_watches = True
    stage.lead_to(stage.stand_in.port)
    yield
    stage.back_to_the_vault()
    stage.stand_in.ends_watches = False


@contextlib.asynccontextmanager
async def _cuts(stage: Stage) -> AsyncIterator[None]:
    async def cut() -> None:
        while True:
            for caller in stage.callers:
                caller.relay.cut()
            await asyncio.sleep(stage.every)

    cutting = asyncio.create_task(cut())
    try:
        yield
    finally:
        cutting.cancel()


OUTAGES: Final[Mapping[str, Callable[[Stage], AbstractAsyncContextManager[None]]]] = {
    "killed": _killed,
    "stopped": _stopped,
    "hangs": _hangs,
    "stalls": _stalls,
    "strands": _strands,
    "refuses": _refuses,
    "ends": _ends,
    "cuts": _cuts,
}

HEARD: Final = frozenset({"ends", "cuts"})
"""Those in which the vault is heard now and then."""

BROKEN: Final = frozenset({"killed", "stopped"})
"""Those in which every connection breaks as the vault ends."""

CONNECTED: Final = frozenset({"refuses", "strands", *HEARD})
"""Those in which every connection that is tried is made."""

LONG: Final = frozenset({"hangs", "strands"})
"""Those that last until the clients notice that their connections are dead."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a caller had done by a moment."""

    connections: int
    cuts: int
    watches: int

    @classmethod
    def of(cls, caller: Caller) -> "Counts":
        """As it is now."""
        return cls(caller.relay.accepted, caller.relay.cuts, caller.watches)

    def since(self, before: "Counts") -> "Counts":
        """What came after that."""
        return Counts(self.connections - before.connections, self.cuts - before.cuts, self.watches - before.watches)


@dataclass(frozen=True, slots=True)
class Outage:
    """One outage: its orgs, its moments, and what each caller did until its memory was itself again.

    `silent` is the last moment at which a client can have heard the vault before it lost it.
    """

    kind: str
    orgs: frozenset[str]
    began: float
    silent: float
    taken: float
    back: float
    counts: Mapping[str, Counts]
    remembered: Mapping[str, float]
    arrived: Counter[str]
    over: float
