import pytest

from gateway.headers import POLICY
from tests.unit.gateway.fakes import VAPI, Gateway, MakeGateway, bearer

EVERYWHERE = [
    "/",
    "/sign-in",
    "/oauth/google-calendar",
    "/static/style.css",
    "/healthz",
    "/nowhere",
    "/api/integrations/status",
]


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_every_answer_carries_the_security_headers(gateway: Gateway, path: str) -> None:
    headers = (await gateway.client.get(path)).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert headers["strict-transport-security"].startswith("max-age=")
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")
    assert "server" not in headers


async def test_an_unexpected_error_carries_them_too(gateway: Gateway) -> None:
    gateway.services.failure = RuntimeError("boom")
    answer = await gateway.client.post("/api/integrations/vapi", json=VAPI, headers=bearer())
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-store"


def test_the_policy_allows_nothing_inline_and_nothing_foreign() -> None:
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert "*" not in POLICY


async def test_on_ones_own_machine_browsers_may_come_by_http(local_gateway: Gateway) -> None:
    assert "strict-transport-security" not in (await local_gateway.client.get("/sign-in")).headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "vault.example.com.evil.example",
        "vault.example.com:8443",
        "vault.example.com@evil.example",
        "evil.example#vault.example.com",
        "x@vault.example.com",
        "vault.example.com/x",
        "vault.example.com?x",
        "vault.example.com.",
        "vault.example.com:",
        "vault.example.com:abc",
        "vault.example.com:99999",
        "localhost",
        "127.0.0.1",
        "10.0.0.7",
        "[::1",
        "",
    ],
)
async def test_another_host_name_is_refused(gateway: Gateway, host: str) -> None:
    answer = await gateway.client.get("/sign-in", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "WRONG_HOST")


@pytest.mark.parametrize("host", ["vault.example.com", "vault.example.com:443", "VAULT.example.com"])
async def test_the_public_name_is_answered(gateway: Gateway, host: str) -> None:
    assert (await gateway.client.get("/sign-in", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8400", "localhost:9999", "127.0.0.1:8400", "[::1]:8400", "LOCALHOST"])
async def test_ones_own_machine_has_several_names(local_gateway: Gateway, host: str) -> None:
    assert (await local_gateway.client.get("/sign-in", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.2"])
async def test_a_name_that_leads_to_ones_own_machine_is_not_enough(local_gateway: Gateway, host: str) -> None:
    assert (await local_gateway.client.get("/sign-in", headers={"Host": host})).status_code == 421


async def test_a_page_by_another_local_name_is_our_own(local_gateway: Gateway) -> None:
    headers = {"Host": "127.0.0.1:8400", "Origin": "http://127.0.0.1:8400", "X-TenantVault-Request": "1"}
    answer = await local_gateway.client.post("/sign-in", json={"org": "acme"}, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_probes_come_by_any_name(make_gateway: MakeGateway, path: str) -> None:
    gateway = await make_gateway()
    assert (await gateway.client.get(path, headers={"Host": "10.0.0.7:8400"})).status_code == 200


async def test_two_host_names_are_refused(gateway: Gateway) -> None:
    answer = await gateway.client.get("/sign-in", headers=[("Host", "vault.example.com"), ("Host", "evil.example")])
    assert answer.status_code == 421
