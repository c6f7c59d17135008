"""One gRPC call on behalf of a REST request, and what its endpoint answers."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.authentication import identity_of
from gateway.problems import REQUEST_ID, Refusal
from tenantvault.channel import call
from tenantvault.credentials import Provider
from tenantvault.errors import DeadlineRequired, InternalError, PermissionDenied, Unauthenticated
from tenantvault.v1.store_service_pb2 import Origin

_log = logging.getLogger(__name__)
ResponseT = TypeVar("ResponseT")

_OTHERS: Final = frozenset({"status", "providers", "audit", "audit.csv", "access", "events"})
"""What else stands below `/api/integrations`, to be read only."""


async def ask(
    request: Request, method: Callable[..., Awaitable[ResponseT]], message: object, deadline: float
) -> ResponseT:
    """Make a call on a stub's method with the request's id; `deadline` is in seconds.

    Raises:
        TenantVaultError: the service's own, but InternalError where it refused the gateway itself.
    """
    try:
        return await call(method, message, deadline=deadline, request_id=request.scope[REQUEST_ID])
    except (Unauthenticated, PermissionDenied, DeadlineRequired) as error:
        # Signing in again would not help the person who waits.
        _log.error("a service refused the gateway", extra={"reason": error.reason})
        raise InternalError from None


def provider_in(request: Request) -> Provider:
    """The provider in a request's path; Refusal for another name."""
    name = request.path_params["provider"]
    if name in _OTHERS:
        raise HTTPException(405, headers={"Allow": "GET, HEAD"})
    try:
        return Provider(name)
    except ValueError:
        raise Refusal("UNKNOWN_PROVIDER", f"The providers are {', '.join(Provider)}.") from None


def origin(request: Request) -> Origin:
    """On whose behalf the request is made."""
    return Origin(on_behalf_of=identity_of(request).person)


def success(warnings: Iterable[str] = (), **members: Any) -> JSONResponse:
    """The answer to a call that was done; warnings stand in it when there are any."""
    told = list(warnings)
    return JSONResponse({"success": True, **members, **({"warnings": told} if told else {})})
