"""Vault processes that are killed under a mixed load, and what is there afterwards. `make chaos` does it for long."""

from pathlib import Path

import pytest

from deploy.local.authority import DevelopmentAuthority
from tests.chaos import kills
from tests.chaos.harness import Ground
from tests.integration.conftest import Database

PLAN = kills.Plan(kills=3, orgs=8, readers=2, between=0.5)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("chaos")
async def test_what_was_acknowledged_and_what_left_before_a_kill_is_there_with_its_event(
    fresh_database: Database, authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    report = await kills.run(Ground(fresh_database, authority, tmp_path), PLAN)
    assert {} == report.broken
    assert PLAN.kills == report.figures["kills"]
    assert 20 < report.figures["changes_acknowledged"]
    assert 100 < report.figures["plaintexts"] < report.figures["events_proved"]
