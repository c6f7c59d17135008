"""The master key rotated under reads, by a vault process that is killed. `make chaos` does it for long."""

from pathlib import Path

import pytest

from deploy.local.authority import DevelopmentAuthority
from tests.chaos import rotation
from tests.chaos.harness import Ground
from tests.integration.conftest import Database

PLAN = rotation.Plan(orgs=300, vaults=2, tasks=2)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("chaos")
async def test_a_master_key_is_rotated_under_reads_by_a_vault_that_is_killed_twice(
    fresh_database: Database, authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    report = await rotation.run(Ground(fresh_database, authority, tmp_path), PLAN)
    assert {} == report.broken
    assert 2 == report.figures["kills"]
    assert 0 == report.figures["reads_failed"] < report.figures["reads_during_rotation"]
