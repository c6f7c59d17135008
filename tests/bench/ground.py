"""What the figures are measured on: vaults as processes, stored credentials, and the process that makes the load."""

import asyncio
import contextlib
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tenantvault.channel import call
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceStub
from tests.bench.load import Result, Round
from tests.chaos.harness import Ground, Vault

WHOLE_CACHE: Final = {"TENANTVAULT_CACHE_ENTRIES": "10000"}
"""Settings of a vault that remembers whatever a figure reads."""

PAUSE: Final = 1.5
"""Seconds. A vault under load brings its reads into the audit more often than that."""

_AT_ONCE: Final = 16
# The share of a processor that a vault takes for looking after itself.
_REST: Final = 0.05


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored credential: the org, its inbound assistant, and what its webhooks prove themselves with."""

    org: str
    assistant: str
    secret: str = field(repr=False)


async def store(vault: Vault, count: int) -> list[Stored]:
    """Connect Vapi for so many new orgs, each with an assistant."""
    stub = IntegrationStoreServiceStub(vault.channel("provider"))
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> Stored:
        made = Stored(f"bench-{uuid.uuid4().hex[:16]}", str(uuid.uuid4()), f"secret-{number}")
        credential = pb.Credential(vapi=pb.VapiCredential(api_key=str(uuid.uuid4()), webhook_secret=made.secret))
        inbound = pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id=made.assistant, role="inbound")
        async with turns:
            put = store_pb.PutCredentialRequest(org_id=made.org, credential=credential)
            version = (await call(stub.PutCredential, put, deadline=30)).version
            register = store_pb.RegisterResourcesRequest(
                org_id=made.org, provider=pb.PROVIDER_VAPI, version=version, resources=[inbound]
            )
            await call(stub.RegisterResources, register, deadline=30)
        return made

    return await asyncio.gather(*map(one, range(count)))


class Load:
    """The process that makes the load."""

    def __init__(self, process: asyncio.subprocess.Process, ground: Ground, peer: str) -> None:
        self._process = process
        self._ground = ground
        self._peer = peer

    async def round(
        self,
        vault: Vault,
        method: str,
        keys: Sequence[str] = (),
        *,
        concurrency: int = 1,
        seconds: float = 1.0,
        calls: int = 0,
        channels: int = 1,
    ) -> Result:
        """Have a round made; AssertionError when a call of it failed."""
        tls = self._ground.authority.issue(self._peer, server=False)
        wanted = Round(
            target=vault.target,
            tls=(str(tls.certificate), str(tls.key), str(tls.authorities)),
            method=method,
            keys=tuple(keys),
            concurrency=concurrency,
            seconds=seconds,
            calls=calls,
            channels=channels,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(wanted)).encode() + b"\n")
        result = Result(**json.loads(await self._process.stdout.readline()))
        assert not result.failures, (method, result.failures)
        return result


@asynccontextmanager
async def loading(ground: Ground, peer: str = "voice-agent") -> AsyncIterator[Load]:
    """The load of a peer while the body runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    try:
        yield Load(process, ground, peer)
    finally:
        assert process.stdin
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()


@asynccontextmanager
async def running(ground: Ground, name: str, **settings: str) -> AsyncIterator[Vault]:
    """A vault that serves while the body runs."""
    vault = Vault(ground, name, settings)
    try:
        await vault.start()
        yield vault
    finally:
        await vault.close()


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used, without its children."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, stat[11:13])) / os.sysconf("SC_CLK_TCK")


async def at_rest(*pids: int, for_seconds: float) -> None:
    """Return when processes have done next to nothing for so long.

    What a round leaves to be done, as to bring its reads into the audit, is of that round and must not slow the next.
    """
    async with asyncio.timeout(60):
        used, before = sum(map(cpu_seconds, pids)), float("-inf")
        while used - before > _REST * for_seconds:
            before = used
            await asyncio.sleep(for_seconds)
            used = sum(map(cpu_seconds, pids))


def children(pid: int) -> list[int]:
    """The processes that the main thread of a process has started, as far as they run."""
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def resident_mib(pid: int) -> float:
    """The resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
