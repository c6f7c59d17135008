import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckResponse

from services.provider.integration import Integration, State
from services.provider.provider import Refused
from services.provider.vault import GrpcVault
from services.provider.work import Done, DueWork, ScheduledWork, Task
from services.rpc import middleware
from services.rpc.server import NotReady
from tenantvault._status import to_status
from tenantvault.credentials import (
    GoogleCalendarCredential,
    Provider,
    Resource,
    ResourceKind,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.errors import (
    CredentialNotFound,
    CredentialUnreadable,
    InvalidCredentials,
    LeaseHeld,
    OAuthStateInvalid,
    PermissionDenied,
    TenantVaultError,
    VaultUnavailable,
)
from tenantvault.secret import Secret
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import status_service_pb2 as status
from tenantvault.v1 import store_service_pb2 as store

MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
ASSISTANT = Resource(ResourceKind.VAPI_ASSISTANT, "a-1", "inbound")
CREDENTIAL = VapiCredential(api_key=Secret("key-0123456789-0123456789"), webhook_secret=Secret("hook"), region="eu")
INTEGRATION = Integration(
    provider=Provider.VAPI,
    state=State.REFUSED,
    version=1,
    latest_version=2,
    hint="••••6789",
    resources=(ASSISTANT,),
    last_verified_at=MOMENT,
    verification_error="No.",
    connected_at=MOMENT,
    warnings=("Mind the gap.",),
    account="ada@example.com",
    verification_reason="INVALID_CREDENTIALS",
)


def integration_pb() -> pb.Integration:
    message = pb.Integration(
        provider=pb.PROVIDER_VAPI,
        state=pb.INTEGRATION_STATE_REFUSED,
        version=1,
        latest_version=2,
        hint="••••6789",
        resources=[pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id="a-1", role="inbound")],
        verification_error="No.",
        warnings=["Mind the gap."],
        account="ada@example.com",
        verification_reason="INVALID_CREDENTIALS",
    )
    message.last_verified_at.FromDatetime(MOMENT)
    message.connected_at.FromDatetime(MOMENT)
    return message


def active_pb() -> pb.ActiveCredential:
    vapi = pb.VapiCredential(api_key="key-0123456789-0123456789", webhook_secret="hook", region="eu")
    return pb.ActiveCredential(
        org_id="acme", provider=pb.PROVIDER_VAPI, version=2, credential=pb.Credential(vapi=vapi), generation=7
    )


class FakeChannel:
    """Answers by the method's name and keeps what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Message | Exception] = {}
        self.asked: list[tuple[str, Any]] = []
        self.options: list[dict[str, Any]] = []

    def unary_unary(self, path: str, **_: object) -> Callable[..., Awaitable[Message]]:
        async def method(request: Message, **options: Any) -> Message:
            self.asked.append((path, request))
            self.options.append(options)
            answer = self.answers[path.rsplit("/", 1)[1]]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return method

    unary_stream = unary_unary


def failed(error: TenantVaultError) -> grpc.aio.AioRpcError:
    code, sentence, trailers = to_status(error)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), sentence)


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


@pytest.fixture
def vault(channel: FakeChannel) -> GrpcVault:
    return GrpcVault(cast("grpc.aio.Channel", channel))


@pytest.fixture(autouse=True)
def request_id() -> Iterator[str]:
    token = middleware._current.set(middleware.Call("/x/Y", "request-1234"))
    yield "request-1234"
    middleware._current.reset(token)


async def test_the_request_id_and_a_deadline_go_along(channel: FakeChannel, vault: GrpcVault, request_id: str) -> None:
    channel.answers["ListIntegrations"] = status.ListIntegrationsResponse()
    await vault.integration("acme", Provider.VAPI)
    assert [{"timeout": 5.0, "metadata": (("x-request-id", request_id),)}] == channel.options


async def test_an_integration_is_found_among_others(channel: FakeChannel, vault: GrpcVault) -> None:
    others = [pb.Integration(provider=pb.PROVIDER_TWILIO), integration_pb()]
    channel.answers["ListIntegrations"] = status.ListIntegrationsResponse(integrations=others)
    assert INTEGRATION == await vault.integration("acme", Provider.VAPI)
    assert status.ListIntegrationsRequest(org_id="acme") == channel.asked[0][1]


async def test_an_integration_that_is_not_there_is_empty(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["ListIntegrations"] = status.ListIntegrationsResponse(integrations=[integration_pb()])
    assert Integration(provider=Provider.TWILIO) == await vault.integration("acme", Provider.TWILIO)


async def test_the_active_credential(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["GetCredential"] = access.GetCredentialResponse(credential=active_pb())
    active = await vault.credential("acme", Provider.VAPI)
    assert (2, CREDENTIAL) == (active.version, active.credential)
    assert access.GetCredentialRequest(org_id="acme", provider=pb.PROVIDER_VAPI) == channel.asked[0][1]


async def test_until_when_the_version_before_is_readable(channel: FakeChannel, vault: GrpcVault) -> None:
    before = status.Version(version=1, state=status.VERSION_STATE_PREVIOUS)
    before.readable_until.FromDatetime(MOMENT)
    active = status.Version(version=2, state=status.VERSION_STATE_ACTIVE)
    channel.answers["ListVersions"] = status.ListVersionsResponse(versions=[active, before])
    assert MOMENT == await vault.previous_until("acme", Provider.VAPI)
    assert status.ListVersionsRequest(org_id="acme", provider=pb.PROVIDER_VAPI) == channel.asked[0][1]


async def test_a_version_that_is_only_stored_is_not_readable(channel: FakeChannel, vault: GrpcVault) -> None:
    stored = status.Version(version=1, state=status.VERSION_STATE_STORED)
    channel.answers["ListVersions"] = status.ListVersionsResponse(versions=[stored])
    assert await vault.previous_until("acme", Provider.VAPI) is None


async def test_the_newest_credential(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["GetNewestCredential"] = access.GetNewestCredentialResponse(credential=active_pb())
    assert CREDENTIAL == await vault.newest_credential("acme", Provider.VAPI)
    assert access.GetNewestCredentialRequest(org_id="acme", provider=pb.PROVIDER_VAPI) == channel.asked[0][1]


@pytest.mark.parametrize("error", [CredentialNotFound(), CredentialUnreadable()])
async def test_a_newest_credential_that_cannot_be_read_is_none(
    channel: FakeChannel, vault: GrpcVault, error: TenantVaultError
) -> None:
    channel.answers["GetNewestCredential"] = failed(error)
    channel.answers["GetCredential"] = failed(CredentialNotFound())
    assert await vault.newest_credential("acme", Provider.VAPI) is None


async def test_after_a_number_was_passed_over_the_newest_is_the_active_one(
    channel: FakeChannel, vault: GrpcVault
) -> None:
    channel.answers["GetNewestCredential"] = failed(CredentialNotFound())
    channel.answers["GetCredential"] = access.GetCredentialResponse(credential=active_pb())
    assert CREDENTIAL == await vault.newest_credential("acme", Provider.VAPI)


@pytest.mark.parametrize("error", [VaultUnavailable(), PermissionDenied()])
async def test_any_other_failure_is_one(channel: FakeChannel, vault: GrpcVault, error: TenantVaultError) -> None:
    channel.answers["GetNewestCredential"] = failed(error)
    with pytest.raises(type(error)):
        await vault.newest_credential("acme", Provider.VAPI)


@pytest.mark.parametrize(
    ("credential", "kind"),
    [
        (CREDENTIAL, "vapi"),
        (TwilioCredential(account_sid="AC", auth_token=Secret("t"), phone_number="+14155550100"), "twilio"),
    ],
)
async def test_a_credential_is_put(
    channel: FakeChannel, vault: GrpcVault, credential: VapiCredential | TwilioCredential, kind: str
) -> None:
    channel.answers["PutCredential"] = store.PutCredentialResponse(version=3)
    assert 3 == await vault.put("acme", credential, expected_version=2, on_behalf_of="ada")
    request = channel.asked[0][1]
    assert ("acme", 2, "ada") == (request.org_id, request.expected_version, request.origin.on_behalf_of)
    assert kind == request.credential.WhichOneof("kind")


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (None, None),
        ([], store.Schedule()),
        (
            [ScheduledWork(Task.VERIFY, 60.0)],
            store.Schedule(work=[store.ScheduledWork(task=store.TASK_VERIFY, due_in=Duration(seconds=60))]),
        ),
    ],
)
async def test_resources_are_registered_under_the_lease(
    channel: FakeChannel, vault: GrpcVault, schedule: list[ScheduledWork] | None, message: store.Schedule | None
) -> None:
    channel.answers["RegisterResources"] = store.RegisterResourcesResponse(integration=integration_pb())
    integration = await vault.register(
        "acme",
        Provider.VAPI,
        version=2,
        resources=(ASSISTANT,),
        warnings=("Mind the gap.",),
        account="ada@example.com",
        schedule=schedule,
        lease_owner="me",
        on_behalf_of="ada",
    )
    assert INTEGRATION == integration
    assert (
        store.RegisterResourcesRequest(
            org_id="acme",
            provider=pb.PROVIDER_VAPI,
            version=2,
            resources=[pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id="a-1", role="inbound")],
            lease_owner="me",
            warnings=["Mind the gap."],
            account="ada@example.com",
            schedule=message,
            origin=store.Origin(on_behalf_of="ada"),
        )
        == channel.asked[0][1]
    )


@pytest.mark.parametrize(
    ("refusal", "error", "reason"),
    [(None, "", ""), (Refused(InvalidCredentials, "No.", "apiKey"), "No.", "INVALID_CREDENTIALS")],
)
async def test_a_verification_is_recorded(
    channel: FakeChannel, vault: GrpcVault, refusal: Refused | None, error: str, reason: str
) -> None:
    channel.answers["RecordVerification"] = store.RecordVerificationResponse(integration=integration_pb())
    integration = await vault.record_verification(
        "acme", Provider.VAPI, version=1, refusal=refusal, warnings=("Hm.",), account="a@b.c", on_behalf_of="ada"
    )
    assert INTEGRATION == integration
    assert (
        store.RecordVerificationRequest(
            org_id="acme",
            provider=pb.PROVIDER_VAPI,
            version=1,
            error=error,
            reason=reason,
            warnings=["Hm."],
            account="a@b.c",
            origin=store.Origin(on_behalf_of="ada"),
        )
        == channel.asked[0][1]
    )


async def test_disconnect_and_reconnect(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["Disconnect"] = store.DisconnectResponse(integration=integration_pb())
    channel.answers["Reconnect"] = store.ReconnectResponse(integration=integration_pb())
    assert INTEGRATION == await vault.disconnect("acme", Provider.VAPI, on_behalf_of="ada")
    assert INTEGRATION == await vault.reconnect("acme", Provider.VAPI, warnings=("Not set up.",), on_behalf_of="ada")
    origin = store.Origin(on_behalf_of="ada")
    assert [
        store.DisconnectRequest(org_id="acme", provider=pb.PROVIDER_VAPI, origin=origin),
        store.ReconnectRequest(org_id="acme", provider=pb.PROVIDER_VAPI, origin=origin, warnings=("Not set up.",)),
    ] == [request for _, request in channel.asked]


async def test_a_token_is_refreshed_under_the_lease(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["RefreshCredential"] = store.RefreshCredentialResponse()
    token = GoogleCalendarCredential(
        refresh_token=Secret("r"), access_token=Secret("a"), expires_at=MOMENT, scopes=("calendar",)
    )
    await vault.refresh("acme", token, version=3, lease_owner="me", on_behalf_of="ada")
    (_, request) = channel.asked[0]
    assert ("acme", 3, "me", "ada") == (
        request.org_id,
        request.version,
        request.lease_owner,
        request.origin.on_behalf_of,
    )
    assert "a" == request.credential.google_calendar.access_token


async def test_a_version_is_gone_back_to_or_destroyed(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["RollBackCredential"] = store.RollBackCredentialResponse(integration=integration_pb())
    channel.answers["DestroyVersion"] = store.DestroyVersionResponse()
    origin = store.Origin(on_behalf_of="ada")
    assert INTEGRATION == await vault.roll_back(
        "acme", Provider.VAPI, version=1, expected_version=2, on_behalf_of="ada"
    )
    await vault.destroy("acme", Provider.VAPI, version=2, on_behalf_of="ada")
    assert [
        store.RollBackCredentialRequest(
            org_id="acme", provider=pb.PROVIDER_VAPI, version=1, expected_version=2, origin=origin
        ),
        store.DestroyVersionRequest(org_id="acme", provider=pb.PROVIDER_VAPI, version=2, origin=origin),
    ] == [request for _, request in channel.asked]


async def test_a_state_is_kept_and_used(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["KeepOAuthState"] = store.KeepOAuthStateResponse()
    channel.answers["UseOAuthState"] = failed(OAuthStateInvalid())
    google = Provider.GOOGLE_CALENDAR
    await vault.keep_state("acme", google, state_hash=b"s", binding=b"b", seconds=600.0)
    with pytest.raises(OAuthStateInvalid):
        await vault.use_state("acme", google, state_hash=b"s", binding=b"b")
    named = {"org_id": "acme", "provider": pb.PROVIDER_GOOGLE_CALENDAR, "state_hash": b"s", "binding": b"b"}
    assert [
        store.KeepOAuthStateRequest(**named, duration=Duration(seconds=600)),  # type: ignore[arg-type]
        store.UseOAuthStateRequest(**named),  # type: ignore[arg-type]
    ] == [request for _, request in channel.asked]


async def test_work_is_taken_noted_and_given_back(channel: FakeChannel, vault: GrpcVault) -> None:
    due = store.DueWork(org_id="acme", provider=pb.PROVIDER_RESEND, task=store.TASK_ROTATE, attempts=1, progress="half")
    strange = store.DueWork(org_id="acme", provider=pb.PROVIDER_RESEND)
    channel.answers["ClaimDueWork"] = store.ClaimDueWorkResponse(work=[due, strange])
    channel.answers["KeepProgress"] = store.KeepProgressResponse()
    channel.answers["FinishWork"] = store.FinishWorkResponse()
    (work,) = await vault.claim(owner="me", seconds=180.0, at_most=8)
    assert work == DueWork(org_id="acme", provider=Provider.RESEND, task=Task.ROTATE, attempts=1, progress="half")
    await vault.keep_progress(work, owner="me", progress="further")
    await vault.finish(work, owner="me", done=Done(60.0, failed=True, progress="further", by_hand=True))
    named = {"org_id": "acme", "provider": pb.PROVIDER_RESEND, "task": store.TASK_ROTATE, "owner": "me"}
    assert [
        store.ClaimDueWorkRequest(owner="me", duration=Duration(seconds=180), max_items=8),
        store.KeepProgressRequest(**named, progress="further"),  # type: ignore[arg-type]
        store.FinishWorkRequest(
            **named,  # type: ignore[arg-type]
            due_in=Duration(seconds=60),
            failed=True,
            progress="further",
            by_hand=True,
        ),
    ] == [request for _, request in channel.asked]


async def test_in_the_background_no_request_id_goes_along(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["ClaimDueWork"] = store.ClaimDueWorkResponse()
    empty = contextvars.Context()
    await asyncio.create_task(vault.claim(owner="me", seconds=1.0, at_most=1), context=empty)
    assert [{"timeout": 5.0, "metadata": None}] == channel.options


async def test_leases_are_taken_and_given_back(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["AcquireLease"] = store.AcquireLeaseResponse()
    channel.answers["ReleaseLease"] = store.ReleaseLeaseResponse()
    await vault.acquire_lease("acme", Provider.VAPI, owner="me", seconds=2.5)
    await vault.release_lease("acme", Provider.VAPI, owner="me")
    taken, given_back = (request for _, request in channel.asked)
    assert ("acme", pb.PROVIDER_VAPI, "me") == (taken.org_id, taken.provider, taken.owner)
    assert (2, 500_000_000) == (taken.duration.seconds, taken.duration.nanos)
    assert store.ReleaseLeaseRequest(org_id="acme", provider=pb.PROVIDER_VAPI, owner="me") == given_back


async def test_a_lease_that_is_held_says_when_to_come_back(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["AcquireLease"] = failed(LeaseHeld(retry_after=4.0))
    with pytest.raises(LeaseHeld) as caught:
        await vault.acquire_lease("acme", Provider.VAPI, owner="me", seconds=2.5)
    assert 4.0 == caught.value.retry_after


async def test_ready_is_when_the_vault_serves(channel: FakeChannel, vault: GrpcVault) -> None:
    channel.answers["Check"] = HealthCheckResponse(status=HealthCheckResponse.SERVING)
    await vault.check()


@pytest.mark.parametrize(
    "answer",
    [HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING), failed(VaultUnavailable())],
    ids=["no", "away"],
)
async def test_not_ready_is_when_the_vault_does_not(
    channel: FakeChannel, vault: GrpcVault, answer: Message | Exception
) -> None:
    channel.answers["Check"] = answer
    with pytest.raises(NotReady, match="the vault"):
        await vault.check()
