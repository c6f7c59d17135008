"""The whole stack: every process, as `make run` starts it."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from deploy.local import stack as stack_module
from deploy.local.bearer import bearer_token
from deploy.local.environments import Ports
from deploy.local.errors import LocalError
from deploy.local.fetch import fetch
from deploy.local.ports import free_port
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.stack import Stack

CODE = Path(__file__).parents[3]
SERVICES: Final = ("sandbox", "vault", "provider", "gateway")
VAPI_KEY: Final = "ac3e0000-0000-4000-8000-000000000001"

pytestmark = pytest.mark.timeout(180)
in_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(tmp_path_factory.mktemp("stack"), durable=False) as running:
        yield running


def request(stack: Stack, method: str, path: str, body: Any = None) -> Any:
    """A call of the REST interface, as an administrator of acme."""
    token = bearer_token(stack.jwt_secret.read_text(), "acme", role="admin")
    call = urllib.request.Request(
        stack.gateway_url.replace("localhost", "127.0.0.1") + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Host": stack.gateway_url.removeprefix("http://"),
        },
    )
    with urllib.request.urlopen(call, timeout=30) as answer:
        return json.loads(answer.read())


def environment(pid: int) -> str:
    return Path("/proc", str(pid), "environ").read_text()


def command_line(pid: int) -> str:
    return Path("/proc", str(pid), "cmdline").read_text()


@in_one_loop
async def test_what_is_connected_in_the_gateway_can_be_fetched_by_a_service(stack: Stack) -> None:
    answer = await asyncio.to_thread(request, stack, "POST", "/api/integrations/vapi", {"apiKey": VAPI_KEY})
    assert answer["success"] is True

    shown = await asyncio.to_thread(fetch, stack.root, "acme", "VAPI", reveal=False)
    revealed = await asyncio.to_thread(fetch, stack.root, "acme", "vapi", reveal=True)

    assert answer["inboundAssistantId"] in shown
    assert "0001 (36 characters, decrypted)" in shown
    assert VAPI_KEY not in shown
    assert VAPI_KEY in revealed


@pytest.mark.parametrize(
    ("provider", "key"), [("resend", "re_ac3e0001_" + "1" * 24), ("elevenlabs", "sk_ac3e" + "1" * 44)]
)
@in_one_loop
async def test_the_others_can_be_fetched_too(stack: Stack, provider: str, key: str) -> None:
    answer = await asyncio.to_thread(request, stack, "POST", f"/api/integrations/{provider}", {"apiKey": key})
    assert answer["success"] is True

    shown = await asyncio.to_thread(fetch, stack.root, "acme", provider, reveal=False)

    assert f"1111 ({len(key)} characters, decrypted)" in shown
    assert key not in shown


@in_one_loop
async def test_what_is_not_connected_is_said_so(stack: Stack) -> None:
    with pytest.raises(LocalError, match="CREDENTIAL_NOT_FOUND"):
        await asyncio.to_thread(fetch, stack.root, "nobody-home", "vapi", reveal=False)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@in_one_loop
async def test_no_listing_of_processes_shows_a_secret(stack: Stack) -> None:
    secrets = [path.read_text() for path in (stack.root / "secrets").iterdir()]
    assert len(secrets) == 8

    for name in (*SERVICES, "postgres"):
        visible = environment(stack.pid(name)) + command_line(stack.pid(name))
        assert not any(secret in visible for secret in secrets), name


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@in_one_loop
async def test_only_the_vault_knows_of_keys_and_database(stack: Stack) -> None:
    knowing = {
        name
        for name in SERVICES
        if any(part in environment(stack.pid(name)) for part in ("DATABASE_URL", "MASTER_KEYS"))
    }

    assert knowing == {"vault"}


@in_one_loop
async def test_a_process_can_be_killed_and_started_again_with_more_settings(stack: Stack) -> None:
    before = stack.pid("provider")
    await stack.kill("provider")
    with pytest.raises(LocalError, match="provider is not running"):
        stack.pid("provider")

    await stack.restart("provider", {"TENANTVAULT_CONNECT_LEASE_SECONDS": "7"})

    assert stack.pid("provider") != before
    if sys.platform == "linux":
        assert "TENANTVAULT_CONNECT_LEASE_SECONDS=7" in environment(stack.pid("provider"))
    assert "listening" in stack.logs("provider")


@in_one_loop
async def test_the_database_survives_being_killed(stack: Stack) -> None:
    await stack.kill("postgres")
    await stack.restart("postgres")

    db = await asyncpg.connect(stack.app_url)
    try:
        assert await db.fetchval("SELECT current_user::text") == "tenantvault_app"
    finally:
        await db.close()


@in_one_loop
async def test_a_second_stack_on_the_same_data_is_refused(stack: Stack) -> None:
    with pytest.raises(LocalError, match=f"already running on {stack.root} .*{stack.gateway_url}"):
        await Stack(stack.root).start()


@in_one_loop
async def test_the_gateways_port_must_be_the_one_that_was_asked_for(stack: Stack, tmp_path: Path) -> None:
    taken = int(stack.gateway_url.rpartition(":")[2])

    with pytest.raises(LocalError, match=rf"Port {taken} is taken .*PORT=8500 make run"):
        await Stack(tmp_path, gateway_port=taken).start()


async def test_data_are_kept_and_an_inner_port_that_is_taken_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        usual = Ports(gateway=free_port(), vault=free_port(), provider=free_port(), sandbox=taken)
        monkeypatch.setattr(stack_module, "_USUAL", usual)
        stack = Stack(tmp_path, gateway_port=usual.gateway, usual_ports=True, durable=False, announce=announced.append)
        async with stack:
            first = (stack.tls("vault").certificate.read_bytes(), stack.admin_url)
            await asyncio.to_thread(request, stack, "POST", "/api/integrations/vapi", {"apiKey": VAPI_KEY})
            assert stack.gateway_url == f"http://localhost:{usual.gateway}"
            assert stack.vault_target == f"127.0.0.1:{usual.vault}"

    assert f"port {taken} is taken: sandbox listens on {stack.sandbox_url.rpartition(':')[2]} instead" in announced

    async with Stack(tmp_path, durable=False) as again:
        assert (again.tls("vault").certificate.read_bytes(), again.admin_url) == first
        assert VAPI_KEY in await asyncio.to_thread(fetch, tmp_path, "acme", "vapi", reveal=True)


async def test_a_database_elsewhere_and_the_real_hosts_need_no_stand_ins(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "elsewhere", durable=False) as elsewhere:
        async with Stack(tmp_path / "stack", database_url=elsewhere.admin_url, providers="live") as stack:
            assert not stack.data.exists()
            for stand_in in ("postgres", "sandbox"):
                with pytest.raises(KeyError):
                    stack.pid(stand_in)
        db = await asyncpg.connect(elsewhere.admin_url)
        try:
            assert await db.fetchval("SELECT count(*) FROM org_credentials") == 0
        finally:
            await db.close()


async def test_data_without_their_master_key_are_not_touched(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.data.mkdir(parents=True)
    (stack.data / "PG_VERSION").write_text("18\n")

    with pytest.raises(LocalError, match=r"master key.*secrets/master_keys is missing\. Put the file back"):
        await stack.start()

    assert not (tmp_path / "secrets").exists()


async def test_a_process_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    environ = {**os.environ, "TENANTVAULT_VAPI_WEBHOOK_URL": "ftp://nowhere"}
    with pytest.raises(LocalError, match=r"provider exited with 2(.|\n)*TENANTVAULT_VAPI_WEBHOOK_URL"):
        await Stack(tmp_path, environ=environ, durable=False).start()

    async with Stack(tmp_path, durable=False):
        pass


class Terminal:
    """`python -m deploy.local` as a person runs it."""

    def __init__(self, root: Path, port: int) -> None:
        environ = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "PROVIDERS"}}
        self._process = subprocess.Popen(
            (sys.executable, "-m", "deploy.local", "--data", str(root)),
            cwd=CODE,
            env=environ | {"PORT": str(port), "PYTHONPATH": str(CODE)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read_until(self, part: str) -> str:
        assert self._process.stdout is not None
        text = ""
        for line in self._process.stdout:
            text += line
            if part in line:
                return text
        pytest.fail(f"{part!r} was not said in:\n{text}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        text, _ = self._process.communicate(timeout=60)
        return self._process.returncode, text

    def children(self) -> list[int]:
        task = Path("/proc", str(self._process.pid), "task", str(self._process.pid), "children")
        return [int(pid) for pid in task.read_text().split()]


def ended(pid: int) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 10)[0])
    finally:
        os.close(descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_command_says_where_everything_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    port = free_port()
    terminal = Terminal(tmp_path, port)
    said = terminal.read_until("Ctrl-C")
    assert f"http://localhost:{port}" in said
    assert "acme or globex" in said
    children = terminal.children()
    assert len(children) == len(SERVICES) + 1

    code, text = Terminal(tmp_path, free_port()).end()
    assert code == 1
    assert "already running" in text

    terminal.signal(signal.SIGINT)
    code, text = terminal.end()
    assert (code, text.strip()) == (0, "Stopping.")
    assert all(ended(pid) for pid in children)
    assert not (tmp_path / "postgres" / "data" / "postmaster.pid").exists()

    terminal = Terminal(tmp_path, port)
    terminal.read_until("Ctrl-C")
    children = terminal.children()
    terminal.signal(signal.SIGKILL)
    terminal.end()
    assert all(ended(pid) for pid in children)
    data, password = tmp_path / "postgres" / "data", tmp_path / "secrets" / "postgres_password"
    with EmbeddedPostgres(data, password_file=password) as postgres:
        assert postgres.accepts()
