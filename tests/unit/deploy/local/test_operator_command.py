import os
import sys
from pathlib import Path

import pytest
from cryptography import x509

from deploy.local.__main__ import main
from deploy.local.errors import LocalError
from deploy.local.operator_command import operator_command
from deploy.local.running import Running, claim

RUNNING = Running(
    pid=1234, gateway_url="http://localhost:8400", vault_target="127.0.0.1:7411", provider_target="127.0.0.1:7402"
)


class Became(Exception):
    """What the process would have become."""


@pytest.fixture
def becoming(monkeypatch: pytest.MonkeyPatch) -> None:
    def become(path: str, arguments: list[str], environment: dict[str, str]) -> None:
        raise Became(path, arguments, environment)

    monkeypatch.setattr(os, "execve", become)


def test_the_command_is_led_to_the_vault_as_the_operator(tmp_path: Path) -> None:
    with claim(tmp_path) as tell:
        tell(RUNNING)
        command, environment = operator_command(tmp_path, ["keys", "status"], {"LANG": "C.UTF-8"})

    assert command == [sys.executable, "-m", "tenantvault.cli", "keys", "status"]
    assert environment["TENANTVAULT_VAULT_TARGET"] == "127.0.0.1:7411"
    assert environment["TENANTVAULT_PROVIDER_TARGET"] == "127.0.0.1:7402"
    assert environment["LANG"] == "C.UTF-8"
    certificate = x509.load_pem_x509_certificate(Path(environment["TENANTVAULT_TLS_CERT"]).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://tenantvault.local/operator"]
    assert Path(environment["TENANTVAULT_TLS_KEY"]).exists()
    assert Path(environment["TENANTVAULT_TLS_CA"]).exists()


def test_the_way_to_the_running_vault_takes_the_place_of_another(tmp_path: Path) -> None:
    with claim(tmp_path) as tell:
        tell(RUNNING)
        _, environment = operator_command(tmp_path, [], {"TENANTVAULT_VAULT_TARGET": "vault.example:7401"})

    assert environment["TENANTVAULT_VAULT_TARGET"] == "127.0.0.1:7411"


def test_it_needs_a_running_stack(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="make run"):
        operator_command(tmp_path, [], {})


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "status"],
        ["--help"],
        ["audit", "list", "acme", "--limit", "5", "--json"],
        ["versions", "destroy", "--yes", "--", "acme"],
        ["--data", "elsewhere"],
    ],
)
@pytest.mark.usefixtures("becoming")
def test_every_argument_behind_the_dashes_is_the_commands_own(arguments: list[str], tmp_path: Path) -> None:
    with claim(tmp_path) as tell:
        tell(RUNNING)
        with pytest.raises(Became) as became:
            main(["--data", str(tmp_path), "cli", "--", *arguments], {"HOME": "/home/ada"})

    path, command, environment = became.value.args
    assert command == [path, "-m", "tenantvault.cli", *arguments]
    assert environment["HOME"] == "/home/ada"


@pytest.mark.usefixtures("becoming")
def test_the_dashes_may_be_left_out_before_a_word(tmp_path: Path) -> None:
    with claim(tmp_path) as tell:
        tell(RUNNING)
        with pytest.raises(Became) as became:
            main(["--data", str(tmp_path), "cli", "keys", "status", "--json"], {})

    assert became.value.args[1][3:] == ["keys", "status", "--json"]


def test_without_a_running_stack_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "cli", "--", "keys", "status"], {}) == 1

    assert "is not running" in capsys.readouterr().err
