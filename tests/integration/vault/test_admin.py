"""What an operator does: freezing, shredding, rotating keys, going back to a version, proving the audit."""

import asyncio
import contextlib
import functools
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.local.authority import DevelopmentAuthority
from services.rpc import middleware
from services.vault import postgres_audit
from tenantvault._status import FailedCall, from_status
from tenantvault.audit import Broken, Export, check_signature, prove, to_lines
from tenantvault.channel import call
from tenantvault.errors import (
    CredentialNotFound,
    DeadlineExceeded,
    InvalidRequest,
    KeyNotEverywhere,
    OrgFrozen,
    OrgShredded,
    ResourceNotFound,
    TenantVaultError,
    VaultUnavailable,
    VersionConflict,
    VersionNotFound,
)
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.integration.conftest import Database
from tests.integration.vault.conftest import (
    OTHER_VAPI,
    TWILIO,
    VAPI,
    Journal,
    RunningVault,
    answers,
    assistant,
    eventually,
    forced,
    master_keys,
    running_vault,
    vault_settings,
)

ADA = store_pb.Origin(on_behalf_of="ada@example.com")
STATES = (
    status_pb.VERSION_STATE_STORED,
    status_pb.VERSION_STATE_ACTIVE,
    status_pb.VERSION_STATE_PREVIOUS,
    status_pb.VERSION_STATE_DESTROYED,
)
STORED, ACTIVE, PREVIOUS, DESTROYED = STATES


@pytest.fixture
async def another_vault(
    database: Database, authority: DevelopmentAuthority, vault: RunningVault
) -> AsyncIterator[RunningVault]:
    async with running_vault(vault_settings(database, authority), authority) as another:
        yield another


async def reads(vault: RunningVault, org: str, resource: pb.Resource, *, fresh: bool = False) -> list[Any]:
    """What comes of every way to read of an org: a credential, its owner, or the error that was told."""
    staleness = Duration() if fresh else None
    at: dict[str, Any] = {"provider": pb.PROVIDER_VAPI, "max_staleness": staleness}
    key: dict[str, Any] = {"kind": resource.kind, "resource_id": resource.resource_id}
    access, newest = await vault.access(), await vault.access("provider")
    batch = access_pb.BatchGetCredentialsRequest(
        keys=[access_pb.CredentialKey(org_id=org, provider=pb.PROVIDER_VAPI)], max_staleness=staleness
    )
    found: list[Any] = []
    for ask in (
        call(access.GetCredential, access_pb.GetCredentialRequest(org_id=org, **at)),
        call(access.ResolveCredential, access_pb.ResolveCredentialRequest(**key, **at)),
        call(newest.GetNewestCredential, access_pb.GetNewestCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)),
        call(access.BatchGetCredentials, batch),
        call((await vault.directory()).ResolveOrg, directory_pb.ResolveOrgRequest(**key)),
    ):
        try:
            answer: Any = await ask
        except TenantVaultError as error:
            found.append(error.reason)
        else:
            match answer:
                case access_pb.BatchGetCredentialsResponse():
                    [outcome] = answer.outcomes
                    told = outcome.HasField("credential")
                    found.append(outcome.credential.credential if told else outcome.failure.reason)
                case directory_pb.ResolveOrgResponse():
                    found.append(answer.org_id)
                case _:
                    found.append(answer.credential.credential)
    return found


async def told(awaitable: Awaitable[Any]) -> TenantVaultError:
    with pytest.raises(TenantVaultError) as refused:
        await awaitable
    return refused.value


async def shown(vault: RunningVault, org: str) -> list[pb.Integration]:
    request = status_pb.ListIntegrationsRequest(org_id=org)
    return list((await call((await vault.status("operator")).ListIntegrations, request)).integrations)


async def versions(vault: RunningVault, org: str) -> dict[int, status_pb.Version]:
    request = status_pb.ListVersionsRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    found = list((await call((await vault.status("operator")).ListVersions, request)).versions)
    assert [version.version for version in found] == sorted((version.version for version in found), reverse=True)
    return {version.version: version for version in found}


async def key_status(vault: RunningVault) -> admin_pb.GetKeyStatusResponse:
    return await call((await vault.admin()).GetKeyStatus, admin_pb.GetKeyStatusRequest())


# Freezing.


async def test_a_frozen_org_is_read_nowhere_from_then_on_and_an_unfrozen_one_as_before(
    vault: RunningVault, another_vault: RunningVault, org: str
) -> None:
    await vault.connect(org, resource := assistant())
    before = [VAPI, VAPI, VAPI, VAPI, org]
    for each in (vault, another_vault):
        # In memory, so that it has to be taken out of there.
        assert before == await reads(each, org, resource)
    assert 3 == await another_vault.freeze(org)
    for each in (vault, another_vault):
        assert ["ORG_FROZEN"] * 5 == await reads(each, org, resource)
        assert ["ORG_FROZEN"] * 5 == await reads(each, org, resource, fresh=True)
    # Again changes nothing.
    assert 3 == await vault.freeze(org)
    assert 4 == await vault.unfreeze(org)
    for each in (vault, another_vault):
        assert before == await reads(each, org, resource)
    assert 4 == await another_vault.unfreeze(org)
    assert ["org.unfreeze", "org.freeze"] == [
        event.action for event in await vault.events(org) if event.action.startswith("org.")
    ]


async def test_of_a_frozen_org_nothing_is_changed_but_that_less_is_readable(vault: RunningVault, org: str) -> None:
    await vault.connect(org)
    await vault.connect(org, credential=OTHER_VAPI, expected=1)
    await vault.freeze(org)
    store, admin = await vault.store(), await vault.admin()
    at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI}
    for change in (
        vault.put(org, expected=2),
        call(store.RegisterResources, store_pb.RegisterResourcesRequest(**at, version=2)),
        call(store.RecordVerification, store_pb.RecordVerificationRequest(**at, version=2)),
        call(store.Reconnect, store_pb.ReconnectRequest(**at)),
        call(store.RollBackCredential, store_pb.RollBackCredentialRequest(**at, version=1, expected_version=2)),
        call(admin.RotateOrgKey, admin_pb.RotateOrgKeyRequest(org_id=org)),
    ):
        assert isinstance(await told(change), OrgFrozen)
    await call(store.DestroyVersion, store_pb.DestroyVersionRequest(**at, version=1))
    await call(store.Disconnect, store_pb.DisconnectRequest(**at))
    await vault.unfreeze(org)
    with pytest.raises(CredentialNotFound):
        await vault.get(org)
    assert {1: DESTROYED, 2: ACTIVE} == {
        number: version.state for number, version in (await versions(vault, org)).items()
    }


async def test_an_org_that_nobody_knows_yet_can_be_frozen(vault: RunningVault, org: str) -> None:
    assert 1 == await vault.freeze(org)
    assert isinstance(await told(vault.put(org)), OrgFrozen)
    await vault.unfreeze(org)
    await vault.connect(org)
    assert (await vault.get(org)).credential == VAPI


# Shredding.


@pytest.mark.parametrize("confirmation", ["", "another", "{}x"])
async def test_without_the_orgs_id_once_more_nothing_is_shredded(
    vault: RunningVault, org: str, confirmation: str
) -> None:
    await vault.connect(org)
    request = admin_pb.ShredOrgRequest(org_id=org, confirm_org_id=confirmation.format(org))
    refused = await told(call((await vault.admin()).ShredOrg, request))
    assert (InvalidRequest, ["confirm_org_id"]) == (type(refused), list(refused.fields))
    assert (await vault.get(org)).credential == VAPI
    assert [] == await vault.events(org, "org.shred")


async def test_of_a_shredded_org_nothing_is_left_but_what_happened_to_it(
    vault: RunningVault, another_vault: RunningVault, database: Database, org: str, other_org: str
) -> None:
    await vault.connect(org, resource := assistant())
    await vault.connect(org, resource, credential=OTHER_VAPI, expected=1)
    await vault.connect(org, credential=TWILIO)
    for each in (vault, another_vault):
        assert [OTHER_VAPI] * 4 == (await reads(each, org, resource))[:4]
    kept = [
        *(
            row["wrapped_key"]
            for row in await database.admin("SELECT wrapped_key FROM org_keys WHERE org_id = $1", org)
        ),
        *(
            row["encrypted_config"]
            for row in await database.admin("SELECT encrypted_config FROM credential_versions WHERE org_id = $1", org)
        ),
    ]
    assert 4 == len(kept)
    request = admin_pb.ShredOrgRequest(org_id=org, confirm_org_id=org, origin=ADA)
    generation = (await call((await vault.admin()).ShredOrg, request)).generation

    gone = "ORG_SHREDDED"
    for each in (vault, another_vault):
        for fresh in (False, True):
            # Its resources are nobody's now.
            assert [gone, "RESOURCE_NOT_FOUND", gone, gone, "RESOURCE_NOT_FOUND"] == await reads(
                each, org, resource, fresh=fresh
            )
    store, admin = await another_vault.store(), await another_vault.admin()
    at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI}
    for change in (
        another_vault.put(org, VAPI, expected=2),
        another_vault.put(org, VAPI),
        call(store.RegisterResources, store_pb.RegisterResourcesRequest(**at, version=2)),
        call(store.RecordVerification, store_pb.RecordVerificationRequest(**at, version=2)),
        call(store.Disconnect, store_pb.DisconnectRequest(**at)),
        call(store.Reconnect, store_pb.ReconnectRequest(**at)),
        call(store.RollBackCredential, store_pb.RollBackCredentialRequest(**at, version=1, expected_version=2)),
        call(store.DestroyVersion, store_pb.DestroyVersionRequest(**at, version=1)),
        call(admin.RotateOrgKey, admin_pb.RotateOrgKeyRequest(org_id=org)),
        another_vault.freeze(org),
        another_vault.unfreeze(org),
    ):
        assert isinstance(await told(change), OrgShredded)
    # Again changes nothing.
    assert generation == await another_vault.shred(org)

    rows = "\n".join([row["row"] for row in await everything_about(database, org)])
    for secret in kept:
        assert secret.hex() not in rows
    assert {DESTROYED} == {version.state for version in (await versions(vault, org)).values()}
    assert {pb.INTEGRATION_STATE_DISCONNECTED} == {integration.state for integration in await shown(vault, org)}
    [shredding] = await vault.events(org, "org.shred")
    assert ("operator", ADA.on_behalf_of, "ok", generation) == (
        shredding.peer,
        shredding.on_behalf_of,
        shredding.outcome,
        shredding.generation,
    )
    assert "" == (await vault.verdict(org)).problem

    await vault.connect(other_org, resource, credential=VAPI)
    assert [VAPI] * 4 + [other_org] == await reads(another_vault, other_org, resource)


async def everything_about(database: Database, org: str) -> list[asyncpg.Record]:
    tables = await database.admin(
        "SELECT table_name AS name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND column_name = 'org_id'"
    )
    return [
        row
        for table in tables
        for row in await database.admin(f"SELECT t::text AS row FROM {table['name']} t WHERE org_id = $1", org)
    ]


async def test_an_org_that_nobody_knows_can_be_shredded_so_that_its_id_is_never_used(
    vault: RunningVault, org: str
) -> None:
    assert 1 == await vault.shred(org)
    assert isinstance(await told(vault.put(org)), OrgShredded)


# An org's key.


@contextlib.asynccontextmanager
async def read_all_the_time(*asks: Callable[[], Awaitable[Any]]) -> AsyncIterator[Callable[[], int]]:
    """Read while the body runs; gives how often that was. Each failure is the test's."""
    number, going_on = 0, True

    async def read(ask: Callable[[], Awaitable[Any]]) -> None:
        nonlocal number
        while going_on:
            await ask()
            number += 1

    reading = [asyncio.create_task(read(ask)) for ask in asks]
    try:
        yield lambda: number
    finally:
        going_on = False
        await asyncio.gather(*reading)


async def test_an_orgs_key_rotates_under_its_readers_and_the_old_one_is_destroyed(
    vault: RunningVault, another_vault: RunningVault, database: Database, org: str
) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    await vault.connect(org, resource, credential=OTHER_VAPI, expected=1)
    await vault.connect(org, credential=TWILIO)
    await vault.put(org, VAPI, expected=2)
    [old] = await database.admin("SELECT key_id, wrapped_key FROM org_keys WHERE org_id = $1", org)

    async def read_both(each: RunningVault) -> None:
        get = access_pb.GetCredentialRequest(
            org_id=org, provider=pb.PROVIDER_VAPI, max_staleness=Duration(), include_previous=True
        )
        got = (await call((await each.access()).GetCredential, get)).credential
        assert (OTHER_VAPI, VAPI, [resource]) == (got.credential, got.previous.credential, list(got.resources))
        assert [OTHER_VAPI, OTHER_VAPI, VAPI, OTHER_VAPI, org] == await reads(each, org, resource)

    async def has_ended() -> bool:
        return 0 == (await key_status(vault)).org_rotations_under_way

    async def was_read(number: Callable[[], int], times: int) -> bool:
        return number() >= times

    async with read_all_the_time(lambda: read_both(vault), lambda: read_both(another_vault)) as number:
        rotated = []
        for each in (vault, another_vault, vault):
            request = admin_pb.RotateOrgKeyRequest(org_id=org, origin=ADA)
            rotated.append((await call((await each.admin()).RotateOrgKey, request)).key_id)

            await eventually(has_ended)
            before = number()
            await eventually(functools.partial(was_read, number, before + 3))

    keys = {
        row["key_id"]: row
        for row in await database.admin("SELECT * FROM org_keys WHERE org_id = $1 ORDER BY created_at", org)
    }
    assert [old["key_id"], *rotated] == list(keys)
    assert [True] == [row["is_current"] for key_id, row in keys.items() if key_id == rotated[-1]]
    for key_id in (old["key_id"], *rotated[:-1]):
        assert (b"", False) == (keys[key_id]["wrapped_key"], keys[key_id]["is_current"])
        assert keys[key_id]["destroyed_at"] is not None
    for table in ("credential_versions", "org_credentials"):
        rows = await database.admin(f"SELECT DISTINCT key_id FROM {table} WHERE org_id = $1", org)
        assert [rotated[-1]] == [row["key_id"] for row in rows]
    assert [ADA.on_behalf_of] * 3 == [event.on_behalf_of for event in await vault.events(org, "org.rotate_key")]
    assert TWILIO == (await vault.get(org, pb.PROVIDER_TWILIO)).credential
    assert "" == (await vault.verdict(org)).problem
    assert not any(
        each.count("tenantvault_violations", kind)
        for each in (vault, another_vault)
        for kind in ("record", "pointer", "mapping", "org_key", "rollback")
    )


async def test_an_org_that_nobody_knows_has_no_key_to_rotate(vault: RunningVault, org: str) -> None:
    refused = await told(call((await vault.admin()).RotateOrgKey, admin_pb.RotateOrgKeyRequest(org_id=org)))
    assert isinstance(refused, CredentialNotFound)


# The master keys.


async def rotate(vault: RunningVault) -> list[admin_pb.RotateMasterKeyResponse]:
    request = admin_pb.RotateMasterKeyRequest(origin=ADA)
    told = await answers((await vault.admin()).RotateMasterKey(request, timeout=60))
    assert [each.done for each in told] == sorted(each.done for each in told)
    return told


@dataclass(frozen=True)
class Renewal:
    """Vaults of one database with the old master key, with the new one, with both."""

    database: Database
    authority: DevelopmentAuthority
    old: str = field(default_factory=lambda: master_keys("old"), repr=False)
    new: str = field(default_factory=lambda: master_keys("new"), repr=False)

    @contextlib.asynccontextmanager
    async def vault(self, *keys: str, ready: bool = True) -> AsyncIterator[RunningVault]:
        settings = vault_settings(self.database, self.authority)
        settings["TENANTVAULT_MASTER_KEYS"] = "\n".join(keys)
        async with running_vault(settings, self.authority, ready=ready) as vault:
            yield vault


@pytest.fixture
def renewal(fresh_database: Database, authority: DevelopmentAuthority) -> Renewal:
    return Renewal(fresh_database, authority)


async def get_all(vaults: list[RunningVault], orgs: list[str]) -> None:
    """Out of the database."""
    for org in orgs:
        get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI, max_staleness=Duration())
        for vault in vaults:
            assert VAPI == (await call((await vault.access()).GetCredential, get)).credential.credential


async def test_a_key_that_a_running_vault_lacks_is_not_rotated_to(renewal: Renewal, org: str) -> None:
    async with renewal.vault(renewal.old, renewal.new) as staged:
        await staged.connect(org)
        assert {
            "old": (admin_pb.MASTER_KEY_STATE_ACTIVE, True),
            "new": (admin_pb.MASTER_KEY_STATE_STAGED, True),
        } == {key.master_key_id: (key.state, key.present) for key in (await key_status(staged)).master_keys}
    async with renewal.vault(renewal.new, renewal.old) as target, renewal.vault(renewal.old) as lacking:
        assert {"old": True, "new": False} == {
            key.master_key_id: key.present for key in (await key_status(lacking)).master_keys
        }
        with pytest.raises(KeyNotEverywhere) as refused:
            await rotate(target)
        [row] = await renewal.database.admin("SELECT vault_id FROM vaults WHERE NOT 'new' = ANY(master_keys)")
        assert (
            f"vault {row['vault_id']} does not have master key new yet: give it to all vaults, then rotate"
            == refused.value.message
        )
        assert {"old": 1, "new": 0} == await org_keys(target)
        assert [] == await target.events("_vault", "master_key.rotate")


async def test_a_master_key_is_rotated_under_its_readers_and_the_old_one_retired_when_nobody_wraps_with_it(
    renewal: Renewal, org: str
) -> None:
    orgs = [f"{org}-{number}" for number in range(7)]
    async with renewal.vault(renewal.old, renewal.new) as staged:
        for of in orgs:
            await staged.connect(of)
        async with renewal.vault(renewal.new, renewal.old) as target:
            async with read_all_the_time(lambda: get_all([staged, target], orgs)):
                progress = await rotate(target)
            assert {"new"} == {each.master_key_id for each in progress}
            first, last = progress[0], progress[-1]
            assert ((0, 7), (7, 0)) == ((first.done, first.left), (last.done, last.left))
            assert {"old": 0, "new": 7} == await org_keys(target)
            # The one that has the old key first still wraps with it.
            assert [] == list(last.retired)
            await staged.connect(latecomer := f"{org}-latecomer")
            assert {"old": 1, "new": 7} == await org_keys(target)

    async with renewal.vault(renewal.new, renewal.old) as target:
        last = (await rotate(target))[-1]
        assert (1, 0, ["old"]) == (last.done, last.left, list(last.retired))
        assert {
            "old": (admin_pb.MASTER_KEY_STATE_RETIRED, True, False),
            "new": (admin_pb.MASTER_KEY_STATE_ACTIVE, True, True),
        } == {
            key.master_key_id: (key.state, key.present, key.wrapping) for key in (await key_status(target)).master_keys
        }
        # And once more, when there is nothing to do.
        last = (await rotate(target))[-1]
        assert (0, 0, []) == (last.done, last.left, list(last.retired))
        events = await target.events("_vault", "master_key.rotate")
        assert ["ok", "begun"] * 3 == [event.outcome for event in events]
        assert {("operator", ADA.on_behalf_of)} == {(event.peer, event.on_behalf_of) for event in events}
        assert ("", 6) == ((verdict := await target.verdict("_vault")).problem, verdict.events)
        [signing] = await renewal.database.admin("SELECT master_key_id FROM signing_keys")
        assert "new" == signing["master_key_id"]

    # Without the old key everything is there.
    async with renewal.vault(renewal.new) as renewed:
        await get_all([renewed], [*orgs, latecomer])
        for of in (*orgs, latecomer):
            assert "" == (await renewed.verdict(of)).problem


async def test_a_vault_that_was_forgotten_in_a_rotation_says_which_key_it_needs(
    renewal: Renewal, journal: Journal, org: str
) -> None:
    async with renewal.vault(renewal.old) as vault:
        await vault.connect(org)
    async with renewal.vault(renewal.new, renewal.old) as target:
        assert ["old"] == list((await rotate(target))[-1].retired)
    for keys, problem in (
        ([renewal.old], "master key new is missing: add it to TENANTVAULT_MASTER_KEYS"),
        (
            [renewal.old, renewal.new],
            "master key old is retired: put the key that is in use first in TENANTVAULT_MASTER_KEYS",
        ),
    ):
        async with renewal.vault(*keys, ready=False) as forgotten:
            assert not await forgotten.server.check()
            assert problem == (await forgotten.diagnosis())["master keys"]
            assert isinstance(await told(forgotten.get(org)), VaultUnavailable)
        assert problem == journal.events("self-check failed")[-1]["reason"]


async def org_keys(vault: RunningVault) -> dict[str, int]:
    return {key.master_key_id: key.org_keys for key in (await key_status(vault)).master_keys}


async def test_the_status_of_the_keys_shows_no_key(vault: RunningVault, database: Database, org: str) -> None:
    await vault.connect(org)
    status = await key_status(vault)
    [key] = status.master_keys
    assert ("test-1", admin_pb.MASTER_KEY_STATE_ACTIVE, True, True) == (
        key.master_key_id,
        key.state,
        key.present,
        key.wrapping,
    )
    assert key.org_keys >= 1
    assert (16, 32) == (len(key.fingerprint), len(status.audit_public_key))
    secret = database.master_keys.partition(":")[2]
    assert secret not in str(status)
    [head] = await database.admin("SELECT public_key FROM audit_heads WHERE org_id = $1", org)
    assert head["public_key"] == status.audit_public_key


# Versions.


async def test_the_versions_of_a_credential_are_listed_with_what_they_are(vault: RunningVault, org: str) -> None:
    assert {} == await versions(vault, org)
    began = datetime.now(UTC) - timedelta(seconds=5)
    secrets = [pb.Credential(vapi=pb.VapiCredential(api_key=f"{number:08}-0000-key{number}")) for number in range(1, 5)]
    for number, secret in enumerate(secrets[:3]):
        await vault.connect(org, credential=secret, expected=number)
    await vault.put(org, secrets[3], expected=3)
    destroy = store_pb.DestroyVersionRequest(org_id=org, provider=pb.PROVIDER_VAPI, version=1, origin=ADA)
    await call((await vault.store("operator")).DestroyVersion, destroy)
    found = await versions(vault, org)
    assert {4: STORED, 3: ACTIVE, 2: PREVIOUS, 1: DESTROYED} == {number: each.state for number, each in found.items()}
    for number, version in found.items():
        assert f"••••key{number}" == version.hint
        assert began < version.created_at.ToDatetime(tzinfo=UTC) < began + timedelta(minutes=2)
        assert (number == 1) == version.HasField("destroyed_at")
        assert (number == 2) == version.HasField("readable_until")
    until = found[2].readable_until.ToDatetime(tzinfo=UTC)
    assert began + timedelta(hours=24) < until < began + timedelta(hours=24, minutes=2)
    for secret in secrets:
        assert secret.vapi.api_key not in str(found)


async def test_an_older_version_is_gone_back_to_at_once_and_everywhere(
    vault: RunningVault, another_vault: RunningVault, org: str
) -> None:
    await vault.connect(org, resource := assistant())
    await vault.connect(org, resource, credential=OTHER_VAPI, expected=1)
    for each in (vault, another_vault):
        assert (await each.get(org)).version == 2
    back = store_pb.RollBackCredentialRequest(
        org_id=org, provider=pb.PROVIDER_VAPI, version=1, expected_version=2, origin=ADA
    )
    store = await vault.store("operator")
    answer = (await call(store.RollBackCredential, back)).integration
    assert (1, 2, pb.INTEGRATION_STATE_CONNECTED) == (answer.version, answer.latest_version, answer.state)
    get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI, include_previous=True)
    for each in (vault, another_vault):
        got = (await call((await each.access()).GetCredential, get)).credential
        # What it replaces is not readable any more, not even for an overlap.
        assert (1, VAPI, [resource], False) == (
            got.version,
            got.credential,
            list(got.resources),
            got.HasField("previous"),
        )
    assert {2: STORED, 1: ACTIVE} == {number: each.state for number, each in (await versions(vault, org)).items()}
    # Again, when it is so, changes nothing; and it works the other way.
    back.expected_version = 1
    await call(store.RollBackCredential, back)
    back.version = 2
    await call(store.RollBackCredential, back)
    assert (await another_vault.get(org)).credential == OTHER_VAPI
    rolled = await vault.events(org, "credential.roll_back")
    assert [(2, "operator", ADA.on_behalf_of), (1, "operator", ADA.on_behalf_of)] == [
        (event.version, event.peer, event.on_behalf_of) for event in rolled
    ]
    # A rotation goes on from the newest.
    assert 3 == await vault.connect(org, resource, credential=VAPI, expected=2)


async def test_what_cannot_be_gone_back_to_is_refused_and_stays_as_it_is(vault: RunningVault, org: str) -> None:
    for number in range(3):
        await vault.connect(org, credential=OTHER_VAPI if number % 2 else VAPI, expected=number)
    await vault.put(org, OTHER_VAPI, expected=3)
    store = await vault.store("operator")
    at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI}
    await call(store.DestroyVersion, store_pb.DestroyVersionRequest(**at, version=1))
    for version, expected, error in (
        (2, 2, VersionConflict),
        (2, 4, VersionConflict),
        (1, 3, VersionNotFound),
        (4, 3, VersionNotFound),
        (5, 3, VersionNotFound),
    ):
        request = store_pb.RollBackCredentialRequest(**at, version=version, expected_version=expected)
        assert isinstance(await told(call(store.RollBackCredential, request)), error), (version, expected)
    for missing in (
        store_pb.RollBackCredentialRequest(**{**at, "provider": pb.PROVIDER_TWILIO}, version=1, expected_version=1),
        store_pb.RollBackCredentialRequest(**{**at, "org_id": f"{org}-x"}, version=1, expected_version=1),
    ):
        assert isinstance(await told(call(store.RollBackCredential, missing)), CredentialNotFound)
    assert (await vault.get(org)).version == 3
    assert [] == await vault.events(org, "credential.roll_back")


async def test_a_destroyed_version_is_gone_and_never_comes_back(
    vault: RunningVault, database: Database, org: str
) -> None:
    await vault.connect(org)
    await vault.connect(org, credential=OTHER_VAPI, expected=1)
    get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI, include_previous=True)
    assert (await call((await vault.access()).GetCredential, get)).credential.HasField("previous")
    store = await vault.store("operator")
    destroy = store_pb.DestroyVersionRequest(org_id=org, provider=pb.PROVIDER_VAPI, version=1, origin=ADA)
    await call(store.DestroyVersion, destroy)
    got = (await call((await vault.access()).GetCredential, get)).credential
    assert (2, False) == (got.version, got.HasField("previous"))
    [row] = await database.admin(
        "SELECT encrypted_config, destroyed_at FROM credential_versions WHERE org_id = $1 AND version = 1", org
    )
    assert (b"", True) == (row["encrypted_config"], row["destroyed_at"] is not None)
    # Again changes nothing; the one in use and one that never was cannot be destroyed.
    await call(store.DestroyVersion, destroy)
    assert 1 == len(await vault.events(org, "credential.destroy"))
    destroy.version = 2
    assert isinstance(await told(call(store.DestroyVersion, destroy)), VersionConflict)
    destroy.version = 3
    assert isinstance(await told(call(store.DestroyVersion, destroy)), VersionNotFound)
    # A version that waits to be activated can, and then is none that could be.
    assert 3 == await vault.put(org, VAPI, expected=2)
    await call(store.DestroyVersion, destroy)
    register = store_pb.RegisterResourcesRequest(org_id=org, provider=pb.PROVIDER_VAPI, version=3)
    assert isinstance(await told(call((await vault.store()).RegisterResources, register)), VersionConflict)
    newest = access_pb.GetNewestCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    assert isinstance(
        await told(call((await vault.access("provider")).GetNewestCredential, newest)), CredentialNotFound
    )


# The audit.


async def test_every_read_is_told_with_who_and_for_whom_and_in_which_request(vault: RunningVault, org: str) -> None:
    resource, mark = assistant(), uuid.uuid4().hex
    for number in range(2):
        secret = pb.Credential(vapi=pb.VapiCredential(api_key=f"{number}-{mark}-0000", webhook_secret=f"hook-{mark}"))
        await vault.connect(org, resource, credential=secret, expected=number)
    await vault.connect(org, credential=TWILIO)
    ids = {name: f"{name}-{uuid.uuid4().hex}" for name in ("get", "resolve", "newest", "batch", "both", "owner")}
    key: dict[str, Any] = {"kind": resource.kind, "resource_id": resource.resource_id}
    at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI}
    access, processor = await vault.access(), await vault.access("webhook-processor")
    await call(access.GetCredential, access_pb.GetCredentialRequest(**at, on_behalf_of="ada"), request_id=ids["get"])
    await call(
        processor.ResolveCredential,
        access_pb.ResolveCredentialRequest(**key, provider=pb.PROVIDER_TWILIO, on_behalf_of="bob"),
        request_id=ids["resolve"],
    )
    await call(
        (await vault.access("provider")).GetNewestCredential,
        access_pb.GetNewestCredentialRequest(**at, on_behalf_of="eve"),
        request_id=ids["newest"],
    )
    await call(
        access.BatchGetCredentials,
        access_pb.BatchGetCredentialsRequest(
            keys=[
                access_pb.CredentialKey(**at),
                access_pb.CredentialKey(org_id=org, provider=pb.PROVIDER_TWILIO),
                access_pb.CredentialKey(org_id=org, provider=pb.PROVIDER_RESEND),
            ],
            on_behalf_of="dan",
        ),
        request_id=ids["batch"],
    )
    await call(
        access.GetCredential, access_pb.GetCredentialRequest(**at, include_previous=True), request_id=ids["both"]
    )
    # What hands nothing out is not told.
    await call((await vault.directory()).ResolveOrg, directory_pb.ResolveOrgRequest(**key), request_id=ids["owner"])
    with pytest.raises(ResourceNotFound):
        await call(processor.ResolveCredential, access_pb.ResolveCredentialRequest(**key, provider=pb.PROVIDER_RESEND))
    wanted = [
        ("credential.get", "vapi", 2, "voice-agent", "ada", "get"),
        ("credential.resolve", "twilio", 1, "webhook-processor", "bob", "resolve"),
        ("credential.get_newest", "vapi", 2, "provider", "eve", "newest"),
        ("credential.get", "vapi", 2, "voice-agent", "dan", "batch"),
        ("credential.get", "twilio", 1, "voice-agent", "dan", "batch"),
        ("credential.get", "vapi", 2, "voice-agent", "", "both"),
        ("credential.get", "vapi", 1, "voice-agent", "", "both"),
    ]
    changes = 6
    found: list[status_pb.AuditEvent] = []

    async def are_there() -> bool:
        found[:] = await vault.events(org)
        return len(found) >= changes + len(wanted)

    await eventually(are_there)
    told_of = [event for event in reversed(found) if event.generation == 0]
    assert [(*event[:-1], ids[event[-1]]) for event in wanted] == [
        (event.action, event.provider, event.version, event.peer, event.on_behalf_of, event.request_id)
        for event in told_of
    ]
    assert {("ok", org)} == {(event.outcome, event.org_id) for event in told_of}
    for event in found:
        for part in (mark, TWILIO.twilio.auth_token):
            assert part.encode() not in event.SerializeToString()


async def test_every_change_is_told_with_who_and_for_whom_and_in_which_request(vault: RunningVault, org: str) -> None:
    store, admin, operator = await vault.store(), await vault.admin(), await vault.store("operator")
    at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI, "origin": ADA}
    of: dict[str, Any] = {"org_id": org, "origin": ADA}
    put = store_pb.PutCredentialRequest(**of, credential=VAPI)
    again = store_pb.PutCredentialRequest(**of, credential=OTHER_VAPI, expected_version=2)
    steps: list[tuple[str, int, Any, Any]] = [
        ("credential.put", 1, store.PutCredential, put),
        ("credential.activate", 1, store.RegisterResources, store_pb.RegisterResourcesRequest(**at, version=1)),
        (
            "credential.verify",
            1,
            store.RecordVerification,
            store_pb.RecordVerificationRequest(**at, version=1, error="Refused."),
        ),
        ("credential.disconnect", 1, store.Disconnect, store_pb.DisconnectRequest(**at)),
        ("credential.reconnect", 1, store.Reconnect, store_pb.ReconnectRequest(**at)),
        ("credential.put", 3, store.PutCredential, again),
        ("credential.activate", 3, store.RegisterResources, store_pb.RegisterResourcesRequest(**at, version=3)),
        (
            "credential.roll_back",
            1,
            operator.RollBackCredential,
            store_pb.RollBackCredentialRequest(**at, version=1, expected_version=3),
        ),
        ("credential.destroy", 3, operator.DestroyVersion, store_pb.DestroyVersionRequest(**at, version=3)),
        ("org.rotate_key", 0, admin.RotateOrgKey, admin_pb.RotateOrgKeyRequest(**of)),
        ("org.freeze", 0, admin.FreezeOrg, admin_pb.FreezeOrgRequest(**of)),
        ("org.unfreeze", 0, admin.UnfreezeOrg, admin_pb.UnfreezeOrgRequest(**of)),
        ("org.shred", 0, admin.ShredOrg, admin_pb.ShredOrgRequest(**of, confirm_org_id=org)),
    ]
    for number, (_, _, method, request) in enumerate(steps, start=1):
        await call(method, request, request_id=f"request-{number:04}")
    assert [
        (
            action,
            "" if action.startswith("org.") else "vapi",
            version,
            "refused" if action == "credential.verify" else "ok",
            "provider" if number < 8 else "operator",
            ADA.on_behalf_of,
            f"request-{number:04}",
            number,
            number,
        )
        for number, (action, version, _, _) in enumerate(steps, start=1)
    ] == [
        (
            event.action,
            event.provider,
            event.version,
            event.outcome,
            event.peer,
            event.on_behalf_of,
            event.request_id,
            event.generation,
            event.sequence,
        )
        for event in reversed(await vault.events(org))
    ]


@pytest.fixture
async def eventful(vault: RunningVault, org: str) -> str:
    """An org of whom 2005 events tell."""
    await vault.connect(org)
    await vault.connect(org, credential=TWILIO)
    keys = [access_pb.CredentialKey(org_id=org, provider=pb.PROVIDER_VAPI)] * 1000
    access = await vault.access()
    for _ in range(2):
        await call(access.BatchGetCredentials, access_pb.BatchGetCredentialsRequest(keys=keys), deadline=30)
    await vault.get(org, pb.PROVIDER_TWILIO)

    async def are_there() -> bool:
        return 2005 == (await vault.verdict(org)).events

    await eventually(are_there, within=30)
    return org


async def page(vault: RunningVault, org: str, **wanted: Any) -> list[status_pb.AuditEvent]:
    request = status_pb.ListAuditEventsRequest(org_id=org, **wanted)
    return list((await call((await vault.status("gateway")).ListAuditEvents, request)).events)


async def test_the_audit_is_listed_page_by_page_newest_first(vault: RunningVault, eventful: str) -> None:
    assert 100 == len(await page(vault, eventful))
    seen: list[status_pb.AuditEvent] = []
    pages, request = 0, status_pb.ListAuditEventsRequest(org_id=eventful, page_size=300)
    status = await vault.status("gateway")
    while pages == 0 or request.before_sequence:
        answer = await call(status.ListAuditEvents, request)
        seen += answer.events
        pages += 1
        request.before_sequence = answer.next_before_sequence
        assert answer.next_before_sequence == 0 or answer.since == seen[-1].occurred_at
    assert not answer.HasField("since")
    assert list(range(2005, 0, -1)) == [event.sequence for event in seen]
    assert 7 == pages
    assert 2005 == len({event.event_id for event in seen})
    assert [] == await page(vault, eventful, before_sequence=1)
    assert [2005] == [event.sequence for event in await page(vault, eventful, before_sequence=2**53 - 1, page_size=1)]


async def test_the_audit_is_listed_by_provider_and_action(vault: RunningVault, eventful: str) -> None:
    twilio = await page(vault, eventful, provider=pb.PROVIDER_TWILIO)
    assert ["credential.get", "credential.activate", "credential.put"] == [event.action for event in twilio]
    assert {"twilio"} == {event.provider for event in twilio}
    puts = await page(vault, eventful, action="credential.put")
    assert ["twilio", "vapi"] == [event.provider for event in puts]
    assert [1] == [
        event.sequence
        for event in await page(vault, eventful, action="credential.put", provider=pb.PROVIDER_VAPI, page_size=1)
    ]
    assert [] == await page(vault, eventful, action="credential.put", before_sequence=1)
    assert [] == await page(vault, eventful, provider=pb.PROVIDER_RESEND)


async def test_the_audit_is_listed_by_service_and_by_what_failed(vault: RunningVault, org: str) -> None:
    await vault.connect(org)
    record = store_pb.RecordVerificationRequest(
        org_id=org, provider=pb.PROVIDER_VAPI, version=1, error="Refused.", origin=ADA
    )
    await call((await vault.store()).RecordVerification, record)
    await vault.freeze(org)
    assert ["org.freeze"] == [event.action for event in await page(vault, org, peer="operator")]
    assert ["credential.verify"] == [event.action for event in await page(vault, org, failed=True)]
    assert [] == await page(vault, org, peer="operator", failed=True)


async def test_it_is_told_how_often_which_service_was_given_which_credential(
    vault: RunningVault, eventful: str
) -> None:
    newest = access_pb.GetNewestCredentialRequest(org_id=eventful, provider=pb.PROVIDER_TWILIO)
    await call((await vault.access("provider")).GetNewestCredential, newest)
    await vault.events_when(eventful, "credential.get_newest", 1)
    status, began = await vault.status(), datetime.now(UTC)
    counted = await call(status.CountReads, status_pb.CountReadsRequest(org_id=eventful))
    assert [
        ("voice-agent", pb.PROVIDER_VAPI, 2000),
        ("provider", pb.PROVIDER_TWILIO, 1),
        ("voice-agent", pb.PROVIDER_TWILIO, 1),
    ] == [(count.peer, count.provider, count.reads) for count in counted.counts]
    [last] = await page(vault, eventful, action="credential.get_newest")
    assert last.occurred_at == counted.counts[1].last_read_at
    assert timedelta() <= counted.since.ToDatetime(tzinfo=UTC) - (began - timedelta(days=30)) < timedelta(minutes=1)
    # Only what happened since then.
    counted = await call(status.CountReads, status_pb.CountReadsRequest(org_id=eventful, since=last.occurred_at))
    assert [("provider", 1)] == [(count.peer, count.reads) for count in counted.counts]
    assert last.occurred_at == counted.since
    later = status_pb.CountReadsRequest(org_id=eventful, since=Timestamp(seconds=253_402_300_799))
    assert [] == list((await call(status.CountReads, later)).counts)


async def test_a_count_of_what_cannot_be_is_refused(vault: RunningVault, org: str) -> None:
    for request, named in (
        (status_pb.CountReadsRequest(), "org_id"),
        (status_pb.CountReadsRequest(org_id="_vault"), "org_id"),
        (status_pb.CountReadsRequest(org_id=org, since=Timestamp(nanos=-1)), "since"),
    ):
        refused = await told(call((await vault.status()).CountReads, request))
        assert (InvalidRequest, [named]) == (type(refused), list(refused.fields))


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"page_size": 1001}, "page_size"),
        ({"page_size": -1}, "page_size"),
        ({"before_sequence": -1}, "before_sequence"),
        ({"action": "DROP TABLE"}, "action"),
        ({"provider": 99}, "provider"),
        ({"peer": "Voice agent"}, "peer"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(
    vault: RunningVault, org: str, wanted: dict[str, Any], field: str
) -> None:
    refused = await told(page(vault, org, **wanted))
    assert (InvalidRequest, [field]) == (type(refused), list(refused.fields))


async def test_an_export_is_proved_without_the_vault(vault: RunningVault, eventful: str) -> None:
    public_key = (await key_status(vault)).audit_public_key
    links, head = await vault.exported(eventful)
    assert head is not None
    assert (2005, eventful, 2005) == (len(links), head.org_id, head.sequence)
    lines = list(to_lines(links, head))

    def proved(lines: list[str]) -> int:
        export = Export.parse(lines)
        return prove(
            export.links,
            export.head,
            lambda _, signature, message: check_signature(public_key, signature, message),
        )

    assert 2005 == proved(lines)
    verdict = await vault.verdict(eventful)
    assert (2005, 0, "", head.hash) == (
        verdict.events,
        verdict.broken_sequence,
        verdict.problem,
        verdict.head,
    )
    forged = json.loads(lines[1499])
    forged["on_behalf_of"] = "mallory"
    for tampered, sequence in (
        ([*lines[:1499], json.dumps(forged), *lines[1500:]], 1500),
        ([*lines[:1499], *lines[1500:]], 1500),
        ([*lines[:2004], lines[-1]], 2005),
    ):
        with pytest.raises(Broken) as broken:
            proved(tampered)
        assert sequence == broken.value.sequence


async def read_on(calling: Any) -> None:
    """Read a call's answers to the end, as `read` has begun it."""
    while await calling.read() is not grpc.aio.EOF:
        pass


async def test_exports_that_nobody_reads_hold_up_no_other_call_and_are_ended(
    fresh_database: Database,
    authority: DevelopmentAuthority,
    monkeypatch: pytest.MonkeyPatch,
    org: str,
    other_org: str,
) -> None:
    many = (
        "INSERT INTO audit_events SELECT gen_random_uuid(), $1, 1000 + n, now(), 'voice-agent', '', 'credential.get',"
        " 'vapi', 1, 'ok', repeat('0', 32), 0, decode(repeat('00', 32), 'hex') FROM generate_series(1, 30000) n"
    )
    async with running_vault(vault_settings(fresh_database, authority), authority) as vault:
        await vault.connect(org)
        await vault.connect(other_org)
        await forced(fresh_database, many, org)
        admin = await vault.admin()
        monkeypatch.setattr(postgres_audit, "_TURN_SECONDS", 0.2)
        calls = [admin.ExportAudit(admin_pb.ExportAuditRequest(org_id=org), timeout=600) for _ in range(10)]
        began = await asyncio.gather(*(read.read() for read in calls), return_exceptions=True)
        refused = [from_status(cast("FailedCall", one)) for one in began if isinstance(one, grpc.aio.AioRpcError)]
        assert [VaultUnavailable] * 8 == [type(error) for error in refused]
        assert {postgres_audit.BUSY} == {error.message for error in refused}
        request = access_pb.GetCredentialRequest(org_id=other_org, provider=pb.PROVIDER_VAPI, max_staleness=Duration())
        await call((await vault.access()).GetCredential, request)
        assert await vault.freeze(other_org)
        with pytest.raises(VaultUnavailable):
            await vault.verdict(other_org)
        # From the next export on: these two are waiting for their readers by now.
        for one in calls:
            one.cancel()
        monkeypatch.setattr(middleware, "WRITE_SECONDS", 0.2)
        monkeypatch.setattr(postgres_audit, "_TURN_SECONDS", 30.0)
        unread = [admin.ExportAudit(admin_pb.ExportAuditRequest(org_id=org), timeout=600) for _ in range(2)]
        for one in unread:
            await one.read()
        # It waits for a turn, and so until one of these is ended.
        prove = admin_pb.VerifyAuditRequest(org_id=other_org)
        assert not (await call(admin.VerifyAudit, prove, deadline=60)).problem
        for one in unread:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await read_on(one)
            error = from_status(cast("FailedCall", ended.value))
            assert (DeadlineExceeded, middleware.UNREAD) == (type(error), error.message)


async def test_of_whom_nothing_happened_there_is_nothing_to_prove(vault: RunningVault, org: str) -> None:
    verdict = await vault.verdict(org)
    assert (0, 0, "") == (verdict.events, verdict.broken_sequence, verdict.problem)
    assert ([], None) == await vault.exported(org)
    assert [] == await vault.events(org)


@pytest.mark.parametrize("org_id", ["", "Acme", "_other", "a" * 64])
async def test_a_chain_of_nobody_is_refused(vault: RunningVault, org_id: str) -> None:
    for ask in (
        vault.verdict(org_id),
        vault.exported(org_id),
        vault.events(org_id),
    ):
        refused = await told(ask)
        assert (InvalidRequest, ["org_id"]) == (type(refused), list(refused.fields))
