"""Measure: `python -m tests.bench [NAME ...]`. It reports; it does not judge, but for `--check`."""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench import batch, calls, client, lookup, memory, revocation, scale, status, webhooks, workers
from tests.bench.figure import Figure, complaints, table, write
from tests.chaos.harness import Ground, Tell, own_ground, scratch

RESULTS: Final = Path(".local/bench.json")
COMMITTED: Final = Path(__file__).with_name("figures.json")

_Run = Callable[[Ground, Any, Tell], Awaitable[list[Figure]]]

BENCHES: Final[Mapping[str, tuple[Any, Any, _Run]]] = {
    "calls": (calls.Plan(), calls.Plan(rounds=3, seconds=1, orgs=200), calls.run),
    "client": (client.Plan(), client.Plan(rounds=3, calls=50_000, network_calls=500, orgs=200), client.run),
    "lookup": (lookup.Plan(), lookup.Plan(rounds=3, seconds=1, orgs=200), lookup.run),
    "batch": (batch.Plan(), batch.Plan(rounds=3, seconds=1), batch.run),
    "webhooks": (webhooks.Plan(), webhooks.Plan(warm_up=10_000, counted=10_000), webhooks.run),
    "revocation": (revocation.Plan(), revocation.Plan(rounds=100), revocation.run),
    "workers": (workers.Plan(), workers.Plan(rounds=3, seconds=1), workers.run),
    "memory": (memory.Plan(), memory.Plan(), memory.run),
    "status": (status.Plan(), status.Plan(rounds=3, requests=200), status.run),
    "scale": (scale.Plan(), scale.Plan(rounds=5, seconds=1), scale.run),
}
"""Each with its plan, and with the one for somebody in a hurry."""


def _tell(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


async def measure(names: Sequence[str], tell: Tell, *, short: bool = False) -> list[Figure]:
    """The figures of some benches, each on a database of its own that is as durable as in production.

    What is there is written after each, for one that comes later may fail.
    """
    figures = []
    for name in names:
        plan, hurried, run = BENCHES[name]
        with scratch() as folder:
            async with own_ground(folder, durable=True) as (_, ground):
                figures += await run(ground, hurried if short else plan, tell)
        write(figures, RESULTS)
    return figures


def main() -> int:
    """Run what the command line says; 1 when `--check` finds a figure that has become much worse."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)}; all when none is named")
    parser.add_argument("--short", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--check", action="store_true", help=f"compare with {COMMITTED.name} at 150 %%")
    parser.add_argument("--keep", action="store_true", help=f"write all figures to {COMMITTED.name}")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(BENCHES):
        parser.error(f"there is no bench {min(unknown)!r}")
    if chosen.keep and chosen.names:
        parser.error("--keep is for figures of one run of all: name none")
    figures = asyncio.run(measure(chosen.names or list(BENCHES), _tell, short=chosen.short))
    if chosen.keep:
        write(figures, COMMITTED)
    sys.stdout.write(table(figures) + "\n")
    worse = complaints(figures, COMMITTED) if chosen.check else []
    sys.stdout.writelines(f"worse than before: {line}\n" for line in worse)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
