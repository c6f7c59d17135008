"""The provider service's gRPC face: what comes in is checked and handed on, what goes out is put into messages."""

import re
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from services.provider.connect import Connect
from services.provider.lifecycle import Lifecycle
from services.provider.messages import description_to_message, integration_to_message
from services.provider.oauth import OAuth
from services.provider.provider import Provider, Refused
from services.provider.refresh import Refresh
from services.provider.rotate import Rotate
from services.rpc.middleware import Context
from tenantvault.credentials import Credential
from tenantvault.errors import InvalidRequest
from tenantvault.messages import credential_from_message, moment_to_timestamp, provider_from_number
from tenantvault.v1 import credential_pb2 as cpb
from tenantvault.v1 import integration_service_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store
from tenantvault.v1.integration_service_pb2_grpc import IntegrationServiceServicer

_ORG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MAX_ORIGIN_BYTES: Final = 256
# Of a call's time, what a connect keeps for its own work when it has to wait for others: seconds.
_OWN_WORK: Final = 30.0
_LEAST_PATIENCE: Final = 1.0


_MAX_SESSION_BYTES: Final = 256
_MAX_STATE: Final = 256
_MIN_LIFE: Final = 60.0
_LONGEST_LIFE: Final = 1800.0
_OWN_REFRESH: Final = 2.0


class IntegrationServicer(IntegrationServiceServicer):
    """Answers the gateway, and those who need an access token that lasts."""

    def __init__(
        self,
        providers: Sequence[Provider[Any]],
        *,
        connect: Connect,
        lifecycle: Lifecycle,
        oauth: OAuth,
        refresh: Refresh,
        rotate: Rotate,
    ) -> None:
        self._providers = providers
        self._by_consent = {provider.name for provider in providers if provider.consent is not None}
        self._connect = connect
        self._lifecycle = lifecycle
        self._oauth = oauth
        self._refresh = refresh
        self._rotate = rotate

    async def DescribeProviders(
        self, request: pb.DescribeProvidersRequest, context: Context
    ) -> pb.DescribeProvidersResponse:
        """Describe what can be connected, and with what."""
        return pb.DescribeProvidersResponse(
            providers=[
                description_to_message(
                    provider.name, provider.description, by_consent=provider.name in self._by_consent
                )
                for provider in self._providers
            ]
        )

    async def TestCredential(self, request: pb.TestCredentialRequest, context: Context) -> pb.TestCredentialResponse:
        """Test what was typed in, and keep nothing of it."""
        _org(request.org_id)
        verdict = await self._connect.test(self._typed(request.credential))
        if isinstance(verdict, Refused):
            return pb.TestCredentialResponse(
                reason=verdict.kind.reason, message=verdict.sentence, field=_snake(verdict.field)
            )
        return pb.TestCredentialResponse(accepted=True, warnings=verdict.warnings, account=verdict.account)

    async def StartOAuth(self, request: pb.StartOAuthRequest, context: Context) -> pb.StartOAuthResponse:
        """Begin a consent."""
        url = await self._oauth.start(
            _org(request.org_id),
            provider_from_number(request.provider),
            session=_session(request.session),
            on_behalf_of=_person(request.origin),
        )
        return pb.StartOAuthResponse(authorization_url=url)

    async def FinishOAuth(self, request: pb.FinishOAuthRequest, context: Context) -> pb.FinishOAuthResponse:
        """End a consent."""
        if not 0 < len(request.state) <= _MAX_STATE:
            raise InvalidRequest(fields={"state": "Give the state that came back."})
        report, scopes = await self._oauth.finish(
            _org(request.org_id),
            provider_from_number(request.provider),
            session=_session(request.session),
            state=request.state,
            code=request.code,
            error=request.error,
            on_behalf_of=_person(request.origin),
            patience=_patience(context),
        )
        return pb.FinishOAuthResponse(
            integration=integration_to_message(report.integration), warnings=report.warnings, scopes=scopes
        )

    async def RefreshAccessToken(
        self, request: pb.RefreshAccessTokenRequest, context: Context
    ) -> pb.RefreshAccessTokenResponse:
        """Make sure of an access token that lasts."""
        expires_at = await self._refresh(
            _org(request.org_id),
            provider_from_number(request.provider),
            min_life=_life(request.min_life) if request.HasField("min_life") else _MIN_LIFE,
            patience=max(_LEAST_PATIENCE, context.time_remaining() - _OWN_REFRESH),
        )
        return pb.RefreshAccessTokenResponse(expires_at=moment_to_timestamp(expires_at))

    async def RotateCredential(
        self, request: pb.RotateCredentialRequest, context: Context
    ) -> pb.RotateCredentialResponse:
        """Have a rotation begin."""
        integration = await self._rotate.ask_for(
            _org(request.org_id),
            provider_from_number(request.provider),
            on_behalf_of=_person(request.origin),
            patience=_patience(context),
        )
        return pb.RotateCredentialResponse(integration=integration_to_message(integration))

    async def Connect(self, request: pb.ConnectRequest, context: Context) -> pb.ConnectResponse:
        """Connect an org with a provider."""
        report = await self._connect(
            _org(request.org_id),
            self._typed(request.credential),
            on_behalf_of=_person(request.origin),
            patience=_patience(context),
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
        return pb.IntegrationServiceDisconnectResponse(
            integration=integration_to_message(report.integration), unreleased=report.unreleased
        )

    async def Reconnect(
        self, request: pb.IntegrationServiceReconnectRequest, context: Context
    ) -> pb.IntegrationServiceReconnectResponse:
        """Make a disconnected credential readable again."""
        report = await self._lifecycle.reconnect(
            _org(request.org_id),
            provider_from_number(request.provider),
            on_behalf_of=_person(request.origin),
            patience=_patience(context),
        )
        return pb.IntegrationServiceReconnectResponse(
            integration=integration_to_message(report.integration), warnings=report.warnings
        )

    def _typed(self, message: cpb.Credential) -> Credential:
        """What a customer typed in: not a credential that only a consent gives, nor what only we know of one."""
        credential = credential_from_message(message)
        for provider in self._providers:
            if not isinstance(credential, provider.credential):
                continue
            if provider.consent is not None:
                raise InvalidRequest(f"{provider.description.title} is connected by consent, on its own page.")
            ours = {field.name for field in provider.description.fields}
            given = {field.name for field, _ in getattr(message, message.WhichOneof("kind") or "").ListFields()}
            if strange := given - ours:
                raise InvalidRequest(
                    fields=dict.fromkeys(strange, "This is not for the customer to give: leave it out.")
                )
        return credential


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


def _session(session: str) -> str:
    if not 0 < len(session.encode()) <= _MAX_SESSION_BYTES or not session.isprintable():
        raise InvalidRequest(fields={"session": f"Give 1 to {_MAX_SESSION_BYTES} bytes of printable text."})
    return session


def _life(duration: Duration) -> float:
    seconds = duration.seconds + duration.nanos / 1e9
    if not 0 < seconds <= _LONGEST_LIFE:
        raise InvalidRequest(fields={"min_life": f"Give more than zero and at most {_LONGEST_LIFE:g} seconds."})
    return seconds


def _patience(context: Context) -> float:
    return max(_LEAST_PATIENCE, context.time_remaining() - _OWN_WORK)


def _snake(name: str) -> str:
    """A field of the REST interface as the contract's messages call it."""
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
