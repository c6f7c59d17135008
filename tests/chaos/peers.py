"""What the peers of a vault ask of it, each call in one line."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault._status import FailedCall, from_status
from tenantvault.audit import Event, Head, Link
from tenantvault.channel import call
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.admin_service_pb2_grpc import VaultAdminServiceStub
from tenantvault.v1.status_service_pb2_grpc import IntegrationStatusServiceStub
from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceStub

if TYPE_CHECKING:
    # They are in the stubs only.
    from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceAsyncStub
    from tenantvault.v1.admin_service_pb2_grpc import VaultAdminServiceAsyncStub
    from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceAsyncStub

VAPI: Final = pb.PROVIDER_VAPI
TWILIO: Final = pb.PROVIDER_TWILIO
NAMES: Final[Mapping[int, str]] = {VAPI: "vapi", TWILIO: "twilio"}

CHANGE_WITHIN: Final = 20.0
"""Seconds. Longer than a vault itself goes on with a change, so that no attempt outlives its caller's patience."""

READ_WITHIN: Final = 15.0

Channels = Callable[[str], grpc.aio.Channel]
"""A channel of a peer, by its name."""


def secret(org: str, version: int) -> str:
    """What is stored as a version: from the value one sees whose it is and which."""
    return f"{org}/{version}/0123456789abcdef"


def credential(org: str, provider: int, version: int) -> pb.Credential:
    """A credential of a provider with that secret."""
    if provider == VAPI:
        return pb.Credential(vapi=pb.VapiCredential(api_key=secret(org, version)))
    twilio = pb.TwilioCredential(
        account_sid="AC" + "0" * 32, auth_token=secret(org, version), phone_number="+15005550006"
    )
    return pb.Credential(twilio=twilio)


def resource(org: str, provider: int) -> pb.Resource:
    """The one resource of an org at a provider."""
    kind = pb.RESOURCE_KIND_VAPI_ASSISTANT if provider == VAPI else pb.RESOURCE_KIND_PHONE_NUMBER
    return pb.Resource(kind=kind, resource_id=f"{org}-{NAMES[provider]}", role="inbound")


def seen(active: pb.ActiveCredential) -> str:
    """A plaintext in short: `v3`, or what is wrong about it."""
    value = active.credential.vapi.api_key or active.credential.twilio.auth_token
    if value != secret(active.org_id, active.version):
        return f"another's value under the name {active.org_id} v{active.version}"
    return f"v{active.version}"


class Peer:
    """Every caller of one vault. Raises TenantVaultErrors."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def put(self, org: str, provider: int, version: int, *, expected: int | None = None) -> int:
        """Put what belongs to a version, behind the one before it."""
        request = store_pb.PutCredentialRequest(
            org_id=org,
            credential=credential(org, provider, version),
            expected_version=version - 1 if expected is None else expected,
        )
        return (await call(self._store.PutCredential, request, deadline=CHANGE_WITHIN)).version

    async def register(self, org: str, provider: int, version: int) -> None:
        """Make a version active, with the org's one resource."""
        request = store_pb.RegisterResourcesRequest(
            org_id=org,
            provider=cast("Any", provider),
            version=version,
            resources=[resource(org, provider)],
        )
        await call(self._store.RegisterResources, request, deadline=CHANGE_WITHIN)

    async def connect(self, org: str, provider: int, version: int) -> None:
        """Put and register."""
        await self.put(org, provider, version)
        await self.register(org, provider, version)

    async def verify(self, org: str, provider: int, version: int) -> None:
        """Note that the provider said yes."""
        request = store_pb.RecordVerificationRequest(org_id=org, provider=cast("Any", provider), version=version)
        await call(self._store.RecordVerification, request, deadline=CHANGE_WITHIN)

    async def disconnect(self, org: str, provider: int) -> int:
        """Make it unreadable; the newest version's number now."""
        request = store_pb.DisconnectRequest(org_id=org, provider=cast("Any", provider))
        return (await call(self._store.Disconnect, request, deadline=CHANGE_WITHIN)).integration.latest_version

    async def reconnect(self, org: str, provider: int) -> None:
        """Make it readable again."""
        request = store_pb.ReconnectRequest(org_id=org, provider=cast("Any", provider))
        await call(self._store.Reconnect, request, deadline=CHANGE_WITHIN)

    async def roll_back(self, org: str, provider: int, version: int, expected: int) -> None:
        """Make an older version active."""
        request = store_pb.RollBackCredentialRequest(
            org_id=org, provider=cast("Any", provider), version=version, expected_version=expected
        )
        await call(self._store.RollBackCredential, request, deadline=CHANGE_WITHIN)

    async def freeze(self, org: str) -> int:
        """Refuse every read of an org."""
        return (
            await call(self._admin.FreezeOrg, admin_pb.FreezeOrgRequest(org_id=org), deadline=CHANGE_WITHIN)
        ).generation

    async def unfreeze(self, org: str) -> int:
        """End a freeze."""
        request = admin_pb.UnfreezeOrgRequest(org_id=org)
        return (await call(self._admin.UnfreezeOrg, request, deadline=CHANGE_WITHIN)).generation

    async def shred(self, org: str) -> int:
        """Destroy an org's keys."""
        request = admin_pb.ShredOrgRequest(org_id=org, confirm_org_id=org)
        return (await call(self._admin.ShredOrg, request, deadline=CHANGE_WITHIN)).generation

    async def rotate_org_key(self, org: str) -> str:
        """Give an org a new key."""
        request = admin_pb.RotateOrgKeyRequest(org_id=org)
        return (await call(self._admin.RotateOrgKey, request, deadline=CHANGE_WITHIN)).key_id

    async def rotate_master_key(self) -> AsyncIterator[admin_pb.RotateMasterKeyResponse]:
        """Wrap everything anew; how far it is."""
        stream = cast("Any", self._admin.RotateMasterKey)(admin_pb.RotateMasterKeyRequest(), timeout=600)
        try:
            async for progress in stream:
                yield progress
        except grpc.aio.AioRpcError as error:
            raise from_status(cast("FailedCall", error)) from None

    async def key_status(self) -> admin_pb.GetKeyStatusResponse:
        """The master keys."""
        return await call(self._admin.GetKeyStatus, admin_pb.GetKeyStatusRequest(), deadline=CHANGE_WITHIN)

    async def diagnose(self) -> dict[str, str]:
        """What is wrong, by check."""
        answer = await call(self._admin.Diagnose, admin_pb.DiagnoseRequest(), deadline=CHANGE_WITHIN)
        return {finding.check: finding.problem for finding in answer.findings if not finding.passed}

    async def verify_audit(self, org: str) -> admin_pb.VerifyAuditResponse:
        """The vault's own proof of a chain."""
        return await call(self._admin.VerifyAudit, admin_pb.VerifyAuditRequest(org_id=org), deadline=60)

    async def export_audit(self, org: str) -> tuple[list[Link], Head | None]:
        """A chain, to be proved here."""
        links: list[Link] = []
        head: Head | None = None
        async for part in cast("Any", self._admin.ExportAudit)(admin_pb.ExportAuditRequest(org_id=org), timeout=120):
            if part.HasField("head"):
                end = part.head
                head = Head(end.org_id, end.sequence, end.hash, end.signature, end.public_key)
            else:
                links.append(_link(part.event))
        return links, head

    async def integration(self, org: str, provider: int) -> pb.Integration:
        """What may be shown."""
        stub = IntegrationStatusServiceStub(self._channels("gateway"))
        answer = await call(stub.ListIntegrations, status_pb.ListIntegrationsRequest(org_id=org), deadline=READ_WITHIN)
        [found] = [one for one in answer.integrations if one.provider == provider]
        return found

    async def get(self, org: str, provider: int, *, at_once: bool = False) -> pb.ActiveCredential:
        """The active credential; `at_once` asks the database in any case."""
        request = access_pb.GetCredentialRequest(org_id=org, provider=cast("Any", provider))
        if at_once:
            request.max_staleness.FromSeconds(0)
        return (await call(self._access.GetCredential, request, deadline=READ_WITHIN)).credential

    async def resolve(self, org: str, provider: int, wanted: int) -> pb.ActiveCredential:
        """A credential of the org that has the resource at a provider."""
        at = resource(org, provider)
        request = access_pb.ResolveCredentialRequest(
            kind=at.kind, resource_id=at.resource_id, provider=cast("Any", wanted)
        )
        return (await call(self._access.ResolveCredential, request, deadline=READ_WITHIN)).credential

    async def batch(self, keys: Sequence[tuple[str, int]]) -> list[access_pb.CredentialOutcome]:
        """Many credentials."""
        request = access_pb.BatchGetCredentialsRequest(
            keys=[access_pb.CredentialKey(org_id=org, provider=cast("Any", provider)) for org, provider in keys]
        )
        return list((await call(self._access.BatchGetCredentials, request, deadline=READ_WITHIN)).outcomes)

    async def hears(self, within: float) -> bool:
        """Whether the vault tells, within so many seconds, of a change or that there was none: so it hears."""
        stream = cast("Any", self._access.WatchChanges)(access_pb.WatchChangesRequest(), timeout=within)
        try:
            async for told in stream:
                if not told.HasField("resync"):
                    return True
        except grpc.aio.AioRpcError as error:
            raise from_status(cast("FailedCall", error)) from None
        finally:
            stream.cancel()
        return False

    @property
    def _access(self) -> "CredentialAccessServiceAsyncStub":
        return CredentialAccessServiceStub(self._channels("voice-agent"))

    @property
    def _store(self) -> "IntegrationStoreServiceAsyncStub":
        return IntegrationStoreServiceStub(self._channels("provider"))

    @property
    def _admin(self) -> "VaultAdminServiceAsyncStub":
        return VaultAdminServiceStub(self._channels("operator"))


def _link(event: status_pb.AuditEvent) -> Link:
    return Link(
        Event(
            event_id=event.event_id,
            org_id=event.org_id,
            occurred_at=_utc(event.occurred_at),
            peer=event.peer,
            on_behalf_of=event.on_behalf_of,
            action=event.action,
            provider=event.provider,
            version=event.version,
            outcome=event.outcome,
            request_id=event.request_id,
            generation=event.generation,
        ),
        event.sequence,
        event.hash,
    )


def _utc(moment: Timestamp) -> datetime:
    return moment.ToDatetime(UTC)
