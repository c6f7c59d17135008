"""A hundred who want one token, over two processes' worth of refreshers and a real vault, make one call to Google."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from deploy.local.authority import DevelopmentAuthority
from deploy.sandbox.app import create_app
from services.provider.connect import Connect
from services.provider.lease import Leases
from services.provider.outbound import Outbound, new_client
from services.provider.providers.google_calendar import Application, GoogleCalendar, below
from services.provider.refresh import Refresh
from services.provider.vault import GrpcVault
from services.provider.work import Timetable
from tenantvault.credentials import GoogleCalendarCredential
from tenantvault.credentials import Provider as Name
from tenantvault.secret import Secret
from tests.chaos.harness import Ground, vaults
from tests.integration.conftest import Database

GOOGLE = Name.GOOGLE_CALENDAR
APPLICATION = Application(
    client_id="test.apps.sandbox",
    client_secret=Secret("sandbox-secret"),
    redirect_url="http://localhost:8400/oauth/google-calendar",
)


@pytest.mark.timeout(120)
@pytest.mark.xdist_group("chaos")
async def test_a_hundred_concurrent_refreshes_make_one_token_call(
    fresh_database: Database, authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    later = timedelta()

    def now() -> datetime:
        return datetime.now(UTC) + later

    ground = Ground(fresh_database, authority, tmp_path)
    async with (
        vaults(ground, 1) as (vault,),
        new_client(httpx.ASGITransport(create_app(now=now))) as client,
    ):
        grpc_vault = GrpcVault(vault.channel("provider"))
        endpoints = below("http://sandbox.test/google")
        google = GoogleCalendar(Outbound(client), application=APPLICATION, endpoints=endpoints, now=now)
        refreshers = [Refresh(grpc_vault, (google,), Leases(grpc_vault, seconds=15.0), now=now) for _ in range(2)]
        connect = Connect(grpc_vault, (google,), Leases(grpc_vault, seconds=15.0), Timetable())
        await connect("acme", await _consented(google, client))
        before = await grpc_vault.credential("acme", GOOGLE)
        asked = await _token_calls(client)

        later = timedelta(seconds=3590)  # the token is about to end
        ends = await asyncio.gather(
            *(refresh("acme", GOOGLE, min_life=60.0) for refresh in refreshers for _ in range(50))
        )
        assert asked + 1 == await _token_calls(client)
        assert 1 == len(set(ends))
        after = await grpc_vault.credential("acme", GOOGLE)
        assert before.version == after.version
        assert before.generation < after.generation
        assert isinstance(before.credential, GoogleCalendarCredential)
        assert isinstance(after.credential, GoogleCalendarCredential)
        assert before.credential.access_token != after.credential.access_token
        assert before.credential.refresh_token == after.credential.refresh_token


async def _consented(google: GoogleCalendar, client: httpx.AsyncClient) -> GoogleCalendarCredential:
    url = google.consent.authorization_url(state="state-1") + "&sandbox_consent=allow"
    answer = await client.get(url)
    (code,) = parse_qs(urlsplit(answer.headers["location"]).query)["code"]
    credential = await google.consent.redeem(code=code, state="state-1")
    assert isinstance(credential, GoogleCalendarCredential)
    return credential


async def _token_calls(client: httpx.AsyncClient) -> int:
    requests = (await client.get("http://sandbox.test/_sandbox/requests")).json()["requests"]
    counted = Counter[str]()
    for each in requests:
        counted[each["path"]] += each["count"]
    return counted["/token"]
