import itertools
from datetime import UTC, datetime, timedelta

import pytest

from services.vault.credential import (
    Label,
    Plaintext,
    Pointer,
    Previous,
    RecordName,
    State,
    Version,
    VersionState,
    state_of,
    version_state,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("version", "is_active", "latest_version", "error", "state"),
    [
        (None, False, 0, "", State.EMPTY),
        (0, False, 0, "", State.EMPTY),
        (None, False, 1, "", State.CONNECTING),
        (0, False, 2, "", State.CONNECTING),
        (1, True, 1, "", State.CONNECTED),
        (1, True, 2, "", State.CONNECTED),
        (1, True, 1, "Refused.", State.REFUSED),
        (1, False, 1, "", State.DISCONNECTED),
        (1, False, 2, "Refused.", State.DISCONNECTED),
    ],
)
def test_the_state_is_what_the_facts_amount_to(
    version: int | None, *, is_active: bool, latest_version: int, error: str, state: State
) -> None:
    found = state_of(version=version, is_active=is_active, latest_version=latest_version, verification_error=error)
    assert state is found


def test_only_what_is_active_is_connected_or_refused() -> None:
    for version, is_active, latest, error in itertools.product((None, 0, 1), (False, True), (0, 1, 2), ("", "No.")):
        state = state_of(version=version, is_active=is_active, latest_version=latest, verification_error=error)
        assert (state in {State.CONNECTED, State.REFUSED}) == (bool(version) and is_active)


ROTATED = Pointer(
    provider="vapi", version=3, latest_version=4, is_active=True, previous_version=2, previous_until=NOW + MOMENT
)


@pytest.mark.parametrize(
    ("number", "pointer", "state"),
    [
        (1, ROTATED, VersionState.STORED),
        (2, ROTATED, VersionState.PREVIOUS),
        (3, ROTATED, VersionState.ACTIVE),
        (4, ROTATED, VersionState.STORED),
        (1, Pointer(provider="vapi", latest_version=1), VersionState.STORED),
    ],
)
def test_a_version_is_what_the_pointer_says(number: int, pointer: Pointer, state: VersionState) -> None:
    version = Version(version=number, hint="", created_at=NOW)
    assert state is version_state(version, pointer, NOW)
    destroyed = Version(version=number, hint="", created_at=NOW, destroyed_at=NOW)
    assert VersionState.DESTROYED is version_state(destroyed, pointer, NOW)


@pytest.mark.parametrize(("after", "state"), [(0 * MOMENT, VersionState.PREVIOUS), (MOMENT, VersionState.STORED)])
def test_the_version_before_is_that_until_its_overlap_ends(after: timedelta, state: VersionState) -> None:
    assert state is version_state(Version(version=2, hint="", created_at=NOW), ROTATED, NOW + after)


def test_a_plaintext_masks_itself() -> None:
    previous = Previous(1, b"canary of before", NOW)
    plaintext = Plaintext(Label(name=RecordName("acme", "vapi", 2, "k1")), payload=b"canary", previous=previous)
    for shown in (repr(plaintext), str(plaintext), f"{plaintext}", repr(previous), str(previous)):
        assert "canary" not in shown
    assert "acme" in repr(plaintext)
    assert "version=1" in repr(plaintext)
