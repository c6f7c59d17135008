import asyncio
from collections import deque
from typing import cast

import pytest

from services.provider.lease import Leases
from services.provider.provider import MayComeAbout
from tenantvault.credentials import Provider
from tenantvault.errors import LeaseHeld, ProviderUnavailable, VaultUnavailable
from tests.unit.services.provider.fake_vault import FakeVault

ORG = ("acme", Provider.VAPI)


class Ticks:
    """Sleeping that ends when the test says so."""

    def __init__(self) -> None:
        self.wanted: list[float] = []
        self._sleepers: deque[asyncio.Event] = deque()
        self._arrived = asyncio.Condition()

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self.wanted.append(seconds)
        self._sleepers.append(event)
        async with self._arrived:
            self._arrived.notify_all()
        await event.wait()

    async def wake(self) -> None:
        """Wait until somebody sleeps, and end that sleep."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self._sleepers)
        self._sleepers.popleft().set()

    async def asleep(self) -> None:
        async with self._arrived:
            await self._arrived.wait_for(lambda: self._sleepers)


@pytest.fixture
def vault() -> FakeVault:
    return FakeVault()


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


def leases(vault: FakeVault, ticks: Ticks, *, seconds: float = 15.0, owner: str = "me") -> Leases:
    return Leases(vault, seconds=seconds, sleep=ticks.sleep, jitter=lambda: 0.5, new_owner=lambda: owner)


async def test_a_lease_is_held_while_the_body_runs(vault: FakeVault, ticks: Ticks) -> None:
    async with leases(vault, ticks).hold(*ORG, patience=1.0) as owner:
        assert "me" == owner
        assert ("me", 15.0) == vault.leases[ORG]
    assert not vault.leases


async def test_owners_are_random(vault: FakeVault) -> None:
    owners = set()
    for _ in range(5):
        async with Leases(vault, seconds=15.0).hold(*ORG, patience=1.0) as owner:
            owners.add(owner)
    assert 5 == len(owners)
    assert all(len(owner) == 32 for owner in owners)


async def test_a_lease_is_given_back_when_the_body_fails(vault: FakeVault, ticks: Ticks) -> None:
    with pytest.raises(ProviderUnavailable):
        async with leases(vault, ticks).hold(*ORG, patience=1.0):
            raise ProviderUnavailable
    assert not vault.leases


async def test_a_lease_is_left_to_run_out_when_the_body_is_cut_off(vault: FakeVault, ticks: Ticks) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with leases(vault, ticks).hold(*ORG, patience=1.0):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "me" == vault.leases[ORG][0]


async def test_a_lease_is_left_to_run_out_when_something_may_still_come_about(vault: FakeVault, ticks: Ticks) -> None:
    with pytest.raises(MayComeAbout):
        async with leases(vault, ticks).hold(*ORG, patience=1.0):
            raise MayComeAbout
    assert "me" == vault.leases[ORG][0]


async def test_a_lease_that_was_given_to_one_who_had_given_up_is_given_back(vault: FakeVault, ticks: Ticks) -> None:
    given = asyncio.Event()

    class Slow:
        """A vault whose answer to a lease is late."""

        async def acquire_lease(self, org_id: str, provider: Provider, *, owner: str, seconds: float) -> None:
            await vault.acquire_lease(org_id, provider, owner=owner, seconds=seconds)
            given.set()
            await asyncio.Event().wait()

        async def release_lease(self, org_id: str, provider: Provider, *, owner: str) -> None:
            await vault.release_lease(org_id, provider, owner=owner)

    async def work() -> None:
        async with Leases(Slow(), seconds=15.0, new_owner=lambda: "me").hold(*ORG, patience=30.0):
            raise AssertionError

    task = asyncio.create_task(work())
    await given.wait()
    assert vault.leases
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not vault.leases


async def test_one_that_cannot_be_given_back_is_no_failure(
    vault: FakeVault, ticks: Ticks, caplog: pytest.LogCaptureFixture
) -> None:
    vault.faults["release_lease"] = deque(["before"])
    async with leases(vault, ticks).hold(*ORG, patience=1.0):
        pass
    assert "has to run out" in caplog.text


async def test_a_lease_of_another_worker_is_waited_for(vault: FakeVault, ticks: Ticks) -> None:
    vault.leases[ORG] = ("other", 15.0)
    entered = asyncio.Event()

    async def work() -> None:
        async with leases(vault, ticks).hold(*ORG, patience=30.0):
            entered.set()

    task = asyncio.create_task(work())
    await ticks.wake()
    await ticks.asleep()
    assert not entered.is_set()
    vault.time = 15.0
    await ticks.wake()
    await task
    assert [0.5, 0.5] == ticks.wanted[:2]


async def test_the_vaults_word_on_when_to_come_back_is_heeded_when_it_is_soon(vault: FakeVault, ticks: Ticks) -> None:
    vault.leases[ORG] = ("other", 0.25)
    task = asyncio.create_task(_enter(leases(vault, ticks), patience=30.0))
    await ticks.asleep()
    assert [0.25] == ticks.wanted
    vault.time = 1.0
    await ticks.wake()
    await task


async def _enter(them: Leases, *, patience: float) -> None:
    async with them.hold(*ORG, patience=patience):
        pass


async def test_patience_ends(vault: FakeVault, ticks: Ticks) -> None:
    vault.leases[ORG] = ("other", 15.0)
    with pytest.raises(LeaseHeld) as caught:
        await _enter(leases(vault, ticks), patience=0.01)
    assert caught.value.retry_after
    assert ("other", 15.0) == vault.leases[ORG]


async def test_patience_also_ends_behind_others_of_the_same_process(vault: FakeVault, ticks: Ticks) -> None:
    them = leases(vault, ticks)
    async with them.hold(*ORG, patience=1.0):
        with pytest.raises(LeaseHeld):
            await _enter(them, patience=0.01)
    assert 1 == vault.calls.count("acquire_lease")
    await _enter(them, patience=1.0)


async def test_patience_is_for_waiting_and_not_for_working(vault: FakeVault, ticks: Ticks) -> None:
    async with leases(vault, ticks).hold(*ORG, patience=0.0):
        for _ in range(5):
            await asyncio.sleep(0)
    assert not vault.leases


async def test_a_timeout_of_the_body_stays_what_it_is(vault: FakeVault, ticks: Ticks) -> None:
    with pytest.raises(TimeoutError):
        async with leases(vault, ticks).hold(*ORG, patience=1.0):
            raise TimeoutError


async def test_a_vault_that_is_away_is_said_at_once(vault: FakeVault, ticks: Ticks) -> None:
    vault.faults["acquire_lease"] = deque(["before"])
    with pytest.raises(VaultUnavailable):
        await _enter(leases(vault, ticks), patience=1.0)


async def test_those_who_wait_in_one_process_ask_the_vault_one_after_the_other(vault: FakeVault, ticks: Ticks) -> None:
    them = Leases(vault, seconds=15.0, sleep=ticks.sleep)
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with them.hold(*ORG, patience=10.0):
            inside += 1
            assert 1 == inside
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(50)))
    assert 50 == vault.calls.count("acquire_lease")
    assert 0.5 not in ticks.wanted


async def test_other_orgs_and_providers_do_not_wait(vault: FakeVault, ticks: Ticks) -> None:
    them = leases(vault, ticks)
    async with (
        them.hold("acme", Provider.VAPI, patience=1.0),
        them.hold("acme", Provider.TWILIO, patience=1.0),
        them.hold("globex", Provider.VAPI, patience=1.0),
    ):
        assert 3 == len(vault.leases)


async def test_queues_are_forgotten_when_nobody_stands_in_them(vault: FakeVault, ticks: Ticks) -> None:
    them = leases(vault, ticks)
    await _enter(them, patience=1.0)
    assert not them._queues


async def test_a_lease_is_prolonged_while_the_work_goes_on(vault: FakeVault, ticks: Ticks) -> None:
    async with leases(vault, ticks).hold(*ORG, patience=1.0):
        for moment in (5.0, 10.0):
            await ticks.asleep()
            vault.time = moment
            await ticks.wake()
        await ticks.asleep()
        assert ("me", 25.0) == vault.leases[ORG]
    assert [5.0, 5.0, 5.0] == ticks.wanted


class Stops:
    """Where the end of the work is moved to."""

    def __init__(self) -> None:
        self.moments: list[float | None] = []

    def expired(self) -> bool:
        return False

    def reschedule(self, when: float | None) -> None:
        self.moments.append(when)


async def test_the_end_of_the_work_moves_along_with_the_lease(vault: FakeVault, ticks: Ticks) -> None:
    stops, clock = Stops(), asyncio.get_running_loop().time
    keeper = asyncio.create_task(leases(vault, ticks)._keep_up(*ORG, "me", cast("asyncio.Timeout", stops)))
    before = clock()
    await ticks.wake()
    await ticks.asleep()
    keeper.cancel()
    (moment,) = stops.moments
    assert moment
    assert before + 15.0 - 1.5 <= moment <= clock() + 15.0 - 1.5


async def test_work_is_stopped_at_once_when_somebody_else_has_the_lease(
    vault: FakeVault, ticks: Ticks, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with leases(vault, ticks).hold(*ORG, patience=1.0):
            vault.leases[ORG] = ("other", 100.0)
            await ticks.wake()
            await asyncio.Event().wait()

    with pytest.raises(LeaseHeld):
        await asyncio.wait_for(work(), timeout=5)
    assert ("other", 100.0) == vault.leases[ORG]
    assert "lost a lease" in caplog.text


async def test_work_is_stopped_before_a_lease_that_cannot_be_prolonged_runs_out(vault: FakeVault, ticks: Ticks) -> None:
    async def work() -> None:
        async with leases(vault, ticks, seconds=0.2).hold(*ORG, patience=1.0):
            for _ in range(3):
                await ticks.wake()
            await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    began = loop.time()
    vault.faults["acquire_lease"] = deque([None, *["before"] * 9])
    with pytest.raises(VaultUnavailable):
        await work()
    assert loop.time() - began > 0.17
    assert pytest.approx([0.2 / 3, 0.2 / 15, 0.2 / 15]) == ticks.wanted[:3]
    assert "release_lease" not in vault.calls


async def test_a_lease_that_is_prolonged_after_all_is_not_lost(vault: FakeVault, ticks: Ticks) -> None:
    vault.faults["acquire_lease"] = deque([None, "before", "after", None])
    async with leases(vault, ticks).hold(*ORG, patience=1.0):
        for _ in range(3):
            await ticks.wake()
        await ticks.asleep()
    assert [5.0, 1.0, 1.0, 5.0] == ticks.wanted
    assert not vault.leases


async def test_a_keeper_that_wakes_up_late_does_not_revive_lost_work(vault: FakeVault, ticks: Ticks) -> None:
    async def work() -> None:
        async with leases(vault, ticks, seconds=0.02).hold(*ORG, patience=1.0):
            try:
                await asyncio.Event().wait()
            finally:
                await ticks.wake()
                await ticks.asleep()

    with pytest.raises(VaultUnavailable):
        await work()
