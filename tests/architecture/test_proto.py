"""The protos are linted, break no client, and are what the committed code was generated from."""

import filecmp
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "proto"
BUF = str(Path(sys.executable).with_name("buf"))


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BUF, *arguments], cwd=PROTO, capture_output=True, text=True, check=False, timeout=60)


def test_the_protos_pass_the_linter() -> None:
    result = buf("lint")
    assert (0, "") == (result.returncode, result.stdout)


def test_no_change_breaks_a_client_of_the_released_contract() -> None:
    result = buf("breaking", "--against", "released.binpb")
    assert (0, "") == (result.returncode, result.stdout)


def test_the_breaking_check_sees_a_break(tmp_path: Path) -> None:
    for path in PROTO.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(PROTO)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    broken = tmp_path / "tenantvault/v1/credential.proto"
    broken.write_text(broken.read_text("utf-8").replace("string api_key = 1", "string api_key = 9"), "utf-8")
    result = subprocess.run(
        [BUF, "breaking", "--against", "released.binpb"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert 0 != result.returncode
    assert "api_key" in result.stdout


def test_the_committed_code_is_what_the_protos_generate(tmp_path: Path) -> None:
    if not (ROOT / ".venv/proto/bin/python").exists():
        pytest.fail("run `make .venv/proto/.done` first: the generator has an environment of its own")
    environ = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
    subprocess.run(
        ["make", "--no-print-directory", "proto", f"OUT={tmp_path}"], cwd=ROOT, check=True, timeout=120, env=environ
    )
    committed = ROOT / "clients/python/src/tenantvault/v1"
    generated = sorted(path.name for path in (tmp_path / "tenantvault/v1").iterdir())
    kept = sorted(path.name for path in committed.iterdir() if path.suffix in {".py", ".pyi"} and "_pb2" in path.name)
    assert generated == kept
    _, different, unreadable = filecmp.cmpfiles(tmp_path / "tenantvault/v1", committed, generated, shallow=False)
    assert ([], []) == (different, unreadable)


def test_every_secret_field_is_marked_for_redaction() -> None:
    words = ("api_key =", "secret =", "auth_token =", "token =", "password =")
    lines = [line.strip() for path in PROTO.rglob("*.proto") for line in path.read_text("utf-8").splitlines()]
    fields = [line for line in lines if line.startswith("string ") and any(word in line for word in words)]
    assert fields
    assert [] == [line for line in fields if "debug_redact = true" not in line]
