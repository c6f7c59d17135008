import asyncio
import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.sandbox.app import create_app
from deploy.sandbox.traffic import DROP

KEY = "ac3e0000-0000-4000-8000-000000000001"
VAPI = {"Authorization": f"Bearer {KEY}"}
ACME = "ACac3e0000000000000000002025550100"
TWILIO = (ACME, "0010555202000000000000000000e3ca")


async def counts(sandbox: httpx.AsyncClient) -> list[tuple[str, str, int | None, int]]:
    entries = (await sandbox.get("/_sandbox/requests")).json()["requests"]
    return [(entry["method"], entry["path"], entry["status"], entry["count"]) for entry in entries]


async def order(sandbox: httpx.AsyncClient, **fault: Any) -> None:
    assert 201 == (await sandbox.post("/_sandbox/faults", json={"provider": "vapi", **fault})).status_code


async def create(sandbox: httpx.AsyncClient) -> httpx.Response:
    return await sandbox.post("/vapi/assistant", json={"name": "made"}, headers=VAPI)


async def stored(sandbox: httpx.AsyncClient) -> int:
    orgs = (await sandbox.get("/_sandbox/state")).json()["vapi"]["assistants"]
    return sum(len(assistants) for assistants in orgs.values())


PROVIDERS = ("vapi", "twilio", "google", "resend", "elevenlabs")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_every_provider_is_below_its_name_and_refuses_strangers_as_json(
    sandbox: httpx.AsyncClient, provider: str
) -> None:
    paths = {
        "vapi": "/assistant",
        "twilio": f"/2010-04-01/Accounts/{ACME}.json",
        "google": "/calendar/v3/users/me/calendarList",
        "resend": "/domains",
        "elevenlabs": "/v1/user",
    }
    response = await sandbox.get(f"/{provider}{paths[provider]}", headers={"User-Agent": "test"})

    assert 401 == response.status_code
    assert response.json()
    entries = (await sandbox.get("/_sandbox/requests")).json()["requests"]
    assert [(provider, paths[provider], 401)] == [(each["provider"], each["path"], each["status"]) for each in entries]


README = Path(__file__).parents[4] / "deploy/sandbox/README.md"
ROWS = re.findall(
    r"^\| (acme|globex) \| (\w+) \| (?:API key|Account SID) `(\S+)`(?:, Auth Token `(\S+)`)?",
    README.read_text("utf-8"),
    re.MULTILINE,
)


@pytest.mark.parametrize(("org", "provider", "user", "password"), ROWS)
async def test_the_credentials_to_try_work(
    sandbox: httpx.AsyncClient, org: str, provider: str, user: str, password: str
) -> None:
    path, headers = {
        "Vapi": ("/vapi/assistant", {"Authorization": f"Bearer {user}"}),
        "Twilio": (f"/twilio/2010-04-01/Accounts/{user}.json", {}),
        "Resend": ("/resend/domains", {"Authorization": f"Bearer {user}"}),
        "ElevenLabs": ("/elevenlabs/v1/user", {"xi-api-key": user}),
    }[provider]
    response = await sandbox.get(path, headers=headers, auth=(user, password) if password else None)

    assert 200 == response.status_code
    assert 8 == len(ROWS) == len({row[2] for row in ROWS})


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_faults_can_be_ordered_for_every_provider(sandbox: httpx.AsyncClient, provider: str) -> None:
    await order(sandbox, provider=provider, status=503)

    assert 503 == (await sandbox.get(f"/{provider}/anything")).status_code


@pytest.mark.parametrize("path", ["/vapi/assistant", "/twilio/x", "/_sandbox/state", "/nowhere"])
async def test_every_response_says_that_it_is_the_sandboxs(sandbox: httpx.AsyncClient, path: str) -> None:
    assert "tenantvault-sandbox" == (await sandbox.get(path)).headers["Server"]


async def test_requests_are_counted_below_their_provider_without_query(sandbox: httpx.AsyncClient) -> None:
    for _ in range(2):
        await sandbox.get("/vapi/assistant?limit=1", headers=VAPI)
    await sandbox.get(f"/twilio/2010-04-01/Accounts/{ACME}.json", auth=TWILIO)

    assert [("GET", "/assistant", 200, 2), ("GET", f"/2010-04-01/Accounts/{ACME}.json", 200, 1)] == await counts(
        sandbox
    )


async def test_requests_show_who_asked_and_no_secret(sandbox: httpx.AsyncClient) -> None:
    await sandbox.get("/vapi/assistant", headers=VAPI)
    await sandbox.get("/vapi/assistant", headers={"Authorization": "Bearer unknown-secret"})
    await sandbox.get(f"/twilio/2010-04-01/Accounts/{ACME}.json", auth=TWILIO)
    await sandbox.get(f"/twilio/2010-04-01/Accounts/{ACME}.json", auth=("not-a-sid-secret", "wrong-secret"))

    response = await sandbox.get("/_sandbox/requests")

    accounts = [entry["account"] for entry in response.json()["requests"]]
    org = (await create(sandbox)).json()["orgId"]
    assert [org, "", ACME, ""] == accounts
    for secret in (KEY, "unknown-secret", TWILIO[1], "not-a-sid-secret", "wrong-secret"):
        assert secret not in response.text


async def test_state_shows_assistants_by_account_without_webhook_headers(sandbox: httpx.AsyncClient) -> None:
    body = {"name": "made", "metadata": {"role": "inbound"}, "server": {"headers": {"X-Vapi-Secret": "hidden"}}}
    made = (await sandbox.post("/vapi/assistant", json=body, headers=VAPI)).json()
    number = f"/twilio/2010-04-01/Accounts/{ACME}/IncomingPhoneNumbers/PN{ACME[2:]}.json"
    await sandbox.post(number, data={"SmsUrl": "https://hooks.example.com"}, auth=TWILIO)

    response = await sandbox.get("/_sandbox/state")

    shown = {name: made[name] for name in ("id", "name", "metadata", "createdAt", "updatedAt")}
    assert {
        "vapi": {"assistants": {made["orgId"]: [shown]}},
        "twilio": {"numbers": {f"PN{ACME[2:]}": {"sms_url": "https://hooks.example.com"}}, "tokens": {}},
    } == {name: response.json()[name] for name in ("vapi", "twilio")}
    assert "hidden" not in response.text


async def test_a_status_fault_answers_in_the_providers_words_and_does_nothing(sandbox: httpx.AsyncClient) -> None:
    await order(sandbox, status=503, method="POST")

    assert 503 == (await create(sandbox)).status_code
    assert 0 == await stored(sandbox)
    assert 201 == (await create(sandbox)).status_code
    assert [("POST", "/assistant", 503, 1), ("POST", "/assistant", 201, 1)] == await counts(sandbox)


@pytest.mark.parametrize(
    ("provider", "status", "body"),
    [
        ("vapi", 409, {"message": "Conflict", "error": "Conflict", "statusCode": 409}),
        (
            "twilio",
            401,
            {
                "code": 20003,
                "message": "Authenticate",
                "more_info": "https://www.twilio.com/docs/errors/20003",
                "status": 401,
            },
        ),
        (
            "twilio",
            418,
            {
                "code": 20418,
                "message": "I'm a Teapot",
                "more_info": "https://www.twilio.com/docs/errors/20418",
                "status": 418,
            },
        ),
    ],
)
async def test_a_status_fault_has_the_providers_body(
    sandbox: httpx.AsyncClient, provider: str, status: int, body: dict[str, Any]
) -> None:
    await order(sandbox, provider=provider, status=status)

    response = await sandbox.get(f"/{provider}/anything")

    assert (status, body) == (response.status_code, response.json())


async def test_a_fault_may_bring_its_own_body_and_retry_after(sandbox: httpx.AsyncClient) -> None:
    await order(sandbox, status=429, body={"odd": True}, retry_after=7)
    await order(sandbox, status=500, body="<h1>odd</h1>")

    as_json, as_html = await create(sandbox), await create(sandbox)

    assert ({"odd": True}, "7") == (as_json.json(), as_json.headers["Retry-After"])
    assert ("<h1>odd</h1>", "text/html; charset=utf-8") == (as_html.text, as_html.headers["Content-Type"])


async def test_a_delay_alone_makes_a_request_late(sandbox: httpx.AsyncClient, naps: list[float]) -> None:
    await order(sandbox, delay=2.5)

    assert (201, [2.5]) == ((await create(sandbox)).status_code, naps)


@pytest.mark.parametrize(("after_effect", "made"), [(False, 0), (True, 1)])
async def test_a_dropped_request_takes_effect_only_when_asked_for(
    sandbox: httpx.AsyncClient, *, after_effect: bool, made: int
) -> None:
    await order(sandbox, drop=True, after_effect=after_effect)

    with pytest.raises(ConnectionResetError):
        await create(sandbox)

    assert made == await stored(sandbox)


async def test_a_status_may_hide_an_effect(sandbox: httpx.AsyncClient) -> None:
    await order(sandbox, status=500, after_effect=True)

    assert 500 == (await create(sandbox)).status_code
    assert 1 == await stored(sandbox)


async def test_a_late_answer_can_be_seen_while_its_effect_is_there() -> None:
    asleep, awake = asyncio.Event(), asyncio.Event()

    async def sleep(_: float) -> None:
        asleep.set()
        await awake.wait()

    app = create_app(sleep=sleep)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sandbox") as sandbox:
        await order(sandbox, delay=60, after_effect=True)
        creating = asyncio.create_task(create(sandbox))
        await asleep.wait()

        assert 1 == await stored(sandbox)
        assert [("POST", "/assistant", None, 1)] == await counts(sandbox)

        awake.set()
        assert 201 == (await creating).status_code
        assert [("POST", "/assistant", 201, 1)] == await counts(sandbox)


async def test_a_server_that_can_cut_connections_is_asked_to() -> None:
    app = create_app()
    events: list[str] = []
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> MutableMapping[str, Any]:
        events.append("receive")
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        events.append(message["type"])

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sandbox") as sandbox:
        await order(sandbox, drop=True)
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/vapi/assistant",
            "root_path": "",
            "query_string": b"",
            "headers": [],
            "extensions": {DROP: lambda: events.append("cut")},
        }
        await app(scope, receive, send)

        assert ["cut", "receive", "receive"] == events
        assert [("GET", "/assistant", 0, 1)] == await counts(sandbox)


async def test_faults_can_be_seen_and_cancelled(sandbox: httpx.AsyncClient) -> None:
    await order(sandbox, status=503, times=2)

    assert [2] == [fault["times"] for fault in (await sandbox.get("/_sandbox/faults")).json()["faults"]]
    assert {"faults": []} == (await sandbox.delete("/_sandbox/faults")).json()
    assert 201 == (await create(sandbox)).status_code


async def test_faults_can_be_ordered_as_a_list(sandbox: httpx.AsyncClient) -> None:
    faults = [{"provider": "vapi", "status": 500}, {"provider": "vapi", "status": 429}]
    await sandbox.post("/_sandbox/faults", json=faults)

    assert [500, 429, 201] == [(await create(sandbox)).status_code for _ in range(3)]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"provider":"vapi"},{"provider":"nobody"}]', b"\xff"])
async def test_a_bad_order_is_refused_whole(sandbox: httpx.AsyncClient, content: bytes) -> None:
    response = await sandbox.post("/_sandbox/faults", content=content)

    assert 400 == response.status_code
    assert response.json()["error"]
    assert {"faults": []} == (await sandbox.get("/_sandbox/faults")).json()


async def test_a_reset_forgets_everything(sandbox: httpx.AsyncClient) -> None:
    fresh = (await sandbox.get("/_sandbox/state")).json()
    await create(sandbox)
    number = f"/twilio/2010-04-01/Accounts/{ACME}/IncomingPhoneNumbers/PN{ACME[2:]}.json"
    await sandbox.post(number, data={"SmsUrl": "https://hooks.example.com"}, auth=TWILIO)
    await order(sandbox, status=500)

    await sandbox.post("/_sandbox/reset")

    assert fresh == (await sandbox.get("/_sandbox/state")).json()
    assert [] == await counts(sandbox)
    assert {"faults": []} == (await sandbox.get("/_sandbox/faults")).json()


async def test_a_new_application_knows_nothing_of_another(sandbox: httpx.AsyncClient) -> None:
    await create(sandbox)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app()), base_url="http://sandbox") as other:
        assert 0 == await stored(other)


async def test_ids_and_times_are_real_unless_given() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app()), base_url="http://sandbox") as sandbox:
        made = [(await create(sandbox)).json() for _ in range(3)]

    assert 3 == len({each["id"] for each in made}) == len({each["createdAt"] for each in made})
    assert sorted(each["createdAt"] for each in made) == [each["createdAt"] for each in made]
