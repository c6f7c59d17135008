"""Connecting by consent (OAuth 2.0): where the browser is sent, and what it brings back.

What names the browser's session goes along both times, so that nobody can end in their own session what another person
began (RFC 9700, section 4.7).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway import fields
from gateway.authentication import identity_of
from gateway.body import read_object
from gateway.calls import ask, origin, success
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import integration_service_pb2 as provider_pb

START_DEADLINE: Final = 10.0
FINISH_DEADLINE: Final = 60.0
"""Seconds. It gets the tokens, and then does what a connect does."""

CAME_BACK: Final = ("code", "state", "error")
"""What Google may send back."""


class ConsentCalls(Protocol):
    """What is asked of the provider service: the stub of IntegrationService."""

    @property
    def StartOAuth(self) -> Callable[..., Awaitable[provider_pb.StartOAuthResponse]]:  # noqa: N802 - the proto's name
        """Begin: where the browser is to be sent."""

    @property
    def FinishOAuth(self) -> Callable[..., Awaitable[provider_pb.FinishOAuthResponse]]:  # noqa: N802 - the proto's name
        """End it with what came back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleConsent:
    """The endpoints below `/api/auth/google-calendar`."""

    provider: ConsentCalls

    async def start(self, request: Request) -> JSONResponse:
        """POST /api/auth/google-calendar/start: the address of Google's page, for ten minutes."""
        fields.nothing(await read_object(request))
        identity = identity_of(request)
        wanted = provider_pb.StartOAuthRequest(
            org_id=identity.org_id,
            provider=pb.PROVIDER_GOOGLE_CALENDAR,
            session=identity.session,
            origin=origin(request),
        )
        answer = await ask(request, self.provider.StartOAuth, wanted, START_DEADLINE)
        return success(authorizationUrl=answer.authorization_url)

    async def callback(self, request: Request) -> JSONResponse:
        """POST /api/auth/google-calendar/callback: `state` with the `code` or the `error` that Google sent back."""
        given = fields.texts(await read_object(request), CAME_BACK)
        identity = identity_of(request)
        wanted = provider_pb.FinishOAuthRequest(
            org_id=identity.org_id,
            provider=pb.PROVIDER_GOOGLE_CALENDAR,
            session=identity.session,
            origin=origin(request),
            **given,
        )
        answer = await ask(request, self.provider.FinishOAuth, wanted, FINISH_DEADLINE)
        return success(answer.warnings, email=answer.integration.account, scopes=list(answer.scopes))
