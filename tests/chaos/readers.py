"""A process that does nothing but read: `python -m tests.chaos.readers CERTIFICATE KEY AUTHORITY`.

It is told what to do by lines of JSON on standard input and answers each with one on standard output. Moments are by
the machine's monotonic clock, which all processes share.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import grpc.aio
import uvloop

from tenantvault._status import FailedCall, from_status
from tenantvault.channel import open_channel
from tenantvault.tls import TlsFiles
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tests.chaos.harness import Vault
from tests.chaos.peers import READ_WITHIN, VAPI, seen

_WITHIN: Final = 60.0


@dataclass(frozen=True, slots=True)
class Read:
    """A read that has ended: when it began, when its answer was there, what it was."""

    began: float
    ended: float
    answer: str
    stale: bool


@dataclass(slots=True)
class _Followed:
    """The reads of one org on one vault."""

    reads: list[Read] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, enough: Callable[[list[Read]], bool]) -> None:
        async with asyncio.timeout(_WITHIN):
            while not enough(self.reads):
                self.heard.clear()
                await self.heard.wait()


@dataclass(slots=True)
class _Roamed:
    """The reads of many orgs."""

    good: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    slowest: float = 0.0


class Readers:
    """All reading tasks of the process."""

    def __init__(self, tls: TlsFiles) -> None:
        self._tls = tls
        self._stubs: dict[str, Any] = {}
        self._followed: dict[str, _Followed] = {}
        self._roamed = _Roamed()
        self._tasks: set[asyncio.Task[None]] = set()
        self._channels: list[grpc.aio.Channel] = []

    async def targets(self, vaults: dict[str, str]) -> dict[str, Any]:
        """Read from these vaults from now on. One that is not among them any more is let alone."""
        for name in self._stubs.keys() - vaults.keys():
            del self._stubs[name]
        for name, target in vaults.items():
            channel = open_channel(target, self._tls)
            self._channels.append(channel)
            self._stubs[name] = CredentialAccessServiceStub(channel)
        return {}

    async def leave(self, vault: str) -> dict[str, Any]:
        """Begin no read at a vault any more."""
        self._stubs.pop(vault, None)
        return {}

    async def join(self, vault: str, target: str) -> dict[str, Any]:
        """Read from a vault too."""
        channel = open_channel(target, self._tls)
        self._channels.append(channel)
        self._stubs[vault] = CredentialAccessServiceStub(channel)
        return {}

    async def follow(self, org: str, old: str, warm: int, tasks: int) -> dict[str, Any]:
        """Read one org in tight loops; the answer comes when each vault has given the old answer so many times."""
        await self._end()
        self._followed = {name: _Followed() for name in self._stubs}
        for name in self._stubs:
            for _ in range(tasks):
                self._begin(self._follow(name, org))
        for followed in self._followed.values():
            await followed.until(lambda reads: sum(read.answer == old for read in reads) >= warm)
        return {}

    async def probe(self, org: str, each: int) -> dict[str, Any]:
        """Send so many more reads to each vault, whether it answers or not."""
        for name in self._stubs:
            for _ in range(each):
                self._begin(self._read_once(name, org))
        await asyncio.sleep(0)
        return {}

    async def finish(self, sent: float, since: float, old: str, new: str, more: int) -> dict[str, Any]:
        """Stop when each vault has answered so many reads that began after a moment, and the last one with what is new.

        Returns what came of all of them.
        """
        for followed in self._followed.values():
            await followed.until(
                lambda reads: sum(read.began > since for read in reads) >= more and reads[-1].answer == new
            )
        await self._end()
        found: dict[str, Any] = {}
        for name, followed in self._followed.items():
            reads = followed.reads
            olds = [read for read in reads if read.answer == old]
            found[name] = {
                "reads": len(reads),
                "last_old": max((read.ended for read in olds), default=sent),
                "violations": [
                    [round((read.began - since) * 1000, 3), round((read.ended - since) * 1000, 3), read.stale]
                    for read in olds
                    if read.began > since
                ],
                "before": Counter(read.answer for read in reads if read.ended < sent),
                "after": Counter(read.answer for read in reads if read.began > since),
            }
        return {"vaults": found}

    async def roam(self, prefix: str, orgs: int, tasks: int) -> dict[str, Any]:
        """Read all orgs at random, from all vaults, without a pause."""
        self._roamed = _Roamed()
        for number in range(tasks):
            self._begin(self._roam(prefix, orgs, random.Random(number)))
        return {}

    async def roamed(self) -> dict[str, Any]:
        """How the roaming did so far."""
        roamed = self._roamed
        return {
            "good": roamed.good,
            "wrong": roamed.wrong,
            "failed": roamed.failed,
            "retried": roamed.retried,
            "slowest_ms": round(roamed.slowest * 1000, 1),
            "at": time.monotonic(),
        }

    async def stop(self) -> dict[str, Any]:
        """End all reading."""
        await self._end()
        return await self.roamed()

    async def close(self) -> None:
        """End everything."""
        await self._end()
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def _follow(self, vault: str, org: str) -> None:
        while True:
            await self._read_once(vault, org)

    async def _read_once(self, vault: str, org: str) -> None:
        request = access_pb.GetCredentialRequest(org_id=org, provider=cast("Any", VAPI))
        followed, stale = self._followed[vault], False
        began = time.monotonic()
        try:
            active = (await self._stubs[vault].GetCredential(request, timeout=READ_WITHIN)).credential
            answer, stale = seen(active), active.served_stale
        except grpc.aio.AioRpcError as error:
            answer = from_status(cast("FailedCall", error)).reason
        followed.reads.append(Read(began, time.monotonic(), answer, stale))
        followed.heard.set()

    async def _roam(self, prefix: str, orgs: int, chance: random.Random) -> None:
        roamed = self._roamed
        while True:
            org = f"{prefix}{chance.randrange(orgs)}"
            request = access_pb.GetCredentialRequest(org_id=org, provider=cast("Any", VAPI))
            began = time.monotonic()
            while True:
                name = chance.choice(sorted(self._stubs))
                stub = self._stubs[name]
                try:
                    answer = seen((await stub.GetCredential(request, timeout=READ_WITHIN)).credential)
                except grpc.aio.AioRpcError as error:
                    if self._stubs.get(name) is not stub:
                        # It was taken away meanwhile: its callers go to another.
                        roamed.retried += 1
                        continue
                    roamed.failed[from_status(cast("FailedCall", error)).reason] += 1
                else:
                    if answer == "v1":
                        roamed.good += 1
                    else:
                        roamed.wrong[answer] += 1
                break
            roamed.slowest = max(roamed.slowest, time.monotonic() - began)

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Reading:
    """The process, from the outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, work: str, **arguments: Any) -> dict[str, Any]:
        """Have a method of Readers called; what it returned."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([work, arguments]).encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(_WITHIN * 4):
            line = await self._process.stdout.readline()
        if not line:
            raise AssertionError("the reading process has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.asynccontextmanager
async def reading(folder: Path, tls: TlsFiles, vaults: list[Vault]) -> AsyncIterator[Reading]:
    """A process that reads from vaults."""
    with (folder / "readers.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.readers",
            *map(str, (tls.certificate, tls.key, tls.authorities)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=16 * 1024 * 1024,
        )
    try:
        readers = Reading(process)
        await readers.do("targets", vaults={vault.name: vault.target for vault in vaults})
        yield readers
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _serve(tls: TlsFiles) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    readers = Readers(tls)
    while line := await lines.readline():
        work, arguments = json.loads(line)
        answer = await getattr(readers, work)(**arguments)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await readers.close()


if __name__ == "__main__":
    certificate, key, authorities = map(Path, sys.argv[1:4])
    uvloop.run(_serve(TlsFiles(certificate=certificate, key=key, authorities=authorities)))
