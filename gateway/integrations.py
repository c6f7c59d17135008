"""The REST endpoints of one integration: one gRPC call each.

The org is the caller's own, out of the verified token or session, and nothing in a request can name another.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway import fields, views
from gateway.authentication import identity_of
from gateway.body import read_object
from gateway.calls import ask, origin, provider_in, success
from gateway.problems import Refusal
from tenantvault.messages import PROVIDER_NUMBER
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import integration_service_pb2 as provider_pb

CONNECT_DEADLINE: Final = 60.0
"""Seconds. A connect tests, stores and provisions, and may wait for another one of the same org."""
ROTATE_DEADLINE: Final = 60.0
VERIFY_DEADLINE: Final = 40.0
DISCONNECT_DEADLINE: Final = 40.0
"""Seconds. It takes back at the provider what was made there."""


class IntegrationCalls(Protocol):
    """What is asked of the provider service: the stub of IntegrationService."""

    @property
    def Connect(self) -> Callable[..., Awaitable[provider_pb.ConnectResponse]]:  # noqa: N802 - the proto's name
        """Test, store, provision, activate."""

    @property
    def TestCredential(self) -> Callable[..., Awaitable[provider_pb.TestCredentialResponse]]:  # noqa: N802 - the proto's name
        """Test what was typed in, and nothing else."""

    @property
    def Verify(self) -> Callable[..., Awaitable[provider_pb.VerifyResponse]]:  # noqa: N802 - the proto's name
        """Test what is stored."""

    @property
    def Disconnect(self) -> Callable[..., Awaitable[provider_pb.IntegrationServiceDisconnectResponse]]:  # noqa: N802 - the proto's name
        """Make the credential unreadable."""

    @property
    def Reconnect(self) -> Callable[..., Awaitable[provider_pb.IntegrationServiceReconnectResponse]]:  # noqa: N802 - the proto's name
        """Make it readable again."""

    @property
    def RotateCredential(self) -> Callable[..., Awaitable[provider_pb.RotateCredentialResponse]]:  # noqa: N802 - the proto's name
        """Begin to replace the credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrations:
    """The endpoints below `/api/integrations/{provider}`."""

    provider: IntegrationCalls

    async def connect(self, request: Request) -> JSONResponse:
        """POST /api/integrations/{provider}: connect it, or give a connected one a new credential."""
        wanted = provider_pb.ConnectRequest(
            org_id=identity_of(request).org_id, credential=await _credential(request), origin=origin(request)
        )
        answer = await ask(request, self.provider.Connect, wanted, CONNECT_DEADLINE)
        # What was made, or else whose account it is.
        shown = views.resources(answer.integration) or views.account(answer.integration)
        return success(answer.warnings, **shown)

    async def test(self, request: Request) -> JSONResponse:
        """POST /api/integrations/{provider}/test: try a credential. Nothing is stored.

        `success` says that the provider answered; `accepted`, `error`, `code` and `field` say what.
        """
        wanted = provider_pb.TestCredentialRequest(
            org_id=identity_of(request).org_id, credential=await _credential(request)
        )
        answer = await ask(request, self.provider.TestCredential, wanted, VERIFY_DEADLINE)
        return success(answer.warnings, **views.trial(answer))

    async def verify(self, request: Request) -> JSONResponse:
        """POST /api/integrations/{provider}/verify: ask the provider whether the stored credential is still good.

        `success` says that the provider answered; `connected` and `error` say what.
        """
        wanted = provider_pb.VerifyRequest(
            org_id=identity_of(request).org_id, provider=await _provider_alone(request), origin=origin(request)
        )
        answer = await ask(request, self.provider.Verify, wanted, VERIFY_DEADLINE)
        return success(answer.warnings, **views.verdict(answer.integration))

    async def disconnect(self, request: Request) -> JSONResponse:
        """DELETE /api/integrations/{provider}: the credential is kept encrypted and nobody can read it.

        `unreleased` has a sentence for each thing that could not be taken back at the provider.
        """
        provider = provider_in(request)
        wanted = provider_pb.IntegrationServiceDisconnectRequest(
            org_id=identity_of(request).org_id, provider=await _provider_alone(request), origin=origin(request)
        )
        answer = await ask(request, self.provider.Disconnect, wanted, DISCONNECT_DEADLINE)
        message = f"{views.NAMES[provider]} is disconnected. Its credential can be read again after a reconnect only."
        unreleased: dict[str, Any] = {"unreleased": list(answer.unreleased)} if answer.unreleased else {}
        return success(message=message, **unreleased)

    async def reconnect(self, request: Request) -> JSONResponse:
        """POST /api/integrations/{provider}/reconnect: undo a disconnect and test the credential."""
        wanted = provider_pb.IntegrationServiceReconnectRequest(
            org_id=identity_of(request).org_id, provider=await _provider_alone(request), origin=origin(request)
        )
        answer = await ask(request, self.provider.Reconnect, wanted, VERIFY_DEADLINE)
        return success(answer.warnings, **views.verdict(answer.integration), **views.resources(answer.integration))

    async def rotate(self, request: Request) -> JSONResponse:
        """POST /api/integrations/{provider}/rotate: begin to replace the credential by one that the provider issues."""
        wanted = provider_pb.RotateCredentialRequest(
            org_id=identity_of(request).org_id, provider=await _provider_alone(request), origin=origin(request)
        )
        answer = await ask(request, self.provider.RotateCredential, wanted, ROTATE_DEADLINE)
        return success(
            connected=views.connected(answer.integration), rotationDueAt=views.rotation_due_at(answer.integration)
        )


async def _credential(request: Request) -> pb.Credential:
    provider = provider_in(request)
    body = await read_object(request)
    if provider not in fields.TYPED_IN:
        raise Refusal("CONSENT_REQUIRED")
    return fields.credential(provider, body)


async def _provider_alone(request: Request) -> "pb.Provider.ValueType":
    provider = provider_in(request)
    fields.nothing(await read_object(request))
    return PROVIDER_NUMBER[provider]
