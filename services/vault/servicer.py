"""The vault's gRPC services: what comes in is checked and handed to the keeper, what goes out is put into messages."""

from services.rpc.middleware import Context
from services.vault import wire
from services.vault.keeper import Keeper, Store
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import access_service_pb2_grpc as access_grpc
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import directory_service_pb2_grpc as directory_grpc
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import status_service_pb2_grpc as status_grpc
from tenantvault.v1 import store_service_pb2 as store_pb
from tenantvault.v1 import store_service_pb2_grpc as store_grpc


class AccessServicer(access_grpc.CredentialAccessServiceServicer):
    """Hands out plaintext."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def GetCredential(
        self, request: access_pb.GetCredentialRequest, context: Context
    ) -> access_pb.GetCredentialResponse:
        """The active credential."""
        plaintext = await self._keeper.get(wire.org_from(request.org_id), wire.provider_from(request.provider))
        response = access_pb.GetCredentialResponse()
        wire.fill_active(response.credential, plaintext)
        return response

    async def GetNewestCredential(
        self, request: access_pb.GetNewestCredentialRequest, context: Context
    ) -> access_pb.GetNewestCredentialResponse:
        """The newest version, active or not."""
        plaintext = await self._keeper.get_newest(wire.org_from(request.org_id), wire.provider_from(request.provider))
        response = access_pb.GetNewestCredentialResponse()
        wire.fill_active(response.credential, plaintext)
        return response

    async def ResolveCredential(
        self, request: access_pb.ResolveCredentialRequest, context: Context
    ) -> access_pb.ResolveCredentialResponse:
        """The credential of the org that has a resource."""
        kind, resource_id = wire.resource_key_from(request.kind, request.resource_id)
        provider = wire.provider_from(request.provider)
        plaintext = await self._keeper.resolve_credential(kind, resource_id, provider)
        response = access_pb.ResolveCredentialResponse()
        wire.fill_active(response.credential, plaintext)
        return response


class DirectoryServicer(directory_grpc.OrgDirectoryServiceServicer):
    """Tells whose a resource is."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def ResolveOrg(
        self, request: directory_pb.ResolveOrgRequest, context: Context
    ) -> directory_pb.ResolveOrgResponse:
        """The org that has a resource."""
        mapping = await self._keeper.resolve(*wire.resource_key_from(request.kind, request.resource_id))
        return directory_pb.ResolveOrgResponse(org_id=mapping.org_id, role=mapping.resource.role)


class StatusServicer(status_grpc.IntegrationStatusServiceServicer):
    """Shows integrations, without plaintext."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def ListIntegrations(
        self, request: status_pb.ListIntegrationsRequest, context: Context
    ) -> status_pb.ListIntegrationsResponse:
        """The org's integrations, in the order of the contract's enum."""
        integrations = await self._store.integrations(wire.org_from(request.org_id))
        messages = sorted(map(wire.integration_message, integrations), key=lambda message: message.provider)
        return status_pb.ListIntegrationsResponse(integrations=messages)


class StoreServicer(store_grpc.IntegrationStoreServiceServicer):
    """Changes what is stored."""

    def __init__(self, keeper: Keeper, store: Store) -> None:
        self._keeper = keeper
        self._store = store

    async def PutCredential(
        self, request: store_pb.PutCredentialRequest, context: Context
    ) -> store_pb.PutCredentialResponse:
        """Store a new version."""
        provider, payload, hint = wire.payload_from(request.credential)
        version = await self._keeper.put(
            wire.org_from(request.org_id),
            provider,
            payload,
            hint,
            expected_version=wire.version_from(request.expected_version, at_least=0),
            origin=wire.origin_from(request.origin),
        )
        return store_pb.PutCredentialResponse(version=version)

    async def RegisterResources(
        self, request: store_pb.RegisterResourcesRequest, context: Context
    ) -> store_pb.RegisterResourcesResponse:
        """Make a version active, with what was provisioned."""
        integration = await self._keeper.activate(
            wire.org_from(request.org_id),
            wire.provider_from(request.provider),
            wire.version_from(request.version),
            wire.resources_from(request.resources),
            wire.origin_from(request.origin),
            lease_owner=request.lease_owner and wire.owner_from(request.lease_owner),
        )
        return store_pb.RegisterResourcesResponse(integration=wire.integration_message(integration))

    async def RecordVerification(
        self, request: store_pb.RecordVerificationRequest, context: Context
    ) -> store_pb.RecordVerificationResponse:
        """Keep the provider's answer."""
        integration = await self._keeper.record_verification(
            wire.org_from(request.org_id),
            wire.provider_from(request.provider),
            wire.version_from(request.version),
            wire.error_from(request.error),
            wire.origin_from(request.origin),
        )
        return store_pb.RecordVerificationResponse(integration=wire.integration_message(integration))

    async def Disconnect(self, request: store_pb.DisconnectRequest, context: Context) -> store_pb.DisconnectResponse:
        """Make a credential unreadable."""
        integration = await self._keeper.disconnect(
            wire.org_from(request.org_id), wire.provider_from(request.provider), wire.origin_from(request.origin)
        )
        return store_pb.DisconnectResponse(integration=wire.integration_message(integration))

    async def Reconnect(self, request: store_pb.ReconnectRequest, context: Context) -> store_pb.ReconnectResponse:
        """Make a disconnected credential readable again."""
        integration = await self._keeper.reconnect(
            wire.org_from(request.org_id), wire.provider_from(request.provider), wire.origin_from(request.origin)
        )
        return store_pb.ReconnectResponse(integration=wire.integration_message(integration))

    async def AcquireLease(
        self, request: store_pb.AcquireLeaseRequest, context: Context
    ) -> store_pb.AcquireLeaseResponse:
        """Take or prolong a lease."""
        await self._store.acquire_lease(
            wire.org_from(request.org_id),
            wire.provider_from(request.provider),
            wire.owner_from(request.owner),
            wire.lease_seconds_from(request.duration),
        )
        return store_pb.AcquireLeaseResponse()

    async def ReleaseLease(
        self, request: store_pb.ReleaseLeaseRequest, context: Context
    ) -> store_pb.ReleaseLeaseResponse:
        """Give a lease back."""
        await self._store.release_lease(
            wire.org_from(request.org_id), wire.provider_from(request.provider), wire.owner_from(request.owner)
        )
        return store_pb.ReleaseLeaseResponse()
