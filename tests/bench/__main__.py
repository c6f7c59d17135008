"""Measure: `python -m tests.bench [NAME ...]`. It reports; it does not judge, but for `--check`."""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench import calls
from tests.bench.figure import Figure, complaints, table, write
from tests.chaos.harness import Ground, Tell, own_ground, scratch

RESULTS: Final = Path(".local/bench.json")
COMMITTED: Final = Path(__file__).with_name("figures.json")

_Run = Callable[[Ground, Any, Tell], Awaitable[list[Figure]]]

BENCHES: Final[Mapping[str, tuple[type[Any], _Run]]] = {"calls": (calls.Plan, calls.run)}


def _tell(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


async def measure(names: Sequence[str], tell: Tell) -> list[Figure]:
    """The figures of some benches, each on a database of its own that is as durable as in production."""
    figures = []
    for name in names:
        plan, run = BENCHES[name]
        with scratch() as folder:
            async with own_ground(folder, durable=True) as (_, ground):
                figures += await run(ground, plan(), tell)
    return figures


def main() -> int:
    """Run what the command line says; 1 when `--check` finds a figure that has become much worse."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)}; all when none is named")
    parser.add_argument("--check", action="store_true", help=f"compare with {COMMITTED.name} at 150 %%")
    parser.add_argument("--keep", action="store_true", help=f"write {COMMITTED.name}")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(BENCHES):
        parser.error(f"there is no bench {min(unknown)!r}")
    figures = asyncio.run(measure(chosen.names or list(BENCHES), _tell))
    write(figures, RESULTS)
    if chosen.keep:
        write(figures, COMMITTED)
    sys.stdout.write(table(figures) + "\n")
    worse = complaints(figures, COMMITTED) if chosen.check else []
    sys.stdout.writelines(f"worse than before: {line}\n" for line in worse)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
