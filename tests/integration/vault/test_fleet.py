"""Three vault processes on one database, and what is taken away through one of them. `make chaos` does it for long."""

from pathlib import Path

import pytest

from deploy.local.authority import DevelopmentAuthority
from tests.chaos import revocation
from tests.chaos.harness import Ground
from tests.integration.conftest import Database

PLAN = revocation.Plan(rounds=4, others=1, cuts=1, pauses=1, beats=1, twice=4, tasks=1)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("chaos")
async def test_what_is_taken_away_through_one_vault_is_served_by_none_when_the_call_returns(
    fresh_database: Database, authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    report = await revocation.run(Ground(fresh_database, authority, tmp_path), PLAN)
    assert {} == report.broken
    rounds = {phase: figures["rounds"] for phase, figures in report.figures.items() if isinstance(figures, dict)}
    assert rounds == {
        "disconnect": PLAN.rounds,
        **dict.fromkeys(("freeze", "shred", "roll_back", "replace"), PLAN.others),
        "cut": PLAN.cuts,
        "paused": PLAN.pauses,
        "paused_in_a_beat": PLAN.beats,
        "twice": PLAN.twice,
    }
    assert PLAN.cuts <= report.figures["listeners_cut"]
