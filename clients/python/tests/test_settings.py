"""from_env names everything that is missing, at once."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from tenantvault import AsyncClient, Client
from tenantvault._settings import Settings
from tenantvault.errors import InvalidRequest
from tenantvault.tls import TlsFiles

NAMES = ["TENANTVAULT_VAULT_TARGET", "TENANTVAULT_TLS_CERT", "TENANTVAULT_TLS_KEY", "TENANTVAULT_TLS_CA"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    files = {name: tmp_path / name for name in NAMES[1:]}
    for path in files.values():
        path.write_text("-")
    return {NAMES[0]: "localhost:7401", **{name: str(path) for name, path in files.items()}}


def test_the_settings_are_read(environ: dict[str, str]) -> None:
    certificate, key, authorities = (Path(environ[name]) for name in NAMES[1:])

    assert Settings(
        target="localhost:7401", tls=TlsFiles(certificate=certificate, key=key, authorities=authorities)
    ) == Settings.from_env(environ)


@pytest.mark.parametrize(("given", "expected"), [("localhost:7402", "localhost:7402"), ("", None)])
def test_where_the_provider_service_is_may_be_given(environ: dict[str, str], given: str, expected: str | None) -> None:
    assert Settings.from_env(environ).provider_target is None
    assert expected == Settings.from_env({**environ, "TENANTVAULT_PROVIDER_TARGET": given}).provider_target


@pytest.mark.parametrize("missing", [NAMES, NAMES[:1], NAMES[1:3]])
@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_all_that_is_missing_is_named_and_nothing_else(environ: dict[str, str], kind: Any, missing: list[str]) -> None:
    for name in missing:
        environ.pop(name)

    with pytest.raises(ValueError, match="Set ") as caught:
        kind.from_env(environ)

    assert missing == [name for name in NAMES if name in str(caught.value)]


def test_an_empty_variable_is_missing(environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"Set TENANTVAULT_TLS_KEY \("):
        Settings.from_env({**environ, "TENANTVAULT_TLS_KEY": ""})


@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_every_file_that_cannot_be_read_is_named(environ: dict[str, str], kind: Any, tmp_path: Path) -> None:
    Path(environ["TENANTVAULT_TLS_CERT"]).unlink()
    environ["TENANTVAULT_TLS_CA"] = str(tmp_path)

    with pytest.raises(ValueError, match="Cannot read") as caught:
        kind.from_env(environ)

    assert ["TENANTVAULT_TLS_CERT", "TENANTVAULT_TLS_CA"] == [name for name in NAMES if name in str(caught.value)]


@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_the_process_environment_is_the_default(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(ValueError, match="TENANTVAULT_VAULT_TARGET"):
        kind.from_env()


@pytest.mark.parametrize("kind", [AsyncClient, Client])
async def test_a_bad_deadline_is_refused(environ: dict[str, str], kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TlsFiles, "channel_credentials", lambda _: grpc.ssl_channel_credentials())

    with pytest.raises(InvalidRequest, match="deadline"):
        kind.from_env(environ, deadline=0)
