"""`call`, by which the servers call each other."""

from typing import Any

import grpc
import grpc.aio
import pytest

from tenantvault._status import to_status
from tenantvault.channel import DEFAULT_DEADLINE, OPTIONS, call
from tenantvault.errors import LeaseHeld, VaultUnavailable


class Method:
    """A stub's method that answers with what it was given."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def __call__(self, request: Any, **options: Any) -> Any:
        if self._error is not None:
            raise self._error
        return request, options


async def test_a_call_has_a_deadline_though_none_is_given() -> None:
    assert ("request", {"timeout": DEFAULT_DEADLINE, "metadata": None}) == await call(Method(), "request")


async def test_a_call_carries_its_request_id() -> None:
    assert ("request", {"timeout": 2, "metadata": (("x-request-id", "r1"),)}) == await call(
        Method(), "request", deadline=2, request_id="r1"
    )


async def test_a_failed_call_raises_the_servers_error() -> None:
    code, message, trailers = to_status(LeaseHeld(retry_after=3))
    failed = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), message)

    with pytest.raises(LeaseHeld) as caught:
        await call(Method(failed), "request")

    assert 3 == caught.value.retry_after


async def test_a_failed_transport_keeps_its_text_to_itself() -> None:
    failed = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "10.0.0.1:7401"
    )

    with pytest.raises(VaultUnavailable) as caught:
        await call(Method(failed), "request")

    assert "10.0.0.1" not in str(caught.value)


def test_an_option_is_set_once() -> None:
    names = [name for name, _ in OPTIONS]

    assert len(names) == len(set(names))
