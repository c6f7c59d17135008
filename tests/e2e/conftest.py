"""The whole product, once for each test process: every process, real TLS, the sandbox in the vendors' place."""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from deploy.local.bearer import bearer_token
from deploy.local.stack import Stack
from tenantvault import AsyncClient

# The shell is the same engine without a browser's own windows around it, and takes two thirds of the processor's time.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


class Product:
    """The running stack, as its users reach it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    @asynccontextmanager
    async def api(self, org: str, *, role: str = "admin") -> AsyncIterator[httpx.AsyncClient]:
        """The REST interface, as a person of the org."""
        token = bearer_token(self.stack.jwt_secret.read_text("utf-8"), org, role=role)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.stack.gateway_url, headers=headers, timeout=60) as client:
            yield client

    async def restart_provider(self, extra_env: Mapping[str, str] | None = None) -> None:
        """Start the provider service again; when it returns, the gateway reaches it."""
        await self.stack.restart("provider", extra_env)
        async with asyncio.timeout(20), httpx.AsyncClient(base_url=self.stack.gateway_url) as client:
            while not (await client.get("/readyz")).is_success:  # noqa: ASYNC110 - another process makes it so
                await asyncio.sleep(0.05)

    def vault(self, peer: str = "voice-agent") -> AsyncClient:
        """The vault, as an internal service that asks it each time."""
        return AsyncClient.connect(
            self.stack.vault_target, self.stack.tls(peer), provider_target=self.stack.provider_target, cache=None
        )

    async def sandbox(self, method: str, path: str, json: Any = None) -> Any:
        """The sandbox's control interface."""
        async with httpx.AsyncClient(base_url=self.stack.sandbox_url) as client:
            answer = await client.request(method, f"/_sandbox/{path}", json=json)
            answer.raise_for_status()
            return answer.json() if answer.content else None

    async def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """One statement as the database's administrator."""
        db = await asyncpg.connect(self.stack.admin_url)
        try:
            return await db.fetch(statement, *arguments)
        finally:
            await db.close()


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets, and open to the account that PostgreSQL runs under."""
    folder = Path(tempfile.mkdtemp(prefix="tv-e2e-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def running(root: Path) -> AsyncIterator[Product]:
    """The whole product, with its data below `root`."""
    environ = {
        **os.environ,
        "TENANTVAULT_CONNECT_LEASE_SECONDS": "2",
        "TENANTVAULT_PROVIDER_PATIENCE_SECONDS": "4",
        "TENANTVAULT_LOG_LEVEL": "debug",
    }
    async with Stack(root / "local", durable=False, environ=environ) as stack:
        yield Product(stack)


@asynccontextmanager
async def chromium(executable: str) -> AsyncIterator[Browser]:
    """A browser that calls nobody but us."""
    async with async_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        options += ["--disable-background-networking", "--disable-component-update"]
        launched = await playwright.chromium.launch(executable_path=executable, args=options)
        yield launched
        await launched.close()


@pytest.fixture(scope="session")
def short_root() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def product(short_root: Path) -> AsyncIterator[Product]:
    async with running(short_root) as product:
        yield product


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install it (Debian: chromium-headless-shell) to run browser tests")
    async with chromium(CHROMIUM) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, product: Product) -> AsyncIterator[Page]:
    context = await browser.new_context(base_url=product.stack.gateway_url)
    context.set_default_timeout(15_000)
    opened = await context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))

    def heard(message: ConsoleMessage) -> None:
        # Of our own pages: the stand-in for Google has a policy of its own.
        ours = message.location["url"].startswith(product.stack.gateway_url)
        if ours and "Content Security Policy" in message.text:
            complaints.append(message.text)

    opened.on("console", heard)
    yield opened
    await context.close()
    assert [] == complaints


@pytest.fixture(scope="session")
def suffix() -> str:
    """What makes the name of an org unique among tests that share a product."""
    return f"-{uuid.uuid4().hex[:8]}"
