"""`tenantvault versions`: list, roll back, destroy."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault.errors import VersionConflict, VersionNotFound
from tenantvault.v1.credential_pb2 import Integration, Provider
from tenantvault.v1.status_service_pb2 import ListVersionsResponse, Version, VersionState
from tenantvault.v1.store_service_pb2 import DestroyVersionResponse, RollBackCredentialResponse

pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket

VERSIONS = ListVersionsResponse(
    versions=[
        Version(
            version=3,
            state=VersionState.VERSION_STATE_ACTIVE,
            hint="••••3333",
            created_at=Timestamp(seconds=1_795_521_600),
        ),
        Version(
            version=2,
            state=VersionState.VERSION_STATE_PREVIOUS,
            hint="••••2222",
            created_at=Timestamp(seconds=1_795_435_200),
            readable_until=Timestamp(seconds=1_795_608_000),
        ),
        Version(
            version=1,
            state=VersionState.VERSION_STATE_DESTROYED,
            created_at=Timestamp(seconds=1_795_348_800),
            destroyed_at=Timestamp(seconds=1_795_521_600),
        ),
    ]
)
DESTROY = ("versions", "destroy", "acme", "vapi", "2")
ROLLBACK = ("versions", "rollback", "acme", "vapi", "2")


@pytest.fixture(autouse=True)
def answers(vault: Any) -> None:
    vault.answers |= {
        "ListVersions": VERSIONS,
        "RollBackCredential": RollBackCredentialResponse(integration=Integration(version=2)),
        "DestroyVersion": DestroyVersionResponse(),
    }


def test_versions_are_listed(run: Any, vault: Any) -> None:
    ran = run("versions", "list", "acme", "GoogleCalendar")

    (request,) = vault.requests
    assert 0 == ran.status
    assert ("acme", Provider.PROVIDER_GOOGLE_CALENDAR) == (request.org_id, request.provider)
    assert ["3", "active", "••••3333", "2026-11-24", "12:00:00", "UTC", "-", "-"] == ran.lines[1].split()
    assert ["2026-11-25", "12:00:00", "UTC", "-"] == ran.lines[2].split()[-4:]
    assert ["1", "destroyed", "-"] == ran.lines[3].split()[:3]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("vapi", Provider.PROVIDER_VAPI),
        ("twilio", Provider.PROVIDER_TWILIO),
        ("googleCalendar", Provider.PROVIDER_GOOGLE_CALENDAR),
        ("resend", Provider.PROVIDER_RESEND),
        ("elevenlabs", Provider.PROVIDER_ELEVENLABS),
    ],
)
def test_every_provider_can_be_named(run: Any, vault: Any, name: str, number: Any) -> None:
    assert (0, 0, 0) == (
        run("versions", "list", "acme", name).status,
        run("versions", "rollback", "acme", name, "2", "--expected", "3").status,
        run("versions", "destroy", "acme", name, "2", "--yes").status,
    )

    assert [number] * 3 == [request.provider for request in vault.requests]


def test_versions_for_programs(run: Any) -> None:
    first, _, last = run("versions", "list", "acme", "vapi", "--json").data["versions"]

    assert {
        "version": 3,
        "state": "active",
        "hint": "••••3333",
        "created_at": "2026-11-24T12:00:00+00:00",
        "destroyed_at": None,
        "readable_until": None,
    } == first
    assert ("destroyed", "2026-11-24T12:00:00+00:00") == (last["state"], last["destroyed_at"])


def test_what_a_newer_vault_tells_is_shown_as_it_is(run: Any, vault: Any) -> None:
    newer = Version.FromString(b"\x08\x01\x10\x09")
    newer.created_at.seconds = 2**40
    vault.answers["ListVersions"] = ListVersionsResponse(versions=[newer])

    assert ["1", "unknown", "(9)", "-", "-", "-", "-"] == run("versions", "list", "acme", "vapi").lines[1].split()


def test_an_older_version_becomes_the_active_one_again(run: Any, vault: Any) -> None:
    ran = run(*ROLLBACK, "--expected", "3")

    (request,) = vault.requests
    assert (0, "Version 2 is the active one of acme for vapi now.\n") == (ran.status, ran.out)
    assert ("acme", Provider.PROVIDER_VAPI, 2, 3) == (
        request.org_id,
        request.provider,
        request.version,
        request.expected_version,
    )
    assert "grace" == request.origin.on_behalf_of
    data = run(*ROLLBACK, "--expected", "3", "--json").data
    assert {"org_id": "acme", "provider": "vapi", "active_version": 2} == data


def test_a_rollback_needs_to_know_what_it_replaces(run: Any, vault: Any) -> None:
    ran = run(*ROLLBACK)

    assert (2, []) == (ran.status, vault.calls)
    assert "--expected" in ran.err


@pytest.mark.parametrize("error", [VersionConflict, VersionNotFound])
def test_a_rollback_that_is_refused(run: Any, vault: Any, error: Any) -> None:
    vault.answers["RollBackCredential"] = vault.refuse(error())

    ran = run(*ROLLBACK, "--expected", "3")

    assert 3 == ran.status
    assert ran.err.endswith(f"({error.reason})\n")


@pytest.mark.parametrize(("arguments", "typed"), [(("--yes",), None), ((), "y\n"), ((), "Yes\n"), ((), "y")])
def test_a_version_is_destroyed(run: Any, vault: Any, arguments: tuple[str, ...], typed: str | None) -> None:
    ran = run(*DESTROY, *arguments, typed=typed)

    (request,) = vault.requests
    assert (0, "Version 2 of acme for vapi is destroyed.\n") == (ran.status, ran.out)
    assert ("acme", Provider.PROVIDER_VAPI, 2) == (request.org_id, request.provider, request.version)
    assert "grace" == request.origin.on_behalf_of
    assert (typed is not None) == ("Destroy version 2 of acme for vapi?" in ran.err)


def test_what_was_destroyed_for_programs(run: Any) -> None:
    data = run(*DESTROY, "--yes", "--json").data
    assert {"org_id": "acme", "provider": "vapi", "destroyed_version": 2} == data


@pytest.mark.parametrize("typed", ["n\n", "\n", "2\n", "yess\n"])
def test_a_no_destroys_nothing(run: Any, vault: Any, typed: str) -> None:
    ran = run(*DESTROY, typed=typed)

    assert (1, "", []) == (ran.status, ran.out, vault.calls)
    assert ran.err.endswith("tenantvault: Nothing was destroyed. (DECLINED)\n")


def test_where_nobody_can_answer_the_option_is_named(run: Any, vault: Any) -> None:
    ran = run(*DESTROY, typed="")

    assert (2, []) == (ran.status, vault.calls)
    assert "--yes" in ran.err


@pytest.mark.parametrize("version", ["0", "-1", "x", str(2**63)])
def test_a_version_that_is_none_is_refused(run: Any, vault: Any, version: str) -> None:
    assert (2, []) == (run("versions", "destroy", "acme", "vapi", "--yes", "--", version).status, vault.calls)


def test_a_provider_that_is_none_is_refused(run: Any) -> None:
    ran = run("versions", "list", "acme", "nexmo")

    assert 2 == ran.status
    assert "give one of vapi, twilio, googleCalendar, resend, elevenlabs." in ran.err
