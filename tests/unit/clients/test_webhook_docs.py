"""What docs/webhooks.md shows works as it stands there."""

import hashlib
import hmac
import json
import re
import time
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    ElevenLabsCredential,
    Provider,
    ResendCredential,
    ResolvedOrg,
    ResourceKind,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.errors import ResourceNotFound
from tenantvault.secret import Secret
from tenantvault.webhooks import Cause, Mark, Seen, Webhooks, resend

PAGE = Path(__file__).parents[3] / "docs/webhooks.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)

CREDENTIALS: dict[Provider, Credential] = {
    Provider.VAPI: VapiCredential(api_key=Secret("k"), webhook_secret=Secret("vapi-secret")),
    Provider.TWILIO: TwilioCredential(account_sid="AC1", auth_token=Secret("token"), phone_number="+14155550100"),
    Provider.ELEVENLABS: ElevenLabsCredential(api_key=Secret("k"), webhook_secret=Secret("wsec_1")),
}


class Vault:
    """One org, acme, whose number is +14155550100."""

    def remembered(self, org_id: str, provider: Provider, *, include_previous: bool = False) -> None:
        return None

    async def get(
        self, org_id: str, provider: Provider, *, include_previous: bool = False, from_memory: bool = True
    ) -> ActiveCredential[Credential]:
        return ActiveCredential(
            org_id=org_id,
            provider=provider,
            version=1,
            credential=CREDENTIALS[provider],
            resources=(),
            last_verified_at=None,
            generation=1,
        )

    async def resolve_credential(
        self, kind: ResourceKind, resource_id: str, provider: Provider, *, include_previous: bool = False
    ) -> ActiveCredential[Credential]:
        if resource_id != "+14155550100":
            raise ResourceNotFound
        return await self.get("acme", provider)

    async def resolve_org(self, kind: ResourceKind, resource_id: str) -> ResolvedOrg:
        raise ResourceNotFound


@dataclass(slots=True)
class Redis:
    """As Redis 7 does it, and redis-py gives it: with `get` the value before, and None where there was none."""

    kept: dict[str, tuple[bytes, int]] = field(default_factory=dict)

    async def set(self, key: str, value: bytes, *, px: int, nx: bool = False, get: bool = False) -> bytes | bool | None:
        before = self.kept.get(key)
        if not (nx and before):
            self.kept[key] = (value, px)
        if get:
            return before[0] if before else None
        return None if nx and before else True

    async def delete(self, key: str) -> None:
        self.kept.pop(key, None)


def shown(name: str) -> Any:
    """What a block of the page defines."""
    (block,) = (block for block in BLOCKS if re.search(rf"^(?:class|def) {name}\b", block, re.MULTILINE))
    namespace: dict[str, Any] = {}
    exec(compile(block, PAGE.name, "exec"), namespace)
    return namespace[name]


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://10.0.0.1:8000")


@pytest.fixture
def web() -> httpx.AsyncClient:
    hooks = shown("application")(Vault())
    assert isinstance(hooks, Webhooks)
    return client(hooks)


async def test_a_question_of_vapi_is_answered(web: httpx.AsyncClient) -> None:
    body = {"message": {"type": "assistant-request", "phoneNumber": {"number": "+14155550100"}}}
    answer = await web.post("/vapi", json=body, headers={"X-Vapi-Secret": "vapi-secret"})
    assert (answer.status_code, list(answer.json())) == (200, ["assistantId"])
    assert 401 == (await web.post("/vapi", json=body, headers={"X-Vapi-Secret": "guess"})).status_code


@pytest.mark.parametrize("mounted", ["", "/webhooks"])
async def test_a_call_of_twilio_is_answered_where_the_application_is_mounted(mounted: str) -> None:
    web = client(Starlette(routes=[Mount(mounted, shown("application")(Vault()))]))
    form = {"CallSid": "CA1", "CallStatus": "ringing"}
    url = f"{mounted}/twilio/acme?v=%31"
    text = f"https://hooks.example.com{url}" + "".join(name + form[name] for name in sorted(form))
    signature = b64encode(hmac.new(b"token", text.encode(), hashlib.sha1).digest()).decode()
    answer = await web.post(url, data=form, headers={"X-Twilio-Signature": signature})
    assert (answer.status_code, answer.text) == (200, "<Response><Say>Hello</Say></Response>")


async def test_a_large_conversation_is_taken(web: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"conversation_id": "conv_1", "full_audio": "A" * 2_000_000}
    body = json.dumps({"type": "post_call_audio", "event_timestamp": 1, "data": data}).encode()
    seconds = int(time.time())
    digest = hmac.new(b"wsec_1", f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"ElevenLabs-Signature": f"t={seconds},v0={digest}"}
    assert 200 == (await web.post("/elevenlabs/acme", content=body, headers=headers)).status_code
    assert "acme post_call_audio conv_1\n" == capsys.readouterr().out


async def test_what_was_seen_can_be_kept_in_redis() -> None:
    redis = Redis()
    seen: Seen = shown("SeenInRedis")(redis)
    assert await seen.add("resend:acme:1", 1.5) is Mark.NEW
    assert await seen.add("resend:acme:1", 9) is Mark.UNDER_WAY
    assert redis.kept == {"webhook:resend:acme:1": (b"under_way", 1500)}
    await seen.keep("resend:acme:1", 60)
    assert await seen.add("resend:acme:1", 1.5) is Mark.TAKEN
    assert redis.kept == {"webhook:resend:acme:1": (b"taken", 60000)}
    await seen.discard("resend:acme:1")
    assert await seen.add("resend:acme:1", 1.5) is Mark.NEW


async def test_a_module_checks_alone() -> None:
    key, body, seconds = b"a key of twenty-four byt", b'{"type":"email.sent"}', int(time.time())
    digest = hmac.new(key, f"msg_1.{seconds}.".encode() + body, hashlib.sha256).digest()
    headers = {"Svix-Id": "msg_1", "Svix-Timestamp": str(seconds), "Svix-Signature": f"v1,{b64encode(digest).decode()}"}
    credential = ResendCredential(api_key=Secret("k"), webhook_secret=Secret(f"whsec_{b64encode(key).decode()}"))
    active = type("Active", (), {"credential": credential, "previous": None})()
    assert "email.sent" == shown("checked")(body, headers, active).type


def test_the_page_names_every_cause() -> None:
    page = PAGE.read_text("utf-8")
    assert [cause for cause in Cause if f"`{cause}`" not in page] == []
    assert f"{resend.TOLERANCE / 60:.0f} minutes either way" in page
