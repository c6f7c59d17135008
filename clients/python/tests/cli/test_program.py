"""The command as a whole: help, usage, and how it ends."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantvault.audit import VAULT_CHAIN
from tenantvault.errors import InternalError
from tenantvault.v1.admin_service_pb2 import GetKeyStatusResponse, RotateMasterKeyResponse

click = pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket

README = Path(__file__).parents[2] / "README.md"
COMMANDS = [
    ("audit", "list"),
    ("audit", "export"),
    ("audit", "verify"),
    ("completion",),
    ("doctor",),
    ("get",),
    ("keys", "rotate-master"),
    ("keys", "rotate-org"),
    ("keys", "status"),
    ("org", "freeze"),
    ("org", "shred"),
    ("org", "unfreeze"),
    ("resolve",),
    ("status",),
    ("versions", "destroy"),
    ("versions", "list"),
    ("versions", "rollback"),
    ("watch",),
]
CLI = [sys.executable, "-m", "tenantvault.cli"]
# A shell's background jobs ignore Ctrl-C, and so would what they start. Not by a `preexec_fn`: it needs a fork, which
# stops the gRPC server of this process now and then.
AT_A_TERMINAL = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tenantvault.cli import main
sys.exit(main())
"""


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


def test_these_are_the_commands() -> None:
    from tenantvault.cli.program import program

    assert sorted(COMMANDS) == sorted(path for path, _ in leaves(program))


def test_everything_has_a_help() -> None:
    from tenantvault.cli.program import program

    for path, command in leaves(program):
        assert command.help, path
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.help, (path, parameter.name)


def test_every_command_speaks_to_programs(offline: Any) -> None:
    from tenantvault.cli.program import program

    for path, command in leaves(program):
        assert "as_json" in [parameter.name for parameter in command.params], path


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != ("completion",)])
def test_every_command_has_the_options_of_the_connection(offline: Any, command: tuple[str, ...]) -> None:
    ran = offline(*command, "--help")

    assert 0 == ran.status
    for option in ("--target", "--cert", "--key", "--ca", "--deadline", "--json"):
        assert f"  {option}" in ran.out
    for variable in ("VAULT_TARGET", "TLS_CERT", "TLS_KEY", "TLS_CA"):
        assert f"TENANTVAULT_{variable}" in ran.out
    assert "localhost:7401" in ran.out


CHANGING = ["rotate-master", "rotate-org", "freeze", "unfreeze", "shred", "rollback", "destroy"]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_changes_something_is_done_on_somebodys_behalf(offline: Any, command: tuple[str, ...]) -> None:
    assert (command[-1] in CHANGING) == ("--on-behalf-of" in offline(*command, "--help").out)


def test_the_help_and_the_readme_tell_the_same_exit_statuses_and_all_of_them(offline: Any) -> None:
    from tenantvault.cli.output import Status

    ran = offline("--help")

    assert 0 == ran.status
    told = [(int(status), what) for status, what in re.findall(r"^ +(\d+) +(.+)$", ran.out, re.MULTILINE)]
    assert sorted(Status) == [status for status, _ in told]
    table = re.findall(r"^\| (\d+) \| (.+) \|$", README.read_text("utf-8"), re.MULTILINE)
    assert told == [(int(status), what) for status, what in table]


def test_the_readme_tells_of_every_command() -> None:
    text = README.read_text("utf-8")

    for command in COMMANDS:
        assert f"`tenantvault {' '.join(command)}" in text
    assert VAULT_CHAIN in text


def test_the_version_is_shown(offline: Any) -> None:
    ran = offline("--version")

    assert (0, True) == (ran.status, ran.out.startswith("tenantvault, version "))


@pytest.mark.parametrize("arguments", [(), ("keys",)])
def test_without_a_command_the_help_is_shown(offline: Any, arguments: tuple[str, ...]) -> None:
    ran = offline(*arguments)

    assert (2, "") == (ran.status, ran.out)
    assert "Commands:" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("key",), "See 'tenantvault --help'."),
        (("keys", "stats"), "See 'tenantvault keys --help'."),
        (("keys", "status", "--jsn"), "See 'tenantvault keys status --help'."),
        (("org", "freeze"), "Missing argument 'ORG'. See 'tenantvault org freeze --help'."),
    ],
)
def test_a_mistake_in_the_command_line_is_a_sentence(offline: Any, arguments: tuple[str, ...], said: str) -> None:
    ran = offline(*arguments)

    assert (2, "") == (ran.status, ran.out)
    assert ran.err.startswith("tenantvault: ")
    assert ran.err.endswith(f"{said} (USAGE)\n")
    assert 1 == ran.err.count("\n")
    assert "USAGE" == offline(*arguments, "--json").error["reason"]


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_a_mistake_of_the_program_is_no_traceback(
    run: Any, vault: Any, json_too: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenantvault.cli.connection import Vault

    def fail(*_: object) -> None:
        raise ZeroDivisionError("canary")

    monkeypatch.setattr(Vault, "call", fail)
    ran = run("keys", "status", *json_too)

    assert 3 == ran.status
    assert "This program failed (ZeroDivisionError)" in ran.err
    assert InternalError.reason in ran.err
    assert "canary" not in ran.err


LINES = {
    ("audit", "list"): ("acme",),
    ("audit", "export"): ("acme",),
    ("audit", "verify"): ("acme",),
    ("doctor",): (),
    ("get",): ("acme", "vapi", "--reveal", "--reason", "ticket 812", "--yes"),
    ("keys", "rotate-master"): (),
    ("keys", "rotate-org"): ("acme",),
    ("keys", "status"): (),
    ("org", "freeze"): ("acme",),
    ("org", "shred"): ("acme", "--confirm", "acme"),
    ("org", "unfreeze"): ("acme",),
    ("resolve",): ("phone_number", "+15005550006"),
    ("status",): ("acme",),
    ("versions", "destroy"): ("acme", "vapi", "1", "--yes"),
    ("versions", "list"): ("acme", "vapi"),
    ("versions", "rollback"): ("acme", "vapi", "1", "--expected", "2"),
    ("watch",): (),
}
STOPPED = {"error": {"reason": "INTERRUPTED", "message": "Stopped by you."}}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != ("completion",)])
def test_ctrl_c_is_one_object_for_programs(
    run: Any, vault: Any, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenantvault.cli.connection import Access

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Access, "open", stop)
    ran = run(*command, *LINES[command], "--json")

    assert (130, "", [STOPPED]) == (ran.status, ran.out, ran.told)


@pytest.mark.parametrize(("typed", "status", "reason"), [("no\n", 1, "DECLINED"), ("", 2, "USAGE")])
@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (("org", "shred", "acme"), ["warning", "question"]),
        (("versions", "destroy", "acme", "vapi", "1"), ["question"]),
        (("get", "acme", "vapi", "--reveal", "--reason", "ticket 812"), ["question"]),
    ],
)
def test_a_question_is_an_object_for_programs(
    run: Any, vault: Any, command: tuple[str, ...], asked: list[str], typed: str, status: int, reason: str
) -> None:
    ran = run(*command, "--json", typed=typed)

    assert (status, "", []) == (ran.status, ran.out, vault.calls)
    assert [*asked, "error"] == [name for told in ran.told for name in told]
    assert reason == ran.told[-1]["error"]["reason"]


def test_it_runs_as_a_process(vault: Any, child_environ: dict[str, str]) -> None:
    vault.answers["GetKeyStatus"] = GetKeyStatusResponse(audit_public_key=b"k" * 32)

    done = subprocess.run(
        [*CLI, "keys", "status", "--json"], env=child_environ, capture_output=True, text=True, check=False, timeout=60
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert b"k" * 32 == bytes.fromhex(json.loads(done.stdout)["audit_public_key"])


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_a_terminal_without_the_character_gets_an_escape(
    vault: Any, child_environ: dict[str, str], encoding: str
) -> None:
    from tenantvault.v1.status_service_pb2 import ListVersionsResponse, Version

    vault.answers["ListVersions"] = ListVersionsResponse(versions=[Version(version=1, hint="••••1234")])

    done = subprocess.run(
        [*CLI, "versions", "list", "acme", "vapi"],
        env={**child_environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert (0, b"") == (done.returncode, done.stderr)
    assert ("••••1234" if encoding == "utf-8" else r"\u2022" * 4 + "1234") in done.stdout.decode(encoding)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [("--help",), ("audit", "export", "acme"), ("keys", "status")])
def test_a_full_disk_is_a_sentence(
    vault: Any, acme: Any, child_environ: dict[str, str], arguments: tuple[str, ...]
) -> None:
    vault.answers |= {"GetKeyStatus": GetKeyStatusResponse(), "ExportAudit": lambda *_: acme.parts()}

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*CLI, *arguments], env=child_environ, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )

    assert 2 == done.returncode
    assert b"tenantvault: Cannot write the output: No space left on device. (USAGE)\n" == done.stderr


def interrupted(
    command: tuple[str, ...], arrived: threading.Event, environ: dict[str, str]
) -> tuple[int, str, list[str]]:
    """The command as a process that gets a Ctrl-C when its call has arrived: status, output, lines of the error."""
    with subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, *command],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert arrived.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err.splitlines()


def test_ctrl_c_ends_a_call_too(vault: Any, child_environ: dict[str, str]) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def hang(request: Any, context: Any) -> Any:
        context.add_callback(ended.set)
        arrived.set()
        ended.wait()
        return GetKeyStatusResponse()

    vault.answers["GetKeyStatus"] = hang

    # What a terminal shows of the Ctrl-C has a line for itself.
    assert (130, "", ["", "tenantvault: Stopped by you. (INTERRUPTED)"]) == interrupted(
        ("keys", "status"), arrived, child_environ
    )


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_ctrl_c_ends_it_in_order(vault: Any, child_environ: dict[str, str], json_too: tuple[str, ...]) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def hang(request: Any, context: Any) -> Iterator[Any]:
        yield RotateMasterKeyResponse(master_key_id="k", done=1, left=1)
        context.add_callback(ended.set)
        arrived.set()
        ended.wait()

    vault.answers["RotateMasterKey"] = hang

    status, out, err = interrupted(("keys", "rotate-master", *json_too), arrived, child_environ)

    said = "Stopped by you. Run it again: it goes on where it was cut off."
    assert 130 == status
    # The Ctrl-C may overtake the answer.
    assert out.count("\n") <= len(json_too)
    if json_too:
        assert [{"error": {"reason": "INTERRUPTED", "message": said}}] == [json.loads(line) for line in err]
    else:
        assert ["", f"tenantvault: {said} (INTERRUPTED)"] == err


def test_a_connection_that_breaks_is_one_object_for_programs(vault: Any, child_environ: dict[str, str]) -> None:
    arrived = threading.Event()

    def hang(request: Any, context: Any) -> Iterator[Any]:
        ended = threading.Event()
        context.add_callback(ended.set)
        yield RotateMasterKeyResponse(master_key_id="k", done=1, left=1)
        arrived.set()
        ended.wait()

    vault.answers["RotateMasterKey"] = hang
    with subprocess.Popen(
        [*CLI, "keys", "rotate-master", "--json"],
        env=child_environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert arrived.wait(60)
        vault.stop()
        out, err = process.communicate(timeout=60)

    assert (4, 1) == (process.returncode, out.count("\n"))
    assert "VAULT_UNAVAILABLE" == json.loads(err)["error"]["reason"]


def test_a_reader_who_has_enough_ends_it_quietly(vault: Any, acme: Any, child_environ: dict[str, str]) -> None:
    gone, ended = threading.Event(), threading.Event()

    def endless(request: Any, context: Any) -> Iterator[Any]:
        context.add_callback(ended.set)
        first, *_ = acme.parts()
        yield first
        gone.wait(60)
        while not ended.is_set():
            yield first

    vault.answers["ExportAudit"] = endless
    with subprocess.Popen(
        [*CLI, "audit", "export", "acme"], env=child_environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        gone.set()
        assert process.stderr is not None
        err = process.stderr.read()

    assert (141, b"") == (process.returncode, err)


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import importlib.util

    from tenantvault.cli import main

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    monkeypatch.setattr(sys, "argv", ["tenantvault", "doctor"])
    assert 2 == main()
    err = capsys.readouterr().err
    assert err.startswith("tenantvault: The command needs click and cryptography")
    assert err.endswith("'tenantvault[cli]'. (USAGE)\n")

    monkeypatch.setattr(sys, "argv", ["tenantvault", "doctor", "--json"])
    assert 2 == main()
    error = json.loads(capsys.readouterr().err)["error"]
    assert ("USAGE", True) == (error["reason"], "tenantvault[cli]" in error["message"])
