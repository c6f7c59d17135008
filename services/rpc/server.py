"""A gRPC server as every process of ours runs it: mutual TLS, policy, health, graceful stop."""

import asyncio
import contextlib
import importlib
import logging
import pkgutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import DESCRIPTOR as REFLECTION

from services.rpc.middleware import Middleware
from services.rpc.peers import Identity, Policy
from services.rpc.telemetry import Telemetry
from tenantvault import v1
from tenantvault.tls import TlsFiles

GRACE: Final = 10.0
"""Seconds that calls under way have to finish after SIGTERM."""

MAX_MESSAGE_BYTES: Final = 1024 * 1024

_RECHECK: Final = 30.0
_RETRY: Final = 0.5
_log = logging.getLogger(__name__)
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 1000),
    # Clients ping every 15 s; a peer that pings more often than every 10 s is cut off.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
)


class NotReady(Exception):
    """A self-check failed; the text says why and holds no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What a server needs to know: where it listens (`host:port`), who it is, whom it lets in."""

    listen: str
    tls: TlsFiles
    trust_domain: str
    policy_file: Path
    reflection: bool = False
    metrics_listen: str = ""

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
            listen=environ.get("TENANTVAULT_LISTEN", listen),
            tls=tls,
            trust_domain=environ.get("TENANTVAULT_TRUST_DOMAIN", "tenantvault.local"),
            policy_file=Path(environ.get("TENANTVAULT_POLICY_FILE", Path(__file__).with_name("policy.toml"))),
            reflection=profile == "local",
            metrics_listen=environ.get("TENANTVAULT_METRICS_LISTEN", ""),
        )


@dataclass(frozen=True, slots=True)
class Service:
    """A service to serve: the file that declares it, the generated function that adds it, what answers its calls."""

    file: FileDescriptor
    add: Callable[[Any, grpc.aio.Server], None]
    servicer: Any


class RpcServer:
    """Serves until it is told to stop. `check` raises NotReady while this process must not serve."""

    def __init__(
        self,
        config: ServerConfig,
        services: Sequence[Service],
        *,
        check: Callable[[], Awaitable[None]],
        telemetry: Telemetry,
    ) -> None:
        self._config = config
        self._check = check
        self._ready = False
        self._passed = asyncio.Event()
        policy = Policy.read(config.policy_file)
        policy.check(_methods(services, reflect=config.reflection), known_services=_contract())
        middleware = Middleware(
            identity=Identity(config.trust_domain), policy=policy, telemetry=telemetry, ready=lambda: self._ready
        )
        self._server = grpc.aio.server(interceptors=[middleware], options=_OPTIONS)
        for service in services:
            service.add(service.servicer, self._server)
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if config.reflection:
            names = [name.full_name for service in services for name in service.file.services_by_name.values()]
            reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)
        if config.metrics_listen:
            telemetry.expose(config.metrics_listen)

    async def start(self) -> int:
        """Listen, with health NOT_SERVING; returns the port. OSError or RuntimeError when it is taken."""
        await self._health.set("", _NOT_SERVING)
        port = self._server.add_secure_port(self._config.listen, _server_credentials(self._config.tls))
        await self._server.start()
        _log.info("listening", extra={"port": port})
        return port

    async def keep_checking(self) -> None:
        """Run the self-check for ever: SERVING while it passes, NOT_SERVING with a log line while it does not."""
        while True:
            ready = await self._passes()
            if ready != self._ready:
                _log.info("ready to serve" if ready else "no longer serving")
            self._ready = ready
            if ready:
                self._passed.set()
            await self._health.set("", _SERVING if ready else _NOT_SERVING)
            await asyncio.sleep(_RECHECK if ready else _RETRY)

    async def ready(self) -> None:
        """Return when the self-check has passed once; `keep_checking` must be running."""
        await self._passed.wait()

    async def stop(self, grace: float = GRACE) -> None:
        """Answer NOT_SERVING, take no new calls, let those under way finish within `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, stop gracefully."""
        told_to_stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
        await self.start()
        checking = asyncio.create_task(self.keep_checking())
        await told_to_stop.wait()
        _log.info("stopping")
        checking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await checking
        await self.stop()

    async def _passes(self) -> bool:
        try:
            await self._check()
        except NotReady as reason:
            _log.error("self-check failed", extra={"reason": str(reason)})
        except Exception as error:  # noqa: BLE001 - whatever a check meets, the answer is "not ready"
            _log.error("self-check failed", exc_info=error)
        else:
            return True
        return False


def _server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that are read again for each connection, so that a renewed certificate needs no restart."""

    def read() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(tls.key.read_bytes(), tls.certificate.read_bytes())], root_certificates=tls.authorities.read_bytes()
        )

    current = (_stamp(tls), read())

    def fetch() -> grpc.ServerCertificateConfiguration:
        nonlocal current
        with contextlib.suppress(OSError):
            if (stamp := _stamp(tls)) != current[0]:
                current = (stamp, read())
        return current[1]

    return grpc.dynamic_ssl_server_credentials(current[1], fetch, require_client_authentication=True)


def _stamp(tls: TlsFiles) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns for path in (tls.certificate, tls.key, tls.authorities))


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
