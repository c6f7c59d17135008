import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest

from services.provider.connect import Connect
from services.provider.integration import State
from services.provider.lease import Leases
from services.provider.oauth import STATE_SECONDS, OAuth
from services.provider.work import Task, Timetable
from tenantvault.credentials import Provider
from tenantvault.errors import ConsentDenied, InvalidRequest, OAuthStateInvalid, ReauthRequired
from tests.unit.services.provider.fake_provider import Consented, Keyed
from tests.unit.services.provider.fake_vault import NOW, FakeVault

GOOGLE = Provider.GOOGLE_CALENDAR
ADA = {"session": "session-1", "on_behalf_of": "ada"}


async def for_ever(seconds: float) -> None:
    await asyncio.Event().wait()


class World:
    """A person in front of a browser."""

    def __init__(self) -> None:
        self.vault = FakeVault()
        self.provider = Consented(self.vault.moment)
        providers = (self.provider, Keyed())
        connect = Connect(
            self.vault,
            providers,
            Leases(self.vault, seconds=15.0, sleep=for_ever),
            Timetable(now=self.vault.moment, jitter=lambda: 0.5),
        )
        self.oauth = OAuth(self.vault, providers, connect)

    async def consent(self, code: str = "code-1") -> str:
        """Go to the provider's page and give the consent; returns the state that comes back."""
        url = await self.oauth.start("acme", GOOGLE, **ADA)
        (state,) = parse_qs(urlsplit(url).query)["state"]
        self.provider.codes[code] = state
        return state

    async def finish(
        self, state: str, *, org: str = "acme", code: str = "code-1", error: str = "", **who: str
    ) -> object:
        return await self.oauth.finish(org, GOOGLE, state=state, code=code, error=error, patience=5.0, **(ADA | who))


async def test_a_consent_connects_and_schedules_the_refresh() -> None:
    world = World()
    report, scopes = await world.oauth.finish(
        "acme", GOOGLE, state=await world.consent(), code="code-1", error="", patience=5.0, **ADA
    )
    assert report.integration.state is State.CONNECTED
    assert "ada@example.com" == report.integration.account
    assert ("calendar",) == scopes
    assert {Task.VERIFY, Task.REFRESH} == {task for _, _, task in world.vault.tasks}
    assert 3600.0 - 600.0 == world.vault.tasks["acme", GOOGLE, Task.REFRESH].due_at
    assert report.integration.rotation_due_at is None
    assert NOW == world.vault.moment()


async def test_a_state_is_good_once() -> None:
    world = World()
    state = await world.consent()
    await world.finish(state)
    world.provider.codes["code-1"] = state
    with pytest.raises(OAuthStateInvalid):
        await world.finish(state)


@pytest.mark.parametrize("who", [{"session": "another"}, {"on_behalf_of": "eve"}, {"org": "globex"}])
async def test_a_state_is_bound_to_org_session_and_person(who: dict[str, str]) -> None:
    world = World()
    state = await world.consent()
    with pytest.raises(OAuthStateInvalid):
        await world.finish(state, **who)
    assert not world.vault.versions


async def test_session_and_person_cannot_be_shifted_into_each_other() -> None:
    world = World()
    url = await world.oauth.start("acme", GOOGLE, session="ab", on_behalf_of="c")
    (state,) = parse_qs(urlsplit(url).query)["state"]
    with pytest.raises(OAuthStateInvalid):
        await world.finish(state, session="a", on_behalf_of="bc")


async def test_a_state_is_good_for_ten_minutes() -> None:
    world = World()
    state = await world.consent()
    world.vault.time = STATE_SECONDS
    with pytest.raises(OAuthStateInvalid):
        await world.finish(state)


async def test_a_consent_that_was_denied_says_so_and_uses_the_state_up() -> None:
    world = World()
    state = await world.consent()
    with pytest.raises(ConsentDenied):
        await world.finish(state, code="", error="access_denied")
    with pytest.raises(OAuthStateInvalid):
        await world.finish(state)


async def test_a_code_that_the_provider_refuses_stores_nothing() -> None:
    world = World()
    with pytest.raises(ReauthRequired):
        await world.finish(await world.consent(), code="another")
    assert not world.vault.versions


@pytest.mark.parametrize("code", ["", "x" * 2049, "c\nd", "cödé"])
async def test_a_code_that_is_none_is_refused_before_anybody_is_asked(code: str) -> None:
    world = World()
    with pytest.raises(InvalidRequest) as caught:
        await world.finish(await world.consent(), code=code)
    assert {"code"} == set(caught.value.fields)
    assert 0 == world.provider.account.requests


@pytest.mark.parametrize("provider", [Provider.RESEND, Provider.TWILIO])
async def test_what_is_not_connected_by_consent_is_refused(provider: Provider) -> None:
    with pytest.raises(InvalidRequest):
        await World().oauth.start("acme", provider, **ADA)


async def test_states_are_long_and_never_the_same() -> None:
    world = World()
    states = {await world.consent(str(number)) for number in range(20)}
    assert 20 == len(states)
    assert all(len(state) >= 43 for state in states)
