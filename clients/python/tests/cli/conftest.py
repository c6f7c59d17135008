"""A vault on loopback that answers what a test says, and the command in front of it."""

import ipaddress
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tenantvault._status import to_status
from tenantvault.audit import GENESIS, Event, Head, Link, event_hash, head_message
from tenantvault.errors import TenantVaultError
from tenantvault.tls import TlsFiles
from tenantvault.v1.access_service_pb2_grpc import (
    CredentialAccessServiceServicer,
    add_CredentialAccessServiceServicer_to_server,
)
from tenantvault.v1.admin_service_pb2 import AuditHead, ExportAuditResponse
from tenantvault.v1.admin_service_pb2_grpc import VaultAdminServiceServicer, add_VaultAdminServiceServicer_to_server
from tenantvault.v1.directory_service_pb2_grpc import (
    OrgDirectoryServiceServicer,
    add_OrgDirectoryServiceServicer_to_server,
)
from tenantvault.v1.status_service_pb2 import AuditEvent
from tenantvault.v1.status_service_pb2_grpc import (
    IntegrationStatusServiceServicer,
    add_IntegrationStatusServiceServicer_to_server,
)
from tenantvault.v1.store_service_pb2_grpc import (
    IntegrationStoreServiceServicer,
    add_IntegrationStoreServiceServicer_to_server,
)

LIFE = timedelta(days=1)
UNARY = [
    *("GetKeyStatus", "RotateOrgKey", "FreezeOrg", "UnfreezeOrg", "ShredOrg", "VerifyAudit", "Diagnose"),
    *("ListVersions", "ListAuditEvents", "RollBackCredential", "DestroyVersion"),
    *("ListIntegrations", "GetCredential", "ResolveOrg"),
]
STREAMS = ["RotateMasterKey", "ExportAudit", "WatchChanges"]
SETTINGS = ["TENANTVAULT_VAULT_TARGET", "TENANTVAULT_TLS_CERT", "TENANTVAULT_TLS_KEY", "TENANTVAULT_TLS_CA"]
PROXIES = ["grpc_proxy", "https_proxy", "http_proxy"]


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        usage = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._builder(self._name, self._key).add_extension(usage, critical=True)
        (folder / "ca.pem").write_bytes(certificate.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def issue(self, service: str, host: str = "localhost") -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(f"spiffe://tenantvault.local/{service}"),
            x509.DNSName(host),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, service)])
        builder = self._builder(subject, key).add_extension(x509.SubjectAlternativeName(names), critical=False)
        files = TlsFiles(
            certificate=self._folder / f"{service}.pem",
            key=self._folder / f"{service}.key",
            authorities=self._folder / "ca.pem",
        )
        files.certificate.write_bytes(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
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


class Vault(
    CredentialAccessServiceServicer,
    IntegrationStatusServiceServicer,
    IntegrationStoreServiceServicer,
    OrgDirectoryServiceServicer,
    VaultAdminServiceServicer,
):
    """A server whose methods answer with what `answers` has for them: a message, or a function of the call.

    `calls` are the requests that arrived, `contexts` what came with each.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, Any]] = []
        self.contexts: list[grpc.ServicerContext] = []
        self.target = ""
        self.server: grpc.Server

    @property
    def requests(self) -> list[Any]:
        return [request for _, request in self.calls]

    def refuse(self, error: TenantVaultError) -> Callable[..., Any]:
        """An answer that is an error of a server of ours."""

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            code, message, trailers = to_status(error)
            context.set_trailing_metadata(trailers)
            context.abort(code, message)

        return answer

    def serve(self, tls: TlsFiles) -> "Vault":
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        add_CredentialAccessServiceServicer_to_server(self, server)
        add_OrgDirectoryServiceServicer_to_server(self, server)
        add_VaultAdminServiceServicer_to_server(self, server)
        add_IntegrationStatusServiceServicer_to_server(self, server)
        add_IntegrationStoreServiceServicer_to_server(self, server)
        credentials = grpc.ssl_server_credentials(
            [(tls.key.read_bytes(), tls.certificate.read_bytes())],
            tls.authorities.read_bytes(),
            require_client_auth=True,
        )
        self.target = f"localhost:{server.add_secure_port('127.0.0.1:0', credentials)}"
        server.start()
        self.server = server
        return self

    def stop(self) -> None:
        self.server.stop(grace=None).wait()

    def take(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.calls.append((method, request))
        self.contexts.append(context)
        answer = self.answers[method]
        return answer(request, context) if callable(answer) else answer


def _unary(name: str) -> Callable[[Vault, Any, grpc.ServicerContext], Any]:
    return lambda vault, request, context: vault.take(name, request, context)


def _stream(name: str) -> Callable[[Vault, Any, grpc.ServicerContext], Iterator[Any]]:
    def answers(vault: Vault, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from vault.take(name, request, context)

    return answers


for _name in UNARY:
    setattr(Vault, _name, _unary(_name))
for _name in STREAMS:
    setattr(Vault, _name, _stream(_name))


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of the command."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]

    @property
    def told(self) -> list[Any]:
        """What standard error tells programs. A line that is no JSON, also an empty one, is a failure."""
        return [json.loads(line) for line in self.err.split("\n")[:-1]]


@dataclass(slots=True)
class Chain:
    """An audit chain that was signed as a vault signs it."""

    org: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    links: list[Link] = field(default_factory=list)

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def head(self) -> Head:
        count, last = len(self.links), self.links[-1].hash
        signature = self.key.sign(head_message(self.org, count, last))
        return Head(self.org, count, last, signature, self.public_key)

    def grow(self, count: int) -> "Chain":
        for _ in range(count):
            number = len(self.links) + 1
            event = Event(
                event_id=f"00000000-0000-4000-8000-{number:012}",
                org_id=self.org,
                occurred_at=datetime(2026, 11, 24, 12, 0, number % 60, 123456, tzinfo=UTC),
                peer="voice-agent",
                on_behalf_of="ada",
                action="credential.get",
                provider="vapi",
                version=number % 3,
                outcome="ok",
                request_id=f"request-{number}",
                generation=0,
            )
            previous = self.links[-1].hash if self.links else GENESIS
            self.links.append(Link(event, number, event_hash(previous, number, event)))
        return self

    def messages(self) -> list[AuditEvent]:
        return [event_message(link) for link in self.links]

    def parts(self) -> list[ExportAuditResponse]:
        head = self.head
        message = AuditHead(
            org_id=head.org_id,
            sequence=head.sequence,
            hash=head.hash,
            signature=head.signature,
            public_key=head.public_key,
        )
        events = [ExportAuditResponse(event=event) for event in self.messages()]
        return [*events, ExportAuditResponse(head=message)]


def event_message(link: Link) -> AuditEvent:
    event = link.event
    message = AuditEvent(
        event_id=event.event_id,
        org_id=event.org_id,
        sequence=link.sequence,
        peer=event.peer,
        on_behalf_of=event.on_behalf_of,
        action=event.action,
        provider=event.provider,
        version=event.version,
        outcome=event.outcome,
        request_id=event.request_id,
        generation=event.generation,
        hash=link.hash,
    )
    message.occurred_at.FromDatetime(event.occurred_at)
    return message


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def foreign_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="session")
def vault_tls(authority: Authority) -> TlsFiles:
    return authority.issue("vault")


@pytest.fixture(scope="session")
def operator(authority: Authority) -> TlsFiles:
    return authority.issue("operator")


@pytest.fixture
def vault(vault_tls: TlsFiles) -> Iterator[Vault]:
    vault = Vault().serve(vault_tls)  # type: ignore[abstract]  # its methods are set above
    yield vault
    vault.stop()


@pytest.fixture
def environ(vault: Vault, operator: TlsFiles) -> dict[str, str]:
    files = [vault.target, operator.certificate, operator.key, operator.authorities]
    return {name: str(value) for name, value in zip(SETTINGS, files, strict=True)}


@pytest.fixture
def child_environ(environ: dict[str, str]) -> dict[str, str]:
    """The environment of a command that runs as a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if name not in PROXIES}
    return {**inherited, **environ}


@pytest.fixture
def offline() -> Callable[..., Ran]:
    """The command, with nothing of its own in the environment but what is given."""
    from click.testing import CliRunner

    from tenantvault.cli.program import program

    def run(*arguments: str, typed: str | None = None, environ: dict[str, str] | None = None) -> Ran:
        env: dict[str, str | None] = {**dict.fromkeys([*SETTINGS, *PROXIES]), "LOGNAME": "grace", **(environ or {})}
        result = CliRunner().invoke(program, arguments, input=typed, env=env)
        assert isinstance(result.exception, SystemExit | None), result.exception
        assert "Traceback" not in result.stderr
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def run(offline: Callable[..., Ran], environ: dict[str, str]) -> Callable[..., Ran]:
    """The command, with the way to the vault in its environment."""

    def run(*arguments: str, typed: str | None = None) -> Ran:
        return offline(*arguments, typed=typed, environ=environ)

    return run


@pytest.fixture
def acme() -> Chain:
    return Chain("acme").grow(5)
