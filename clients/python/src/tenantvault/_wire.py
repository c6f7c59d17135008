"""The way of the client for threads to the services: connections, deadlines, errors as classes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, cast

import grpc

from tenantvault._failures import Service, client_closed, failure, no_answer
from tenantvault._hedge import Asking
from tenantvault._manner import Manner, Span
from tenantvault._methods import Methods, provider_methods, vault_methods
from tenantvault._status import FailedCall, from_status
from tenantvault._tokens import nobody_to_refresh
from tenantvault.errors import TenantVaultError


class Wire:
    """Calls over several connections to the vault, used in turn, and one to the provider service.

    Each call raises a `TenantVaultError` and nothing else.
    """

    def __init__(self, channels: Sequence[grpc.Channel], provider_channel: grpc.Channel | None, manner: Manner) -> None:
        self._manner = manner
        self._channels = [*channels, *([] if provider_channel is None else [provider_channel])]
        self._connections = [vault_methods(channel) for channel in channels]
        self._provider = None if provider_channel is None else provider_methods(provider_channel)
        self._turn = count()
        self.closed = False

    def demand_provider(self) -> Methods:
        """The methods of the provider service; InvalidRequest when nobody said where that is."""
        if self._provider is None:
            raise nobody_to_refresh()
        return self._provider

    @property
    def vault(self) -> Methods:
        """The methods of the first connection."""
        return self._connections[0]

    def read(self, method: str, request: Any, timeout: float, *, ready: bool = True) -> Any:
        """Make a call that changes nothing, over the next connection; where it is hedged, over the one after it too."""
        if self._manner.hedge_after is None:
            return self._send(self._connection(next(self._turn)), method, request, timeout, ready=ready)
        asking = self.asking(method, request, timeout, ready=ready)
        try:
            return self.response(asking, timeout)
        finally:
            asking.cancel()

    def asking(self, method: str, request: Any, timeout: float, *, ready: bool = True) -> Asking:
        """Begin the same, for several to wait for its `response`."""
        turn = next(self._turn)

        def ask(number: int) -> "grpc.Future[Any]":
            return self._begin(self._connection(turn + number), method, request, timeout, ready=ready)

        return Asking(ask, lambda call: self.error(call, "vault"), self._manner.hedge_after)

    def response(self, asking: Asking, timeout: float) -> Any:
        """What came of it within so many seconds."""
        call = asking.wait(timeout)
        if call is None:
            raise no_answer("vault")
        if (error := self.error(call, "vault")) is not None:
            raise error
        return call.result()

    def call(self, method: str, request: Any, timeout: float) -> Any:
        """Make a call to the vault that may change something, once."""
        return self._send(self.vault, method, request, timeout)

    def begin(self, method: str, request: Any, timeout: float) -> "grpc.Future[Any]":
        """Begin a call to the provider service, for `error`."""
        return self._begin(self.demand_provider(), method, request, timeout, "provider service")

    def error(
        self, call: "grpc.Future[Any]", service: Service, timeout: float | None = None
    ) -> TenantVaultError | None:
        """What kept a call from being answered; DeadlineExceeded when nothing did within so many seconds."""
        try:
            error = call.exception(timeout=timeout)
        except grpc.FutureTimeoutError:
            raise no_answer(service) from None
        except grpc.FutureCancelledError:
            return client_closed()
        return None if error is None else self._failure(error, service)

    def close(self) -> None:
        """End the connections, and every call under way."""
        self.closed = True
        with ExitStack() as stack:
            for channel in self._channels:
                stack.callback(channel.close)

    def _connection(self, turn: int) -> Methods:
        return self._connections[turn % len(self._connections)]

    def _send(self, methods: Methods, method: str, request: Any, timeout: float, *, ready: bool = True) -> Any:
        span = self._manner.begin(method, "vault", request)
        metadata = None if span is None else span.metadata
        code, reason = "CANCELLED", "CANCELLED"
        try:
            with self._open():
                # A call waits for a channel that is connecting, so that a restart of a service costs its callers time
                # and no error. It may: nothing of it was sent before.
                response = methods[method](request, timeout=timeout, wait_for_ready=ready, metadata=metadata)
            code, reason = "OK", ""
        except grpc.RpcError as error:
            failed = self._failure(error, "vault")
            code, reason = cast("FailedCall", error).code().name, failed.reason
            raise failed from None
        else:
            return response
        finally:
            if span is not None:
                span.end(code, reason)

    def _begin(
        self,
        methods: Methods,
        method: str,
        request: Any,
        timeout: float,
        service: Service = "vault",
        *,
        ready: bool = True,
    ) -> "grpc.Future[Any]":
        span = self._manner.begin(method, service, request)
        metadata = None if span is None else span.metadata
        with self._open():
            call: grpc.Future[Any] = methods[method].future(
                request, timeout=timeout, wait_for_ready=ready, metadata=metadata
            )
        if span is not None:
            call.add_done_callback(lambda over: _end(span, over))
        return call

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Say that the client is closed where it is."""
        if self.closed:
            raise client_closed()
        try:
            yield
        except ValueError:
            # What a channel says that another thread has closed since.
            if self.closed:
                raise client_closed() from None
            raise

    def _failure(self, error: BaseException, service: Service) -> TenantVaultError:
        return failure(cast("FailedCall", error), closed=self.closed, service=service)


def _end(span: Span, over: Any) -> None:
    code: grpc.StatusCode = over.code()
    match code:
        case grpc.StatusCode.OK:
            span.end(code.name)
        case grpc.StatusCode.CANCELLED:
            span.end(code.name, code.name)
        case _:
            span.end(code.name, from_status(over).reason)
