"""Run a scenario for real: `python -m tests.chaos SCENARIO [--option NUMBER]`."""

import argparse
import asyncio
import dataclasses
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from tests.chaos import clients, kills, postgres, revocation, rotation, workers
from tests.chaos.harness import Ground, Report, Server, Tell, own_ground, scratch

_Run = Callable[[Server, Ground, Any, Tell], Awaitable[Report]]

SCENARIOS: Final[Mapping[str, tuple[type[Any], _Run]]] = {
    "revocation": (revocation.Plan, lambda _, ground, plan, tell: revocation.run(ground, plan, tell)),
    "kills": (kills.Plan, lambda _, ground, plan, tell: kills.run(ground, plan, tell)),
    "rotation": (rotation.Plan, lambda _, ground, plan, tell: rotation.run(ground, plan, tell)),
    "postgres": (postgres.Plan, postgres.run),
    "workers": (workers.Plan, lambda _, ground, plan, tell: workers.run(ground, plan, tell)),
    "clients": (clients.Plan, lambda _, ground, plan, tell: clients.run(ground, plan, tell)),
}


def _tell(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


async def _run(run: _Run, plan: Any) -> Report:
    with scratch() as folder:
        # Where PostgreSQL itself is killed, what it acknowledges is on the disk.
        async with own_ground(folder, durable=run is postgres.run) as (server, ground):
            return await run(server, ground, plan, _tell)


def main() -> int:
    """Run what the command line says; 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    scenarios = parser.add_subparsers(dest="scenario", required=True)
    for name, (plan_type, _) in SCENARIOS.items():
        options = scenarios.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        for field in dataclasses.fields(plan_type):
            options.add_argument(
                f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default, help=" "
            )
    arguments = vars(parser.parse_args())
    plan_type, run = SCENARIOS[arguments.pop("scenario")]
    began = time.monotonic()
    report = asyncio.run(_run(run, plan_type(**arguments)))
    report.figures["seconds"] = round(time.monotonic() - began, 1)
    sys.stdout.write(f"{report.as_json()}\n")
    sys.stderr.write(f"{report.as_text()}\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
