"""Both clients, in front of a transport without a socket."""

import asyncio
import inspect
import math
from datetime import UTC, datetime
from typing import Any, assert_type

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault import (
    ActiveCredential,
    AsyncClient,
    Client,
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    PreviousCredential,
    Provider,
    ResendCredential,
    ResolvedOrg,
    Resource,
    ResourceKind,
    Secret,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.channel import DEFAULT_DEADLINE
from tenantvault.errors import (
    LEAVES,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    PermissionDenied,
    TenantVaultError,
    Unauthenticated,
    VaultUnavailable,
)
from tenantvault.messages import PROVIDER_NUMBER, credential_to_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory

VAPI = VapiCredential(api_key=Secret("ac3e-key"), webhook_secret=Secret("hook"), region="eu")
TWILIO = TwilioCredential(account_sid="AC" + "0" * 32, auth_token=Secret("token"), phone_number="+12025550100")
GOOGLE = GoogleCalendarCredential(
    refresh_token=Secret("1//refresh"),
    access_token=Secret("ya29.access"),
    expires_at=datetime(2026, 11, 24, 13, tzinfo=UTC),
    scopes=("https://www.googleapis.com/auth/calendar.events",),
    email="ada@acme.example",
    channel_token=Secret("channel"),
)
RESEND = ResendCredential(api_key=Secret("re_key"), webhook_secret=Secret("whsec_c2VjcmV0"), webhook_id="w1")
ELEVENLABS = ElevenLabsCredential(api_key=Secret("el-key"), region="eu")
CREDENTIALS: dict[Provider, Credential] = {
    Provider.VAPI: VAPI,
    Provider.TWILIO: TWILIO,
    Provider.GOOGLE_CALENDAR: GOOGLE,
    Provider.RESEND: RESEND,
    Provider.ELEVENLABS: ELEVENLABS,
}
VERIFIED = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
INBOUND = "00000000-0000-4000-8000-000000000001"

# Every verb, with good arguments.
VERBS: list[tuple[str, tuple[Any, ...]]] = [
    ("get", ("acme", Provider.VAPI)),
    ("vapi", ("acme",)),
    ("twilio", ("acme",)),
    ("google_calendar", ("acme",)),
    ("resend", ("acme",)),
    ("elevenlabs", ("acme",)),
    ("report_failure", ("acme", Provider.VAPI, 3)),
    ("resolve_org", (ResourceKind.VAPI_ASSISTANT, INBOUND)),
    ("resolve_credential", (ResourceKind.VAPI_ASSISTANT, INBOUND, Provider.VAPI)),
]


# Every typed verb, with what it reads.
SHORTCUTS: list[tuple[str, Provider]] = [
    ("vapi", Provider.VAPI),
    ("twilio", Provider.TWILIO),
    ("google_calendar", Provider.GOOGLE_CALENDAR),
    ("resend", Provider.RESEND),
    ("elevenlabs", Provider.ELEVENLABS),
]


def active(credential: Credential = VAPI, /, **changes: Any) -> pb.ActiveCredential:
    (provider,) = [name for name, each in CREDENTIALS.items() if type(each) is type(credential)]
    verified = Timestamp()
    verified.FromDatetime(VERIFIED)
    fields: dict[str, Any] = {
        "org_id": "acme",
        "provider": PROVIDER_NUMBER[provider],
        "version": 3,
        "credential": credential_to_message(credential),
        "resources": [pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id=INBOUND, role="inbound")],
        "last_verified_at": verified,
        "generation": 7,
    }
    return pb.ActiveCredential(**{**fields, **changes})


def previous(credential: Credential) -> pb.PreviousCredential:
    message = pb.PreviousCredential(version=2, credential=credential_to_message(credential))
    message.readable_until.FromDatetime(VERIFIED)
    return message


def answer(call: Any) -> Any:
    """What a vault answers where acme has connected every provider."""
    match call.request:
        case access.GetCredentialRequest(provider=provider):
            (wanted,) = [name for name, number in PROVIDER_NUMBER.items() if number == provider]
            return access.GetCredentialResponse(credential=active(CREDENTIALS[wanted]))
        case access.ReportFailureRequest():
            return access.ReportFailureResponse(test_is_due=True)
        case access.ResolveCredentialRequest():
            return access.ResolveCredentialResponse(credential=active())
        case _:
            return directory.ResolveOrgResponse(org_id="acme", role="inbound")


async def test_a_credential_comes_typed_with_what_belongs_to_it(client: Any, wire: Any) -> None:
    wire.answer = answer

    assert ActiveCredential(
        org_id="acme",
        provider=Provider.VAPI,
        version=3,
        credential=VAPI,
        resources=(Resource(ResourceKind.VAPI_ASSISTANT, INBOUND, "inbound"),),
        last_verified_at=VERIFIED,
        generation=7,
    ) == await client.get("acme", Provider.VAPI)
    assert "/tenantvault.v1.CredentialAccessService/GetCredential" == wire.calls[0].method
    assert access.GetCredentialRequest(org_id="acme", provider=pb.PROVIDER_VAPI) == wire.calls[0].request


@pytest.mark.parametrize(("verb", "provider"), SHORTCUTS)
async def test_the_shortcuts_ask_for_their_provider(client: Any, wire: Any, verb: str, provider: Provider) -> None:
    wire.answer = answer

    assert CREDENTIALS[provider] == (await getattr(client, verb)("acme")).credential
    assert [access.GetCredentialRequest(org_id="acme", provider=PROVIDER_NUMBER[provider])] == [
        call.request for call in wire.calls
    ]


def test_every_provider_has_its_shortcut() -> None:
    assert list(Provider) == [provider for _, provider in SHORTCUTS]


@pytest.mark.parametrize(("verb", "provider"), SHORTCUTS)
async def test_the_previous_credential_comes_along_when_it_is_asked_for(
    client: Any, wire: Any, verb: str, provider: Provider
) -> None:
    credential = CREDENTIALS[provider]
    wire.answer = access.GetCredentialResponse(credential=active(credential, previous=previous(credential)))
    expected = PreviousCredential(version=2, credential=credential, readable_until=VERIFIED)

    assert expected == (await getattr(client, verb)("acme", include_previous=True)).previous
    assert expected == (await client.get("acme", provider, include_previous=True)).previous
    assert [True, True] == [call.request.include_previous for call in wire.calls]


async def test_a_resolved_credential_brings_the_previous_one_when_it_is_asked_for(client: Any, wire: Any) -> None:
    wire.answer = access.ResolveCredentialResponse(credential=active(previous=previous(VAPI)))
    where = (ResourceKind.VAPI_ASSISTANT, INBOUND, Provider.VAPI)

    found = await client.resolve_credential(*where, include_previous=True)
    await client.resolve_credential(*where)

    assert PreviousCredential(version=2, credential=VAPI, readable_until=VERIFIED) == found.previous
    assert [True, False] == [call.request.include_previous for call in wire.calls]


async def test_without_an_overlap_there_is_no_previous_one(client: Any, wire: Any) -> None:
    wire.answer = answer

    assert (await client.vapi("acme", include_previous=True)).previous is None


@pytest.mark.parametrize("due", [True, False])
async def test_a_failure_is_reported_and_answered_whether_a_test_is_due(client: Any, wire: Any, due: Any) -> None:
    wire.answer = access.ReportFailureResponse(test_is_due=due)

    assert due is await client.report_failure("acme", Provider.RESEND, 7)
    assert ["/tenantvault.v1.CredentialAccessService/ReportFailure"] == [call.method for call in wire.calls]
    assert access.ReportFailureRequest(org_id="acme", provider=pb.PROVIDER_RESEND, version=7) == wire.calls[0].request


async def test_a_report_that_fails_is_not_made_again(client: Any, wire: Any) -> None:
    wire.answer = client.failed(grpc.StatusCode.UNAVAILABLE)

    with pytest.raises(VaultUnavailable):
        await client.report_failure("acme", Provider.VAPI, 1)

    assert 1 == len(wire.calls)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        *[(("acme", Provider.VAPI, version), "version") for version in (0, -1, 2**63, 1.5, "1", None)],
        (("Acme", Provider.VAPI, 1), "org_id"),
        (("acme", "nexmo", 1), "provider"),
    ],
)
async def test_a_report_of_nothing_is_refused_before_anything_is_sent(
    client: Any, wire: Any, arguments: tuple[Any, ...], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await client.report_failure(*arguments)

    assert [field] == list(caught.value.fields)
    assert [] == wire.calls


async def test_an_org_is_resolved(client: Any, wire: Any) -> None:
    wire.answer = answer

    assert ResolvedOrg("acme", "inbound") == await client.resolve_org(ResourceKind.PHONE_NUMBER, "+12025550100")
    assert "/tenantvault.v1.OrgDirectoryService/ResolveOrg" == wire.calls[0].method
    assert (
        directory.ResolveOrgRequest(kind=pb.RESOURCE_KIND_PHONE_NUMBER, resource_id="+12025550100")
        == wire.calls[0].request
    )


async def test_a_credential_is_resolved_in_one_call(client: Any, wire: Any) -> None:
    wire.answer = access.ResolveCredentialResponse(credential=active(TWILIO))

    found = await client.resolve_credential(ResourceKind.VAPI_ASSISTANT, INBOUND, Provider.TWILIO)

    assert ("acme", TWILIO) == (found.org_id, found.credential)
    assert ["/tenantvault.v1.CredentialAccessService/ResolveCredential"] == [call.method for call in wire.calls]
    assert (
        access.ResolveCredentialRequest(
            kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id=INBOUND, provider=pb.PROVIDER_TWILIO
        )
        == wire.calls[0].request
    )


async def test_a_provider_that_is_known_when_typing_gives_its_credentials_type(
    asynchronous: AsyncClient, blocking: Client, wire: Any
) -> None:
    wire.answer = access.ResolveCredentialResponse(credential=active(TWILIO))
    where = (ResourceKind.VAPI_ASSISTANT, INBOUND)

    awaited = assert_type(
        await asynchronous.resolve_credential(*where, Provider.TWILIO), ActiveCredential[TwilioCredential]
    )
    blocked = assert_type(blocking.resolve_credential(*where, Provider.TWILIO), ActiveCredential[TwilioCredential])

    assert TWILIO.account_sid == awaited.credential.account_sid == blocked.credential.account_sid


async def test_every_typed_verb_gives_its_credentials_type(
    asynchronous: AsyncClient, blocking: Client, wire: Any
) -> None:
    wire.answer = answer

    assert_type(await asynchronous.google_calendar("acme"), ActiveCredential[GoogleCalendarCredential])
    assert_type(blocking.google_calendar("acme"), ActiveCredential[GoogleCalendarCredential])
    assert_type(await asynchronous.resend("acme"), ActiveCredential[ResendCredential])
    assert_type(blocking.resend("acme"), ActiveCredential[ResendCredential])
    assert_type(await asynchronous.elevenlabs("acme"), ActiveCredential[ElevenLabsCredential])
    assert_type(blocking.elevenlabs("acme").previous, PreviousCredential[ElevenLabsCredential] | None)

    where = (ResourceKind.VAPI_ASSISTANT, INBOUND)
    wire.answer = access.ResolveCredentialResponse(credential=active(RESEND))
    assert_type(await asynchronous.resolve_credential(*where, Provider.RESEND), ActiveCredential[ResendCredential])
    assert_type(blocking.resolve_credential(*where, Provider.RESEND), ActiveCredential[ResendCredential])
    wire.answer = access.ResolveCredentialResponse(credential=active(ELEVENLABS))
    assert_type(blocking.resolve_credential(*where, Provider.ELEVENLABS), ActiveCredential[ElevenLabsCredential])
    wire.answer = access.ResolveCredentialResponse(credential=active(GOOGLE))
    assert_type(
        blocking.resolve_credential(*where, Provider.GOOGLE_CALENDAR), ActiveCredential[GoogleCalendarCredential]
    )


async def test_a_provider_may_be_given_by_its_name(client: Any, wire: Any) -> None:
    wire.answer = answer

    assert VAPI == (await client.get("acme", "vapi")).credential
    assert VAPI == (await client.resolve_credential("vapi_assistant", INBOUND, "vapi")).credential


async def test_a_credential_that_was_never_verified_has_no_time(client: Any, wire: Any) -> None:
    wire.answer = access.GetCredentialResponse(credential=active(last_verified_at=None))

    assert (await client.vapi("acme")).last_verified_at is None


async def test_a_resource_is_found_by_its_role(client: Any, wire: Any) -> None:
    wire.answer = answer
    found = await client.vapi("acme")

    assert INBOUND == found.resource("inbound")
    with pytest.raises(KeyError):
        found.resource("outbound")


async def test_resources_of_a_newer_server_are_left_out(client: Any, wire: Any) -> None:
    wire.answer = access.GetCredentialResponse(
        credential=active(resources=[pb.Resource(kind=99, resource_id="new"), pb.Resource(kind=2, resource_id="+1")])  # type: ignore[arg-type]
    )

    assert (Resource(ResourceKind.PHONE_NUMBER, "+1"),) == (await client.vapi("acme")).resources


@pytest.mark.parametrize(
    "message",
    [
        pb.ActiveCredential(),
        active(org_id="globex"),
        active(TWILIO),
        active(TWILIO, provider=pb.PROVIDER_VAPI),
        active(credential=pb.Credential()),
        active(previous=previous(TWILIO)),
        active(previous=pb.PreviousCredential(version=2)),
        active(last_verified_at=Timestamp(seconds=2**62)),
        active(last_verified_at=Timestamp(nanos=-1)),
    ],
    ids=[
        "nothing",
        "another org's",
        "another provider's",
        "another kind",
        "an unknown kind",
        "a previous one of another kind",
        "a previous one of an unknown kind",
        "a time beyond time",
        "a time that is none",
    ],
)
async def test_an_answer_to_another_question_is_not_handed_out(
    client: Any, wire: Any, message: pb.ActiveCredential
) -> None:
    wire.answer = access.GetCredentialResponse(credential=message)

    with pytest.raises(InternalError) as caught:
        await client.vapi("acme")

    assert "token" not in caught.value.message


@pytest.mark.parametrize("provider", Provider)
async def test_a_credential_of_a_kind_that_is_not_its_providers_is_not_handed_out(
    client: Any, wire: Any, provider: Provider
) -> None:
    other = TWILIO if provider is Provider.VAPI else VAPI
    wire.answer = access.GetCredentialResponse(credential=active(other, provider=PROVIDER_NUMBER[provider]))

    with pytest.raises(InternalError, match="update tenantvault"):
        await client.get("acme", provider)


async def test_a_resolved_credential_of_another_provider_is_not_handed_out(client: Any, wire: Any) -> None:
    wire.answer = access.ResolveCredentialResponse(credential=active(TWILIO))

    with pytest.raises(InternalError):
        await client.resolve_credential(ResourceKind.VAPI_ASSISTANT, INBOUND, Provider.VAPI)


@pytest.mark.parametrize(("verb", "arguments"), VERBS)
async def test_every_call_has_the_clients_deadline_unless_it_names_its_own(
    client: Any, wire: Any, verb: str, arguments: tuple[Any, ...]
) -> None:
    wire.answer = answer

    await getattr(client, verb)(*arguments)
    await getattr(client, verb)(*arguments, deadline=0.25)

    assert [DEFAULT_DEADLINE, 0.25] == [call.options["timeout"] for call in wire.calls]


async def test_a_client_may_have_a_deadline_of_its_own(client: Any, wire: Any) -> None:
    wire.answer = answer
    own = type(client)(type(client.client)(client.client._wire._channels[0], deadline=1.5, cache=None))

    await own.vapi("acme")

    assert 1.5 == wire.calls[0].options["timeout"]


@pytest.mark.parametrize(("verb", "arguments"), VERBS)
async def test_every_call_waits_for_the_connection(
    client: Any, wire: Any, verb: str, arguments: tuple[Any, ...]
) -> None:
    wire.answer = answer

    await getattr(client, verb)(*arguments)

    assert wire.calls[0].options["wait_for_ready"] is True


@pytest.mark.parametrize(("verb", "arguments"), VERBS)
async def test_a_deadline_that_is_none_is_refused(
    client: Any, wire: Any, verb: str, arguments: tuple[Any, ...]
) -> None:
    nones: list[Any] = [0, -1, math.nan, math.inf, "5", object(), 119.1, 1e10, 1e300, 10**400]
    for deadline in nones:
        with pytest.raises(InvalidRequest, match="deadline") as caught:
            await getattr(client, verb)(*arguments, deadline=deadline)

        assert ["deadline"] == list(caught.value.fields)
    assert [] == wire.calls


async def test_a_call_may_take_as_long_as_the_vault_allows(client: Any, wire: Any) -> None:
    wire.answer = answer
    await client.vapi("acme", deadline=119)

    assert [119] == [call.options["timeout"] for call in wire.calls]


@pytest.mark.parametrize("deadline", [0, -1, math.nan, None, 119.1, 1e10])
@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_a_client_without_a_deadline_is_refused(kind: Any, deadline: Any) -> None:
    with pytest.raises(InvalidRequest, match="deadline"):
        kind(object(), deadline=deadline)


@pytest.mark.parametrize("org_id", ["", "Acme", "acme corp", "-acme", "a" * 64, "acme\n", "äcme", None, 7, b"acme"])
async def test_a_malformed_org_is_refused_before_anything_is_sent(client: Any, wire: Any, org_id: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await client.vapi(org_id)

    assert ["org_id"] == list(caught.value.fields)
    assert [] == wire.calls


@pytest.mark.parametrize("org_id", ["a", "0", "acme", "a" * 63, "a-b_c9"])
async def test_a_well_formed_org_is_asked_for(client: Any, wire: Any, org_id: str) -> None:
    wire.answer = access.GetCredentialResponse(credential=active(org_id=org_id))

    assert org_id == (await client.vapi(org_id)).org_id


@pytest.mark.parametrize("provider", ["", "VAPI", "acme", None, 1, [], pb.PROVIDER_VAPI])
async def test_an_unknown_provider_is_refused_before_anything_is_sent(client: Any, wire: Any, provider: Any) -> None:
    for call in (
        client.get("acme", provider),
        client.resolve_credential(ResourceKind.VAPI_ASSISTANT, INBOUND, provider),
    ):
        with pytest.raises(InvalidRequest, match="vapi, twilio") as caught:
            await call
        assert ["provider"] == list(caught.value.fields)
    assert [] == wire.calls


@pytest.mark.parametrize("kind", ["", "assistant", None, 1, []])
async def test_an_unknown_kind_is_refused_before_anything_is_sent(client: Any, wire: Any, kind: Any) -> None:
    for call in (client.resolve_org(kind, INBOUND), client.resolve_credential(kind, INBOUND, Provider.VAPI)):
        with pytest.raises(InvalidRequest, match="vapi_assistant") as caught:
            await call
        assert ["kind"] == list(caught.value.fields)
    assert [] == wire.calls


@pytest.mark.parametrize("resource_id", ["", "a" * 257, "ä" * 129, "\ud800", None, 7, b"id"])
async def test_a_malformed_resource_is_refused_before_anything_is_sent(
    client: Any, wire: Any, resource_id: Any
) -> None:
    for call in (
        client.resolve_org(ResourceKind.VAPI_ASSISTANT, resource_id),
        client.resolve_credential(ResourceKind.VAPI_ASSISTANT, resource_id, Provider.VAPI),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await call
        assert ["resource_id"] == list(caught.value.fields)
    assert [] == wire.calls


@pytest.mark.parametrize(("verb", "arguments"), VERBS)
async def test_every_error_comes_back_as_its_class(
    client: Any, wire: Any, verb: str, arguments: tuple[Any, ...]
) -> None:
    for leaf in LEAVES:
        wire.answer = client.refused(leaf("Do this.", fields={"a": "b"}, retry_after=2.5))

        with pytest.raises(leaf) as caught:
            await getattr(client, verb)(*arguments)

        assert leaf is type(caught.value)
        assert ("Do this.", {"a": "b"}, 2.5) == (caught.value.message, caught.value.fields, caught.value.retry_after)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, VaultUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDenied),
        (grpc.StatusCode.UNIMPLEMENTED, InternalError),
        (grpc.StatusCode.UNKNOWN, InternalError),
        (grpc.StatusCode.CANCELLED, VaultUnavailable),
    ],
)
async def test_what_the_transport_says_becomes_the_nearest_class_without_its_text(
    client: Any, wire: Any, code: grpc.StatusCode, kind: type[TenantVaultError]
) -> None:
    wire.answer = client.failed(code)

    with pytest.raises(kind) as caught:
        await client.vapi("acme")

    assert kind is type(caught.value)
    assert "foreign text" not in caught.value.message


async def test_the_transports_own_deadline_tells_what_may_be_wrong(client: Any, wire: Any) -> None:
    wire.answer = client.failed(grpc.StatusCode.DEADLINE_EXCEEDED)

    with pytest.raises(DeadlineExceeded, match="certificates"):
        await client.vapi("acme")


@pytest.mark.parametrize(("verb", "arguments"), VERBS)
async def test_a_closed_client_says_so(
    client: Any, wire: Any, provider_wire: Any, verb: str, arguments: tuple[Any, ...]
) -> None:
    await client.close()

    with pytest.raises(InvalidRequest, match="closed"):
        await getattr(client, verb)(*arguments)

    assert (1, 1, []) == (wire.closed, provider_wire.closed, wire.calls)


async def test_a_channel_that_does_not_close_leaves_no_other_open(client: Any, wire: Any, provider_wire: Any) -> None:
    broken = client.client._wire._channels[0]
    broken._wire = None

    with pytest.raises(AttributeError):
        await client.close()
    broken._wire = wire

    assert 1 == provider_wire.closed


def test_a_blocking_client_that_another_thread_closes_says_so(blocking: Client, wire: Any) -> None:
    def closed_meanwhile(_: Any) -> Exception:
        blocking.close()
        return ValueError("Cannot invoke RPC on closed channel!")

    wire.answer = closed_meanwhile

    with pytest.raises(InvalidRequest, match="closed"):
        blocking.vapi("acme")


async def test_a_call_that_closing_cancels_says_so(client: Any, wire: Any) -> None:
    def cancelled(_: Any) -> Exception:
        client.client._wire.closed = True
        error: Exception = client.failed(grpc.StatusCode.CANCELLED)
        return error

    wire.answer = cancelled

    with pytest.raises(InvalidRequest, match="closed"):
        await client.vapi("acme")


def test_a_value_error_that_is_none_of_the_channels_is_not_hidden(blocking: Client, wire: Any) -> None:
    wire.answer = ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        blocking.vapi("acme")


async def test_a_call_under_way_when_an_asyncio_client_is_closed_says_so(asynchronous: AsyncClient, wire: Any) -> None:
    def cancelled(_: Any) -> BaseException:
        asynchronous._wire.closed = True
        return asyncio.CancelledError()

    wire.answer = cancelled

    with pytest.raises(InvalidRequest, match="closed"):
        await asynchronous.vapi("acme")


async def test_a_task_that_is_cancelled_stays_cancelled(asynchronous: AsyncClient, wire: Any) -> None:
    task = asyncio.create_task(asynchronous.vapi("acme"))

    def cancel(_: Any) -> BaseException:
        task.cancel()
        asynchronous._wire.closed = True
        return asyncio.CancelledError()

    wire.answer = cancel

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_context_closes_the_client(asynchronous: AsyncClient, blocking: Client, wire: Any) -> None:
    async with asynchronous as entered_async:
        assert asynchronous is entered_async
    assert 1 == wire.closed
    with blocking as entered:
        assert blocking is entered
    assert 2 == wire.closed


def test_an_asyncio_client_is_made_inside_a_loop() -> None:
    with pytest.raises(InvalidRequest, match="event loop"):
        AsyncClient.connect("localhost:7401", None)  # type: ignore[arg-type]


def test_both_clients_have_the_same_verbs_and_arguments() -> None:
    def verbs(kind: type) -> dict[str, str]:
        return {
            name: str(inspect.signature(member))
            for name, member in inspect.getmembers(kind, callable)
            if not name.startswith("_")
        }

    assert verbs(AsyncClient) == verbs(Client)
