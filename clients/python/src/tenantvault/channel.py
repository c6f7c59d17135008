"""Channels to TenantVault's services: mutual TLS, deadlines, errors as classes."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar, cast

import grpc
import grpc.aio

from tenantvault._channels import AsyncChannel, BlockingChannel
from tenantvault._methods import READS
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
    # While another ping is under way, as calls bring them along, the keep-alive waits for that one: for a minute,
    # unless told.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Come back quickly after a restart; the default backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    # In spite of its name: how long a connection, TLS included, may take to be made.
    ("grpc.min_reconnect_backoff_ms", 5_000),
)
"""The channel options of every client of ours."""

ResponseT = TypeVar("ResponseT")


def open_channel(
    target: str, tls: TlsFiles, *, own_connection: bool = False, retries: bool = False
) -> grpc.aio.Channel:
    """An asyncio channel to `host:port`. It connects when it is first used and reconnects by itself.

    Channels of one process to one target share a connection, but for one that has its `own_connection`. With `retries`,
    a read that the server was unavailable for is made again, within its deadline and a budget.

    When the files were replaced, calls go over a new connection; streams end, and are to be begun anew.

    Raises:
        OSError: the files cannot be used.
    """
    options = channel_options(own_connection=own_connection, retries=retries)
    return AsyncChannel(target, tls, partial(grpc.aio.secure_channel, target, options=options))


def open_blocking_channel(
    target: str, tls: TlsFiles, *, own_connection: bool = False, retries: bool = False
) -> grpc.Channel:
    """The same for threads. A stream that is ended for a new connection is CANCELLED."""
    options = channel_options(own_connection=own_connection, retries=retries)
    return BlockingChannel(target, tls, partial(grpc.secure_channel, target, options=options))


def channel_options(*, own_connection: bool, retries: bool) -> tuple[tuple[str, int | str], ...]:
    """The options of a channel to a service of ours."""
    return (
        *OPTIONS,
        ("grpc.use_local_subchannel_pool", int(own_connection)),
        # What may be repeated is said below and nowhere else.
        ("grpc.enable_retries", int(retries)),
        ("grpc.service_config_disable_resolution", 1),
        *((("grpc.service_config", service_config()),) if retries else ()),
    )


def service_config() -> str:
    """What gRPC makes again, and how often: reads that failed with UNAVAILABLE, as long as the budget lasts.

    So are those that the server broke off: a call that arrives while it stops ends with CANCELLED.
    A failure costs one token and an answer brings a tenth; below half of them nothing is made again. A server that says
    when to come again, or never (`grpc-retry-pushback-ms`), is heeded.
    https://github.com/grpc/proposal/blob/master/A6-client-retries.md
    """
    names = [dict(zip(("service", "method"), name.split("/"), strict=True)) for name in READS]
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
    }
    return json.dumps(
        {
            "methodConfig": [{"name": names, "retryPolicy": policy}],
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        }
    )


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
