"""The gRPC service that changes what is stored."""

from typing import Protocol

from services.rpc.middleware import Context
from services.vault import messages, wire
from services.vault.keeper import Keeper
from tenantvault.v1 import store_service_pb2 as store_pb
from tenantvault.v1 import store_service_pb2_grpc as store_grpc


class Leases(Protocol):
    """Where leases are."""

    async def acquire_lease(self, org_id: str, provider: str, owner: str, seconds: float) -> None:
        """Take or prolong a lease; LeaseHeld, with the time that is left, when another owner has it."""

    async def release_lease(self, org_id: str, provider: str, owner: str) -> None:
        """Give a lease back, if the owner has it."""


class StoreServicer(store_grpc.IntegrationStoreServiceServicer):
    """Changes what is stored."""

    def __init__(self, keeper: Keeper, leases: Leases) -> None:
        self._keeper = keeper
        self._leases = leases

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
        return store_pb.RegisterResourcesResponse(integration=messages.integration_message(integration))

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
        return store_pb.RecordVerificationResponse(integration=messages.integration_message(integration))

    async def Disconnect(self, request: store_pb.DisconnectRequest, context: Context) -> store_pb.DisconnectResponse:
        """Make a credential unreadable."""
        integration = await self._keeper.disconnect(
            wire.org_from(request.org_id), wire.provider_from(request.provider), wire.origin_from(request.origin)
        )
        return store_pb.DisconnectResponse(integration=messages.integration_message(integration))

    async def Reconnect(self, request: store_pb.ReconnectRequest, context: Context) -> store_pb.ReconnectResponse:
        """Make a disconnected credential readable again."""
        integration = await self._keeper.reconnect(
            wire.org_from(request.org_id), wire.provider_from(request.provider), wire.origin_from(request.origin)
        )
        return store_pb.ReconnectResponse(integration=messages.integration_message(integration))

    async def RollBackCredential(
        self, request: store_pb.RollBackCredentialRequest, context: Context
    ) -> store_pb.RollBackCredentialResponse:
        """Make an older version active again."""
        integration = await self._keeper.roll_back(
            wire.org_from(request.org_id),
            wire.provider_from(request.provider),
            wire.version_from(request.version),
            expected_version=wire.version_from(request.expected_version),
            origin=wire.origin_from(request.origin),
        )
        return store_pb.RollBackCredentialResponse(integration=messages.integration_message(integration))

    async def DestroyVersion(
        self, request: store_pb.DestroyVersionRequest, context: Context
    ) -> store_pb.DestroyVersionResponse:
        """Destroy a version."""
        await self._keeper.destroy(
            wire.org_from(request.org_id),
            wire.provider_from(request.provider),
            wire.version_from(request.version),
            wire.origin_from(request.origin),
        )
        return store_pb.DestroyVersionResponse()

    async def AcquireLease(
        self, request: store_pb.AcquireLeaseRequest, context: Context
    ) -> store_pb.AcquireLeaseResponse:
        """Take or prolong a lease."""
        await self._leases.acquire_lease(
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
        await self._leases.release_lease(
            wire.org_from(request.org_id), wire.provider_from(request.provider), wire.owner_from(request.owner)
        )
        return store_pb.ReleaseLeaseResponse()
