"""`tenantvault get`: masked, or revealed for a reason that the audit keeps."""

import logging
import socket
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault.errors import InternalError, PermissionDenied
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1.access_service_pb2 import GetCredentialResponse

pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket

CANARY = "canary-of-the-token-wxyz"
URL = "https://ada:canary-of-the-url@acme.example/sms"
GET = ("get", "acme", "twilio")
REVEAL = (*GET, "--reveal", "--reason", "ticket 812")
ACTIVE = pb.ActiveCredential(
    org_id="acme",
    provider=pb.Provider.PROVIDER_TWILIO,
    version=3,
    credential=pb.Credential(
        twilio=pb.TwilioCredential(
            account_sid="AC1",
            auth_token=CANARY,
            phone_number="+15005550006",
            saved_webhooks=[pb.TwilioWebhook(number_sid="PN1", sms_url=URL)],
        )
    ),
    resources=[pb.Resource(kind=pb.ResourceKind.RESOURCE_KIND_TWILIO_ACCOUNT, resource_id="AC1", role="account")],
    last_verified_at=Timestamp(seconds=1_795_521_600),
    generation=7,
)


@pytest.fixture(autouse=True)
def answers(vault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "desk")
    vault.answers["GetCredential"] = GetCredentialResponse(credential=ACTIVE)


def rows(ran: Any) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in ran.lines if len(line.split()) > 1)


def test_secrets_are_masked_and_the_audit_knows_who_looked(run: Any, vault: Any) -> None:
    ran = run(*GET)

    (request,) = vault.requests
    assert (0, "") == (ran.status, ran.err)
    assert ("acme", pb.Provider.PROVIDER_TWILIO, "grace@desk") == (
        request.org_id,
        request.provider,
        request.on_behalf_of,
    )
    shown = rows(ran)
    assert ("3", "AC1", "••••wxyz", "••••/sms", "-", "AC1", "2026-11-24 12:00:00 UTC") == (
        shown["version"],
        shown["account_sid"],
        shown["auth_token"],
        shown["saved_webhooks.1.sms_url"],
        shown["api_key_secret"],
        shown["resources.account"],
        shown["last_verified_at"],
    )
    assert "--reveal --reason" in ran.lines[-1]
    assert "canary" not in ran.out + run(*GET, "--json").out


def test_what_is_revealed_is_on_standard_output_alone_and_the_audit_has_the_reason(
    run: Any, vault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ran = run(*REVEAL, typed="y\n")

    assert 0 == ran.status
    assert (CANARY, URL) == (rows(ran)["auth_token"], rows(ran)["saved_webhooks.1.sms_url"])
    assert "The audit will say 'grace@desk: ticket 812'. Print the secrets of acme for twilio here?" in ran.err
    assert "canary" not in ran.err + caplog.text
    assert ["grace@desk: ticket 812"] == [request.on_behalf_of for request in vault.requests]


def test_a_credential_for_programs(run: Any) -> None:
    masked, ran = run(*GET, "--json").data, run(*REVEAL, "--yes", "--json")
    revealed = ran.data

    assert (0, "") == (ran.status, ran.err)
    assert (False, "••••wxyz") == (masked["revealed"], masked["credential"]["auth_token"])
    assert (True, CANARY) == (revealed["revealed"], revealed["credential"]["auth_token"])
    assert [{"number_sid": "PN1", "voice_url": "", "voice_method": "", "sms_url": URL, "sms_method": ""}] == revealed[
        "credential"
    ]["saved_webhooks"]
    del revealed["credential"]
    assert {
        "org_id": "acme",
        "provider": "twilio",
        "version": 3,
        "revealed": True,
        "resources": [{"kind": "twilio_account", "resource_id": "AC1", "role": "account"}],
        "last_verified_at": "2026-11-24T12:00:00+00:00",
        "generation": 7,
        "served_stale": False,
    } == revealed


def test_a_time_is_one_that_programs_can_read(run: Any, vault: Any) -> None:
    google = pb.GoogleCalendarCredential(
        refresh_token=CANARY, access_token=CANARY, expires_at=Timestamp(seconds=1_795_521_600), scopes=["a", "b"]
    )
    vault.answers["GetCredential"] = GetCredentialResponse(
        credential=pb.ActiveCredential(
            org_id="acme",
            provider=pb.Provider.PROVIDER_GOOGLE_CALENDAR,
            credential=pb.Credential(google_calendar=google),
            served_stale=True,
        )
    )

    credential = run("get", "acme", "googleCalendar", "--json").data["credential"]
    assert ("2026-11-24T12:00:00+00:00", ["a", "b"]) == (credential["expires_at"], credential["scopes"])
    assert "The vault's database could not be asked" in run("get", "acme", "googleCalendar").out


@pytest.mark.parametrize(("typed", "status", "said"), [("n\n", 1, "Nothing was read."), ("", 2, "give --yes")])
def test_without_a_yes_nothing_is_read(run: Any, vault: Any, typed: str, status: int, said: str) -> None:
    ran = run(*REVEAL, typed=typed)

    assert (status, "", []) == (ran.status, ran.out, vault.calls)
    assert said in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--reveal",), "--reveal together with --reason"),
        (("--reason", "x"), "--reveal together with --reason"),
        (("--reveal", "--reason", " "), "says something"),
        (("--reveal", "--reason", "a\nb"), "at most 244 bytes that can be printed"),
        (("--reveal", "--reason", "é" * 123), "at most 244 bytes"),
    ],
)
def test_a_reveal_needs_a_reason_that_the_audit_can_keep(
    run: Any, vault: Any, arguments: tuple[str, ...], said: str
) -> None:
    ran = run(*GET, *arguments, "--yes")

    assert (2, []) == (ran.status, vault.calls)
    assert said in ran.err


def test_the_longest_reason_goes_as_it_is(run: Any, vault: Any) -> None:
    assert 0 == run(*GET, "--reveal", "--reason", "é" * 122, "--yes").status
    assert f"grace@desk: {'é' * 122}" == vault.requests[0].on_behalf_of


def test_who_is_nobody_here_is_told_how_to_be_somebody(run: Any, vault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass

    def unknown() -> str:
        raise OSError

    monkeypatch.setattr(getpass, "getuser", unknown)
    ran = run(*GET)

    assert (2, []) == (ran.status, vault.calls)
    assert "set LOGNAME" in ran.err


@pytest.mark.parametrize(
    ("command", "method"),
    [(GET, "GetCredential"), (("resolve", "phone_number", "+1"), "ResolveOrg"), (("watch",), "WatchChanges")],
)
def test_a_certificate_that_the_policy_refuses_is_told_which_one_it_takes(
    run: Any, vault: Any, command: tuple[str, ...], method: str
) -> None:
    vault.answers[method] = vault.refuse(PermissionDenied("operator may not do that."))

    ran = run(*command)

    assert 3 == ran.status
    assert (
        f"operator may not do that. This command takes the certificate of a service that the policy lets call {method}"
        in ran.err
    )
    assert ran.err.endswith("(PERMISSION_DENIED)\n")


def test_an_answer_about_another_org_shows_nothing_of_it(run: Any, vault: Any) -> None:
    other = pb.ActiveCredential()
    other.CopyFrom(ACTIVE)
    other.org_id = "globex"
    vault.answers["GetCredential"] = GetCredentialResponse(credential=other)

    ran = run(*REVEAL, "--yes")

    assert (3, "") == (ran.status, ran.out)
    assert InternalError.reason in ran.err
    assert "canary" not in ran.err
