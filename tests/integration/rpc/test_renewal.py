"""The gateway and the provider service go on when the files of their own channels are replaced."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc.aio
import httpx
import pytest
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

import gateway.main
import services.provider.main
from gateway.config import Config
from tenantvault import _renewal
from tenantvault.tls import TlsFiles
from tests.integration.rpc.conftest import Authority

pytestmark = pytest.mark.enable_socket


class Peer:
    """A service that is well, and trusts one authority at a time."""

    port = 0
    _server: Any = None

    async def start(self, authority: Authority) -> None:
        """Serve, in the place of the one before."""
        await self.stop()
        tls = authority.server("peer")
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_HealthServicer_to_server(HealthServicer(), self._server)
        credentials = grpc.ssl_server_credentials(
            [(tls.key.read_bytes(), tls.certificate.read_bytes())],
            tls.authorities.read_bytes(),
            require_client_auth=True,
        )
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    return authority.issue("caller")


@pytest.fixture
async def peer(authority: Authority) -> AsyncIterator[Peer]:
    peer = Peer()
    await peer.start(authority)
    yield peer
    await peer.stop()


@pytest.fixture
def environ(peer: Peer, files: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(_renewal, "LOOK_EVERY", 0.0)
    return {
        "TENANTVAULT_PROFILE": "local",
        "TENANTVAULT_TLS_CERT": str(files.certificate),
        "TENANTVAULT_TLS_KEY": str(files.key),
        "TENANTVAULT_TLS_CA": str(files.authorities),
        "TENANTVAULT_VAULT_TARGET": f"localhost:{peer.port}",
        "TENANTVAULT_PROVIDER_TARGET": f"localhost:{peer.port}",
        "TENANTVAULT_JWT_SECRET": "j" * 32,
        "TENANTVAULT_SESSION_SECRET": "s" * 32,
        "TENANTVAULT_VAPI_WEBHOOK_URL": "https://hooks.example.com/vapi",
        "TENANTVAULT_PROVIDER_ROLE": "serve",
    }


@pytest.fixture
def renew(peer: Peer, authority: Authority) -> Any:
    """Puts files of another authority in the place of the first one's, also the peer's."""

    async def renewed() -> None:
        another = Authority(authority.folder, name="the next authority")
        another.issue("caller")
        await peer.start(another)

    return renewed


async def test_the_gateway_reaches_its_services_with_renewed_files(
    environ: dict[str, str], renew: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[int] = []

    async def serve(server: Any, sockets: Any) -> None:
        sockets[0].close()
        transport = httpx.ASGITransport(server.config.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8400") as client:
            answers.append((await client.get("/readyz")).status_code)
            await renew()
            answers.append((await client.get("/readyz")).status_code)

    monkeypatch.setattr(gateway.main.Server, "serve", serve)
    await gateway.main.serve(Config.from_env(environ | {"TENANTVAULT_LISTEN": "127.0.0.1:0"}))

    assert [200, 200] == answers


async def test_the_provider_service_reaches_the_vault_with_renewed_files(
    environ: dict[str, str], renew: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.provider.main, "RpcServer", lambda *_, check, **__: SimpleNamespace(check=check))

    async with services.provider.main.assemble(environ) as server:
        await server.check()
        await renew()
        await server.check()
