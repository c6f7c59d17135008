"""The vault's services as their callers meet them."""

import uuid

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tenantvault.channel import call
from tenantvault.errors import CredentialNotFound, PermissionDenied
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceStub
from tests.integration.vault.conftest import RunningVault

VAPI = pb.Credential(vapi=pb.VapiCredential(api_key="11111111-2222-3333-4444-555555555555", webhook_secret="hook"))


async def test_a_credential_goes_in_and_comes_out(vault: RunningVault) -> None:
    org = f"org-{uuid.uuid4().hex[:8]}"
    store = IntegrationStoreServiceStub(await vault.channel("provider"))
    access = CredentialAccessServiceStub(await vault.channel("voice-agent"))
    get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    with pytest.raises(CredentialNotFound):
        await call(access.GetCredential, get)
    put = await call(store.PutCredential, store_pb.PutCredentialRequest(org_id=org, credential=VAPI))
    with pytest.raises(CredentialNotFound):
        await call(access.GetCredential, get)
    await call(
        store.RegisterResources,
        store_pb.RegisterResourcesRequest(org_id=org, provider=pb.PROVIDER_VAPI, version=put.version),
    )
    got = await call(access.GetCredential, get)
    assert VAPI == got.credential.credential
    health = health_pb2_grpc.HealthStub(await vault.channel("anybody"))
    assert health_pb2.HealthCheckResponse.SERVING == (await health.Check(health_pb2.HealthCheckRequest())).status
    with pytest.raises(PermissionDenied):
        await call(CredentialAccessServiceStub(await vault.channel("gateway")).GetCredential, get)
