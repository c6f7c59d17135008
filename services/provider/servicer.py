"""The provider service's gRPC face: what comes in is checked and handed on, what goes out is put into messages."""

import re
from typing import Final

from services.provider.connect import Connect
from services.provider.lifecycle import Lifecycle
from services.provider.messages import integration_to_message
from services.rpc.middleware import Context
from tenantvault.errors import InvalidRequest
from tenantvault.messages import credential_from_message, provider_from_number
from tenantvault.v1 import integration_service_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store
from tenantvault.v1.integration_service_pb2_grpc import IntegrationServiceServicer

_ORG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MAX_ORIGIN_BYTES: Final = 256
# Of a call's time, what a connect keeps for its own work when it has to wait for others: seconds.
_OWN_WORK: Final = 30.0
_LEAST_PATIENCE: Final = 1.0


class IntegrationServicer(IntegrationServiceServicer):
    """Connects, verifies, disconnects and reconnects."""

    def __init__(self, connect: Connect, lifecycle: Lifecycle) -> None:
        self._connect = connect
        self._lifecycle = lifecycle

    async def Connect(self, request: pb.ConnectRequest, context: Context) -> pb.ConnectResponse:
        """Connect an org with a provider."""
        report = await self._connect(
            _org(request.org_id),
            credential_from_message(request.credential),
            on_behalf_of=_person(request.origin),
            patience=max(_LEAST_PATIENCE, context.time_remaining() - _OWN_WORK),
        )
        return pb.ConnectResponse(integration=integration_to_message(report.integration), warnings=report.warnings)

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> pb.VerifyResponse:
        """Test what is connected."""
        report = await self._lifecycle.verify(
            _org(request.org_id), provider_from_number(request.provider), on_behalf_of=_person(request.origin)
        )
        return pb.VerifyResponse(integration=integration_to_message(report.integration), warnings=report.warnings)

    async def Disconnect(
        self, request: pb.IntegrationServiceDisconnectRequest, context: Context
    ) -> pb.IntegrationServiceDisconnectResponse:
        """Make a credential unreadable."""
        report = await self._lifecycle.disconnect(
            _org(request.org_id), provider_from_number(request.provider), on_behalf_of=_person(request.origin)
        )
        return pb.IntegrationServiceDisconnectResponse(integration=integration_to_message(report.integration))

    async def Reconnect(
        self, request: pb.IntegrationServiceReconnectRequest, context: Context
    ) -> pb.IntegrationServiceReconnectResponse:
        """Make a disconnected credential readable again."""
        report = await self._lifecycle.reconnect(
            _org(request.org_id), provider_from_number(request.provider), on_behalf_of=_person(request.origin)
        )
        return pb.IntegrationServiceReconnectResponse(
            integration=integration_to_message(report.integration), warnings=report.warnings
        )


def _org(org_id: str) -> str:
    if not _ORG.fullmatch(org_id):
        raise InvalidRequest(
            fields={"org_id": "Give 1 to 63 lower-case letters, digits, dashes and underscores, the first no dash."}
        )
    return org_id


def _person(origin: store.Origin) -> str:
    person = origin.on_behalf_of
    if len(person.encode()) > _MAX_ORIGIN_BYTES or not person.isprintable():
        raise InvalidRequest(fields={"origin": f"Give at most {_MAX_ORIGIN_BYTES} bytes of printable text."})
    return person
