"""What a client raises: what the services said, and what it has to say itself."""

from typing import Literal, TypeAlias

import grpc

from tenantvault._status import FailedCall, from_status
from tenantvault.errors import DeadlineExceeded, InvalidRequest, TenantVaultError

Service: TypeAlias = Literal["vault", "provider service"]
"""Whom a client calls, as its sentences name it."""


def failure(call: FailedCall, *, closed: bool, service: Service = "vault") -> TenantVaultError:
    """The error that a failed call stands for. `closed` says whether the client was closed under it."""
    if closed and call.code() is grpc.StatusCode.CANCELLED:
        return client_closed()
    error = from_status(call)
    if isinstance(error, DeadlineExceeded) and error.message == DeadlineExceeded.sentence:
        # The transport's own: while it waits for a connection it does not tell what keeps it from one.
        return no_answer(service)
    return error


def copied(error: TenantVaultError) -> TenantVaultError:
    """The same error once more: each of several callers raises its own."""
    return type(error)(error.message, fields=error.fields, retry_after=error.retry_after)


def no_answer(service: Service) -> DeadlineExceeded:
    """What a call raises that got no answer in time."""
    return DeadlineExceeded(
        f"The {service} did not answer within the deadline: it is slow, or cannot be reached with this address and "
        "these certificates."
    )


def client_closed() -> InvalidRequest:
    """What a call on a closed client raises."""
    return InvalidRequest("This client is closed: open a new one.")


def client_forked() -> InvalidRequest:
    """What a call raises in a process that was forked after its client was made."""
    return InvalidRequest(
        "This client was made before the process was forked, and its connection belongs to the parent: make a client "
        "in each process, after the fork."
    )


def no_loop() -> InvalidRequest:
    """What making an AsyncClient raises where no event loop runs."""
    return InvalidRequest("Make an AsyncClient inside the event loop that uses it.")


def other_loop() -> InvalidRequest:
    """What a call raises that is made in another event loop than the client's own."""
    return InvalidRequest(
        "This AsyncClient belongs to another event loop, or to one that has ended: make one inside each loop that uses "
        "it, or a Client for threads."
    )


def bad(field: str, what: str) -> InvalidRequest:
    """What a call raises that was given a bad argument, and what to give instead."""
    return InvalidRequest(f"{field}: {what}", fields={field: what})
