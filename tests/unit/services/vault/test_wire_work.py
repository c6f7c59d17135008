from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.vault import wire_work
from services.vault.work import Finish, OAuthState, Piece, ScheduledWork, Task
from tenantvault.errors import InvalidRequest
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb

DAY = Duration(seconds=86_400)
HASH, OTHER_HASH = bytes(range(32)), bytes(range(32, 64))
GOOGLE = pb.GoogleCalendarCredential(
    refresh_token="1//canary-refresh",
    access_token="ya29.canary-access",
    expires_at=Timestamp(seconds=1_800_000_000),
    scopes=["calendar.events", "calendar.readonly"],
    email="ada@example.com",
    channel_token="canary-channel",
)


def google(**changes: Any) -> pb.Credential:
    changed = pb.GoogleCalendarCredential.FromString(GOOGLE.SerializeToString())
    for name, value in changes.items():
        changed.ClearField(name)  # type: ignore[arg-type]  # a field's name
        if value is not None:
            changed.MergeFrom(pb.GoogleCalendarCredential(**{name: value}))
    return pb.Credential(google_calendar=changed)


def payload(credential: pb.Credential) -> bytes:
    return credential.SerializeToString(deterministic=True)


def refused(check: Callable[[], Any]) -> list[str]:
    with pytest.raises(InvalidRequest) as caught:
        check()
    assert "canary" not in f"{caught.value} {caught.value.fields}"
    return list(caught.value.fields)


# Work.


def test_the_contract_names_no_task_that_is_unknown_here() -> None:
    assert {f"TASK_{task.name}" for task in Task} == set(store_pb.Task.keys()) - {"TASK_UNSPECIFIED"}
    assert {store_pb.Task.Name(number): task for number, task in wire_work.TASKS.items()} == {  # type: ignore[arg-type]  # an enum's number
        f"TASK_{task.name}": task for task in Task
    }


def scheduled(**fields: Any) -> store_pb.ScheduledWork:
    return store_pb.ScheduledWork(**{"task": store_pb.TASK_VERIFY, "due_in": DAY, **fields})


def registration(*work: store_pb.ScheduledWork) -> store_pb.RegisterResourcesRequest:
    return store_pb.RegisterResourcesRequest(schedule=store_pb.Schedule(work=work))


def test_a_schedule_is_taken_as_it_is_an_empty_one_too() -> None:
    rotation = scheduled(task=store_pb.TASK_ROTATE, due_in=Duration(nanos=500_000_000), by_hand=True)
    assert [
        ScheduledWork(task=Task.VERIFY, due_in=timedelta(days=1)),
        ScheduledWork(task=Task.ROTATE, due_in=timedelta(seconds=0.5), by_hand=True),
    ] == wire_work.schedule_from(registration(scheduled(), rotation))
    assert [] == wire_work.schedule_from(registration())
    assert wire_work.schedule_from(store_pb.RegisterResourcesRequest()) is None


@pytest.mark.parametrize(
    ("field", "work"),
    [
        ("task", [scheduled(task=store_pb.TASK_UNSPECIFIED)]),
        ("task", [scheduled(task=4)]),
        ("schedule", [scheduled(), scheduled(due_in=Duration())]),
        ("due_in", [store_pb.ScheduledWork(task=store_pb.TASK_VERIFY)]),
        ("due_in", [scheduled(due_in=Duration(seconds=-1))]),
        ("due_in", [scheduled(due_in=Duration(seconds=3653 * 86_400 + 1))]),
        ("due_in", [scheduled(due_in=Duration(seconds=2**63 - 1))]),
    ],
)
def test_a_schedule_that_is_none_is_refused(field: str, work: list[store_pb.ScheduledWork]) -> None:
    assert [field] == refused(lambda: wire_work.schedule_from(registration(*work)))


def finishing(**fields: Any) -> store_pb.FinishWorkRequest:
    at = {"org_id": "acme", "provider": pb.PROVIDER_RESEND, "task": store_pb.TASK_ROTATE, "owner": "worker"}
    return store_pb.FinishWorkRequest(**{**at, "due_in": DAY, **fields})


def test_how_a_piece_of_work_is_given_back_is_taken_as_it_is() -> None:
    request = finishing(failed=True, progress="p" * 256, by_hand=True)
    assert (Piece("acme", "resend", Task.ROTATE), "worker") == wire_work.piece_from(request)
    assert Finish(due_in=timedelta(days=1), failed=True, progress="p" * 256, by_hand=True) == wire_work.finish_from(
        request
    )
    assert Finish(due_in=timedelta()) == wire_work.finish_from(finishing(due_in=Duration()))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("org_id", {"org_id": ""}),
        ("provider", {"provider": pb.PROVIDER_UNSPECIFIED}),
        ("task", {"task": store_pb.TASK_UNSPECIFIED}),
        ("owner", {"owner": ""}),
        ("owner", {"owner": "o" * 65}),
        ("due_in", {"due_in": None}),
        ("due_in", {"due_in": Duration(nanos=-1)}),
        ("progress", {"progress": "p" * 257}),
        ("progress", {"progress": "a\0"}),
    ],
)
def test_a_piece_that_is_none_is_refused(field: str, changes: dict[str, Any]) -> None:
    request = finishing(**changes)
    assert [field] == refused(lambda: (wire_work.piece_from(request), wire_work.finish_from(request)))


def test_one_piece_is_wanted_unless_more_are_said() -> None:
    assert [1, 1, 2, 100] == [wire_work.max_items_from(number) for number in (0, 1, 2, 100)]
    for number in (-1, 101, 2**31 - 1):
        assert ["max_items"] == refused(lambda number=number: wire_work.max_items_from(number))  # type: ignore[misc]  # bound at once


# A refreshed access token.


def test_a_refreshed_credential_is_googles() -> None:
    assert ("googleCalendar", payload(google())) == wire_work.refreshed_from(google())


@pytest.mark.parametrize(
    ("field", "credential"),
    [
        ("credential", pb.Credential()),
        ("credential", pb.Credential(vapi=pb.VapiCredential(api_key="canary-0123456789"))),
        ("credential", pb.Credential(resend=pb.ResendCredential(api_key="re_canary-0123456789"))),
        ("credential", google(refresh_token=None)),
        ("credential.access_token", google(access_token=None)),
        ("credential.access_token", google(access_token="canary\n")),
        ("credential.access_token", google(access_token="canary" * 2000)),
        ("credential.expires_at", google(expires_at=None)),
    ],
    ids=range(8),
)
def test_anything_else_is_not_refreshed(field: str, credential: pb.Credential) -> None:
    assert [field] == refused(lambda: wire_work.refreshed_from(credential))


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"access_token": "ya29.another"}, True),
        ({"access_token": "ya29.another", "expires_at": Timestamp(seconds=1_900_000_000)}, True),
        ({"expires_at": None}, True),
        ({"refresh_token": "1//another"}, True),
        ({"refresh_token": "1//another", "access_token": "ya29.another"}, True),
        ({"refresh_token": "1//another", "email": "eve@example.com"}, False),
        ({"refresh_token": None}, True),
        ({"scopes": ["calendar.events"]}, False),
        ({"scopes": ["calendar.readonly", "calendar.events"]}, False),
        ({"email": "eve@example.com"}, False),
        ({"channel_token": "another"}, False),
        ({"channel_token": None}, False),
    ],
    ids=str,
)
def test_only_the_tokens_and_the_end_of_one_may_differ(changes: dict[str, Any], may: bool) -> None:
    assert may is wire_work.only_refreshed(payload(google()), payload(google(**changes)))
    assert may is wire_work.only_refreshed(payload(google(**changes)), payload(google()))


def test_what_is_not_googles_may_not_be_refreshed() -> None:
    vapi = payload(pb.Credential(vapi=pb.VapiCredential(api_key="canary-0123456789")))
    for before, after in ((vapi, vapi), (vapi, payload(google())), (payload(google()), vapi), (b"", b"")):
        assert not wire_work.only_refreshed(before, after)
    assert not wire_work.only_refreshed(b"\xff", payload(google()))


def test_a_field_that_only_a_newer_contract_knows_counts_too() -> None:
    unknown = pb.Credential.FromString(payload(google()))
    unknown.google_calendar.MergeFromString(b"\xfa\x01\x03new")
    assert payload(unknown) != payload(google())
    assert not wire_work.only_refreshed(payload(google()), payload(unknown))
    assert not wire_work.only_refreshed(payload(unknown), payload(google()))
    assert wire_work.only_refreshed(payload(unknown), payload(unknown))


# Consents.


def state(**changes: Any) -> store_pb.KeepOAuthStateRequest:
    whole = {"org_id": "acme", "provider": pb.PROVIDER_GOOGLE_CALENDAR, "state_hash": HASH, "binding": OTHER_HASH}
    return store_pb.KeepOAuthStateRequest(**{**whole, **changes})


def test_a_state_is_taken_as_it_is_and_does_not_show_itself() -> None:
    found = wire_work.oauth_state_from(state())
    assert (
        OAuthState(org_id="acme", provider="googleCalendar", state_hash=HASH, binding=OTHER_HASH)
        == found
        == wire_work.oauth_state_from(
            store_pb.UseOAuthStateRequest(
                org_id="acme", provider=pb.PROVIDER_GOOGLE_CALENDAR, state_hash=HASH, binding=OTHER_HASH
            )
        )
    )
    assert "\\x01" not in repr(found)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("org_id", {"org_id": "Acme"}),
        ("provider", {"provider": 99}),
        ("state_hash", {"state_hash": b""}),
        ("state_hash", {"state_hash": HASH[:-1]}),
        ("binding", {"binding": HASH + b"\0"}),
    ],
)
def test_a_state_that_is_none_is_refused(field: str, changes: dict[str, Any]) -> None:
    assert [field] == refused(lambda: wire_work.oauth_state_from(state(**changes)))


def test_a_state_lasts_ten_minutes_at_the_most() -> None:
    assert timedelta(minutes=10) == wire_work.state_lasts_from(Duration(seconds=600))
    for duration in (Duration(), Duration(seconds=-1), Duration(seconds=600, nanos=1), Duration(seconds=2**63 - 1)):
        assert ["duration"] == refused(lambda duration=duration: wire_work.state_lasts_from(duration))  # type: ignore[misc]  # bound at once


@given(data=st.binary(max_size=64) | st.builds(lambda b: payload(google()) + b, st.binary(max_size=16)))
def test_no_bytes_are_taken_for_a_refreshed_credential_by_mistake(data: bytes) -> None:
    if wire_work.only_refreshed(payload(google()), data):
        found = pb.Credential.FromString(data).google_calendar
        assert (GOOGLE.refresh_token, GOOGLE.channel_token, list(GOOGLE.scopes)) == (
            found.refresh_token,
            found.channel_token,
            list(found.scopes),
        )
