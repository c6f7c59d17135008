"""The vault, as this process calls it: an adapter over gRPC to the ports of the sagas, of leases and of the worker."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from services.provider.integration import Integration
from services.provider.messages import (
    due_work_from_message,
    duration_to_message,
    integration_from_message,
    schedule_to_message,
    task_to_number,
)
from services.provider.provider import Refused
from services.provider.work import Done, DueWork, ScheduledWork
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

    async def previous_until(self, org_id: str, provider: Provider) -> datetime | None:
        """See `rotate.Vault`."""
        request = status.ListVersionsRequest(org_id=org_id, provider=PROVIDER_NUMBER[provider])
        response = await self._call(self._status.ListVersions, request)
        for version in response.versions:
            if version.state == status.VERSION_STATE_PREVIOUS:
                return version.readable_until.ToDatetime(tzinfo=UTC)
        return None

    async def newest_credential(self, org_id: str, provider: Provider) -> Credential | None:
        """See `connect.Vault`. One that is damaged is none: connecting anew is how that is mended.

        A disconnect passes a number over, so that the newest may be the active one under an older number.
        """
        request = access.GetNewestCredentialRequest(org_id=org_id, provider=PROVIDER_NUMBER[provider])
        try:
            response = await self._call(self._access.GetNewestCredential, request)
            return active_from_message(response.credential).credential
        except CredentialUnreadable:
            return None
        except CredentialNotFound:
            with suppress(CredentialNotFound, CredentialUnreadable):
                return (await self.credential(org_id, provider)).credential
            return None

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
        warnings: tuple[str, ...],
        account: str,
        schedule: Sequence[ScheduledWork] | None,
        lease_owner: str,
        on_behalf_of: str,
    ) -> Integration:
        """See `connect.Vault` and `replacement.Vault`."""
        request = store.RegisterResourcesRequest(
            org_id=org_id,
            provider=PROVIDER_NUMBER[provider],
            version=version,
            resources=resources_to_messages(resources),
            warnings=warnings,
            account=account,
            schedule=None if schedule is None else schedule_to_message(schedule),
            lease_owner=lease_owner,
            origin=store.Origin(on_behalf_of=on_behalf_of),
        )
        response = await self._call(self._store.RegisterResources, request)
        return integration_from_message(response.integration)

    async def record_verification(
        self,
        org_id: str,
        provider: Provider,
        *,
        version: int,
        refusal: Refused | None,
        warnings: tuple[str, ...],
        account: str,
        on_behalf_of: str,
    ) -> Integration:
        """See `lifecycle.Vault`."""
        request = store.RecordVerificationRequest(
            org_id=org_id,
            provider=PROVIDER_NUMBER[provider],
            version=version,
            error=refusal.sentence if refusal else "",
            reason=refusal.kind.reason if refusal else "",
            warnings=warnings,
            account=account,
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

    async def reconnect(
        self, org_id: str, provider: Provider, *, warnings: tuple[str, ...], on_behalf_of: str
    ) -> Integration:
        """See `lifecycle.Vault`."""
        request = store.ReconnectRequest(
            org_id=org_id,
            provider=PROVIDER_NUMBER[provider],
            origin=store.Origin(on_behalf_of=on_behalf_of),
            warnings=warnings,
        )
        response = await self._call(self._store.Reconnect, request)
        return integration_from_message(response.integration)

    async def acquire_lease(self, org_id: str, provider: Provider, *, owner: str, seconds: float) -> None:
        """See `lease.LeaseStore`."""
        request = store.AcquireLeaseRequest(
            org_id=org_id, provider=PROVIDER_NUMBER[provider], owner=owner, duration=duration_to_message(seconds)
        )
        await self._call(self._store.AcquireLease, request)

    async def release_lease(self, org_id: str, provider: Provider, *, owner: str) -> None:
        """See `lease.LeaseStore`."""
        request = store.ReleaseLeaseRequest(org_id=org_id, provider=PROVIDER_NUMBER[provider], owner=owner)
        await self._call(self._store.ReleaseLease, request)

    async def refresh(
        self, org_id: str, credential: Credential, *, version: int, lease_owner: str, on_behalf_of: str
    ) -> None:
        """See `refresh.Vault`."""
        request = store.RefreshCredentialRequest(
            org_id=org_id,
            credential=credential_to_message(credential),
            version=version,
            lease_owner=lease_owner,
            origin=store.Origin(on_behalf_of=on_behalf_of),
        )
        await self._call(self._store.RefreshCredential, request)

    async def roll_back(
        self, org_id: str, provider: Provider, *, version: int, expected_version: int, on_behalf_of: str
    ) -> Integration:
        """See `replacement.Vault`."""
        request = store.RollBackCredentialRequest(
            org_id=org_id,
            provider=PROVIDER_NUMBER[provider],
            version=version,
            expected_version=expected_version,
            origin=store.Origin(on_behalf_of=on_behalf_of),
        )
        response = await self._call(self._store.RollBackCredential, request)
        return integration_from_message(response.integration)

    async def destroy(self, org_id: str, provider: Provider, *, version: int, on_behalf_of: str) -> None:
        """See `replacement.Vault`."""
        request = store.DestroyVersionRequest(
            org_id=org_id,
            provider=PROVIDER_NUMBER[provider],
            version=version,
            origin=store.Origin(on_behalf_of=on_behalf_of),
        )
        await self._call(self._store.DestroyVersion, request)

    async def keep_state(
        self, org_id: str, provider: Provider, *, state_hash: bytes, binding: bytes, seconds: float
    ) -> None:
        """See `oauth.States`."""
        request = store.KeepOAuthStateRequest(
            org_id=org_id,
            provider=PROVIDER_NUMBER[provider],
            state_hash=state_hash,
            binding=binding,
            duration=duration_to_message(seconds),
        )
        await self._call(self._store.KeepOAuthState, request)

    async def use_state(self, org_id: str, provider: Provider, *, state_hash: bytes, binding: bytes) -> None:
        """See `oauth.States`."""
        request = store.UseOAuthStateRequest(
            org_id=org_id, provider=PROVIDER_NUMBER[provider], state_hash=state_hash, binding=binding
        )
        await self._call(self._store.UseOAuthState, request)

    async def claim(self, *, owner: str, seconds: float, at_most: int) -> Sequence[DueWork]:
        """See `worker.Work`. Work of a kind that this version does not know is left to run out."""
        request = store.ClaimDueWorkRequest(owner=owner, duration=duration_to_message(seconds), max_items=at_most)
        response = await self._call(self._store.ClaimDueWork, request)
        return [work for message in response.work if (work := due_work_from_message(message)) is not None]

    async def keep_progress(self, work: DueWork, *, owner: str, progress: str) -> None:
        """See `worker.Work`."""
        request = store.KeepProgressRequest(
            org_id=work.org_id,
            provider=PROVIDER_NUMBER[work.provider],
            task=task_to_number(work.task),
            owner=owner,
            progress=progress,
        )
        await self._call(self._store.KeepProgress, request)

    async def finish(self, work: DueWork, *, owner: str, done: Done) -> None:
        """See `worker.Work`."""
        request = store.FinishWorkRequest(
            org_id=work.org_id,
            provider=PROVIDER_NUMBER[work.provider],
            task=task_to_number(work.task),
            owner=owner,
            due_in=duration_to_message(done.due_in),
            failed=done.failed,
            progress=done.progress,
            by_hand=done.by_hand,
        )
        await self._call(self._store.FinishWork, request)

    async def _call(self, method: Callable[..., Awaitable[ResponseT]], request: Message) -> ResponseT:
        return await call(method, request, request_id=_request_id())


def _request_id() -> str:
    """The id of the call that is answered here; empty in the background, where the vault makes one up."""
    try:
        return current_call().request_id
    except LookupError:
        return ""
