"""Several vaults on one port, as TENANTVAULT_WORKERS says."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.local.authority import DevelopmentAuthority
from services.rpc import workers as supervisor
from services.rpc.workers import Address
from services.rpc.workers import Workers as Supervisor
from tenantvault.channel import call, open_channel
from tenantvault.errors import CredentialNotFound
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceStub
from tests.integration.vault.conftest import VAPI, eventually
from tests.integration.vault.test_main import started


@dataclass(slots=True)
class Workers:
    """The process that starts two workers, and what all three have said so far."""

    process: asyncio.subprocess.Process
    authority: DevelopmentAuthority
    target: str = ""
    pids: dict[int, int] = field(default_factory=dict)
    _closing: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def until(self, text: str, times: int = 1) -> None:
        """Read on in the log until an event has come so many times."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            while times and (line := await self.process.stderr.readline()):
                told: dict[str, Any] = json.loads(line)
                match told["event"]:
                    case "a worker began":
                        self.pids[told["worker"]] = told["pid"]
                    case "listening":
                        self.target = f"127.0.0.1:{told['port']}"
                times -= told["event"] == text
        assert not times, f"it ended without {text!r}"

    async def store(self) -> Any:
        return IntegrationStoreServiceStub(await self._connection("provider"))

    async def access(self, count: int) -> list[Any]:
        """So many connections of a reader's own, which the kernel spreads over the workers."""
        return [CredentialAccessServiceStub(await self._connection("voice-agent")) for _ in range(count)]

    async def _connection(self, peer: str) -> Any:
        channel = open_channel(self.target, self.authority.issue(peer, server=False), own_connection=True)
        await self._closing.enter_async_context(channel)
        await channel.channel_ready()
        return channel

    async def aclose(self) -> None:
        await self._closing.aclose()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.communicate()
        await eventually(self.all_gone)

    async def all_gone(self) -> bool:
        return not any(runs(pid) for pid in self.pids.values())


def runs(pid: int) -> bool:
    try:
        return "Z" != Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def connections_of(pid: int, target: str) -> int:
    """How many connections to that port a process has accepted."""
    port = f":{int(target.rpartition(':')[2]):04X}"
    tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    established = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "01"}
    held = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.add(str(handle.readlink()))
    return len(established & held)


@pytest.fixture
async def workers(vault_environ: dict[str, str], authority: DevelopmentAuthority) -> AsyncIterator[Workers]:
    made = Workers(await started({**vault_environ, "TENANTVAULT_WORKERS": "2"}), authority)
    async with contextlib.aclosing(made):
        await made.until("ready to serve", 2)
        yield made


async def connect(workers: Workers, org: str) -> None:
    store = await workers.store()
    version = (await call(store.PutCredential, store_pb.PutCredentialRequest(org_id=org, credential=VAPI))).version
    request = store_pb.RegisterResourcesRequest(org_id=org, provider=pb.PROVIDER_VAPI, version=version)
    await call(store.RegisterResources, request)


async def test_connections_are_spread_and_a_revocation_reaches_every_worker(workers: Workers, org: str) -> None:
    await connect(workers, org)
    readers = await workers.access(16)
    request = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    for _ in range(2):
        assert {VAPI.vapi.api_key} == {
            (await call(reader.GetCredential, request)).credential.credential.vapi.api_key for reader in readers
        }
    assert all(connections_of(pid, workers.target) for pid in workers.pids.values())
    disconnect = store_pb.DisconnectRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    await call((await workers.store()).Disconnect, disconnect)
    for reader in readers:
        with pytest.raises(CredentialNotFound):
            await call(reader.GetCredential, request)


async def test_a_worker_that_was_killed_is_started_again_while_the_other_serves(workers: Workers, org: str) -> None:
    await connect(workers, org)
    killed = workers.pids[1]
    os.kill(killed, signal.SIGKILL)
    await workers.until("a worker ended")
    request = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    [reader] = await workers.access(1)
    assert VAPI == (await call(reader.GetCredential, request)).credential.credential
    await workers.until("ready to serve")
    assert killed != workers.pids[1]


async def test_it_ends_in_order_and_takes_its_workers_along(workers: Workers) -> None:
    workers.process.terminate()
    async with asyncio.timeout(20):
        await workers.process.communicate()
    assert 0 == workers.process.returncode
    assert await workers.all_gone()


async def test_when_it_is_killed_its_workers_end_by_themselves(workers: Workers) -> None:
    workers.process.kill()
    await workers.process.wait()
    await eventually(workers.all_gone)


async def test_a_worker_whose_parent_died_before_it_began_ends_at_once(vault_environ: dict[str, str]) -> None:
    process = await started({**vault_environ, "TENANTVAULT_WORKER": str(2**22 + 1)})
    async with asyncio.timeout(20):
        await process.communicate()
    assert -signal.SIGTERM == process.returncode


async def test_a_port_that_is_taken_and_a_wrong_setting_end_it_with_a_sentence(
    vault_environ: dict[str, str],
) -> None:
    environ = {**vault_environ, "TENANTVAULT_WORKERS": "2"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await started({**environ, "TENANTVAULT_LISTEN": listen})
        _, said = await process.communicate()
        assert (2, True) == (process.returncode, listen.encode() in said)
    for wrong in ({"TENANTVAULT_OVERLAP_SECONDS": "nonsense"}, {"TENANTVAULT_WORKERS": "0"}):
        process = await started(environ | wrong)
        async with asyncio.timeout(20):
            _, said = await process.communicate()
        assert (2, True) == (process.returncode, next(iter(wrong)).encode() in said)


@pytest.fixture
def address() -> Iterator[Address]:
    held = Address.hold("127.0.0.1:0")
    yield held
    held.held.close()


@pytest.mark.parametrize(("steady", "status"), [(30.0, 2), (0.0, 0)])
async def test_a_wrong_setting_is_final_only_while_it_was_never_right(
    address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steady: float, status: int
) -> None:
    monkeypatch.setattr(supervisor, "_STEADY", steady)
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.01)
    began = tmp_path / "began"
    script = f"open({str(began)!r}, 'a').write('x'); raise SystemExit(2)"
    workers = Supervisor([sys.executable, "-I", "-S", "-c", script], {}, 1, address)
    running = asyncio.create_task(workers.run())

    async def is_over_or_began_again() -> bool:
        return running.done() or (began.exists() and began.stat().st_size > 1)

    await eventually(is_over_or_began_again)
    workers.stop()
    assert status == await running


async def test_a_worker_that_cannot_be_started_is_tried_again(
    address: Address, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.01)
    workers = Supervisor(["/nowhere/to/be/found"], {}, 1, address)
    running = asyncio.create_task(workers.run())

    async def was_tried_twice() -> bool:
        return running.done() or caplog.text.count("a worker cannot be started") > 1

    await eventually(was_tried_twice)
    workers.stop()
    assert 0 == await running
