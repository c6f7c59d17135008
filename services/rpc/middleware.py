"""What happens around every handler, in one place and one order.

From the outside in: request id, log and metrics, errors, readiness, peer and policy, deadline,
handler. All of it runs inside the wrapped handler: an exception that leaves `intercept_service` would pass by every
other interceptor and carry its text to the caller.
"""

import asyncio
import contextlib
import inspect
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from services.rpc import logs
from services.rpc.peers import Identity, Policy
from services.rpc.telemetry import Telemetry
from tenantvault._status import to_status
from tenantvault.errors import (
    DeadlineExceeded,
    DeadlineRequired,
    InternalError,
    InvalidRequest,
    PermissionDenied,
    TenantVaultError,
    VaultUnavailable,
)

LONGEST_DEADLINE: Final = 120.0
"""Seconds. A call that wants more is refused: it would hold its resources for nobody."""

LONGEST_STREAM: Final = 3600.0
"""The same for a call whose answers stream, which its caller may listen to for as long as that."""

WRITE_SECONDS: Final = 30.0
"""How long one answer of a stream may wait for its reader, who else would hold what is behind it for nobody."""

UNREAD: Final = "The answers were not read in time: ask again, and read each as it comes."

REQUEST_ID: Final = "x-request-id"
"""The metadata key of a call's id: taken over from the caller, or made here, and told with every failure."""

_log = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_NOBODY: Final = "-"
_current: ContextVar["Call"] = ContextVar("call")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = Callable[[Any, Context], Awaitable[Any]]

# Of foreign services: health checks must answer while we are not ready, and their streams live long.
_FOREIGN: Final = "/grpc."


@dataclass(slots=True)
class Call:
    """One call under way, as the log and the audit see it."""

    method: str
    request_id: str
    peer: str = _NOBODY
    code: str = "OK"
    started: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Middleware(grpc.aio.ServerInterceptor):
    """The one adapter to grpc.aio. `ready` says whether this process may serve, all methods but `always`."""

    identity: Identity
    policy: Policy
    telemetry: Telemetry
    ready: Callable[[], bool]
    always: frozenset[str] = frozenset()
    # By method: what is registered does not change while the server lives.
    _wrapped: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a method. An unknown method stays grpc's own UNIMPLEMENTED."""
        method = handler_call_details.method
        if (wrapped := self._wrapped.get(method)) is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return handler
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> Any:
        read, write = handler.request_deserializer, handler.response_serializer
        match handler.request_streaming, handler.response_streaming:
            case False, False:
                around = self._around(method, handler.unary_unary)
                return grpc.unary_unary_rpc_method_handler(around, _readable(read), write)
            case False, True:
                around = self._around(method, _written(handler.unary_stream), longest=LONGEST_STREAM)
                return grpc.unary_stream_rpc_method_handler(around, _readable(read), write)
            case True, False:
                return grpc.stream_unary_rpc_method_handler(self._around(method, handler.stream_unary), read, write)
            case _:
                around = self._around(method, _written(handler.stream_stream), longest=LONGEST_STREAM)
                return grpc.stream_stream_rpc_method_handler(around, read, write)

    def _around(self, method: str, run: Handler, *, longest: float = LONGEST_DEADLINE) -> Handler:
        async def around(request: Any, context: Context) -> Any:
            call = Call(method, _request_id(context))
            _current.set(call)
            logs.request_id.set(call.request_id)
            try:
                self._admit(call, request, context, longest)
                answer = await run(request, context)
            except BaseException as error:
                told = self._told(call, error, context)
                self._record(call)
                if told is not None:
                    code, sentence, trailers = to_status(told)
                    await context.abort(code, sentence, (*trailers, (REQUEST_ID, call.request_id)))
                raise
            self._record(call)
            return answer

        return around

    def _admit(self, call: Call, request: Any, context: Context, longest: float) -> None:
        foreign = call.method.startswith(_FOREIGN)
        if not foreign and not self.ready() and call.method not in self.always:
            raise VaultUnavailable("This service is not ready: try again in a moment.")
        call.peer = self.identity.peer(context.auth_context())
        named = providers_named_in(request) if isinstance(request, Message) and not foreign else (None,)
        for provider in named:
            if not self.policy.allows(call.method, call.peer, provider):
                raise PermissionDenied(f"{call.peer} may not do that. The operator's policy decides.")
        if request is None:
            raise InvalidRequest("These bytes are no request of this method: generate the client from the same protos.")
        remaining: float | None = context.time_remaining()
        if not foreign and (remaining is None or remaining > longest):
            raise DeadlineRequired

    def _told(self, call: Call, error: BaseException, context: Context) -> TenantVaultError | None:
        """What the caller is told of an error; None when the error itself is to go on."""
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            call.code = "CANCELLED"
            return None
        if isinstance(error, grpc.aio.AbortError):
            call.code = context.code().name
            return None
        if isinstance(error, TenantVaultError):
            told = error
        else:
            _log.error("a handler failed", exc_info=error, extra={"rpc": call.method, "request_id": call.request_id})
            told = InternalError()
        call.code = told.code
        return told

    def _record(self, call: Call) -> None:
        seconds = time.perf_counter() - call.started
        self.telemetry.record(method=call.method, peer=call.peer, code=call.code, seconds=seconds)
        level = logging.DEBUG if call.code == "OK" else logging.INFO
        if _log.isEnabledFor(level):
            _log.log(
                level,
                "call",
                extra={
                    "rpc": call.method,
                    "peer": call.peer,
                    "code": call.code,
                    "request_id": call.request_id,
                    "ms": round(seconds * 1000, 3),
                },
            )


def current_call() -> Call:
    """The call that the running handler answers. LookupError outside of one."""
    return _current.get()


def providers_named_in(request: Message) -> Collection[str | None]:
    """The providers that a request is about, e.g. `vapi`; None for none.

    They are in its field `provider`, are the kind of its `credential`, or are in the fields `provider` of its `keys`.
    """
    fields: Mapping[str, Any] = request.DESCRIPTOR.fields_by_name
    if "provider" in fields:
        return (_provider(fields["provider"], request.provider),)  # type: ignore[attr-defined]  # the contract's shape
    if "credential" in fields:
        kind = request.credential.WhichOneof("kind")  # type: ignore[attr-defined]  # the contract's shape
        return (str(kind) if kind else None,)
    if "keys" in fields and (in_key := fields["keys"].message_type.fields_by_name.get("provider")):
        numbers = {key.provider for key in request.keys}  # type: ignore[attr-defined]  # the contract's shape
        return {_provider(in_key, number) for number in numbers} or (None,)
    return (None,)


@lru_cache(256)
def _provider(field: Any, number: int) -> str | None:
    value = field.enum_type.values_by_number.get(number)
    return value.name.removeprefix("PROVIDER_").lower() if value else None


def _readable(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserializer that gives None for bytes that are no message.

    What it raised would pass by everything that happens around a handler: no log, no count, its text to the caller.
    """

    def readable(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError:
            return None

    return readable


def _written(behaviour: Callable[..., Any]) -> Handler:
    """A streaming handler of either style (it yields answers, or it writes them) as one that writes."""

    async def run(request: Any, context: Context) -> None:
        answers = behaviour(request, context)
        if inspect.isawaitable(answers):
            await answers
            return
        async with contextlib.aclosing(answers):
            async for answer in answers:
                await _write(context, answer)

    return run


async def _write(context: Context, answer: Any) -> None:
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            await context.write(answer)
    except TimeoutError:
        raise DeadlineExceeded(UNREAD) from None


def _request_id(context: Context) -> str:
    metadata: Any = context.invocation_metadata()
    for key, value in metadata or ():
        if key == REQUEST_ID and isinstance(value, str) and _ID.fullmatch(value):
            return value
    return secrets.token_hex(16)
