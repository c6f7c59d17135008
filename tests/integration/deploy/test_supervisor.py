"""The supervisor with small real processes."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.child import Patience, Process
from deploy.local.command import Command
from deploy.local.errors import LocalError
from deploy.local.probes import Probe, accepts
from deploy.local.supervisor import Supervisor

CODE = Path(__file__).parents[3]
QUICK = Patience(start=10, stop=0.2, restarts=2, backoff=0.01, window=60)

# Says when it is ready, and ends in order at SIGTERM.
POLITE = "trap 'echo bye >> {told}; exit 0' TERM; echo hello; touch {ready}; while :; do sleep 0.02; done"
# Hears SIGTERM and stays.
STUBBORN = "trap 'echo bye >> {told}' TERM; touch {ready}; while :; do sleep 0.02; done"


class Workshop:
    """Makes processes that leave their traces in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.announced: list[str] = []
        self._happened = asyncio.Condition()

    def process(self, name: str, script: str = POLITE, *, after: set[str] | None = None, step: bool = False) -> Process:
        ready = self.folder / f"{name}.ready"
        text = script.format(told=self.folder / "told", ready=ready, name=name, folder=self.folder)
        return Process(
            name=name,
            launch=lambda: self._command(text, ready),
            ready=None if step else accepts(ready.exists),
            after=frozenset(after or ()),
        )

    def supervisor(self, *processes: Process, patience: Patience = QUICK) -> Supervisor:
        return Supervisor(processes, logs=self.folder / "logs", patience=patience, announce=self._announce)

    @asynccontextmanager
    async def running(self, *processes: Process, patience: Patience = QUICK) -> AsyncIterator[Supervisor]:
        supervisor = self.supervisor(*processes, patience=patience)
        await supervisor.start()
        try:
            yield supervisor
        finally:
            await supervisor.stop()

    def told(self) -> list[str]:
        return (self.folder / "told").read_text().splitlines()

    async def until_announced(self, part: str) -> None:
        async with asyncio.timeout(10), self._happened:
            await self._happened.wait_for(lambda: any(part in what for what in self.announced))

    def _command(self, script: str, ready: Path) -> Command:
        ready.unlink(missing_ok=True)
        return Command(
            arguments=("/bin/sh", "-c", script), environment={"PATH": "/usr/bin:/bin"}, directory=self.folder
        )

    def _announce(self, what: str) -> None:
        self.announced.append(what)
        self._notifying = asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self._happened:
            self._happened.notify_all()


@pytest.fixture
async def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def gone(pid: int, *, within: float = 10) -> bool:
    """Whether a process has ended; waits for it."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within)[0])
    finally:
        os.close(descriptor)


async def test_a_process_starts_when_those_before_it_are_ready(workshop: Workshop) -> None:
    write = "echo {name} >> {told}; touch {ready}; while :; do sleep 0.02; done"
    first = workshop.process("first", f"sleep 0.2; {write}")
    step = workshop.process("step", "echo {name} >> {told}", after={"first"}, step=True)
    last = workshop.process("last", write, after={"step"})

    async with workshop.running(first, step, last):
        assert workshop.told() == ["first", "step", "last"]

    assert [what.split(" after")[0] for what in workshop.announced] == ["first ready", "step done", "last ready"]


async def test_what_waits_for_nothing_starts_at_the_same_time(workshop: Workshop) -> None:
    # Each becomes ready once it has seen the other.
    meet = "touch {folder}/{name}.here; while ! test -e {folder}/%s.here; do sleep 0.01; done; touch {ready}; sleep 60"
    async with workshop.running(workshop.process("a", meet % "b"), workshop.process("b", meet % "a")) as supervisor:
        assert supervisor.child("a").pid != supervisor.child("b").pid


async def test_it_ends_in_reverse_order_and_each_in_its_own_way(workshop: Workshop) -> None:
    say = "trap 'echo {name} >> {told}; exit 0' TERM; touch {ready}; while :; do sleep 0.02; done"
    async with workshop.running(workshop.process("a", say), workshop.process("b", say)) as supervisor:
        pids = [supervisor.child(name).pid for name in "ab"]

    assert workshop.told() == ["b", "a"]
    assert all(gone(pid, within=0) for pid in pids)


async def test_one_that_does_not_end_is_ended(workshop: Workshop) -> None:
    async with workshop.running(workshop.process("mule", STUBBORN)) as supervisor:
        pid = supervisor.child("mule").pid

    assert workshop.told() == ["bye"]
    assert gone(pid, within=0)


async def test_what_a_process_started_ends_with_it(workshop: Workshop) -> None:
    script = "sleep 600 & echo $! > {folder}/grandchild; touch {ready}; exec sleep 600"
    async with workshop.running(workshop.process("parent", script)):
        grandchild = int((workshop.folder / "grandchild").read_text())
        assert not gone(grandchild, within=0)

    assert gone(grandchild)


async def test_its_output_is_in_its_log(workshop: Workshop) -> None:
    async with workshop.running(workshop.process("talker", POLITE)) as supervisor:
        assert supervisor.child("talker").log.read_text() == "hello\n"


async def test_it_gets_its_environment_and_no_other(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_TERMINAL", "x")
    async with workshop.running(workshop.process("show", "env; touch {ready}; sleep 60")) as supervisor:
        names = {line.partition("=")[0] for line in supervisor.child("show").log.read_text().splitlines()}

    assert names <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}


async def test_one_that_ends_is_started_again(workshop: Workshop) -> None:
    async with workshop.running(workshop.process("phoenix")) as supervisor:
        pid = supervisor.child("phoenix").pid
        os.kill(pid, signal.SIGKILL)
        await workshop.until_announced("phoenix is ready again.")

        assert supervisor.child("phoenix").pid != pid
    assert "phoenix was ended by SIGKILL; starting it again." in workshop.announced


async def test_one_that_ends_too_often_is_given_up(workshop: Workshop) -> None:
    async with workshop.running(workshop.process("moth", "touch {ready}; echo ouch; sleep 0.1; exit 3")) as supervisor:
        async with asyncio.timeout(10):
            with pytest.raises(LocalError, match=r"moth exited with 3, too often .*moth\.log:\n    ouch") as failure:
                await supervisor.failed()
        with pytest.raises(LocalError, match="moth is not running"):
            _ = supervisor.child("moth").pid

    assert workshop.announced.count("moth exited with 3; starting it again.") <= QUICK.restarts
    assert "ouch" in str(failure.value)


async def test_one_that_does_not_come_back_is_given_up(workshop: Workshop) -> None:
    script = "test -e {folder}/once && exit 4; touch {folder}/once {ready}; exec sleep 600"
    async with workshop.running(workshop.process("once", script)) as supervisor, asyncio.timeout(10):
        os.kill(supervisor.child("once").pid, signal.SIGKILL)
        with pytest.raises(LocalError, match="once exited with 4"):
            await supervisor.failed()


async def test_one_that_was_killed_on_purpose_stays_away_until_its_start(workshop: Workshop) -> None:
    script = "echo extra=$EXTRA; touch {ready}; exec sleep 600"
    async with workshop.running(workshop.process("sleeper", script)) as supervisor:
        child = supervisor.child("sleeper")
        pid = child.pid
        await child.kill()
        assert gone(pid, within=0)
        with pytest.raises(LocalError, match="sleeper is not running"):
            _ = child.pid

        await child.start({"EXTRA": "yes"})
        await child.stop()
        await child.start()

        assert child.log.read_text() == "extra=\nextra=yes\nextra=\n"
    assert not any("again" in what for what in workshop.announced)


async def test_one_that_ends_in_an_extra_environment_comes_back_without_it(workshop: Workshop) -> None:
    script = "echo extra=$EXTRA; touch {ready}; exec sleep 600"
    async with workshop.running(workshop.process("sleeper", script)) as supervisor:
        child = supervisor.child("sleeper")
        await child.stop()
        await child.start({"EXTRA": "yes"})
        os.kill(child.pid, signal.SIGKILL)
        await workshop.until_announced("sleeper is ready again.")

        assert child.log.read_text() == "extra=\nextra=yes\nextra=\n"


async def test_when_one_does_not_start_the_others_are_ended(workshop: Workshop) -> None:
    good = workshop.process("good", "echo $$ > {folder}/pid; touch {ready}; exec sleep 600")
    bad = workshop.process("bad", "echo what is wrong; exit 7", after={"good"})
    supervisor = workshop.supervisor(good, bad)

    with pytest.raises(LocalError, match=r"bad exited with 7\. Its log is .*bad\.log:\n    what is wrong"):
        await supervisor.start()

    assert gone(int((workshop.folder / "pid").read_text()), within=0)


async def test_a_step_that_fails_is_a_failure(workshop: Workshop) -> None:
    with pytest.raises(LocalError, match="step exited with 1"):
        await workshop.supervisor(workshop.process("step", "exit 1", step=True)).start()


async def test_one_that_never_is_ready_is_a_failure(workshop: Workshop) -> None:
    supervisor = workshop.supervisor(workshop.process("slow", "exec sleep 600"), patience=Patience(start=0.2))
    with pytest.raises(LocalError, match=r"slow was not ready within 0\.2 s"):
        await supervisor.start()


async def test_a_start_that_is_broken_off_leaves_nothing(workshop: Workshop) -> None:
    supervisor = workshop.supervisor(workshop.process("slow", "echo $$ > {ready}.pid; exec sleep 600"))
    starting = asyncio.create_task(supervisor.start())
    note = workshop.folder / "slow.ready.pid"
    await soon(lambda: note.exists() and note.read_text() != "")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert gone(int(note.read_text()), within=0)


async def test_a_start_that_is_broken_off_waits_for_what_is_being_prepared(workshop: Workshop) -> None:
    begun, finish, done = threading.Event(), threading.Event(), threading.Event()

    def launch() -> Command:
        begun.set()
        finish.wait(10)
        done.set()
        raise LocalError("too late")

    supervisor = workshop.supervisor(Process(name="late", launch=launch, ready=None))
    starting = asyncio.create_task(supervisor.start())
    await soon(begun.is_set)
    starting.cancel()
    await asyncio.wait({starting}, timeout=0.2)
    assert not starting.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert done.is_set()


async def test_abort_ends_all_at_once(workshop: Workshop) -> None:
    patience = Patience(start=10, stop=60)
    async with workshop.running(workshop.process("mule", STUBBORN), patience=patience) as supervisor:
        pid = supervisor.child("mule").pid
        began = time.monotonic()
        stopping = asyncio.create_task(supervisor.stop())
        await soon((workshop.folder / "told").exists)
        supervisor.abort()
        await stopping

    assert time.monotonic() - began < 30
    assert gone(pid, within=0)


async def test_while_it_ends_nothing_is_started_again(workshop: Workshop) -> None:
    both = [workshop.process("first"), workshop.process("mule", STUBBORN)]
    async with workshop.running(*both, patience=Patience(start=10, stop=60, backoff=0)) as supervisor:
        stopping = asyncio.create_task(supervisor.stop())
        await soon((workshop.folder / "told").exists)
        supervisor.abort()
        await stopping

    assert not any("again" in what for what in workshop.announced)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at a parent's death is Linux's")
def test_nothing_outlives_the_supervisor(tmp_path: Path) -> None:
    script = """
import asyncio, signal, sys
from pathlib import Path
from deploy.local.child import Process
from deploy.local.command import Command
from deploy.local.probes import accepts
from deploy.local.supervisor import Supervisor
folder = Path(sys.argv[1])
def process(name):
    text = f"trap '' TERM INT HUP; touch {name}; while :; do sleep 0.02; done"
    command = Command(arguments=("/bin/sh", "-c", text), environment={"PATH": "/usr/bin:/bin"}, directory=folder)
    return Process(name=name, launch=lambda: command, ready=accepts((folder / name).exists))
async def main():
    supervisor = Supervisor([process("a"), process("b")], logs=folder)
    await supervisor.start()
    print(supervisor.child("a").pid, supervisor.child("b").pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen((sys.executable, "-c", script, tmp_path), cwd=CODE, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(pids) == 2
        supervisor.kill()

    assert all(gone(pid) for pid in pids)


async def soon(holds: Callable[[], bool]) -> None:
    probe: Probe = accepts(holds)
    waiting: Awaitable[None] = probe()
    await asyncio.wait_for(waiting, 10)
