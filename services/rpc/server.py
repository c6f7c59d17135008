"""A gRPC server as every process of ours runs it: mutual TLS, policy, health, graceful stop."""

import asyncio
import gc
import importlib
import logging
import pkgutil
import re
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import DESCRIPTOR as REFLECTION

from services.rpc.health import HealthServicer
from services.rpc.middleware import Middleware
from services.rpc.peers import Identity, Policy
from services.rpc.tasks import end
from services.rpc.telemetry import Telemetry
from services.rpc.workers import is_worker
from tenantvault import v1
from tenantvault.tls import TlsFiles

GRACE: Final = 10.0
"""Seconds that calls under way have to finish after SIGTERM."""

MAX_REQUEST_BYTES: Final = 1024 * 1024

MAX_RESPONSE_BYTES: Final = 24 * 1024 * 1024
"""A thousand credentials of the largest size in one answer, with what is around them."""

_RECHECK: Final = 30.0
_RETRY: Final = 0.5
_PORT: Final = re.compile(r"[0-9]{1,5}")
_LAST_PORT: Final = 65535
_log = logging.getLogger(__name__)

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_RESPONSE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 1000),
    # Clients ping every 15 s; a peer that pings more often than every 10 s is cut off.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # While another ping is under way the keep-alive waits for that one: for a minute, unless told.
    ("grpc.http2.ping_timeout_ms", 10_000),
)


class NotReady(Exception):
    """A self-check failed; the text says why and holds no secret."""


class CannotTell(NotReady):
    """A self-check could not be made, e.g. because the database is away: what it found before stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What a server needs to know: where it listens (`host:port`), who it is, whom it lets in.

    `shares_port` says that other workers listen there too.
    """

    listen: str
    tls: TlsFiles
    trust_domain: str
    policy_file: Path
    reflection: bool = False
    metrics_listen: str = ""
    shares_port: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str], *, listen: str) -> "ServerConfig":
        """From the environment, with a default for TENANTVAULT_LISTEN.

        Raises:
            ValueError: a variable is missing or wrong; the sentence names it.
        """
        profile = environ.get("TENANTVAULT_PROFILE", "production")
        if profile not in {"production", "local"}:
            raise ValueError("TENANTVAULT_PROFILE must be production or local")
        try:
            tls = TlsFiles.from_env(environ)
        except KeyError as error:
            raise ValueError(f"{error.args[0]} is missing: give the path of a PEM file") from None
        return cls(
            listen=_address(environ, "TENANTVAULT_LISTEN") or listen,
            tls=tls,
            trust_domain=environ.get("TENANTVAULT_TRUST_DOMAIN", "tenantvault.local"),
            policy_file=Path(environ.get("TENANTVAULT_POLICY_FILE", Path(__file__).with_name("policy.toml"))),
            reflection=profile == "local",
            metrics_listen=_address(environ, "TENANTVAULT_METRICS_LISTEN"),
            shares_port=is_worker(environ),
        )


@dataclass(frozen=True, slots=True)
class Service:
    """A service to serve: the file that declares it, the generated function that adds it, what answers its calls."""

    file: FileDescriptor
    add: Callable[[Any, grpc.aio.Server], None]
    servicer: Any


class RpcServer:
    """Serves until it is told to stop. `check` raises NotReady while this process must not serve.

    The methods of `always`, by their full names, are answered all the same.
    """

    def __init__(
        self,
        config: ServerConfig,
        services: Sequence[Service],
        *,
        check: Callable[[], Awaitable[None]],
        telemetry: Telemetry,
        always: Collection[str] = (),
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._stopping = stopping
        self._check = check
        self._telemetry = telemetry
        self._close_metrics: Callable[[], None] | None = None
        self._ready = False
        self._trouble = ""
        self._passed = asyncio.Event()
        policy = Policy.read(config.policy_file)
        policy.check(_methods(services, reflect=config.reflection), known_services=_contract())
        middleware = Middleware(
            identity=Identity(config.trust_domain),
            policy=policy,
            telemetry=telemetry,
            ready=lambda: self._ready,
            always=frozenset(always),
        )
        options = (*_OPTIONS, ("grpc.so_reuseport", int(config.shares_port)))
        self._server = grpc.aio.server(interceptors=[middleware], options=options)
        for service in services:
            service.add(service.servicer, self._server)
        names = [name.full_name for service in services for name in service.file.services_by_name.values()]
        self._health = HealthServicer(names)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if config.reflection:
            reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)

    async def start(self) -> int:
        """Listen, with health NOT_SERVING; returns the port.

        Raises:
            OSError: an address is taken or none of this machine, or a file cannot be read or fits nothing.
        """
        credentials = server_credentials(self._config.tls)
        try:
            port = self._server.add_secure_port(self._config.listen, credentials)
        except RuntimeError:
            raise OSError(
                f"cannot listen on {self._config.listen}: it is taken or no address of this machine,"
                " or the certificate and its key do not fit"
            ) from None
        if self._config.metrics_listen:
            self._close_metrics = self._telemetry.expose(self._config.metrics_listen)
        await self._server.start()
        _log.info("listening", extra={"port": port})
        return port

    async def keep_checking(self) -> None:
        """Run the self-check for ever, and more often while it does not pass."""
        while True:
            passed = await self.check()
            await asyncio.sleep(_RECHECK if passed else _RETRY)

    async def check(self) -> bool:
        """Run the self-check once: SERVING when it passes, NOT_SERVING when it fails. Returns whether it passed.

        A check that cannot be made changes nothing, so a process that has passed goes on: a database that is away
        costs the calls that need it, and what is in memory is still served. Each new trouble is logged once.
        """
        trouble, error = "", None
        try:
            await self._check()
        except NotReady as reason:
            trouble = str(reason)
            ready = self._ready and isinstance(reason, CannotTell)
        except Exception as unexpected:  # noqa: BLE001 - whatever a check meets, the answer is "not ready"
            trouble, error = type(unexpected).__name__, unexpected
            ready = False
        else:
            ready = True
        if trouble and trouble != self._trouble:
            _log.error("self-check failed", exc_info=error, extra={"reason": trouble})
        if ready != self._ready:
            _log.info("ready to serve" if ready else "no longer serving")
        self._trouble, self._ready = trouble, ready
        self._health.set(serving=ready)
        if ready:
            self._passed.set()
        return not trouble

    async def ready(self) -> None:
        """Return when the self-check has passed once; `keep_checking` must be running."""
        await self._passed.wait()

    async def stop(self, grace: float = GRACE) -> None:
        """Answer NOT_SERVING, take no new calls, let those under way finish within `grace` seconds."""
        self._health.end()
        self._stopping()
        await self._server.stop(grace)
        if self._close_metrics:
            await asyncio.to_thread(self._close_metrics)

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, stop gracefully."""
        told_to_stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
        await self.start()
        # What has been loaded by now lives as long as the process: the garbage collector need not look at it again.
        gc.collect()
        gc.freeze()
        checking = asyncio.create_task(self.keep_checking())
        await told_to_stop.wait()
        _log.info("stopping")
        await end(checking)
        await self.stop()


def _address(environ: Mapping[str, str], name: str) -> str:
    """The address in a variable, empty for none. gRPC would take 65537 for 1."""
    address = environ.get(name, "")
    host, _, port = address.rpartition(":")
    if address and not (host and _PORT.fullmatch(port) and int(port) <= _LAST_PORT):
        raise ValueError(f"{name} must be host:port, e.g. 127.0.0.1:7401")
    return address


def server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that look at the files for each connection, so that a renewed certificate needs no restart.

    Files that are half-written, that do not fit or are gone change nothing: gRPC goes on with the last that did, and
    they are read again when they have changed again.

    Raises:
        OSError: a file cannot be read.
    """

    def read() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(tls.key.read_bytes(), tls.certificate.read_bytes())], root_certificates=tls.authorities.read_bytes()
        )

    seen = tls.stamp()

    def renewed() -> Any:
        """The new configuration, or None for "as before"."""
        nonlocal seen
        try:
            stamp = tls.stamp()
            if stamp == seen:
                return None
            configuration = read()
        except OSError as error:
            _log.warning("the TLS files cannot be read: going on with the last", exc_info=error)
            return None
        seen = stamp
        _log.info("the TLS files have changed and were read again")
        return configuration

    return grpc.dynamic_ssl_server_credentials(read(), renewed, require_client_authentication=True)


def _methods(services: Sequence[Service], *, reflect: bool) -> list[str]:
    files = [service.file for service in services] + [health_pb2.DESCRIPTOR] + ([REFLECTION] if reflect else [])
    descriptors = [descriptor for file in files for descriptor in file.services_by_name.values()]
    return [f"/{descriptor.full_name}/{method.name}" for descriptor in descriptors for method in descriptor.methods]


def _contract() -> list[str]:
    """The services that a policy may name although this process does not serve them."""
    modules = [module.name for module in pkgutil.iter_modules(v1.__path__) if module.name.endswith("_service_pb2")]
    files = [importlib.import_module(f"{v1.__name__}.{name}").DESCRIPTOR for name in modules]
    return [service.full_name for file in files for service in file.services_by_name.values()] + [
        reflection.SERVICE_NAME
    ]
