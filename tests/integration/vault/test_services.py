"""The vault's services as their callers meet them."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from deploy.local.authority import DevelopmentAuthority
from services.rpc.middleware import current_call
from services.rpc.peers import Policy
from services.rpc.server import ServerConfig
from services.vault.cache import Counts
from tenantvault.channel import call
from tenantvault.errors import (
    CredentialNotFound,
    InvalidRequest,
    LeaseHeld,
    OAuthStateInvalid,
    PermissionDenied,
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
    GOOGLE,
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

ValueT = TypeVar("ValueT")


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


def google(**changes: Any) -> pb.Credential:
    """A Google account's credential; None takes a field away."""
    changed = pb.Credential.FromString(GOOGLE.SerializeToString())
    for name, value in changes.items():
        changed.google_calendar.ClearField(name)  # type: ignore[arg-type]  # a field's name
        if value is not None:
            setattr(changed.google_calendar, name, value)
    return changed


def schedule(*tasks: "store_pb.Task.ValueType", due_in: int = 0, by_hand: bool = False) -> store_pb.Schedule:
    return store_pb.Schedule(
        work=[store_pb.ScheduledWork(task=task, due_in=Duration(seconds=due_in), by_hand=by_hand) for task in tasks]
    )


def oauth_state(kind: Callable[..., Any], org: str, **changes: Any) -> Any:
    """The request of this kind for an org's one state."""
    whole = {"provider": pb.PROVIDER_GOOGLE_CALENDAR, "state_hash": bytes(range(32)), "binding": bytes(32)}
    return kind(org_id=org, **{**whole, **changes})


async def reported(
    vault: RunningVault, org: str, version: int = 1, provider: "pb.Provider.ValueType" = pb.PROVIDER_VAPI
) -> bool:
    request = access_pb.ReportFailureRequest(
        org_id=org, provider=provider, version=version, on_behalf_of="ada@example.com"
    )
    return (await call((await vault.access()).ReportFailure, request)).test_is_due


async def claimed(vault: RunningVault, org: str, owner: str = "worker") -> list[store_pb.DueWork]:
    """What there is to be taken of an org; what other tests left behind is taken too."""
    request = store_pb.ClaimDueWorkRequest(owner=owner, duration=Duration(seconds=60), max_items=100)
    found: list[store_pb.DueWork] = []
    while taken := (await call((await vault.store()).ClaimDueWork, request)).work:
        found.extend(taken)
    return [each for each in found if each.org_id == org]


async def test_what_the_provider_says_is_shown(vault: RunningVault, org: str) -> None:
    store = await vault.store()
    at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI, "version": 1}
    await vault.put(org)
    register = store_pb.RegisterResourcesRequest(
        **at,
        warnings=["The plan ends soon."],
        account="ada@example.com",
        schedule=schedule(store_pb.TASK_ROTATE, due_in=3600),
    )
    shown = (await call(store.RegisterResources, register)).integration
    assert (["The plan ends soon."], "ada@example.com", "", True) == (
        list(shown.warnings),
        shown.account,
        shown.verification_reason,
        shown.rotates_by_itself,
    )
    assert 3500 < shown.rotation_due_at.seconds - time.time() < 3700
    refusal = store_pb.RecordVerificationRequest(**at, error="Key refused.", reason="INVALID_CREDENTIALS")
    refused = (await call(store.RecordVerification, refusal)).integration
    assert ([], "ada@example.com", "INVALID_CREDENTIALS", "Key refused.") == (
        list(refused.warnings),
        refused.account,
        refused.verification_reason,
        refused.verification_error,
    )
    assert [refused] == await listed(vault, org)


async def test_work_comes_due_is_taken_once_and_given_back(vault: RunningVault, org: str) -> None:
    store = await vault.store()
    await vault.connect(org, schedule=schedule(store_pb.TASK_VERIFY, store_pb.TASK_ROTATE))
    both = await asyncio.gather(*(claimed(vault, org, owner) for owner in ("worker-1", "worker-2")))
    owners = {work.task: number for number, taken in enumerate(both, 1) for work in taken}
    assert {store_pb.TASK_VERIFY, store_pb.TASK_ROTATE} == set(owners)
    assert 2 == sum(map(len, both))
    [work] = [work for taken in both for work in taken if work.task == store_pb.TASK_VERIFY]
    assert (pb.PROVIDER_VAPI, 1, "", True) == (work.provider, work.attempts, work.progress, work.HasField("due_at"))

    at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI, "task": store_pb.TASK_VERIFY}
    mine, theirs = f"worker-{owners[store_pb.TASK_VERIFY]}", f"worker-{3 - owners[store_pb.TASK_VERIFY]}"
    for request in (
        store_pb.KeepProgressRequest(**at, owner=theirs, progress="half"),
        store_pb.FinishWorkRequest(**at, owner=theirs, due_in=Duration(seconds=60)),
    ):
        method = store.KeepProgress if isinstance(request, store_pb.KeepProgressRequest) else store.FinishWork
        assert isinstance(await told(call(method, request)), LeaseHeld)
    await call(store.KeepProgress, store_pb.KeepProgressRequest(**at, owner=mine, progress="half"))
    finish = store_pb.FinishWorkRequest(**at, owner=mine, due_in=Duration(), failed=True, progress="half")
    await call(store.FinishWork, finish)
    [again] = await claimed(vault, org)
    assert (store_pb.TASK_VERIFY, 2, "half") == (again.task, again.attempts, again.progress)
    by_hand = store_pb.FinishWorkRequest(**at, owner="worker", due_in=Duration(), by_hand=True)
    await call(store.FinishWork, by_hand)
    assert [] == await claimed(vault, org)


async def test_without_a_number_one_piece_of_work_is_taken(vault: RunningVault, org: str) -> None:
    await vault.connect(org, schedule=schedule(store_pb.TASK_VERIFY, store_pb.TASK_ROTATE))
    request = store_pb.ClaimDueWorkRequest(owner="worker", duration=Duration(seconds=60))
    assert 1 == len((await call((await vault.store()).ClaimDueWork, request)).work)


async def test_of_a_hundred_who_report_a_failure_one_makes_a_test_due(
    vault: RunningVault, database: Database, org: str
) -> None:
    await vault.connect(org, schedule=schedule(store_pb.TASK_VERIFY, due_in=86_400))
    assert not await reported(vault, org)
    await database.admin(
        "UPDATE org_credentials SET last_verified_at = last_verified_at - interval '2 minutes' WHERE org_id = $1", org
    )
    assert 1 == sum(await asyncio.gather(*(reported(vault, org) for _ in range(100))))
    [event] = await vault.events(org, "credential.report_failure")
    assert ("voice-agent", "ada@example.com", pb.PROVIDER_VAPI, 1, 0) == (
        event.peer,
        event.on_behalf_of,
        pb.Provider.Value(f"PROVIDER_{event.provider.upper()}"),
        event.version,
        event.generation,
    )
    assert [store_pb.TASK_VERIFY] == [work.task for work in await claimed(vault, org)]
    # Nothing that was remembered is old because of it.
    assert ("", 3) == ((verdict := await vault.verdict(org)).problem, verdict.events)


async def test_whether_there_is_such_an_org_or_credential_a_report_does_not_tell(
    vault: RunningVault, database: Database, org: str, other_org: str
) -> None:
    await vault.connect(org, schedule=schedule(store_pb.TASK_VERIFY, due_in=86_400))
    for of, version, provider in (
        (other_org, 1, pb.PROVIDER_VAPI),
        (org, 2, pb.PROVIDER_VAPI),
        (org, 1, pb.PROVIDER_TWILIO),
        (org, 1, pb.PROVIDER_VAPI),
    ):
        assert not await reported(vault, of, version, provider)
    assert [] == await database.admin("SELECT FROM orgs WHERE org_id = $1", other_org)
    assert [] == await vault.events(other_org)


async def test_an_access_token_is_refreshed_in_place_for_everybody_at_once(
    vault: RunningVault, vault_environ: dict[str, str], authority: DevelopmentAuthority, org: str
) -> None:
    store, google_calendar = await vault.store(), pb.PROVIDER_GOOGLE_CALENDAR
    await vault.connect(org, credential=GOOGLE)
    [before] = await listed(vault, org)
    assert "••••7777" == before.hint
    fresh = google(access_token="ya29.access-token-2", refresh_token="1//refresh-token-2")
    fresh.google_calendar.expires_at.seconds += 3600
    request = store_pb.RefreshCredentialRequest(org_id=org, credential=fresh, version=1, lease_owner="worker")
    assert isinstance(await told(call(store.RefreshCredential, request)), LeaseHeld)
    lease = store_pb.AcquireLeaseRequest(
        org_id=org, provider=google_calendar, owner="worker", duration=Duration(seconds=60)
    )
    await call(store.AcquireLease, lease)
    settings = {**vault_environ, "TENANTVAULT_AUDIT_SPOOL": f"{vault_environ['TENANTVAULT_AUDIT_SPOOL']}-2"}
    async with running_vault(settings, authority) as other:
        assert (
            GOOGLE
            == (await other.get(org, google_calendar)).credential
            == (await vault.get(org, google_calendar)).credential
        )
        await call(store.RefreshCredential, request)
        for each in (vault, other):
            got = await each.get(org, google_calendar)
            assert (1, 3, fresh) == (got.version, got.generation, got.credential)
    assert [before] == await listed(vault, org)
    newest = access_pb.GetNewestCredentialRequest(org_id=org, provider=google_calendar)
    assert fresh == (await call((await vault.access("provider")).GetNewestCredential, newest)).credential.credential
    request.version = 2
    assert isinstance(await told(call(store.RefreshCredential, request)), VersionConflict)
    assert ["credential.refresh"] == [event.action for event in await vault.events(org, "credential.refresh")]


@pytest.mark.parametrize("changes", [{"channel_token": "another"}, {"email": "eve@example.com"}], ids=str)
async def test_nothing_but_the_tokens_and_the_end_of_one_is_refreshed(
    vault: RunningVault, org: str, changes: dict[str, str]
) -> None:
    store = await vault.store()
    await vault.connect(org, credential=GOOGLE)
    lease = store_pb.AcquireLeaseRequest(
        org_id=org, provider=pb.PROVIDER_GOOGLE_CALENDAR, owner="worker", duration=Duration(seconds=60)
    )
    await call(store.AcquireLease, lease)
    request = store_pb.RefreshCredentialRequest(
        org_id=org, credential=google(**changes), version=1, lease_owner="worker"
    )
    refused = await told(call(store.RefreshCredential, request))
    assert isinstance(refused, InvalidRequest)
    assert "Only the tokens and the access token's end may differ from what is stored: connect anew." == refused.message
    assert GOOGLE == (await vault.get(org, pb.PROVIDER_GOOGLE_CALENDAR)).credential


async def test_a_credential_without_access_tokens_is_not_refreshed(vault: RunningVault, org: str) -> None:
    request = store_pb.RefreshCredentialRequest(org_id=org, credential=VAPI, version=1, lease_owner="worker")
    for peer in ("provider", "voice-agent"):
        refused = await told(call((await vault.store(peer)).RefreshCredential, request))
        assert isinstance(refused, PermissionDenied)


async def test_a_consent_comes_back_once_to_the_session_that_it_was_begun_in(
    vault: RunningVault, database: Database, org: str
) -> None:
    store = await vault.store()
    keep = oauth_state(store_pb.KeepOAuthStateRequest, org, duration=Duration(seconds=600))
    use = oauth_state(store_pb.UseOAuthStateRequest, org)
    elsewhere = oauth_state(store_pb.UseOAuthStateRequest, org, binding=bytes(range(1, 33)))
    assert isinstance(await told(call(store.UseOAuthState, use)), OAuthStateInvalid)
    await call(store.KeepOAuthState, keep)
    await call(store.UseOAuthState, use)
    assert isinstance(await told(call(store.UseOAuthState, use)), OAuthStateInvalid)
    await call(store.KeepOAuthState, keep)
    assert isinstance(await told(call(store.UseOAuthState, elsewhere)), OAuthStateInvalid)
    assert isinstance(await told(call(store.UseOAuthState, use)), OAuthStateInvalid)
    await call(store.KeepOAuthState, keep)
    await database.admin("UPDATE oauth_states SET expires_at = now() WHERE org_id = $1", org)
    assert isinstance(await told(call(store.UseOAuthState, use)), OAuthStateInvalid)


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
    "a refresh of what has no access token": lambda org: (
        "RefreshCredential",
        store_pb.RefreshCredentialRequest(
            org_id=org, credential=google(expires_at=None), version=1, lease_owner="worker"
        ),
    ),
    "a refresh without a lease": lambda org: (
        "RefreshCredential",
        store_pb.RefreshCredentialRequest(org_id=org, credential=GOOGLE, version=1),
    ),
    "work without an owner": lambda _: ("ClaimDueWork", store_pb.ClaimDueWorkRequest(duration=Duration(seconds=1))),
    "work for ever": lambda _: (
        "ClaimDueWork",
        store_pb.ClaimDueWorkRequest(owner="w", duration=Duration(seconds=301)),
    ),
    "too much work": lambda _: (
        "ClaimDueWork",
        store_pb.ClaimDueWorkRequest(owner="w", duration=Duration(seconds=1), max_items=101),
    ),
    "progress that is too long": lambda org: (
        "KeepProgress",
        store_pb.KeepProgressRequest(
            org_id=org, provider=pb.PROVIDER_VAPI, task=store_pb.TASK_VERIFY, owner="w", progress="p" * 257
        ),
    ),
    "work that is due again nobody knows when": lambda org: (
        "FinishWork",
        store_pb.FinishWorkRequest(org_id=org, provider=pb.PROVIDER_VAPI, task=store_pb.TASK_VERIFY, owner="w"),
    ),
    "a task twice": lambda org: (
        "RegisterResources",
        store_pb.RegisterResourcesRequest(
            org_id=org,
            provider=pb.PROVIDER_VAPI,
            version=1,
            schedule=schedule(store_pb.TASK_VERIFY, store_pb.TASK_VERIFY),
        ),
    ),
    "too many warnings": lambda org: (
        "RegisterResources",
        store_pb.RegisterResourcesRequest(
            org_id=org, provider=pb.PROVIDER_VAPI, version=1, warnings=["Soon over."] * 21
        ),
    ),
    "a reason that is none": lambda org: (
        "RecordVerification",
        store_pb.RecordVerificationRequest(
            org_id=org, provider=pb.PROVIDER_VAPI, version=1, error="No.", reason="no reason"
        ),
    ),
    "a state that is no hash": lambda org: (
        "KeepOAuthState",
        oauth_state(store_pb.KeepOAuthStateRequest, org, duration=Duration(seconds=60), state_hash=b"short"),
    ),
    "a state for an hour": lambda org: (
        "KeepOAuthState",
        oauth_state(store_pb.KeepOAuthStateRequest, org, duration=Duration(seconds=3600)),
    ),
    "a binding that is no hash": lambda org: (
        "UseOAuthState",
        oauth_state(store_pb.UseOAuthStateRequest, org, binding=bytes(33)),
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
        self.vault: RunningVault

    async def watch(self, connection: Any) -> None:
        connection.add_query_logger(self._see)

    async def are(self, number: int, *, during: Awaitable[ValueT]) -> ValueT:
        """Await something that has to be so many statements; when it is not, tell them, and why they may have been."""
        began, before, counts = time.monotonic(), len(self.seen), self._counts()
        try:
            answer = await during
        except Exception as error:
            error.add_note(self._told(began, before, counts))
            raise
        made = len(self.seen) - before
        assert number == made, self._told(began, before, counts)
        return answer

    def _told(self, began: float, before: int, counts: dict[str, float]) -> str:
        now, sync = time.monotonic(), self.vault.sync
        cache = {outcome: number - counts[outcome] for outcome, number in self._counts().items()}
        return (
            f"{self.seen[before:]} in {now - began:.2f} s; the cache did {cache};"
            f" in sync {now - sync.synced_at:.2f} s ago, and for {sync.fresh_until - now:.2f} s;"
            f" the database is {'away' if sync.away else 'there'}"
        )

    def _counts(self) -> dict[str, float]:
        return {name: self.vault.count("tenantvault_cache_reads", name) for name in Counts.__dataclass_fields__}

    def _see(self, query: Any) -> None:
        with contextlib.suppress(LookupError):
            current_call()
            self.seen.append(query.query)


@pytest.fixture
async def vault(
    vault_environ: dict[str, str], authority: DevelopmentAuthority, statements: Statements
) -> AsyncIterator[RunningVault]:
    """It hears of changes, without which it serves nothing from memory, however slow the machine is."""
    async with running_vault({**vault_environ, "TENANTVAULT_RECONCILE_SECONDS": "60"}, authority) as running:
        watch = (await running.access()).WatchChanges(access_pb.WatchChangesRequest(), timeout=60)
        async for told in watch:
            if told.HasField("heartbeat"):
                break
        watch.cancel()
        statements.vault = running
        yield running


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    with pytest.raises(LookupError):
        # One that another test left behind would have what is done in the background counted too.
        current_call()
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
    await statements.are(1, during=vault.get(org))
    await statements.are(0, during=vault.get(org))
    await statements.are(0, during=batch(vault, (org, pb.PROVIDER_VAPI)))
    assert (await vault.get(org)).resources == [resource]


async def test_a_resolve_that_is_not_in_memory_is_one_statement_and_whatever_it_read_is_none_from_then_on(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    await vault.connect(org, credential=TWILIO)
    await statements.are(1, during=resolved(vault, resource, pb.PROVIDER_TWILIO))
    await statements.are(0, during=resolved(vault, resource, pb.PROVIDER_TWILIO))
    await statements.are(0, during=owner(vault, resource))
    await statements.are(0, during=vault.get(org, pb.PROVIDER_TWILIO))
    # The directory knows the org by now; of its other credential nothing was read yet.
    await statements.are(1, during=resolved(vault, resource))
    await statements.are(0, during=resolved(vault, resource))


async def test_an_owner_that_is_not_in_memory_is_one_statement_and_the_next_none(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    await vault.connect(org, resource := assistant())
    await statements.are(1, during=owner(vault, resource))
    await statements.are(0, during=owner(vault, resource))
    await statements.are(0, during=batch_of_owners(vault, resource))


async def test_a_thousand_credentials_that_are_not_in_memory_are_one_statement_and_the_next_time_none(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    there = [f"{org}-{number}" for number in range(8)]
    await asyncio.gather(*(vault.connect(of) for of in there))
    missing = [f"{org}-x{number}" for number in range(992)]
    keys = [(of, pb.PROVIDER_VAPI) for of in (*there, *missing)]
    await statements.are(1, during=batch(vault, *keys))
    await statements.are(0, during=batch(vault, *keys[:8] * 125))


async def test_a_thousand_owners_that_are_not_in_memory_are_one_statement_and_the_next_time_none(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    there = [assistant() for _ in range(100)]
    await vault.connect(org, *there)
    await statements.are(1, during=batch_of_owners(vault, *there, *(assistant() for _ in range(900))))
    await statements.are(0, during=batch_of_owners(vault, *there * 10))


async def test_what_is_not_there_is_not_asked_for_again_at_once(
    statements: Statements, vault: RunningVault, org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 0):
        assert isinstance(await statements.are(number, during=told(vault.get(org))), CredentialNotFound)
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
        await statements.are(1, during=call(access.GetCredential, get))
        await statements.are(1, during=call(access.ResolveCredential, resolve))
    get.max_staleness.CopyFrom(Duration(seconds=-1))
    assert "max_staleness" in (await told(call(access.GetCredential, get))).fields


async def test_a_hundred_reads_at_once_of_what_is_not_in_memory_are_one_statement(
    statements: Statements, vault: RunningVault, org: str
) -> None:
    await vault.connect(org)
    await statements.are(1, during=asyncio.gather(*(vault.get(org) for _ in range(100))))


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
    answers = set()
    for resource, provider in asked.values():
        await statements.are(1, during=told(resolved(vault, resource, provider)))
        # Once more, from memory.
        error = await told(resolved(vault, resource, provider))
        answers.add((type(error), error.message, str(error.fields), error.retry_after))
    assert {(ResourceNotFound, ResourceNotFound.sentence, "{}", None)} == answers


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
    await call(store.KeepOAuthState, oauth_state(store_pb.KeepOAuthStateRequest, org, duration=Duration(seconds=60)))
    work: dict[str, Any] = {"task": store_pb.TASK_VERIFY, "owner": "worker"}
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
        (call(store.UseOAuthState, oauth_state(store_pb.UseOAuthStateRequest, other_org)), OAuthStateInvalid),
        (call(store.FinishWork, store_pb.FinishWorkRequest(**at, **work, due_in=Duration())), LeaseHeld),
        (call(store.KeepProgress, store_pb.KeepProgressRequest(**at, **work)), LeaseHeld),
    ):
        assert isinstance(await told(refused), kind)
    assert not await reported(vault, other_org)
    [outcome] = await batch(vault, (other_org, pb.PROVIDER_VAPI))
    assert "CREDENTIAL_NOT_FOUND" == outcome.failure.reason
    versions = status_pb.ListVersionsRequest(**at)
    assert [] == list((await call((await vault.status()).ListVersions, versions)).versions)
    assert {other_org} == {event.org_id for event in await vault.events(other_org)}
    assert [pb.PROVIDER_TWILIO] == [shown.provider for shown in await listed(vault, other_org)]
    assert other_org == (await resolved(vault, theirs, pb.PROVIDER_TWILIO)).org_id
    assert [(1, 2)] == [(shown.version, shown.latest_version) for shown in await listed(vault, org)]
    assert (await vault.get(org)).credential == VAPI
    await vault.events_when(org, "credential.get", 1)
    await vault.events_when(other_org, "credential.resolve", 1)
    for of, whose in ((org, pb.PROVIDER_VAPI), (other_org, pb.PROVIDER_TWILIO)):
        counted = await call((await vault.status()).CountReads, status_pb.CountReadsRequest(org_id=of))
        assert [(whose, 1)] == [(count.provider, count.reads) for count in counted.counts]


async def test_whatever_globex_asks_and_whoever_asks_for_it_acme_is_in_no_answer_and_as_it_was(
    vault: RunningVault, database: Database
) -> None:
    mark = uuid.uuid4().hex
    org, other_org, resource = f"acme-{mark}", f"globex-{uuid.uuid4().hex[:8]}", assistant(f"assistant-{mark}")
    secret = pb.Credential(vapi=pb.VapiCredential(api_key=f"key-{mark}-kqzv", webhook_secret=f"hook-{mark}"))
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
        # Those say no: not confirmed, a version in use, no such credential, work that nobody has.
        says_no = ("/ShredOrg", "/DestroyVersion", "/RefreshCredential", "/KeepProgress", "/FinishWork")
        assert answered or path.endswith(says_no), path
    for path, answer in answers:
        for told_of in (org, mark, "kqzv", key["key_id"]):
            assert told_of.encode() not in answer, path
    assert events == await vault.events(org)
    assert (await vault.get(org)).credential == secret
