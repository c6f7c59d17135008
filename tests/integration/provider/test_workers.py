"""Workers that are killed while many integrations are due. `make chaos` does it with a thousand."""

from pathlib import Path

import pytest

from deploy.local.authority import DevelopmentAuthority
from tests.chaos import workers
from tests.chaos.harness import Ground
from tests.integration.conftest import Database

PLAN = workers.Plan(integrations=100, kills=2, between=0.8)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("chaos")
async def test_each_is_checked_none_twice_at_the_same_time_and_none_is_forgotten(
    fresh_database: Database, authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    report = await workers.run(Ground(fresh_database, authority, tmp_path), PLAN)
    assert {} == report.broken
    assert report.figures["kills"] >= 1
