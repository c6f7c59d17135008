"""Both clients under load while their vault is taken away from them in several ways. `make chaos` does it for long."""

from pathlib import Path

import pytest

from deploy.local.authority import DevelopmentAuthority
from tests.chaos import clients
from tests.chaos.callers import VERBS
from tests.chaos.harness import Ground
from tests.integration.conftest import Database

PLAN = clients.Plan(
    outages="cuts killed hangs refuses",
    rounds=1,
    away=0.5,
    hang=2.8,
    deadline=0.5,
    late=1.0,
    lease=1.5,
    max_stale=1.5,
    hedge_after=0,
    reconcile=0.5,
    pause=0.03,
)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("chaos")
async def test_no_client_is_late_gives_what_is_old_or_storms_when_its_vault_is_taken_away(
    fresh_database: Database, authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    report = await clients.run(Ground(fresh_database, authority, tmp_path), PLAN)
    assert {} == report.broken
    assert set(PLAN.outages.split()) <= report.figures.keys()
    assert set(VERBS) == report.figures["longest_call_over_its_deadline_s"].keys()
    outcomes = report.figures["outcomes"]
    assert {"given", "marked", "VAULT_UNAVAILABLE", "DEADLINE_EXCEEDED", "CREDENTIAL_NOT_FOUND"} <= outcomes.keys()
    assert 100 < report.figures["calls"]
