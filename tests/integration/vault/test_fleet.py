"""Three vault processes on one database, and what is taken away through one of them. `make chaos` does it for long."""

from pathlib import Path

import pytest

from deploy.local.authority import DevelopmentAuthority
from tests.chaos import revocation
from tests.chaos.harness import Ground
from tests.integration.conftest import Database

PLAN = revocation.Plan(rounds=20, others=4, cuts=3, pauses=3, beats=2, twice=20, tasks=1)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("chaos")
async def test_what_is_taken_away_through_one_vault_is_served_by_none_when_the_call_returns(
    fresh_database: Database, authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    report = await revocation.run(Ground(fresh_database, authority, tmp_path), PLAN)
    assert {} == report.broken
    rounds = {phase: figures["rounds"] for phase, figures in report.figures.items() if isinstance(figures, dict)}
    assert rounds == {
        "disconnect": 20,
        "freeze": 4,
        "shred": 4,
        "roll_back": 4,
        "replace": 4,
        "cut": 3,
        "paused": 3,
        "paused_in_a_beat": 2,
        "twice": 20,
    }
    assert 3 <= report.figures["listeners_cut"]
