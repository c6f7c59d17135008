"""The REST endpoints of integrations: one gRPC call each.

The org is the caller's own, out of the verified token or session, and nothing in a request can name another.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway import fields, views
from gateway.authentication import identity_of
from gateway.body import read_object
from gateway.problems import REQUEST_ID, Refusal
from tenantvault.channel import call
from tenantvault.credentials import Credential, Provider
from tenantvault.errors import DeadlineRequired, InternalError, PermissionDenied, Unauthenticated
from tenantvault.messages import PROVIDER_NUMBER, credential_to_message
from tenantvault.v1 import integration_service_pb2 as provider_pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1.store_service_pb2 import Origin

STATUS_DEADLINE: Final = 5.0
CONNECT_DEADLINE: Final = 60.0
"""Seconds. A connect tests, stores and provisions, and may wait for another one of the same org."""
VERIFY_DEADLINE: Final = 40.0

_log = logging.getLogger(__name__)
ResponseT = TypeVar("ResponseT")

_READERS: Final[dict[Provider, Callable[[dict[str, Any]], Credential]]] = {
    Provider.VAPI: fields.vapi,
    Provider.TWILIO: fields.twilio,
}


class StatusCalls(Protocol):
    """What is asked of the vault: the stub of IntegrationStatusService."""

    @property
    def ListIntegrations(self) -> Callable[..., Awaitable[status_pb.ListIntegrationsResponse]]:  # noqa: N802 - the proto's name
        """The state of an org's integrations."""


class IntegrationCalls(Protocol):
    """What is asked of the provider service: the stub of IntegrationService."""

    @property
    def Connect(self) -> Callable[..., Awaitable[provider_pb.ConnectResponse]]:  # noqa: N802 - the proto's name
        """Test, store, provision, activate."""

    @property
    def Verify(self) -> Callable[..., Awaitable[provider_pb.VerifyResponse]]:  # noqa: N802 - the proto's name
        """Test what is stored."""

    @property
    def Disconnect(self) -> Callable[..., Awaitable[provider_pb.IntegrationServiceDisconnectResponse]]:  # noqa: N802 - the proto's name
        """Make the credential unreadable."""

    @property
    def Reconnect(self) -> Callable[..., Awaitable[provider_pb.IntegrationServiceReconnectResponse]]:  # noqa: N802 - the proto's name
        """Make it readable again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrations:
    """The endpoints below `/api/integrations`."""

    vault: StatusCalls
    provider: IntegrationCalls

    async def status(self, request: Request) -> JSONResponse:
        """GET /api/integrations/status: the state of all five."""
        wanted = status_pb.ListIntegrationsRequest(org_id=identity_of(request).org_id)
        answer = await _ask(request, self.vault.ListIntegrations, wanted, STATUS_DEADLINE)
        return JSONResponse(views.status(answer.integrations))

    async def connect(self, request: Request) -> JSONResponse:
        """POST /api/integrations/{provider}: connect it, or give a connected one a new credential."""
        provider = _provider(request)
        credential = _READERS[provider](await read_object(request))
        wanted = provider_pb.ConnectRequest(
            org_id=identity_of(request).org_id,
            credential=credential_to_message(credential),
            origin=_origin(request),
        )
        answer = await _ask(request, self.provider.Connect, wanted, CONNECT_DEADLINE)
        return _success(answer.warnings, **views.resources(answer.integration))

    async def verify(self, request: Request) -> JSONResponse:
        """POST /api/integrations/{provider}/verify: ask the provider whether the stored credential is still good.

        `success` says that the provider answered; `connected` and `error` say what.
        """
        provider = _provider(request)
        fields.nothing(await read_object(request))
        wanted = provider_pb.VerifyRequest(
            org_id=identity_of(request).org_id, provider=PROVIDER_NUMBER[provider], origin=_origin(request)
        )
        answer = await _ask(request, self.provider.Verify, wanted, VERIFY_DEADLINE)
        return _success(answer.warnings, **_verdict(answer.integration))

    async def disconnect(self, request: Request) -> JSONResponse:
        """DELETE /api/integrations/{provider}: the credential is kept encrypted and nobody can read it."""
        provider = _provider(request)
        fields.nothing(await read_object(request))
        wanted = provider_pb.IntegrationServiceDisconnectRequest(
            org_id=identity_of(request).org_id, provider=PROVIDER_NUMBER[provider], origin=_origin(request)
        )
        await _ask(request, self.provider.Disconnect, wanted, VERIFY_DEADLINE)
        message = f"{views.NAMES[provider]} is disconnected. Its credential can be read again after a reconnect only."
        return _success((), message=message)

    async def reconnect(self, request: Request) -> JSONResponse:
        """POST /api/integrations/{provider}/reconnect: undo a disconnect and test the credential."""
        provider = _provider(request)
        fields.nothing(await read_object(request))
        wanted = provider_pb.IntegrationServiceReconnectRequest(
            org_id=identity_of(request).org_id, provider=PROVIDER_NUMBER[provider], origin=_origin(request)
        )
        answer = await _ask(request, self.provider.Reconnect, wanted, VERIFY_DEADLINE)
        return _success(answer.warnings, **_verdict(answer.integration), **views.resources(answer.integration))


def _provider(request: Request) -> Provider:
    name = request.path_params["provider"]
    if name == "status":  # the one other thing below /api/integrations
        raise HTTPException(405, headers={"Allow": "GET, HEAD"})
    try:
        provider = Provider(name)
    except ValueError:
        raise Refusal("UNKNOWN_PROVIDER", f"The providers are {', '.join(Provider)}.") from None
    if provider not in _READERS:
        raise Refusal("PROVIDER_NOT_AVAILABLE", f"{views.NAMES[provider]} cannot be connected yet.")
    return provider


def _origin(request: Request) -> Origin:
    return Origin(on_behalf_of=identity_of(request).person)


async def _ask(
    request: Request, method: Callable[..., Awaitable[ResponseT]], message: object, deadline: float
) -> ResponseT:
    try:
        return await call(method, message, deadline=deadline, request_id=request.scope[REQUEST_ID])
    except (Unauthenticated, PermissionDenied, DeadlineRequired) as error:
        # A service refuses the gateway itself. Signing in again would not help the person who waits.
        _log.error("a service refused the gateway", extra={"reason": error.reason})
        raise InternalError from None


def _verdict(shown: Any) -> dict[str, Any]:
    return {
        "connected": views.connected(shown),
        "lastVerified": views.last_verified(shown),
        "error": shown.verification_error or None,
    }


def _success(warnings: Any, **members: Any) -> JSONResponse:
    return JSONResponse({"success": True, **members, **({"warnings": list(warnings)} if warnings else {})})
