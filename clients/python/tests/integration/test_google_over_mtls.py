"""Both clients get an access token that lasts from real servers, over mutual TLS."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tenantvault import AsyncClient, GoogleCalendarCredential, Provider, Secret
from tenantvault._status import to_status
from tenantvault.errors import DeadlineExceeded, InvalidRequest, ReauthRequired, Unavailable
from tenantvault.messages import credential_to_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import integration_service_pb2 as integration

pytestmark = pytest.mark.enable_socket

CALLERS = 100


class Google:
    """An org's token, which is over until it is refreshed, and what the two services answer of it."""

    def __init__(self) -> None:
        self.ends = datetime.now(UTC)
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()

    async def vault(self, request: Any, context: Any) -> Any:
        credential = GoogleCalendarCredential(
            refresh_token=Secret("1//refresh"), access_token=Secret("ya29"), expires_at=self.ends, scopes=()
        )
        return access.GetCredentialResponse(
            credential=pb.ActiveCredential(
                org_id=request.org_id,
                provider=pb.PROVIDER_GOOGLE_CALENDAR,
                version=1,
                credential=credential_to_message(credential),
            )
        )

    async def provider(self, request: Any, context: Any) -> Any:
        self.arrived.set()
        await self.release.wait()
        self.ends = datetime.now(UTC) + timedelta(seconds=3599)
        return integration.RefreshAccessTokenResponse()


@pytest.fixture
async def google(vault: Any, provider_service: Any) -> Google:
    google = Google()
    vault.answer, provider_service.answer = google.vault, google.provider
    return google


@pytest.fixture
async def client(connect: Callable[..., Any], provider_service: Any) -> AsyncIterator[Any]:
    client = connect(provider_target=provider_service.target)
    yield client
    await client.close()


async def test_a_token_that_is_over_is_refreshed_before_it_is_handed_out(
    client: Any, google: Google, provider_service: Any
) -> None:
    found = await client.google_calendar("acme")

    assert google.ends == found.credential.expires_at
    await client.google_calendar("acme", min_life=1800)
    assert 1 == provider_service.calls


async def test_many_callers_at_once_refresh_once(client: Any, google: Google, provider_service: Any) -> None:
    google.release.clear()
    calls = [asyncio.create_task(client.google_calendar("acme", deadline=60)) for _ in range(CALLERS)]
    await google.arrived.wait()
    google.release.set()

    found = await asyncio.gather(*calls)

    assert {google.ends} == {each.credential.expires_at for each in found}
    assert 1 == provider_service.calls


async def test_the_environment_leads_to_the_provider_service(
    kind: Any, google: Google, vault: Any, provider_service: Any, authority: Any
) -> None:
    tls = authority.issue("voice-agent")
    environ = {
        "TENANTVAULT_VAULT_TARGET": vault.target,
        "TENANTVAULT_PROVIDER_TARGET": provider_service.target,
        "TENANTVAULT_TLS_CERT": str(tls.certificate),
        "TENANTVAULT_TLS_KEY": str(tls.key),
        "TENANTVAULT_TLS_CA": str(tls.authorities),
    }

    if kind is AsyncClient:
        async with kind.from_env(environ) as asynchronous:
            await asynchronous.google_calendar("acme")
    else:

        def read() -> None:
            with kind.from_env(environ) as blocking:
                blocking.google_calendar("acme")

        await asyncio.to_thread(read)
    assert 1 == provider_service.calls


async def test_an_error_of_the_provider_service_comes_back_equal(
    client: Any, google: Google, provider_service: Any
) -> None:
    async def refuse(request: Any, context: Any) -> Any:
        code, message, trailers = to_status(ReauthRequired("Connect Google again."))
        context.set_trailing_metadata(trailers)
        await context.abort(code, message)

    provider_service.answer = refuse

    with pytest.raises(ReauthRequired, match="Connect Google again"):
        await client.google_calendar("acme")


async def test_a_caller_without_patience_leaves_the_refresh_to_the_others(
    client: Any, google: Google, provider_service: Any
) -> None:
    google.release.clear()
    patient = asyncio.create_task(client.google_calendar("acme", deadline=60))
    await google.arrived.wait()

    with pytest.raises(DeadlineExceeded):
        await client.google_calendar("acme", deadline=0.2)
    assert not patient.done()
    google.release.set()

    found = await patient
    assert google.ends == found.credential.expires_at
    assert 1 == provider_service.calls


async def test_a_refresh_waits_for_a_provider_service_that_restarts(
    client: Any, google: Google, provider_service: Any
) -> None:
    await provider_service.stop()
    with pytest.raises(DeadlineExceeded):
        await client.google_calendar("acme", deadline=0.2)

    call = asyncio.create_task(client.google_calendar("acme", deadline=60))
    await provider_service.start()

    found = await call
    assert google.ends == found.credential.expires_at


async def test_a_provider_service_that_goes_away_under_a_refresh_is_unavailable(
    client: Any, google: Google, provider_service: Any
) -> None:
    google.release.clear()
    call = asyncio.create_task(client.google_calendar("acme", deadline=60))
    await google.arrived.wait()
    await provider_service.stop()

    with pytest.raises(Unavailable):
        await call


async def test_closing_ends_a_refresh_under_way_with_an_error(
    client: Any, google: Google, provider_service: Any
) -> None:
    google.release.clear()
    calls = [asyncio.create_task(client.google_calendar("acme", deadline=60)) for _ in range(3)]
    await google.arrived.wait()

    await client.close()

    for call in calls:
        with pytest.raises(InvalidRequest, match="closed"):
            await call
    with pytest.raises(InvalidRequest, match="closed"):
        await client.google_calendar("acme")


async def test_a_failure_is_reported_to_the_vault(client: Any, vault: Any) -> None:
    reported = []

    async def note(request: Any, context: Any) -> Any:
        reported.append(request)
        return access.ReportFailureResponse(test_is_due=True)

    vault.answer = note

    assert await client.report_failure("acme", Provider.GOOGLE_CALENDAR, 4) is True
    assert [access.ReportFailureRequest(org_id="acme", provider=pb.PROVIDER_GOOGLE_CALENDAR, version=4)] == reported
