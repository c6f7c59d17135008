import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from services.rpc import middleware
from services.rpc.middleware import (
    LONGEST_DEADLINE,
    LONGEST_STREAM,
    Context,
    Middleware,
    current_call,
    providers_named_in,
)
from services.rpc.peers import PROVIDERS, Identity, Policy
from services.rpc.telemetry import Telemetry
from tenantvault.errors import CredentialNotFound, InvalidRequest, LeaseHeld
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import integration_service_pb2 as integration_pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import store_service_pb2 as store_pb

GET = "/tenantvault.v1.CredentialAccessService/GetCredential"
CHECK = "/grpc.health.v1.Health/Check"
CANARY = "canary-3b8a"
REQUEST = access_pb.GetCredentialRequest(org_id="acme", provider=pb.PROVIDER_VAPI)


@dataclass
class FakeContext:
    """What a handler sees of a call."""

    peer: str = "voice-agent"
    remaining: float | None = 5.0
    metadata: tuple[tuple[str, str | bytes], ...] | None = None
    aborted: tuple[grpc.StatusCode, str, Mapping[str, Any]] | None = None
    written: list[Any] = field(default_factory=list)

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return {"peer_uri": [f"spiffe://tenantvault.local/{self.peer}".encode()]} if self.peer else {}

    def invocation_metadata(self) -> Any:
        return self.metadata

    def time_remaining(self) -> float | None:
        return self.remaining

    def code(self) -> grpc.StatusCode:
        assert self.aborted is not None
        return self.aborted[0]

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        self.aborted = (code, details, dict(trailing_metadata))
        raise grpc.aio.AbortError

    async def write(self, answer: Any) -> None:
        self.written.append(answer)


class House:
    """A middleware and what is registered behind it."""

    def __init__(self) -> None:
        self.telemetry = Telemetry()
        self.ready = True
        rows: Mapping[str, Mapping[str, frozenset[str] | None]] = {
            GET: {"voice-agent": None, "limited": frozenset({"twilio"})},
            CHECK: {"*": None},
        }
        self.middleware = Middleware(
            identity=Identity("tenantvault.local"),
            policy=Policy(rows),
            telemetry=self.telemetry,
            ready=lambda: self.ready,
        )

    async def wrapped(self, method: str, **handler: Any) -> Any:
        registered = SimpleNamespace(
            request_streaming=False,
            response_streaming=False,
            request_deserializer=access_pb.GetCredentialRequest.FromString,
            response_serializer=bytes,
        )
        vars(registered).update(handler)

        async def continuation(_: grpc.HandlerCallDetails) -> Any:
            return registered

        details = cast("grpc.HandlerCallDetails", SimpleNamespace(method=method))
        return await self.middleware.intercept_service(continuation, details)

    async def call(
        self,
        behaviour: Callable[[Any, Context], Any],
        context: FakeContext,
        *,
        method: str = GET,
        request: Message | None = REQUEST,
    ) -> Any:
        wrapped = await self.wrapped(method, unary_unary=behaviour)
        try:
            return await wrapped.unary_unary(request, context)
        except grpc.aio.AbortError:
            return None

    def counted(self) -> list[tuple[str, str, float]]:
        return [
            (sample.labels["peer"], sample.labels["code"], sample.value)
            for metric in self.telemetry.calls.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        ]


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Mapping[str, Any]]]:
    caplog.set_level(logging.DEBUG, logger="services.rpc")
    return lambda: [vars(record) for record in caplog.records]


async def fine(_: Any, __: Context) -> str:
    return "answer"


async def not_reached(_: Any, __: Context) -> str:
    raise AssertionError("the handler was not to be reached")


def details(context: FakeContext) -> tuple[ErrorInfo, BadRequest]:
    assert context.aborted is not None
    status = Status.FromString(context.aborted[2]["grpc-status-details-bin"])
    info, bad = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return info, bad


async def test_an_admitted_call_reaches_its_handler(house: House, logged: Callable[[], list[Any]]) -> None:
    assert "answer" == await house.call(fine, FakeContext())
    assert [("voice-agent", "OK", 1.0)] == house.counted()
    [event] = logged()
    assert ("DEBUG", GET, "voice-agent", "OK") == (event["levelname"], event["rpc"], event["peer"], event["code"])


@pytest.mark.parametrize(
    ("context", "code", "reason", "peer"),
    [
        (FakeContext(peer=""), grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "-"),
        (FakeContext(peer="gateway"), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", "gateway"),
        (FakeContext(peer="limited"), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", "limited"),
        (FakeContext(remaining=None), grpc.StatusCode.INVALID_ARGUMENT, "DEADLINE_REQUIRED", "voice-agent"),
        (
            FakeContext(remaining=LONGEST_DEADLINE + 1),
            grpc.StatusCode.INVALID_ARGUMENT,
            "DEADLINE_REQUIRED",
            "voice-agent",
        ),
    ],
    ids=["nobody", "not in the row", "not this provider", "no deadline", "too long a deadline"],
)
async def test_a_refused_call_is_logged_and_counted_and_goes_no_further(
    house: House,
    logged: Callable[[], list[Any]],
    context: FakeContext,
    code: grpc.StatusCode,
    reason: str,
    peer: str,
) -> None:
    await house.call(not_reached, context)
    assert context.aborted is not None
    assert (code, reason, "tenantvault") == (context.aborted[0], details(context)[0].reason, details(context)[0].domain)
    assert [(peer, code.name, 1.0)] == house.counted()
    [event] = logged()
    assert ("INFO", peer, code.name) == (event["levelname"], event["peer"], event["code"])
    assert context.aborted[2]["x-request-id"] == event["request_id"]


async def test_a_process_that_is_not_ready_says_so_and_still_answers_health(house: House) -> None:
    house.ready = False
    context = FakeContext()
    await house.call(not_reached, context)
    assert context.aborted is not None
    assert grpc.StatusCode.UNAVAILABLE is context.aborted[0]
    assert "VAULT_UNAVAILABLE" == details(context)[0].reason
    assert "answer" == await house.call(fine, FakeContext(peer="stranger", remaining=None), method=CHECK)


async def test_health_needs_a_name_too(house: House) -> None:
    context = FakeContext(peer="")
    await house.call(not_reached, context, method=CHECK)
    assert context.aborted is not None
    assert grpc.StatusCode.UNAUTHENTICATED is context.aborted[0]


async def test_an_error_of_ours_travels_whole(house: House) -> None:
    async def refuse(_: Any, __: Context) -> None:
        raise InvalidRequest("Give an org.", fields={"org_id": "Give one."})

    context = FakeContext()
    await house.call(refuse, context)
    info, bad = details(context)
    assert context.aborted is not None
    assert (grpc.StatusCode.INVALID_ARGUMENT, "Give an org.") == context.aborted[:2]
    assert ("INVALID_REQUEST", [("org_id", "Give one.")]) == (
        info.reason,
        [(violation.field, violation.description) for violation in bad.field_violations],
    )


async def test_when_to_try_again_travels(house: House) -> None:
    async def wait(_: Any, __: Context) -> None:
        raise LeaseHeld(retry_after=2.5)

    context = FakeContext()
    await house.call(wait, context)
    assert "2.5" == details(context)[0].metadata["retry_after_seconds"]


@pytest.mark.parametrize(
    "error", [ValueError(CANARY), KeyError(CANARY), grpc.RpcError(CANARY), SystemExit(CANARY)], ids=repr
)
async def test_what_a_handler_did_not_mean_to_raise_stays_in_the_house(
    house: House, logged: Callable[[], list[Any]], error: BaseException
) -> None:
    async def fail(_: Any, __: Context) -> None:
        raise error

    context = FakeContext()
    await house.call(fail, context)
    assert context.aborted is not None
    assert grpc.StatusCode.INTERNAL is context.aborted[0]
    assert "INTERNAL" == details(context)[0].reason
    assert CANARY not in str(context.aborted)
    failure, call = logged()
    assert ("ERROR", "a handler failed", GET) == (failure["levelname"], failure["message"], failure["rpc"])
    assert failure["exc_info"][1] is error
    assert failure["request_id"] == call["request_id"]
    assert CANARY not in failure["message"] + str(call)
    assert [("voice-agent", "INTERNAL", 1.0)] == house.counted()


async def test_a_status_that_a_handler_chose_itself_is_what_is_counted(house: House) -> None:
    async def abort(_: Any, context: Context) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")

    context = FakeContext()
    await house.call(abort, context)
    assert (grpc.StatusCode.NOT_FOUND, "no such service", {}) == context.aborted
    assert [("voice-agent", "NOT_FOUND", 1.0)] == house.counted()


async def test_a_cancelled_call_is_recorded_as_such(house: House, logged: Callable[[], list[Any]]) -> None:
    begun = asyncio.Event()

    async def wait(_: Any, __: Context) -> None:
        begun.set()
        await asyncio.Event().wait()

    context = FakeContext()
    running = asyncio.ensure_future(house.call(wait, context))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert context.aborted is None
    assert [("voice-agent", "CANCELLED", 1.0)] == house.counted()
    assert "CANCELLED" == logged()[0]["code"]


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff", b"\x0a\x7f" + CANARY.encode(), b"\x0a\x02\xff\xfe"], ids=["noise", "cut", "no text"]
)
async def test_bytes_that_are_no_request_are_refused_like_any_other(
    house: House, logged: Callable[[], list[Any]], data: bytes
) -> None:
    wrapped = await house.wrapped(GET, unary_unary=not_reached)
    request = wrapped.request_deserializer(data)
    for peer, reason in (("voice-agent", "INVALID_REQUEST"), ("gateway", "PERMISSION_DENIED"), ("", "UNAUTHENTICATED")):
        context = FakeContext(peer=peer)
        with pytest.raises(grpc.aio.AbortError):
            await wrapped.unary_unary(request, context)
        assert reason == details(context)[0].reason
        assert CANARY not in str(context.aborted)
    assert 3 == len(house.counted()) == len(logged())


async def test_bytes_that_are_a_request_are_read(house: House) -> None:
    wrapped = await house.wrapped(GET, unary_unary=fine)
    assert wrapped.request_deserializer(REQUEST.SerializeToString()) == REQUEST


@pytest.mark.parametrize("given", ["a" * 8, "A-b_9" * 12, "0123456789abcdef"])
async def test_a_request_id_is_taken_over(house: House, given: str) -> None:
    async def tell(_: Any, __: Context) -> str:
        return current_call().request_id

    metadata = (("x-request-id", "bad id!"), ("x-request-id", given), ("x-request-id", "another-one"))
    assert given == await house.call(tell, FakeContext(metadata=metadata))


@given(value=st.none() | st.text(max_size=70) | st.binary(max_size=70))
async def test_whatever_comes_as_a_request_id_one_that_can_be_logged_is_used(value: str | bytes | None) -> None:
    async def tell(_: Any, __: Context) -> str:
        return current_call().request_id

    house = House()
    metadata = (("x-request-id", value),) if value is not None else None
    used = await house.call(tell, FakeContext(metadata=metadata))
    assert 8 <= len(used) <= 64
    assert used.isascii()
    assert used.replace("-", "").replace("_", "").isalnum()


async def test_each_call_without_an_id_gets_its_own(house: House) -> None:
    async def tell(_: Any, __: Context) -> str:
        return current_call().request_id

    assert 10 == len({await house.call(tell, FakeContext()) for _ in range(10)})


async def test_calls_at_the_same_time_do_not_mix(house: House) -> None:
    async def tell(_: Any, __: Context) -> str:
        await asyncio.sleep(0)
        return current_call().request_id

    ids = [f"request-{number:04}" for number in range(20)]
    contexts = [FakeContext(metadata=(("x-request-id", given),)) for given in ids]
    assert ids == await asyncio.gather(*(house.call(tell, context) for context in contexts))


def test_outside_of_a_call_there_is_none() -> None:
    with pytest.raises(LookupError):
        contextvars.Context().run(current_call)


async def test_an_unknown_method_is_left_to_grpc(house: House) -> None:
    async def continuation(_: grpc.HandlerCallDetails) -> Any:
        return None

    unknown = cast("grpc.HandlerCallDetails", SimpleNamespace(method="/a/B"))
    assert await house.middleware.intercept_service(continuation, unknown) is None
    assert [] == house.counted()


async def test_a_handler_is_wrapped_once(house: House) -> None:
    assert await house.wrapped(GET, unary_unary=fine) is await house.wrapped(GET, unary_unary=fine)
    assert await house.wrapped(GET, unary_unary=fine) is not await house.wrapped(CHECK, unary_unary=fine)


async def yielding(_: Any, __: Context) -> AsyncIterator[int]:
    for answer in (1, 2):
        yield answer


async def writing(_: Any, context: Any) -> None:
    for answer in (1, 2):
        await context.write(answer)


@pytest.mark.parametrize("behaviour", [yielding, writing])
@pytest.mark.parametrize("request_streaming", [True, False])
async def test_a_stream_of_either_style_is_written_and_counted(
    house: House, behaviour: Any, *, request_streaming: bool
) -> None:
    style = "stream_stream" if request_streaming else "unary_stream"
    wrapped = await house.wrapped(
        GET,
        **{style: behaviour, "stream_stream" if not request_streaming else "unary_stream": None},
        request_streaming=request_streaming,
        response_streaming=True,
    )
    context = FakeContext()
    assert (request_streaming, True) == (wrapped.request_streaming, wrapped.response_streaming)
    await getattr(wrapped, style)(aiter(yielding(None, cast("Context", context))), context)
    assert [1, 2] == context.written
    assert [("voice-agent", "OK", 1.0)] == house.counted()


async def test_answers_to_a_stream_of_requests_may_take_longer_too_and_one_answer_may_not(house: House) -> None:
    both = await house.wrapped(GET, stream_stream=yielding, request_streaming=True, response_streaming=True)
    one = await House().wrapped(GET, stream_unary=not_reached, request_streaming=True)
    long = FakeContext(remaining=LONGEST_STREAM)
    await both.stream_stream(REQUEST, long)
    assert [1, 2] == long.written
    for call, remaining in ((both.stream_stream, LONGEST_STREAM + 1), (one.stream_unary, LONGEST_DEADLINE + 1)):
        refused = FakeContext(remaining=remaining)
        with pytest.raises(grpc.aio.AbortError):
            await call(REQUEST, refused)
        assert "DEADLINE_REQUIRED" == details(refused)[0].reason


async def test_a_stream_of_requests_with_one_answer_is_wrapped_too(house: House) -> None:
    wrapped = await house.wrapped(GET, stream_unary=fine, request_streaming=True)
    assert (True, False) == (wrapped.request_streaming, wrapped.response_streaming)
    assert "answer" == await wrapped.stream_unary(yielding(None, cast("Context", None)), FakeContext())
    denied = FakeContext(peer="gateway")
    with pytest.raises(grpc.aio.AbortError):
        await wrapped.stream_unary(None, denied)
    assert denied.aborted is not None


@pytest.mark.parametrize("error", [CredentialNotFound(), ValueError(CANARY)], ids=repr)
async def test_a_stream_that_fails_half_way_ends_with_its_status_and_is_closed(house: House, error: Exception) -> None:
    closed = []

    async def half(_: Any, __: Context) -> AsyncIterator[int]:
        try:
            yield 1
            raise error
        finally:
            closed.append(True)

    wrapped = await house.wrapped(GET, unary_stream=half, stream_stream=None, response_streaming=True)
    context = FakeContext()
    with pytest.raises(grpc.aio.AbortError):
        await wrapped.unary_stream(REQUEST, context)
    assert ([1], [True]) == (context.written, closed)
    assert CANARY not in str(context.aborted)
    assert 1 == len(house.counted())


async def test_a_stream_whose_reader_went_away_is_closed_at_once(house: House) -> None:
    closed = []

    async def endless(_: Any, __: Context) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    class Gone(FakeContext):
        async def write(self, answer: Any) -> None:
            raise asyncio.CancelledError

    wrapped = await house.wrapped(GET, unary_stream=endless, stream_stream=None, response_streaming=True)
    with pytest.raises(asyncio.CancelledError):
        await wrapped.unary_stream(REQUEST, Gone())
    assert [True] == closed
    assert [("voice-agent", "CANCELLED", 1.0)] == house.counted()


async def test_a_stream_whose_reader_stands_still_is_ended_and_closed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    async def endless(_: Any, __: Context) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    class StandsStill(FakeContext):
        async def write(self, answer: Any) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(middleware, "WRITE_SECONDS", 0.01)
    wrapped = await house.wrapped(GET, unary_stream=endless, stream_stream=None, response_streaming=True)
    context = StandsStill()
    with pytest.raises(grpc.aio.AbortError):
        await wrapped.unary_stream(REQUEST, context)
    assert [True] == closed
    assert middleware.UNREAD in str(context.aborted)
    assert [("voice-agent", "DEADLINE_EXCEEDED", 1.0)] == house.counted()


async def test_a_time_that_runs_out_in_a_handler_of_a_stream_is_not_its_readers(house: House) -> None:
    async def slow(_: Any, __: Context) -> AsyncIterator[int]:
        yield 1
        raise TimeoutError

    wrapped = await house.wrapped(GET, unary_stream=slow, stream_stream=None, response_streaming=True)
    with pytest.raises(grpc.aio.AbortError):
        await wrapped.unary_stream(REQUEST, FakeContext())
    assert [("voice-agent", "INTERNAL", 1.0)] == house.counted()


@pytest.mark.parametrize(
    ("request_", "provider"),
    [
        (access_pb.GetCredentialRequest(provider=pb.PROVIDER_VAPI), "vapi"),
        (access_pb.ResolveCredentialRequest(provider=pb.PROVIDER_GOOGLE_CALENDAR), "google_calendar"),
        (access_pb.GetCredentialRequest(), "unspecified"),
        (access_pb.GetCredentialRequest(provider=99), None),  # type: ignore[arg-type]  # a number of tomorrow
        (store_pb.PutCredentialRequest(credential=pb.Credential(twilio=pb.TwilioCredential())), "twilio"),
        (store_pb.PutCredentialRequest(credential=pb.Credential()), None),
        (store_pb.PutCredentialRequest(), None),
        (integration_pb.ConnectRequest(credential=pb.Credential(vapi=pb.VapiCredential())), "vapi"),
        (directory_pb.ResolveOrgRequest(), None),
        (status_pb.ListIntegrationsRequest(), None),
        (directory_pb.BatchResolveOrgsRequest(keys=[directory_pb.ResourceKey()]), None),
        (access_pb.BatchGetCredentialsRequest(), None),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Message) else str(given),
)
def test_the_provider_is_the_one_that_the_request_is_about(request_: Message, provider: str | None) -> None:
    assert [provider] == list(providers_named_in(request_))


def test_a_batch_is_about_the_providers_of_all_its_keys() -> None:
    numbers = [pb.PROVIDER_VAPI, pb.PROVIDER_TWILIO, pb.PROVIDER_VAPI, pb.PROVIDER_UNSPECIFIED]
    batch = access_pb.BatchGetCredentialsRequest(keys=[access_pb.CredentialKey(provider=one) for one in numbers])
    assert {"vapi", "twilio", "unspecified"} == set(providers_named_in(batch))
    batch.keys.add(provider=99)
    assert None in providers_named_in(batch)


@pytest.mark.parametrize(
    ("providers", "code"),
    [
        ([pb.PROVIDER_TWILIO], None),
        ([pb.PROVIDER_TWILIO, pb.PROVIDER_VAPI], grpc.StatusCode.PERMISSION_DENIED),
        ([], grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_a_batch_needs_the_right_to_each_of_its_providers(
    house: House, providers: "list[pb.Provider.ValueType]", code: grpc.StatusCode | None
) -> None:
    context = FakeContext(peer="limited")
    keys = [access_pb.CredentialKey(org_id="acme", provider=provider) for provider in providers]
    await house.call(fine, context, request=access_pb.BatchGetCredentialsRequest(keys=keys))
    assert code == (context.aborted and context.aborted[0])


async def test_what_is_always_answered_is_answered_while_the_process_is_not_ready(house: House) -> None:
    house.ready = False
    refused = FakeContext()
    assert await house.call(fine, refused) is None
    assert refused.aborted is not None
    always = House()
    always.ready = False
    always.middleware = replace(always.middleware, always=frozenset({GET}))
    assert "answer" == await always.call(fine, FakeContext())
    denied = FakeContext(peer="stranger")
    assert await always.call(not_reached, denied) is None
    assert denied.aborted is not None
    assert grpc.StatusCode.PERMISSION_DENIED is denied.aborted[0]


@pytest.mark.parametrize(
    ("remaining", "answered"), [(LONGEST_STREAM, True), (LONGEST_STREAM + 1, False), (None, False)]
)
async def test_answers_that_stream_may_take_longer(house: House, remaining: float | None, *, answered: bool) -> None:
    async def stream(_: Any, __: Context) -> AsyncIterator[str]:
        yield "answer"

    wrapped = await house.wrapped(GET, response_streaming=True, unary_stream=stream)
    context = FakeContext(remaining=remaining)
    if answered:
        await wrapped.unary_stream(REQUEST, context)
    else:
        with pytest.raises(grpc.aio.AbortError):
            await wrapped.unary_stream(REQUEST, context)
    assert (["answer"] if answered else []) == context.written


def test_no_request_of_the_contract_names_a_provider_where_the_policy_does_not_see_it() -> None:
    for module in (access_pb, admin_pb, directory_pb, integration_pb, status_pb, store_pb):
        for service in module.DESCRIPTOR.services_by_name.values():
            for request in (method.input_type for method in service.methods):
                inside = [field.message_type for field in request.fields if field.message_type]
                fields = [*request.fields, *(field for message in inside for field in message.fields)]
                named = [field for field in fields if field.enum_type is pb.Provider.DESCRIPTOR]
                places = {(field.containing_type.name, field.name) for field in named}
                keys = request.fields_by_name.get("keys")
                seen = {(request.name, "provider"), (keys.message_type.name if keys else "", "provider")}
                assert places <= seen, request.name


def test_a_policy_calls_the_providers_what_the_requests_are_about() -> None:
    named = {
        name
        for number in pb.Provider.values()
        if number != pb.PROVIDER_UNSPECIFIED
        for name in providers_named_in(access_pb.GetCredentialRequest(provider=number))
    }
    assert PROVIDERS == named
    kinds = {field.name for field in pb.Credential.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert kinds <= PROVIDERS


async def test_no_label_holds_what_a_caller_chose(house: House) -> None:
    metadata = (("x-request-id", CANARY * 2), ("x-org", CANARY))
    request = access_pb.GetCredentialRequest(org_id=CANARY, provider=pb.PROVIDER_VAPI)
    await house.call(fine, FakeContext(metadata=metadata), request=request)
    await house.call(fine, FakeContext(peer="gateway", metadata=metadata), request=request)
    assert CANARY not in generate_latest(house.telemetry.registry).decode()
