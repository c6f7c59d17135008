"""The master key is rotated while everything is read, and the vault that does it is killed in the middle.

First every vault gets the new key behind the old one, then in front of it, one vault after the other; then one of them
wraps every org's key anew. It is killed (SIGKILL) twice on the way and called again. No read on another vault fails,
what was done stays done, and at the end the old key is needed nowhere.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any, Final

from services.vault.audit import SigningKey
from services.vault.credential import Origin, Resource
from services.vault.database import open_pool
from services.vault.envelope import Envelope
from services.vault.fleet import Alone
from services.vault.keeper import Keeper
from services.vault.keyring import Keyring
from services.vault.postgres import PostgresStore
from services.vault.postgres_keys import PostgresKeys
from services.vault.seal import Unreadable
from tenantvault.errors import TenantVaultError
from tests.chaos.harness import Ground, Report, Tell, Vault, new_master_key, silent, vaults
from tests.chaos.peers import NAMES, VAPI, Peer, credential, seen
from tests.chaos.readers import Reading, reading

_KEYS: Final = "TENANTVAULT_MASTER_KEYS"
_PREFIX: Final = "rotated-"
_SEEDING: Final = 8
_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """How many orgs, how many vaults, how many readers on all of them, and how often the rotating vault is killed."""

    orgs: int = 20_000
    vaults: int = 3
    tasks: int = 8
    kills: int = 2


async def seed(ground: Ground, keys: str, orgs: int, tell: Tell = silent) -> None:
    """Connect so many orgs, past the vaults."""
    ring = Keyring.parse(keys)
    async with open_pool(ground.database.app_url, connections=_SEEDING) as pool:
        chain = SigningKey(PostgresKeys(pool), ring, random=os.urandom).chain
        keeper = Keeper(
            store=PostgresStore(pool, chain=chain),
            envelope=Envelope(ring),
            vaults=Alone(),
            forget=lambda _: None,
            unreadable=Unreadable,
        )
        numbers = iter(range(orgs))
        origin = Origin("provider")

        async def work() -> None:
            for number in numbers:
                if number % 2000 == 0:
                    tell(f"seeding: {number} of {orgs} orgs")
                org, provider = f"{_PREFIX}{number}", NAMES[VAPI]
                payload = credential(org, VAPI, 1).SerializeToString(deterministic=True)
                await keeper.put(org, provider, payload, "", expected_version=0, origin=origin)
                await keeper.activate(org, provider, 1, [Resource("vapi_assistant", org)], origin)

        async with asyncio.TaskGroup() as group:
            for _ in range(_SEEDING):
                group.create_task(work())


class _Rotation:
    """The rotation through one vault, with what it told."""

    def __init__(self, vault: Vault, readers: Reading, orgs: int, tell: Tell) -> None:
        self._vault = vault
        self._readers = readers
        self._orgs = orgs
        self._tell = tell
        self.seconds = 0.0
        self.left: list[int] = []
        self.done: list[list[int]] = []
        self.retired: list[str] = []
        self.kills = 0

    async def run(self, kill_at: int | None) -> None:
        """One call, and a kill when so many keys in all are wrapped anew; then the vault is started again."""
        began, done = time.monotonic(), []
        killed = False
        try:
            async for progress in Peer(self._vault.channel).rotate_master_key():
                self.left.append(progress.left)
                done.append(progress.done)
                self.retired = list(progress.retired)
                if kill_at is not None and not killed and self._orgs - progress.left >= kill_at:
                    killed = True
                    await self._readers.do("leave", vault=self._vault.name)
                    await self._vault.kill()
        except TenantVaultError:
            if not killed:
                raise
        finally:
            self.seconds += time.monotonic() - began
            self.done.append(done)
        if killed:
            self.kills += 1
            self._tell(f"killed with {self.left[-1]} keys left")
            await self._vault.start()
            await self._readers.do("join", vault=self._vault.name, target=self._vault.target)


async def run(ground: Ground, plan: Plan, tell: Tell = silent) -> Report:
    """Rotate under load."""
    report = Report("rotation")
    old, new = new_master_key("old"), new_master_key("new")
    tls = ground.authority.issue("voice-agent", server=False)
    async with vaults(ground, plan.vaults, {_KEYS: old}) as made:
        began = time.monotonic()
        await seed(ground, old, plan.orgs, tell)
        report.figures |= {"orgs": plan.orgs, "seeding_seconds": round(time.monotonic() - began, 1)}
        async with reading(ground.folder, tls, made) as readers:
            await readers.do("roam", prefix=_PREFIX, orgs=plan.orgs, tasks=plan.tasks)
            for keys in (f"{old}\n{new}", f"{new}\n{old}"):
                tell("giving all vaults both keys")
                await _roll(made, readers, keys)
            before = await readers.do("roamed")
            tell("rotating")
            rotation = _Rotation(made[0], readers, plan.orgs, tell)
            for number in range(plan.kills):
                await rotation.run((number + 1) * plan.orgs // (plan.kills + 2))
            await rotation.run(None)
            after = await readers.do("roamed")
            await _prove_keys(report, ground, Peer(made[0].channel), rotation)
            tell("taking the old key away")
            await _roll(made, readers, new)
            end = await readers.do("stop")
        await _prove_reads(report, Peer(made[-1].channel), plan.orgs)
        await _prove_old_key(report, made[-1], old)
        failures = [failure for vault in made for failure in vault.failures()]
        report.claim("no handler failed", not failures, failures[:3])
    elapsed = after["at"] - before["at"]
    report.figures |= {
        "rotation_seconds": round(rotation.seconds, 2),
        "keys_per_second": round(plan.orgs / rotation.seconds),
        "kills": rotation.kills,
        "reads_during_rotation": after["good"] - before["good"],
        "reads_per_second": round((after["good"] - before["good"]) / elapsed),
        "reads_in_all": end["good"],
        "reads_failed": sum(end["failed"].values()),
        "reads_retried_elsewhere": end["retried"],
        "slowest_read_ms": end["slowest_ms"],
    }
    report.claim("no read on a vault that lived failed", not end["failed"], end["failed"])
    report.claim("every read gave the org's own credential", not end["wrong"] and end["good"] > 0, end["wrong"])
    return report


async def _roll(made: list[Vault], readers: Reading, keys: str) -> None:
    """Start the vaults again one after the other, with other keys."""
    for vault in made:
        await readers.do("leave", vault=vault.name)
        await vault.stop()
        await vault.start({_KEYS: keys})
        await readers.do("join", vault=vault.name, target=vault.target)


async def _prove_keys(report: Report, ground: Ground, peer: Peer, rotation: _Rotation) -> None:
    fell = all(later <= earlier for earlier, later in zip(rotation.left, rotation.left[1:], strict=False))
    rose = all(done == sorted(done) for done in rotation.done)
    report.claim("what was done stayed done, from call to call", fell and rose, f"{rotation.left} {rotation.done}")
    report.claim("the last call said that nothing is left", rotation.left[-1] == 0, rotation.left[-1])
    report.claim("the last call retired the old key", rotation.retired == ["old"], rotation.retired)
    rows = await ground.database.admin(
        "SELECT (SELECT count(*) FROM org_keys WHERE master_key_id = 'old' AND destroyed_at IS NULL) AS org_keys,"
        "       (SELECT count(*) FROM org_keys WHERE master_key_id = 'new' AND destroyed_at IS NULL) AS renewed,"
        "       (SELECT count(*) FROM signing_keys WHERE master_key_id = 'old') AS signing_keys,"
        "       (SELECT state FROM master_keys WHERE master_key_id = 'old') AS old_state,"
        "       (SELECT state FROM master_keys WHERE master_key_id = 'new') AS new_state"
    )
    found: dict[str, Any] = dict(rows[0])
    wanted = {
        "org_keys": 0,
        "renewed": report.figures["orgs"],
        "signing_keys": 0,
        "old_state": "retired",
        "new_state": "active",
    }
    report.claim("nothing is wrapped under the old key, which is retired", found == wanted, found)
    told = {key.master_key_id: key.org_keys for key in (await peer.key_status()).master_keys}
    report.claim("the vault tells the same", told == {"old": 0, "new": report.figures["orgs"]}, told)


async def _prove_reads(report: Report, peer: Peer, orgs: int) -> None:
    """Read every org through a vault that has the new key only."""
    unread = 0
    for first in range(0, orgs, _BATCH):
        outcomes = await peer.batch(
            [(f"{_PREFIX}{number}", VAPI) for number in range(first, min(first + _BATCH, orgs))]
        )
        unread += sum(not outcome.HasField("credential") or seen(outcome.credential) != "v1" for outcome in outcomes)
    report.claim("a vault with the new key alone serves every org", unread == 0, f"{unread} of {orgs} not")


async def _prove_old_key(report: Report, vault: Vault, old: str) -> None:
    await vault.stop()
    await vault.start({_KEYS: old}, ready=False)
    reason = (await vault.said("self-check failed"))["reason"]
    wanted = "master key new is missing: add it to TENANTVAULT_MASTER_KEYS"
    report.claim("a vault with the old key alone refuses, and names the key that it needs", reason == wanted, reason)
    try:
        await Peer(vault.channel).get(f"{_PREFIX}0", VAPI)
    except TenantVaultError as error:
        report.claim("it hands out nothing", error.retryable, error.reason)
    else:
        report.claim("it hands out nothing", False, "a credential")
