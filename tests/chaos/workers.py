"""Workers are killed (SIGKILL) at random moments while many integrations are due to be checked.

Each is checked; no two workers ask about the same one at the same time; none is forgotten; and a provider that answers
yes throughout never changes a state. The provider is a stand-in in this process that counts who asks, and when.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from google.protobuf.duration_pb2 import Duration

from deploy.local.command import Command
from tenantvault.channel import call
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceStub
from tests.chaos.harness import Ground, Report, Tell, Vault, eventually, silent, vaults

_SEEDERS: Final = 16
_ANSWER_SECONDS: Final = 0.02
_WITHIN: Final = 240.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How many integrations, workers and kills; times in seconds. `lease` is what a dead worker costs the others."""

    integrations: int = 1000
    workers: int = 2
    kills: int = 12
    between: float = 1.5
    lease: float = 3.0
    seed: int = 1


@dataclass(slots=True)
class StandIn:
    """Vapi's list of assistants: always empty. It counts the requests of each key, and those at the same time."""

    asked: Counter[str] = field(default_factory=Counter)
    under_way: Counter[str] = field(default_factory=Counter)
    at_once: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[int]:
        """Serve while the body runs; gives the port."""
        async with await asyncio.start_server(self._connection, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                key = head.lower().split("authorization: bearer ")[1].split("\r\n")[0]
                self.asked[key] += 1
                self.under_way[key] += 1
                self.at_once[key] = max(self.at_once[key], self.under_way[key])
                await asyncio.sleep(_ANSWER_SECONDS)
                self.under_way[key] -= 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]")
                await writer.drain()
        writer.close()


class Worker:
    """`python -m services.provider.main` in the role of a worker."""

    def __init__(self, ground: Ground, name: str, *, vault: Vault, settings: Mapping[str, str]) -> None:
        self._log = ground.folder / f"worker-{name}.log"
        tls = ground.authority.issue("provider", server=True)
        self._command = Command(
            arguments=(sys.executable, "-m", "services.provider.main"),
            environment={
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                "TENANTVAULT_PROFILE": "local",
                "TENANTVAULT_PROVIDER_ROLE": "work",
                "TENANTVAULT_LISTEN": "127.0.0.1:0",
                "TENANTVAULT_TLS_CERT": str(tls.certificate),
                "TENANTVAULT_TLS_KEY": str(tls.key),
                "TENANTVAULT_TLS_CA": str(tls.authorities),
                "TENANTVAULT_VAULT_TARGET": vault.target,
                "TENANTVAULT_VAPI_WEBHOOK_URL": "https://hooks.tenantvault.invalid/vapi",
                "TENANTVAULT_WORK_POLL_SECONDS": "0.2",
                **settings,
            },
            directory=ground.folder.cwd(),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait for nothing."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command.tethered(),
                env=self._command.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def end(self, how: signal.Signals) -> None:
        """End it; returns when it is gone."""
        assert self._process is not None
        self._process.send_signal(how)
        await self.gone()

    async def gone(self, *, within: float = 30.0) -> int | None:
        """Wait until it is gone; returns its exit status, below zero for a signal, and None when it is still there."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return await asyncio.to_thread(self._process.wait, within)
        return None

    def failures(self) -> list[str]:
        """What its log says that must never be said."""
        never = ("work failed", "a handler failed", "work in the background ended", "Traceback")
        lines = self._log.read_text(errors="replace").splitlines()
        return [line[:1000] for line in lines if any(word in line for word in never)]


async def run(ground: Ground, plan: Plan, tell: Tell = silent) -> Report:
    """Connect many, make all of them due, and kill who checks them."""
    report, chance, stand_in = Report("workers"), random.Random(plan.seed), StandIn()
    async with (
        vaults(ground, 1) as (vault,),
        stand_in.served() as port,
        _superuser(ground) as db,
    ):
        began = time.monotonic()
        await _seed(vault, plan.integrations)
        report.figures["seeding_s"] = round(time.monotonic() - began, 1)
        tell(f"{plan.integrations} integrations are due")
        since = await db.fetchval("SELECT now()")
        began = time.monotonic()
        settings = {
            "TENANTVAULT_VAPI_URL": f"http://127.0.0.1:{port}",
            "TENANTVAULT_WORK_LEASE_SECONDS": str(plan.lease),
        }
        workers = [Worker(ground, str(place), vault=vault, settings=settings) for place in range(plan.workers)]
        for worker in workers:
            worker.start()
        try:
            killed = await _kill(workers, db, plan, chance)
            done = await eventually(lambda: _is_through(db, since), within=_WITHIN)
        finally:
            for worker in workers:
                await worker.end(signal.SIGTERM)
        report.figures |= {
            "integrations": plan.integrations,
            "kills": killed,
            "checking_s": round(time.monotonic() - began, 1),
            "requests": stand_in.asked.total(),
        }
        await _judge(report, db, stand_in, plan, done=done)
        failures = [line for worker in workers for line in worker.failures()] + vault.failures()
        report.claim("no process fails", not failures, failures[:3])
    return report


async def _kill(
    workers: list[Worker], db: "asyncpg.Connection[asyncpg.Record]", plan: Plan, chance: random.Random
) -> int:
    """Kill while there is work; returns how often."""
    for number in range(plan.kills):
        await asyncio.sleep(chance.uniform(plan.between / 3, plan.between))
        if not await db.fetchval("SELECT count(*) FROM tasks WHERE due_at <= now()"):
            return number
        victim = chance.choice(workers)
        await victim.end(signal.SIGKILL)
        victim.start()
    return plan.kills


async def _is_through(db: "asyncpg.Connection[asyncpg.Record]", since: object) -> bool:
    left = await db.fetchval(
        "SELECT (SELECT count(*) FROM tasks WHERE due_at <= now() OR owner <> '')"
        "     + (SELECT count(*) FROM org_credentials WHERE last_verified_at < $1)",
        since,
    )
    await asyncio.sleep(0.1)
    return bool(left == 0)


async def _judge(
    report: Report, db: "asyncpg.Connection[asyncpg.Record]", stand_in: StandIn, plan: Plan, *, done: bool
) -> None:
    report.claim("each is checked", done and len(stand_in.asked) == plan.integrations, len(stand_in.asked))
    twice = [key for key, count in stand_in.at_once.items() if count > 1]
    report.claim("none is checked by two at the same time", not twice, twice[:3])
    again = stand_in.asked.total() - plan.integrations
    # A worker has at most eight in its hands when it is killed.
    report.claim("only what a killed worker had in its hands is checked again", again <= 8 * plan.kills, again)
    coming = await db.fetchval(
        "SELECT count(*) FROM tasks WHERE task = 'verify' AND due_at > now() + interval '1 hour'"
    )
    report.claim("none is forgotten", coming == plan.integrations, coming)
    refused = await db.fetchval("SELECT count(*) FROM org_credentials WHERE verification_error IS NOT NULL")
    report.claim("no state changed", refused == 0, refused)

    async def audited() -> bool:
        orgs = await db.fetchval("SELECT count(DISTINCT org_id) FROM audit_events WHERE action = 'credential.verify'")
        return bool(orgs == plan.integrations)

    report.claim("each check is in the audit", await eventually(audited), "some are not")


async def _seed(vault: Vault, integrations: int) -> None:
    stub = IntegrationStoreServiceStub(vault.channel("provider"))
    numbers = iter(range(integrations))

    async def seed() -> None:
        for number in numbers:
            org = f"org-{number}"
            credential = pb.Credential(vapi=pb.VapiCredential(api_key=f"key-{number:016d}"))
            request = store_pb.PutCredentialRequest(org_id=org, credential=credential)
            version = (await call(stub.PutCredential, request, deadline=20.0)).version
            now = store_pb.ScheduledWork(task=store_pb.TASK_VERIFY, due_in=Duration())
            activate = store_pb.RegisterResourcesRequest(
                org_id=org, provider=pb.PROVIDER_VAPI, version=version, schedule=store_pb.Schedule(work=[now])
            )
            await call(stub.RegisterResources, activate, deadline=20.0)

    await asyncio.gather(*(seed() for _ in range(_SEEDERS)))


@contextlib.asynccontextmanager
async def _superuser(ground: Ground) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    db = await asyncpg.connect(ground.database.admin_url)
    try:
        yield db
    finally:
        await db.close()
