"""The vault, as this process calls it: an adapter over gRPC to the ports of `lease`, `connect` and `lifecycle`."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from services.provider.integration import Integration
from services.provider.messages import integration_from_message
from services.rpc.middleware import current_call
from services.rpc.server import NotReady
from tenantvault.channel import call
from tenantvault.credentials import ActiveCredential, Credential, Provider, Resource
from tenantvault.errors import CredentialNotFound, CredentialUnreadable, TenantVaultError
from tenantvault.messages import PROVIDER_NUMBER, active_from_message, credential_to_message, resources_to_messages
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import status_service_pb2 as status
from tenantvault.v1 import store_service_pb2 as store
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.status_service_pb2_grpc import IntegrationStatusServiceStub
from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceStub

ResponseT = TypeVar("ResponseT")


class GrpcVault:
    """Calls the vault over one channel. Every method raises a `TenantVaultError`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._access = CredentialAccessServiceStub(channel)
        self._store = IntegrationStoreServiceStub(channel)
        self._status = IntegrationStatusServiceStub(channel)
        self._health = HealthStub(channel)

    async def check(self) -> None:
        """Raise NotReady unless the vault serves: nothing can be done without it."""
        try:
            answer = await call(self._health.Check, HealthCheckRequest())
        except TenantVaultError as error:
            raise NotReady(f"the vault does not answer ({error.reason})") from None
        if answer.status != HealthCheckResponse.SERVING:
            raise NotReady("the vault is not serving")

    async def integration(self, org_id: str, provider: Provider) -> Integration:
        """See `connect.Vault`."""
        response = await self._call(self._status.ListIntegrations, status.ListIntegrationsRequest(org_id=org_id))
        for message in response.integrations:
            if message.provider == PROVIDER_NUMBER[provider]:
                return integration_from_message(message)
        return Integration(provider=provider)

    async def credential(self, org_id: str, provider: Provider) -> ActiveCredential[Credential]:
        """See `lifecycle.Vault`."""
        request = access.GetCredentialRequest(org_id=org_id, provider=PROVIDER_NUMBER[provider])
        response = await self._call(self._access.GetCredential, request)
        return active_from_message(response.credential)

    async def newest_credential(self, org_id: str, provider: Provider) -> Credential | None:
        """See `connect.Vault`. One that is damaged is none: connecting anew is how that is mended."""
        request = access.GetNewestCredentialRequest(org_id=org_id, provider=PROVIDER_NUMBER[provider])
        try:
            response = await self._call(self._access.GetNewestCredential, request)
        except (CredentialNotFound, CredentialUnreadable):
            return None
        return active_from_message(response.credential).credential

    async def put(self, org_id: str, credential: Credential, *, expected_version: int, on_behalf_of: str) -> int:
        """See `connect.Vault`."""
        request = store.PutCredentialRequest(
            org_id=org_id,
            credential=credential_to_message(credential),
            expected_version=expected_version,
            origin=store.Origin(on_behalf_of=on_behalf_of),
        )
        response = await self._call(self._store.PutCredential, request)
        return int(response.version)

    async def register(
        self,
        org_id: str,
        provider: Provider,
        *,
        version: int,
        resources: tuple[Resource, ...],
        lease_owner: str,
        on_behalf_of: str,
    ) -> Integration:
        """See `connect.Vault`."""
        request = store.RegisterResourcesRequest(
            org_id=org_id,
            provider=PROVIDER_NUMBER[provider],
            version=version,
            resources=resources_to_messages(resources),
            lease_owner=lease_owner,
            origin=store.Origin(on_behalf_of=on_behalf_of),
        )
        response = await self._call(self._store.RegisterResources, request)
        return integration_from_message(response.integration)

    async def record_verification(
        self, org_id: str, provider: Provider, *, version: int, error: str, on_behalf_of: str
    ) -> Integration:
        """See `lifecycle.Vault`."""
        request = store.RecordVerificationRequest(
            org_id=org_id,
            provider=PROVIDER_NUMBER[provider],
            version=version,
            error=error,
            origin=store.Origin(on_behalf_of=on_behalf_of),
        )
        response = await self._call(self._store.RecordVerification, request)
        return integration_from_message(response.integration)

    async def disconnect(self, org_id: str, provider: Provider, *, on_behalf_of: str) -> Integration:
        """See `lifecycle.Vault`."""
        request = store.DisconnectRequest(
            org_id=org_id, provider=PROVIDER_NUMBER[provider], origin=store.Origin(on_behalf_of=on_behalf_of)
        )
        response = await self._call(self._store.Disconnect, request)
        return integration_from_message(response.integration)

    async def reconnect(self, org_id: str, provider: Provider, *, on_behalf_of: str) -> Integration:
        """See `lifecycle.Vault`."""
        request = store.ReconnectRequest(
            org_id=org_id, provider=PROVIDER_NUMBER[provider], origin=store.Origin(on_behalf_of=on_behalf_of)
        )
        response = await self._call(self._store.Reconnect, request)
        return integration_from_message(response.integration)

    async def acquire_lease(self, org_id: str, provider: Provider, *, owner: str, seconds: float) -> None:
        """See `lease.LeaseStore`."""
        duration = Duration()
        duration.FromMilliseconds(round(seconds * 1000))
        request = store.AcquireLeaseRequest(
            org_id=org_id, provider=PROVIDER_NUMBER[provider], owner=owner, duration=duration
        )
        await self._call(self._store.AcquireLease, request)

    async def release_lease(self, org_id: str, provider: Provider, *, owner: str) -> None:
        """See `lease.LeaseStore`."""
        request = store.ReleaseLeaseRequest(org_id=org_id, provider=PROVIDER_NUMBER[provider], owner=owner)
        await self._call(self._store.ReleaseLease, request)

    async def _call(self, method: Callable[..., Awaitable[ResponseT]], request: Message) -> ResponseT:
        return await call(method, request, request_id=current_call().request_id)
