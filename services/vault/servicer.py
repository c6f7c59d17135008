"""The vault's gRPC services that read: what comes in is checked and handed on, what goes out is put into messages."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

from services.rpc.middleware import Context
from services.vault import messages, wire
from services.vault.audit import Page
from services.vault.credential import Integration, Origin, Reads, Version
from services.vault.reader import Reader
from services.vault.watchers import Watchers
from tenantvault.errors import TenantVaultError
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import access_service_pb2_grpc as access_grpc
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import directory_service_pb2_grpc as directory_grpc
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import status_service_pb2_grpc as status_grpc

HEARTBEAT_SECONDS: Final = 1.0
"""How often a watcher hears that nothing was missed."""


class Generations(Protocol):
    """Where the orgs' generations are."""

    async def generations(self, orgs: Sequence[str]) -> Mapping[str, int]:
        """The generation of each org that is known."""


class InSync(Protocol):
    """Whether this vault hears of every change."""

    @property
    def synced_at(self) -> float:
        """The last moment at which it knew of every change."""

    @property
    def fresh_until(self) -> float:
        """Until then no change takes effect without it."""


class Failures(Protocol):
    """Where failures of credentials in use are reported."""

    async def report_failure(self, org_id: str, provider: str, version: int, origin: Origin) -> bool:
        """Make the test of an active version due; whether it is due because of this."""


class AccessServicer(access_grpc.CredentialAccessServiceServicer):
    """Hands out plaintext, and tells when what was handed out is old."""

    def __init__(
        self, reader: Reader, generations: Generations, watchers: Watchers, sync: InSync, failures: Failures
    ) -> None:
        self._reader = reader
        self._failures = failures
        self._generations = generations
        self._watchers = watchers
        self._sync = sync

    async def GetCredential(
        self, request: access_pb.GetCredentialRequest, context: Context
    ) -> access_pb.GetCredentialResponse:
        """The active credential."""
        plaintext = await self._reader.get(
            wire.org_from(request.org_id),
            wire.provider_from(request.provider),
            wire.reader_from(request.on_behalf_of),
            max_staleness=wire.max_staleness_from(request),
            include_previous=request.include_previous,
        )
        response = access_pb.GetCredentialResponse()
        messages.fill_active(response.credential, plaintext)
        return response

    async def GetNewestCredential(
        self, request: access_pb.GetNewestCredentialRequest, context: Context
    ) -> access_pb.GetNewestCredentialResponse:
        """The newest version, active or not."""
        plaintext = await self._reader.get_newest(
            wire.org_from(request.org_id),
            wire.provider_from(request.provider),
            wire.reader_from(request.on_behalf_of),
        )
        response = access_pb.GetNewestCredentialResponse()
        messages.fill_active(response.credential, plaintext)
        return response

    async def BatchGetCredentials(
        self, request: access_pb.BatchGetCredentialsRequest, context: Context
    ) -> access_pb.BatchGetCredentialsResponse:
        """Many credentials, each with its own outcome."""
        keys = wire.credential_keys_from(request.keys)
        opened = await self._reader.batch_get(
            keys, wire.reader_from(request.on_behalf_of), max_staleness=wire.max_staleness_from(request)
        )
        response = access_pb.BatchGetCredentialsResponse()
        for one in opened:
            outcome = response.outcomes.add()
            if isinstance(one, TenantVaultError):
                outcome.failure.CopyFrom(messages.failure_message(one))
            else:
                messages.fill_active(outcome.credential, one)
        return response

    async def ResolveCredential(
        self, request: access_pb.ResolveCredentialRequest, context: Context
    ) -> access_pb.ResolveCredentialResponse:
        """The credential of the org that has a resource."""
        kind, resource_id = wire.resource_key_from(request.kind, request.resource_id)
        plaintext = await self._reader.resolve_credential(
            kind,
            resource_id,
            wire.provider_from(request.provider),
            wire.reader_from(request.on_behalf_of),
            max_staleness=wire.max_staleness_from(request),
            include_previous=request.include_previous,
        )
        response = access_pb.ResolveCredentialResponse()
        messages.fill_active(response.credential, plaintext)
        return response

    async def WatchChanges(
        self, request: access_pb.WatchChangesRequest, context: Context
    ) -> AsyncIterator[access_pb.WatchChangesResponse]:
        """Every change from now on, after those that the watcher has missed."""
        known = wire.known_orgs_from(request.known)
        with self._watchers.watching() as watcher:
            # Watched before it is looked at, so that nothing falls between the two.
            for org_id, generation in (await self._generations.generations(list(known))).items():
                if generation > known[org_id]:
                    watcher.tell(org_id, generation)
            heard_at = beaten_at = float("-inf")
            patience = 0.0
            while (told := await watcher.next(patience)) is not None:
                changes, resync = told
                # As of now: what comes while this is being told is told after the heartbeat.
                now, synced_at = time.monotonic(), self._sync.synced_at
                in_sync = now < self._sync.fresh_until and synced_at > heard_at and not resync
                if resync:
                    yield access_pb.WatchChangesResponse(resync=access_pb.Resync())
                for org_id, generation in changes.items():
                    yield access_pb.WatchChangesResponse(change=access_pb.Change(org_id=org_id, generation=generation))
                # A vault that has not heard from the database since the last time cannot say that nothing was missed.
                if in_sync and (not changes or now - beaten_at >= HEARTBEAT_SECONDS):
                    heard_at, beaten_at = synced_at, now
                    yield access_pb.WatchChangesResponse(heartbeat=access_pb.Heartbeat())
                patience = HEARTBEAT_SECONDS

    async def ReportFailure(
        self, request: access_pb.ReportFailureRequest, context: Context
    ) -> access_pb.ReportFailureResponse:
        """Have a credential that was refused tested."""
        is_due = await self._failures.report_failure(
            wire.org_from(request.org_id),
            wire.provider_from(request.provider),
            wire.version_from(request.version),
            wire.reader_from(request.on_behalf_of),
        )
        return access_pb.ReportFailureResponse(test_is_due=is_due)


class DirectoryServicer(directory_grpc.OrgDirectoryServiceServicer):
    """Tells whose a resource is."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def ResolveOrg(
        self, request: directory_pb.ResolveOrgRequest, context: Context
    ) -> directory_pb.ResolveOrgResponse:
        """The org that has a resource."""
        kind, resource_id = wire.resource_key_from(request.kind, request.resource_id)
        owner = await self._reader.resolve(kind, resource_id, wire.reader_from())
        response = directory_pb.ResolveOrgResponse()
        messages.fill_owner(response, owner)
        return response

    async def BatchResolveOrgs(
        self, request: directory_pb.BatchResolveOrgsRequest, context: Context
    ) -> directory_pb.BatchResolveOrgsResponse:
        """The orgs of many resources, each with its own outcome."""
        found = await self._reader.batch_resolve(wire.resource_keys_from(request.keys), wire.reader_from())
        response = directory_pb.BatchResolveOrgsResponse()
        for one in found:
            outcome = response.outcomes.add()
            if isinstance(one, TenantVaultError):
                outcome.failure.CopyFrom(messages.failure_message(one))
            else:
                messages.fill_owner(outcome.org, one)
        return response


class Shown(Protocol):
    """What may be shown of integrations."""

    async def integrations(self, org_id: str) -> Sequence[Integration]:
        """The org's integrations."""

    async def versions(self, org_id: str, provider: str) -> Sequence[Version]:
        """The versions of one, newest first."""


class Events(Protocol):
    """What happened."""

    async def events(
        self,
        org_id: str,
        *,
        before: int = 0,
        limit: int = 100,
        provider: str = "",
        action: str = "",
        peer: str = "",
        failed: bool = False,
    ) -> Page:
        """Events of an org, newest first."""

    async def reads(self, org_id: str, since: datetime) -> Reads:
        """How often each service was given the org's credentials."""


class StatusServicer(status_grpc.IntegrationStatusServiceServicer):
    """Shows integrations, their versions and what happened to them, without plaintext."""

    def __init__(self, shown: Shown, events: Events) -> None:
        self._shown = shown
        self._events = events

    async def ListIntegrations(
        self, request: status_pb.ListIntegrationsRequest, context: Context
    ) -> status_pb.ListIntegrationsResponse:
        """The org's integrations, in the order of the contract's enum."""
        integrations = await self._shown.integrations(wire.org_from(request.org_id))
        shown = sorted(map(messages.integration_message, integrations), key=lambda message: message.provider)
        return status_pb.ListIntegrationsResponse(integrations=shown)

    async def ListVersions(
        self, request: status_pb.ListVersionsRequest, context: Context
    ) -> status_pb.ListVersionsResponse:
        """The versions of a credential."""
        versions = await self._shown.versions(wire.org_from(request.org_id), wire.provider_from(request.provider))
        return status_pb.ListVersionsResponse(versions=map(messages.version_message, versions))

    async def ListAuditEvents(
        self, request: status_pb.ListAuditEventsRequest, context: Context
    ) -> status_pb.ListAuditEventsResponse:
        """What happened, newest first."""
        page = await self._events.events(
            wire.chain_from(request.org_id),
            before=wire.sequence_from(request.before_sequence),
            limit=wire.page_size_from(request.page_size),
            provider=wire.provider_from(request.provider) if request.provider else "",
            action=wire.action_from(request.action),
            peer=wire.peer_from(request.peer),
            failed=request.failed,
        )
        return messages.page_message(page)

    async def CountReads(self, request: status_pb.CountReadsRequest, context: Context) -> status_pb.CountReadsResponse:
        """Who was given the org's credentials, and how often."""
        return messages.reads_message(await self._events.reads(wire.org_from(request.org_id), wire.since_from(request)))
