"""What happened, who was given what, and that it changed just now: through every process."""

import asyncio
import csv
import io

import httpx
import pytest

from tests.e2e.conftest import Product
from tests.e2e.test_connect import new_org, vapi_key

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("stack")]

API = "/api/integrations"
SOON = 10.0


class Page:
    """A page that listens. `heard` has the names of the events."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    async def listen(self, api: httpx.AsyncClient) -> None:
        async with api.stream("GET", f"{API}/events") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    self.heard.put_nowait(line.removeprefix("event: "))

    async def next(self) -> str:
        async with asyncio.timeout(SOON):
            return await self.heard.get()

    def forget(self) -> None:
        while not self.heard.empty():
            self.heard.get_nowait()


async def test_the_audit_is_the_orgs_own_and_its_download_the_same(product: Product) -> None:
    acme, globex = new_org(), new_org()
    async with product.api(acme) as api, product.api(globex) as other, product.vault() as vault:
        (await api.post(f"{API}/vapi", json={"apiKey": vapi_key()})).raise_for_status()
        for _ in range(2):
            await vault.vapi(acme)
        # Reads come into the audit a moment later.
        async with asyncio.timeout(SOON):
            while len((await api.get(f"{API}/audit?service=voice-agent")).json()["events"]) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for query in ("service=voice-agent&failed=true", "service=voice-agent&provider=twilio", "action=org.freeze"):
            assert (await api.get(f"{API}/audit?{query}")).json()["events"] == []
        page = (await api.get(f"{API}/audit?limit=2")).raise_for_status().json()
        everything = page["events"]
        while page["next"]:
            page = (await api.get(f"{API}/audit?limit=2&before={page['next']}")).raise_for_status().json()
            everything += page["events"]
        download = (await api.get(f"{API}/audit.csv")).raise_for_status()
        rows = list(csv.DictReader(io.StringIO(download.text, newline="")))
        assert [{name: str(event.get(name, "")) for name in rows[0]} for event in everything] == rows
        assert {"credential.put", "credential.activate", "credential.get"} <= {row["action"] for row in rows}
        access = (await api.get(f"{API}/access")).raise_for_status().json()
        assert {"service": "voice-agent", "provider": "vapi", "reads": 2}.items() <= access["counts"][0].items()
        for path in ("audit", "audit.csv", "access"):
            seen = (await other.get(f"{API}/{path}")).raise_for_status().text
            assert not [event for event in everything if event["id"] in seen]
        assert (await other.get(f"{API}/audit")).json() == {"events": [], "next": None, "since": None}


async def test_a_page_hears_of_what_others_do_and_that_the_vault_is_back(product: Product) -> None:
    org, page = new_org(), Page()
    async with product.api(org) as api, product.api(org) as elsewhere, asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(page.listen(api))
        assert await page.next() == "ready"
        for change in (
            elsewhere.post(f"{API}/vapi", json={"apiKey": vapi_key()}),
            elsewhere.post(f"{API}/vapi/verify"),
        ):
            page.forget()
            (await change).raise_for_status()
            assert await page.next() == "changed"
        broken = product.stack.logs("gateway").count("the watch for changes broke")
        await product.stack.kill("vault")
        async with asyncio.timeout(SOON):
            while product.stack.logs("gateway").count("the watch for changes broke") == broken:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (await elsewhere.get(f"{API}/status")).status_code == 503
        page.forget()
        await product.stack.restart("vault")
        assert await page.next() == "changed"
        assert (await elsewhere.get(f"{API}/status")).json()["vapi"]["connected"]
        listening.cancel()
