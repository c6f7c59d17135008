import re
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.pages import DASHBOARD, STATIC
from tests.unit.gateway.fakes import ORIGIN, OWN_PAGE, Gateway, MakeGateway, bearer

LOCAL_PAGE = {"Origin": "http://localhost:8400", "X-TenantVault-Request": "1"}
PAGES = ["/", "/activity"]


async def way_back(gateway: Gateway, address: str) -> str:
    """Where the sign-in page at this address leads to."""
    [way] = re.findall(r'data-next="([^"]*)"', (await gateway.client.get(address)).text)
    return unescape(way)


@pytest.mark.parametrize("path", PAGES)
async def test_the_dashboard_knows_its_org_its_person_and_what_they_may_do(gateway: Gateway, path: str) -> None:
    await gateway.sign_in(sub='ada"><script>alert(1)</script>')
    page = (await gateway.client.get(path)).text
    assert 'data-org="acme"' in page
    assert 'data-may-change="true"' in page
    assert 'data-providers="live"' in page
    assert 'data-person="ada&quot;&gt;&lt;script&gt;' in page
    assert "<script>alert" not in page


async def test_the_dashboard_of_a_viewer_says_that_they_may_only_look(gateway: Gateway) -> None:
    await gateway.sign_in(role="viewer")
    assert 'data-may-change="false"' in (await gateway.client.get("/")).text


@pytest.mark.parametrize("path", [*PAGES, "/?a=b", "/activity?provider=resend&failed=true", "/activity?service=%22%3E"])
async def test_without_a_session_a_page_leads_to_the_sign_in_page_that_knows_the_way_back(
    gateway: Gateway, path: str
) -> None:
    answer = await gateway.client.get(path)
    assert 303 == answer.status_code
    assert answer.headers["location"].partition("?")[0] == "/sign-in"
    assert path == await way_back(gateway, answer.headers["location"])


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "//evil.example",
        "///evil.example",
        "/%5Cevil.example",
        "%5C%5Cevil.example",
        "%2F%2Fevil.example",
        "%2f%5cevil.example",
        "%252F%252Fevil.example",
        "/%09/evil.example",
        "/%0A/evil.example",
        "%09//evil.example",
        "%20//evil.example",
        "/%00",
        "/%C3%A9",
        "https://evil.example/",
        "https:evil.example",
        "http://localhost/",
        "javascript:alert(1)",
        "evil.example",
        "activity",
        "/activity&next=//evil.example",
    ],
)
async def test_the_way_back_is_a_path_of_this_site_or_home(gateway: Gateway, wanted: str) -> None:
    assert "/" == await way_back(gateway, f"/sign-in?next={wanted}")


async def test_the_way_back_is_text_in_the_page(gateway: Gateway) -> None:
    wanted = '/"><script>alert(1)</script>'
    page = (await gateway.client.get("/sign-in", params={"next": wanted})).text
    assert "<script>alert" not in page
    assert wanted == await way_back(gateway, f"/sign-in?next={quote(wanted)}")


async def test_in_production_the_sign_in_page_names_the_host_application(gateway: Gateway) -> None:
    page = (await gateway.client.get("/sign-in")).text
    assert 'data-sign-in="host"' in page
    assert 'data-action="sign-in"' not in page


async def test_in_production_nobody_signs_in_by_a_click(gateway: Gateway) -> None:
    answer = await gateway.client.post("/sign-in", json={"org": "acme"}, headers=OWN_PAGE)
    assert (answer.status_code, answer.json()["fields"]) == (422, {"org": "It is none of them."})
    assert "set-cookie" not in answer.headers


async def test_the_local_sign_in_page_lists_the_demo_orgs_and_says_sandbox(local_gateway: Gateway) -> None:
    page = (await local_gateway.client.get("/sign-in")).text
    assert re.findall(r'data-action="sign-in" data-org="(\w+)"', page) == ["acme", "globex"]
    assert 'data-sign-in="demo"' in page
    assert 'data-providers="sandbox"' in page


async def test_a_click_on_a_demo_org_signs_in_its_administrator(local_gateway: Gateway) -> None:
    client = local_gateway.client
    answer = await client.post("/sign-in", json={"org": "globex"}, headers=LOCAL_PAGE)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    page = (await client.get("/")).text
    assert 'data-org="globex"' in page
    assert 'data-may-change="true"' in page


@pytest.mark.parametrize("body", [{"org": "initech"}, {}, {"org": 7}, {"org": "acme", "role": "admin"}])
async def test_only_a_demo_org_can_be_picked(local_gateway: Gateway, body: dict[str, object]) -> None:
    answer = await local_gateway.client.post("/sign-in", json=body, headers=LOCAL_PAGE)
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("headers", [{}, OWN_PAGE, {"Origin": "http://localhost:8400"}])
async def test_another_sites_page_cannot_sign_anybody_in(local_gateway: Gateway, headers: dict[str, str]) -> None:
    answer = await local_gateway.client.post("/sign-in", json={"org": "acme"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "CROSS_SITE_REQUEST")


async def test_a_bearer_token_opens_the_dashboard_too(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    assert (await gateway.client.get("/", headers=bearer())).status_code == 200


@pytest.mark.parametrize("file", sorted(path for path in STATIC.rglob("*") if path.is_file()))
async def test_every_file_of_the_dashboard_is_served_and_revalidated(gateway: Gateway, file: Path) -> None:
    path = f"/static/{file.relative_to(STATIC).as_posix()}"
    answer = await gateway.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"
    kind = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml"}[file.suffix]
    assert kind in answer.headers["content-type"]
    again = await gateway.client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_the_dashboard_loads_nothing_from_elsewhere_and_has_nothing_inline() -> None:
    for file in DASHBOARD.rglob("*.*"):
        text = file.read_text()
        assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", text), file
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=\"", text), file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), file
        assert not re.search(r"localStorage|sessionStorage|indexedDB", text), file


def test_every_file_that_is_referred_to_exists() -> None:
    referred = {
        match
        for page in DASHBOARD.glob("*.html")
        for match in re.findall(r'(?:src|href)="/static/([^"]+)"', page.read_text())
    }
    referred |= {
        match for module in STATIC.glob("*.js") for match in re.findall(r'"\./([^"]+\.js)"', module.read_text())
    }
    referred |= {f"marks/{name}.svg" for name in ("vapi", "twilio", "googleCalendar", "resend", "elevenlabs")}
    assert not [name for name in referred if not (STATIC / name).is_file()]
    assert {path.name for path in STATIC.glob("*.js")} <= referred


@pytest.mark.parametrize("page", sorted(DASHBOARD.glob("*.html")), ids=lambda page: page.stem)
def test_a_page_weighs_less_than_100_kb_with_all_that_it_loads(page: Path) -> None:
    loaded = set(STATIC.glob("marks/*"))
    found = {page}
    while found:
        loaded |= found
        texts = [file.read_text() for file in found]
        names = {name for text in texts for name in re.findall(r'"(?:/static|\.)/([\w.-]+\.\w+)"', text)}
        found = {STATIC / name for name in names} - loaded
    assert STATIC / "style.css" in loaded
    assert sum(file.stat().st_size for file in loaded) < 100_000


async def test_the_way_back_from_signing_in_stays_on_this_site(gateway: Gateway) -> None:
    answer = await gateway.client.get("/", headers={"Host": "vault.example.com", "X-Forwarded-Host": "evil.example"})
    assert answer.headers["location"] == "/sign-in"
    assert ORIGIN not in answer.headers["location"]


async def test_files_travel_compressed_and_what_is_somebodys_own_does_not(gateway: Gateway) -> None:
    headers = {"Accept-Encoding": "gzip"}
    file = await gateway.client.get("/static/style.css", headers=headers)
    assert "gzip" == file.headers["Content-Encoding"]
    assert (STATIC / "style.css").read_text("utf-8") == file.text
    again = await gateway.client.get("/static/style.css", headers=headers | {"If-None-Match": file.headers["ETag"]})
    assert (304, b"") == (again.status_code, again.content)
    await gateway.sign_in()
    own = await gateway.client.get("/", headers=headers)
    assert "Content-Encoding" not in own.headers
