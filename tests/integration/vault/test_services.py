"""The vault's services as their callers meet them."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from tenantvault.channel import call
from tenantvault.errors import (
    CredentialNotFound,
    InvalidRequest,
    LeaseHeld,
    ResourceConflict,
    ResourceNotFound,
    TenantVaultError,
    VersionConflict,
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
    waiting_for_locks,
)


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
    events = await database.admin("SELECT action FROM audit_events WHERE org_id = $1 ORDER BY generation", org)
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
    """Counts what the vault's connections are asked."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def watch(self, connection: Any) -> None:
        connection.add_query_logger(lambda query: self.seen.append(query.query))

    async def during(self, awaitable: Any) -> int:
        before = len(self.seen)
        with contextlib.suppress(TenantVaultError):
            await awaitable
        return len(self.seen) - before


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    """To be asked for before the vault is."""
    statements = Statements()
    create_pool: Any = asyncpg.create_pool
    monkeypatch.setattr(
        asyncpg, "create_pool", lambda *given, **named: create_pool(*given, init=statements.watch, **named)
    )
    return statements


async def test_a_read_that_is_not_in_memory_is_one_statement_and_the_next_none(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    assert 1 == await statements.during(vault.get(org))
    assert 0 == await statements.during(vault.get(org))
    assert 1 == await statements.during(resolved(vault, resource))
    request = directory_pb.ResolveOrgRequest(kind=resource.kind, resource_id=resource.resource_id)
    assert 1 == await statements.during(call((await vault.directory()).ResolveOrg, request))


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
        error = await told(resolved(vault, resource, provider))
        answers.add((type(error), error.message, str(error.fields), error.retry_after))
        work.add(await statements.during(resolved(vault, resource, provider)))
    assert {(ResourceNotFound, ResourceNotFound.sentence, "{}", None)} == answers
    assert {1} == work


async def test_globex_sees_nothing_of_acme_on_any_method(vault: RunningVault, org: str, other_org: str) -> None:
    resource, theirs = assistant(), assistant()
    await vault.connect(org, resource)
    await vault.put(org, OTHER_VAPI, expected=1)
    await vault.connect(other_org, theirs, credential=TWILIO)
    provider = await vault.access("provider")
    store = await vault.store()
    at: dict[str, Any] = {"org_id": other_org, "provider": pb.PROVIDER_VAPI}
    newest = access_pb.GetNewestCredentialRequest(org_id=other_org, provider=pb.PROVIDER_VAPI)
    for refused, kind in (
        (vault.get(other_org), CredentialNotFound),
        (call(provider.GetNewestCredential, newest), CredentialNotFound),
        (call(store.Disconnect, store_pb.DisconnectRequest(**at)), CredentialNotFound),
        (call(store.Reconnect, store_pb.ReconnectRequest(**at)), CredentialNotFound),
        (call(store.RecordVerification, store_pb.RecordVerificationRequest(**at, version=1)), CredentialNotFound),
        (call(store.RegisterResources, store_pb.RegisterResourcesRequest(**at, version=2)), VersionConflict),
        (vault.put(other_org, expected=2), VersionConflict),
        (resolved(vault, theirs), ResourceNotFound),
    ):
        assert isinstance(await told(refused), kind)
    assert [pb.PROVIDER_TWILIO] == [shown.provider for shown in await listed(vault, other_org)]
    assert other_org == (await resolved(vault, theirs, pb.PROVIDER_TWILIO)).org_id
    assert [(1, 2)] == [(shown.version, shown.latest_version) for shown in await listed(vault, org)]
    assert (await vault.get(org)).credential == VAPI
