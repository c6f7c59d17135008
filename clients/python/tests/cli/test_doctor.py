"""`tenantvault doctor`: what the vault's self-checks found."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault.errors import PermissionDenied
from tenantvault.v1.admin_service_pb2 import DiagnoseResponse, Finding

pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket

AT = Timestamp(seconds=1_795_521_600)
WELL = DiagnoseResponse(findings=[Finding(check="database", passed=True), Finding(check="keys", passed=True)])
ILL = DiagnoseResponse(
    findings=[
        Finding(check="database", passed=True),
        Finding(check="keys", problem="The master key 2026-01 is missing: give it back."),
    ],
    checked_at=AT,
)


def test_a_vault_that_is_well(run: Any, vault: Any) -> None:
    vault.answers["Diagnose"] = DiagnoseResponse(findings=WELL.findings, checked_at=AT)

    ran = run("doctor")

    assert (0, "") == (ran.status, ran.err)
    assert [["database", "ok", "-"], ["keys", "ok", "-"]] == [line.split() for line in ran.lines[1:3]]
    assert "All is well, 2026-11-24 12:00:00 UTC." == ran.lines[-1]


def test_a_check_that_failed_is_shown_with_what_to_do(run: Any, vault: Any) -> None:
    vault.answers["Diagnose"] = ILL

    ran = run("doctor")

    assert 1 == ran.status
    assert "keys      FAILED  The master key 2026-01 is missing: give it back." in ran.lines
    assert ran.lines[-1].startswith("1 of 2 checks failed")


def test_the_checks_for_programs(run: Any, vault: Any) -> None:
    vault.answers["Diagnose"] = ILL

    ran = run("doctor", "--json")

    assert 1 == ran.status
    assert (False, "2026-11-24T12:00:00+00:00") == (ran.data["passed"], ran.data["checked_at"])
    assert {"check": "database", "passed": True, "problem": ""} == ran.data["findings"][0]


def test_a_vault_that_checks_nothing_is_not_well(run: Any, vault: Any) -> None:
    vault.answers["Diagnose"] = DiagnoseResponse()

    assert 1 == run("doctor").status


def test_a_vault_that_is_not_there(run: Any, operator: Any) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ran = run("doctor", "--target", f"127.0.0.1:{taken.getsockname()[1]}")

    assert (4, "") == (ran.status, ran.out)
    assert "look at the address (--target)" in ran.err


def test_who_may_not_ask_is_refused(run: Any, vault: Any) -> None:
    vault.answers["Diagnose"] = vault.refuse(PermissionDenied())

    assert 3 == run("doctor").status
