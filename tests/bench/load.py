"""The load, a process of its own: `python -m tests.bench.load`, told by lines of JSON what to call.

Each line is a round. It calls one method from a number of tasks for some seconds, looks at each answer's status, and
answers with a line: how many calls were made, in how many seconds, how long they took, and what failed.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc.aio
import uvloop
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from tenantvault.channel import open_channel
from tenantvault.tls import TlsFiles
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.directory_service_pb2_grpc import OrgDirectoryServiceStub

DEADLINE: Final = 5.0
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What to call: `noop`, `get` (keys are orgs), `resolve`, `batch_resolve` or `resolve_credential` (assistant ids).

    It ends after `seconds`, or after `calls` where that is given. `channels` connections are used in turn.
    """

    target: str
    tls: tuple[str, str, str]
    method: str
    keys: tuple[str, ...] = ()
    concurrency: int = 1
    seconds: float = 1.0
    calls: int = 0
    channels: int = 1


@dataclass(slots=True)
class Result:
    """What came of it. `latencies` are in seconds."""

    calls: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)


async def run(wanted: Round, channels: "Channels") -> Result:
    """Make the calls of a round."""
    opened = [await channels.ready(wanted, number) for number in range(wanted.channels)]
    made = itertools.count()
    failures: Counter[str] = Counter()
    latencies: list[float] = []
    keys = itertools.cycle(wanted.keys or ("",))
    end = time.perf_counter() + wanted.seconds

    async def caller(number: int) -> None:
        method, request_of = _method(wanted, opened[number % len(opened)])
        while (next(made) < wanted.calls) if wanted.calls else (time.perf_counter() < end):
            request = request_of(next(keys))
            began = time.perf_counter()
            try:
                await method(request, timeout=DEADLINE)
            except grpc.aio.AioRpcError as error:
                failures[f"{error.code().name}: {error.details()}"] += 1
            else:
                latencies.append(time.perf_counter() - began)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller(number) for number in range(wanted.concurrency)))
    return Result(len(latencies), time.perf_counter() - began, time.process_time() - cpu, latencies, dict(failures))


class Channels:
    """Connections that later rounds use again."""

    def __init__(self) -> None:
        self._open: dict[tuple[Any, ...], grpc.aio.Channel] = {}

    async def ready(self, wanted: Round, number: int) -> grpc.aio.Channel:
        """A connection of that number, made when there is none."""
        key = (wanted.target, wanted.tls, number)
        if key not in self._open:
            certificate, private_key, authorities = map(Path, wanted.tls)
            tls = TlsFiles(certificate=certificate, key=private_key, authorities=authorities)
            self._open[key] = open_channel(wanted.target, tls, own_connection=number > 0)
            await self._open[key].channel_ready()
        return self._open[key]

    async def close(self) -> None:
        """Close them."""
        await asyncio.gather(*(channel.close() for channel in self._open.values()))


def _method(wanted: Round, channel: grpc.aio.Channel) -> tuple[Callable[..., Any], Callable[[str], Any]]:
    def resource(key: str) -> dict[str, Any]:
        return {"kind": pb.RESOURCE_KIND_VAPI_ASSISTANT, "resource_id": key}

    match wanted.method:
        case "noop":
            return HealthStub(channel).Check, lambda _: HealthCheckRequest()
        case "get":
            method = CredentialAccessServiceStub(channel).GetCredential
            return method, lambda org: access.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)
        case "resolve":
            return OrgDirectoryServiceStub(channel).ResolveOrg, lambda key: directory.ResolveOrgRequest(**resource(key))
        case "resolve_credential":
            return CredentialAccessServiceStub(channel).ResolveCredential, lambda key: access.ResolveCredentialRequest(
                **resource(key), provider=pb.PROVIDER_VAPI
            )
        case "batch_resolve":
            every = [directory.ResourceKey(**resource(key)) for key in wanted.keys]
            request = directory.BatchResolveOrgsRequest(keys=every)
            return OrgDirectoryServiceStub(channel).BatchResolveOrgs, lambda _: request
        case unknown:
            raise ValueError(unknown)


async def _lines() -> AsyncIterator[str]:
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line


async def _main() -> None:
    channels = Channels()
    async for line in _lines():
        given = json.loads(line)
        wanted = Round(**given | {"keys": tuple(given["keys"]), "tls": tuple(given["tls"])})
        sys.stdout.write(json.dumps(asdict(await run(wanted, channels))) + "\n")
        sys.stdout.flush()
    await channels.close()


if __name__ == "__main__":
    uvloop.run(_main())
