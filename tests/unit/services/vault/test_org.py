from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vault import org as rules
from services.vault.credential import Facts, Org, OrgState, Pointer, Resource, Version
from services.vault.org import Changed
from tenantvault.errors import (
    CredentialNotFound,
    OrgFrozen,
    OrgShredded,
    TenantVaultError,
    VersionConflict,
    VersionNotFound,
)

NOW: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
RESOURCES: Final = [Resource("vapi_assistant", "assistant-1", "inbound"), Resource("vapi_assistant", "assistant-2")]

CONNECTED: Final = Pointer(provider="vapi", version=2, latest_version=2, is_active=True, registered=4, resources=1)
ROTATED: Final = replace(CONNECTED, previous_version=1, previous_until=NOW + HOUR)
WAITING: Final = replace(CONNECTED, latest_version=3)
DISCONNECTED: Final = replace(CONNECTED, is_active=False)
PUT: Final = Pointer(provider="vapi", latest_version=1)
NOTHING_SAID: Final = Facts()
SAID_YES: Final = Facts(account="")
TWILIO: Final = Pointer(provider="twilio", version=1, latest_version=1, is_active=True, registered=2)


def org(*pointers: Pointer, state: OrgState = OrgState.ACTIVE, generation: int = 6) -> Org:
    return Org(
        org_id="acme", state=state, generation=generation, pointers={pointer.provider: pointer for pointer in pointers}
    )


def version(number: int, *, was_active: bool = True, destroyed: bool = False) -> Version:
    return Version(
        version=number,
        hint="••••",
        created_at=NOW - HOUR,
        was_active=was_active,
        destroyed_at=NOW if destroyed else None,
    )


def pointer_of(changed: Changed | None, provider: str = "vapi") -> Pointer:
    assert changed is not None
    return changed.org.pointers[provider]


def org_of(changed: Changed | None) -> Org:
    assert changed is not None
    return changed.org


def activate(
    before: Org,
    number: int,
    resources: Sequence[Resource] = (),
    *,
    overlap: timedelta = timedelta(),
    facts: Facts = NOTHING_SAID,
    **about: bool,
) -> Changed:
    return rules.activate(before, "vapi", version(number, **about), resources, now=NOW, overlap=overlap, facts=facts)


# Putting.


def test_a_first_put_makes_an_integration_that_nobody_can_read() -> None:
    changed = rules.put(org(), "vapi", 1)
    assert Pointer(provider="vapi", latest_version=1) == pointer_of(changed)
    assert ("credential.put", "vapi", 1, "ok", None, False, False, None) == (
        changed.action,
        changed.provider,
        changed.version,
        changed.outcome,
        changed.resources,
        changed.connected,
        changed.verified,
        changed.facts,
    )


@pytest.mark.parametrize("before", [CONNECTED, ROTATED, DISCONNECTED], ids=["connected", "rotated", "disconnected"])
def test_a_put_moves_the_newest_and_nothing_else(before: Pointer) -> None:
    assert replace(before, latest_version=3) == pointer_of(rules.put(org(before), "vapi", 3))


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_put_that_does_not_follow_the_newest_is_a_conflict(number: int) -> None:
    with pytest.raises(VersionConflict):
        rules.put(org(CONNECTED), "vapi", number)


# Activating.


def test_a_first_activation_connects() -> None:
    changed = activate(org(PUT), 1, RESOURCES, overlap=HOUR, was_active=False)
    assert Pointer(
        provider="vapi", version=1, latest_version=1, is_active=True, registered=7, resources=2
    ) == pointer_of(changed)
    assert ("credential.activate", "vapi", 1, "ok", RESOURCES, True, True, SAID_YES) == (
        changed.action,
        changed.provider,
        changed.version,
        changed.outcome,
        changed.resources,
        changed.connected,
        changed.verified,
        changed.facts,
    )


def test_an_activation_leaves_the_version_before_for_the_overlap() -> None:
    after = pointer_of(activate(org(WAITING), 3, overlap=HOUR))
    assert (3, 2, NOW + HOUR, 7, 0) == (
        after.version,
        after.previous_version,
        after.previous_until,
        after.registered,
        after.resources,
    )


@pytest.mark.parametrize(
    ("before", "overlap"),
    [
        (WAITING, timedelta()),
        (WAITING, -HOUR),
        (replace(WAITING, is_active=False), HOUR),
        (replace(ROTATED, latest_version=3), timedelta()),
        (replace(ROTATED, latest_version=3, is_active=False), HOUR),
    ],
)
def test_without_an_overlap_or_a_connection_there_is_no_version_before(before: Pointer, overlap: timedelta) -> None:
    after = pointer_of(activate(org(before), 3, overlap=overlap))
    assert (3, True, 0, None) == (after.version, after.is_active, after.previous_version, after.previous_until)


def test_of_two_rotations_within_the_overlap_the_last_version_before_stays() -> None:
    after = pointer_of(activate(org(replace(ROTATED, latest_version=3)), 3, overlap=HOUR))
    assert (3, 2) == (after.version, after.previous_version)


def test_activating_again_registers_anew_and_keeps_the_overlap() -> None:
    changed = activate(org(ROTATED), 2, RESOURCES, overlap=2 * HOUR)
    assert replace(ROTATED, registered=7, resources=2) == pointer_of(changed)
    assert (False, True, NOTHING_SAID) == (changed.connected, changed.verified, changed.facts)


@pytest.mark.parametrize("said", [None, ""])
def test_activating_again_keeps_the_account_that_is_known_unless_one_is_named(said: str | None) -> None:
    assert NOTHING_SAID == activate(org(ROTATED), 2, facts=Facts(account=said)).facts
    assert Facts(account="ada@example.com") == activate(org(ROTATED), 2, facts=Facts(account="ada@example.com")).facts
    # Another version is another account.
    assert SAID_YES == activate(org(WAITING), 3, facts=Facts(account=said)).facts


def test_activating_what_is_disconnected_connects_it() -> None:
    changed = activate(org(DISCONNECTED), 2, overlap=HOUR)
    assert replace(CONNECTED, registered=7, resources=0) == pointer_of(changed)
    assert changed.connected


@pytest.mark.parametrize(
    ("before", "about"),
    [
        (None, version(1)),
        (PUT, None),
        (PUT, version(2)),
        (PUT, version(1, destroyed=True)),
        (WAITING, version(1)),
        (WAITING, version(4)),
        (replace(DISCONNECTED, latest_version=3), version(2)),
        # A disconnect has passed version 3 over.
        (replace(DISCONNECTED, latest_version=4), version(3)),
    ],
)
def test_only_the_newest_version_that_is_there_can_be_activated(before: Pointer | None, about: Version | None) -> None:
    with pytest.raises(VersionConflict):
        rules.activate(org(before) if before else org(), "vapi", about, [], now=NOW, overlap=HOUR, facts=NOTHING_SAID)


@pytest.mark.parametrize(
    "before",
    [
        WAITING,
        # A newer one was passed over, or there was a rollback.
        replace(ROTATED, latest_version=5),
    ],
)
def test_the_active_version_can_be_registered_again_also_when_it_is_not_the_newest(before: Pointer) -> None:
    changed = activate(org(before), 2, RESOURCES, overlap=HOUR)
    assert replace(before, registered=7, resources=2) == pointer_of(changed)
    assert (RESOURCES, False) == (changed.resources, changed.connected)


def test_what_the_provider_said_at_an_activation_is_kept_and_ends_a_refusal() -> None:
    said = Facts(error="ignored", reason="IGNORED", warnings=("Spare numbers.",), account="ada@example.com")
    changed = activate(org(WAITING), 3, facts=said)
    assert Facts(warnings=("Spare numbers.",), account="ada@example.com") == changed.facts


# Verifying.


@pytest.mark.parametrize(
    ("said", "kept", "outcome"),
    [
        (Facts(), Facts(), "ok"),
        (Facts(account=""), Facts(), "ok"),
        (Facts(reason="IGNORED", warnings=("Soon over.",)), Facts(warnings=("Soon over.",)), "ok"),
        (Facts(account="ada@example.com"), Facts(account="ada@example.com"), "ok"),
        (Facts(error="Refused."), Facts(error="Refused."), "refused"),
        (
            Facts(error="Refused.", reason="INVALID_CREDENTIALS", warnings=("Soon over.",), account=""),
            Facts(error="Refused.", reason="INVALID_CREDENTIALS"),
            "refused",
        ),
    ],
)
def test_a_verification_keeps_the_answer(said: Facts, kept: Facts, outcome: str) -> None:
    changed = rules.verify(org(ROTATED), "vapi", 2, said)
    assert pointer_of(changed) == ROTATED
    assert ("credential.verify", 2, outcome, not said.error, kept, False) == (
        changed.action,
        changed.version,
        changed.outcome,
        changed.verified,
        changed.facts,
        changed.connected,
    )


NOT_CURRENT: Final = [
    (None, 1, CredentialNotFound),
    (PUT, 1, VersionConflict),
    (PUT, 0, VersionConflict),
    (CONNECTED, 1, VersionConflict),
    (WAITING, 3, VersionConflict),
    (DISCONNECTED, 2, VersionConflict),
]


@pytest.mark.parametrize(("before", "number", "error"), NOT_CURRENT)
def test_only_the_active_version_can_be_verified(
    before: Pointer | None, number: int, error: type[TenantVaultError]
) -> None:
    with pytest.raises(error):
        rules.verify(org(before) if before else org(), "vapi", number, Facts())


@pytest.mark.parametrize(("before", "number", "error"), NOT_CURRENT)
def test_only_the_active_version_can_be_refreshed(
    before: Pointer | None, number: int, error: type[TenantVaultError]
) -> None:
    with pytest.raises(error):
        rules.refresh(org(before) if before else org(), "vapi", number)


def test_a_refresh_moves_no_pointer_and_says_nothing_of_the_provider() -> None:
    changed = rules.refresh(org(ROTATED), "vapi", 2)
    assert pointer_of(changed) == ROTATED
    assert ("credential.refresh", 2, 7, None, None, False, False) == (
        changed.action,
        changed.version,
        changed.org.generation,
        changed.resources,
        changed.facts,
        changed.connected,
        changed.verified,
    )


# Disconnecting and reconnecting.


def test_a_disconnect_ends_the_overlap_too() -> None:
    changed = rules.disconnect(org(ROTATED), "vapi")
    assert changed is not None
    assert pointer_of(changed) == replace(DISCONNECTED, latest_version=3)
    assert ("credential.disconnect", 2) == (changed.action, changed.version)


@pytest.mark.parametrize("before", [CONNECTED, WAITING, replace(CONNECTED, version=1)])
def test_a_disconnect_passes_a_version_over_so_that_nothing_that_began_before_it_goes_on(before: Pointer) -> None:
    changed = rules.disconnect(org(before), "vapi")
    assert changed is not None
    assert replace(before, is_active=False, latest_version=before.latest_version + 1) == pointer_of(changed)
    with pytest.raises(VersionConflict):
        activate(changed.org, before.latest_version)
    for later in (changed.org, org_of(rules.reconnect(changed.org, "vapi"))):
        with pytest.raises(VersionConflict):
            rules.put(later, "vapi", before.latest_version + 1)
        assert before.latest_version + 2 == rules.put(later, "vapi", before.latest_version + 2).version


def test_what_is_connected_again_is_older_than_the_newest_and_can_be_registered_again_and_rolled_back() -> None:
    passed_over = replace(CONNECTED, latest_version=3)
    assert replace(passed_over, registered=7, resources=2) == pointer_of(activate(org(passed_over), 2, RESOURCES))
    assert replace(passed_over, version=1) == pointer_of(rules.roll_back(org(passed_over), "vapi", version(1), 2))
    assert replace(passed_over, is_active=False, latest_version=4) == pointer_of(
        rules.disconnect(org(passed_over), "vapi")
    )


def test_a_reconnect_makes_the_same_version_readable() -> None:
    changed = rules.reconnect(org(DISCONNECTED), "vapi")
    assert changed is not None
    assert pointer_of(changed) == CONNECTED
    assert ("credential.reconnect", 2, True) == (changed.action, changed.version, changed.connected)


def test_what_is_so_already_is_no_change() -> None:
    assert rules.disconnect(org(DISCONNECTED), "vapi") is None
    assert rules.reconnect(org(CONNECTED), "vapi") is None
    assert rules.roll_back(org(CONNECTED), "vapi", version(2), 1) is None
    assert rules.destroy(org(CONNECTED), "vapi", version(1, destroyed=True)) is None
    assert rules.freeze(org(state=OrgState.FROZEN)) is None
    assert rules.unfreeze(org()) is None
    assert rules.shred(org(state=OrgState.SHREDDED)) is None


@pytest.mark.parametrize("rule", [rules.disconnect, rules.reconnect])
def test_of_what_nothing_was_put_can_be_neither(rule: Callable[[Org, str], Changed | None]) -> None:
    with pytest.raises(CredentialNotFound):
        rule(org(TWILIO), "vapi")


def test_a_setup_that_has_not_ended_cannot_be_reconnected() -> None:
    with pytest.raises(CredentialNotFound):
        rules.reconnect(org(PUT), "vapi")


def test_a_disconnect_gives_a_setup_up_that_has_not_ended_and_its_credential_is_kept() -> None:
    changed = rules.disconnect(org(replace(PUT, latest_version=2)), "vapi")
    assert changed is not None
    assert Pointer(provider="vapi", version=2, latest_version=3) == pointer_of(changed)
    assert ("credential.disconnect", 2) == (changed.action, changed.version)
    with pytest.raises(VersionConflict):
        activate(changed.org, 2)
    assert pointer_of(rules.reconnect(changed.org, "vapi")).is_active


def test_what_a_setup_that_has_not_ended_begins_with_is_not_destroyed() -> None:
    with pytest.raises(VersionConflict):
        rules.destroy(org(replace(PUT, latest_version=2)), "vapi", version(2))
    assert rules.destroy(org(replace(PUT, latest_version=2)), "vapi", version(1)) is not None


def test_a_reconnect_says_what_there_is_to_know_until_the_provider_has_answered() -> None:
    changed = rules.reconnect(org(DISCONNECTED), "vapi", ["Not set up yet."])
    assert changed is not None
    assert Facts(warnings=["Not set up yet."]) == changed.facts
    assert not changed.verified


# Rolling back and destroying.


def test_a_rollback_ends_the_overlap_and_keeps_the_resources_and_the_count() -> None:
    changed = rules.roll_back(org(ROTATED), "vapi", version(1), 2)
    assert changed is not None
    assert replace(CONNECTED, version=1) == pointer_of(changed)
    assert ("credential.roll_back", 1, True, False, SAID_YES, None) == (
        changed.action,
        changed.version,
        changed.connected,
        changed.verified,
        changed.facts,
        changed.resources,
    )


@pytest.mark.parametrize(
    ("before", "about", "expected", "error"),
    [
        (None, version(1), 0, CredentialNotFound),
        (PUT, version(1), 0, CredentialNotFound),
        (DISCONNECTED, version(1), 2, CredentialNotFound),
        (CONNECTED, None, 2, VersionNotFound),
        (CONNECTED, version(1, destroyed=True), 2, VersionNotFound),
        (CONNECTED, version(1, was_active=False), 2, VersionNotFound),
        (WAITING, version(3, was_active=False), 2, VersionNotFound),
        (CONNECTED, version(1), 1, VersionConflict),
        (CONNECTED, version(1), 3, VersionConflict),
    ],
)
def test_a_rollback_that_does_not_fit_is_refused(
    before: Pointer | None, about: Version | None, expected: int, error: type[TenantVaultError]
) -> None:
    with pytest.raises(error):
        rules.roll_back(org(before) if before else org(), "vapi", about, expected)


@pytest.mark.parametrize(
    ("before", "number", "after"),
    [
        (WAITING, 1, WAITING),
        (WAITING, 3, WAITING),
        (DISCONNECTED, 1, DISCONNECTED),
        (ROTATED, 1, CONNECTED),
    ],
)
def test_a_version_is_destroyed_and_the_overlap_that_it_had(before: Pointer, number: int, after: Pointer) -> None:
    changed = rules.destroy(org(before), "vapi", version(number))
    assert changed is not None
    assert after == pointer_of(changed)
    assert ("credential.destroy", number) == (changed.action, changed.version)


@pytest.mark.parametrize(
    ("before", "about", "error"),
    [
        (None, version(1), VersionNotFound),
        (CONNECTED, None, VersionNotFound),
        (CONNECTED, version(2), VersionConflict),
        (DISCONNECTED, version(2), VersionConflict),
    ],
)
def test_what_is_active_or_not_there_is_not_destroyed(
    before: Pointer | None, about: Version | None, error: type[TenantVaultError]
) -> None:
    with pytest.raises(error):
        rules.destroy(org(before) if before else org(), "vapi", about)


# Whole orgs.


def test_freezing_and_unfreezing_touch_no_pointer() -> None:
    frozen = rules.freeze(org(ROTATED, TWILIO))
    assert frozen is not None
    assert (OrgState.FROZEN, "org.freeze", "", 0) == (
        frozen.org.state,
        frozen.action,
        frozen.provider,
        frozen.version,
    )
    unfrozen = rules.unfreeze(frozen.org)
    assert unfrozen is not None
    assert ("org.unfreeze", org(ROTATED, TWILIO, generation=8)) == (unfrozen.action, unfrozen.org)


@pytest.mark.parametrize("state", [OrgState.ACTIVE, OrgState.FROZEN])
def test_shredding_ends_every_pointer(state: OrgState) -> None:
    changed = rules.shred(org(ROTATED, TWILIO, replace(PUT, provider="resend"), state=state))
    assert changed is not None
    assert ("org.shred", OrgState.SHREDDED, 7) == (changed.action, changed.org.state, changed.org.generation)
    assert {
        "vapi": Pointer(provider="vapi", version=2, latest_version=2),
        "twilio": Pointer(provider="twilio", version=1, latest_version=1),
        "resend": Pointer(provider="resend", latest_version=1),
    } == changed.org.pointers


def test_a_new_key_is_a_change_of_the_generation_only() -> None:
    changed = rules.rotate_key(org(ROTATED))
    assert ("org.rotate_key", org(ROTATED, generation=7)) == (changed.action, changed.org)


# Every rule at once.

RULES: Final[dict[str, Callable[[Org, str, int], Changed | None]]] = {
    "put": rules.put,
    "activate": lambda before, provider, number: rules.activate(
        before, provider, version(number), RESOURCES, now=NOW, overlap=HOUR, facts=NOTHING_SAID
    ),
    "verify": lambda before, provider, number: rules.verify(before, provider, number, NOTHING_SAID),
    "refresh": rules.refresh,
    "disconnect": lambda before, provider, _: rules.disconnect(before, provider),
    "reconnect": lambda before, provider, _: rules.reconnect(before, provider),
    "roll back": lambda before, provider, number: rules.roll_back(
        before, provider, version(number), before.pointers.get(provider, PUT).version
    ),
    "destroy": lambda before, provider, number: rules.destroy(before, provider, version(number)),
    "freeze": lambda before, _, __: rules.freeze(before),
    "unfreeze": lambda before, _, __: rules.unfreeze(before),
    "shred": lambda before, _, __: rules.shred(before),
    "rotate the key": lambda before, _, __: rules.rotate_key(before),
}


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"freeze", "unfreeze", "shred", "disconnect", "destroy"}))
def test_a_frozen_org_is_not_changed(rule: str) -> None:
    with pytest.raises(OrgFrozen):
        RULES[rule](org(WAITING, state=OrgState.FROZEN), "vapi", 3)


@pytest.mark.parametrize("rule", ["unfreeze", "shred", "disconnect", "destroy"])
def test_what_takes_away_goes_through_a_freeze(rule: str) -> None:
    assert RULES[rule](org(WAITING, state=OrgState.FROZEN), "vapi", 3) is not None


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"shred"}))
@pytest.mark.parametrize("provider", ["vapi", "resend"])
def test_a_shredded_org_is_not_changed(rule: str, provider: str) -> None:
    shredded = rules.shred(org(WAITING))
    assert shredded is not None
    with pytest.raises(OrgShredded):
        RULES[rule](shredded.org, provider, 3)


@st.composite
def pointers(draw: st.DrawFn, provider: str) -> Pointer:
    """Any pointer that the rules can come to."""
    latest = draw(st.integers(1, 4))
    current = draw(st.integers(0, latest))
    active = bool(current) and draw(st.booleans())
    previous = draw(st.integers(0, latest)) if active else 0
    previous = 0 if previous == current else previous
    registered = draw(st.integers(1, 6)) if current else 0
    return Pointer(
        provider=provider,
        version=current,
        latest_version=latest,
        is_active=active,
        previous_version=previous,
        previous_until=draw(st.sampled_from([NOW - HOUR, NOW + HOUR])) if previous else None,
        registered=registered,
        resources=draw(st.integers(0, 3)) if registered else 0,
    )


@st.composite
def orgs(draw: st.DrawFn) -> Org:
    found = [draw(pointers(provider)) for provider in draw(st.sets(st.sampled_from(["vapi", "twilio"])))]
    state = draw(st.sampled_from([OrgState.ACTIVE, OrgState.ACTIVE, OrgState.FROZEN]))
    return org(*found, state=state, generation=draw(st.integers(6, 2**53)))


def sound(pointer: Pointer) -> bool:
    """What must be so of every pointer."""
    return (
        0 <= pointer.version <= pointer.latest_version
        and 0 <= pointer.previous_version <= pointer.latest_version
        and (pointer.version > 0 or not pointer.is_active)
        and (pointer.previous_version == 0 or pointer.previous_version != pointer.version)
        and (pointer.previous_version > 0) == (pointer.previous_until is not None)
        and (pointer.is_active or pointer.previous_version == 0)
    )


def done(rule: str, before: Org, provider: str, number: int) -> Changed | None:
    """A rule's change; None when it changes nothing or is refused."""
    try:
        return RULES[rule](before, provider, number)
    except TenantVaultError:
        return None


A_RULE: Final[Any] = st.sampled_from(sorted(RULES))
A_PROVIDER: Final = st.sampled_from(["vapi", "twilio"])
A_NUMBER: Final = st.integers(1, 6)


@given(before=orgs(), rule=A_RULE, provider=A_PROVIDER, number=A_NUMBER)
def test_each_change_counts_the_generation_up_by_one_and_leaves_sound_pointers(
    before: Org, rule: str, provider: str, number: int
) -> None:
    kept = replace(before, pointers=dict(before.pointers))
    assert all(map(sound, before.pointers.values()))
    changed = done(rule, before, provider, number)
    # The org as it was is not touched, whatever comes out.
    assert kept == before
    if changed is None:
        return
    assert before.generation + 1 == changed.org.generation
    assert before.org_id == changed.org.org_id
    assert all(sound(pointer) for pointer in changed.org.pointers.values())
    assert all(name == pointer.provider for name, pointer in changed.org.pointers.items())


@given(before=orgs(), rule=A_RULE, provider=A_PROVIDER, number=A_NUMBER)
def test_a_change_to_one_integration_leaves_the_others_and_the_state_alone(
    before: Org, rule: str, provider: str, number: int
) -> None:
    changed = done(rule, before, provider, number)
    if changed is None or not changed.provider:
        return
    assert changed.provider == provider
    assert before.state is changed.org.state
    others = {name: pointer for name, pointer in changed.org.pointers.items() if name != provider}
    assert {name: pointer for name, pointer in before.pointers.items() if name != provider} == others
    assert changed.version > 0


@given(before=orgs(), rule=A_RULE, provider=A_PROVIDER, number=A_NUMBER)
def test_only_a_put_or_a_disconnect_moves_the_newest_and_never_back(
    before: Org, rule: str, provider: str, number: int
) -> None:
    changed = done(rule, before, provider, number)
    if changed is None:
        return
    for name, after in changed.org.pointers.items():
        moved = after.latest_version - before.pointers.get(name, Pointer(provider=name)).latest_version
        assert moved in ({"put": (1,), "disconnect": (1,)}.get(rule, (0,)) if name == provider else (0,))


@given(before=orgs(), rule=A_RULE, provider=A_PROVIDER, number=A_NUMBER)
def test_only_what_says_so_makes_anything_readable(before: Org, rule: str, provider: str, number: int) -> None:
    changed = done(rule, before, provider, number)
    if changed is None:
        return
    for name, after in changed.org.pointers.items():
        was = before.pointers.get(name, Pointer(provider=name))
        readable_before = {was.version, was.previous_version} if was.is_active else set()
        readable_after = {after.version, after.previous_version} - {0} if after.is_active else set()
        if name == provider and rule in {"activate", "reconnect", "roll back"}:
            assert readable_after - readable_before <= {after.version}
        else:
            assert readable_after <= readable_before


@given(before=orgs(), resources=st.lists(st.sampled_from(RESOURCES), unique=True), provider=A_PROVIDER)
def test_resources_are_registered_with_the_generation_of_their_change_only(
    before: Org, resources: list[Resource], provider: str
) -> None:
    pointer = before.pointers.get(provider)
    if pointer is None or before.state is not OrgState.ACTIVE:
        return
    changed = rules.activate(
        before, provider, version(pointer.latest_version), resources, now=NOW, overlap=HOUR, facts=NOTHING_SAID
    )
    after = changed.org.pointers[provider]
    assert (changed.org.generation, len(resources)) == (after.registered, after.resources)
    assert resources == changed.resources
    for rule in RULES.keys() - {"activate", "shred"}:
        later = done(rule, changed.org, provider, after.version)
        if later is not None:
            kept = later.org.pointers[provider]
            assert (after.registered, after.resources) == (kept.registered, kept.resources)
            assert later.resources is None


@given(before=orgs(), rule=A_RULE, provider=A_PROVIDER, number=A_NUMBER)
def test_after_a_shredding_nothing_works(before: Org, rule: str, provider: str, number: int) -> None:
    shredded = rules.shred(before)
    assert shredded is not None
    assert not any(pointer.is_active or pointer.resources for pointer in shredded.org.pointers.values())
    if rule == "shred":
        assert rules.shred(shredded.org) is None
        return
    with pytest.raises(OrgShredded):
        RULES[rule](shredded.org, provider, number)


@given(before=orgs(), rule=A_RULE, provider=A_PROVIDER, number=A_NUMBER)
def test_of_a_frozen_org_nothing_becomes_readable(before: Org, rule: str, provider: str, number: int) -> None:
    frozen = replace(before, state=OrgState.FROZEN)
    changed = done(rule, frozen, provider, number)
    if changed is not None:
        assert rule in {"unfreeze", "shred", "disconnect", "destroy"}
        for name, after in changed.org.pointers.items():
            assert after.is_active <= before.pointers[name].is_active


@given(before=orgs(), provider=A_PROVIDER, number=A_NUMBER)
def test_what_is_destroyed_is_neither_active_nor_the_version_before(before: Org, provider: str, number: int) -> None:
    changed = done("destroy", before, provider, number)
    if changed is not None:
        after = changed.org.pointers[provider]
        assert number not in {after.version, after.previous_version}


@given(before=orgs(), rule=A_RULE, provider=A_PROVIDER, number=A_NUMBER)
def test_a_change_that_was_made_is_not_made_again(before: Org, rule: str, provider: str, number: int) -> None:
    """Rolling back, disconnecting, freezing and so on: repeating it changes nothing."""
    changed = done(rule, before, provider, number)
    if changed is not None and rule in {"disconnect", "reconnect", "roll back", "freeze", "unfreeze", "shred"}:
        assert RULES[rule](changed.org, provider, number) is None
