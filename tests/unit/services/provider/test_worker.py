"""The worker: everything that is due is done, by one at a time, and what fails comes back later."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.provider.connect import Connect
from services.provider.integration import State
from services.provider.lease import Leases
from services.provider.lifecycle import Lifecycle
from services.provider.outage import Outages
from services.provider.provider import Accepted, Verdict
from services.provider.refresh import Refresh
from services.provider.rotate import Rotate
from services.provider.work import DueWork, Task, Timetable
from services.provider.worker import Worker
from tenantvault.credentials import GoogleCalendarCredential, Provider, ResendCredential
from tenantvault.errors import (
    AccountSuspended,
    CredentialUnreadable,
    ProviderMisconfigured,
    ProviderUnavailable,
    RateLimited,
    TenantVaultError,
    VaultUnavailable,
    VersionConflict,
)
from tenantvault.secret import Secret
from tests.unit.services.provider.fake_provider import Account, Consented, Keyed, key
from tests.unit.services.provider.fake_vault import NOW, FakeVault, Row, connected

ORG = ("acme", Provider.RESEND)
DAY = 86_400.0


class Killed(BaseException):
    """The process is gone."""


async def for_ever(seconds: float) -> None:
    if seconds >= 1:
        await asyncio.Event().wait()
    await asyncio.sleep(0)


class World:
    """Orgs that are connected with a provider whose account they share, on a clock of its own."""

    def __init__(self, *orgs: str, verify_seconds: float = DAY, seed: int = 1) -> None:
        self.vault = FakeVault()
        self.account = Account()
        self.keyed = Keyed(self.account)
        self.google = Consented(self.vault.moment)
        self.random = random.Random(seed)
        self.timetable = Timetable(
            verify_seconds=verify_seconds,
            overlap_seconds=100.0,
            now=self.vault.moment,
            jitter=self.random.random,
        )
        for org in orgs:
            connected(self.vault, org, Provider.RESEND, key("key-0", "id-0"))
            self.vault.tasks[org, Provider.RESEND, Task.VERIFY] = Row(0.0)

    def worker(self, **more: Any) -> Worker:
        leases = Leases(self.vault, seconds=15.0, sleep=for_ever, jitter=lambda: 0.0)
        providers = (self.keyed, self.google)
        connect = Connect(self.vault, providers, leases, self.timetable)
        lifecycle = Lifecycle(self.vault, providers, leases, connect)
        return Worker(
            work=self.vault,
            lifecycle=lifecycle,
            refresh=Refresh(self.vault, providers, leases, now=self.vault.moment),
            rotate=Rotate(self.vault, providers, leases, self.timetable, now=self.vault.moment),
            timetable=self.timetable,
            outages=Outages(clock=lambda: self.vault.time, jitter=self.random.random),
            jitter=self.random.random,
            **{"concurrency": 8, "lease_seconds": 180.0, "poll_seconds": 5.0} | more,
        )

    def row(self, task: Task, org: str = "acme", provider: Provider = Provider.RESEND) -> Row:
        return self.vault.tasks[org, provider, task]


async def test_what_is_due_is_verified_and_comes_back_in_about_a_day() -> None:
    world = World("acme")
    worker = world.worker()
    assert 1 == await worker.once()
    assert 0.8 * DAY <= world.row(Task.VERIFY).due_at <= 1.2 * DAY
    assert (0, "") == (world.row(Task.VERIFY).attempts, world.row(Task.VERIFY).owner)
    assert ["schedule"] == world.vault.origins
    assert 1 == worker.counts.done
    assert 0 == await worker.once()


async def test_a_refusal_is_recorded_and_comes_back_in_about_a_day() -> None:
    world = World("acme")
    world.account.keys.clear()
    await world.worker().once()
    assert State.REFUSED is world.vault.integrations[ORG].state
    assert 0.8 * DAY <= world.row(Task.VERIFY).due_at


async def test_no_answer_changes_no_state_and_comes_back_later_and_later() -> None:
    world = World("acme")
    world.account.down = True
    before = world.vault.integrations[ORG]
    worker = world.worker()
    pauses = []
    for _ in range(2):
        await worker.once()
        pauses.append(world.row(Task.VERIFY).due_at - world.vault.time)
        world.vault.time = world.row(Task.VERIFY).due_at
    assert before == world.vault.integrations[ORG]
    assert 30.0 <= pauses[0] <= 60.0 <= pauses[1] <= 120.0
    assert 2 == worker.counts.unreachable


async def test_what_is_refreshed_comes_back_before_the_token_ends() -> None:
    world = World()
    token = GoogleCalendarCredential(
        refresh_token=Secret("r"), access_token=Secret("a"), expires_at=NOW + timedelta(seconds=600), scopes=()
    )
    connected(world.vault, "acme", Provider.GOOGLE_CALENDAR, token)
    world.vault.tasks["acme", Provider.GOOGLE_CALENDAR, Task.REFRESH] = Row(0.0)
    await world.worker().once()
    assert 1 == world.google.account.requests
    due = world.row(Task.REFRESH, provider=Provider.GOOGLE_CALENDAR).due_at
    assert 3600 - 720 <= due <= 3600 - 480


async def test_what_a_rotation_replaced_and_cannot_end_is_tried_later_and_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refused(*_: object) -> tuple[str, ...]:
        raise AccountSuspended

    monkeypatch.setattr(Keyed, "retire", refused)
    world = World()
    connected(world.vault, *ORG, key("key-0", "id-0"))
    world.vault.tasks[*ORG, Task.ROTATE] = Row(0.0)
    worker = world.worker()
    await worker.once()
    pauses = []
    for _ in range(2):
        world.vault.time = world.row(Task.ROTATE).due_at
        await worker.once()
        pauses.append(world.row(Task.ROTATE).due_at - world.vault.time)
    assert 30.0 <= pauses[0] <= 60.0 <= pauses[1] <= 120.0


async def test_a_consent_that_is_over_is_asked_for_once_a_day() -> None:
    world = World()
    token = GoogleCalendarCredential(refresh_token=Secret("r"), access_token=Secret("a"), expires_at=NOW, scopes=())
    connected(world.vault, "acme", Provider.GOOGLE_CALENDAR, token)
    world.vault.tasks["acme", Provider.GOOGLE_CALENDAR, Task.REFRESH] = Row(0.0)
    world.google.dead = True
    worker = world.worker()
    await worker.once()
    assert "REAUTH_REQUIRED" == world.vault.integrations["acme", Provider.GOOGLE_CALENDAR].verification_reason
    assert 0.8 * DAY <= world.row(Task.REFRESH, provider=Provider.GOOGLE_CALENDAR).due_at
    assert 1 == worker.counts.refused


async def test_a_disconnected_integration_is_left_alone() -> None:
    world = World("acme")
    await world.vault.disconnect(*ORG, on_behalf_of="ada")
    assert 0 == await world.worker().once()
    assert 0 == world.account.requests


async def test_one_that_is_disconnected_under_the_worker_is_given_back() -> None:
    world = World("acme")
    claim = world.vault.claim

    async def then_disconnected(**what: Any) -> Sequence[DueWork]:
        claimed = await claim(**what)
        await world.vault.disconnect(*ORG, on_behalf_of="ada")
        return claimed

    world.vault.claim = then_disconnected  # type: ignore[method-assign]
    worker = world.worker()
    await worker.once()
    assert "" == world.row(Task.VERIFY).owner
    assert 1 == worker.counts.busy


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        (ProviderMisconfigured(), 30.0, 60.0),
        (RateLimited(retry_after=700.0), 700.0, 700.0),
        (RateLimited(retry_after=999_999_999.0), 3600.0, 3600.0),
        (VersionConflict(), 15.0, 45.0),
        (TimeoutError(), 15.0, 45.0),
        (CredentialUnreadable(), 30.0, 60.0),
        (ZeroDivisionError("key-0"), 30.0, 60.0),
    ],
)
async def test_whatever_goes_wrong_comes_back(
    error: Exception, least: float, most: float, caplog: pytest.LogCaptureFixture
) -> None:
    world = World("acme")

    async def fails(credential: ResendCredential) -> Verdict:
        raise error

    world.keyed.test = fails  # type: ignore[method-assign]
    await world.worker().once()
    assert least <= world.row(Task.VERIFY).due_at <= most
    assert "" == world.row(Task.VERIFY).owner


async def test_to_slow_down_is_no_outage() -> None:
    world = World("acme", "globex", "initech", "umbrella")

    async def slow_down(credential: ResendCredential) -> Verdict:
        raise RateLimited

    world.keyed.test = slow_down  # type: ignore[method-assign]
    worker = world.worker(concurrency=1)
    for _ in range(4):
        await worker.once()
    assert (4, 0) == (worker.counts.unreachable, worker.counts.put_off)


async def test_work_that_cannot_be_given_back_is_done_again_when_its_lease_is_over() -> None:
    world = World("acme")
    world.vault.faults["finish"] = deque(["before"])
    worker = world.worker()
    await worker.once()
    assert 1 == worker.counts.lost
    assert 0 == await worker.once()
    world.vault.time += worker.lease_seconds
    assert 1 == await worker.once()


async def test_a_worker_that_is_stopped_gives_back_what_it_has() -> None:
    world = World("acme")
    begun = asyncio.Event()

    async def hangs(credential: ResendCredential) -> Verdict:
        begun.set()
        await asyncio.Event().wait()
        return Accepted()

    world.keyed.test = hangs  # type: ignore[method-assign]
    running = asyncio.create_task(world.worker().run())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ("", 0.0) == (world.row(Task.VERIFY).owner, world.row(Task.VERIFY).due_at)


async def test_a_vault_that_is_away_is_asked_again() -> None:
    world = World("acme")
    world.vault.faults["claim"] = deque(["before", "before"])
    slept: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if world.row(Task.VERIFY).due_at:
            enough.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(world.worker(sleep=sleep).run())
    await enough.wait()
    running.cancel()
    assert 3 == len(slept)
    assert all(2.5 <= pause <= 7.5 for pause in slept)
    assert 1 == world.account.requests


async def test_the_background_does_not_end_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    world = World("acme")
    claim, failed = world.vault.claim, asyncio.Event()

    async def fails_once(**what: Any) -> Sequence[DueWork]:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError
        return await claim(**what)

    done = asyncio.Event()

    async def sleep(_: float) -> None:
        if world.row(Task.VERIFY).due_at:
            done.set()
            await asyncio.Event().wait()

    world.vault.claim = fails_once  # type: ignore[method-assign]
    running = asyncio.create_task(world.worker(sleep=sleep).run())
    await done.wait()
    running.cancel()
    assert 1 == world.account.requests


async def test_a_provider_that_is_down_for_an_hour_changes_no_state_and_costs_few_requests() -> None:
    orgs = [f"org-{number}" for number in range(200)]
    world = World(*orgs)
    world.account.down = True
    before = dict(world.vault.integrations)
    worker = world.worker()
    while world.vault.time < 3600.0:
        if not await worker.once():
            world.vault.time = max(world.vault.time + 1.0, min(row.due_at for row in world.vault.tasks.values()))
    assert before == world.vault.integrations
    # Without an outage it is 200 in a day. A storm would be 200 times each backoff: some 1400.
    assert world.account.requests <= 60

    world.account.down, world.account.requests = False, 0
    came_back = world.vault.time
    while any(row.due_at <= came_back + 4000.0 for row in world.vault.tasks.values()):
        if not await worker.once():
            world.vault.time = min(row.due_at for row in world.vault.tasks.values())
    assert 200 == world.account.requests, "each is checked once, not much later than the longest backoff"


async def test_two_workers_do_each_piece_once() -> None:
    world = World(*(f"org-{number}" for number in range(100)))
    one, other = world.worker(), world.worker()
    seen: Counter[str] = Counter()
    record = world.vault.record_verification

    async def counted(org_id: str, *rest: Any, **more: Any) -> Any:
        seen[org_id] += 1
        return await record(org_id, *rest, **more)

    world.vault.record_verification = counted  # type: ignore[method-assign]
    while any(await asyncio.gather(one.once(), other.once())):
        pass
    assert {1} == set(seen.values())
    assert 100 == len(seen)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
async def test_a_rotation_survives_whatever_befalls_its_workers(data: st.DataObject) -> None:
    world = World("acme")
    del world.vault.tasks["acme", Provider.RESEND, Task.VERIFY]
    row = world.vault.tasks["acme", Provider.RESEND, Task.ROTATE] = Row(0.0)
    for _ in range(data.draw(st.integers(1, 4), label="accidents")):
        left = data.draw(st.integers(0, 30), label="pulses before it")
        error: type[BaseException] = data.draw(
            st.sampled_from([Killed, VaultUnavailable, ProviderUnavailable, asyncio.CancelledError])
        )

        def pulse(_: str, error: type[BaseException] = error) -> None:
            nonlocal left
            left -= 1
            if left == -1 or (left < 0 and error is Killed):
                raise error

        world.vault.pulse = world.account.pulse = pulse
        with suppress(Killed, TenantVaultError, BaseExceptionGroup, asyncio.CancelledError):
            await world.worker().once()
        world.vault.pulse = world.account.pulse = lambda _: None
        world.vault.time = max(world.vault.time + 200.0, row.due_at)
        assert world.account.takes(_active(world)), "what consumers are given works"
    for _ in range(30):
        await world.worker().once()
        assert world.account.takes(_active(world)), "what consumers are given works"
        if not row.progress and world.vault.time + 2 * DAY < row.due_at:
            break
        world.vault.time = max(world.vault.time + 200.0, row.due_at)
    assert {_active(world).api_key.reveal()} == world.account.keys


def _active(world: World) -> ResendCredential:
    integration = world.vault.integrations[ORG]
    credential = world.vault.stored(*ORG, integration.version)
    assert isinstance(credential, ResendCredential)
    return credential


async def test_what_was_noted_stays_noted_when_the_switch_fails() -> None:
    world = World("acme")
    del world.vault.tasks["acme", Provider.RESEND, Task.VERIFY]
    row = world.vault.tasks["acme", Provider.RESEND, Task.ROTATE] = Row(0.0)
    world.vault.faults["register"] = deque(["after"])
    await world.worker().once()
    assert ("successor:1:2:key-0", "key-1") == (row.progress, _active(world).api_key.reveal())
