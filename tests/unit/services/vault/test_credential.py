import itertools

import pytest

from services.vault.credential import Plaintext, RecordName, State, state_of


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


def test_a_plaintext_masks_itself() -> None:
    plaintext = Plaintext(name=RecordName("acme", "vapi", 1, "k1"), payload=b"canary")
    assert "canary" not in f"{plaintext!r} {plaintext!s} {plaintext}"
    assert "acme" in repr(plaintext)
