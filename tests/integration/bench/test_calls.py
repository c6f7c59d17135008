import json
from pathlib import Path

from deploy.local.authority import DevelopmentAuthority
from tests.bench import calls, lookup
from tests.bench.__main__ import COMMITTED
from tests.chaos.harness import Ground, silent
from tests.integration.conftest import Database


async def test_calls_are_measured_under_the_names_of_the_committed_run(
    database: Database, authority: DevelopmentAuthority, short_tmp: Path
) -> None:
    ground = Ground(database, authority, short_tmp)
    figures = await calls.run(ground, calls.Plan(rounds=1, seconds=0.05, orgs=4, pause=0.05), silent)
    figures += await lookup.run(ground, lookup.Plan(rounds=1, seconds=0.05, orgs=4), silent)
    committed = {each["name"]: each["goal"] for each in json.loads(COMMITTED.read_text("utf-8"))}
    assert len(figures) == 8
    assert {figure.name: figure.goal for figure in figures}.items() <= committed.items()
