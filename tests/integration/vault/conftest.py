"""A vault as it is run, in this process: real PostgreSQL, real mutual TLS."""

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest

from deploy.local.authority import DevelopmentAuthority
from services.rpc.server import RpcServer
from services.vault.main import assemble
from tenantvault.channel import open_channel
from tests.integration.conftest import Database


def master_keys(*names: str) -> str:
    return "\n".join(f"{name}:{base64.b64encode(os.urandom(32)).decode()}" for name in names)


@dataclass(frozen=True, slots=True)
class RunningVault:
    """A vault that serves, and how to reach it as a peer."""

    target: str
    authority: DevelopmentAuthority
    environ: dict[str, str]
    _channels: contextlib.AsyncExitStack

    async def channel(self, peer: str) -> grpc.aio.Channel:
        tls = self.authority.issue(peer, server=False)
        return await self._channels.enter_async_context(open_channel(self.target, tls))


@contextlib.asynccontextmanager
async def running_vault(environ: dict[str, str], authority: DevelopmentAuthority) -> AsyncIterator[RunningVault]:
    async with assemble(environ) as server, contextlib.AsyncExitStack() as channels:
        port = await server.start()
        checking = asyncio.create_task(server.keep_checking())
        await server.ready()
        try:
            yield RunningVault(f"localhost:{port}", authority, environ, channels)
        finally:
            checking.cancel()
            await server.stop(grace=1.0)


@pytest.fixture
def vault_environ(database: Database, authority: DevelopmentAuthority) -> dict[str, str]:
    return vault_settings(database, authority)


def vault_settings(database: Database, authority: DevelopmentAuthority) -> dict[str, str]:
    tls = authority.issue("vault", server=True)
    return {
        "TENANTVAULT_PROFILE": "local",
        "TENANTVAULT_LISTEN": "127.0.0.1:0",
        "TENANTVAULT_TLS_CERT": str(tls.certificate),
        "TENANTVAULT_TLS_KEY": str(tls.key),
        "TENANTVAULT_TLS_CA": str(tls.authorities),
        "TENANTVAULT_DATABASE_URL": database.app_url,
        "TENANTVAULT_MASTER_KEYS": master_keys("test-1"),
    }


@pytest.fixture
async def vault(vault_environ: dict[str, str], authority: DevelopmentAuthority) -> AsyncIterator[RunningVault]:
    async with running_vault(vault_environ, authority) as running:
        yield running
