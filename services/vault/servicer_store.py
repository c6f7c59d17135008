"""The gRPC service that changes what is stored."""

from datetime import timedelta
from typing import Protocol

from services.rpc.middleware import Context
from services.vault import messages, wire, wire_work
from services.vault.keeper import Keeper
from services.vault.work import OAuthStates, Work
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

    def __init__(self, keeper: Keeper, leases: Leases, work: Work, oauth_states: OAuthStates) -> None:
        self._keeper = keeper
        self._leases = leases
        self._work = work
        self._oauth_states = oauth_states

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
            facts=wire.facts_from(request),
            schedule=wire_work.schedule_from(request),
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
            wire.facts_from(request),
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
            wire.org_from(request.org_id),
            wire.provider_from(request.provider),
            wire.origin_from(request.origin),
            warnings=wire.warnings_from(request.warnings),
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

    async def RefreshCredential(
        self, request: store_pb.RefreshCredentialRequest, context: Context
    ) -> store_pb.RefreshCredentialResponse:
        """Write a new access token into the active version."""
        provider, payload = wire_work.refreshed_from(request.credential)
        await self._keeper.refresh(
            wire.org_from(request.org_id),
            provider,
            payload,
            wire.version_from(request.version),
            may_replace=wire_work.only_refreshed,
            lease_owner=wire.owner_from(request.lease_owner),
            origin=wire.origin_from(request.origin),
        )
        return store_pb.RefreshCredentialResponse()

    async def ClaimDueWork(
        self, request: store_pb.ClaimDueWorkRequest, context: Context
    ) -> store_pb.ClaimDueWorkResponse:
        """Take work that is due."""
        taken = await self._work.claim(
            wire.owner_from(request.owner),
            timedelta(seconds=wire.lease_seconds_from(request.duration)),
            at_most=wire_work.max_items_from(request.max_items),
        )
        return store_pb.ClaimDueWorkResponse(work=map(messages.due_work_message, taken))

    async def KeepProgress(
        self, request: store_pb.KeepProgressRequest, context: Context
    ) -> store_pb.KeepProgressResponse:
        """Note how far a piece of work has come."""
        piece, owner = wire_work.piece_from(request)
        await self._work.keep_progress(piece, owner, wire_work.progress_from(request.progress))
        return store_pb.KeepProgressResponse()

    async def FinishWork(self, request: store_pb.FinishWorkRequest, context: Context) -> store_pb.FinishWorkResponse:
        """Give a piece of work back."""
        piece, owner = wire_work.piece_from(request)
        await self._work.finish(piece, owner, wire_work.finish_from(request))
        return store_pb.FinishWorkResponse()

    async def KeepOAuthState(
        self, request: store_pb.KeepOAuthStateRequest, context: Context
    ) -> store_pb.KeepOAuthStateResponse:
        """Keep the state of a consent."""
        await self._oauth_states.keep_oauth_state(
            wire_work.oauth_state_from(request), wire_work.state_lasts_from(request.duration)
        )
        return store_pb.KeepOAuthStateResponse()

    async def UseOAuthState(
        self, request: store_pb.UseOAuthStateRequest, context: Context
    ) -> store_pb.UseOAuthStateResponse:
        """Use a state up."""
        await self._oauth_states.use_oauth_state(wire_work.oauth_state_from(request))
        return store_pb.UseOAuthStateResponse()
