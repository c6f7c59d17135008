"""`tenantvault status`: how an org's integrations are."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault.v1.credential_pb2 import Integration, IntegrationState, Provider
from tenantvault.v1.status_service_pb2 import ListIntegrationsResponse

pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket

CONNECTED = Integration(
    provider=Provider.PROVIDER_TWILIO,
    state=IntegrationState.INTEGRATION_STATE_CONNECTED,
    version=2,
    hint="••••2222",
    account="ACME Inc.",
    last_verified_at=Timestamp(seconds=1_795_521_600),
    rotation_due_at=Timestamp(seconds=1_795_608_000),
    rotates_by_itself=True,
    warnings=["Messages\nare not taken."],
)
REFUSED = Integration(
    provider=Provider.PROVIDER_GOOGLE_CALENDAR,
    state=IntegrationState.INTEGRATION_STATE_REFUSED,
    verification_error="The consent is over.",
    verification_reason="REAUTH_REQUIRED",
)


@pytest.fixture(autouse=True)
def answers(vault: Any) -> None:
    vault.answers["ListIntegrations"] = ListIntegrationsResponse(integrations=[CONNECTED, REFUSED])


def test_every_integration_is_a_row_and_what_to_know_of_it_stands_below(run: Any, vault: Any) -> None:
    ran = run("status", "acme")

    assert (0, "acme") == (ran.status, vault.requests[0].org_id)
    day, tomorrow = ["2026-11-24", "12:00:00", "UTC"], ["2026-11-25", "12:00:00", "UTC,", "by", "itself"]
    assert ["twilio", "connected", "••••2222", *day, *tomorrow, "ACME", "Inc."] == ran.lines[1].split()
    assert ["googleCalendar", "refused", "-", "-", "-", "-"] == ran.lines[2].split()
    assert [
        "twilio: Messages\\nare not taken.",
        "googleCalendar: The consent is over. (REAUTH_REQUIRED)",
    ] == ran.lines[3:]


def test_the_integrations_for_programs(run: Any) -> None:
    data = run("status", "acme", "--json").data

    assert "acme" == data["org_id"]
    connected, refused = data["integrations"]
    assert {
        "provider": "twilio",
        "state": "connected",
        "version": 2,
        "hint": "••••2222",
        "account": "ACME Inc.",
        "connected_at": None,
        "last_verified_at": "2026-11-24T12:00:00+00:00",
        "verification_reason": "",
        "verification_error": "",
        "rotation_due_at": "2026-11-25T12:00:00+00:00",
        "rotates_by_itself": True,
        "warnings": ["Messages\nare not taken."],
    } == connected
    assert ("refused", "REAUTH_REQUIRED") == (refused["state"], refused["verification_reason"])


def test_an_org_without_any_says_so(run: Any, vault: Any) -> None:
    vault.answers["ListIntegrations"] = ListIntegrationsResponse()

    assert "acme has never begun to connect a provider.\n" == run("status", "acme").out
    assert [] == run("status", "acme", "--json").data["integrations"]


def test_what_a_newer_vault_tells_is_shown_as_it_is(run: Any, vault: Any) -> None:
    newer = ListIntegrationsResponse(integrations=[Integration.FromString(b"\x08\x09\x10\x08")])
    vault.answers["ListIntegrations"] = newer

    assert ["unknown", "(9)", "unknown", "(8)"] == run("status", "acme").lines[1].split()[:4]
