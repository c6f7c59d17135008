"""Where the vault is, who is asking, and what is said when the two do not meet."""

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from tenantvault.errors import LEAVES, InternalError, InvalidRequest, LeaseHeld, TenantVaultError, VaultUnavailable
from tenantvault.v1.admin_service_pb2 import GetKeyStatusResponse

pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket

STATUS = ("keys", "status")


@pytest.fixture(autouse=True)
def answer(vault: Any) -> None:
    vault.answers["GetKeyStatus"] = GetKeyStatusResponse()


def test_the_environment_leads_to_the_vault(run: Any, vault: Any) -> None:
    assert 0 == run(*STATUS).status
    names = vault.contexts[0].auth_context()["x509_subject_alternative_name"]
    assert b"spiffe://tenantvault.local/operator" in names


def test_options_take_the_place_of_the_environment(offline: Any, vault: Any, operator: Any) -> None:
    options = ("--target", vault.target, "--cert", operator.certificate, "--key", operator.key)
    wrong = {"TENANTVAULT_VAULT_TARGET": "localhost:1", "TENANTVAULT_TLS_CERT": "nowhere"}

    ran = offline(*STATUS, *map(str, options), "--ca", str(operator.authorities), environ=wrong)

    assert 0 == ran.status, ran.err


@pytest.mark.parametrize(("given", "least", "most"), [((), 8, 11), (("--deadline", "60"), 55, 61)])
def test_the_vault_learns_the_deadline(run: Any, vault: Any, given: tuple[str, ...], least: int, most: int) -> None:
    remaining = []

    def note(request: Any, context: grpc.ServicerContext) -> GetKeyStatusResponse:
        remaining.append(context.time_remaining())
        return GetKeyStatusResponse()

    vault.answers["GetKeyStatus"] = note
    assert 0 == run(*STATUS, *given).status

    assert least < remaining[0] <= most


def test_a_vault_that_takes_longer_is_given_up(run: Any, vault: Any) -> None:
    ended = threading.Event()

    def hang(request: Any, context: grpc.ServicerContext) -> GetKeyStatusResponse:
        context.add_callback(ended.set)
        ended.wait()
        return GetKeyStatusResponse()

    vault.answers["GetKeyStatus"] = hang
    ran = run(*STATUS, "--deadline", "0.3", "--json")

    assert (4, "DEADLINE_EXCEEDED") == (ran.status, ran.error["reason"])
    assert "within 0.3 s" in ran.error["message"]
    assert "--deadline" in ran.error["message"]


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_refusal_has_its_status_and_its_reason(run: Any, vault: Any, leaf: type[TenantVaultError]) -> None:
    vault.answers["GetKeyStatus"] = vault.refuse(leaf("Do this."))

    ran = run(*STATUS)

    assert 4 if leaf.retryable else 3 == ran.status
    assert "" == ran.out
    assert ran.err.startswith("tenantvault: Do this.")
    assert ran.err.endswith(f"({leaf.reason})\n")
    assert 1 == ran.err.count("\n")


def test_a_refusal_is_one_object_for_programs(run: Any, vault: Any) -> None:
    vault.answers["GetKeyStatus"] = vault.refuse(LeaseHeld("Wait.", retry_after=4))
    waiting = run(*STATUS, "--json")
    vault.answers["GetKeyStatus"] = vault.refuse(InvalidRequest("Mend it.", fields={"org_id": "Give one."}))
    invalid = run(*STATUS, "--json")

    assert {
        "reason": "LEASE_HELD",
        "message": "Wait.",
        "fields": {},
        "retryable": True,
        "retry_after": 4,
    } == waiting.error
    assert {"org_id": "Give one."} == invalid.error["fields"]
    assert "tenantvault: Mend it. org_id: Give one. (INVALID_REQUEST)\n" == run(*STATUS).err


def test_a_failure_of_the_vaults_comes_with_the_id_to_find_it_by(run: Any, vault: Any) -> None:
    vault.answers["GetKeyStatus"] = vault.refuse(InternalError())

    ran = run(*STATUS)

    sent = dict(vault.contexts[0].invocation_metadata())["x-request-id"]
    assert 3 == ran.status
    assert f"The request id is {sent}. (INTERNAL)" in ran.err


def test_what_a_vault_says_cannot_steer_the_terminal(run: Any, vault: Any) -> None:
    vault.answers["GetKeyStatus"] = vault.refuse(VaultUnavailable("\x1b[2Jgone\r\nall is well"))

    err = run(*STATUS).err

    assert "\x1b" not in err
    assert "\\x1b[2Jgone\\r\\nall is well" in err


def test_a_vault_of_another_version_is_said_to_be_one(run: Any, vault: Any) -> None:
    def unknown(request: Any, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    vault.answers["GetKeyStatus"] = unknown
    ran = run(*STATUS)

    assert 3 == ran.status
    assert "is of another version" in ran.err


def test_a_foreign_servers_text_stays_out(run: Any, vault: Any) -> None:
    def leak(request: Any, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNKNOWN, "token=canary")

    vault.answers["GetKeyStatus"] = leak
    ran = run(*STATUS)

    assert (3, False) == (ran.status, "canary" in ran.err)


def test_a_vault_that_goes_away_in_a_call_can_be_tried_again(run: Any, vault: Any) -> None:
    def away(request: Any, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.CANCELLED, "")

    vault.answers["GetKeyStatus"] = away
    ran = run(*STATUS)

    assert 4 == ran.status
    assert all(what in ran.err for what in ("--target", "--cert", "--key", "--ca", "VAULT_UNAVAILABLE"))


def test_files_that_are_not_given_are_all_named(offline: Any, environ: dict[str, str]) -> None:
    del environ["TENANTVAULT_TLS_CERT"]
    environ["TENANTVAULT_TLS_CA"] = ""

    ran = offline(*STATUS, environ=environ)

    assert 2 == ran.status
    assert "Give --cert, --ca, or set TENANTVAULT_TLS_CERT, TENANTVAULT_TLS_CA. (USAGE)" in ran.err


@pytest.mark.parametrize("option", ["--cert", "--key", "--ca"])
def test_a_file_that_cannot_be_read_is_named(run: Any, vault: Any, option: str, tmp_path: Path) -> None:
    ran = run(*STATUS, option, str(tmp_path / "gone.pem"))

    assert 2 == ran.status
    assert f"gone.pem (no such file or directory): look at {option}." in ran.err
    assert [] == vault.calls


@pytest.mark.parametrize("option", ["--cert", "--key", "--ca"])
def test_a_file_that_holds_something_else_is_not_used(run: Any, option: str, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_text("canary")

    ran = run(*STATUS, option, str(tmp_path / "other.pem"))

    assert 2 == ran.status
    assert option in ran.err
    assert "canary" not in ran.err


def test_a_key_of_another_certificate_is_not_used(run: Any, vault_tls: Any) -> None:
    ran = run(*STATUS, "--key", str(vault_tls.key))

    assert 2 == ran.status
    assert "do not go together" in ran.err


def test_nobody_is_asked_for_the_password_of_a_key(run: Any, operator: Any, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(operator.key.read_bytes(), password=None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    (tmp_path / "locked.key").write_bytes(locked)

    ran = run(*STATUS, "--key", str(tmp_path / "locked.key"))

    assert 2 == ran.status
    assert "the key is encrypted" in ran.err


def test_nothing_there(run: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = run(*STATUS, "--target", target)

    assert 4 == ran.status
    assert f"Nothing can be reached at {target} (connection refused): look at the address (--target)" in ran.err
    assert ran.err.endswith("(VAULT_UNAVAILABLE)\n")


def test_somebody_who_says_nothing(run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ran = run(*STATUS, "--target", f"127.0.0.1:{silent.getsockname()[1]}", "--deadline", "0.2")

    assert 4 == ran.status
    assert "Nothing answers" in ran.err


def test_somebody_who_does_not_speak_tls(run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        ran = run(*STATUS, "--target", f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()

    assert 4 == ran.status
    assert "does not speak TLS" in ran.err


def test_a_vault_of_another_authority_is_not_trusted(run: Any, vault: Any, foreign_authority: Any) -> None:
    ran = run(*STATUS, "--ca", str(foreign_authority.issue("operator").authorities))

    assert (4, []) == (ran.status, vault.calls)
    assert "cannot be trusted" in ran.err
    assert "--ca" in ran.err
    assert 1 == ran.err.count("\n")


def test_a_vault_of_another_name_is_not_trusted(run: Any, vault: Any, authority: Any) -> None:
    elsewhere = type(vault)().serve(authority.issue("elsewhere", host="vault.example"))
    ran = run(*STATUS, "--target", elsewhere.target)
    elsewhere.stop()

    assert (4, []) == (ran.status, elsewhere.calls)
    assert "host name in --target" in ran.err


def test_a_certificate_that_the_vault_does_not_accept(run: Any, vault: Any, foreign_authority: Any) -> None:
    stranger = foreign_authority.issue("operator")

    ran = run(*STATUS, "--cert", str(stranger.certificate), "--key", str(stranger.key))

    assert (4, []) == (ran.status, vault.calls)
    assert "does not accept this certificate" in ran.err


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), TimeoutError()])
def test_a_name_that_leads_nowhere(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    from tenantvault.cli.reach import obstacle

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", fail)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    assert "--target" in obstacle("vault.example:7401", context, seconds=1, environ={})


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "Nothing"),
        ({"https_proxy": "http://proxy.example:3128"}, ""),
        ({"https_proxy": "http://proxy.example:3128", "no_proxy": "other, .example"}, "Nothing"),
        ({"https_proxy": "http://proxy.example:3128", "no_proxy": ""}, ""),
        ({"https_proxy": ""}, "Nothing"),
    ],
)
def test_the_way_of_a_proxy_is_not_looked_at(
    environ: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tenantvault.cli.reach import obstacle

    def fail(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", fail)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    assert said == obstacle("vault.example:7401", context, seconds=1, environ=environ)[:7]


@pytest.mark.parametrize(
    "target", ["", "localhost", ":7401", "localhost:", "localhost:0", "localhost:65536", "dns:///a:1", "a b:1", "::1:1"]
)
def test_a_target_that_is_none_is_refused(run: Any, target: str) -> None:
    ran = run(*STATUS, "--target", target)

    assert 2 == ran.status
    assert "host:port" in ran.err


@pytest.mark.parametrize("host", ["a..b", ".localhost", "a" * 70, f"vault.{'a' * 70}.example", "a。。b", "[::1..2]"])
def test_a_name_that_no_host_can_have_is_refused(run: Any, host: str) -> None:
    ran = run(*STATUS, "--target", f"{host}:7401")

    assert 2 == ran.status
    assert f"No host has the name {host.strip('[]')}: look at its dots" in ran.err
    assert "host:port" in ran.err


@pytest.mark.parametrize("host", ["localhost.", "a_b", "höst", "a" * 63, "[::1]", "127.0.0.1"])
def test_a_name_that_a_host_can_have_is_looked_for(run: Any, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", fail)

    assert 4 == run(*STATUS, "--target", f"{host}:7401").status


@pytest.mark.parametrize("deadline", ["0", "-1", "nan", "inf", "soon"])
def test_a_deadline_that_is_none_is_refused(run: Any, deadline: str) -> None:
    assert 2 == run(*STATUS, "--deadline", deadline).status
