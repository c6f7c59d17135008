from pathlib import Path

import pytest

from deploy.local.__main__ import main
from deploy.local.strongbox import Strongbox


def test_help_names_the_commands_and_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    text = capsys.readouterr().out
    for part in ("run", "token", "fetch", "cli", "PORT", "PROVIDERS", "DATABASE_URL"):
        assert part in text


@pytest.mark.parametrize("port", ["", "0", "65536", "-1", "8400x", "\u0661", "1e3"])
def test_a_port_that_is_none_is_refused(port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "data")], {"PORT": port}) == 1

    assert "PORT is" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_providers_are_live_or_sandbox(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "data"), "run"], {"PROVIDERS": "production"}) == 1

    assert "PROVIDERS is 'production': give sandbox or live." in capsys.readouterr().err


def test_a_token_needs_a_stack_that_was_started_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "token", "acme"]) == 1

    assert "start it once with 'make run'" in capsys.readouterr().err


def test_a_token_is_all_that_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Strongbox(tmp_path / "secrets").keep("jwt_secret", lambda: "s" * 40)

    assert main(["--data", str(tmp_path), "token", "acme", "--role", "viewer"]) == 0

    output = capsys.readouterr().out
    assert output.count(".") == 2
    assert len(output.split()) == 1


@pytest.mark.parametrize("org", ["", "Acme", "../acme", "-acme", "a" * 64])
@pytest.mark.parametrize("command", [("token",), ("fetch", "vapi")])
def test_an_org_that_is_none_is_refused(command: tuple[str, ...], org: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--data", str(tmp_path), command[0], *([f"./{org}"] if org.startswith("-") else [org]), *command[1:]])

    assert ended.value.code == 2


def test_fetch_needs_a_running_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "fetch", "acme", "vapi"]) == 1

    assert "is not running" in capsys.readouterr().err


def test_fetch_knows_the_providers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "fetch", "acme", "nexmo"]) == 1

    assert "'nexmo' is no provider: give one of vapi, twilio" in capsys.readouterr().err


def test_what_another_user_made_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied", "secrets/jwt_secret")

    monkeypatch.setattr(Strongbox, "read", refuse)

    assert main(["--data", str(tmp_path), "token", "acme"]) == 1

    assert "secrets/jwt_secret cannot be used: was it made by another user?" in capsys.readouterr().err
