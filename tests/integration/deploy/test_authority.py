"""The development authority's certificates in real handshakes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from deploy.local.authority import DevelopmentAuthority
from deploy.local.probes import grpc_serves
from tenantvault.channel import open_channel
from tenantvault.tls import TlsFiles

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Greeter(HealthServicer):  # type: ignore[misc]  # grpcio-health-checking has no types
    """A health service that notes who asks."""

    peers: tuple[bytes, ...] = ()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> health_pb2.HealthCheckResponse:
        self.peers = tuple(context.auth_context()["x509_subject_alternative_name"])
        answer: health_pb2.HealthCheckResponse = await super().Check(request, context)
        return answer


@pytest.fixture
def issuer(tmp_path: Path) -> DevelopmentAuthority:
    return DevelopmentAuthority(tmp_path / "tls")


@pytest.fixture
async def greeter() -> Greeter:
    return Greeter()


@pytest.fixture
async def port(issuer: DevelopmentAuthority, greeter: Greeter) -> AsyncIterator[int]:
    async with _served(greeter, issuer.issue("vault", server=True)) as port:
        yield port


class _served:  # noqa: N801
    def __init__(self, servicer: HealthServicer, tls: TlsFiles) -> None:
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        credentials = grpc.ssl_server_credentials(
            [(tls.key.read_bytes(), tls.certificate.read_bytes())],
            root_certificates=tls.authorities.read_bytes(),
            require_client_auth=True,
        )
        self._port = self._server.add_secure_port("127.0.0.1:0", credentials)

    async def __aenter__(self) -> int:
        await self._server.start()
        return self._port

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)


async def check(target: str, tls: TlsFiles) -> int:
    async with open_channel(target, tls) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int((await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_client_and_a_server_know_each_other(
    issuer: DevelopmentAuthority, greeter: Greeter, port: int, host: str
) -> None:
    assert await check(f"{host}:{port}", issuer.issue("voice-agent", server=False)) == SERVING

    assert greeter.peers == (b"spiffe://tenantvault.local/voice-agent",)


async def test_a_server_may_be_a_client_too(issuer: DevelopmentAuthority, greeter: Greeter, port: int) -> None:
    assert await check(f"localhost:{port}", issuer.issue("provider", server=True)) == SERVING

    assert b"spiffe://tenantvault.local/provider" in greeter.peers


async def test_another_authority_gets_no_connection(port: int, tmp_path: Path) -> None:
    stranger = DevelopmentAuthority(tmp_path / "other").issue("voice-agent", server=False)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(f"localhost:{port}", stranger)

    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_strangers_certificate_under_our_authority_gets_no_connection(
    issuer: DevelopmentAuthority, port: int, tmp_path: Path
) -> None:
    ours = issuer.issue("voice-agent", server=False)
    stranger = DevelopmentAuthority(tmp_path / "other").issue("voice-agent", server=False)
    mixed = TlsFiles(certificate=stranger.certificate, key=stranger.key, authorities=ours.authorities)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(f"localhost:{port}", mixed)

    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_clients_certificate_does_not_make_a_server(issuer: DevelopmentAuthority, greeter: Greeter) -> None:
    client = issuer.issue("voice-agent", server=False)
    async with _served(greeter, client) as port:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await check(f"localhost:{port}", client)

    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_the_probe_waits_until_the_server_serves(
    issuer: DevelopmentAuthority, greeter: Greeter, port: int
) -> None:
    await greeter.set("", NOT_SERVING)
    waiting = asyncio.ensure_future(grpc_serves(port, lambda: issuer.issue("supervisor", server=False))())
    async with asyncio.timeout(10):
        while not greeter.peers:  # noqa: ASYNC110  # the server sets it from within
            await asyncio.sleep(0)
        assert not waiting.done()
        await greeter.set("", SERVING)
        await waiting
