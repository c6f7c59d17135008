"""A server of the rpc room with a service of the tests' own, and an authority that signs anything."""

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2
from google.protobuf.wrappers_pb2 import StringValue

from services.rpc.server import RpcServer, ServerConfig, Service
from services.rpc.telemetry import Telemetry
from tenantvault.channel import open_channel
from tenantvault.tls import TlsFiles

POLICY = """
["tests.Echo"]
Ask = { caller = "*" }
Yield = { caller = "*" }
Write = { caller = "*" }
Gather = { caller = "*" }
Chat = { caller = "*" }

["grpc.health.v1.Health"]
Check = { "*" = "*" }
Watch = { "*" = "*" }
List = { "*" = "*" }
"""


@dataclass
class Authority:
    """Signs what it is told to."""

    folder: Path
    name: str = "test authority"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        builder = self._builder(self.name, self.key.public_key(), timedelta(days=-1), timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.pem = builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(
        self,
        name: str,
        *,
        uris: Sequence[str] | None = None,
        others: Sequence[x509.GeneralName] = (),
        purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
        begins: timedelta = timedelta(hours=-1),
        ends: timedelta = timedelta(hours=1),
        trusts: "Authority | None" = None,
    ) -> TlsFiles:
        uris = [f"spiffe://tenantvault.local/{name}"] if uris is None else uris
        names = [*map(x509.UniformResourceIdentifier, uris), *others]
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name, key.public_key(), begins, ends)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        files = TlsFiles(
            certificate=self.folder / f"{name}.pem",
            key=self.folder / f"{name}.key",
            authorities=self.folder / f"{name}.ca.pem",
        )
        files.certificate.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        files.authorities.write_bytes((trusts or self).pem)
        return files

    def server(self, name: str = "echo") -> TlsFiles:
        return self.issue(name, others=[x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])

    def _builder(
        self, name: str, key: ec.EllipticCurvePublicKey, begins: timedelta, ends: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]),
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now + begins,
            not_valid_after=now + ends,
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def _file() -> Any:
    """The descriptor of tests.Echo, whose messages are StringValue."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    service = descriptor_pb2.ServiceDescriptorProto(name="Echo")
    for name, many_in, many_out in METHODS:
        service.method.add(
            name=name,
            input_type=".google.protobuf.StringValue",
            output_type=".google.protobuf.StringValue",
            client_streaming=many_in,
            server_streaming=many_out,
        )
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/echo.proto", package="tests", dependency=[wrappers_pb2.DESCRIPTOR.name], service=[service]
    )
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName("tests/echo.proto")


METHODS = (
    ("Ask", False, False),
    ("Yield", False, True),
    ("Write", False, True),
    ("Gather", True, False),
    ("Chat", True, True),
)


class Echo:
    """What answers tests.Echo; a test may put another `ask` in its place."""

    def __init__(self) -> None:
        self.ask: Callable[[str, Any], Any] = self._same

    async def Ask(self, request: StringValue, context: Any) -> StringValue:  # noqa: N802 - the contract's name
        return StringValue(value=await self.ask(request.value, context))

    async def Yield(self, request: StringValue, _: Any) -> AsyncIterator[StringValue]:  # noqa: N802
        for letter in request.value:
            yield StringValue(value=await self.ask(letter, None))

    async def Write(self, request: StringValue, context: Any) -> None:  # noqa: N802
        for letter in request.value:
            await context.write(StringValue(value=await self.ask(letter, context)))

    async def Gather(self, requests: AsyncIterator[StringValue], _: Any) -> StringValue:  # noqa: N802
        return StringValue(value="".join([await self.ask(request.value, None) async for request in requests]))

    async def Chat(self, requests: AsyncIterator[StringValue], _: Any) -> AsyncIterator[StringValue]:  # noqa: N802
        async for request in requests:
            yield StringValue(value=await self.ask(request.value, None))

    @staticmethod
    async def _same(value: str, _: Any) -> str:
        return value


def add_echo(servicer: Any, server: grpc.aio.Server) -> None:
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    handlers = {
        name: kinds[many_in, many_out](
            getattr(servicer, name),
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )
        for name, many_in, many_out in METHODS
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Echo", handlers),))


@dataclass
class Running:
    """A server that listens, and how to reach it."""

    server: RpcServer
    port: int
    echo: Echo
    telemetry: Telemetry
    authority: Authority
    _stack: contextlib.AsyncExitStack

    @property
    def target(self) -> str:
        return f"localhost:{self.port}"

    async def channel(self, tls: TlsFiles | None = None) -> grpc.aio.Channel:
        """A connection of its own, as `caller` unless told otherwise."""
        channel = open_channel(self.target, tls or self.authority.issue("caller"))
        return await self._stack.enter_async_context(channel)

    def counted(self) -> dict[tuple[str, str, str], float]:
        return {
            (sample.labels["method"], sample.labels["peer"], sample.labels["code"]): sample.value
            for metric in self.telemetry.calls.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }


def method(channel: grpc.aio.Channel, name: str = "Ask") -> Any:
    """A method of tests.Echo on a channel, as generated stubs have it."""
    many_in, many_out = next((many_in, many_out) for known, many_in, many_out in METHODS if known == name)
    make = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[many_in, many_out]
    return make(
        f"/tests.Echo/{name}",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )


async def always() -> None:
    """A self-check that passes."""


@contextlib.asynccontextmanager
async def serving(
    authority: Authority, tmp_path: Path, *, check: Callable[[], Any] = always, **settings: Any
) -> AsyncIterator[Running]:
    tls = authority.server()
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    config = ServerConfig(
        listen="127.0.0.1:0", tls=tls, trust_domain="tenantvault.local", policy_file=policy, metrics_listen=""
    )
    echo, telemetry = Echo(), Telemetry()
    service = Service(_file(), add_echo, echo)
    async with contextlib.AsyncExitStack() as stack:
        server = RpcServer(replace(config, **settings), [service], check=check, telemetry=telemetry)
        port = await server.start()
        await server.check()
        try:
            yield Running(server, port, echo, telemetry, authority, stack)
        finally:
            await server.stop(grace=0)


@pytest.fixture
async def running(authority: Authority, tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(authority, tmp_path) as running:
        yield running
