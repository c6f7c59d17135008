"""What one org, one certificate, one bad request can reach: not more than its own."""

import json
import uuid
from typing import Any

import httpx
import pytest

from tenantvault import Provider, ResourceKind
from tenantvault.errors import CredentialUnreadable, PermissionDenied, ResourceNotFound, TenantVaultError
from tests.e2e.conftest import Product
from tests.e2e.test_connect import new_org, twilio_account, vapi_key
from tests.e2e.test_consent import consent
from tests.e2e.test_providers import elevenlabs_key, resend_key

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("stack")]


async def test_an_org_sees_nothing_of_another_through_rest(product: Product) -> None:
    acme, globex, key = new_org(), new_org(), vapi_key()
    async with product.api(acme) as api:
        made = (await api.post("/api/integrations/vapi", json={"apiKey": key})).json()
    async with product.api(globex) as api:
        status = await api.get("/api/integrations/status", params={"orgId": acme, "org_id": acme})
        assert {"empty"} == {entry["state"] for entry in status.json().values()}
        named = await api.post("/api/integrations/vapi", json={"apiKey": vapi_key(), "orgId": acme})
        assert 422 == named.status_code
        for answer in (
            await api.post("/api/integrations/vapi/verify"),
            await api.delete("/api/integrations/vapi"),
            await api.post("/api/integrations/vapi/reconnect"),
        ):
            assert 404 == answer.status_code
            assert made["inboundAssistantId"] not in answer.text
    async with product.api(acme) as api:
        assert (await api.get("/api/integrations/status")).json()["vapi"]["connected"]


async def test_a_row_copied_to_another_org_does_not_decrypt(product: Product) -> None:
    acme, globex = new_org(), new_org()
    for org in (acme, globex):
        async with product.api(org) as api:
            (await api.post("/api/integrations/vapi", json={"apiKey": vapi_key()})).raise_for_status()
    await product.sql(
        "UPDATE org_credentials g SET encrypted_config = a.encrypted_config FROM org_credentials a"
        " WHERE a.org_id = $1 AND g.org_id = $2 AND a.provider = g.provider",
        acme,
        globex,
    )
    async with product.vault() as vault:
        with pytest.raises(CredentialUnreadable):
            await vault.vapi(globex)
        assert acme == (await vault.vapi(acme)).org_id


async def test_the_gateways_certificate_gets_no_plaintext(product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        made = (await api.post("/api/integrations/vapi", json={"apiKey": vapi_key()})).json()
    async with product.vault("gateway") as vault:
        with pytest.raises(PermissionDenied):
            await vault.vapi(org)
        with pytest.raises(PermissionDenied):
            await vault.resolve_credential(ResourceKind.VAPI_ASSISTANT, made["inboundAssistantId"], Provider.VAPI)


async def test_an_unknown_resource_is_not_found(product: Product) -> None:
    async with product.vault("webhook-processor") as vault:
        with pytest.raises(ResourceNotFound):
            await vault.resolve_org(ResourceKind.VAPI_ASSISTANT, str(uuid.uuid4()))


BAD: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/integrations/vapi", {"json": {}}),
    ("POST", "/api/integrations/vapi", {"json": {"apiKey": 7}}),
    ("POST", "/api/integrations/vapi", {"json": {"apiKey": "short"}}),
    ("POST", "/api/integrations/vapi", {"json": ["apiKey"]}),
    ("POST", "/api/integrations/vapi", {"json": {"apiKey": "x" * 2_000_000}}),
    ("POST", "/api/integrations/vapi", {"content": b'{"apiKey": ', "headers": {"Content-Type": "application/json"}}),
    ("POST", "/api/integrations/vapi", {"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/api/integrations/vapi", {"data": {"apiKey": "form"}}),
    ("POST", "/api/integrations/vapi", {}),
    ("POST", "/api/integrations/twilio", {"json": {"accountSid": "nope", "authToken": None, "phoneNumber": "12"}}),
    ("POST", "/api/integrations/slack", {"json": {}}),
    ("POST", "/api/integrations/slack/verify", {}),
    ("POST", "/api/integrations/resend", {"json": {"apiKey": "re_x"}}),
    ("POST", "/api/integrations/resend", {"json": {"apiKey": "re_" + "x" * 30, "webhookId": "mine"}}),
    ("POST", "/api/integrations/googleCalendar", {"json": {"refreshToken": "1//x"}}),
    ("POST", "/api/integrations/vapi/test", {"json": {"apiKey": "short"}}),
    ("POST", "/api/auth/google-calendar/callback", {"json": {"code": "x"}}),
    ("POST", "/api/auth/google-calendar/callback", {"json": {"code": "x", "state": "y"}}),
    ("DELETE", "/api/integrations/%00", {}),
    ("PUT", "/api/integrations/vapi", {"json": {}}),
    ("GET", "/api/integrations/nothing/here", {}),
]


@pytest.mark.parametrize(("method", "path", "request_"), BAD)
async def test_bad_input_is_a_clear_4xx(product: Product, method: str, path: str, request_: dict[str, Any]) -> None:
    async with product.api(new_org()) as api:
        answer = await api.request(method, path, **request_)
    assert 400 <= answer.status_code < 500, answer.text
    assert "application/problem+json" == answer.headers["Content-Type"]
    problem = answer.json()
    assert problem["success"] is False
    assert problem["code"]
    assert problem["detail"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"apiKey"}),
        ({"apiKey": "short", "region": "moon", "webhookSecret": "x"}, {"apiKey", "region", "webhookSecret"}),
        ({"apiKey": 7, "webhookSecret": 3, "surprise": 1}, {"apiKey", "webhookSecret", "surprise"}),
    ],
)
async def test_every_bad_field_is_named_at_once(product: Product, body: dict[str, Any], fields: set[str]) -> None:
    async with product.api(new_org()) as api:
        answer = await api.post("/api/integrations/vapi", json=body)
    assert (422, fields) == (answer.status_code, set(answer.json()["fields"]))


async def test_without_a_token_there_is_nothing(product: Product) -> None:
    async with httpx.AsyncClient(base_url=product.stack.gateway_url) as client:
        for method, path in (
            ("GET", "/api/integrations/status"),
            ("POST", "/api/integrations/vapi"),
            ("DELETE", "/api/integrations/vapi"),
            ("GET", "/api/integrations/providers"),
            ("POST", "/api/auth/google-calendar/start"),
            ("POST", "/api/auth/google-calendar/callback"),
        ):
            assert 401 == (await client.request(method, path)).status_code


async def everything_written(product: Product) -> str:
    """All that the product keeps in the open: logs, tables, metrics."""
    parts = [product.stack.logs(name) for name in ("gateway", "vault", "provider", "sandbox", "postgres", "migrate")]
    tables = await product.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for table in tables:
        rows = await product.sql(f"SELECT t::text AS line FROM {table['tablename']} t")
        parts += [row["line"] for row in rows]
        parts += [bytes.fromhex(part).decode("latin-1") for row in rows for part in _byte_columns(row["line"])]
    async with httpx.AsyncClient(base_url=product.stack.gateway_url) as client:
        parts.append((await client.get("/metrics")).text)
    return "\n".join(parts)


def _byte_columns(line: str) -> list[str]:
    return [part.strip('"').removeprefix("\\\\x") for part in line.strip("()").split(",") if "\\\\x" in part]


async def test_no_planted_secret_is_written_anywhere(product: Product) -> None:
    org = new_org()
    good_key, good_twilio = vapi_key(), twilio_account()
    good_resend, good_elevenlabs = resend_key(), elevenlabs_key()
    hook, key_secret = f"canary-{uuid.uuid4().hex}", f"canary{uuid.uuid4().hex[:26]}"
    refused = f"canary-{uuid.uuid4()}"
    answers = []
    async with product.api(org) as api, product.vault() as vault:
        for path, body in (
            ("vapi", {"apiKey": good_key, "webhookSecret": hook}),
            ("vapi", {"apiKey": refused, "webhookSecret": hook}),
            ("vapi", {"apiKey": [refused], "webhookSecret": {"x": hook}}),
            ("vapi", {"apiKey": f"{refused} {refused}", hook: 1}),
            ("twilio", good_twilio),
            ("twilio", {**good_twilio, "authToken": key_secret}),
            ("twilio", {**good_twilio, "authToken": "", "apiKeySid": f"SK{'0' * 32}", "apiKeySecret": key_secret}),
            ("twilio", {"accountSid": key_secret, "authToken": refused, "phoneNumber": refused}),
            ("resend", {"apiKey": good_resend}),
            ("resend", {"apiKey": refused, "webhookSecret": hook}),
            ("elevenlabs", {"apiKey": good_elevenlabs, "webhookSecret": hook}),
            ("elevenlabs/test", {"apiKey": refused, "webhookSecret": hook}),
            ("slack", {"apiKey": refused}),
        ):
            answers.append((await api.post(f"/api/integrations/{path}", json=body)).text)
        answers.append((await api.post("/api/integrations/vapi", content=json.dumps({"apiKey": refused})[:-1])).text)
        answers.append((await api.post("/api/integrations/vapi/verify")).text)
        answers.append((await api.get("/api/integrations/status", params={"key": refused})).text)
        came = await consent(api, f"{org}@acme.example")
        answers.append((await api.post("/api/auth/google-calendar/callback", json=came)).text)
        answers.append((await api.post("/api/auth/google-calendar/callback", json=came | {"error": refused})).text)
        google = (await vault.google_calendar(org)).credential
        tokens = [token.reveal() for token in (google.refresh_token, google.access_token, google.channel_token)]
        got = await vault.vapi(org)
        shown = f"{got} {got!r} {got.credential!r}"
        for secret in (good_key, hook):
            assert secret in (got.credential.api_key.reveal(), got.credential.webhook_secret.reveal())
        try:
            await vault.vapi(refused)
        except TenantVaultError as error:
            shown += f"{error} {error!r} {error.fields}"
    written = await everything_written(product) + "\n".join(answers) + shown
    assert org in written
    typed_in = (good_key, good_twilio["authToken"], good_resend, good_elevenlabs, hook, key_secret, refused)
    for secret in (*typed_in, *tokens, came["code"]):
        assert secret not in written
