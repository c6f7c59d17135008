import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from services.rpc.server import (
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    CannotTell,
    NotReady,
    RpcServer,
    ServerConfig,
    Service,
    server_credentials,
)
from services.rpc.telemetry import Telemetry
from tenantvault import channel
from tenantvault.tls import TlsFiles
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1.directory_service_pb2_grpc import add_OrgDirectoryServiceServicer_to_server

NEEDED = {
    "TENANTVAULT_TLS_CERT": "/tls/cert.pem",
    "TENANTVAULT_TLS_KEY": "/tls/key.pem",
    "TENANTVAULT_TLS_CA": "/tls/ca.pem",
}
DIRECTORY = Service(
    directory_pb.DESCRIPTOR,
    add_OrgDirectoryServiceServicer_to_server,
    SimpleNamespace(ResolveOrg=None, BatchResolveOrgs=None),
)


def config(**environ: str) -> ServerConfig:
    return ServerConfig.from_env({**NEEDED, **environ}, listen="127.0.0.1:7401")


def test_what_is_not_set_has_its_default() -> None:
    found = config()
    assert ("127.0.0.1:7401", "tenantvault.local", False, "") == (
        found.listen,
        found.trust_domain,
        found.reflection,
        found.metrics_listen,
    )
    assert (Path("/tls/cert.pem"), Path("/tls/key.pem"), Path("/tls/ca.pem")) == (
        found.tls.certificate,
        found.tls.key,
        found.tls.authorities,
    )
    assert found.policy_file.is_file()


def test_everything_can_be_set() -> None:
    found = config(
        TENANTVAULT_PROFILE="local",
        TENANTVAULT_LISTEN="[::]:1",
        TENANTVAULT_TRUST_DOMAIN="example.org",
        TENANTVAULT_POLICY_FILE="/etc/policy.toml",
        TENANTVAULT_METRICS_LISTEN="127.0.0.1:9401",
    )
    assert ("[::]:1", "example.org", Path("/etc/policy.toml"), True, "127.0.0.1:9401") == (
        found.listen,
        found.trust_domain,
        found.policy_file,
        found.reflection,
        found.metrics_listen,
    )


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_pem_file_is_named(name: str) -> None:
    environ = {key: value for key, value in NEEDED.items() if key != name}
    with pytest.raises(ValueError, match=rf"^{name} is missing: give the path of a PEM file$"):
        ServerConfig.from_env(environ, listen="")


@pytest.mark.parametrize("profile", ["", "Local", "development"])
def test_an_unknown_profile_is_refused(profile: str) -> None:
    with pytest.raises(ValueError, match=r"^TENANTVAULT_PROFILE must be production or local$"):
        config(TENANTVAULT_PROFILE=profile)


@pytest.mark.parametrize("name", ["TENANTVAULT_LISTEN", "TENANTVAULT_METRICS_LISTEN"])
@pytest.mark.parametrize(
    "address", ["7401", ":7401", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "h:-1", "h:\u0663", "h:7401 ", "h:1\n"]
)
def test_what_is_no_address_is_refused_by_the_variables_name(name: str, address: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be host:port, e\.g\. 127\.0\.0\.1:7401$"):
        config(**{name: address})


def test_an_empty_address_is_the_default() -> None:
    found = config(TENANTVAULT_LISTEN="", TENANTVAULT_METRICS_LISTEN="")
    assert ("127.0.0.1:7401", "") == (found.listen, found.metrics_listen)


class Check:
    """A self-check that finds what the test says."""

    def __init__(self) -> None:
        self.finds: Exception | None = None

    async def __call__(self) -> None:
        if self.finds is not None:
            raise self.finds


@pytest.fixture
def check() -> Check:
    return Check()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str, str]]]:
    caplog.set_level(logging.INFO, logger="services.rpc")

    def read() -> list[tuple[str, str, str]]:
        events = [(r.levelname, r.message, vars(r).get("reason", "")) for r in caplog.records]
        caplog.clear()
        return events

    return read


def made(check: Callable[[], Awaitable[None]], **environ: str) -> RpcServer:
    return RpcServer(config(**environ), [DIRECTORY], check=check, telemetry=Telemetry())


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """What grpc's server is made with."""
    given: dict[str, Any] = {}
    make = grpc.aio.server

    def server(**arguments: Any) -> grpc.aio.Server:
        given.update(arguments)
        return make(**arguments)

    monkeypatch.setattr(grpc.aio, "server", server)
    return given


async def health_of(found: RpcServer) -> int:
    request: Any = health_pb2.HealthCheckRequest()
    context: Any = None
    return int((await found._health.Check(request, context)).status)


async def test_a_process_serves_when_its_check_has_passed(
    check: Check, logged: Callable[[], list[tuple[str, str, str]]]
) -> None:
    rpc = made(check)
    assert (2, False) == (await health_of(rpc), rpc._ready)
    assert await rpc.check()
    assert (1, True) == (await health_of(rpc), rpc._ready)
    await rpc.check()
    assert [("INFO", "ready to serve", "")] == logged()


async def test_a_check_that_fails_stops_the_serving_and_says_why_once(
    check: Check, logged: Callable[[], list[tuple[str, str, str]]]
) -> None:
    rpc = made(check)
    await rpc.check()
    logged()
    check.finds = NotReady("a policy is gone")
    for _ in range(3):
        assert not await rpc.check()
        assert (2, False) == (await health_of(rpc), rpc._ready)
    assert [("ERROR", "self-check failed", "a policy is gone"), ("INFO", "no longer serving", "")] == logged()
    check.finds = NotReady("another policy is gone")
    await rpc.check()
    assert [("ERROR", "self-check failed", "another policy is gone")] == logged()
    check.finds = None
    assert await rpc.check()
    assert (1, True) == (await health_of(rpc), rpc._ready)
    assert [("INFO", "ready to serve", "")] == logged()


async def test_a_check_that_cannot_be_made_leaves_a_serving_process_serving(
    check: Check, logged: Callable[[], list[tuple[str, str, str]]]
) -> None:
    rpc = made(check)
    await rpc.check()
    logged()
    check.finds = CannotTell("the database is away")
    assert not await rpc.check()
    assert not await rpc.check()
    assert (1, True) == (await health_of(rpc), rpc._ready)
    assert [("ERROR", "self-check failed", "the database is away")] == logged()


async def test_a_check_that_cannot_be_made_does_not_begin_the_serving(check: Check) -> None:
    rpc = made(check)
    check.finds = CannotTell("the database is away")
    assert not await rpc.check()
    assert (2, False) == (await health_of(rpc), rpc._ready)


async def test_a_check_that_cannot_be_made_does_not_heal_one_that_failed(check: Check) -> None:
    rpc = made(check)
    await rpc.check()
    for finds in (NotReady("a policy is gone"), CannotTell("the database is away")):
        check.finds = finds
        await rpc.check()
    assert (2, False) == (await health_of(rpc), rpc._ready)


async def test_a_check_that_breaks_is_a_check_that_fails(check: Check, caplog: pytest.LogCaptureFixture) -> None:
    rpc = made(check)
    await rpc.check()
    check.finds = RuntimeError("canary-1a2b")
    assert not await rpc.check()
    assert (2, False) == (await health_of(rpc), rpc._ready)
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert ("RuntimeError", check.finds) == (vars(record)["reason"], record.exc_info and record.exc_info[1])
    assert "canary" not in record.message


async def test_checking_goes_on_and_more_often_while_something_is_wrong(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    finds: list[Exception | None] = [NotReady("no"), CannotTell("away"), None, None]

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        if not finds:
            raise asyncio.CancelledError
        check.finds = finds.pop(0)

    monkeypatch.setattr(asyncio, "sleep", nap)
    rpc = made(check)
    with pytest.raises(asyncio.CancelledError):
        await rpc.keep_checking()
    assert [30.0, 0.5, 0.5, 30.0, 30.0] == naps


async def test_who_waits_until_it_is_ready_waits_for_the_first_check_that_passes(check: Check) -> None:
    rpc = made(check)
    waiting = asyncio.ensure_future(rpc.ready())
    check.finds = NotReady("no")
    await rpc.check()
    await asyncio.sleep(0)
    assert not waiting.done()
    check.finds = None
    await rpc.check()
    await waiting


async def test_requests_are_small_and_answers_may_hold_a_batch(check: Check, given: Mapping[str, Any]) -> None:
    made(check)
    options = dict(given["options"])
    assert (1024 * 1024, 24 * 1024 * 1024) == (MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES)
    assert MAX_REQUEST_BYTES == options["grpc.max_receive_message_length"]
    assert MAX_RESPONSE_BYTES == options["grpc.max_send_message_length"]


def test_a_client_takes_what_a_server_sends_and_sends_no_more_than_it_takes() -> None:
    options = dict(channel.OPTIONS)
    assert MAX_RESPONSE_BYTES == options["grpc.max_receive_message_length"]
    assert MAX_REQUEST_BYTES == options["grpc.max_send_message_length"]


async def test_what_is_always_answered_is_known_around_the_handlers(check: Check, given: Mapping[str, Any]) -> None:
    always = "/tenantvault.v1.OrgDirectoryService/ResolveOrg"
    rpc = RpcServer(config(), [DIRECTORY], check=check, telemetry=Telemetry(), always=[always])
    [middleware] = given["interceptors"]
    assert ({always}, False) == (middleware.always, middleware.ready())
    await rpc.check()
    assert middleware.ready()


class Calls:
    """Calls under way, which a stop waits for."""

    def __init__(self, order: list[str]) -> None:
        self.order = order

    async def stop(self, grace: float) -> None:
        self.order.append(f"calls, within {grace:g} seconds")


async def test_those_who_listen_are_let_go_before_calls_under_way_are_waited_for(check: Check) -> None:
    order: list[str] = []
    rpc = RpcServer(
        config(), [DIRECTORY], check=check, telemetry=Telemetry(), stopping=lambda: order.append("those who listen")
    )
    await rpc.check()
    rpc._server = cast("grpc.aio.Server", Calls(order))
    rpc._close_metrics = lambda: order.append("metrics")
    await rpc.stop(grace=3.0)
    assert ["those who listen", "calls, within 3 seconds", "metrics"] == order
    # What is found afterwards changes nothing any more.
    await rpc.check()
    assert 2 == await health_of(rpc)


async def test_a_stop_needs_nobody_who_listens(check: Check) -> None:
    order: list[str] = []
    rpc = made(check)
    rpc._server = cast("grpc.aio.Server", Calls(order))
    await rpc.stop()
    assert ["calls, within 10 seconds"] == order


async def test_a_policy_that_does_not_fit_stops_the_start(check: Check, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    shipped = config().policy_file.read_text()
    for change, complaint in (
        (shipped.replace("ResolveOrg =", "ResolveOrgs ="), "no row for /tenantvault.v1.OrgDirectoryService/ResolveOrg"),
        (shipped + "\n[NewService]\nMethod = { gateway = '*' }", "no method for row /tenantvault.v1.NewService/Method"),
        (shipped.replace("Watch = ", "# "), "no row for /grpc.health.v1.Health/Watch"),
        ("", "no row for"),
    ):
        policy.write_text(change)
        with pytest.raises(ValueError, match=complaint):
            made(check, TENANTVAULT_POLICY_FILE=str(policy))


@pytest.fixture
def tls(tmp_path: Path) -> TlsFiles:
    for name in ("cert", "key", "ca"):
        (tmp_path / f"{name}.pem").write_text(name)
    return TlsFiles(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem", authorities=tmp_path / "ca.pem")


Fetch = Callable[[], Any]


@pytest.fixture
def fetched(tls: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """What gRPC was given: the first configuration, and what it asks for each connection."""
    given: dict[str, Any] = {}

    def take(first: Any, fetch: Fetch, *, require_client_authentication: bool) -> object:
        given.update(first=first, fetch=fetch, required=require_client_authentication)
        return object()

    def configuration(pairs: Any, *, root_certificates: bytes) -> Any:
        return (pairs[0][1], pairs[0][0], root_certificates)

    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", take)
    monkeypatch.setattr(grpc, "ssl_server_certificate_configuration", configuration)
    server_credentials(tls)
    return given


def test_clients_must_show_a_certificate(fetched: Mapping[str, Any]) -> None:
    assert fetched["required"] is True
    assert (b"cert", b"key", b"ca") == fetched["first"]


def test_files_that_did_not_change_are_not_read_again(fetched: Mapping[str, Any]) -> None:
    assert fetched["fetch"]() is None


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_a_file_that_changed_is_read_once_more(fetched: Mapping[str, Any], tls: TlsFiles, name: str) -> None:
    path = tls.key.with_name(f"{name}.pem")
    path.write_text("renewed")
    assert b"renewed" in fetched["fetch"]()
    assert fetched["fetch"]() is None


def test_a_file_that_changed_within_one_tick_of_the_clock_is_read(fetched: Mapping[str, Any], tls: TlsFiles) -> None:
    before = tls.certificate.stat()
    tls.certificate.write_text("half")
    assert b"half" in fetched["fetch"]()
    tls.certificate.write_text("half and half")
    os.utime(tls.certificate, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert b"half and half" in fetched["fetch"]()
    other = tls.certificate.with_name("other.pem")
    other.write_text("HALF AND HALF")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(tls.certificate)
    assert b"HALF AND HALF" in fetched["fetch"]()


def test_files_that_are_gone_change_nothing_until_they_are_back(
    fetched: Mapping[str, Any], tls: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    tls.key.unlink()
    assert fetched["fetch"]() is None
    assert ["the TLS files cannot be read: going on with the last"] == [record.message for record in caplog.records]
    tls.key.write_text("new key")
    assert (b"cert", b"new key", b"ca") == fetched["fetch"]()


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_a_file_that_is_missing_from_the_start_stops_the_start(tls: TlsFiles, name: str) -> None:
    path = tls.key.with_name(f"{name}.pem")
    path.unlink()
    with pytest.raises(OSError, match=f"{name}.pem"):
        server_credentials(tls)
