"""Who may call what on a vault that runs, method by method, as the contract's descriptors list them."""

from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deploy.local.authority import DevelopmentAuthority
from services.rpc.peers import Policy
from services.rpc.server import ServerConfig, _contract
from tenantvault.channel import call
from tenantvault.errors import PermissionDenied, TenantVaultError
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tests.integration.vault.conftest import TWILIO, Journal, RunningVault, running_vault
from tests.integration.vault.contract import METHODS, PLAINTEXT, VAULT_SERVICES, filled, holds_plaintext, stub

PEERS = ("gateway", "operator", "provider", "voice-agent", "webhook-processor")


def test_plaintext_leaves_through_the_access_service_and_nothing_else() -> None:
    assert {
        "/tenantvault.v1.CredentialAccessService/" + name
        for name in ("GetCredential", "GetNewestCredential", "BatchGetCredentials", "ResolveCredential")
    } == set(PLAINTEXT)
    everywhere = {service for service in _contract() if service.startswith("tenantvault.")}
    for name in everywhere - {"tenantvault.v1.CredentialAccessService"}:
        for method in Default().FindServiceByName(name).methods:
            assert not holds_plaintext(method.output_type), method.full_name


SECRETS = {
    "VapiCredential": {"api_key", "webhook_secret"},
    "TwilioCredential": {"auth_token", "api_key_secret", "webhook_shared_key"},
    # A URL may hold a password.
    "TwilioWebhook": {"voice_url", "sms_url"},
    "GoogleCalendarCredential": {"refresh_token", "access_token", "channel_token"},
    "ResendCredential": {"api_key", "webhook_secret"},
    "ElevenLabsCredential": {"api_key", "webhook_secret"},
}


def test_every_secret_of_the_contract_is_marked() -> None:
    found: dict[str, set[str]] = {}
    waiting = [pb.Credential.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        waiting.extend(
            part.message_type
            for part in message.fields
            if part.message_type is not None and part.message_type.file is message.file
        )
        if message is not pb.Credential.DESCRIPTOR:
            found[message.name] = {part.name for part in message.fields if part.GetOptions().debug_redact}
    assert found == SECRETS


@pytest.mark.parametrize("method", PLAINTEXT)
async def test_the_gateway_gets_no_plaintext(vault: RunningVault, journal: Journal, org: str, method: str) -> None:
    await vault.connect(org)
    channel = await vault.channel("gateway")
    for request in (filled(METHODS[method], org), GetMessageClass(METHODS[method].input_type)()):
        with pytest.raises(PermissionDenied) as refused:
            await call(stub(channel, METHODS[method]), request)
        assert "gateway may not do that. The operator's policy decides." == refused.value.message
    denied = [event for event in journal.events("call") if event["code"] == "PERMISSION_DENIED"]
    assert [(method, "gateway")] * 2 == [(event["rpc"], event["peer"]) for event in denied]


def test_every_peer_of_the_shipped_policy_is_tried_here(vault_environ: dict[str, str]) -> None:
    policy = Policy.read(ServerConfig.from_env(vault_environ, listen="").policy_file)
    assert set(PEERS) == {peer for method in METHODS for peer in policy.rows[method]}


def test_the_operator_is_who_administers_and_gets_no_plaintext(vault_environ: dict[str, str]) -> None:
    policy = Policy.read(ServerConfig.from_env(vault_environ, listen="").policy_file)
    for name, method in METHODS.items():
        administers = method.containing_service.full_name == "tenantvault.v1.VaultAdminService"
        if administers:
            assert {"operator"} == set(policy.rows[name]), name
        if name in PLAINTEXT:
            assert "operator" not in policy.rows[name], name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("peer", ["stranger", "gateway-2"])
async def test_a_peer_that_is_in_no_row_may_call_nothing(vault: RunningVault, org: str, peer: str, method: str) -> None:
    with pytest.raises(PermissionDenied):
        await call(stub(await vault.channel(peer), METHODS[method]), filled(METHODS[method], org))


@pytest.mark.parametrize("method", METHODS)
async def test_every_peer_may_do_what_its_row_says_and_nothing_else(vault: RunningVault, org: str, method: str) -> None:
    policy = Policy.read(ServerConfig.from_env(vault.environ, listen="").policy_file)
    provider = "google_calendar" if method.endswith("/RefreshCredential") else "vapi"
    # Something that a watch begins with.
    await vault.put(org)
    for peer in PEERS:
        try:
            await call(stub(await vault.channel(peer), METHODS[method]), filled(METHODS[method], org))
        except PermissionDenied:
            allowed = False
        except TenantVaultError:
            allowed = True
        else:
            allowed = True
        assert policy.allows(method, peer, provider) is allowed, peer


async def test_whoever_has_a_certificate_may_ask_for_health(vault: RunningVault) -> None:
    health = health_pb2_grpc.HealthStub(await vault.channel("anybody"))
    for service in ("", *VAULT_SERVICES):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        assert health_pb2.HealthCheckResponse.SERVING == answer.status
    listed = await health.List(health_pb2.HealthListRequest(), timeout=5)
    assert {"", *VAULT_SERVICES} == set(listed.statuses)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await health.Check(health_pb2.HealthCheckRequest(service="tenantvault.v1.Other"), timeout=5)
    assert grpc.StatusCode.NOT_FOUND is refused.value.code()


async def reflected(vault: RunningVault) -> set[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(await vault.channel("anybody"))
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    async for answer in stub.ServerReflectionInfo(asked, timeout=5):
        return {service.name for service in answer.list_services_response.service}
    return set()


async def test_the_local_profile_tells_what_it_serves(vault: RunningVault) -> None:
    assert set(VAULT_SERVICES) | {"grpc.reflection.v1alpha.ServerReflection"} == await reflected(vault)


async def test_in_production_it_does_not(vault_environ: dict[str, str], authority: DevelopmentAuthority) -> None:
    production = {name: value for name, value in vault_environ.items() if name != "TENANTVAULT_PROFILE"}
    async with running_vault(production, authority) as vault:
        ask: Any = (await vault.channel("anybody")).unary_unary(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(b"", timeout=5)
        assert grpc.StatusCode.UNIMPLEMENTED is refused.value.code()


@pytest.fixture
def twilio_only(vault_environ: dict[str, str], tmp_path: Any) -> dict[str, str]:
    """A policy by which the voice agent gets Twilio's credentials and no others."""
    shipped = ServerConfig.from_env(vault_environ, listen="").policy_file.read_text()
    own, replaced = tmp_path / "policy.toml", shipped
    for row, beginning in (("GetCredential", 'provider = "*", '), ("BatchGetCredentials", "")):
        line = f'{row} = {{ {beginning}voice-agent = "*"'
        assert 1 == replaced.count(f"\n{line}")
        replaced = replaced.replace(f"\n{line}", f'\n{row} = {{ {beginning}voice-agent = ["twilio"]')
    own.write_text(replaced)
    return {**vault_environ, "TENANTVAULT_POLICY_FILE": str(own)}


async def test_a_policy_of_ones_own_is_the_one_that_counts(
    twilio_only: dict[str, str], authority: DevelopmentAuthority, org: str
) -> None:
    async with running_vault(twilio_only, authority) as vault:
        await vault.connect(org)
        with pytest.raises(PermissionDenied) as refused:
            await vault.get(org)
        assert "voice-agent may not do that. The operator's policy decides." == refused.value.message
        with pytest.raises(TenantVaultError) as missing:
            await vault.get(org, pb.PROVIDER_TWILIO)
        assert "CREDENTIAL_NOT_FOUND" == missing.value.reason


async def test_a_batch_with_one_provider_too_many_is_denied_as_a_whole(
    twilio_only: dict[str, str], authority: DevelopmentAuthority, org: str
) -> None:
    async with running_vault(twilio_only, authority) as vault:
        await vault.connect(org, credential=TWILIO)
        access = await vault.access()
        wanted = [access_pb.CredentialKey(org_id=org, provider=pb.PROVIDER_TWILIO)]
        allowed = await call(access.BatchGetCredentials, access_pb.BatchGetCredentialsRequest(keys=wanted))
        assert [TWILIO] == [outcome.credential.credential for outcome in allowed.outcomes]
        for more in (pb.PROVIDER_VAPI, pb.PROVIDER_UNSPECIFIED):
            keys = [*wanted, access_pb.CredentialKey(org_id=org, provider=more), *wanted]
            with pytest.raises(PermissionDenied):
                await call(access.BatchGetCredentials, access_pb.BatchGetCredentialsRequest(keys=keys))
        with pytest.raises(PermissionDenied):
            await call(access.BatchGetCredentials, access_pb.BatchGetCredentialsRequest())
        # None of what was denied was read.
        [read] = await vault.events_when(org, "credential.get", 1)
        assert "twilio" == read.provider
