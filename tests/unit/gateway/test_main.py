import logging
import signal
from collections.abc import Iterator
from typing import Any

import grpc.aio
import httpx
import pytest
import uvicorn

from gateway import main
from tenantvault.secret import Secret
from tests.unit.gateway.fakes import bearer
from tests.unit.gateway.test_config import LOCAL


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers, root.level, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    yield
    root.handlers, root.level = before[:2]
    signal.signal(signal.SIGTERM, before[2])
    signal.signal(signal.SIGINT, before[3])


def test_a_wrong_setting_ends_the_process_with_a_sentence() -> None:
    with pytest.raises(SystemExit, match=r"^gateway: TENANTVAULT_TLS_CERT is missing"):
        main.main({"TENANTVAULT_PROFILE": "local"})


@pytest.mark.parametrize(
    ("error", "code"), [(FileNotFoundError("no certificate"), "gateway: no certificate"), (KeyError("canary"), 1)]
)
def test_what_ends_the_process_is_told_without_the_text_of_strangers(
    error: Exception, code: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(main, "open_channel", fail)
    with pytest.raises(SystemExit) as ended:
        main.main({f"TENANTVAULT_{name}": value for name, value in LOCAL.items()})
    assert code == ended.value.code
    assert "canary" not in capsys.readouterr().err


def test_the_process_wires_the_application_and_serves_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: dict[str, httpx.Response] = {}

    class Listener:
        def getsockname(self) -> tuple[str, int]:
            return "127.0.0.1", 8400

    async def serve(server: uvicorn.Server, sockets: list[Any]) -> None:
        assert isinstance(sockets[0], Listener)
        transport = httpx.ASGITransport(server.config.app)  # type: ignore[arg-type]  # it may also be an import string
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8400") as client:
            answers["alive"] = await client.get("/healthz")
            page = {"Origin": "http://localhost:8400", "X-TenantVault-Request": "1"}
            answers["signed in"] = await client.post("/sign-in", json={"org": "globex"}, headers=page)
            answers["token"] = await client.post("/session", headers=bearer(secret=Secret("j" * 32)))
            answers["page"] = await client.get("/")

    monkeypatch.setattr(main, "open_channel", lambda target, _: grpc.aio.insecure_channel(target))
    monkeypatch.setattr(uvicorn.Config, "bind_socket", lambda _: Listener())
    monkeypatch.setattr(uvicorn.Server, "serve", serve)
    main.main({f"TENANTVAULT_{name}": value for name, value in (LOCAL | {"DEMO_ORGS": "globex"}).items()})
    assert {name: answer.status_code for name, answer in answers.items()} == {
        "alive": 200,
        "signed in": 200,
        "token": 200,
        "page": 200,
    }
    assert '"event": "listening"' in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code is None
