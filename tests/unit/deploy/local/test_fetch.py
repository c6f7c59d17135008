from datetime import UTC, datetime
from typing import Final

import pytest

from deploy.local.fetch import describe
from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    GoogleCalendarCredential,
    Provider,
    ResendCredential,
    Resource,
    ResourceKind,
    TwilioCredential,
    TwilioWebhook,
    VapiCredential,
)
from tenantvault.secret import Secret

KEY: Final = "ac3e0000-0000-4000-8000-000000000001"


@pytest.fixture
def vapi() -> ActiveCredential[Credential]:
    return ActiveCredential(
        org_id="acme",
        provider=Provider.VAPI,
        version=3,
        credential=VapiCredential(api_key=Secret(KEY), webhook_secret=Secret("w" * 43)),
        resources=(
            Resource(ResourceKind.VAPI_ASSISTANT, "11111111-0000-4000-8000-000000000001", "inbound"),
            Resource(ResourceKind.VAPI_ASSISTANT, "22222222-0000-4000-8000-000000000002", "outbound"),
        ),
        last_verified_at=datetime(2026, 11, 23, 12, 30, tzinfo=UTC),
        generation=1,
    )


def test_it_shows_that_the_credential_is_there_and_keeps_it_secret(vapi: ActiveCredential[Credential]) -> None:
    text = describe(vapi, reveal=False)

    for part in (
        "acme",
        "vapi",
        "3",
        "0001 (36 characters, decrypted)",
        "11111111-0000-4000-8000-000000000001 inbound",
    ):
        assert part in text
    assert "2026-11-23 12:30:00 UTC" in text
    assert KEY not in text
    assert "w" * 5 not in text


def test_it_reveals_when_it_is_told_to(vapi: ActiveCredential[Credential]) -> None:
    text = describe(vapi, reveal=True)

    assert KEY in text
    assert "w" * 43 in text


def test_what_is_not_there_is_not_shown() -> None:
    twilio: ActiveCredential[Credential] = ActiveCredential(
        org_id="acme",
        provider=Provider.TWILIO,
        version=1,
        credential=TwilioCredential(
            account_sid="AC" + "0" * 32, auth_token=Secret("t" * 32), phone_number="+12025550100"
        ),
        resources=(Resource(ResourceKind.PHONE_NUMBER, "+12025550100"),),
        last_verified_at=None,
        generation=1,
    )

    lines = describe(twilio, reveal=False).splitlines()

    assert not any(line.startswith(("api_key", "whatsapp")) for line in lines)
    assert "phone_number    +12025550100" in lines
    assert "last verified   never" in lines


def active(provider: Provider, credential: Credential) -> ActiveCredential[Credential]:
    return ActiveCredential(
        org_id="acme",
        provider=provider,
        version=1,
        credential=credential,
        resources=(),
        last_verified_at=None,
        generation=1,
    )


def test_a_consent_shows_its_scopes_and_its_end() -> None:
    google = GoogleCalendarCredential(
        refresh_token=Secret("1//" + "r" * 30),
        access_token=Secret("ya29." + "a" * 30),
        expires_at=datetime(2026, 11, 23, 12, 30, tzinfo=UTC),
        scopes=("openid", "email"),
        email="ada@acme.example",
        channel_token=Secret("c" * 43),
    )

    text = describe(active(Provider.GOOGLE_CALENDAR, google), reveal=False)

    assert "scopes          openid, email" in text
    assert "expires_at      2026-11-23 12:30:00 UTC" in text
    assert "rrrrr" not in text
    assert "aaaaa" not in text


def test_what_stands_beside_a_key_is_shown_and_the_longest_name_has_its_place() -> None:
    resend = ResendCredential(api_key=Secret("re_" + "k" * 30), webhook_id="wh_1")
    hidden = TwilioWebhook(number_sid="PN1", voice_url=Secret("https://user:hidden@x.example"))
    twilio = TwilioCredential(
        account_sid="AC1",
        phone_number="+1",
        webhook_shared_key=Secret("s" * 40),
        saved_webhooks=(hidden, TwilioWebhook(number_sid="PN2")),
    )

    assert "webhook_id      wh_1" in describe(active(Provider.RESEND, resend), reveal=False)
    text = describe(active(Provider.TWILIO, twilio), reveal=True)
    assert "saved_webhooks     of PN1, of PN2" in text
    assert "webhook_shared_key " + "s" * 40 in text
    assert "hidden" not in text
