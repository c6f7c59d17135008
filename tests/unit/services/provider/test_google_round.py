"""The provider at the stand-in for Google: from the consent page to the end of the consent."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from deploy.sandbox.faults import Faults
from deploy.sandbox.google import Google
from deploy.sandbox.journal import Journal
from deploy.sandbox.traffic import Traffic
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Accepted, Refused
from services.provider.providers.google_calendar import Application, GoogleCalendar, below
from tenantvault.credentials import GoogleCalendarCredential
from tenantvault.errors import (
    ConsentDenied,
    InsufficientScope,
    ProviderMisconfigured,
    ProviderRefused,
    ProviderResourceMissing,
    ProviderUnavailable,
    RateLimited,
    ReauthRequired,
    TenantVaultError,
)
from tenantvault.secret import Secret

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
APPLICATION = Application("vault.apps.sandbox", Secret("sandbox-secret"), "http://127.0.0.1:7400/callback")


async def no_sleep(seconds: float) -> None:
    del seconds


class World:
    """A provider, a stand-in behind the traffic's bookkeeping, a browser and a clock."""

    def __init__(self) -> None:
        self.at = NOW
        self.journal = Journal()
        self.naps: list[float] = []
        numbers = count(1)
        sandbox = Google(now=lambda: self.at, new_id=lambda: f"id-{next(numbers)}", sleep=self._nap)
        traffic = Traffic("google", sandbox, journal=self.journal, faults=Faults(), sleep=self._nap)
        transport = httpx.ASGITransport(Starlette(routes=[Mount("/google", traffic)]))
        self.client = new_client(transport)
        self.google = self.provider(APPLICATION)

    async def _nap(self, seconds: float) -> None:
        self.naps.append(seconds)

    def provider(self, application: Application) -> GoogleCalendar:
        outbound = Outbound(self.client, sleep=no_sleep)
        endpoints = below("http://sandbox/google")
        return GoogleCalendar(outbound, application=application, endpoints=endpoints, now=lambda: self.at)

    async def came_back(self, *, state: str = "state-1", **choice: str) -> dict[str, str]:
        """What the browser brings back from the page."""
        url = httpx.URL(self.google.consent.authorization_url(state=state))
        choice = {"sandbox_consent": "allow", "login_hint": "ada@acme.example"} | choice
        response = await self.client.get(url.copy_merge_params(choice))
        assert 302 == response.status_code, response.text
        target = urlsplit(response.headers["Location"])
        assert APPLICATION.redirect_url == target._replace(query="").geturl()
        return dict(parse_qsl(target.query))

    async def redeemed(self, *, state: str = "state-1", **choice: str) -> GoogleCalendarCredential | Refused:
        result = await self.came_back(state=state, **choice)
        assert state == result["state"]
        return await self.google.consent.redeem(code=result["code"], state=state)

    async def connected(self, email: str = "ada@acme.example", **choice: str) -> GoogleCalendarCredential:
        credential = await self.redeemed(login_hint=email, **choice)
        assert isinstance(credential, GoogleCalendarCredential)
        return credential


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with world.client:
        yield world


async def test_a_consent_lives_until_it_is_taken_back(world: World) -> None:
    credential = await world.connected()
    assert ("ada@acme.example", NOW + timedelta(seconds=3599)) == (credential.email, credential.expires_at)
    assert Accepted(account="ada@acme.example") == await world.google.test(credential)

    world.at += timedelta(hours=2)
    refreshed = await world.google.consent.refresh(credential)
    assert isinstance(refreshed, GoogleCalendarCredential)
    assert world.at + timedelta(seconds=3599) == refreshed.expires_at
    assert (credential.refresh_token, credential.scopes) == (refreshed.refresh_token, refreshed.scopes)
    assert credential.access_token != refreshed.access_token
    assert Accepted(account="ada@acme.example") == await world.google.test(refreshed)

    assert () == await world.google.release("acme", refreshed, known=())
    assert () == await world.google.release("acme", refreshed, known=())
    for verdict in (await world.google.test(refreshed), await world.google.consent.refresh(refreshed)):
        assert isinstance(verdict, Refused)
        assert ReauthRequired is verdict.kind

    again = await world.connected()
    assert Accepted(account="ada@acme.example") == await world.google.test(again)


async def test_an_access_token_that_ended_is_renewed_for_the_test(world: World) -> None:
    credential = await world.connected()
    world.at += timedelta(hours=2)
    assert Accepted(account="ada@acme.example") == await world.google.test(credential)
    assert [2] == [entry["count"] for entry in world.journal.entries() if "/token" == entry["path"]]


async def test_a_code_works_once_and_with_its_own_state(world: World) -> None:
    result = await world.came_back()
    first = await world.google.consent.redeem(code=result["code"], state="state-1")
    assert isinstance(first, GoogleCalendarCredential)
    for code, state in ((result["code"], "state-1"), ((await world.came_back())["code"], "state-2"), ("made up", "x")):
        refused = await world.google.consent.redeem(code=code, state=state)
        assert isinstance(refused, Refused)
        assert (ReauthRequired, "This sign-in is over: start it again.") == (refused.kind, refused.sentence)


async def test_a_refusal_comes_back_as_one(world: World) -> None:
    result = await world.came_back(sandbox_consent="deny")
    assert {"error": "access_denied", "state": "state-1"} == result
    assert ConsentDenied is type(world.google.consent.denied(result["error"]))


@pytest.mark.parametrize("email", ["blocked@acme.example", "internal@acme.example"])
async def test_an_administrator_can_stand_against_it(world: World, email: str) -> None:
    result = await world.came_back(login_hint=email)
    assert InsufficientScope is type(world.google.consent.denied(result["error"]))


@pytest.mark.parametrize(
    ("unticked", "words"),
    [
        ("calendar.events", "change events"),
        ("calendar.freebusy", "you are busy"),
        ("https://www.googleapis.com/auth/calendar.freebusy,calendar.events", "and"),
    ],
)
async def test_a_box_that_is_needed_and_not_ticked_is_named(world: World, unticked: str, words: str) -> None:
    refused = await world.redeemed(sandbox_untick=unticked)
    assert isinstance(refused, Refused)
    assert InsufficientScope is refused.kind
    assert words in refused.sentence


async def test_the_list_of_calendars_may_be_left_out(world: World) -> None:
    verdict = await world.google.test(await world.connected(sandbox_untick="calendar.calendarlist.readonly"))
    assert isinstance(verdict, Accepted)
    (warning,) = verdict.warnings
    assert "list your calendars" in warning
    assert "/calendar/v3/calendars/primary/events" in {entry["path"] for entry in world.journal.entries()}


async def test_an_account_without_lasting_access_has_to_start_anew(world: World) -> None:
    refused = await world.redeemed(login_hint="norefresh@acme.example")
    assert isinstance(refused, Refused)
    assert ReauthRequired is refused.kind


@pytest.mark.parametrize(
    ("email", "kind"),
    [
        ("revoked@acme.example", ReauthRequired),
        ("rapt@acme.example", ReauthRequired),
        ("deleted@acme.example", ProviderMisconfigured),
        ("flaky@acme.example", ProviderUnavailable),
    ],
)
async def test_every_account_whose_refresh_fails(world: World, email: str, kind: type[TenantVaultError]) -> None:
    credential = await world.connected(email)
    if issubclass(kind, ProviderRefused):
        refused = await world.google.consent.refresh(credential)
        assert isinstance(refused, Refused)
        assert kind is refused.kind
    else:
        with pytest.raises(kind):
            await world.google.consent.refresh(credential)


@pytest.mark.parametrize(
    ("email", "kind"),
    [
        ("nocalendar@acme.example", InsufficientScope),
        ("forbidden@acme.example", InsufficientScope),
        ("disabled@acme.example", ProviderMisconfigured),
        ("quota@acme.example", RateLimited),
        ("down@acme.example", ProviderUnavailable),
    ],
)
async def test_every_account_whose_calls_fail(world: World, email: str, kind: type[TenantVaultError]) -> None:
    credential = await world.connected(email)
    if issubclass(kind, ProviderRefused):
        refused = await world.google.test(credential)
        assert isinstance(refused, Refused)
        assert kind is refused.kind
    else:
        with pytest.raises(kind):
            await world.google.test(credential)


async def test_a_stale_access_token_is_renewed(world: World) -> None:
    credential = await world.connected("stale@acme.example")
    assert Accepted(account="stale@acme.example") == await world.google.test(credential)


async def test_a_short_life_is_taken_as_it_is(world: World) -> None:
    credential = await world.connected("short+1@acme.example")
    assert NOW + timedelta(seconds=60) == credential.expires_at


async def test_a_slow_account_works_in_the_end(world: World) -> None:
    credential = await world.connected("slow@acme.example")
    assert isinstance(await world.google.test(credential), Accepted)
    assert [30.0, 30.0] == world.naps


async def test_free_and_busy_alone_is_looked_into(world: World) -> None:
    freebusy = ("https://www.googleapis.com/auth/calendar.freebusy",)
    credential = await world.connected()
    verdict = await world.google.test(replace(credential, scopes=freebusy))
    assert isinstance(verdict, Accepted)
    refused = await world.google.test(replace(await world.connected("nobusy@acme.example"), scopes=freebusy))
    assert isinstance(refused, Refused)
    assert ProviderResourceMissing is refused.kind


@pytest.mark.parametrize(
    "application",
    [
        replace(APPLICATION, client_secret=Secret("other")),
        replace(APPLICATION, client_id="vault.apps.elsewhere"),
        replace(APPLICATION, redirect_url="http://127.0.0.1:7400/other"),
    ],
)
async def test_an_application_that_google_refuses_is_the_operators_affair(
    world: World, application: Application
) -> None:
    result = await world.came_back()
    with pytest.raises(ProviderMisconfigured):
        await world.provider(application).consent.redeem(code=result["code"], state="state-1")


async def test_the_journal_holds_no_secret(world: World) -> None:
    credential = await world.connected()
    await world.google.test(credential)
    await world.google.release("acme", credential, known=())
    seen = repr(world.journal.entries())
    assert "ada@acme.example" in seen
    secrets = (credential.access_token, credential.refresh_token, APPLICATION.client_secret)
    assert not [secret for secret in secrets if secret.reveal() in seen]
