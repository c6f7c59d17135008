"""PostgreSQL killed under a mixed load on vault processes. `make chaos` does it for long."""

from pathlib import Path

import pytest

from tests.chaos import postgres
from tests.chaos.harness import own_ground

PLAN = postgres.Plan(outages=1, vaults=2, orgs=6, readers=2, pause=0.03, away=2.0, between=1.0, max_staleness=1.0)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("chaos")
async def test_vaults_answer_rightly_while_the_database_is_killed_and_are_themselves_again_soon_after(
    short_tmp: Path,
) -> None:
    folder = short_tmp / "recovery"
    folder.mkdir(mode=0o755)
    async with own_ground(folder, durable=True) as (server, ground):
        report = await postgres.run(server, ground, PLAN)
    assert {} == report.broken
    assert PLAN.outages == report.figures["outages"]
    assert {"VAULT_UNAVAILABLE"} <= report.figures["changes_refused"].keys()
    assert 20 < report.figures["plaintexts"]
