"""The rotation: what it does, and that what is active works whatever is cut off and wherever."""

import asyncio
from collections import deque
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.provider.integration import State
from services.provider.lease import Leases
from services.provider.provider import Checkpoint, Refused, pass_by
from services.provider.replacement import STEPS
from services.provider.rotate import Rotate
from services.provider.work import Done, Task, Timetable
from tenantvault.credentials import Provider, ResendCredential
from tenantvault.errors import (
    AccountSuspended,
    CredentialNotFound,
    InsufficientScope,
    InvalidCredentials,
    InvalidRequest,
    ProviderRefused,
    ProviderUnavailable,
    ProviderValidation,
    QuotaExceeded,
    TenantVaultError,
    VaultUnavailable,
    VersionConflict,
)
from tests.unit.services.provider.fake_provider import Account, Keyed, key
from tests.unit.services.provider.fake_vault import FakeVault, Row, connected

ORG = ("acme", Provider.RESEND)
TASK = (*ORG, Task.ROTATE)
OVERLAP = 100.0
DAY = 86_400.0


class Killed(BaseException):
    """The process is gone."""


async def for_ever(seconds: float) -> None:
    del seconds
    await asyncio.Event().wait()


class World:
    """An integration whose rotation is due, its vault and its provider; both outlive the processes."""

    def __init__(self, *, key_id: str = "id-0", days: float = 90.0, overlap: float = OVERLAP) -> None:
        self.days = days
        self.overlap = overlap
        self.vault = FakeVault()
        self.account = Account()
        self.provider = Keyed(self.account)
        connected(self.vault, *ORG, key("key-0", key_id))
        self.vault.tasks[TASK] = Row(0.0)
        self.steps: list[str] = []

    async def work(self, checkpoint: Checkpoint | None = None) -> Done | None:
        """What a worker does that has just started: take the work if it is due, go on with it, give it back."""
        claimed = await self.vault.claim(owner="worker", seconds=50.0, at_most=1)
        if not claimed:
            return None
        (work,) = claimed

        async def note(progress: str) -> None:
            await self.vault.keep_progress(work, owner="worker", progress=progress)

        rotate = self.rotate(checkpoint or self._note)
        done = await rotate(*ORG, progress=work.progress, attempts=work.attempts, note=note, on_behalf_of="schedule")
        await self.vault.finish(work, owner="worker", done=done)
        return done

    def rotate(self, checkpoint: Checkpoint = pass_by) -> Rotate:
        leases = Leases(self.vault, seconds=15.0, sleep=for_ever)
        return Rotate(
            self.vault,
            (self.provider,),
            leases,
            Timetable(
                overlap_seconds=self.overlap,
                rotation_days={Provider.RESEND: self.days},
                now=self.vault.moment,
                jitter=lambda: 0.5,
            ),
            now=self.vault.moment,
            checkpoint=checkpoint,
        )

    async def finish(self) -> None:
        """Let time pass and workers work until the rotation is through."""
        for _ in range(20):
            await self.work()
            self.assert_active_works()
            if not self.row.progress and self.vault.time + DAY < self.row.due_at:
                return
            self.vault.time = max(self.vault.time + 60.0, self.row.due_at)
        raise AssertionError("the rotation never ends")

    def after_a_crash(self) -> None:
        """Leases of a dead process run out."""
        self.vault.pulse = self.account.pulse = lambda _: None
        self.vault.time += 60.0

    @property
    def row(self) -> Row:
        return self.vault.tasks[TASK]

    @property
    def active(self) -> ResendCredential:
        integration = self.vault.integrations[ORG]
        credential = self.vault.stored(*ORG, integration.version)
        assert isinstance(credential, ResendCredential)
        return credential

    def assert_active_works(self) -> None:
        assert self.account.takes(self.active), "what consumers are given works"

    async def _note(self, step: str) -> None:
        self.steps.append(step)


async def test_a_rotation_issues_tests_switches_waits_and_retires() -> None:
    world = World()
    done = await world.work()
    assert list(STEPS[:-1]) == world.steps
    assert done == Done(OVERLAP, progress="switched:1:2:key-0")
    assert "key-1" == world.active.api_key.reveal()
    assert {"key-0", "key-1"} == world.account.keys
    assert await world.work() is None, "the overlap has to pass"
    world.vault.time += OVERLAP
    done = await world.work()
    assert "retired" == world.steps[-1]
    assert done == Done(90 * DAY)
    assert {"key-1"} == world.account.keys
    assert 0 == world.row.attempts
    assert "schedule" == world.vault.origins[-1]


async def test_what_the_customer_has_to_do_is_a_warning_of_the_integration() -> None:
    world = World(key_id="")
    await world.finish()
    assert ("Mind the gap.", "Delete the replaced key yourself.") == world.vault.integrations[ORG].warnings


async def test_a_successor_that_is_refused_is_taken_back_and_nothing_changes() -> None:
    world = World()
    world.account.refuses = {"key-1"}
    done = await world.work()
    assert done == Done(DAY, failed=True)
    assert (1, State.CONNECTED) == (world.vault.integrations[ORG].version, world.vault.integrations[ORG].state)
    assert {"key-0"} == world.account.keys
    assert {(*ORG, 2)} == world.vault.destroyed
    world.vault.time = world.row.due_at
    await world.finish()
    assert "key-2" == world.active.api_key.reveal()


async def test_a_successor_that_is_refused_before_the_old_one_ends_is_rolled_back() -> None:
    world = World()
    await world.work()
    world.account.refuses = {"key-1"}
    world.vault.time += OVERLAP
    done = await world.work()
    assert done == Done(DAY, failed=True)
    assert "key-0" == world.active.api_key.reveal()
    world.assert_active_works()
    assert {"key-0"} == world.account.keys


async def test_a_credential_that_may_not_issue_is_left_to_the_customer() -> None:
    world = World()
    world.account.issue_refused = InsufficientScope
    assert await world.work() == Done(0.0, by_hand=True)
    shown = await world.vault.integration(*ORG)
    assert not shown.rotates_by_itself
    assert await world.work() is None


@pytest.mark.parametrize("kind", [QuotaExceeded, ProviderValidation, AccountSuspended, InvalidCredentials])
async def test_an_issue_that_is_refused_for_now_is_tried_again(kind: type[ProviderRefused]) -> None:
    world = World()
    world.account.issue_refused = kind
    assert await world.work() == Done(DAY, failed=True)


async def test_a_disconnect_in_the_middle_of_a_rotation_stands() -> None:
    world = World()

    async def disconnected(step: str) -> None:
        if step == "issued":
            await world.vault.disconnect(*ORG, on_behalf_of="ada")

    with pytest.raises(VersionConflict):
        await world.work(disconnected)
    assert State.DISCONNECTED is world.vault.integrations[ORG].state


async def test_who_goes_back_to_the_one_before_keeps_it() -> None:
    world = World()
    await world.work()
    await world.vault.roll_back(*ORG, version=1, expected_version=2, on_behalf_of="operator")
    world.vault.time += OVERLAP
    assert await world.work() == Done(90 * DAY)
    assert "key-0" == world.active.api_key.reveal()
    world.assert_active_works()


async def test_where_rotation_is_switched_off_nothing_rotates() -> None:
    world = World(days=0.0)
    done = await world.work()
    assert done is not None
    assert done.due_in > 3000 * DAY
    assert {"key-0"} == world.account.keys
    with pytest.raises(InvalidRequest, match="switched off"):
        await world.rotate().ask_for(*ORG, on_behalf_of="ada")


async def test_a_rotation_under_way_is_finished_where_it_was_switched_off_meanwhile() -> None:
    world = World()
    await world.work()
    world.days = 0.0
    world.vault.time += OVERLAP
    await world.work()
    assert {"key-1"} == world.account.keys


async def test_a_rotation_of_what_is_refused_is_not_begun() -> None:
    world = World()
    world.account.keys.clear()
    with pytest.raises(InvalidCredentials):
        await world.rotate().ask_for(*ORG, on_behalf_of="ada")
    assert "register" not in world.vault.calls


async def test_a_provider_that_has_no_way_is_left_to_the_customer() -> None:
    world = World()
    world.provider.rotates = False
    assert await world.work() == Done(90 * DAY, by_hand=True)


async def test_a_customer_who_connects_anew_meanwhile_ends_the_rotation() -> None:
    world = World()
    await world.work()
    world.vault.versions[ORG].append(key("key-9"))
    world.account.keys.add("key-9")
    before = world.vault.integrations[ORG]
    world.vault.integrations[ORG] = type(before)(
        provider=Provider.RESEND, state=State.CONNECTED, version=3, latest_version=3
    )
    world.vault.time += OVERLAP
    assert await world.work() == Done(90 * DAY)
    assert "key-9" in world.account.keys


@pytest.mark.parametrize("step", STEPS)
async def test_killed_after_any_step_the_rotation_is_finished_by_the_next_worker(step: str) -> None:
    world = World()

    async def killed(reached: str) -> None:
        if reached == step:
            raise Killed

    if step == "retired":
        await world.work()
        world.vault.time += OVERLAP
    with pytest.raises(Killed):
        await world.work(killed)
    world.assert_active_works()
    world.after_a_crash()
    await world.finish()
    assert "key-0" not in world.account.keys
    assert {world.active.api_key.reveal()} == world.account.keys, "nothing is left over at the provider"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
async def test_whatever_is_cut_off_and_wherever_what_is_active_works(data: st.DataObject) -> None:
    world = World()
    for _ in range(data.draw(st.integers(1, 4), label="crashes")):
        left = data.draw(st.integers(0, 30), label="pulses before the crash")
        error: type[BaseException] = data.draw(st.sampled_from([Killed, VaultUnavailable, ProviderUnavailable]))

        def pulse(_: str, error: type[BaseException] = error) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise error

        world.vault.pulse = world.account.pulse = pulse
        with suppress(Killed, TenantVaultError, BaseExceptionGroup):
            await world.work()
        world.after_a_crash()
        world.assert_active_works()
        world.vault.time += data.draw(st.sampled_from([0.0, OVERLAP]), label="time passes")
    await world.finish()
    assert {world.active.api_key.reveal()} == world.account.keys


async def test_a_note_that_may_not_have_been_written_keeps_the_switch_away() -> None:
    world = World()
    world.vault.faults["keep_progress"] = deque(["after"])
    with pytest.raises(VaultUnavailable):
        await world.work()
    assert "key-0" == world.active.api_key.reveal()


async def test_a_rotation_can_be_asked_for() -> None:
    world = World()
    world.vault.tasks[TASK] = Row(10 * DAY, progress="")
    shown = await world.rotate().ask_for(*ORG, on_behalf_of="ada")
    assert shown.rotation_due_at == world.vault.moment()
    assert ["ada"] == world.vault.origins
    await world.work()
    assert "key-1" == world.active.api_key.reveal()


@pytest.mark.parametrize("why", ["rotates", "may_rotate"])
async def test_a_rotation_that_nobody_can_do_is_refused_with_a_hint(why: str) -> None:
    world = World()
    setattr(world.provider, why, False)
    with pytest.raises(InvalidRequest, match="connect with it"):
        await world.rotate().ask_for(*ORG, on_behalf_of="ada")
    with pytest.raises(CredentialNotFound):
        await world.rotate().ask_for("globex", Provider.RESEND, on_behalf_of="ada")
    assert "register" not in world.vault.calls


async def test_a_rotation_that_is_asked_for_while_one_is_under_way_is_refused_until_it_ends() -> None:
    world = World()
    await world.work()
    world.row.due_at -= 50.0
    with pytest.raises(InvalidRequest, match="under way") as refused:
        await world.rotate().ask_for(*ORG, on_behalf_of="ada")
    assert "after 1 January 2026, 00:01 UTC" in refused.value.message
    assert "connect with a new one" in refused.value.message
    assert "switched:1:2:key-0" == world.row.progress
    await world.finish()
    await world.rotate().ask_for(*ORG, on_behalf_of="ada")
    await world.work()
    assert "key-2" == world.active.api_key.reveal()


async def test_a_rotation_is_begun_while_what_was_replaced_by_hand_is_still_readable() -> None:
    world = World()
    world.row.due_at = 90 * DAY
    world.vault.previous[ORG] = DAY
    await world.rotate().ask_for(*ORG, on_behalf_of="ada")
    await world.work()
    assert "key-1" == world.active.api_key.reveal()


async def test_what_was_replaced_is_ended_at_once_when_the_vault_gives_it_out_no_more() -> None:
    world = World(overlap=12 * 3600.0)
    await world.work()
    await world.vault.disconnect(*ORG, on_behalf_of="ada")
    await world.vault.reconnect(*ORG, on_behalf_of="ada")
    assert world.vault.time + 300.0 >= world.row.due_at, "it is looked at soon"
    world.vault.time = world.row.due_at
    assert await world.work() == Done(90 * DAY)
    assert {"key-1"} == world.account.keys


async def test_what_a_connect_replaced_a_moment_ago_keeps_no_noted_successor_waiting() -> None:
    world = World()
    world.vault.previous[ORG] = DAY

    async def killed(step: str) -> None:
        if step == "noted":
            raise Killed

    with pytest.raises(Killed):
        await world.work(killed)
    world.after_a_crash()
    await world.work()
    assert "key-1" == world.active.api_key.reveal()


async def test_what_was_replaced_works_while_the_vault_gives_it_out_and_nobody_reads_it_for_that() -> None:
    world = World(overlap=12 * 3600.0)
    await world.work()
    reads = world.vault.calls.count("credential")
    while world.row.due_at < 12 * 3600.0:
        world.vault.time = world.row.due_at
        await world.work()
        assert {"key-0", "key-1"} == world.account.keys
        assert reads == world.vault.calls.count("credential")
    world.vault.time = world.row.due_at
    await world.work()
    assert {"key-1"} == world.account.keys


@pytest.mark.parametrize("refuses", ["test", "retire"])
async def test_a_refusal_when_the_overlap_ends_is_followed_by_another_attempt_within_an_hour(
    monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    world = World()
    await world.work()
    world.vault.time = world.row.due_at

    async def test(*_: object) -> Refused:
        return Refused(AccountSuspended, "It is suspended.")

    async def retire(*_: object) -> tuple[str, ...]:
        raise AccountSuspended

    with monkeypatch.context() as refusing:
        refusing.setattr(Keyed, refuses, {"test": test, "retire": retire}[refuses])
        pauses = []
        for _ in range(10):
            done = await world.work()
            assert done is not None
            assert (True, "switched:1:2:key-0") == (done.failed, done.progress)
            pauses.append(done.due_in)
            world.vault.time = world.row.due_at
    assert [45.0, 90.0, 2700.0] == [*pauses[:2], max(pauses)]
    assert {"key-0", "key-1"} == world.account.keys
    await world.finish()
    assert {"key-1"} == world.account.keys
