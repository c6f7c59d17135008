from typing import Any

import pytest

from tenantvault.errors import (
    DeadlineRequired,
    InvalidCredentials,
    InvalidRequest,
    LeaseHeld,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    Unauthenticated,
)
from tenantvault.v1 import credential_pb2 as pb
from tests.unit.gateway.fakes import (
    ELEVENLABS,
    RESEND,
    TWILIO,
    VAPI,
    Gateway,
    bearer,
    connected_account,
    connected_twilio,
    connected_vapi,
)

API = "/api/integrations"


async def test_connecting_vapi_gives_both_assistants(gateway: Gateway) -> None:
    body = VAPI | {"webhookSecret": "a-webhook-secret", "region": "eu"}
    answer = await gateway.client.post(f"{API}/vapi", json=body, headers=bearer())
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "success": True,
            "inboundAssistantId": "assistant-in",
            "outboundAssistantId": "assistant-out",
        },
    )
    asked = gateway.services.asked[0]
    assert (asked.org_id, asked.origin.on_behalf_of) == ("acme", "ada@acme.example")
    vapi = asked.credential.vapi
    assert (VAPI["apiKey"], "a-webhook-secret", "eu") == (vapi.api_key, vapi.webhook_secret, vapi.region)


async def test_connecting_twilio_gives_the_masked_number_and_the_warnings(gateway: Gateway) -> None:
    gateway.services.warnings = ("This is a trial account.",)
    answer = await gateway.client.post(f"{API}/twilio", json=TWILIO, headers=bearer())
    assert answer.json() == {
        "success": True,
        "phoneNumber": "+1••••••0100",
        "warnings": ["This is a trial account."],
    }
    twilio = gateway.services.asked[0].credential.twilio
    assert (TWILIO["accountSid"], TWILIO["authToken"]) == (twilio.account_sid, twilio.auth_token)


@pytest.mark.parametrize(("provider", "body"), [("resend", RESEND), ("elevenlabs", ELEVENLABS)])
async def test_connecting_the_others_gives_the_account_and_the_warnings(
    gateway: Gateway, provider: str, body: dict[str, str]
) -> None:
    gateway.services.warnings = ("This key may send only.",)
    body = body | {"webhookSecret": "whsec_x"}
    answer = await gateway.client.post(f"{API}/{provider}", json=body, headers=bearer())
    assert (answer.status_code, answer.json()) == (
        200,
        {"success": True, "account": "Acme Ltd", "warnings": ["This key may send only."]},
    )
    kind = getattr(gateway.services.asked[0].credential, provider)
    assert (kind.api_key, kind.webhook_secret) == (body["apiKey"], "whsec_x")


async def test_a_credential_can_be_tried_without_keeping_it(gateway: Gateway) -> None:
    gateway.services.warnings = ("This key may send only.",)
    answer = await gateway.client.post(f"{API}/resend/test", json=RESEND, headers=bearer())
    assert answer.json() == {
        "success": True,
        "accepted": True,
        "account": "Acme Ltd",
        "warnings": ["This key may send only."],
    }
    assert [type(asked).__name__ for asked in gateway.services.asked] == ["TestCredentialRequest"]
    asked = gateway.services.asked[0]
    assert (asked.org_id, asked.credential.resend.api_key) == ("acme", RESEND["apiKey"])
    assert gateway.services.integrations == {}


async def test_a_tried_credential_that_is_refused_says_why_and_where(gateway: Gateway) -> None:
    gateway.services.refusal = "Resend does not know this key."
    answer = await gateway.client.post(f"{API}/resend/test", json=RESEND, headers=bearer())
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "success": True,
            "accepted": False,
            "error": "Resend does not know this key.",
            "code": "INVALID_CREDENTIALS",
            "field": "apiKey",
        },
    )


async def test_a_rotation_says_when_the_next_is_due(gateway: Gateway) -> None:
    shown = connected_account(pb.PROVIDER_RESEND, "Acme Ltd")
    gateway.services.integrations = {("acme", pb.PROVIDER_RESEND): shown}
    answer = await gateway.client.post(f"{API}/resend/rotate", headers=bearer())
    assert answer.json() == {"success": True, "connected": True, "rotationDueAt": "2026-11-23T10:00:00.000Z"}
    asked = gateway.services.asked[0]
    assert (asked.org_id, asked.provider, asked.origin.on_behalf_of) == (
        "acme",
        pb.PROVIDER_RESEND,
        "ada@acme.example",
    )


async def test_a_disconnect_names_what_it_could_not_take_back(gateway: Gateway) -> None:
    gateway.services.integrations = {("acme", pb.PROVIDER_VAPI): connected_vapi()}
    gateway.services.unreleased = ("The inbound assistant could not be deleted.",)
    answer = await gateway.client.delete(f"{API}/vapi", headers=bearer())
    assert answer.json()["unreleased"] == ["The inbound assistant could not be deleted."]


@pytest.mark.parametrize(
    ("method", "path", "body", "deadline"),
    [
        ("GET", "status", None, 5),
        ("POST", "vapi", VAPI, 60),
        ("POST", "vapi/test", VAPI, 40),
        ("POST", "vapi/rotate", None, 60),
        ("POST", "vapi/verify", None, 40),
        ("POST", "vapi/reconnect", None, 40),
        ("DELETE", "vapi", None, 40),
    ],
)
async def test_each_call_has_a_deadline_and_carries_the_request_id(
    gateway: Gateway, method: str, path: str, body: dict[str, str] | None, deadline: float
) -> None:
    gateway.services.integrations = {("acme", pb.PROVIDER_VAPI): connected_vapi()}
    answer = await gateway.client.request(
        method, f"{API}/{path}", json=body, headers=bearer() | {"X-Request-Id": "request-0001"}
    )
    assert answer.status_code == 200
    assert [{"timeout": deadline, "metadata": (("x-request-id", "request-0001"),)}] == gateway.services.metadata
    assert answer.headers["x-request-id"] == "request-0001"


async def test_verify_tells_what_the_provider_said(gateway: Gateway) -> None:
    gateway.services.integrations = {("acme", pb.PROVIDER_VAPI): connected_vapi()}
    assert (await gateway.client.post(f"{API}/vapi/verify", headers=bearer())).json() == {
        "success": True,
        "connected": True,
        "lastVerified": "2026-11-23T10:00:00.000Z",
        "error": None,
    }
    gateway.services.refusal = "Vapi no longer recognises this key."
    assert (await gateway.client.post(f"{API}/vapi/verify", headers=bearer())).json() == {
        "success": True,
        "connected": False,
        "lastVerified": "2026-11-23T10:00:00.000Z",
        "error": "Vapi no longer recognises this key.",
    }
    assert gateway.services.asked[0].origin.on_behalf_of == "ada@acme.example"


async def test_disconnect_says_what_happened_and_reconnect_undoes_it(gateway: Gateway) -> None:
    gateway.services.integrations = {("acme", pb.PROVIDER_TWILIO): connected_twilio("+15005550100")}
    gone = (await gateway.client.delete(f"{API}/twilio", headers=bearer())).json()
    assert gone["success"] is True
    assert "Twilio is disconnected" in gone["message"]
    assert "unreleased" not in gone
    back = (await gateway.client.post(f"{API}/twilio/reconnect", headers=bearer())).json()
    assert {"success": True, "connected": True, "phoneNumber": "+1••••••0100"}.items() <= back.items()
    origins = [request.origin.on_behalf_of for request in gateway.services.asked]
    assert origins == ["ada@acme.example"] * 2


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/verify"), ("DELETE", ""), ("POST", "/reconnect"), ("POST", "/rotate")]
)
async def test_what_was_never_connected_is_not_found(gateway: Gateway, method: str, path: str) -> None:
    answer = await gateway.client.request(method, f"{API}/vapi{path}", headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (404, "CREDENTIAL_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", ""), ("POST", "/test"), ("POST", "/verify"), ("DELETE", ""), ("POST", "/reconnect"), ("POST", "/rotate")],
)
async def test_an_unknown_provider_is_not_found_and_the_known_ones_are_named(
    gateway: Gateway, method: str, path: str
) -> None:
    for name in ("slack", "Vapi", "google_calendar"):
        answer = await gateway.client.request(method, f"{API}/{name}{path}", headers=bearer())
        assert (answer.status_code, answer.json()["code"]) == (404, "UNKNOWN_PROVIDER")
        assert "vapi, twilio, googleCalendar, resend, elevenlabs" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["", "/test"])
async def test_a_provider_that_asks_for_consent_takes_no_credential(gateway: Gateway, path: str) -> None:
    answer = await gateway.client.post(f"{API}/googleCalendar{path}", json={"apiKey": "x"}, headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (409, "CONSENT_REQUIRED")
    assert "/api/auth/google-calendar/start" in answer.json()["detail"]
    assert gateway.services.asked == []


@pytest.mark.parametrize("path", ["twilio", "twilio/test"])
async def test_a_body_that_is_none_is_refused_and_nothing_is_asked(gateway: Gateway, path: str) -> None:
    body = {"accountSid": "AC1", "authToken": 7, "savedWebhooks": "x", "orgId": "globex"}
    answer = await gateway.client.post(f"{API}/{path}", json=body, headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_REQUEST")
    assert {"authToken", "savedWebhooks", "orgId"} == set(answer.json()["fields"])
    assert gateway.services.asked == []


async def test_what_the_provider_service_finds_wrong_is_reported_by_field(gateway: Gateway) -> None:
    wrong = {"accountSid": "Enter the Account SID.", "phoneNumber": "Enter the phone number."}
    gateway.services.failure = InvalidRequest("2 fields need attention.", fields=wrong)
    answer = await gateway.client.post(f"{API}/twilio", json={}, headers=bearer())
    assert (answer.status_code, answer.json()["fields"]) == (422, wrong)
    assert gateway.services.asked[0].credential.WhichOneof("kind") == "twilio"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/verify"), ("DELETE", ""), ("POST", "/reconnect"), ("POST", "/rotate")]
)
async def test_an_org_in_the_body_of_a_call_without_fields_is_refused(gateway: Gateway, method: str, path: str) -> None:
    answer = await gateway.client.request(method, f"{API}/vapi{path}", json={"orgId": "globex"}, headers=bearer())
    assert (answer.status_code, list(answer.json()["fields"])) == (422, ["orgId"])
    assert gateway.services.asked == []


async def test_a_refused_key_says_which_field_in_a_sentence(gateway: Gateway) -> None:
    gateway.services.failure = InvalidCredentials("Vapi does not know it.", fields={"api_key": "Check the key."})
    answer = await gateway.client.post(f"{API}/vapi", json=VAPI, headers=bearer())
    assert (
        answer.status_code,
        *(answer.json()[name] for name in ("code", "detail", "fields")),
    ) == (422, "INVALID_CREDENTIALS", "Vapi does not know it.", {"apiKey": "Check the key."})


@pytest.mark.parametrize(
    ("failure", "status", "retry_after"),
    [
        (RateLimited(retry_after=3.2), 429, "4"),
        (ProviderUnavailable(), 503, "5"),
        (LeaseHeld(retry_after=0), 409, "1"),
    ],
)
async def test_what_may_work_later_says_when(
    gateway: Gateway, failure: Exception, status: int, retry_after: str
) -> None:
    gateway.services.failure = failure
    answer = await gateway.client.post(f"{API}/vapi", json=VAPI, headers=bearer())
    assert (status, retry_after) == (answer.status_code, answer.headers["retry-after"])


@pytest.mark.parametrize("failure", [Unauthenticated(), PermissionDenied(), DeadlineRequired()])
async def test_a_service_that_refuses_the_gateway_does_not_send_people_to_sign_in(
    gateway: Gateway, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.services.failure = failure
    answer = await gateway.client.get(f"{API}/status", headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    assert "a service refused the gateway" in caplog.messages


@pytest.mark.parametrize("role", ["viewer", None, ["viewer", "support"], {"admin": True}])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "vapi", VAPI),
        ("POST", "vapi/test", VAPI),
        ("POST", "vapi/verify", None),
        ("POST", "vapi/reconnect", None),
        ("POST", "vapi/rotate", None),
        ("DELETE", "vapi", None),
    ],
)
async def test_changes_are_for_administrators(
    gateway: Gateway, role: Any, method: str, path: str, body: dict[str, str] | None
) -> None:
    answer = await gateway.client.request(method, f"{API}/{path}", json=body, headers=bearer(role=role))
    assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")
    assert gateway.services.asked == []
    assert (await gateway.client.get(f"{API}/status", headers=bearer(role=role))).status_code == 200


@pytest.mark.parametrize("role", ["admin", "owner", ["viewer", "owner"]])
async def test_each_of_the_administrators_roles_may_change(gateway: Gateway, role: Any) -> None:
    answer = await gateway.client.post(f"{API}/vapi", json=VAPI, headers=bearer(role=role))
    assert answer.status_code == 200
