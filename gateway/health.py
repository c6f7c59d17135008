"""Whether the gateway lives, and whether it can do its work."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.problems import REQUEST_ID, Refusal
from tenantvault.channel import call
from tenantvault.errors import TenantVaultError

PATIENCE: Final = 1.0
"""Seconds that a service has to say that it is well."""


class HealthCalls(Protocol):
    """What is asked of a service: the stub of grpc.health.v1.Health."""

    @property
    def Check(self) -> Callable[..., Awaitable[HealthCheckResponse]]:  # noqa: N802 - the proto's name
        """Whether the server serves."""


@dataclass(frozen=True, slots=True)
class Health:
    """The health endpoints. `services` are those that the gateway cannot do without, by name."""

    services: Mapping[str, HealthCalls]

    async def alive(self, request: Request) -> JSONResponse:  # noqa: ARG002 - an endpoint's signature
        """GET /healthz: the process answers."""
        return JSONResponse({"status": "alive"})

    async def ready(self, request: Request) -> JSONResponse:
        """GET /readyz: the services answer too; a problem names those that do not."""
        names = list(self.services)
        answers = await asyncio.gather(*(self._serves(name, request) for name in names))
        missing = [name for name, serves in zip(names, answers, strict=True) if not serves]
        if missing:
            fields = dict.fromkeys(missing, "It does not say that it is serving.")
            raise Refusal("NOT_READY", f"Waiting for: {', '.join(missing)}.", fields=fields)
        return JSONResponse({"status": "ready"})

    async def _serves(self, name: str, request: Request) -> bool:
        method, request_id = self.services[name].Check, request.scope[REQUEST_ID]
        try:
            answer = await call(method, HealthCheckRequest(), deadline=PATIENCE, request_id=request_id)
        except TenantVaultError:
            return False
        return bool(answer.status == HealthCheckResponse.SERVING)
