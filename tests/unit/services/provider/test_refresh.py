import asyncio
from collections import deque
from datetime import timedelta

import pytest

from services.provider import refresh as module
from services.provider.integration import State
from services.provider.lease import Leases
from services.provider.provider import Checkpoint, pass_by
from services.provider.refresh import Refresh
from tenantvault.credentials import GoogleCalendarCredential, Provider
from tenantvault.errors import (
    CredentialNotFound,
    InvalidRequest,
    LeaseHeld,
    ProviderUnavailable,
    RateLimited,
    ReauthRequired,
    VaultUnavailable,
    VersionConflict,
)
from tenantvault.secret import Secret
from tests.unit.services.provider.fake_provider import Consented, Keyed
from tests.unit.services.provider.fake_vault import NOW, FakeVault, connected

ORG = ("acme", Provider.GOOGLE_CALENDAR)
HOUR = timedelta(hours=1)


class Killed(BaseException):
    """The process is gone."""


async def for_ever(seconds: float) -> None:
    if seconds >= 1:
        await asyncio.Event().wait()
    await asyncio.sleep(0)


class World:
    """A connected Google account; its access token ends in `left` seconds."""

    def __init__(self, left: float = 30.0) -> None:
        self.vault = FakeVault()
        self.provider = Consented(self.vault.moment)
        token = GoogleCalendarCredential(
            refresh_token=Secret("refresh-token-1"),
            access_token=Secret("old-access-token"),
            expires_at=NOW + timedelta(seconds=left),
            scopes=("calendar",),
            email="ada@example.com",
            channel_token=Secret("channel-1"),
        )
        connected(self.vault, *ORG, token)

    def refresh(self, checkpoint: Checkpoint = pass_by) -> Refresh:
        leases = Leases(self.vault, seconds=15.0, sleep=for_ever, jitter=lambda: 0.0)
        return Refresh(self.vault, (self.provider, Keyed()), leases, now=self.vault.moment, checkpoint=checkpoint)

    @property
    def stored(self) -> GoogleCalendarCredential:
        credential = self.vault.versions[ORG][-1]
        assert isinstance(credential, GoogleCalendarCredential)
        return credential


async def test_a_token_that_lasts_is_left_alone() -> None:
    world = World(left=60.0)
    assert await world.refresh()(*ORG, min_life=60.0) == NOW + timedelta(seconds=60)
    assert ["credential"] == world.vault.calls
    assert 0 == world.provider.account.requests


async def test_a_token_that_ends_is_renewed_in_its_version() -> None:
    world = World()
    assert await world.refresh()(*ORG, min_life=60.0, on_behalf_of="schedule") == NOW + HOUR
    assert "access-token-0" == world.stored.access_token.reveal()
    assert "refresh-token-1" == world.stored.refresh_token.reveal()
    assert 1 == len(world.vault.versions[ORG])
    assert ["schedule"] == world.vault.origins


async def test_a_hundred_at_once_ask_the_provider_once() -> None:
    world = World()
    one, other = world.refresh(), world.refresh()
    ends = await asyncio.gather(*(refresh(*ORG, min_life=60.0) for refresh in [one, other] * 50))
    assert {NOW + HOUR} == set(ends)
    assert 1 == world.provider.account.requests
    assert not world.vault.leases


async def test_a_hundred_at_once_ask_a_provider_that_is_away_once() -> None:
    world = World()
    world.provider.account.down = True
    refresh = world.refresh()
    came = await asyncio.gather(*(refresh(*ORG, min_life=60.0) for _ in range(100)), return_exceptions=True)
    assert {ProviderUnavailable} == {type(error) for error in came}
    assert 100 == len({id(error) for error in came}), "each its own"
    assert 1 == world.provider.account.requests
    world.provider.account.down = False
    world.vault.time += 3.0
    assert world.vault.moment() + HOUR == await refresh(*ORG, min_life=60.0)


async def test_a_provider_that_asks_to_wait_is_left_alone_for_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    asked: list[float] = []

    async def slow_down(_: GoogleCalendarCredential) -> GoogleCalendarCredential:
        asked.append(world.vault.time)
        raise RateLimited(retry_after=30.0)

    monkeypatch.setattr(world.provider, "refresh", slow_down)
    refresh = world.refresh()
    waits = []
    for world.vault.time in (0.0, 10.0, 29.0, 31.0):
        with pytest.raises(RateLimited) as caught:
            await refresh(*ORG, min_life=60.0)
        waits.append(caught.value.retry_after)
    assert [30.0, 20.0, 1.0, 30.0] == waits
    assert [0.0, 31.0] == asked


async def test_what_failed_for_one_connection_is_not_told_of_another() -> None:
    world = World()
    world.provider.account.down = True
    refresh = world.refresh()
    with pytest.raises(ProviderUnavailable):
        await refresh(*ORG, min_life=60.0)
    world.provider.account.down = False
    connected(world.vault, "globex", ORG[1], world.stored)
    assert NOW + HOUR == await refresh("globex", ORG[1], min_life=60.0)
    assert 2 == world.provider.account.requests


async def test_only_so_many_failures_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FAILURES", 2)
    world = World()
    world.provider.account.down = True
    refresh = world.refresh()
    orgs = ["acme", "globex", "initech"]
    for org_id in orgs:
        connected(world.vault, org_id, ORG[1], world.stored)
    for org_id in (*orgs, *orgs):
        with pytest.raises(ProviderUnavailable):
            await refresh(org_id, ORG[1], min_life=60.0)
    assert len(orgs) < world.provider.account.requests
    assert 2 >= len(refresh._failures)


async def test_a_consent_that_is_over_is_recorded_and_told() -> None:
    world = World()
    world.provider.dead = True
    with pytest.raises(ReauthRequired, match=r"The consent is over\."):
        await world.refresh()(*ORG, min_life=60.0)
    shown = world.vault.integrations[ORG]
    assert (State.REFUSED, "REAUTH_REQUIRED") == (shown.state, shown.verification_reason)


async def test_a_consent_that_is_known_to_be_over_is_not_asked_for_again_and_again() -> None:
    world = World()
    world.provider.dead = True
    for _ in range(5):
        with pytest.raises(ReauthRequired, match=r"The consent is over\."):
            await world.refresh()(*ORG, min_life=60.0)
    assert 1 == world.provider.account.requests
    assert 1 == world.vault.calls.count("record_verification")
    world.provider.dead = False
    await world.refresh()(*ORG, min_life=60.0, insist=True)
    assert 2 == world.provider.account.requests


async def test_no_answer_changes_nothing() -> None:
    world = World()
    world.provider.account.down = True
    before = world.vault.integrations[ORG]
    with pytest.raises(ProviderUnavailable):
        await world.refresh()(*ORG, min_life=60.0)
    assert before == world.vault.integrations[ORG]
    assert "old-access-token" == world.stored.access_token.reveal()
    assert not world.vault.leases


@pytest.mark.parametrize("step", ["leased", "refreshed", "written"])
async def test_killed_after_any_step_the_next_one_refreshes(step: str) -> None:
    world = World()

    async def killed(reached: str) -> None:
        if reached == step:
            raise Killed

    with pytest.raises(Killed):
        await world.refresh(killed)(*ORG, min_life=60.0)
    assert "refresh-token-1" == world.stored.refresh_token.reveal()
    world.vault.time += 16.0  # the dead one's lease runs out
    await world.refresh()(*ORG, min_life=60.0)
    assert (world.stored.expires_at - world.vault.moment()).total_seconds() >= 60.0


async def test_a_connection_that_was_replaced_meanwhile_keeps_its_own_token() -> None:
    world = World()

    async def replaced(reached: str) -> None:
        if reached == "refreshed":
            newer = world.stored
            world.vault.versions[ORG].append(newer)
            before = world.vault.integrations[ORG]
            world.vault.integrations[ORG] = type(before)(
                provider=Provider.GOOGLE_CALENDAR, state=State.CONNECTED, version=2, latest_version=2
            )

    with pytest.raises(VersionConflict):
        await world.refresh(replaced)(*ORG, min_life=60.0)
    assert "old-access-token" == world.stored.access_token.reveal()


async def test_a_refresher_that_lost_its_lease_writes_nothing() -> None:
    world = World()

    async def taken_over(reached: str) -> None:
        if reached == "refreshed":
            world.vault.leases[ORG] = ("another", 1000.0)

    with pytest.raises(LeaseHeld):
        await world.refresh(taken_over)(*ORG, min_life=60.0)
    assert "old-access-token" == world.stored.access_token.reveal()


async def test_a_vault_that_goes_away_leaves_the_refresh_token() -> None:
    world = World()
    world.vault.faults["refresh"] = deque(["before"])
    with pytest.raises(VaultUnavailable):
        await world.refresh()(*ORG, min_life=60.0)
    await world.refresh()(*ORG, min_life=60.0)
    assert "access-token-1" == world.stored.access_token.reveal()


async def test_what_has_no_access_token_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        await World().refresh()("acme", Provider.RESEND, min_life=60.0)


async def test_what_is_not_connected_is_not_found() -> None:
    with pytest.raises(CredentialNotFound):
        await World().refresh()("globex", Provider.GOOGLE_CALENDAR, min_life=60.0)
