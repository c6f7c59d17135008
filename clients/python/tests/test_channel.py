"""`call`, by which the servers call each other."""

import json
from typing import Any

import grpc
import grpc.aio
import pytest

from tenantvault._methods import READS, REFRESH, REPORT_FAILURE, WATCH
from tenantvault._status import to_status
from tenantvault.channel import DEFAULT_DEADLINE, OPTIONS, call, channel_options, service_config
from tenantvault.errors import LeaseHeld, VaultUnavailable
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import directory_service_pb2 as directory
from tenantvault.v1 import integration_service_pb2 as integration


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


@pytest.mark.parametrize("retries", [True, False])
def test_an_option_is_set_once(retries: Any) -> None:
    names = [name for name, _ in channel_options(own_connection=True, retries=retries)]

    assert set(dict(OPTIONS)) < set(names)
    assert len(names) == len(set(names))


def test_no_ping_is_waited_for_longer_than_the_keep_alive_takes_to_notice_a_dead_peer() -> None:
    pings, every, patience = (
        int(dict(OPTIONS)[f"grpc.{name}_ms"]) for name in ("http2.ping_timeout", "keepalive_time", "keepalive_timeout")
    )

    assert patience <= pings <= every + patience


def test_nothing_is_made_again_unless_that_is_wanted() -> None:
    options = dict(channel_options(own_connection=False, retries=False))

    assert (0, False) == (options["grpc.enable_retries"], "grpc.service_config" in options)
    assert 1 == dict(channel_options(own_connection=False, retries=True))["grpc.enable_retries"]


def test_what_is_made_again_is_every_read_and_nothing_else() -> None:
    (made_again,) = json.loads(service_config())["methodConfig"]
    changes_nothing = {
        ("CredentialAccessService", "GetCredential"),
        ("CredentialAccessService", "BatchGetCredentials"),
        ("CredentialAccessService", "ResolveCredential"),
        ("OrgDirectoryService", "ResolveOrg"),
        ("OrgDirectoryService", "BatchResolveOrgs"),
    }

    assert changes_nothing == {
        (each["service"].removeprefix("tenantvault.v1."), each["method"]) for each in made_again["name"]
    }
    assert ["UNAVAILABLE", "CANCELLED"] == made_again["retryPolicy"]["retryableStatusCodes"]


def test_every_method_that_may_be_called_is_one_of_the_contract() -> None:
    files = (access.DESCRIPTOR, directory.DESCRIPTOR, integration.DESCRIPTOR)
    names = {
        f"{service.full_name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }

    assert set(READS) < {*READS, REPORT_FAILURE, WATCH, REFRESH} <= names
