"""What may be looked at: the state of an org's integrations, and what the providers ask for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway import views
from gateway.authentication import identity_of
from gateway.calls import ask
from tenantvault.v1 import integration_service_pb2 as provider_pb
from tenantvault.v1 import status_service_pb2 as status_pb

STATUS_DEADLINE: Final = 5.0
DESCRIBE_DEADLINE: Final = 5.0
"""Seconds."""

_FOR_A_WHILE: Final = "private, max-age=300"


class StatusCalls(Protocol):
    """What is asked of the vault: the stub of IntegrationStatusService."""

    @property
    def ListIntegrations(self) -> Callable[..., Awaitable[status_pb.ListIntegrationsResponse]]:  # noqa: N802 - the proto's name
        """The state of an org's integrations."""


class DescribeCalls(Protocol):
    """What is asked of the provider service: the stub of IntegrationService."""

    @property
    def DescribeProviders(self) -> Callable[..., Awaitable[provider_pb.DescribeProvidersResponse]]:  # noqa: N802 - the proto's name
        """What a form shows of each provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The endpoints below `/api/integrations` that name no provider."""

    vault: StatusCalls
    provider: DescribeCalls

    async def status(self, request: Request) -> JSONResponse:
        """GET /api/integrations/status: the state of all five."""
        wanted = status_pb.ListIntegrationsRequest(org_id=identity_of(request).org_id)
        answer = await ask(request, self.vault.ListIntegrations, wanted, STATUS_DEADLINE)
        return JSONResponse(views.status(answer.integrations))

    async def providers(self, request: Request) -> JSONResponse:
        """GET /api/integrations/providers: what each asks for, the same for every org."""
        wanted = provider_pb.DescribeProvidersRequest()
        answer = await ask(request, self.provider.DescribeProviders, wanted, DESCRIBE_DEADLINE)
        shown = {"providers": views.descriptions(answer.providers)}
        return JSONResponse(shown, headers={"Cache-Control": _FOR_A_WHILE})
