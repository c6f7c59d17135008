"""Every provider passes the exam."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs

import httpx
import pytest

from deploy.sandbox.app import create_app
from deploy.sandbox.twilio_account import secret_of
from services.provider.outbound import Outbound, new_client
from services.provider.providers.elevenlabs import ElevenLabs
from services.provider.providers.google_calendar import Application, GoogleCalendar, below
from services.provider.providers.google_calendar.scopes import ASKED
from services.provider.providers.resend import Resend
from services.provider.providers.twilio import Twilio
from services.provider.providers.vapi import Vapi
from tenantvault.credentials import (
    ElevenLabsCredential,
    GoogleCalendarCredential,
    Provider,
    ResendCredential,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.secret import Secret
from tests.suites.provider_exam import *  # noqa: F403 - the exam is the test
from tests.suites.provider_exam import Case, Handler

SANDBOX: Final = "https://sandbox"
APPLICATION: Final = Application("vault.apps.sandbox", Secret("sandbox-secret"), "http://127.0.0.1:7400/callback")
SID: Final = "ACac3e0000000000000000002025550100"
RESEND_KEY: Final = Secret("re_acmeAcme_0123456789abcdefghijklmn")
ELEVENLABS_KEY: Final = Secret("sk_" + "ac3e0123456789ab" * 3)
ACCESS: Final = "ya29.an-access-token-of-ada"


async def no_sleep(seconds: float) -> None:
    del seconds


def sandbox() -> Handler:
    """The stand-ins, as they are after a start."""
    transport = httpx.ASGITransport(create_app(sleep=no_sleep))

    async def handle(request: httpx.Request) -> httpx.Response:
        return await transport.handle_async_request(request)

    return handle


def google() -> Handler:
    """A Google that knows Ada, with one code that does not wear off."""

    def handle(request: httpx.Request) -> httpx.Response:
        match request.url.path.removeprefix("/google"):
            case "/token":
                form = parse_qs(request.content.decode())
                assert ["sandbox-secret"] == form["client_secret"]
                body = {"access_token": ACCESS, "expires_in": 3599, "token_type": "Bearer", "scope": " ".join(ASKED)}
                return httpx.Response(200, json=body | {"refresh_token": "1//a-refresh-token-of-ada"})
            case "/revoke":
                return httpx.Response(200, json={})
            case "/v1/userinfo":
                return httpx.Response(200, json={"email": "ada@acme.example", "email_verified": True})
            case _:
                return httpx.Response(200, json={"kind": "calendar#calendarList", "items": []})

    return handle


def google_knows_nobody(request: httpx.Request) -> httpx.Response:
    if request.url.path.endswith("/token"):
        return httpx.Response(400, json={"error": "invalid_grant", "error_description": "Token has been revoked."})
    errors = [{"domain": "global", "reason": "authError", "message": "Invalid Credentials"}]
    return httpx.Response(401, json={"error": {"code": 401, "message": "Invalid", "errors": errors}})


def saying(status: int, body: object) -> Handler:
    return lambda _: httpx.Response(status, json=body)


VAPI = Case(
    provider=lambda outbound: Vapi(
        outbound,
        urls={"us": f"{SANDBOX}/vapi", "eu": f"{SANDBOX}/vapi"},
        webhook_url="https://hooks.test/vapi",
        sleep=no_sleep,
    ),
    credential=VapiCredential(
        api_key=Secret("ac3e0000-0000-4000-8000-000000000001"), webhook_secret=Secret("a-webhook-secret-of-acme")
    ),
    vendor=sandbox,
    knows_no_key=saying(401, {"message": "Invalid Key.", "error": "Unauthorized", "statusCode": 401}),
)
TWILIO = Case(
    provider=lambda outbound: Twilio(
        outbound,
        url=f"{SANDBOX}/twilio",
        accounts_url=f"{SANDBOX}/twilio",
        voice_webhook_url="https://hooks.test/voice",
        sms_webhook_url="https://hooks.test/sms",
    ),
    credential=TwilioCredential(
        account_sid=SID,
        auth_token=Secret(secret_of(SID)),
        api_key_sid=f"SKa110{'0' * 18}{SID[-10:]}",
        api_key_secret=Secret(secret_of(f"SKa110{'0' * 18}{SID[-10:]}")),
        phone_number="+12025550100",
        whatsapp_number="+12025550101",
        webhook_shared_key=Secret("a-shared-key-of-acme"),
        webhook_algorithm="HMAC_SHA256",
    ),
    vendor=sandbox,
    knows_no_key=saying(401, {"code": 20003, "message": "Authenticate", "status": 401}),
)
GOOGLE_CALENDAR = Case(
    provider=lambda outbound: GoogleCalendar(
        outbound, application=APPLICATION, endpoints=below(f"{SANDBOX}/google"), new_secret=lambda: "a-channel-token"
    ),
    credential=GoogleCalendarCredential(
        refresh_token=Secret("1//a-refresh-token-of-ada"),
        access_token=Secret(ACCESS),
        expires_at=datetime(2100, 1, 1, tzinfo=UTC),
        scopes=tuple(ASKED),
        email="ada@acme.example",
    ),
    vendor=google,
    knows_no_key=google_knows_nobody,
    code="4/a-code-of-ada",
)
RESEND = Case(
    provider=lambda outbound: Resend(
        outbound, url=f"{SANDBOX}/resend", webhook_url="https://hooks.test/resend", sleep=no_sleep
    ),
    credential=ResendCredential(api_key=RESEND_KEY),
    vendor=sandbox,
    knows_no_key=saying(401, {"statusCode": 401, "name": "validation_error", "message": "API key is invalid"}),
)
ELEVENLABS = Case(
    provider=lambda outbound: ElevenLabs(
        outbound,
        urls={"global": f"{SANDBOX}/elevenlabs", "eu": f"{SANDBOX}/elevenlabs"},
        webhook_url="https://hooks.test/elevenlabs",
        sleep=no_sleep,
    ),
    credential=ElevenLabsCredential(api_key=ELEVENLABS_KEY),
    vendor=sandbox,
    knows_no_key=saying(401, {"detail": {"status": "invalid_api_key", "message": "Invalid API key"}}),
)
CASES: Final[Mapping[str, Case]] = {
    "vapi": VAPI,
    "twilio": TWILIO,
    "google calendar": GOOGLE_CALENDAR,
    "resend": RESEND,
    "resend with a webhook of its own": replace(
        RESEND,
        credential=ResendCredential(
            api_key=RESEND_KEY, webhook_secret=Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        ),
    ),
    "elevenlabs": ELEVENLABS,
    "elevenlabs with a webhook of its own": replace(
        ELEVENLABS,
        credential=ElevenLabsCredential(
            api_key=ELEVENLABS_KEY, webhook_secret=Secret("wsec_of-a-webhook-of-acmes-own")
        ),
    ),
}


def test_every_provider_of_the_contract_is_examined() -> None:
    outbound = Outbound(new_client(httpx.MockTransport(lambda _: httpx.Response(500))))
    assert set(Provider) == {case.provider(outbound).name for case in CASES.values()}


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found
