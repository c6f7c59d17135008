import asyncio
import os
import signal
from pathlib import Path

import pytest

from deploy.local.authority import DevelopmentAuthority
from services.provider import main
from services.provider.provider import pass_by
from services.provider.servicer import IntegrationServicer
from services.provider.worker import Worker
from services.rpc.server import ServerConfig, Service


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    files = DevelopmentAuthority(tmp_path_factory.mktemp("ca")).issue("provider", server=True)
    return {
        "TENANTVAULT_TLS_CERT": str(files.certificate),
        "TENANTVAULT_TLS_KEY": str(files.key),
        "TENANTVAULT_TLS_CA": str(files.authorities),
        "TENANTVAULT_VAPI_WEBHOOK_URL": "https://hooks.example.com/vapi",
    }


@pytest.mark.parametrize(
    ("role", "servicers", "works"),
    [("", [IntegrationServicer], True), ("serve", [IntegrationServicer], False), ("work", [], True)],
)
async def test_everything_fits_together(
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    servicers: list[type[object]],
    works: bool,
) -> None:
    began: list[Worker] = []

    async def run(worker: Worker) -> None:
        began.append(worker)

    monkeypatch.setattr(Worker, "run", run)
    made: list[tuple[ServerConfig, list[Service]]] = []

    # A real server that is never started crashes the interpreter when its end is logged (grpcio 1.85).
    def fake_server(config: ServerConfig, services: list[Service], **rest: object) -> object:
        made.append((config, services))
        assert {"check", "telemetry"} == set(rest)
        return object()

    monkeypatch.setattr(main, "RpcServer", fake_server)
    async with main.assemble({**environ, "TENANTVAULT_PROVIDER_ROLE": role}):
        ((config, services),) = made
        await asyncio.sleep(0)
    assert "127.0.0.1:7402" == config.listen
    assert servicers == [type(service.servicer) for service in services]
    assert works is bool(began)


async def test_a_setting_that_is_wrong_is_named(environ: dict[str, str]) -> None:
    for variable in ("TENANTVAULT_VAPI_WEBHOOK_URL", "TENANTVAULT_TLS_CERT"):
        with pytest.raises(ValueError, match=variable):
            async with main.assemble({name: value for name, value in environ.items() if name != variable}):
                pass


async def test_a_certificate_that_is_not_there_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        async with main.assemble({**environ, "TENANTVAULT_TLS_KEY": str(tmp_path / "nowhere")}):
            pass


async def test_the_process_kills_itself_at_the_step_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *what: killed.append(what))
    checkpoint = main._killed_at("stored")
    await checkpoint("tested")
    assert not killed
    await checkpoint("stored")
    assert [(os.getpid(), signal.SIGKILL)] == killed


def test_without_a_step_nothing_is_killed() -> None:
    assert main._killed_at("") is pass_by
