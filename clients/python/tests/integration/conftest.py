"""A vault and a provider service on loopback, with mutual TLS made for the test."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tenantvault import AsyncClient, Client, TlsFiles
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1.access_service_pb2_grpc import (
    CredentialAccessServiceServicer,
    add_CredentialAccessServiceServicer_to_server,
)
from tenantvault.v1.directory_service_pb2_grpc import (
    OrgDirectoryServiceServicer,
    add_OrgDirectoryServiceServicer_to_server,
)
from tenantvault.v1.integration_service_pb2_grpc import (
    IntegrationServiceServicer,
    add_IntegrationServiceServicer_to_server,
)

LIFE = timedelta(days=1)
HEARTBEAT = access.WatchChangesResponse(heartbeat=access.Heartbeat())


class Authority:
    """A certificate authority that signs one URI SAN a certificate."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        usage = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._builder(self._name, self._key).add_extension(usage, critical=True)
        (folder / "ca.pem").write_bytes(certificate.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def issue(self, service: str) -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier(f"spiffe://tenantvault.local/{service}"),
                x509.DNSName("localhost"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            ]
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, service)])
        certificate = self._builder(subject, key).add_extension(names, critical=False).sign(self._key, SHA256())
        files = TlsFiles(
            certificate=self._folder / f"{service}.pem",
            key=self._folder / f"{service}.key",
            authorities=self._folder / "ca.pem",
        )
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - LIFE)
            .not_valid_after(now + LIFE)
        )


class Listener:
    """Where a server of ours is heard."""

    def __init__(self, tls: TlsFiles, add: Callable[[grpc.aio.Server], None]) -> None:
        self._tls = tls
        self._add = add
        self._server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def target(self) -> str:
        return f"localhost:{self.port}"

    async def start(self, tls: TlsFiles | None = None) -> None:
        """Listen: on a free port, and on the same one again after a stop, perhaps with other files."""
        self._tls = tls or self._tls
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._add(server)
        credentials = grpc.ssl_server_credentials(
            [(self._tls.key.read_bytes(), self._tls.certificate.read_bytes())],
            self._tls.authorities.read_bytes(),
            require_client_auth=True,
        )
        self.port = server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None


class Vault(CredentialAccessServiceServicer, OrgDirectoryServiceServicer):
    """A server whose every method does what the test says. `calls` counts what arrived, but for watches.

    Who watches hears what is put into `words`, and heartbeats where it `beats`, unless it `refuses_watches`. `watches`
    are the requests of those; `watched` and `unwatched` say that one began, and that one ended.
    """

    def __init__(self, tls: TlsFiles) -> None:
        self._listener = Listener(tls, self._add)
        self.calls = 0
        self.answer: Callable[[Any, Any], Awaitable[Any]]
        self.words: asyncio.Queue[Any] = asyncio.Queue()
        self.watches: list[Any] = []
        self.watched = asyncio.Event()
        self.unwatched = asyncio.Event()
        self.refuses_watches = self.beats = False
        self.start = self._listener.start
        self.stop = self._listener.stop

    async def GetCredential(self, request: Any, context: Any) -> Any:  # noqa: N802  # the contract's name
        self.calls += 1
        return await self.answer(request, context)

    ResolveCredential = GetCredential
    GetNewestCredential = GetCredential
    BatchGetCredentials = GetCredential
    ReportFailure = GetCredential
    ResolveOrg = GetCredential
    BatchResolveOrgs = GetCredential

    async def WatchChanges(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802  # the contract's name
        self.watches.append(request)
        self.watched.set()
        context.add_done_callback(lambda _: self.unwatched.set())
        if self.refuses_watches:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "")
        while True:
            try:
                yield await asyncio.wait_for(self.words.get(), 0.1)
            except TimeoutError:
                if self.beats:
                    yield HEARTBEAT

    @property
    def target(self) -> str:
        return self._listener.target

    def _add(self, server: grpc.aio.Server) -> None:
        add_CredentialAccessServiceServicer_to_server(self, server)
        add_OrgDirectoryServiceServicer_to_server(self, server)


class ProviderService(IntegrationServiceServicer):
    """A provider service that refreshes access tokens as the test says. `calls` counts what arrived."""

    def __init__(self, tls: TlsFiles) -> None:
        self._listener = Listener(tls, lambda server: add_IntegrationServiceServicer_to_server(self, server))
        self.calls = 0
        self.answer: Callable[[Any, Any], Awaitable[Any]]
        self.start = self._listener.start
        self.stop = self._listener.stop

    @property
    def target(self) -> str:
        return self._listener.target

    async def RefreshAccessToken(self, request: Any, context: Any) -> Any:  # noqa: N802  # the contract's name
        self.calls += 1
        return await self.answer(request, context)


class AnyClient:
    """Either client, awaited; the blocking one in a thread."""

    def __init__(self, client: AsyncClient | Client) -> None:
        self.client = client

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.client, verb)

        async def run(*arguments: Any, **options: Any) -> Any:
            if isinstance(self.client, AsyncClient):
                return await method(*arguments, **options)
            return await asyncio.to_thread(method, *arguments, **options)

        return run


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="session")
def foreign_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "foreign")


@pytest.fixture
async def vault(authority: Authority) -> AsyncIterator[Vault]:
    vault = Vault(authority.issue("vault"))
    await vault.start()
    yield vault
    await vault.stop()


@pytest.fixture
async def provider_service(authority: Authority) -> AsyncIterator[ProviderService]:
    service = ProviderService(authority.issue("provider"))  # type: ignore[abstract]  # the others are not called
    await service.start()
    yield service
    await service.stop()


@pytest.fixture(params=[AsyncClient, Client])
def kind(request: pytest.FixtureRequest) -> type[AsyncClient | Client]:
    return request.param  # type: ignore[no-any-return]  # one of the two above


@pytest.fixture
def connect(kind: type[AsyncClient | Client], authority: Authority, vault: Vault) -> Callable[..., AnyClient]:
    def connected(tls: TlsFiles | None = None, **options: Any) -> AnyClient:
        return AnyClient(kind.connect(vault.target, tls or authority.issue("voice-agent"), **options))

    return connected


@pytest.fixture
async def client(connect: Callable[..., AnyClient]) -> AsyncIterator[AnyClient]:
    client = connect()
    yield client
    await client.close()
