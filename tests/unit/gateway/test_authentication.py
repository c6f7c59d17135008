import pytest

from tests.unit.gateway.fakes import ORIGIN, OWN_PAGE, VAPI, Gateway, bearer

CONNECT = "/api/integrations/vapi"
OWN = {"X-TenantVault-Request": "1"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        OWN,
        {"Origin": ORIGIN},
        OWN | {"Origin": "https://evil.example"},
        OWN | {"Origin": "http://vault.example.com"},
        OWN | {"Origin": f"{ORIGIN}:8443"},
        OWN | {"Origin": "null"},
        OWN | {"Origin": ""},
        OWN | {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        OWN | {"Sec-Fetch-Site": "cross-site"},
        OWN | {"Sec-Fetch-Site": "same-site"},
        OWN | {"Sec-Fetch-Site": "none"},
        {"Origin": ORIGIN, "X-TenantVault-Request": "0"},
    ],
)
async def test_a_change_by_cookie_must_come_from_our_own_pages(gateway: Gateway, headers: dict[str, str]) -> None:
    await gateway.sign_in()
    for method, path in (("POST", CONNECT), ("DELETE", CONNECT), ("DELETE", "/session")):
        answer = await gateway.client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "CROSS_SITE_REQUEST")
    assert gateway.services.asked == []
    assert (await gateway.client.get("/api/integrations/status", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers", [OWN_PAGE, OWN | {"Sec-Fetch-Site": "same-origin"}, OWN_PAGE | {"Sec-Fetch-Site": "same-origin"}]
)
async def test_our_own_pages_may_change_by_cookie(gateway: Gateway, headers: dict[str, str]) -> None:
    await gateway.sign_in()
    assert (await gateway.client.post(CONNECT, json=VAPI, headers=headers)).status_code == 200


async def test_a_bearer_token_needs_no_page(gateway: Gateway) -> None:
    headers = bearer() | {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert (await gateway.client.post(CONNECT, json=VAPI, headers=headers)).status_code == 200


async def test_a_session_keeps_the_role_it_was_opened_with(gateway: Gateway) -> None:
    await gateway.sign_in(role="viewer")
    answer = await gateway.client.post(CONNECT, json=VAPI, headers=OWN_PAGE)
    assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")


async def test_a_page_of_another_org_changes_nothing(gateway: Gateway) -> None:
    await gateway.sign_in(org_id="globex")
    answer = await gateway.client.post(CONNECT, json=VAPI, headers=OWN_PAGE | {"X-TenantVault-Org": "acme"})
    assert (answer.status_code, answer.json()["code"]) == (409, "OTHER_ORG")
    assert gateway.services.asked == []
    headers = OWN_PAGE | {"X-TenantVault-Org": "globex"}
    assert (await gateway.client.post(CONNECT, json=VAPI, headers=headers)).status_code == 200


async def test_the_scheme_of_a_token_is_read_in_any_case(gateway: Gateway) -> None:
    header = {"Authorization": bearer()["Authorization"].replace("Bearer ", "bEARER   ")}
    assert (await gateway.client.get("/api/integrations/status", headers=header)).status_code == 200
