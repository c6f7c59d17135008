"""A gateway in memory: the real application, with its two services played by objects."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1.health_pb2 import HealthCheckResponse
from starlette.applications import Starlette

from gateway.activity import MOST_ROWS, Activity
from gateway.app import build
from gateway.authentication import Authenticator
from gateway.changes import Changes
from gateway.consent import GoogleConsent
from gateway.events import Events
from gateway.health import Health
from gateway.integrations import Integrations
from gateway.keys import Keys, SharedSecret
from gateway.metrics import Metrics
from gateway.overview import Overview
from gateway.pages import Pages
from gateway.session import Sessions
from gateway.tokens import BearerTokens
from tenantvault.errors import CredentialNotFound, InvalidCredentials, OAuthStateInvalid
from tenantvault.messages import PROVIDER_OF
from tenantvault.secret import Secret
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import integration_service_pb2 as provider_pb
from tenantvault.v1 import status_service_pb2 as status_pb

JWT_SECRET = Secret("jwt-secret-of-the-tests-0123456789abcdef-and-long-enough-for-hs512-too")
SESSION_SECRET = Secret("session-secret-of-the-tests-0123456789ab")
ORIGIN = "https://vault.example.com"
OWN_PAGE = {"Origin": ORIGIN, "X-TenantVault-Request": "1"}
VERIFIED = Timestamp(seconds=1795428000)

VAPI = {"apiKey": "b7f1c1de-2f59-4a52-9a0d-3c0a5a4e0c11"}
RESEND = {"apiKey": "re_a1b2c3d4_0123456789abcdefghjkmnpq"}
ELEVENLABS = {"apiKey": "sk_" + "5e" * 24}
TWILIO = {"accountSid": "AC" + "0a" * 16, "authToken": "9f" * 16, "phoneNumber": "+15005550100"}


@dataclass
class FakeServices:
    """The vault's and the provider service's part: keeps integrations by org, and what it was asked.

    `searched` is how many events are looked through for a page. `began` is the session in which each state of a consent
    began. `watches` has a queue for each watch that was begun: None ends it, an error breaks it. `watching` is how many
    are under way, and `unwatched` is set while there is none.
    """

    integrations: dict[tuple[str, int], pb.Integration] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    failure: BaseException | None = None
    refusal: str = ""
    warnings: tuple[str, ...] = ()
    unreleased: tuple[str, ...] = ()
    began: dict[str, tuple[str, str]] = field(default_factory=dict)
    events: list[status_pb.AuditEvent] = field(default_factory=list)
    searched: int = 10_000
    counts: list[status_pb.ReadCount] = field(default_factory=list)
    watches: "asyncio.Queue[asyncio.Queue[access_pb.WatchChangesResponse | Exception | None]]" = field(
        default_factory=asyncio.Queue
    )
    watching: int = 0
    unwatched: asyncio.Event = field(default_factory=asyncio.Event)

    async def ListAuditEvents(self, request: Any, **how: Any) -> status_pb.ListAuditEventsResponse:  # noqa: N802
        self._ask(request, how)
        before = request.before_sequence or 2**63
        older = [event for event in self.events if event.org_id == request.org_id and event.sequence < before]
        page = status_pb.ListAuditEventsResponse()
        for event in sorted(older, key=lambda event: -event.sequence)[: self.searched]:
            if (
                (not request.provider or event.provider == PROVIDER_OF[request.provider])
                and request.action in ("", event.action)
                and request.peer in ("", event.peer)
                and not (request.failed and event.outcome == "ok")
            ):
                page.events.append(event)
            page.next_before_sequence = event.sequence if event.sequence > 1 else 0
            page.since.CopyFrom(event.occurred_at)
            if len(page.events) == request.page_size:
                break
        if not page.next_before_sequence:
            page.ClearField("since")
        return page

    async def CountReads(self, request: Any, **how: Any) -> status_pb.CountReadsResponse:  # noqa: N802
        self._ask(request, how)
        return status_pb.CountReadsResponse(counts=self.counts, since=request.since)

    async def WatchChanges(self, request: Any, **how: Any) -> AsyncIterator[access_pb.WatchChangesResponse]:  # noqa: N802
        told: asyncio.Queue[access_pb.WatchChangesResponse | Exception | None] = asyncio.Queue()
        self.metadata.append(how)
        self.watching += 1
        self.unwatched.clear()
        self.watches.put_nowait(told)
        try:
            while (message := await told.get()) is not None:
                if isinstance(message, Exception):
                    raise message
                yield message
        finally:
            self.watching -= 1
            if not self.watching:
                self.unwatched.set()

    async def ListIntegrations(self, request: Any, **how: Any) -> status_pb.ListIntegrationsResponse:  # noqa: N802
        self._ask(request, how)
        found = [shown for (org, _), shown in sorted(self.integrations.items()) if org == request.org_id]
        return status_pb.ListIntegrationsResponse(integrations=found)

    async def Connect(self, request: Any, **how: Any) -> provider_pb.ConnectResponse:  # noqa: N802
        self._ask(request, how)
        kind = request.credential.WhichOneof("kind")
        match kind:
            case "vapi":
                shown = connected_vapi()
            case "twilio":
                shown = connected_twilio(request.credential.twilio.phone_number)
            case _:
                shown = connected_account(pb.Provider.Value(f"PROVIDER_{kind.upper()}"), "Acme Ltd")
        self.integrations[request.org_id, shown.provider] = shown
        return provider_pb.ConnectResponse(integration=shown, warnings=self.warnings)

    async def TestCredential(self, request: Any, **how: Any) -> provider_pb.TestCredentialResponse:  # noqa: N802
        self._ask(request, how)
        if self.refusal:
            return provider_pb.TestCredentialResponse(
                reason=InvalidCredentials.reason, message=self.refusal, field="api_key"
            )
        return provider_pb.TestCredentialResponse(accepted=True, account="Acme Ltd", warnings=self.warnings)

    async def DescribeProviders(self, request: Any, **how: Any) -> provider_pb.DescribeProvidersResponse:  # noqa: N802
        self._ask(request, how)
        return provider_pb.DescribeProvidersResponse(providers=DESCRIPTIONS)

    async def StartOAuth(self, request: Any, **how: Any) -> provider_pb.StartOAuthResponse:  # noqa: N802
        self._ask(request, how)
        state = f"state-{len(self.began)}"
        self.began[state] = (request.org_id, request.session)
        return provider_pb.StartOAuthResponse(authorization_url=f"https://accounts.google.example/auth?state={state}")

    async def FinishOAuth(self, request: Any, **how: Any) -> provider_pb.FinishOAuthResponse:  # noqa: N802
        self._ask(request, how)
        if self.began.pop(request.state, None) != (request.org_id, request.session):
            raise OAuthStateInvalid
        shown = connected_account(pb.PROVIDER_GOOGLE_CALENDAR, "ada@acme.example")
        self.integrations[request.org_id, shown.provider] = shown
        return provider_pb.FinishOAuthResponse(integration=shown, warnings=self.warnings, scopes=["openid", "email"])

    async def RotateCredential(self, request: Any, **how: Any) -> provider_pb.RotateCredentialResponse:  # noqa: N802
        self._ask(request, how)
        shown = self._stored(request)
        shown.MergeFrom(pb.Integration(rotation_due_at=VERIFIED, rotates_by_itself=True))
        return provider_pb.RotateCredentialResponse(integration=shown)

    async def Verify(self, request: Any, **how: Any) -> provider_pb.VerifyResponse:  # noqa: N802
        self._ask(request, how)
        shown = self._stored(request)
        state = pb.INTEGRATION_STATE_REFUSED if self.refusal else pb.INTEGRATION_STATE_CONNECTED
        shown.MergeFrom(pb.Integration(state=state, verification_error=self.refusal))
        return provider_pb.VerifyResponse(integration=shown, warnings=self.warnings)

    async def Disconnect(  # noqa: N802
        self, request: Any, **how: Any
    ) -> provider_pb.IntegrationServiceDisconnectResponse:
        self._ask(request, how)
        shown = self._stored(request)
        shown.state = pb.INTEGRATION_STATE_DISCONNECTED
        return provider_pb.IntegrationServiceDisconnectResponse(integration=shown, unreleased=self.unreleased)

    async def Reconnect(self, request: Any, **how: Any) -> provider_pb.IntegrationServiceReconnectResponse:  # noqa: N802
        self._ask(request, how)
        shown = self._stored(request)
        shown.state = pb.INTEGRATION_STATE_CONNECTED
        return provider_pb.IntegrationServiceReconnectResponse(integration=shown)

    def _ask(self, request: Any, how: dict[str, Any]) -> None:
        self.asked.append(request)
        self.metadata.append(how)
        if self.failure:
            raise self.failure

    def _stored(self, request: Any) -> pb.Integration:
        try:
            return self.integrations[request.org_id, request.provider]
        except KeyError:
            raise CredentialNotFound from None


@dataclass
class FakeHealth:
    status: int = HealthCheckResponse.SERVING
    failure: Exception | None = None
    asked: dict[str, Any] = field(default_factory=dict)

    async def Check(self, request: Any, **how: Any) -> HealthCheckResponse:  # noqa: N802
        self.asked = {"timeout": how["timeout"]}
        if self.failure:
            raise self.failure
        return HealthCheckResponse(status=self.status)


def connected_vapi() -> pb.Integration:
    return pb.Integration(
        provider=pb.PROVIDER_VAPI,
        state=pb.INTEGRATION_STATE_CONNECTED,
        version=1,
        latest_version=1,
        hint="••••0c11",
        last_verified_at=VERIFIED,
        resources=[
            pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id="assistant-in", role="inbound"),
            pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id="assistant-out", role="outbound"),
        ],
    )


def connected_twilio(number: str) -> pb.Integration:
    return pb.Integration(
        provider=pb.PROVIDER_TWILIO,
        state=pb.INTEGRATION_STATE_CONNECTED,
        version=1,
        latest_version=1,
        hint="••••9f9f",
        last_verified_at=VERIFIED,
        resources=[
            pb.Resource(kind=pb.RESOURCE_KIND_TWILIO_ACCOUNT, resource_id="AC" + "0a" * 16),
            pb.Resource(kind=pb.RESOURCE_KIND_PHONE_NUMBER, resource_id="+447700900123", role="whatsapp"),
            pb.Resource(kind=pb.RESOURCE_KIND_PHONE_NUMBER, resource_id=number, role="voice"),
        ],
    )


def connected_account(provider: "pb.Provider.ValueType", account: str) -> pb.Integration:
    return pb.Integration(
        provider=provider,
        state=pb.INTEGRATION_STATE_CONNECTED,
        version=1,
        latest_version=1,
        hint="••••1234",
        last_verified_at=VERIFIED,
        account=account,
    )


def event(sequence: int, **changes: Any) -> status_pb.AuditEvent:
    """Something that happened to acme."""
    made: dict[str, Any] = {
        "event_id": f"00000000-0000-4000-8000-{sequence:012}",
        "org_id": "acme",
        "sequence": sequence,
        "occurred_at": VERIFIED,
        "peer": "voice-agent",
        "action": "credential.get",
        "provider": "vapi",
        "version": 1,
        "outcome": "ok",
        "request_id": f"request-{sequence:04}",
    }
    return status_pb.AuditEvent(**(made | changes))


def _described(name: str, **fields: Any) -> provider_pb.FieldDescription:
    return provider_pb.FieldDescription(name=name, **({"label": name.replace("_", " "), "hint": "A hint."} | fields))


DESCRIPTIONS = [
    provider_pb.ProviderDescription(
        provider=pb.PROVIDER_VAPI,
        title="Vapi",
        summary="Voice assistants.",
        fields=[
            _described("api_key", label="API key", required=True, secret=True, pattern=r"\S{20,256}"),
            _described("webhook_secret", secret=True, advanced=True),
            _described("region", choices=["us", "eu"], help_url="https://docs.vapi.ai"),
        ],
        console_url="https://dashboard.vapi.ai/org/api-keys",
        next="Two assistants are made.",
        available=True,
    ),
    provider_pb.ProviderDescription(
        provider=pb.PROVIDER_TWILIO,
        title="Twilio",
        fields=[
            _described("account_sid", required=True, pattern="AC[0-9a-fA-F]{32}", placeholder="AC…"),
            _described("auth_token", secret=True),
            _described("api_key_sid", advanced=True),
            _described("api_key_secret", secret=True, advanced=True),
            _described("phone_number", required=True, pattern=r"\+[1-9][0-9]{1,14}"),
            _described("whatsapp_number", advanced=True, pattern=r"\+[1-9][0-9]{1,14}"),
        ],
        available=True,
    ),
    provider_pb.ProviderDescription(
        provider=pb.PROVIDER_GOOGLE_CALENDAR,
        title="Google Calendar",
        by_consent=True,
        asks_for=["To see when you are free."],
        available=True,
    ),
    provider_pb.ProviderDescription(
        provider=pb.PROVIDER_RESEND,
        title="Resend",
        fields=[_described("api_key", required=True, secret=True), _described("webhook_secret", secret=True)],
        available=True,
    ),
    provider_pb.ProviderDescription(
        provider=pb.PROVIDER_ELEVENLABS,
        title="ElevenLabs",
        fields=[_described("api_key", required=True, secret=True)],
        available=False,
    ),
]


def token(secret: Secret = JWT_SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    """A bearer token; a claim set to None is left out."""
    claims: dict[str, Any] = {
        "sub": "ada@acme.example",
        "org_id": "acme",
        "role": "admin",
        "iss": "https://login.example.com",
        "aud": "tenantvault",
        "exp": int(time.time()) + 600,
    }
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(claims, secret.reveal(), algorithm)


def bearer(**changes: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(**changes)}"}


@dataclass
class Gateway:
    """A gateway and what it stands on."""

    app: Starlette
    services: FakeServices
    health: dict[str, FakeHealth]
    client: httpx.AsyncClient
    changes: Changes

    async def sign_in(self, **changes: Any) -> None:
        answer = await self.client.post("/session", headers=bearer(**changes))
        assert answer.status_code == 200


def make_app(
    services: FakeServices,
    health: dict[str, FakeHealth],
    metrics: Metrics,
    *,
    keys: Keys | None = None,
    public_url: str = ORIGIN,
    local: bool = False,
    sandbox: bool = False,
    demo_orgs: tuple[str, ...] = (),
    most_rows: int = MOST_ROWS,
    changes: Changes | None = None,
    stream: Mapping[str, Any] = MappingProxyType({}),
) -> Starlette:
    url = urlsplit(public_url)
    authenticator = Authenticator(
        tokens=BearerTokens(
            keys=keys or SharedSecret(JWT_SECRET), issuer="https://login.example.com", audience="tenantvault"
        ),
        sessions=Sessions(SESSION_SECRET, secure=url.scheme == "https"),
        admin_roles=frozenset({"admin", "owner"}),
        scheme=url.scheme,
    )
    return build(
        authenticator=authenticator,
        overview=Overview(vault=services, provider=services),
        activity=Activity(vault=services, most_rows=most_rows),
        events=Events(changes=changes or Changes(services), authenticator=authenticator, metrics=metrics, **stream),
        integrations=Integrations(provider=services),
        google_consent=GoogleConsent(provider=services),
        pages=Pages(authenticator=authenticator, demo_orgs=demo_orgs, sandbox=sandbox),
        health=Health(health),
        metrics=metrics,
        public_url=url,
        local=local,
    )


MakeGateway = Callable[..., Awaitable[Gateway]]
