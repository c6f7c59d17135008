"""The gRPC service for operators: keys, freezing, shredding, proof of the audit, self-checks."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from services.rpc.middleware import Context
from services.vault import messages, wire
from services.vault.keeper import Keeper
from services.vault.proof import AuditProof
from services.vault.rotation import MasterKeyRow, MasterRotation, OrgRotations
from services.vault.selfcheck import Finding
from tenantvault.audit import Head, Link
from tenantvault.errors import InvalidRequest
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tenantvault.v1 import admin_service_pb2_grpc as admin_grpc


class Keys(Protocol):
    """What there is of keys."""

    async def master_keys(self) -> Sequence[MasterKeyRow]:
        """Every master key that was ever seen."""

    async def orgs_with_old_keys(self, *, after: str, at_most: int) -> Sequence[str]:
        """The next orgs whose rotation has not ended."""


class Ring(Protocol):
    """What this vault has of them."""

    @property
    def wrapping(self) -> str:
        """The id of the key that wraps."""

    @property
    def fingerprints(self) -> Mapping[str, bytes]:
        """Of each key."""


class Chains(Protocol):
    """The audit's chains."""

    def chain_of(self, org_id: str) -> AsyncIterator[Link | Head]:
        """An org's events, the oldest first, and its head."""


class AdminServicer(admin_grpc.VaultAdminServiceServicer):
    """What an operator does. No plaintext leaves here."""

    def __init__(
        self,
        *,
        keeper: Keeper,
        keys: Keys,
        ring: Ring,
        master_rotation: MasterRotation,
        org_rotations: OrgRotations,
        chains: Chains,
        proof: AuditProof,
        findings: Callable[[], Awaitable[Sequence[Finding]]],
    ) -> None:
        self._keeper = keeper
        self._keys = keys
        self._ring = ring
        self._master_rotation = master_rotation
        self._org_rotations = org_rotations
        self._chains = chains
        self._proof = proof
        self._findings = findings

    async def GetKeyStatus(
        self, request: admin_pb.GetKeyStatusRequest, context: Context
    ) -> admin_pb.GetKeyStatusResponse:
        """The master keys, and the key that signs the audit."""
        rows = await self._keys.master_keys()
        return admin_pb.GetKeyStatusResponse(
            master_keys=[
                messages.master_key_message(row, self._ring.fingerprints, self._ring.wrapping) for row in rows
            ],
            audit_public_key=await self._proof.public_key(),
            org_rotations_under_way=len(await self._keys.orgs_with_old_keys(after="", at_most=1_000_000)),
        )

    async def RotateMasterKey(
        self, request: admin_pb.RotateMasterKeyRequest, context: Context
    ) -> AsyncIterator[admin_pb.RotateMasterKeyResponse]:
        """Wrap everything anew, and tell how far it is."""
        async for progress in self._master_rotation.run(wire.origin_from(request.origin)):
            yield admin_pb.RotateMasterKeyResponse(
                master_key_id=progress.master_key_id,
                done=progress.done,
                left=progress.left,
                retired=progress.retired,
            )

    async def RotateOrgKey(
        self, request: admin_pb.RotateOrgKeyRequest, context: Context
    ) -> admin_pb.RotateOrgKeyResponse:
        """Give an org a new key."""
        key_id = await self._keeper.rotate_key(wire.org_from(request.org_id), wire.origin_from(request.origin))
        self._org_rotations.wake()
        return admin_pb.RotateOrgKeyResponse(key_id=key_id)

    async def FreezeOrg(self, request: admin_pb.FreezeOrgRequest, context: Context) -> admin_pb.FreezeOrgResponse:
        """Refuse every read of an org."""
        generation = await self._keeper.freeze(wire.org_from(request.org_id), wire.origin_from(request.origin))
        return admin_pb.FreezeOrgResponse(generation=generation)

    async def UnfreezeOrg(self, request: admin_pb.UnfreezeOrgRequest, context: Context) -> admin_pb.UnfreezeOrgResponse:
        """End a freeze."""
        generation = await self._keeper.unfreeze(wire.org_from(request.org_id), wire.origin_from(request.origin))
        return admin_pb.UnfreezeOrgResponse(generation=generation)

    async def ShredOrg(self, request: admin_pb.ShredOrgRequest, context: Context) -> admin_pb.ShredOrgResponse:
        """Destroy an org's keys."""
        org_id = wire.org_from(request.org_id)
        if request.confirm_org_id != org_id:
            raise InvalidRequest(fields={"confirm_org_id": "Give the org's id once more: there is no way back."})
        generation = await self._keeper.shred(org_id, wire.origin_from(request.origin))
        return admin_pb.ShredOrgResponse(generation=generation)

    async def VerifyAudit(self, request: admin_pb.VerifyAuditRequest, context: Context) -> admin_pb.VerifyAuditResponse:
        """Prove an org's chain."""
        verdict = await self._proof.prove(wire.chain_from(request.org_id))
        return admin_pb.VerifyAuditResponse(
            events=verdict.events,
            broken_sequence=verdict.broken_sequence,
            problem=verdict.problem,
            head=verdict.head,
        )

    async def ExportAudit(
        self, request: admin_pb.ExportAuditRequest, context: Context
    ) -> AsyncIterator[admin_pb.ExportAuditResponse]:
        """An org's chain, and its head at the end."""
        async for part in self._chains.chain_of(wire.chain_from(request.org_id)):
            if isinstance(part, Link):
                yield admin_pb.ExportAuditResponse(event=messages.event_message(part))
            else:
                yield admin_pb.ExportAuditResponse(head=messages.head_message(part))

    async def Diagnose(self, request: admin_pb.DiagnoseRequest, context: Context) -> admin_pb.DiagnoseResponse:
        """Every self-check."""
        findings = await self._findings()
        now = Timestamp()
        now.FromDatetime(datetime.now(UTC))
        return admin_pb.DiagnoseResponse(
            findings=[
                admin_pb.Finding(check=found.check, passed=not found.problem, problem=found.problem)
                for found in findings
            ],
            checked_at=now,
        )
