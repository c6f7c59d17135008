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
    Provider,
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
from tenantvault.messages import credential_to_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory

VAPI = VapiCredential(api_key=Secret("ac3e-key"), webhook_secret=Secret("hook"), region="eu")
TWILIO = TwilioCredential(account_sid="AC" + "0" * 32, auth_token=Secret("token"), phone_number="+12025550100")
VERIFIED = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
INBOUND = "00000000-0000-4000-8000-000000000001"

# Every verb, with good arguments.
VERBS: list[tuple[str, tuple[Any, ...]]] = [
    ("get", ("acme", Provider.VAPI)),
    ("vapi", ("acme",)),
    ("twilio", ("acme",)),
    ("resolve_org", (ResourceKind.VAPI_ASSISTANT, INBOUND)),
    ("resolve_credential", (ResourceKind.VAPI_ASSISTANT, INBOUND, Provider.VAPI)),
]


def active(credential: Credential = VAPI, /, **changes: Any) -> pb.ActiveCredential:
    verified = Timestamp()
    verified.FromDatetime(VERIFIED)
    fields: dict[str, Any] = {
        "org_id": "acme",
        "provider": pb.PROVIDER_VAPI if isinstance(credential, VapiCredential) else pb.PROVIDER_TWILIO,
        "version": 3,
        "credential": credential_to_message(credential),
        "resources": [pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id=INBOUND, role="inbound")],
        "last_verified_at": verified,
        "generation": 7,
    }
    return pb.ActiveCredential(**{**fields, **changes})


def answer(call: Any) -> Any:
    """What a vault answers where acme has connected both providers."""
    match call.request:
        case access.GetCredentialRequest(provider=provider):
            return access.GetCredentialResponse(credential=active(TWILIO if provider == pb.PROVIDER_TWILIO else VAPI))
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


async def test_the_shortcuts_ask_for_their_provider(client: Any, wire: Any) -> None:
    wire.answer = access.GetCredentialResponse(credential=active())
    assert VAPI == (await client.vapi("acme")).credential

    wire.answer = access.GetCredentialResponse(credential=active(TWILIO))
    assert TWILIO == (await client.twilio("acme")).credential
    assert [pb.PROVIDER_VAPI, pb.PROVIDER_TWILIO] == [call.request.provider for call in wire.calls]


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
    ],
    ids=["nothing", "another org's", "another provider's", "another kind", "an unknown kind"],
)
async def test_an_answer_to_another_question_is_not_handed_out(
    client: Any, wire: Any, message: pb.ActiveCredential
) -> None:
    wire.answer = access.GetCredentialResponse(credential=message)

    with pytest.raises(InternalError) as caught:
        await client.vapi("acme")

    assert "token" not in caught.value.message


async def test_a_credential_of_a_provider_that_is_not_known_here_is_not_handed_out(client: Any, wire: Any) -> None:
    wire.answer = access.GetCredentialResponse(credential=active(provider=pb.PROVIDER_GOOGLE_CALENDAR))

    with pytest.raises(InternalError, match="update tenantvault"):
        await client.get("acme", Provider.GOOGLE_CALENDAR)


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
    own = type(client)(type(client.client)(client.client._channel, deadline=1.5))

    await own.vapi("acme")

    assert 1.5 == wire.calls[0].options["timeout"]


@pytest.mark.parametrize(("verb", "arguments"), VERBS)
async def test_every_call_waits_for_the_connection(
    client: Any, wire: Any, verb: str, arguments: tuple[Any, ...]
) -> None:
    wire.answer = answer

    await getattr(client, verb)(*arguments)

    assert wire.calls[0].options["wait_for_ready"] is True


@pytest.mark.parametrize("deadline", [0, -1, math.nan, math.inf, "5", object()])
@pytest.mark.parametrize(("verb", "arguments"), VERBS)
async def test_a_deadline_that_is_none_is_refused(
    client: Any, wire: Any, verb: str, arguments: tuple[Any, ...], deadline: Any
) -> None:
    with pytest.raises(InvalidRequest, match="deadline") as caught:
        await getattr(client, verb)(*arguments, deadline=deadline)

    assert ["deadline"] == list(caught.value.fields)
    assert [] == wire.calls


@pytest.mark.parametrize("deadline", [0, -1, math.nan, None])
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


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize(("verb", "arguments"), VERBS)
async def test_every_error_comes_back_as_its_class(
    client: Any, wire: Any, leaf: type[TenantVaultError], verb: str, arguments: tuple[Any, ...]
) -> None:
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
        (grpc.StatusCode.CANCELLED, InternalError),
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
async def test_a_closed_client_says_so(client: Any, wire: Any, verb: str, arguments: tuple[Any, ...]) -> None:
    await client.close()

    with pytest.raises(InvalidRequest, match="closed"):
        await getattr(client, verb)(*arguments)

    assert (1, []) == (wire.closed, wire.calls)


def test_a_blocking_client_that_another_thread_closes_says_so(blocking: Client, wire: Any) -> None:
    def closed_meanwhile(_: Any) -> Exception:
        blocking.close()
        return ValueError("Cannot invoke RPC on closed channel!")

    wire.answer = closed_meanwhile

    with pytest.raises(InvalidRequest, match="closed"):
        blocking.vapi("acme")


async def test_a_call_that_closing_cancels_says_so(client: Any, wire: Any) -> None:
    def cancelled(_: Any) -> Exception:
        client.client._closed = True
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
        asynchronous._closed = True
        return asyncio.CancelledError()

    wire.answer = cancelled

    with pytest.raises(InvalidRequest, match="closed"):
        await asynchronous.vapi("acme")


async def test_a_task_that_is_cancelled_stays_cancelled(asynchronous: AsyncClient, wire: Any) -> None:
    task = asyncio.create_task(asynchronous.vapi("acme"))

    def cancel(_: Any) -> BaseException:
        task.cancel()
        asynchronous._closed = True
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
