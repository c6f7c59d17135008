from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from deploy.sandbox.answers import SLOW_SECONDS
from deploy.sandbox.resend import Resend
from deploy.sandbox.resend_keys import FAILURES, token_of, typed

TEAM = "A" * 24
HOOK = {"endpoint": "https://hooks.example.com/r", "events": ["email.sent", "email.bounced"]}


class Bench:
    """The stand-in, a clock and a client for each key."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
        self.naps: list[float] = []
        numbers = count(1)
        self.resend = Resend(
            now=lambda: self.now,
            new_id=lambda: f"00000000-0000-4000-8000-{next(numbers):012}",
            sleep=self._sleep,
        )
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.resend.app()), base_url="http://sandbox")

    async def ask(self, method: str, path: str, body: object = None, *, key: str = f"re_first111_{TEAM}") -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        return await self.client.request(method, path, json=body, headers=headers)

    async def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with bench.client:
        yield bench


def error(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert {"statusCode", "message", "name"} == set(body)
    assert response.status_code == body["statusCode"]
    return response.status_code, body["name"]


async def test_a_key_with_full_access_sees_its_domains(bench: Bench) -> None:
    body = (await bench.ask("GET", "/domains?limit=1")).json()
    assert ("list", False, "verified") == (body["object"], body["has_more"], body["data"][0]["status"])
    assert [] == (await bench.ask("GET", "/domains", key=f"re_bare1111_{TEAM}")).json()["data"]


@pytest.mark.parametrize("code", FAILURES)
async def test_a_key_may_ask_for_its_failure(bench: Bench, code: str) -> None:
    response = await bench.ask("GET", "/domains", key=f"re_fa11{code}_{TEAM}")
    status, name, message = FAILURES[code]
    assert (status, name) == error(response)
    assert message == response.json()["message"]
    assert ("Retry-After" in response.headers) == (name == "rate_limit_exceeded")


async def test_a_proxy_answers_in_html_and_a_slow_key_in_its_time(bench: Bench) -> None:
    response = await bench.ask("GET", "/domains", key=f"re_fa110502_{TEAM}")
    assert (502, "text/html") == (response.status_code, response.headers["Content-Type"].split(";")[0])
    response = await bench.ask("GET", "/domains", key=f"re_fa110504_{TEAM}")
    assert (200, [SLOW_SECONDS]) == (response.status_code, bench.naps)


@pytest.mark.parametrize("key", ["", "re_short", "sk_" + "0" * 48, f"re_first111_{TEAM}x"])
async def test_what_is_no_key_is_refused_as_not_valid(bench: Bench, key: str) -> None:
    response = await bench.ask("GET", "/domains", key=key)
    assert (401, "validation_error") == error(response)
    assert "API key is invalid" == response.json()["message"]


async def test_a_key_that_may_only_send_does_nothing_else(bench: Bench) -> None:
    key = f"re_send1111_{TEAM}"
    for method, path in (("GET", "/domains"), ("POST", "/webhooks"), ("GET", "/api-keys")):
        assert (401, "restricted_api_key") == error(await bench.ask(method, path, key=key))
    email = {"from": "a@mail.example.com", "to": "b@x.test", "subject": "Hello"}
    assert 200 == (await bench.ask("POST", "/emails", email, key=key)).status_code
    assert (422, "missing_required_field") == error(await bench.ask("POST", "/emails", {"to": "x"}, key=key))


async def test_a_key_that_is_not_active_says_so(bench: Bench) -> None:
    response = await bench.ask("GET", "/domains", key=f"re_idle1111_{TEAM}")
    assert (403, "restricted_api_key") == error(response)
    assert "not active" in response.json()["message"]


async def test_a_request_without_its_headers_goes_nowhere(bench: Bench) -> None:
    assert (401, "missing_api_key") == error(await bench.client.get("/domains"))
    response = await bench.client.get("/domains", headers={"User-Agent": ""})
    assert (403, "error code: 1010") == (response.status_code, response.text)


async def test_a_busy_team_has_five_requests_a_second(bench: Bench) -> None:
    keys = [f"re_busy{number:04}_{TEAM}" for number in range(6)]
    answers = [await bench.ask("GET", "/domains", key=key) for key in keys]
    assert [200] * 5 + [429] == [answer.status_code for answer in answers]
    assert ["4", "3", "2", "1", "0", "0"] == [answer.headers["ratelimit-remaining"] for answer in answers]
    assert "1" == answers[-1].headers["retry-after"] == answers[-1].headers["ratelimit-reset"]
    bench.now += timedelta(seconds=1)
    assert 200 == (await bench.ask("GET", "/domains", key=keys[0])).status_code


async def test_a_webhook_shows_its_secret_when_it_is_made_and_when_it_is_fetched(bench: Bench) -> None:
    created = await bench.ask("POST", "/webhooks", HOOK)
    made = created.json()
    assert (201, "webhook") == (created.status_code, made["object"])
    assert made["signing_secret"].startswith("whsec_")
    shown = (await bench.ask("GET", f"/webhooks/{made['id']}")).json()
    assert HOOK | {"status": "enabled", "signing_secret": made["signing_secret"]} == {
        name: shown[name] for name in (*HOOK, "status", "signing_secret")
    }
    (listed,) = (await bench.ask("GET", "/webhooks")).json()["data"]
    assert "signing_secret" not in listed
    assert made["signing_secret"] not in repr(bench.resend.state())


async def test_a_webhook_is_changed_and_deleted_by_its_own_team(bench: Bench) -> None:
    path = f"/webhooks/{(await bench.ask('POST', '/webhooks', HOOK)).json()['id']}"
    for method in ("GET", "PATCH", "DELETE"):
        response = await bench.ask(method, path, {}, key="re_first111_" + "B" * 24)
        assert (404, "not_found") == error(response)
    assert 200 == (await bench.ask("PATCH", path, {"status": "disabled"}, key=f"re_second11_{TEAM}")).status_code
    assert "disabled" == (await bench.ask("GET", path)).json()["status"]
    assert (await bench.ask("DELETE", path)).json()["deleted"]
    assert (404, "not_found") == error(await bench.ask("DELETE", path))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "missing_required_field"),
        (HOOK | {"endpoint": "hooks"}, "validation_error"),
        (HOOK | {"events": ["email.eaten"]}, "validation_error"),
        (HOOK | {"events": "email.sent"}, "validation_error"),
        (HOOK | {"status": "asleep"}, "validation_error"),
    ],
)
async def test_a_webhook_that_is_not_valid_is_not_made(bench: Bench, body: dict[str, Any], name: str) -> None:
    assert (422, name) == error(await bench.ask("POST", "/webhooks", body))
    assert [] == (await bench.ask("GET", "/webhooks")).json()["data"]


async def test_lists_have_pages_newest_first(bench: Bench) -> None:
    ids = [(await bench.ask("POST", "/webhooks", HOOK)).json()["id"] for _ in range(5)][::-1]

    async def page(query: str) -> tuple[list[str], bool]:
        body = (await bench.ask("GET", f"/webhooks?{query}")).json()
        return [each["id"] for each in body["data"]], body["has_more"]

    assert (ids[:2], True) == await page("limit=2")
    assert (ids[2:4], True) == await page(f"limit=2&after={ids[1]}")
    assert (ids[4:], False) == await page(f"limit=2&after={ids[3]}")
    assert (ids[1:3], False) == await page(f"limit=2&before={ids[3]}")
    assert ([], False) == await page("after=unknown")
    for limit in ("0", "101", "x", "-1", "9" * 5000):
        assert (422, "validation_error") == error(await bench.ask("GET", f"/webhooks?limit={limit}"))


async def test_a_new_key_works_at_once_and_a_deleted_one_not_any_more(bench: Bench) -> None:
    created = await bench.ask("POST", "/api-keys", {"name": "made here", "permission": "full_access"})
    made = created.json()
    assert (201, {"id", "token"}) == (created.status_code, set(made))
    assert 200 == (await bench.ask("GET", "/domains", key=made["token"])).status_code
    listed = (await bench.ask("GET", "/api-keys", key=made["token"])).json()["data"]
    assert ["made here", "Onboarding"] == [key["name"] for key in listed]
    assert made["token"] not in repr((listed, bench.resend.state()))
    deleted = await bench.ask("DELETE", f"/api-keys/{made['id']}")
    assert (200, b"") == (deleted.status_code, deleted.content)
    assert (401, "validation_error") == error(await bench.ask("GET", "/domains", key=made["token"]))
    assert (404, "not_found") == error(await bench.ask("DELETE", f"/api-keys/{made['id']}"))


async def test_a_key_may_delete_itself_and_no_other_teams(bench: Bench) -> None:
    (own,) = (await bench.ask("GET", "/api-keys")).json()["data"]
    path = f"/api-keys/{own['id']}"
    assert (404, "not_found") == error(await bench.ask("DELETE", path, key="re_first111_" + "B" * 24))
    assert 200 == (await bench.ask("DELETE", path)).status_code
    assert (401, "validation_error") == error(await bench.ask("GET", "/domains"))


async def test_a_new_key_for_sending_only_sends(bench: Bench) -> None:
    made = (await bench.ask("POST", "/api-keys", {"name": "n", "permission": "sending_access"})).json()
    assert (401, "restricted_api_key") == error(await bench.ask("GET", "/domains", key=made["token"]))


@pytest.mark.parametrize(
    "body", [{}, {"name": "x" * 51}, {"name": 7}, {"name": "n", "permission": "all"}, {"name": "n", "permission": []}]
)
async def test_a_key_that_is_not_valid_is_not_made(bench: Bench, body: dict[str, Any]) -> None:
    assert 422 == (await bench.ask("POST", "/api-keys", body)).status_code


async def test_the_state_is_forgotten_by_a_reset(bench: Bench) -> None:
    await bench.ask("POST", "/webhooks", HOOK)
    account = bench.resend.account(Headers({"Authorization": f"Bearer re_first111_{TEAM}"}))
    team = bench.resend.state()["teams"][account]
    assert [HOOK["endpoint"]] == [webhook["endpoint"] for webhook in team["webhooks"]]
    assert [("Onboarding", "full_access")] == [(key["name"], key["permission"]) for key in team["api_keys"]]
    bench.resend.reset()
    assert {"teams": {}} == bench.resend.state()


@pytest.mark.parametrize("status", [400, 401, 429, 500, 502, 503])
async def test_an_error_that_is_ordered_is_worded_as_the_vendor_does(bench: Bench, status: int) -> None:
    assert status == bench.resend.refusal(status).status_code


async def test_a_body_that_is_none_and_an_endpoint_that_is_not_there(bench: Bench) -> None:
    headers = {"Authorization": f"Bearer re_first111_{TEAM}"}
    response = await bench.client.post("/webhooks", content=b"{", headers=headers)
    assert (400, "validation_error") == error(response)
    assert (404, "not_found") == error(await bench.ask("PUT", "/webhooks"))


@given(st.uuids().map(str))
def test_the_token_of_a_new_key_has_the_form_of_one(key_id: str) -> None:
    assert typed(token_of(key_id), datetime.now(UTC)) is not None
