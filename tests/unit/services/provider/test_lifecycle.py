import asyncio
from typing import Any

import pytest

from services.provider import lifecycle as module
from services.provider.connect import Connect
from services.provider.integration import State
from services.provider.lease import Leases
from services.provider.lifecycle import Lifecycle
from services.provider.provider import Refused, Verdict
from services.provider.work import Timetable
from tenantvault.credentials import Provider, ResendCredential, Resource, ResourceKind
from tenantvault.errors import (
    CredentialNotFound,
    CredentialUnreadable,
    InsufficientScope,
    InvalidRequest,
    LeaseHeld,
    ProviderRefused,
    ProviderResourceMissing,
    ProviderUnavailable,
    ProviderUnreachable,
    ProviderValidation,
    RateLimited,
    VersionConflict,
)
from tests.unit.services.provider.fake_provider import Keyed, key
from tests.unit.services.provider.fake_vault import FakeVault, connected

ORG = ("acme", Provider.RESEND)
NO_ANSWERS = [ProviderUnavailable, RateLimited]


async def brief_sleep(seconds: float) -> None:
    """Short pauses take no time; a lease's keeper sleeps for as long as the test runs."""
    if seconds >= 1:
        await asyncio.Event().wait()
    await asyncio.sleep(0)


class Desk:
    """The verbs on a connected integration."""

    def __init__(self) -> None:
        self.vault = FakeVault()
        self.provider = Keyed()
        connected(self.vault, *ORG, key("key-0"), Resource(ResourceKind.VAPI_ASSISTANT, "a-1", "inbound"))
        self.before = self.vault.integrations[ORG]
        providers = (self.provider,)
        leases = Leases(self.vault, seconds=15.0, sleep=brief_sleep)
        connect = Connect(self.vault, providers, leases, Timetable(now=self.vault.moment))
        self.lifecycle = Lifecycle(self.vault, providers, leases, connect)

    def answers(self, answer: Verdict | Exception) -> None:
        """From now on the provider says this to every test."""

        async def test(credential: ResendCredential) -> Verdict:
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.provider.test = test  # type: ignore[method-assign]


async def test_a_yes_is_recorded_with_what_there_is_to_know() -> None:
    desk = Desk()
    report = await desk.lifecycle.verify(*ORG, on_behalf_of="ada")
    shown = report.integration
    assert (State.CONNECTED, ("Mind the gap.",), "the account") == (shown.state, shown.warnings, shown.account)
    assert shown.warnings == report.warnings
    assert ["ada"] == desk.vault.origins


async def test_what_is_not_as_it_was_provisioned_is_a_warning() -> None:
    desk = Desk()
    desk.provider.drift = ("The inbound assistant is gone.",)
    report = await desk.lifecycle.verify(*ORG)
    assert ("Mind the gap.", "The inbound assistant is gone.") == report.integration.warnings
    assert report.integration.state is State.CONNECTED


async def test_a_no_is_recorded_with_its_sentence_and_reason_and_is_no_error() -> None:
    desk = Desk()
    desk.provider.account.keys.clear()
    shown = (await desk.lifecycle.verify(*ORG)).integration
    assert (State.REFUSED, "No such key.") == (shown.state, shown.verification_error)
    assert "INVALID_CREDENTIALS" == shown.verification_reason


@pytest.mark.parametrize("error", NO_ANSWERS)
async def test_no_answer_is_an_error_and_records_nothing(error: type[ProviderUnreachable]) -> None:
    desk = Desk()
    desk.answers(error())
    with pytest.raises(error) as caught:
        await desk.lifecycle.verify(*ORG)
    assert caught.value.retryable
    assert ["credential"] == desk.vault.calls
    assert desk.before == desk.vault.integrations[ORG]


async def test_a_refusal_of_what_was_asked_is_not_held_against_the_credential() -> None:
    desk = Desk()
    desk.answers(Refused(ProviderValidation, "Not valid."))
    with pytest.raises(ProviderRefused, match="Not valid"):
        await desk.lifecycle.verify(*ORG)
    assert desk.before == desk.vault.integrations[ORG]


async def test_a_no_that_was_mended_becomes_a_yes() -> None:
    desk = Desk()
    desk.provider.account.keys.clear()
    await desk.lifecycle.verify(*ORG)
    desk.provider.account.keys.add("key-0")
    shown = (await desk.lifecycle.verify(*ORG)).integration
    assert (State.CONNECTED, "", "") == (shown.state, shown.verification_error, shown.verification_reason)


async def test_what_is_not_connected_cannot_be_verified() -> None:
    with pytest.raises(CredentialNotFound):
        await Desk().lifecycle.verify("globex", Provider.RESEND)


async def test_a_version_that_changed_meanwhile_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.provider.account.keys.clear()
    read = desk.vault.credential

    async def older(org_id: str, provider: Provider) -> object:
        active = await read(org_id, provider)
        desk.vault.integrations[ORG] = type(desk.before)(provider=Provider.RESEND, state=State.CONNECTED, version=2)
        return active

    monkeypatch.setattr(desk.vault, "credential", older)
    with pytest.raises(VersionConflict):
        await desk.lifecycle.verify(*ORG)
    assert desk.vault.integrations[ORG].state is State.CONNECTED


async def test_a_disconnect_makes_unreadable_first_and_then_releases() -> None:
    desk = Desk()

    async def release(org_id: str, credential: ResendCredential, *, known: tuple[Resource, ...]) -> tuple[str, ...]:
        assert desk.vault.integrations[ORG].state is State.DISCONNECTED
        assert ("key-0", desk.before.resources) == (credential.api_key.reveal(), known)
        return ("The webhook is still there.",)

    desk.provider.release = release  # type: ignore[method-assign]
    report = await desk.lifecycle.disconnect(*ORG, on_behalf_of="ada")
    assert report.integration.state is State.DISCONNECTED
    assert ("The webhook is still there.",) == report.unreleased
    assert ["ada"] == desk.vault.origins
    with pytest.raises(CredentialNotFound):
        await desk.lifecycle.verify(*ORG)


async def test_a_provider_that_hangs_does_not_hold_a_disconnect_up(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()

    async def release(*_: object, **__: object) -> tuple[str, ...]:
        await asyncio.Event().wait()
        return ()

    monkeypatch.setattr(module, "RELEASE_SECONDS", 0.01)
    desk.provider.release = release  # type: ignore[method-assign]
    report = await desk.lifecycle.disconnect(*ORG)
    assert report.integration.state is State.DISCONNECTED
    assert 1 == len(report.unreleased)


async def test_disconnecting_again_releases_nothing_again() -> None:
    desk = Desk()
    await desk.lifecycle.disconnect(*ORG)
    report = await desk.lifecycle.disconnect(*ORG)
    assert report.integration.state is State.DISCONNECTED
    assert ["key-0"] == desk.provider.released
    assert "before" in report.unreleased[0], "the first one may have been cut off"


async def unfinished() -> Desk:
    """A setup that was cut off before anything was registered."""
    desk = Desk()
    desk.vault.versions.clear()
    desk.vault.integrations.clear()
    await desk.vault.put(ORG[0], key("key-0"), expected_version=0, on_behalf_of="")
    return desk


async def test_a_setup_that_has_not_ended_is_disconnected_and_released() -> None:
    desk = await unfinished()
    desk.provider.left = ("The webhook is still there.",)
    report = await desk.lifecycle.disconnect(*ORG)
    assert report.integration.state is State.DISCONNECTED
    assert ["key-0"] == desk.provider.released
    assert ("The webhook is still there.",) == report.unreleased
    await desk.lifecycle.reconnect(*ORG)
    assert desk.vault.integrations[ORG].state is State.CONNECTED


async def test_a_setup_that_was_cut_off_just_now_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = await unfinished()
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    refused = iter(range(3))
    acquire = desk.vault.acquire_lease

    async def held_at_first(*where: Any, **what: Any) -> None:
        if next(refused, None) is not None:
            raise LeaseHeld(retry_after=0.1)
        await acquire(*where, **what)

    desk.vault.acquire_lease = held_at_first  # type: ignore[method-assign]
    report = await desk.lifecycle.disconnect(*ORG)
    assert () == report.unreleased
    assert ["key-0"] == desk.provider.released


async def test_what_others_are_at_is_left_to_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    desk.vault.leases[ORG] = ("another", 1000.0)
    report = await desk.lifecycle.disconnect(*ORG)
    assert report.integration.state is State.DISCONNECTED
    assert "under way" in report.unreleased[0]
    assert not desk.provider.released


async def test_whoever_connects_again_meanwhile_keeps_what_they_made() -> None:
    desk = Desk()
    acquire = desk.vault.acquire_lease

    async def after_a_reconnect(*where: Any, **what: Any) -> None:
        await desk.vault.reconnect(*ORG, on_behalf_of="eve")
        await acquire(*where, **what)

    desk.vault.acquire_lease = after_a_reconnect  # type: ignore[method-assign]
    report = await desk.lifecycle.disconnect(*ORG)
    assert () == report.unreleased
    assert not desk.provider.released


async def test_a_credential_that_cannot_be_opened_can_be_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()

    async def unreadable(*_: object) -> object:
        raise CredentialUnreadable

    monkeypatch.setattr(desk.vault, "credential", unreadable)
    report = await desk.lifecycle.disconnect(*ORG)
    assert report.integration.state is State.DISCONNECTED
    assert "cannot be opened" in report.unreleased[0]


async def test_what_was_never_connected_cannot_be_disconnected() -> None:
    with pytest.raises(CredentialNotFound):
        await Desk().lifecycle.disconnect("globex", Provider.RESEND)


async def test_a_reconnect_tests_and_makes_again_what_was_released() -> None:
    desk = Desk()
    await desk.lifecycle.disconnect(*ORG)
    report = await desk.lifecycle.reconnect(*ORG, on_behalf_of="ada")
    assert report.integration.state is State.CONNECTED
    assert "Provisioned with care." in report.warnings
    assert 1 == report.integration.version
    assert ["", "ada", "ada", "ada"] == desk.vault.origins
    assert desk.vault.tasks


async def test_a_reconnect_of_what_is_refused_by_now_shows_it() -> None:
    desk = Desk()
    await desk.lifecycle.disconnect(*ORG)
    desk.answers(Refused(InsufficientScope, "Not enough."))
    shown = (await desk.lifecycle.reconnect(*ORG)).integration
    assert (State.REFUSED, "INSUFFICIENT_SCOPE") == (shown.state, shown.verification_reason)


async def test_a_reconnect_whose_number_is_gone_is_shown_as_refused() -> None:
    desk = Desk()
    await desk.lifecycle.disconnect(*ORG)
    desk.answers(Refused(ProviderResourceMissing, "Not yours.", "phoneNumber"))
    shown = (await desk.lifecycle.reconnect(*ORG)).integration
    assert (State.REFUSED, "PROVIDER_RESOURCE_MISSING") == (shown.state, shown.verification_reason)


@pytest.mark.parametrize("error", NO_ANSWERS)
async def test_a_reconnect_stands_when_the_provider_is_away(error: type[ProviderUnreachable]) -> None:
    desk = Desk()
    await desk.lifecycle.disconnect(*ORG)
    desk.answers(error())
    report = await desk.lifecycle.reconnect(*ORG)
    assert report.integration.state is State.CONNECTED
    assert 1 == len(report.warnings)
    assert report.warnings == desk.vault.integrations[ORG].warnings
    assert "reconnect once more" in report.warnings[0]


async def test_a_reconnect_that_is_cut_off_says_that_something_is_missing() -> None:
    desk = Desk()
    await desk.lifecycle.disconnect(*ORG)
    desk.answers(VersionConflict())
    with pytest.raises(VersionConflict):
        await desk.lifecycle.reconnect(*ORG)
    assert 1 == len(desk.vault.integrations[ORG].warnings)


async def test_what_was_never_connected_cannot_be_reconnected() -> None:
    with pytest.raises(CredentialNotFound):
        await Desk().lifecycle.reconnect("globex", Provider.RESEND)


@pytest.mark.parametrize("verb", ["verify", "disconnect", "reconnect"])
async def test_a_provider_that_is_not_there_yet_is_refused(verb: str) -> None:
    desk = Desk()
    with pytest.raises(InvalidRequest) as caught:
        await getattr(desk.lifecycle, verb)("acme", Provider.VAPI)
    assert {"provider"} == set(caught.value.fields)
    assert not desk.vault.calls
