"""`tenantvault keys`: the master keys, and rotations."""

import os
import subprocess
import sys
from typing import Any

import pytest

from tenantvault.errors import InternalError, KeyNotEverywhere, OrgFrozen, VaultUnavailable
from tenantvault.v1.admin_service_pb2 import (
    GetKeyStatusResponse,
    MasterKey,
    MasterKeyState,
    RotateMasterKeyResponse,
    RotateOrgKeyResponse,
)

pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket

ROTATE = ("keys", "rotate-master")
AGAIN = "Run it again: it goes on where it was cut off."
STATUS = GetKeyStatusResponse(
    master_keys=[
        MasterKey(
            master_key_id="2026-01",
            state=MasterKeyState.MASTER_KEY_STATE_ACTIVE,
            fingerprint=b"\x01" * 16,
            org_keys=12,
        ),
        MasterKey(
            master_key_id="2026-11",
            state=MasterKeyState.MASTER_KEY_STATE_STAGED,
            fingerprint=b"\x02" * 16,
            present=True,
            wrapping=True,
        ),
    ],
    audit_public_key=b"\x03" * 32,
    org_rotations_under_way=2,
)
STEPS = [
    RotateMasterKeyResponse(master_key_id="2026-11", done=0, left=3),
    RotateMasterKeyResponse(master_key_id="2026-11", done=2, left=1),
    RotateMasterKeyResponse(master_key_id="2026-11", done=3, left=0, retired=["2026-01", "2025-11"]),
]


def test_the_master_keys_are_shown(run: Any, vault: Any) -> None:
    vault.answers["GetKeyStatus"] = STATUS

    ran = run("keys", "status")

    assert 0 == ran.status
    assert ["2026-01", "active", "no", "no", "12", "01" * 16] == ran.lines[1].split()
    assert ["2026-11", "staged", "yes", "yes", "0", "02" * 16] == ran.lines[2].split()
    assert f"The audit is signed with {'03' * 32}." in ran.lines
    assert "Orgs with records that wait for their new key: 2." in ran.lines


def test_the_master_keys_for_programs(run: Any, vault: Any) -> None:
    vault.answers["GetKeyStatus"] = STATUS

    data = run("keys", "status", "--json").data

    assert {
        "master_key_id": "2026-01",
        "state": "active",
        "fingerprint": "01" * 16,
        "present": False,
        "wrapping": False,
        "org_keys": 12,
    } == data["master_keys"][0]
    assert ("03" * 32, 2) == (data["audit_public_key"], data["org_rotations_under_way"])


def test_a_state_of_a_newer_vault_is_shown_as_it_is(run: Any, vault: Any) -> None:
    newer = MasterKey.FromString(b"\x0a\x01k\x10\x07")
    vault.answers["GetKeyStatus"] = GetKeyStatusResponse(master_keys=[newer])

    assert "unknown (7)" in run("keys", "status").out


def test_everything_is_wrapped_anew(run: Any, vault: Any) -> None:
    vault.answers["RotateMasterKey"] = lambda *_: STEPS

    ran = run(*ROTATE)

    assert (0, "") == (ran.status, ran.err)
    assert (
        "Everything is wrapped under 2026-11: 3 keys anew. "
        "Retired, and no longer needed in any keyring: 2026-01, 2025-11.\n"
    ) == ran.out
    assert "grace" == vault.requests[0].origin.on_behalf_of


def test_the_progress_for_programs_is_an_object_a_line(run: Any, vault: Any) -> None:
    import json

    vault.answers["RotateMasterKey"] = lambda *_: STEPS
    ran = run(*ROTATE, "--json")

    first, *_, last = [json.loads(line) for line in ran.lines]
    assert (0, 3) == (ran.status, len(ran.lines))
    assert {"master_key_id": "2026-11", "done": 0, "left": 3, "retired": []} == first
    assert ["2026-01", "2025-11"] == last["retired"]


@pytest.mark.parametrize("error", [VaultUnavailable("Away."), InternalError("Strange.")])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_rotation_that_breaks_off_says_that_it_goes_on(run: Any, vault: Any, error: Any, steps: int) -> None:
    def broken(request: Any, context: Any) -> Any:
        yield from STEPS[:steps]
        vault.refuse(error)(request, context)

    vault.answers["RotateMasterKey"] = broken
    ran = run(*ROTATE)

    assert (4 if error.retryable else 3, "") == (ran.status, ran.out)
    assert ran.err.startswith(f"tenantvault: {error.message}")
    assert f"{AGAIN} ({error.reason})" in ran.err


def test_a_connection_that_breaks_says_that_it_goes_on(run: Any, vault: Any) -> None:
    import grpc

    def broken(request: Any, context: Any) -> Any:
        yield STEPS[0]
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    vault.answers["RotateMasterKey"] = broken
    ran = run(*ROTATE, "--json")

    assert (4, 1) == (ran.status, len(ran.lines))
    assert ran.error["message"].endswith(AGAIN)


@pytest.mark.parametrize("steps", [0, 2])
def test_a_rotation_that_ends_early_is_not_done(run: Any, vault: Any, steps: int) -> None:
    vault.answers["RotateMasterKey"] = lambda *_: STEPS[:steps]

    ran = run(*ROTATE)

    assert (4, "") == (ran.status, ran.out)
    assert AGAIN in ran.err


def test_a_rotation_that_may_not_begin_says_why(run: Any, vault: Any) -> None:
    vault.answers["RotateMasterKey"] = vault.refuse(KeyNotEverywhere())

    ran = run(*ROTATE)

    assert 3 == ran.status
    assert ran.err.endswith("then rotate. (KEY_NOT_EVERYWHERE)\n")


def test_a_terminal_sees_a_bar_that_moves(vault: Any, child_environ: dict[str, str]) -> None:
    vault.answers["RotateMasterKey"] = lambda *_: STEPS
    ours, theirs = os.openpty()

    with subprocess.Popen(
        [sys.executable, "-m", "tenantvault.cli", *ROTATE],
        env={**child_environ, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        seen = _everything(ours)
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(ours)

    assert (0, True) == (process.returncode, out.startswith("Everything is wrapped")), seen
    assert "Wrapping keys" in seen
    assert "100%" in seen


def _everything(terminal: int) -> str:
    seen = b""
    while True:
        try:
            part = os.read(terminal, 1024)
        except OSError:  # Linux's end of a terminal
            part = b""
        if not part:
            return seen.decode()
        seen += part


def test_an_org_gets_a_new_key(run: Any, vault: Any) -> None:
    vault.answers["RotateOrgKey"] = RotateOrgKeyResponse(key_id="k2")

    ran = run("keys", "rotate-org", "acme", "--on-behalf-of", "ada@example.com")

    (request,) = vault.requests
    assert 0 == ran.status
    assert ran.out.startswith("acme has the new key k2.")
    assert ("acme", "ada@example.com") == (request.org_id, request.origin.on_behalf_of)
    assert {"org_id": "acme", "key_id": "k2"} == run("keys", "rotate-org", "acme", "--json").data


def test_a_frozen_org_gets_none(run: Any, vault: Any) -> None:
    vault.answers["RotateOrgKey"] = vault.refuse(OrgFrozen())

    assert 3 == run("keys", "rotate-org", "acme").status


@pytest.mark.parametrize("name", ["", "a" * 257, "é" * 129, "a\nb", "\udcff"])
def test_a_name_that_the_audit_cannot_hold_is_refused(run: Any, vault: Any, name: str) -> None:
    ran = run("keys", "rotate-org", "acme", "--on-behalf-of", name)

    assert (2, []) == (ran.status, vault.calls)
    assert "--on-behalf-of" in ran.err


def test_a_user_without_a_name_has_to_give_one(
    offline: Any, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import getpass

    def nobody() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nobody)

    assert 2 == offline("keys", "rotate-org", "acme", environ=environ).status
