from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from deploy.sandbox.answers import SLOW_SECONDS
from deploy.sandbox.elevenlabs import ElevenLabs
from deploy.sandbox.elevenlabs_keys import FAILURES, STATUSES

WORKSPACE = "0123456789abcdef" * 2
WEBHOOKS = "/v1/workspace/webhooks"
SETTINGS = "/v1/convai/settings"
HOOK = {"settings": {"auth_type": "hmac", "name": "n", "webhook_url": "https://hooks.example.com/e"}}


def key_like(head: str, workspace: str = WORKSPACE) -> str:
    return f"sk_{head:0<16}{workspace}"


class Bench:
    """The stand-in, and a client for each key."""

    def __init__(self) -> None:
        self.naps: list[float] = []
        numbers = count(1)
        self.elevenlabs = ElevenLabs(
            now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            new_id=lambda: f"00000000-0000-4000-8000-{next(numbers):012}",
            sleep=self._sleep,
        )
        transport = httpx.ASGITransport(self.elevenlabs.app())
        self.client = httpx.AsyncClient(transport=transport, base_url="http://sandbox")

    async def ask(self, method: str, path: str, body: object = None, *, key: str = key_like("1")) -> httpx.Response:
        return await self.client.request(method, path, json=body, headers={"xi-api-key": key})

    async def make(self) -> dict[str, str]:
        made: dict[str, str] = (await self.ask("POST", WEBHOOKS, HOOK)).json()
        return made

    async def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with bench.client:
        yield bench


def code(response: httpx.Response) -> tuple[int, str]:
    detail = response.json()["detail"]
    return response.status_code, detail.get("code", detail["status"])


@pytest.mark.parametrize("key", [key_like("1"), WORKSPACE])
async def test_a_key_shows_its_user(bench: Bench, key: str) -> None:
    body = (await bench.ask("GET", "/v1/user", key=key)).json()
    assert "active" == body["subscription"]["status"]


@pytest.mark.parametrize(("digits", "status"), STATUSES.items())
async def test_a_key_may_ask_for_the_state_of_its_subscription(bench: Bench, digits: str, status: str) -> None:
    body = (await bench.ask("GET", "/v1/user", key=key_like(f"50b5{digits}"))).json()
    assert status == body["subscription"]["status"]


@pytest.mark.parametrize("digits", FAILURES)
async def test_a_key_may_ask_for_its_failure(bench: Bench, digits: str) -> None:
    response = await bench.ask("GET", "/v1/user", key=key_like(f"fa11{digits}"))
    assert FAILURES[digits] == (response.status_code, response.json()["detail"])
    assert ("maximum-concurrent-requests" in response.headers) == (response.status_code == 429)


async def test_a_proxy_answers_in_html_and_a_slow_key_in_its_time(bench: Bench) -> None:
    response = await bench.ask("GET", "/v1/user", key=key_like("fa110502"))
    assert (502, "text/html") == (response.status_code, response.headers["Content-Type"].split(";")[0])
    response = await bench.ask("GET", "/v1/user", key=key_like("fa110504"))
    assert (200, [SLOW_SECONDS]) == (response.status_code, bench.naps)


@pytest.mark.parametrize("key", ["", "sk_short", key_like("1").upper(), key_like("1") + "0", "re_1"])
async def test_what_is_no_key_is_not_known(bench: Bench, key: str) -> None:
    assert (401, "invalid_api_key") == code(await bench.ask("GET", "/v1/user", key=key))


async def test_the_key_goes_in_a_header_of_its_own(bench: Bench) -> None:
    response = await bench.client.get("/v1/user", headers={"Authorization": f"Bearer {key_like('1')}"})
    assert (401, "invalid_api_key") == code(response)


@pytest.mark.parametrize(
    ("head", "path", "permission"),
    [
        ("deaf1000", "/v1/user", "user_read"),
        ("deaf0100", "/v1/models", "models_read"),
        ("deaf0010", "/v2/voices?page_size=1", "voices_read"),
        ("deaf0001", WEBHOOKS, "webhooks_write"),
        ("deaf0001", SETTINGS, "convai_write"),
    ],
)
async def test_a_restricted_key_lacks_one_permission_and_has_the_others(
    bench: Bench, head: str, path: str, permission: str
) -> None:
    response = await bench.ask("GET", path, key=key_like(head))
    assert (401, "missing_permissions") == code(response)
    assert permission in response.json()["detail"]["message"]
    assert 200 == (await bench.ask("GET", path, key=key_like("deaf0000"))).status_code


@pytest.mark.parametrize("size", ["0", "101", "x", "9" * 5000])
async def test_a_page_of_voices_has_one_to_a_hundred(bench: Bench, size: str) -> None:
    assert 422 == (await bench.ask("GET", f"/v2/voices?page_size={size}")).status_code


async def test_the_secret_of_a_webhook_is_shown_once(bench: Bench) -> None:
    made = await bench.make()
    assert {"webhook_id", "webhook_secret"} == set(made)
    listed = await bench.ask("GET", WEBHOOKS)
    (webhook,) = listed.json()["webhooks"]
    assert (made["webhook_id"], "https://hooks.example.com/e") == (webhook["webhook_id"], webhook["webhook_url"])
    assert made["webhook_secret"] not in listed.text + repr(bench.elevenlabs.state())


async def test_a_webhook_is_changed_and_deleted_in_its_own_workspace(bench: Bench) -> None:
    path = f"{WEBHOOKS}/{(await bench.make())['webhook_id']}"
    change = {"is_disabled": True, "name": "other"}
    for method in ("PATCH", "DELETE"):
        response = await bench.ask(method, path, change, key=key_like("1", "f" * 32))
        assert (404, "webhook_not_found") == code(response)
    assert {"status": "ok"} == (await bench.ask("PATCH", path, change, key=key_like("2"))).json()
    (webhook,) = (await bench.ask("GET", WEBHOOKS)).json()["webhooks"]
    assert change == {name: webhook[name] for name in change}
    assert {"status": "ok"} == (await bench.ask("DELETE", path)).json()
    assert (404, "webhook_not_found") == code(await bench.ask("DELETE", path))


@pytest.mark.parametrize("change", [{}, {"is_disabled": True}, {"name": "n"}, {"name": 1, "is_disabled": True}])
async def test_a_change_needs_the_name_and_whether_it_is_disabled(bench: Bench, change: dict[str, Any]) -> None:
    path = f"{WEBHOOKS}/{(await bench.make())['webhook_id']}"
    response = await bench.ask("PATCH", path, change)
    assert 422 == response.status_code
    assert isinstance(response.json()["detail"], list)


@pytest.mark.parametrize(
    "settings",
    [
        None,
        {},
        HOOK["settings"] | {"auth_type": "none"},
        HOOK["settings"] | {"name": ""},
        HOOK["settings"] | {"webhook_url": "hooks"},
    ],
)
async def test_a_webhook_that_is_not_valid_is_not_made(bench: Bench, settings: object) -> None:
    assert 422 == (await bench.ask("POST", WEBHOOKS, {"settings": settings})).status_code
    assert [] == (await bench.ask("GET", WEBHOOKS)).json()["webhooks"]


async def test_a_webhook_that_is_told_of_calls_cannot_be_deleted(bench: Bench) -> None:
    webhook_id = (await bench.make())["webhook_id"]
    chosen = {"post_call_webhook_id": webhook_id, "events": ["transcript"]}
    assert chosen == (await bench.ask("PATCH", SETTINGS, {"webhooks": chosen})).json()["webhooks"]
    assert chosen == (await bench.ask("GET", SETTINGS)).json()["webhooks"]
    assert (400, "webhook_in_use") == code(await bench.ask("DELETE", f"{WEBHOOKS}/{webhook_id}"))
    await bench.ask("PATCH", SETTINGS, {"webhooks": {"post_call_webhook_id": None}})
    assert ["transcript"] == (await bench.ask("GET", SETTINGS)).json()["webhooks"]["events"]
    assert 200 == (await bench.ask("DELETE", f"{WEBHOOKS}/{webhook_id}")).status_code


async def test_a_webhook_of_another_workspace_cannot_be_chosen(bench: Bench) -> None:
    chosen = {"webhooks": {"post_call_webhook_id": (await bench.make())["webhook_id"]}}
    response = await bench.ask("PATCH", SETTINGS, chosen, key=key_like("1", "f" * 32))
    assert (404, "webhook_not_found") == code(response)


@pytest.mark.parametrize(
    ("webhooks", "status"),
    [
        ([], 422),
        ({"events": ["eaten"]}, 422),
        ({"events": "transcript"}, 422),
        ({"post_call_webhook_id": "unknown"}, 404),
        ({"post_call_webhook_id": 7}, 404),
    ],
)
async def test_settings_that_are_not_valid_are_not_taken(bench: Bench, webhooks: object, status: int) -> None:
    assert status == (await bench.ask("PATCH", SETTINGS, {"webhooks": webhooks})).status_code
    assert {"post_call_webhook_id": None, "events": []} == (await bench.ask("GET", SETTINGS)).json()["webhooks"]


async def test_the_state_is_forgotten_by_a_reset(bench: Bench) -> None:
    made = await bench.make()
    await bench.ask("PATCH", SETTINGS, {"webhooks": {"post_call_webhook_id": made["webhook_id"]}})
    account = bench.elevenlabs.account(Headers({"xi-api-key": key_like("1")}))
    state = bench.elevenlabs.state()
    assert [made["webhook_id"]] == [webhook["webhook_id"] for webhook in state["webhooks"][account]]
    assert {account: {"post_call_webhook_id": made["webhook_id"]}} == state["calls"]
    bench.elevenlabs.reset()
    assert {"webhooks": {}, "calls": {}} == bench.elevenlabs.state()
    assert "" == bench.elevenlabs.account(Headers({"xi-api-key": "unknown"}))


@pytest.mark.parametrize("status", [400, 401, 418, 429, 500, 502, 503])
async def test_an_error_that_is_ordered_is_worded_as_the_vendor_does(bench: Bench, status: int) -> None:
    assert status == bench.elevenlabs.refusal(status).status_code


async def test_a_body_that_is_none_and_an_endpoint_that_is_not_there(bench: Bench) -> None:
    response = await bench.client.post(WEBHOOKS, content=b"{", headers={"xi-api-key": key_like("1")})
    assert 422 == response.status_code
    response = await bench.ask("PUT", WEBHOOKS)
    assert (404, {"detail": "Not Found"}) == (response.status_code, response.json())
