from tenantvault.errors import ProviderUnavailable, VaultUnavailable
from tenantvault.v1 import credential_pb2 as pb
from tests.unit.gateway.fakes import Gateway, bearer, connected_account, connected_vapi

API = "/api/integrations"


async def test_status_shows_all_five_and_what_is_known_of_each(gateway: Gateway) -> None:
    gateway.services.integrations = {
        ("acme", pb.PROVIDER_VAPI): connected_vapi(),
        ("acme", pb.PROVIDER_GOOGLE_CALENDAR): connected_account(pb.PROVIDER_GOOGLE_CALENDAR, "ada@acme.example"),
    }
    answer = await gateway.client.get(f"{API}/status", headers=bearer())
    assert answer.status_code == 200
    assert answer.json() == {
        "vapi": {
            "connected": True,
            "state": "connected",
            "lastVerified": "2026-11-23T10:00:00.000Z",
            "hint": "••••0c11",
            "version": 1,
            "inboundAssistantId": "assistant-in",
            "outboundAssistantId": "assistant-out",
        },
        "twilio": {"connected": False, "state": "empty"},
        "googleCalendar": {
            "connected": True,
            "state": "connected",
            "lastVerified": "2026-11-23T10:00:00.000Z",
            "hint": "••••1234",
            "version": 1,
            "account": "ada@acme.example",
            "email": "ada@acme.example",
        },
        "resend": {"connected": False, "state": "empty"},
        "elevenlabs": {"connected": False, "state": "empty"},
    }
    assert answer.headers["cache-control"] == "no-store"


async def test_the_providers_are_described_in_their_order_and_kept_for_a_while(gateway: Gateway) -> None:
    answer = await gateway.client.get(f"{API}/providers", headers=bearer(role="viewer"))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "private, max-age=300"
    providers = answer.json()["providers"]
    assert [each["provider"] for each in providers] == ["vapi", "twilio", "googleCalendar", "resend", "elevenlabs"]
    assert [field["name"] for field in providers[0]["fields"]] == ["apiKey", "webhookSecret", "region"]
    assert providers[2]["byConsent"] is True
    assert gateway.services.metadata[0]["timeout"] == 5


async def test_a_failure_to_describe_them_is_not_kept(gateway: Gateway) -> None:
    for failure in (ProviderUnavailable(), VaultUnavailable()):
        gateway.services.failure = failure
        answer = await gateway.client.get(f"{API}/providers", headers=bearer())
        assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
