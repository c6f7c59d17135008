from datetime import UTC, datetime
from typing import Final

import pytest

from deploy.local.fetch import describe
from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    Provider,
    Resource,
    ResourceKind,
    TwilioCredential,
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
