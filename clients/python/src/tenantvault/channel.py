"""Channels to TenantVault's services: mutual TLS, deadlines, errors as classes."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import grpc
import grpc.aio

from tenantvault._status import FailedCall, from_status
from tenantvault.errors import TenantVaultError
from tenantvault.tls import TlsFiles

DEFAULT_DEADLINE: Final = 5.0
"""Seconds that a call may take when nothing else is said."""

REQUEST_ID: Final = "x-request-id"
"""The metadata key that carries a request's id from process to process, for the logs. It is no secret."""

MAX_REQUEST_BYTES: Final = 1024 * 1024

MAX_RESPONSE_BYTES: Final = 24 * 1024 * 1024
"""A batch of a thousand credentials may be that large."""

OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
    # A dead peer is noticed within 20 s; servers refuse pings that come more often than every 10 s.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Come back quickly after a restart; the default backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    # In spite of its name: how long a connection, TLS included, may take to be made.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Retries belong to the caller, who knows what may be repeated.
    ("grpc.enable_retries", 0),
)
"""The channel options of every client of ours."""

ResponseT = TypeVar("ResponseT")


def open_channel(target: str, tls: TlsFiles) -> grpc.aio.Channel:
    """An asyncio channel to `host:port`. It connects when it is first used and reconnects by itself."""
    return grpc.aio.secure_channel(target, tls.channel_credentials(), options=OPTIONS)


def open_blocking_channel(target: str, tls: TlsFiles) -> grpc.Channel:
    """The same for threads."""
    return grpc.secure_channel(target, tls.channel_credentials(), options=OPTIONS)


async def call(
    method: Callable[..., Awaitable[ResponseT]],
    request: Any,
    *,
    deadline: float = DEFAULT_DEADLINE,
    request_id: str = "",
) -> ResponseT:
    """Make a unary call on a stub's method, e.g. `call(stub.GetCredential, request)`.

    `deadline` is in seconds. Raises a `TenantVaultError`.
    """
    metadata = ((REQUEST_ID, request_id),) if request_id else None
    try:
        return await method(request, timeout=deadline, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise from_status(cast("FailedCall", error)) from None


__all__ = [
    "DEFAULT_DEADLINE",
    "REQUEST_ID",
    "TenantVaultError",
    "TlsFiles",
    "call",
    "open_blocking_channel",
    "open_channel",
]
