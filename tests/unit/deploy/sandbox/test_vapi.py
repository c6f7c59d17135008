from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.sandbox import vapi_assistant
from deploy.sandbox.answers import SLOW_SECONDS

OTHER = {"Authorization": "Bearer 610bec00-0000-4000-8000-000000000002"}

WHOLE: dict[str, Any] = {
    "name": "acme-inbound-7f3c2a",
    "firstMessage": "Hello, thanks for calling Acme. How can I help?",
    "firstMessageMode": "assistant-speaks-first",
    "model": {"provider": "openai", "model": "gpt-4o", "messages": [{"role": "system", "content": "You are polite."}]},
    "voice": {"provider": "11labs", "voiceId": "21m00Tcm4TlvDq8ikWAM", "model": "eleven_flash_v2_5"},
    "transcriber": {"provider": "deepgram", "model": "nova-3", "language": "en"},
    "server": {"url": "https://hooks.example.com/vapi", "headers": {"X-Vapi-Secret": "s"}, "timeoutSeconds": 20},
    "serverMessages": ["status-update", "end-of-call-report", "tool-calls", "hang"],
    "maxDurationSeconds": 600,
    "firstMessageInterruptionsEnabled": False,
    "voicemailDetection": "off",
    "metadata": {"tenant_id": "acme", "nested": {"anything": [1, None]}},
}


async def test_creating_answers_201_with_what_was_sent_and_what_the_vendor_adds(vapi: httpx.AsyncClient) -> None:
    response = await vapi.post("/assistant", json=WHOLE)

    assert 201 == response.status_code
    created = response.json()
    assert WHOLE == {name: created[name] for name in WHOLE}
    assert "00000000-0000-4000-8000-000000000001" == created["id"]
    assert "2026-01-02T03:04:05.678Z" == created["createdAt"] == created["updatedAt"]
    assert created["orgId"]


@pytest.mark.parametrize("body", [{}, {"name": None}])
async def test_no_field_is_required(vapi: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert 201 == (await vapi.post("/assistant", json=body)).status_code


async def test_a_body_that_is_not_declared_as_json_is_not_read(vapi: httpx.AsyncClient) -> None:
    response = await vapi.post("/assistant", content=b'{"name":"unread"}')

    assert 201 == response.status_code
    assert "name" not in response.json()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"serverUrl": "https://x"}, "property serverUrl should not exist"),
        ({"id": "mine"}, "property id should not exist"),
        ({"server": {"secret": "s"}}, "server.property secret should not exist"),
        ({"server": "https://x"}, "server must be an object"),
        ({"server": {"timeoutSeconds": 301}}, "server.timeoutSeconds must not be greater than 300"),
        ({"server": {"headers": "X: y"}}, "server.headers must be an object"),
        ({"name": "n" * 41}, "name must be shorter than or equal to 40 characters"),
        ({"name": 7}, "name must be a string"),
        ({"metadata": []}, "metadata must be an object"),
        ({"maxDurationSeconds": 9}, "maxDurationSeconds must not be less than 10"),
        ({"maxDurationSeconds": True}, "maxDurationSeconds must be a number conforming to the specified constraints"),
        ({"modelOutputInMessagesEnabled": "yes"}, "modelOutputInMessagesEnabled must be a boolean value"),
        ({"serverMessages": "hang"}, "serverMessages must be an array"),
        ({"model": {"provider": "openai"}}, "model.model must be a string"),
        ({"voice": "shimmer"}, "voice must be an object"),
        (
            {"firstMessageMode": "shout"},
            (
                "firstMessageMode must be one of the following values: assistant-speaks-first, "
                "assistant-speaks-first-with-model-generated-message, assistant-waits-for-user"
            ),
        ),
    ],
)
async def test_a_body_outside_the_schema_is_refused_with_a_list_of_sentences(
    vapi: httpx.AsyncClient, body: dict[str, Any], problem: str
) -> None:
    response = await vapi.post("/assistant", json=body)

    assert 400 == response.status_code
    assert {"message": [problem], "error": "Bad Request", "statusCode": 400} == response.json()
    assert [] == (await vapi.get("/assistant")).json()


@pytest.mark.parametrize("content", [b"{", b"[]", b'"text"', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused_with_one_sentence(
    vapi: httpx.AsyncClient, content: bytes
) -> None:
    response = await vapi.post("/assistant", content=content, headers={"Content-Type": "application/json"})

    assert 400 == response.status_code
    assert "Unexpected token in JSON" == response.json()["message"]


async def test_a_lone_surrogate_comes_back_as_it_was(vapi: httpx.AsyncClient) -> None:
    response = await vapi.post(
        "/assistant", content=b'{"name":"\\ud800"}', headers={"Content-Type": "application/json"}
    )

    assert "\ud800" == response.json()["name"]


async def test_a_body_of_two_megabytes_is_refused(vapi: httpx.AsyncClient) -> None:
    response = await vapi.post("/assistant", json={"firstMessage": "a" * 2_000_000})

    assert 413 == response.status_code


async def test_the_list_is_a_bare_array_newest_first(vapi: httpx.AsyncClient) -> None:
    for name in ("first", "second", "third"):
        await vapi.post("/assistant", json={"name": name})

    response = await vapi.get("/assistant")

    assert ["third", "second", "first"] == [each["name"] for each in response.json()]


async def test_the_list_is_paged_by_the_oldest_creation_time_seen(vapi: httpx.AsyncClient) -> None:
    for number in range(205):
        await vapi.post("/assistant", json={"name": str(number)})

    seen: list[str] = []
    query: dict[str, str] = {}
    while page := (await vapi.get("/assistant", params=query)).json():
        seen += [each["name"] for each in page]
        query = {"createdAtLt": page[-1]["createdAt"]}

    assert [str(number) for number in reversed(range(205))] == seen


@pytest.mark.parametrize(("limit", "length"), [(None, 100), ("0", 0), ("3", 3), ("1000", 101)])
async def test_a_page_has_the_length_that_was_asked_for(
    vapi: httpx.AsyncClient, limit: str | None, length: int
) -> None:
    for _ in range(101):
        await vapi.post("/assistant", json={})

    assert length == len((await vapi.get("/assistant", params={"limit": limit} if limit else {})).json())


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"limit": "1001"}, "limit must not be greater than 1000"),
        ({"limit": "-1"}, "limit must not be less than 0"),
        ({"limit": "ten"}, "limit must be an integer number"),
        ({"createdAtLt": "yesterday"}, "createdAtLt must be a valid ISO 8601 date"),
        ({"name": "mine"}, "property name should not exist"),
    ],
)
async def test_a_query_outside_the_schema_is_refused(
    vapi: httpx.AsyncClient, query: dict[str, str], problem: str
) -> None:
    response = await vapi.get("/assistant", params=query)

    assert 400 == response.status_code
    assert [problem] == response.json()["message"]


@pytest.mark.parametrize(
    ("filter_", "names"),
    [
        ("createdAtGt", ["c"]),
        ("createdAtGe", ["c", "b"]),
        ("createdAtLt", ["a"]),
        ("createdAtLe", ["b", "a"]),
        ("updatedAtGt", ["c", "a"]),
    ],
)
async def test_the_list_is_filtered_by_its_times(vapi: httpx.AsyncClient, filter_: str, names: list[str]) -> None:
    made = [(await vapi.post("/assistant", json={"name": name})).json() for name in "abc"]
    await vapi.patch(f"/assistant/{made[0]['id']}", json={"firstMessage": "changed"})

    page = (await vapi.get("/assistant", params={filter_: made[1]["createdAt"].removesuffix("Z")})).json()

    assert names == [each["name"] for each in page]


async def test_a_change_replaces_each_field_whole_and_keeps_the_others(vapi: httpx.AsyncClient) -> None:
    made = (await vapi.post("/assistant", json=WHOLE)).json()

    response = await vapi.patch(f"/assistant/{made['id']}", json={"server": {"url": "https://new.example.com"}})

    assert 200 == response.status_code
    changed = response.json()
    assert {"url": "https://new.example.com"} == changed["server"]
    assert made["metadata"] == changed["metadata"]
    assert made["createdAt"] == changed["createdAt"] < changed["updatedAt"]
    assert changed == (await vapi.get(f"/assistant/{made['id']}")).json()


async def test_a_bad_change_leaves_the_assistant_alone(vapi: httpx.AsyncClient) -> None:
    made = (await vapi.post("/assistant", json=WHOLE)).json()

    response = await vapi.patch(f"/assistant/{made['id']}", json={"server": {"secret": "s"}})

    assert 400 == response.status_code
    assert made == (await vapi.get(f"/assistant/{made['id']}")).json()


async def test_deleting_answers_200_with_what_was_deleted(vapi: httpx.AsyncClient) -> None:
    made = (await vapi.post("/assistant", json=WHOLE)).json()

    response = await vapi.delete(f"/assistant/{made['id']}")

    assert (200, made) == (response.status_code, response.json())
    assert 404 == (await vapi.get(f"/assistant/{made['id']}")).status_code


async def test_an_assistant_in_use_is_not_deleted(vapi: httpx.AsyncClient) -> None:
    key = {"Authorization": "Bearer b10c0000-0000-4000-8000-000000000000"}
    path = f"/assistant/{(await vapi.post('/assistant', json=WHOLE, headers=key)).json()['id']}"

    response = await vapi.delete(path, headers=key)

    assert (409, 409) == (response.status_code, response.json()["statusCode"])
    assert "assistant_pinned" in response.json()["message"]
    assert 200 == (await vapi.get(path, headers=key)).status_code
    assert 404 == (await vapi.delete("/assistant/x", headers=key)).status_code


async def test_an_account_sees_nothing_of_another(vapi: httpx.AsyncClient) -> None:
    made = (await vapi.post("/assistant", json=WHOLE)).json()

    assert [] == (await vapi.get("/assistant", headers=OTHER)).json()
    for method in ("GET", "PATCH", "DELETE"):
        response = await vapi.request(method, f"/assistant/{made['id']}", headers=OTHER)
        assert 404 == response.status_code
        assert {"message": "Assistant Not Found", "error": "Not Found", "statusCode": 404} == response.json()
    assert made == (await vapi.get(f"/assistant/{made['id']}")).json()


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer sk_0123456789abcdef0123456789abcdef0123456789abcdef",
        "Bearer ac3e0000-0000-4000-8000-00000000000",
        "Bearer AC3E0000-0000-4000-8000-000000000001",
        "Bearer ",
        "Basic ac3e0000-0000-4000-8000-000000000001",
        "ac3e0000-0000-4000-8000-000000000001",
        "Bearer fa110401-0000-4000-8000-000000000000",
    ],
)
async def test_an_unknown_key_is_refused_in_the_vendors_words(vapi: httpx.AsyncClient, authorization: str) -> None:
    response = await vapi.get("/assistant", headers={"Authorization": authorization})

    assert 401 == response.status_code
    assert {
        "message": "Invalid Key. Hot tip, you may be using the private key instead of the public key, or vice versa.",
        "error": "Unauthorized",
        "statusCode": 401,
    } == response.json()


async def test_a_missing_key_is_refused_in_the_vendors_words(sandbox: httpx.AsyncClient) -> None:
    response = await sandbox.get("/vapi/assistant")

    assert (401, "Missing Authorization Header.") == (response.status_code, response.json()["message"])


@pytest.mark.parametrize("status", [402, 403, 429, 500])
async def test_a_failing_key_fails_with_the_status_in_it(vapi: httpx.AsyncClient, status: int) -> None:
    key = {"Authorization": f"Bearer fa11{status:04}-0000-4000-8000-000000000000"}

    response = await vapi.post("/assistant", json={}, headers=key)

    assert status == response.status_code == response.json()["statusCode"]
    assert ("error" in response.json()) == (status != 500)
    assert ("1" if status == 429 else None) == response.headers.get("Retry-After")


async def test_the_key_of_a_broken_gateway_gets_html(vapi: httpx.AsyncClient) -> None:
    response = await vapi.get("/assistant", headers={"Authorization": "Bearer fa110502-0000-4000-8000-000000000000"})

    assert 502 == response.status_code
    assert response.headers["Content-Type"].startswith("text/html")


async def test_the_slow_key_works_after_a_while(vapi: httpx.AsyncClient, naps: list[float]) -> None:
    response = await vapi.get("/assistant", headers={"Authorization": "Bearer fa110504-0000-4000-8000-000000000000"})

    assert (200, [SLOW_SECONDS]) == (response.status_code, naps)


@pytest.mark.parametrize(("method", "path"), [("PUT", "/assistant"), ("OPTIONS", "/assistant"), ("GET", "/call")])
async def test_another_endpoint_is_not_found_in_the_frameworks_words(
    vapi: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await vapi.request(method, path)

    assert 404 == response.status_code
    assert {"message": f"Cannot {method} {path}", "error": "Not Found", "statusCode": 404} == response.json()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(vapi_assistant._ASSISTANT)) | st.text(), JSON))
def test_any_body_is_judged_in_sentences(body: dict[str, Any]) -> None:
    problems = vapi_assistant.problems(body)

    assert all(problems)
    assert set(body) <= set(vapi_assistant._ASSISTANT) or problems


@given(st.dictionaries(st.text(), JSON))
def test_metadata_is_free(metadata: dict[str, Any]) -> None:
    assert [] == vapi_assistant.problems({"metadata": metadata})
