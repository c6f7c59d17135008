"""Master keys that are replaced, and records that follow their org's new key."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import TypeVar, cast

import pytest

from services.vault import rotation as module
from services.vault.credential import OrgKey, Record
from services.vault.envelope import Envelope
from services.vault.keyring import Keyring
from services.vault.local_key import LocalKey
from services.vault.memory import MemoryStore
from services.vault.rotation import MasterKeyRow, MasterKeys, MasterRotation, OrgRotations, Progress, RunningVault
from services.vault.seal import Unreadable
from tenantvault.audit import VAULT_CHAIN
from tenantvault.errors import KeyNotEverywhere, VaultUnavailable
from tests.suites.store_exam import ORIGIN, Parts, Vault, secret

OLD, NEW, NEXT = (LocalKey(name, bytes([number]) * 32) for number, name in enumerate(("old", "new", "next")))
BOTH = frozenset({"old", "new"})
SIGNING = "signing-key"
PATIENCE = 10.0

T = TypeVar("T")


class Keys:
    """The wrapped keys as a database has them. Its `fails_at`th call finds the database away, before or after it."""

    def __init__(self) -> None:
        self.wrapped: dict[tuple[str, str], OrgKey] = {}
        self.in_the_open: dict[tuple[str, str], bytes] = {}
        self.signing: OrgKey | None = None
        self.states = {"old": "active", "new": "active"}
        self.vaults = [RunningVault("this", BOTH, "new")]
        self.calls = 0
        self.fails_at = -1
        self.fails_after = False

    async def add(self, org_id: str, key_id: str = "k", *, under: LocalKey = OLD) -> None:
        key = f"{org_id}/{key_id}".encode().ljust(32)
        self.in_the_open[org_id, key_id] = key
        self.wrapped[org_id, key_id] = await Keyring([under]).wrap(org_id, key_id, key)

    def under(self) -> set[str]:
        return {key.master_key_id for key in self.wrapped.values()}

    async def opens(self, ring: Keyring) -> bool:
        return self.in_the_open == {place: await ring.unwrap(key) for place, key in self.wrapped.items()}

    async def master_keys(self) -> Sequence[MasterKeyRow]:
        return await self._called(self._master_keys)

    async def running_vaults(self) -> Sequence[RunningVault]:
        return await self._called(lambda: list(self.vaults))

    async def keys_under_others(self, master_key_id: str, *, after: str, at_most: int) -> Sequence[OrgKey]:
        def found() -> list[OrgKey]:
            others = [key for key in self.wrapped.values() if key.master_key_id != master_key_id and key.org_id > after]
            orgs = sorted({key.org_id for key in others})[:at_most]
            return [key for key in others if key.org_id in orgs]

        return await self._called(found)

    async def rewrap(self, old: Sequence[OrgKey], new: Sequence[OrgKey]) -> int:
        def write() -> int:
            assert old, "a batch of nothing"
            replaced = 0
            for was, now in zip(old, new, strict=True):
                if self.wrapped.get((was.org_id, was.key_id)) == was:
                    self.wrapped[was.org_id, was.key_id] = now
                    replaced += 1
            return replaced

        return await self._called(write)

    async def signing_key(self) -> OrgKey | None:
        return await self._called(lambda: self.signing)

    async def rewrap_signing_key(self, old: OrgKey, new: OrgKey) -> None:
        def write() -> None:
            if self.signing == old:
                self.signing = new

        await self._called(write)

    async def retire(self, master_key_id: str) -> bool:
        def write() -> bool:
            used = self.under() | ({self.signing.master_key_id} if self.signing else set())
            if master_key_id not in used:
                self.states[master_key_id] = "retired"
            return master_key_id not in used

        return await self._called(write)

    def _master_keys(self) -> list[MasterKeyRow]:
        under = [key.master_key_id for key in self.wrapped.values()]
        return [MasterKeyRow(key_id, state, b"", under.count(key_id)) for key_id, state in sorted(self.states.items())]

    async def _called(self, does: Callable[[], T]) -> T:
        call, self.calls = self.calls, self.calls + 1
        if call == self.fails_at and not self.fails_after:
            raise VaultUnavailable
        answer = does()
        if call == self.fails_at:
            raise VaultUnavailable
        return answer


async def rotate(
    keys: Keys, *, audit: MemoryStore | None = None, ring: MasterKeys | None = None, batch: int = 2
) -> list[Progress]:
    return [progress async for progress in rotation(keys, audit=audit, ring=ring, batch=batch).run(ORIGIN)]


def rotation(
    keys: Keys, *, audit: MemoryStore | None = None, ring: MasterKeys | None = None, batch: int = 2
) -> MasterRotation:
    return MasterRotation(
        master_keys=ring or Keyring([NEW, OLD]),
        store=keys,
        audit=audit or MemoryStore(),
        unreadable=Unreadable,
        batch=batch,
    )


async def five() -> Keys:
    keys = Keys()
    for number in range(5):
        await keys.add(f"org-{number}")
    return keys


def outcomes(audit: MemoryStore) -> list[tuple[str, str]]:
    assert {VAULT_CHAIN} == set(audit.links)
    return [(link.event.action, link.event.outcome) for link in audit.links[VAULT_CHAIN]]


def errors(caplog: pytest.LogCaptureFixture, *fields: str) -> list[tuple[str, ...]]:
    return [
        (record.getMessage(), *(str(vars(record)[field]) for field in fields))
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


async def test_a_rotation_tells_how_far_it_is_and_ends_with_every_key_under_the_new_one() -> None:
    keys = await five()
    assert [
        Progress("new", 0, 5),
        Progress("new", 2, 3),
        Progress("new", 4, 1),
        Progress("new", 5, 0),
        Progress("new", 5, 0, ["old"]),
    ] == await rotate(keys)
    assert {"new"} == keys.under()
    assert await keys.opens(Keyring([NEW]))
    assert {"old": "retired", "new": "active"} == keys.states


async def test_all_the_keys_of_an_org_go_in_one_batch() -> None:
    keys = Keys()
    for key_id in ("a", "b", "c"):
        await keys.add("acme", key_id)
    await keys.add("globex")
    assert [0, 3, 4, 4] == [progress.done for progress in await rotate(keys, batch=1)]
    assert await keys.opens(Keyring([NEW]))


async def test_a_rotation_with_nothing_to_do_does_nothing_and_retires_nothing_twice() -> None:
    keys = await five()
    await rotate(keys)
    before = dict(keys.wrapped)
    assert [Progress("new", 0, 0), Progress("new", 0, 0, [])] == await rotate(keys)
    assert before == keys.wrapped


async def test_keys_that_changed_meanwhile_are_not_counted_as_done_and_what_they_are_now_stays() -> None:
    keys = await five()
    changed = replace(keys.wrapped["org-0", "k"], wrapped=b"what somebody else wrote")

    class Meddling(Keyring):
        async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
            keys.wrapped["org-0", "k"] = changed
            return await super().wrap(org_id, key_id, key)

    assert [0, 1, 3, 4, 4] == [progress.done for progress in await rotate(keys, ring=Meddling([NEW, OLD]))]
    assert changed == keys.wrapped["org-0", "k"]
    assert "active" == keys.states["old"]


async def test_keys_that_come_meanwhile_do_not_make_what_is_left_negative() -> None:
    keys = await five()
    told: list[int] = []
    async for progress in rotation(keys).run(ORIGIN):
        if not told:
            await keys.add("org-9")
        told.append(progress.left)
    assert [5, 3, 1, 0, 0] == told
    assert {"new"} == keys.under()


@pytest.mark.parametrize("fails_after", [False, True], ids=["before it was written", "after it was written"])
async def test_a_rotation_that_ended_at_any_moment_is_taken_up_and_ended(fails_after: bool) -> None:
    for step in count():
        keys, audit = await five(), MemoryStore()
        keys.signing = await Keyring([OLD]).wrap(VAULT_CHAIN, SIGNING, bytes(32))
        keys.fails_at, keys.fails_after = step, fails_after
        try:
            await rotate(keys, audit=audit)
        except VaultUnavailable:
            pass
        else:
            break
        assert await keys.opens(Keyring([NEW, OLD])), step
        last = (await rotate(keys, audit=audit))[-1]
        assert 0 == last.left, step
        assert {"new"} == keys.under(), step
        assert await keys.opens(Keyring([NEW])), step
        assert "new" == keys.signing.master_key_id, step
        assert "retired" == keys.states["old"], step
        assert ("master_key.rotate", "ok") == outcomes(audit)[-1], step
    assert step >= 12


@pytest.mark.parametrize("heard", range(1, 5))
async def test_a_rotation_goes_on_after_a_caller_that_went_away(heard: int) -> None:
    keys = await five()
    async with aclosing(cast("AsyncGenerator[Progress]", rotation(keys).run(ORIGIN))) as run:
        for _ in range(heard):
            progress = await anext(run)
    assert progress.done == len([key for key in keys.wrapped.values() if key.master_key_id == "new"])
    again = await rotate(keys)
    assert 5 - progress.done == again[0].left == again[-1].done
    assert await keys.opens(Keyring([NEW]))


async def test_a_key_that_does_not_unwrap_is_left_and_told_and_keeps_its_master_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys, audit = await five(), MemoryStore()
    keys.wrapped["org-2", "k"] = broken = replace(keys.wrapped["org-2", "k"], wrapped=b"garbage")
    told = await rotate(keys, audit=audit)
    assert [(0, 5), (2, 3), (3, 2), (4, 1), (4, 1)] == [(progress.done, progress.left) for progress in told]
    assert [] == told[-1].retired
    assert [("an org's key does not unwrap", "org-2", "k", "old")] == errors(caplog, "org", "key_id", "master_key_id")
    assert broken == keys.wrapped.pop(("org-2", "k"))
    assert {"new"} == keys.under()
    assert "active" == keys.states["old"]
    assert [("master_key.rotate", "begun"), ("master_key.rotate", "incomplete")] == outcomes(audit)


async def test_a_batch_of_which_nothing_unwraps_writes_nothing_and_those_behind_it_have_their_turn() -> None:
    keys = await five()
    for number in (0, 1):
        keys.wrapped[f"org-{number}", "k"] = replace(keys.wrapped[f"org-{number}", "k"], wrapped=b"garbage")
    assert [0, 0, 2, 3, 3] == [progress.done for progress in await rotate(keys)]


async def test_a_key_under_a_master_key_that_is_not_here_is_left(caplog: pytest.LogCaptureFixture) -> None:
    keys = await five()
    await keys.add("globex", under=NEXT)
    keys.states["next"] = "active"
    last = (await rotate(keys))[-1]
    assert (5, 1, ["old"]) == (last.done, last.left, last.retired)
    assert [("an org's key does not unwrap", "globex")] == errors(caplog, "org")


async def test_a_key_that_a_running_vault_does_not_have_rotates_nothing() -> None:
    keys, audit = await five(), MemoryStore()
    keys.vaults += [RunningVault("behind", frozenset({"old"}), "old")]
    before = dict(keys.wrapped)
    with pytest.raises(KeyNotEverywhere, match="vault behind does not have master key new yet"):
        await rotate(keys, audit=audit)
    assert before == keys.wrapped
    assert {} == audit.links
    assert {"old": "active", "new": "active"} == keys.states


async def test_nothing_is_rotated_to_a_key_that_is_retired() -> None:
    keys, audit = await five(), MemoryStore()
    await rotate(keys)
    before = dict(keys.wrapped)
    with pytest.raises(KeyNotEverywhere, match="master key old is retired: put the key that is in use first"):
        await rotate(keys, audit=audit, ring=Keyring([OLD, NEW]))
    assert before == keys.wrapped
    assert {} == audit.links
    assert {"old": "retired", "new": "active"} == keys.states


async def test_a_key_that_signs_the_audit_and_stays_where_it_is_leaves_a_rotation_incomplete() -> None:
    """The target was retired meanwhile."""
    keys, audit = await five(), MemoryStore()
    keys.signing = signing = await Keyring([OLD]).wrap(VAULT_CHAIN, SIGNING, bytes(32))

    class Stays(Keyring):
        async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
            if org_id == VAULT_CHAIN:
                keys.signing = replace(signing, wrapped=b"what somebody else wrote")
            return await super().wrap(org_id, key_id, key)

    await rotate(keys, audit=audit, ring=Stays([NEW, OLD]))
    assert ["begun", "incomplete"] == [outcome for _, outcome in outcomes(audit)]


async def test_a_key_that_a_running_vault_wraps_with_is_not_retired() -> None:
    keys, audit = await five(), MemoryStore()
    keys.vaults += [RunningVault("other", BOTH, "old")]
    assert Progress("new", 5, 0, []) == (await rotate(keys, audit=audit))[-1]
    assert "active" == keys.states["old"]
    assert ("master_key.rotate", "ok") == outcomes(audit)[-1]
    keys.vaults.pop()
    assert ["old"] == (await rotate(keys))[-1].retired


async def test_a_vault_that_came_during_the_rotation_keeps_the_key_that_it_wraps_with() -> None:
    keys = await five()
    async for progress in rotation(keys).run(ORIGIN):
        if progress.done == 0:
            keys.vaults += [RunningVault("late", BOTH, "old")]
    assert [] == progress.retired
    assert "active" == keys.states["old"]


async def test_a_staged_key_is_not_retired_although_nothing_is_wrapped_under_it() -> None:
    keys = await five()
    keys.states["next"] = "staged"
    assert ["old"] == (await rotate(keys))[-1].retired
    assert "staged" == keys.states["next"]


async def test_the_key_that_signs_the_audit_is_wrapped_anew() -> None:
    keys = await five()
    seed = bytes(range(32))
    keys.signing = await Keyring([OLD]).wrap(VAULT_CHAIN, SIGNING, seed)
    await rotate(keys)
    assert (VAULT_CHAIN, SIGNING, "new") == (keys.signing.org_id, keys.signing.key_id, keys.signing.master_key_id)
    assert seed == await Keyring([NEW]).unwrap(keys.signing)
    rewrapped = keys.signing
    await rotate(keys)
    assert rewrapped == keys.signing


async def test_a_key_that_signs_the_audit_and_does_not_unwrap_is_left_and_told_and_keeps_its_master_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys, audit = await five(), MemoryStore()
    keys.signing = damaged = OrgKey(VAULT_CHAIN, SIGNING, "old", b"garbage")
    last = (await rotate(keys, audit=audit))[-1]
    assert (damaged, "active", []) == (keys.signing, keys.states["old"], last.retired)
    assert await keys.opens(Keyring([NEW]))
    assert [("the key that signs the audit does not unwrap", SIGNING)] == errors(caplog, "key_id")
    assert ["begun", "incomplete"] == [outcome for _, outcome in outcomes(audit)]


async def test_the_vaults_chain_tells_that_a_rotation_began_and_that_it_ended() -> None:
    keys, audit = await five(), MemoryStore()
    seen = [len(outcomes(audit)) async for _ in rotation(keys, audit=audit).run(ORIGIN)]
    assert [1, 1, 1, 1, 2] == seen
    assert [("master_key.rotate", "begun"), ("master_key.rotate", "ok")] == outcomes(audit)
    events = [link.event for link in audit.links[VAULT_CHAIN]]
    assert {(VAULT_CHAIN, ORIGIN.peer, ORIGIN.on_behalf_of, ORIGIN.request_id)} == {
        (event.org_id, event.peer, event.on_behalf_of, event.request_id) for event in events
    }


async def test_nothing_is_wrapped_before_the_audit_has_it() -> None:
    keys = await five()
    before = dict(keys.wrapped)

    class Full(MemoryStore):
        async def add(self, events: object) -> None:
            raise VaultUnavailable

    with pytest.raises(VaultUnavailable):
        await rotate(keys, audit=Full())
    assert before == keys.wrapped


class Silent(Keyring):
    """The master key `next` does not answer while it is off; it is asked, and how often is counted."""

    off = True
    asked = 0

    async def unwrap(self, key: OrgKey) -> bytes:
        if key.master_key_id == "next":
            self.asked += 1
            if self.off:
                raise VaultUnavailable
        return await super().unwrap(key)


async def test_a_key_whose_master_key_does_not_answer_is_passed_over_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys, audit, ring = await five(), MemoryStore(), Silent([NEW, OLD, NEXT])
    keys.states["next"] = "active"
    await keys.add("org-1", "under-next", under=NEXT)
    keys.signing = await Keyring([NEXT]).wrap(VAULT_CHAIN, SIGNING, bytes(32))
    last = (await rotate(keys, audit=audit, ring=ring))[-1]
    assert (5, 1, ["old"]) == (last.done, last.left, last.retired)
    assert {"new", "next"} == keys.under()
    assert "next" == keys.signing.master_key_id
    assert ["begun", "incomplete"] == [outcome for _, outcome in outcomes(audit)]
    waits = [(record.message, vars(record)["key_id"], vars(record)["master_key_id"]) for record in caplog.records]
    assert [
        ("a key waits: its master key does not answer", "under-next", "next"),
        ("a key waits: its master key does not answer", SIGNING, "next"),
    ] == waits
    ring.off = False
    last = (await rotate(keys, audit=audit, ring=ring))[-1]
    assert (1, 0, ["next"]) == (last.done, last.left, last.retired)
    assert await keys.opens(Keyring([NEW]))
    assert "ok" == outcomes(audit)[-1][1]


async def test_a_master_key_that_never_answers_is_not_waited_for_with_every_key() -> None:
    keys, ring = Keys(), Silent([NEW, OLD, NEXT])
    keys.states["next"] = "active"
    for number in range(50):
        await keys.add(f"org-{number:02}", under=NEXT)
    await keys.add("org-99")
    last = (await rotate(keys, ring=ring))[-1]
    assert (1, 50) == (last.done, last.left)
    assert ring.asked < 20


async def test_a_key_service_that_is_away_is_told_as_that() -> None:
    keys = await five()

    class Away(Keyring):
        async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
            raise VaultUnavailable

    with pytest.raises(VaultUnavailable):
        await rotate(keys, ring=Away([NEW, OLD]))
    assert {"old"} == keys.under()


async def test_keys_are_wrapped_side_by_side_but_only_so_many() -> None:
    keys = Keys()
    for number in range(30):
        await keys.add(f"org-{number:02}")
    at_once, most = 0, 0

    class Slow(Keyring):
        async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            at_once -= 1
            return await super().wrap(org_id, key_id, key)

    await rotate(keys, ring=Slow([NEW, OLD]), batch=30)
    assert 8 == most
    assert await keys.opens(Keyring([NEW]))


class Orgs(MemoryStore):
    """A store in memory; `between` is awaited around each step of a rotation, with the step's name."""

    def __init__(self, between: Callable[[str], Awaitable[None]] | None = None) -> None:
        super().__init__()
        self.between = between

    async def orgs_with_old_keys(self, *, after: str, at_most: int) -> Sequence[str]:
        return await self._around("orgs", super().orgs_with_old_keys(after=after, at_most=at_most))

    async def records_under_old_keys(self, org_id: str, *, at_most: int) -> tuple[OrgKey | None, Sequence[Record]]:
        return await self._around("records", super().records_under_old_keys(org_id, at_most=at_most))

    async def replace_record(self, old: Record, new: Record) -> bool:
        return await self._around("replace", super().replace_record(old, new))

    async def destroy_old_keys(self, org_id: str) -> int:
        return await self._around("destroy", super().destroy_old_keys(org_id))

    def damage(self, org: str, version: int = 1, provider: str = "vapi") -> None:
        row = self._orgs[org]
        row.records[provider, version] = (row.records[provider, version][0], b"garbage")

    def key_ids(self, org: str) -> set[str]:
        return set(self._orgs[org].keys)

    def sealed_under(self, org: str) -> dict[tuple[str, int], str]:
        return {place: name.key_id for place, (name, _) in self._orgs[org].records.items()}

    async def _around(self, step: str, work: Awaitable[T]) -> T:
        try:
            if self.between:
                await self.between(step)
        except BaseException:
            # Nobody awaits it any more.
            cast("Coroutine[object, object, T]", work).close()
            raise
        answer = await work
        if self.between:
            await self.between(f"after {step}")
        return answer


class Both:
    """A vault, and the store below it."""

    def __init__(self, store: Orgs | None = None) -> None:
        self.store = store or Orgs()
        self.ring = Keyring([NEW])
        self.vault = Vault(
            Parts(self.store, self.store, self.store, self.ring, b"", self.store.work, self.store.oauth_states)
        )

    def rotations(self, *, pause: float = 3600) -> OrgRotations:
        """Those of another vault: it has nothing in memory."""
        return OrgRotations(self.store, Envelope(self.ring), Unreadable, pause)

    async def filled(self, org: str, versions: int = 3) -> None:
        for version in range(versions):
            await self.vault.connect(org, expected=version)

    async def rotate_key(self, org: str) -> str:
        return await self.vault.keeper.rotate_key(org, ORIGIN)

    async def opened(self, org: str) -> dict[tuple[str, int], bytes]:
        envelope, row = Envelope(self.ring), self.store._orgs[org]
        return {
            place: (await envelope.unlock(Record(name, sealed, row.keys[name.key_id]))).open()
            for place, (name, sealed) in row.records.items()
        }

    async def is_whole(self, org: str, key_id: str, versions: int = 3) -> bool:
        """Whether everything is there, under this key and no other."""
        places = [("vapi", version) for version in range(1, versions + 1)]
        return (
            {key_id} == self.store.key_ids(org)
            and dict.fromkeys(places, key_id) == self.store.sealed_under(org)
            and {(provider, version): secret(org, provider, version) for provider, version in places}
            == await self.opened(org)
        )


async def test_an_orgs_records_follow_its_new_key_and_the_old_key_is_destroyed() -> None:
    both = Both()
    await both.filled("acme")
    await both.filled("globex")
    [globex] = both.store.key_ids("globex")
    key_id = await both.rotate_key("acme")
    assert 2 == len(both.store.key_ids("acme"))
    assert 1 == await both.rotations().run()
    assert await both.is_whole("acme", key_id)
    assert await both.is_whole("globex", globex)


async def test_to_end_rotations_again_changes_nothing() -> None:
    both = Both()
    await both.filled("acme")
    key_id = await both.rotate_key("acme")
    rotations = both.rotations()
    assert 1 == await rotations.run()
    before = dict(both.store._orgs["acme"].records)
    assert 0 == await rotations.run()
    assert before == both.store._orgs["acme"].records
    assert await both.is_whole("acme", key_id)


async def test_more_orgs_and_records_than_are_asked_for_at_once_are_all_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    both = Both()
    keys = {}
    for number in range(5):
        await both.filled(f"org-{number}", 5)
        keys[f"org-{number}"] = await both.rotate_key(f"org-{number}")
    assert 5 == await both.rotations().run()
    assert [] == [org for org, key_id in keys.items() if not await both.is_whole(org, key_id, 5)]


async def test_what_another_vault_began_and_left_at_any_moment_is_ended() -> None:
    for end in count():
        steps = 0

        async def dies(_: str, end: int = end) -> None:
            nonlocal steps
            steps += 1
            if steps == end + 1:
                raise VaultUnavailable

        both = Both()
        await both.filled("acme")
        key_id = await both.rotate_key("acme")
        both.store.between = dies
        try:
            await both.rotations().run()
        except VaultUnavailable:
            pass
        else:
            break
        both.store.between = None
        assert {("vapi", version) for version in (1, 2, 3)} == set(await both.opened("acme")), end
        await both.rotations().run()
        assert await both.is_whole("acme", key_id), end
    assert end >= 12


@pytest.mark.parametrize("seed", range(10))
async def test_two_vaults_that_end_the_same_rotations_at_once_lose_nothing(seed: int) -> None:
    chance = random.Random(seed)

    async def turns(step: str) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)

    both = Both(Orgs(turns))
    keys = {}
    for org in ("acme", "globex", "initech"):
        await both.filled(org)
        keys[org] = await both.rotate_key(org)
    # A second rotation comes while the first one is being ended.
    _, _, keys["acme"] = await asyncio.gather(both.rotations().run(), both.rotations().run(), both.rotate_key("acme"))
    await both.rotations().run()
    assert [] == [org for org, key_id in keys.items() if not await both.is_whole(org, key_id)]


async def test_a_record_that_does_not_open_is_told_once_and_keeps_its_old_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = Both()
    await both.filled("acme")
    await both.filled("globex")
    [old] = both.store.key_ids("acme")
    new, globex = await both.rotate_key("acme"), await both.rotate_key("globex")
    both.store.damage("acme", 2)
    rotations = both.rotations()
    assert [1, 0, 0] == [await rotations.run() for _ in range(3)]
    assert [("a record does not open", "acme", "vapi", "2")] == errors(caplog, "org", "provider", "version")
    assert {("vapi", 1): new, ("vapi", 2): old, ("vapi", 3): new} == both.store.sealed_under("acme")
    assert {old, new} == both.store.key_ids("acme")
    assert await both.is_whole("globex", globex)


async def test_a_current_key_that_does_not_unwrap_keeps_the_old_one_and_holds_up_no_other_org(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = Both()
    await both.filled("acme")
    await both.filled("globex")
    new, globex = await both.rotate_key("acme"), await both.rotate_key("globex")
    row = both.store._orgs["acme"]
    row.keys[new] = replace(row.keys[new], wrapped=b"garbage")
    assert 1 == await both.rotations().run()
    assert await both.is_whole("globex", globex)
    assert {secret("acme", "vapi", version) for version in (1, 2, 3)} == set((await both.opened("acme")).values())
    assert {"acme"} == {org for _, org in errors(caplog, "org")}


async def test_an_org_whose_master_key_does_not_answer_waits_and_holds_up_no_other_org(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = Both()
    await both.filled("acme")
    await both.filled("globex")
    acme, globex = await both.rotate_key("acme"), await both.rotate_key("globex")
    row = both.store._orgs["acme"]
    for key_id, key in row.keys.items():
        if key_id != acme:
            row.keys[key_id] = await Keyring([NEXT]).wrap("acme", key_id, await both.ring.unwrap(key))
    both.ring = ring = Silent([NEW, NEXT])
    rotations = both.rotations()
    assert 1 == await rotations.run()
    assert await both.is_whole("globex", globex)
    [wait] = [record for record in caplog.records if record.message == "rotations of org keys wait"]
    assert ("VAULT_UNAVAILABLE", "acme", 1) == tuple(vars(wait)[field] for field in ("reason", "org", "orgs"))
    # Nothing was given up.
    ring.off = False
    assert 1 == await rotations.run()
    assert await both.is_whole("acme", acme)


async def test_an_org_that_is_shredded_meanwhile_is_done_with() -> None:
    both = Both()
    await both.filled("acme")
    await both.rotate_key("acme")

    async def shreds(step: str) -> None:
        if step == "after orgs":
            await both.vault.keeper.shred("acme", ORIGIN)

    both.store.between = shreds
    await both.rotations().run()
    assert set() == both.store.key_ids("acme")
    assert {} == both.store.sealed_under("acme")


async def test_an_org_without_a_current_key_keeps_what_opens_its_records() -> None:
    both = Both()
    await both.filled("acme")
    [old] = both.store.key_ids("acme")
    await both.rotate_key("acme")
    both.store._orgs["acme"].current_key = ""
    assert 0 == await both.rotations().run()
    assert await both.is_whole("acme", old)


async def test_rotations_go_on_after_a_database_that_was_away(caplog: pytest.LogCaptureFixture) -> None:
    both = Both()
    await both.filled("acme")
    key_id = await both.rotate_key("acme")
    ended, times_away = asyncio.Event(), iter(range(3))

    async def away(step: str) -> None:
        if step == "records" and next(times_away, None) is not None:
            raise VaultUnavailable
        if step == "after destroy":
            ended.set()

    both.store.between = away
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        going = group.create_task(both.rotations(pause=0).keep_going())
        await ended.wait()
        assert going.cancel()
    assert await both.is_whole("acme", key_id)
    waited = [vars(record)["reason"] for record in caplog.records if record.message == "rotations of org keys wait"]
    assert ["VAULT_UNAVAILABLE"] * 3 == waited


async def test_rotations_go_on_after_whatever_the_store_raised(caplog: pytest.LogCaptureFixture) -> None:
    """A vault may be started before its schema is there."""
    both = Both()
    await both.filled("acme")
    key_id = await both.rotate_key("acme")
    ended, troubles = asyncio.Event(), iter(range(2))

    async def not_there(step: str) -> None:
        if step == "orgs" and next(troubles, None) is not None:
            raise RuntimeError("no such function")
        if step == "after destroy":
            ended.set()

    both.store.between = not_there
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        going = group.create_task(both.rotations(pause=0).keep_going())
        await ended.wait()
        assert going.cancel()
    assert await both.is_whole("acme", key_id)
    assert [("rotations of org keys do not end",)] * 2 == errors(caplog)


async def test_nothing_is_sealed_under_a_key_that_was_replaced_and_destroyed_meanwhile() -> None:
    """A vault that cannot open the records finds that the key in between seals nothing, and destroys it."""
    both = Both()
    await both.filled("acme")
    between = await both.rotate_key("acme")
    held, goes_on = asyncio.Event(), asyncio.Event()

    async def hold(step: str) -> None:
        if step == "replace" and not held.is_set():
            held.set()
            await goes_on.wait()

    both.store.between = hold
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        slow = group.create_task(both.rotations().run())
        await held.wait()
        last = await both.rotate_key("acme")
        blind = both.rotations()
        blind._stuck.update(("acme", "vapi", version) for version in (1, 2, 3))
        await blind.run()
        assert between not in both.store.key_ids("acme")
        goes_on.set()
        assert 1 == await slow
    assert await both.is_whole("acme", last)


async def test_who_is_woken_looks_at_once() -> None:
    looks: asyncio.Queue[str] = asyncio.Queue()
    rotations = Both(Orgs(looks.put)).rotations(pause=3600)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        going = group.create_task(rotations.keep_going())
        for _ in range(3):
            assert ["orgs", "after orgs"] == [await looks.get(), await looks.get()]
            for _ in range(20):
                await asyncio.sleep(0)
            assert looks.empty()
            rotations.wake()
        assert going.cancel()


async def test_who_is_woken_while_it_looks_looks_again() -> None:
    looks = 0
    again = asyncio.Event()

    async def looking(_: str) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            rotations.wake()
        if looks == 3:
            again.set()

    rotations = Both(Orgs(looking)).rotations(pause=3600)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        going = group.create_task(rotations.keep_going())
        await again.wait()
        assert going.cancel()
    assert 4 == looks
