from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.provider.provider import Accepted
from services.provider.work import ScheduledWork, Task, Timetable
from tenantvault.credentials import GoogleCalendarCredential, Provider
from tenantvault.secret import Secret
from tests.unit.services.provider.fake_provider import Consented, Keyed, key
from tests.unit.services.provider.fake_vault import NOW

DAY = 86_400.0
YES = Accepted()


def timetable(jitter: float = 0.5, **more: float) -> Timetable:
    return Timetable(now=lambda: NOW, jitter=lambda: jitter, **more)  # type: ignore[arg-type]


def token(left: float) -> GoogleCalendarCredential:
    return GoogleCalendarCredential(
        refresh_token=Secret("r"), access_token=Secret("a"), expires_at=NOW + timedelta(seconds=left), scopes=()
    )


def test_a_key_is_verified_daily_and_rotated_every_ninety_days() -> None:
    assert timetable().of(Keyed(), key("k"), YES) == [
        ScheduledWork(Task.VERIFY, DAY),
        ScheduledWork(Task.ROTATE, 90 * DAY),
    ]


def test_a_key_that_nobody_can_rotate_is_a_reminder() -> None:
    [_, rotation] = timetable().of(Keyed(rotates=False), key("k"), YES)
    assert rotation == ScheduledWork(Task.ROTATE, 90 * DAY, by_hand=True)
    [_, rotation] = timetable().of(Keyed(), key(""), YES)
    assert rotation.by_hand
    [_, rotation] = timetable().of(Keyed(), key("k"), Accepted(may_rotate=False))
    assert rotation.by_hand


def test_a_rotation_can_be_due_now_or_never() -> None:
    assert timetable().of(Keyed(), key("k"), YES, rotate_now=True)[1].due_in == 0.0
    never = Timetable(now=lambda: NOW, rotation_days={Provider.RESEND: 0.0})
    assert [Task.VERIFY] == [work.task for work in never.of(Keyed(), key("k"), YES, rotate_now=True)]
    assert 3000 * DAY < never.next_rotation(Provider.RESEND) < 3650 * DAY


def test_a_consent_is_refreshed_and_never_rotated() -> None:
    work = timetable().of(Consented(lambda: NOW), token(3600.0), YES)
    assert work == [ScheduledWork(Task.VERIFY, DAY), ScheduledWork(Task.REFRESH, 3000.0)]


@pytest.mark.parametrize("left", [-10.0, 0.0, 100.0, 500.0])
def test_a_token_that_ends_soon_is_refreshed_soon(left: float) -> None:
    assert 30.0 == timetable().next_refresh(NOW + timedelta(seconds=left))


@given(jitter=st.floats(0.0, 1.0), seconds=st.floats(1.0, 1e6))
def test_verifications_are_spread_by_a_fifth(jitter: float, seconds: float) -> None:
    due = timetable(jitter, verify_seconds=seconds).next_verify()
    assert 0.8 * seconds <= due * 1.000001
    assert due <= 1.2 * seconds * 1.000001


@given(attempts=st.integers(1, 10_000), jitter=st.floats(0.0, 1.0), asked=st.floats(0.0, 10_000.0))
def test_a_backoff_grows_to_an_hour_and_heeds_what_was_asked(attempts: int, jitter: float, asked: float) -> None:
    pause = timetable(jitter).backoff(attempts, at_least=asked)
    longest = min(60.0 * 2.0 ** min(attempts - 1, 16), 3600.0)
    assert max(asked, longest / 2) <= pause <= max(asked, longest)
