"""The vault's services as their callers meet them."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from deploy.local.authority import DevelopmentAuthority
from services.rpc.middleware import current_call
from services.rpc.peers import Policy
from services.rpc.server import ServerConfig
from tenantvault.channel import call
from tenantvault.errors import (
    CredentialNotFound,
    InvalidRequest,
    LeaseHeld,
    ResourceConflict,
    ResourceNotFound,
    TenantVaultError,
    VersionConflict,
    VersionNotFound,
)
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.integration.conftest import Database
from tests.integration.vault.conftest import (
    OTHER_VAPI,
    TWILIO,
    VAPI,
    RunningVault,
    assistant,
    eventually,
    held,
    running_vault,
    vault_settings,
    waiting_for_locks,
)
from tests.integration.vault.contract import METHODS, bytes_of, everything, filled


async def resolved(
    vault: RunningVault, resource: pb.Resource, provider: "pb.Provider.ValueType" = pb.PROVIDER_VAPI
) -> Any:
    request = access_pb.ResolveCredentialRequest(
        kind=resource.kind, resource_id=resource.resource_id, provider=provider
    )
    return (await call((await vault.access()).ResolveCredential, request)).credential


async def listed(vault: RunningVault, org: str) -> list[pb.Integration]:
    request = status_pb.ListIntegrationsRequest(org_id=org)
    return list((await call((await vault.status()).ListIntegrations, request)).integrations)


async def told(awaitable: Any) -> TenantVaultError:
    with pytest.raises(TenantVaultError) as refused:
        await awaitable
    return refused.value


async def test_a_credential_goes_in_and_comes_out(vault: RunningVault, org: str) -> None:
    inbound, outbound = assistant(), assistant(role="outbound")
    with pytest.raises(CredentialNotFound):
        await vault.get(org)
    assert 1 == await vault.put(org)
    with pytest.raises(CredentialNotFound):
        await vault.get(org)
    assert 1 == await vault.connect(org, outbound, inbound, expected=1)
    got = await vault.get(org)
    assert (org, pb.PROVIDER_VAPI, 1, VAPI, [inbound, outbound]) == (
        got.org_id,
        got.provider,
        got.version,
        got.credential,
        list(got.resources),
    )
    assert got.HasField("last_verified_at")
    assert got == await vault.get(org)


async def test_what_may_be_shown_is_shown_without_the_secret(vault: RunningVault, org: str) -> None:
    assert [] == await listed(vault, org)
    await vault.connect(org, assistant("a-" + org))
    await vault.put(org, TWILIO)
    vapi, twilio = await listed(vault, org)
    assert (pb.PROVIDER_VAPI, pb.INTEGRATION_STATE_CONNECTED, 1, 1, "••••5555", "a-" + org) == (
        vapi.provider,
        vapi.state,
        vapi.version,
        vapi.latest_version,
        vapi.hint,
        vapi.resources[0].resource_id,
    )
    assert (pb.PROVIDER_TWILIO, pb.INTEGRATION_STATE_CONNECTING, 0, 1, "", []) == (
        twilio.provider,
        twilio.state,
        twilio.version,
        twilio.latest_version,
        twilio.hint,
        list(twilio.resources),
    )


async def test_the_newest_version_is_for_who_takes_up_a_connect(vault: RunningVault, org: str) -> None:
    await vault.connect(org)
    await vault.put(org, OTHER_VAPI, expected=1)
    access = await vault.access("provider")
    request = access_pb.GetNewestCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    newest = (await call(access.GetNewestCredential, request)).credential
    assert (2, OTHER_VAPI) == (newest.version, newest.credential)
    assert 1 == (await vault.get(org)).version


async def test_a_disconnect_ends_the_reading_at_once_and_a_reconnect_begins_it_again(
    vault: RunningVault, org: str
) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    await vault.get(org)
    store = await vault.store()
    disconnect = store_pb.DisconnectRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    for _ in range(2):
        answer = await call(store.Disconnect, disconnect)
        assert pb.INTEGRATION_STATE_DISCONNECTED == answer.integration.state
    for read in (vault.get(org), resolved(vault, resource)):
        assert isinstance(await told(read), (CredentialNotFound, ResourceNotFound))
    again = await call(store.Reconnect, store_pb.ReconnectRequest(org_id=org, provider=pb.PROVIDER_VAPI))
    assert pb.INTEGRATION_STATE_CONNECTED == again.integration.state
    assert (await vault.get(org)).credential == VAPI


async def test_a_refusal_is_shown_and_does_not_stop_the_reading(vault: RunningVault, org: str) -> None:
    await vault.connect(org)
    store = await vault.store()
    request = store_pb.RecordVerificationRequest(org_id=org, provider=pb.PROVIDER_VAPI, version=1, error="Key refused.")
    answer = await call(store.RecordVerification, request)
    assert (pb.INTEGRATION_STATE_REFUSED, "Key refused.") == (
        answer.integration.state,
        answer.integration.verification_error,
    )
    assert (await vault.get(org)).credential == VAPI
    request.error = ""
    answer = await call(store.RecordVerification, request)
    assert pb.INTEGRATION_STATE_CONNECTED == answer.integration.state


async def test_a_resource_leads_to_its_org_and_any_of_its_credentials(vault: RunningVault, org: str) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    await vault.connect(org, credential=TWILIO)
    request = directory_pb.ResolveOrgRequest(kind=resource.kind, resource_id=resource.resource_id)
    answer = await call((await vault.directory()).ResolveOrg, request)
    assert (org, "inbound") == (answer.org_id, answer.role)
    assert (org, VAPI) == ((found := await resolved(vault, resource)).org_id, found.credential)
    assert (org, TWILIO) == (
        (found := await resolved(vault, resource, pb.PROVIDER_TWILIO)).org_id,
        found.credential,
    )


async def test_a_resource_of_another_org_conflicts_like_any_other(
    vault: RunningVault, org: str, other_org: str
) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    await vault.put(org, TWILIO)
    store = await vault.store()
    answers = []
    await vault.put(other_org)
    for of, provider in ((other_org, pb.PROVIDER_VAPI), (org, pb.PROVIDER_TWILIO)):
        request = store_pb.RegisterResourcesRequest(org_id=of, provider=provider, version=1, resources=[resource])
        error = await told(call(store.RegisterResources, request))
        assert isinstance(error, ResourceConflict)
        answers.append((error.message, dict(error.fields)))
    assert answers[0] == answers[1]


async def test_a_lease_keeps_other_workers_out(vault: RunningVault, org: str) -> None:
    store = await vault.store()
    lease = store_pb.AcquireLeaseRequest(
        org_id=org, provider=pb.PROVIDER_VAPI, owner="worker-1", duration=Duration(seconds=60)
    )
    await call(store.AcquireLease, lease)
    await call(store.AcquireLease, lease)
    lease.owner = "worker-2"
    held = await told(call(store.AcquireLease, lease))
    assert isinstance(held, LeaseHeld)
    assert held.retry_after is not None
    assert 0 < held.retry_after <= 60
    await vault.put(org)
    register = store_pb.RegisterResourcesRequest(
        org_id=org, provider=pb.PROVIDER_VAPI, version=1, lease_owner="worker-2"
    )
    assert isinstance(await told(call(store.RegisterResources, register)), LeaseHeld)
    release = store_pb.ReleaseLeaseRequest(org_id=org, provider=pb.PROVIDER_VAPI, owner="worker-2")
    await call(store.ReleaseLease, release)
    assert isinstance(await told(call(store.AcquireLease, lease)), LeaseHeld)
    release.owner = "worker-1"
    await call(store.ReleaseLease, release)
    await call(store.AcquireLease, lease)
    await call(store.RegisterResources, register)
    assert 1 == (await vault.get(org)).version


async def test_fifty_concurrent_puts_and_activations_end_with_one_active_version(
    vault: RunningVault, database: Database, org: str
) -> None:
    resource = assistant()

    async def connect(number: int) -> int | TenantVaultError:
        credential = pb.Credential(vapi=pb.VapiCredential(api_key=f"{number:08}-2222-3333-4444-555555555555"))
        try:
            return await vault.connect(org, resource, credential=credential)
        except VersionConflict as conflict:
            return conflict

    outcomes = await asyncio.gather(*(connect(number) for number in range(50)))
    won = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert [1] == won
    [integration] = await listed(vault, org)
    assert (1, 1, [resource]) == (integration.version, integration.latest_version, list(integration.resources))
    got = await vault.get(org)
    assert f"{outcomes.index(1):08}-2222-3333-4444-555555555555" == got.credential.vapi.api_key
    events = await database.admin(
        "SELECT action FROM audit_events WHERE org_id = $1 AND generation > 0 ORDER BY generation", org
    )
    assert ["credential.put", "credential.activate"] == [event["action"] for event in events]


async def test_fifty_concurrent_retries_of_one_connect_are_one_version(
    vault: RunningVault, database: Database, org: str
) -> None:
    """Each reads the newest version and puts the same value on it, as an interrupted connect does."""
    resource = assistant()

    async def connect() -> None:
        while True:
            newest = max((shown.latest_version for shown in await listed(vault, org)), default=0)
            try:
                await vault.connect(org, resource, expected=newest)
            except VersionConflict:
                continue
            return

    await asyncio.gather(*(connect() for _ in range(50)))
    [integration] = await listed(vault, org)
    assert (1, 1) == (integration.version, integration.latest_version)
    [versions] = await database.admin("SELECT count(*) FROM credential_versions WHERE org_id = $1", org)
    assert 1 == versions["count"]


async def test_two_orgs_that_register_the_same_resources_do_not_wait_for_each_other(
    vault: RunningVault, database: Database, org: str, other_org: str
) -> None:
    resources = [assistant() for _ in range(100)]
    store = await vault.store()
    for of in (org, other_org):
        await vault.put(of)

    async def register(of: str, order: list[pb.Resource]) -> Any:
        request = store_pb.RegisterResourcesRequest(org_id=of, provider=pb.PROVIDER_VAPI, version=1, resources=order)
        try:
            return await call(store.RegisterResources, request)
        except ResourceConflict as conflict:
            return conflict

    async with held(database, "assistant_org_mapping"):
        registering = asyncio.gather(register(org, resources), register(other_org, resources[::-1]))
        await eventually(lambda: waiting_for_locks(database, 2))
    outcomes = await registering
    assert 1 == sum(isinstance(outcome, ResourceConflict) for outcome in outcomes)


BAD: dict[str, Callable[[str], tuple[str, Any]]] = {
    "org": lambda _: ("PutCredential", store_pb.PutCredentialRequest(org_id="Acme", credential=VAPI)),
    "no credential": lambda org: ("PutCredential", store_pb.PutCredentialRequest(org_id=org)),
    "an unprintable secret": lambda org: (
        "PutCredential",
        store_pb.PutCredentialRequest(
            org_id=org, credential=pb.Credential(vapi=pb.VapiCredential(api_key="0123456789ab\0cd"))
        ),
    ),
    "a huge version": lambda org: (
        "PutCredential",
        store_pb.PutCredentialRequest(org_id=org, credential=VAPI, expected_version=2**63 - 1),
    ),
    "a negative version": lambda org: (
        "PutCredential",
        store_pb.PutCredentialRequest(org_id=org, credential=VAPI, expected_version=-1),
    ),
    "no provider": lambda org: ("Disconnect", store_pb.DisconnectRequest(org_id=org)),
    "an endless lease": lambda org: (
        "AcquireLease",
        store_pb.AcquireLeaseRequest(
            org_id=org, provider=pb.PROVIDER_VAPI, owner="w", duration=Duration(seconds=2**62)
        ),
    ),
    "an owner with a zero byte": lambda org: (
        "ReleaseLease",
        store_pb.ReleaseLeaseRequest(org_id=org, provider=pb.PROVIDER_VAPI, owner="w\0"),
    ),
    "a resource id with a zero byte": lambda org: (
        "RegisterResources",
        store_pb.RegisterResourcesRequest(
            org_id=org, provider=pb.PROVIDER_VAPI, version=1, resources=[assistant("a\0")]
        ),
    ),
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_request_is_refused_with_the_field_and_changes_nothing(
    vault: RunningVault, database: Database, org: str, bad: str
) -> None:
    method, request = BAD[bad](org)
    error = await told(call(getattr(await vault.store(), method), request))
    assert isinstance(error, InvalidRequest)
    assert error.fields
    assert [] == await database.admin("SELECT org_id FROM orgs WHERE org_id = $1", org)


class Statements:
    """Counts what the vault asks the database for its callers; what it does in the background is not for them."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def watch(self, connection: Any) -> None:
        connection.add_query_logger(self._see)

    async def during(self, awaitable: Any) -> int:
        before = len(self.seen)
        with contextlib.suppress(TenantVaultError):
            await awaitable
        return len(self.seen) - before

    def _see(self, query: Any) -> None:
        with contextlib.suppress(LookupError):
            current_call()
            self.seen.append(query.query)


@pytest.fixture
async def vault(vault_environ: dict[str, str], authority: DevelopmentAuthority) -> AsyncIterator[RunningVault]:
    """It hears of changes, without which it serves nothing from memory, however slow the machine is."""
    async with running_vault({**vault_environ, "TENANTVAULT_RECONCILE_SECONDS": "60"}, authority) as running:
        watch = (await running.access()).WatchChanges(access_pb.WatchChangesRequest(), timeout=60)
        async for told in watch:
            if told.HasField("heartbeat"):
                break
        watch.cancel()
        yield running


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    """To be asked for before the vault is."""
    statements = Statements()
    create_pool: Any = asyncpg.create_pool
    monkeypatch.setattr(
        asyncpg, "create_pool", lambda *given, **named: create_pool(*given, init=statements.watch, **named)
    )
    return statements


@pytest.fixture
def vault_environ(database: Database, authority: DevelopmentAuthority) -> dict[str, str]:
    """With a lease that no loaded machine lets run out: what is in memory is served."""
    return {**vault_settings(database, authority), "TENANTVAULT_RECONCILE_SECONDS": "30"}


async def owner(vault: RunningVault, resource: pb.Resource) -> Any:
    request = directory_pb.ResolveOrgRequest(kind=resource.kind, resource_id=resource.resource_id)
    return await call((await vault.directory()).ResolveOrg, request)


async def batch(vault: RunningVault, *keys: tuple[str, "pb.Provider.ValueType"]) -> list[access_pb.CredentialOutcome]:
    wanted = [access_pb.CredentialKey(org_id=org, provider=provider) for org, provider in keys]
    request = access_pb.BatchGetCredentialsRequest(keys=wanted)
    return list((await call((await vault.access()).BatchGetCredentials, request, deadline=30)).outcomes)


async def batch_of_owners(vault: RunningVault, *resources: pb.Resource) -> list[directory_pb.OrgOutcome]:
    wanted = [directory_pb.ResourceKey(kind=resource.kind, resource_id=resource.resource_id) for resource in resources]
    request = directory_pb.BatchResolveOrgsRequest(keys=wanted)
    return list((await call((await vault.directory()).BatchResolveOrgs, request, deadline=30)).outcomes)


async def test_a_get_that_is_not_in_memory_is_one_statement_and_the_next_none(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    await vault.connect(org, resource := assistant())
    assert 1 == await statements.during(vault.get(org))
    assert 0 == await statements.during(vault.get(org))
    assert 0 == await statements.during(batch(vault, (org, pb.PROVIDER_VAPI)))
    assert (await vault.get(org)).resources == [resource]


async def test_a_resolve_that_is_not_in_memory_is_one_statement_and_whatever_it_read_is_none_from_then_on(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    await vault.connect(org, credential=TWILIO)
    assert 1 == await statements.during(resolved(vault, resource, pb.PROVIDER_TWILIO))
    assert 0 == await statements.during(resolved(vault, resource, pb.PROVIDER_TWILIO))
    assert 0 == await statements.during(owner(vault, resource))
    assert 0 == await statements.during(vault.get(org, pb.PROVIDER_TWILIO))
    # The directory knows the org by now; of its other credential nothing was read yet.
    assert 1 == await statements.during(resolved(vault, resource))
    assert 0 == await statements.during(resolved(vault, resource))


async def test_an_owner_that_is_not_in_memory_is_one_statement_and_the_next_none(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    await vault.connect(org, resource := assistant())
    assert 1 == await statements.during(owner(vault, resource))
    assert 0 == await statements.during(owner(vault, resource))
    assert 0 == await statements.during(batch_of_owners(vault, resource))


async def test_a_thousand_credentials_that_are_not_in_memory_are_one_statement_and_the_next_time_none(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    there = [f"{org}-{number}" for number in range(8)]
    await asyncio.gather(*(vault.connect(of) for of in there))
    missing = [f"{org}-x{number}" for number in range(992)]
    keys = [(of, pb.PROVIDER_VAPI) for of in (*there, *missing)]
    assert 1 == await statements.during(batch(vault, *keys))
    assert 0 == await statements.during(batch(vault, *keys[:8] * 125))


async def test_a_thousand_owners_that_are_not_in_memory_are_one_statement_and_the_next_time_none(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    there = [assistant() for _ in range(100)]
    await vault.connect(org, *there)
    assert 1 == await statements.during(batch_of_owners(vault, *there, *(assistant() for _ in range(900))))
    assert 0 == await statements.during(batch_of_owners(vault, *there * 10))


async def test_what_is_not_there_is_not_asked_for_again_at_once(
    statements: Statements, vault: RunningVault, org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [1, 0] == [await statements.during(vault.get(org)) for _ in range(2)]
    # And it is there as soon as it is connected.
    await vault.connect(org)
    assert (await vault.get(org)).credential == VAPI


async def test_who_wants_no_stale_answer_at_all_is_given_what_the_database_says(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    access = await vault.access()
    get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI, max_staleness=Duration())
    resolve = access_pb.ResolveCredentialRequest(
        kind=resource.kind, resource_id=resource.resource_id, provider=pb.PROVIDER_VAPI, max_staleness=Duration()
    )
    for _ in range(2):
        assert 1 == await statements.during(call(access.GetCredential, get))
        assert 1 == await statements.during(call(access.ResolveCredential, resolve))
    get.max_staleness.CopyFrom(Duration(seconds=-1))
    assert "max_staleness" in (await told(call(access.GetCredential, get))).fields


async def test_a_hundred_reads_at_once_of_what_is_not_in_memory_are_one_statement(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    await vault.connect(org)
    assert 1 == await statements.during(asyncio.gather(*(vault.get(org) for _ in range(100))))


async def test_whatever_cannot_be_resolved_answers_alike_after_the_same_work(
    statements: Statements, vault: RunningVault, org: str, other_org: str
) -> None:
    connected, disconnected = assistant(), assistant()
    await vault.connect(org, connected)
    await vault.connect(other_org, disconnected)
    store = await vault.store()
    await call(store.Disconnect, store_pb.DisconnectRequest(org_id=other_org, provider=pb.PROVIDER_VAPI))
    asked = {
        "unknown": (assistant(), pb.PROVIDER_VAPI),
        "the org has no such credential": (connected, pb.PROVIDER_TWILIO),
        "disconnected": (disconnected, pb.PROVIDER_VAPI),
        "another kind": (
            pb.Resource(kind=pb.RESOURCE_KIND_PHONE_NUMBER, resource_id=connected.resource_id),
            pb.PROVIDER_VAPI,
        ),
    }
    answers, work = set(), set()
    for resource, provider in asked.values():
        work.add(await statements.during(resolved(vault, resource, provider)))
        # Once more, from memory.
        error = await told(resolved(vault, resource, provider))
        answers.add((type(error), error.message, str(error.fields), error.retry_after))
    assert {(ResourceNotFound, ResourceNotFound.sentence, "{}", None)} == answers
    assert {1} == work


async def test_each_key_of_a_batch_has_its_own_outcome_in_its_place(
    vault: RunningVault, org: str, other_org: str
) -> None:
    await vault.connect(org)
    await vault.connect(org, credential=TWILIO)
    await vault.put(other_org)
    outcomes = await batch(
        vault,
        (other_org, pb.PROVIDER_VAPI),
        (org, pb.PROVIDER_TWILIO),
        (org, pb.PROVIDER_RESEND),
        (org, pb.PROVIDER_VAPI),
        (org, pb.PROVIDER_TWILIO),
    )
    missing = "CREDENTIAL_NOT_FOUND"
    assert [missing, TWILIO, missing, VAPI, TWILIO] == [
        outcome.credential.credential if outcome.HasField("credential") else outcome.failure.reason
        for outcome in outcomes
    ]
    assert CredentialNotFound.sentence == outcomes[0].failure.message
    assert (org, pb.PROVIDER_TWILIO, 1) == (
        outcomes[1].credential.org_id,
        outcomes[1].credential.provider,
        outcomes[1].credential.version,
    )
    one = await vault.get(org, pb.PROVIDER_TWILIO)
    assert one == outcomes[1].credential == outcomes[4].credential


async def test_each_resource_of_a_batch_has_its_own_outcome_in_its_place(
    vault: RunningVault, org: str, other_org: str
) -> None:
    ours, theirs = assistant(), assistant(role="outbound")
    await vault.connect(org, ours)
    await vault.connect(other_org, theirs)
    outcomes = await batch_of_owners(vault, theirs, assistant(), ours, theirs)
    assert [(other_org, "outbound"), "RESOURCE_NOT_FOUND", (org, "inbound"), (other_org, "outbound")] == [
        (outcome.org.org_id, outcome.org.role) if outcome.HasField("org") else outcome.failure.reason
        for outcome in outcomes
    ]


@pytest.mark.parametrize("number", [0, 1001])
async def test_a_batch_has_one_to_a_thousand_keys(vault: RunningVault, org: str, number: int) -> None:
    for refused in (
        batch(vault, *[(org, pb.PROVIDER_VAPI)] * number),
        batch_of_owners(vault, *[assistant()] * number),
    ):
        error = await told(refused)
        assert (InvalidRequest, {"keys": "Give 1 to 1000 keys."}) == (type(error), dict(error.fields))


async def test_a_batch_with_a_key_that_is_none_is_refused_as_a_whole(vault: RunningVault, org: str) -> None:
    await vault.connect(org)
    for refused, field in (
        (batch(vault, (org, pb.PROVIDER_VAPI), ("Acme", pb.PROVIDER_VAPI)), "org_id"),
        (batch(vault, (org, pb.PROVIDER_VAPI), (org, pb.PROVIDER_UNSPECIFIED)), "provider"),
        (batch_of_owners(vault, assistant(), pb.Resource(resource_id="x")), "kind"),
    ):
        error = await told(refused)
        assert error.reason == "INVALID_REQUEST", error
        assert field in error.fields


async def test_the_version_before_is_readable_for_who_asks_until_its_overlap_ends(
    vault: RunningVault, org: str
) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    access = await vault.access()
    get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI, include_previous=True)
    assert not (await call(access.GetCredential, get)).credential.HasField("previous")
    await vault.connect(org, resource, credential=OTHER_VAPI, expected=1)
    got = (await call(access.GetCredential, get)).credential
    assert (2, OTHER_VAPI, 1, VAPI) == (got.version, got.credential, got.previous.version, got.previous.credential)
    resolve = access_pb.ResolveCredentialRequest(
        kind=resource.kind, resource_id=resource.resource_id, provider=pb.PROVIDER_VAPI, include_previous=True
    )
    assert got == (await call(access.ResolveCredential, resolve)).credential
    for once in (await vault.get(org), await resolved(vault, resource)):
        assert not once.HasField("previous")
    # A disconnect ends both, and a reconnect brings back the one that is current.
    store = await vault.store()
    await call(store.Disconnect, store_pb.DisconnectRequest(org_id=org, provider=pb.PROVIDER_VAPI))
    assert isinstance(await told(call(access.GetCredential, get)), CredentialNotFound)
    await call(store.Reconnect, store_pb.ReconnectRequest(org_id=org, provider=pb.PROVIDER_VAPI))
    got = (await call(access.GetCredential, get)).credential
    assert (2, False) == (got.version, got.HasField("previous"))


async def test_no_overlap_is_no_previous_version(
    vault_environ: dict[str, str], authority: DevelopmentAuthority, org: str
) -> None:
    async with running_vault({**vault_environ, "TENANTVAULT_OVERLAP_SECONDS": "0"}, authority) as vault:
        await vault.connect(org)
        await vault.connect(org, credential=OTHER_VAPI, expected=1)
        get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI, include_previous=True)
        got = (await call((await vault.access()).GetCredential, get)).credential
        assert (2, False) == (got.version, got.HasField("previous"))


async def test_globex_sees_nothing_of_acme_on_any_method(vault: RunningVault, org: str, other_org: str) -> None:
    resource, theirs = assistant(), assistant()
    await vault.connect(org, resource)
    await vault.put(org, OTHER_VAPI, expected=1)
    await vault.connect(other_org, theirs, credential=TWILIO)
    provider = await vault.access("provider")
    store = await vault.store()
    at: dict[str, Any] = {"org_id": other_org, "provider": pb.PROVIDER_VAPI}
    newest = access_pb.GetNewestCredentialRequest(org_id=other_org, provider=pb.PROVIDER_VAPI)
    back = store_pb.RollBackCredentialRequest(**at, version=1, expected_version=2)
    for refused, kind in (
        (vault.get(other_org), CredentialNotFound),
        (call(provider.GetNewestCredential, newest), CredentialNotFound),
        (call(store.Disconnect, store_pb.DisconnectRequest(**at)), CredentialNotFound),
        (call(store.Reconnect, store_pb.ReconnectRequest(**at)), CredentialNotFound),
        (call(store.RecordVerification, store_pb.RecordVerificationRequest(**at, version=1)), CredentialNotFound),
        (call(store.RegisterResources, store_pb.RegisterResourcesRequest(**at, version=2)), VersionConflict),
        (call(store.RollBackCredential, back), CredentialNotFound),
        (call(store.DestroyVersion, store_pb.DestroyVersionRequest(**at, version=2)), VersionNotFound),
        (vault.put(other_org, expected=2), VersionConflict),
        (resolved(vault, theirs), ResourceNotFound),
    ):
        assert isinstance(await told(refused), kind)
    [outcome] = await batch(vault, (other_org, pb.PROVIDER_VAPI))
    assert "CREDENTIAL_NOT_FOUND" == outcome.failure.reason
    versions = status_pb.ListVersionsRequest(**at)
    assert [] == list((await call((await vault.status()).ListVersions, versions)).versions)
    assert {other_org} == {event.org_id for event in await vault.events(other_org)}
    assert [pb.PROVIDER_TWILIO] == [shown.provider for shown in await listed(vault, other_org)]
    assert other_org == (await resolved(vault, theirs, pb.PROVIDER_TWILIO)).org_id
    assert [(1, 2)] == [(shown.version, shown.latest_version) for shown in await listed(vault, org)]
    assert (await vault.get(org)).credential == VAPI


async def test_whatever_globex_asks_and_whoever_asks_for_it_acme_is_in_no_answer_and_as_it_was(
    vault: RunningVault, database: Database
) -> None:
    mark = uuid.uuid4().hex
    org, other_org, resource = f"acme-{mark}", f"globex-{uuid.uuid4().hex[:8]}", assistant(f"assistant-{mark}")
    secret = pb.Credential(vapi=pb.VapiCredential(api_key=f"key-{mark}-9f3e", webhook_secret=f"hook-{mark}"))
    for of, has, credential in ((org, resource, secret), (other_org, assistant(other_org), VAPI)):
        await vault.connect(of, has, credential=credential)
    [key] = await database.admin("SELECT key_id FROM org_keys WHERE org_id = $1", org)
    events = await vault.events(org)
    policy, answers = Policy.read(ServerConfig.from_env(vault.environ, listen="").policy_file), []
    for path, method in METHODS.items():
        answered = 0
        for peer in policy.rows[path]:
            channel = await vault.channel(peer)
            for answer in await everything(channel, method, filled(method, other_org), seconds=1.5):
                answers.append((path, bytes_of(answer)))
                answered += 1
        # Those two say no: the one because it is not confirmed, the other because the version is in use.
        assert answered or path.endswith(("/ShredOrg", "/DestroyVersion")), path
    for path, answer in answers:
        for told_of in (org, mark, "9f3e", key["key_id"]):
            assert told_of.encode() not in answer, path
    assert events == await vault.events(org)
    assert (await vault.get(org)).credential == secret
