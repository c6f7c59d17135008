"""The fuzz target finds nothing in a short run, and would find what it is there for."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from services.vault import seal
from services.vault.seal import Record, Unreadable
from tests.fuzz import fuzz_seal
from tests.fuzz.fuzz_seal import GOLDEN, check_encoding, check_parts, check_record, decoded, seeds

needs_atheris = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed here")

unlock, associated_data = seal.unlock, seal.associated_data

NUMBER = 3
GOLD = GOLDEN[NUMBER]
WHOLE = bytes([NUMBER]) + GOLD.sealed


def test_the_seeds_pass() -> None:
    for seed in seeds():
        check_record(seed)
        check_encoding(seed)


@given(data=st.binary() | st.builds(lambda seed, more: seed + more, st.sampled_from(seeds()), st.binary(max_size=9)))
def test_what_is_not_golden_passes_when_it_is_refused(data: bytes) -> None:
    check_record(data)
    check_encoding(data)


@dataclass(frozen=True)
class Opens:
    plaintext: bytes

    def open(self) -> bytes:
        return self.plaintext


class WorseUnreadable(Unreadable):
    pass


def opens_anything(key: bytes, sealed: bytes, associated: bytes) -> Opens:
    return Opens(GOLD.plaintext)


def opens_as_something_else(key: bytes, sealed: bytes, associated: bytes) -> Opens:
    return Opens(unlock(key, sealed, associated).open()[:-1])


def passes_over_the_commitment(key: bytes, sealed: bytes, associated: bytes) -> Record:
    return unlock(key, sealed[:33] + GOLD.sealed[33:65] + sealed[65:], associated)


def passes_over_what_is_behind(key: bytes, sealed: bytes, associated: bytes) -> Record:
    return unlock(key, sealed[: len(GOLD.sealed)], associated)


def opens_nothing(key: bytes, sealed: bytes, associated: bytes) -> Record:
    raise Unreadable


def lets_the_ciphers_error_out(key: bytes, sealed: bytes, associated: bytes) -> Record:
    raise InvalidTag


def says_why(key: bytes, sealed: bytes, associated: bytes) -> Record:
    raise Unreadable("the tag")


def names_a_cause(key: bytes, sealed: bytes, associated: bytes) -> Record:
    raise Unreadable from ValueError(sealed)


def refuses_otherwise(key: bytes, sealed: bytes, associated: bytes) -> Record:
    raise WorseUnreadable


@pytest.mark.parametrize(
    ("fault", "data", "found"),
    [
        (opens_anything, b"", "never sealed"),
        (opens_anything, WHOLE[:-1], "never sealed"),
        (passes_over_the_commitment, WHOLE[:34] + bytes(32) + WHOLE[66:], "never sealed"),
        (passes_over_what_is_behind, WHOLE + b"\0", "never sealed"),
        (opens_as_something_else, WHOLE, "something else"),
        (opens_nothing, WHOLE, "does not open"),
        (says_why, WHOLE[:-1], "says more"),
        (names_a_cause, WHOLE[:-1], "says more"),
        (refuses_otherwise, WHOLE[:-1], "another kind"),
    ],
)
def test_a_seal_with_a_fault_is_found(
    fault: Callable[..., object], data: bytes, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_record(data)
    monkeypatch.setattr(seal, "unlock", fault)
    with pytest.raises(AssertionError, match=found):
        check_record(data)


def test_an_error_that_is_not_unreadable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "unlock", lets_the_ciphers_error_out)
    with pytest.raises(InvalidTag):
        check_record(WHOLE[:-1])


@pytest.mark.parametrize(
    "fault",
    [
        lambda *parts: b"".join(parts),
        lambda *parts: b"\0".join(parts),
        lambda *parts: associated_data(*filter(None, parts)),
        lambda *parts: associated_data(*(part.rstrip(b"\0") for part in parts)),
        lambda *parts: b"".join(len(part).to_bytes(2) + part for part in parts),
    ],
    ids=["joined", "parted by NUL", "without the empty", "without NULs behind", "behind two bytes"],
)
def test_an_encoding_with_a_fault_is_found(fault: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [b"", b"a\0", b"bc"]
    check_parts(parts)
    check_encoding(data := associated_data(*parts))
    monkeypatch.setattr(seal, "associated_data", fault)
    with pytest.raises((AssertionError, ValueError), match=r"come back|cut off"):
        check_parts(parts)
    with pytest.raises(AssertionError, match="two encodings"):
        check_encoding(data)


@pytest.mark.parametrize("cut", [b"\0", b"\0\0\0", b"\0\0\0\1", b"\0\0\0\2a", b"\0\0\0\0\0", b"\xff\xff\xff\xffa"])
def test_what_is_cut_off_is_no_encoding(cut: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        decoded(cut)


@needs_atheris
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    run = fuzzed("-runs=20000", "-seed=1", str(tmp_path / "corpus"))
    assert 0 == run.returncode, run.stderr
    assert "Done 20000 runs" in run.stderr


@needs_atheris
def test_a_run_that_finds_something_fails_and_keeps_it(tmp_path: Path) -> None:
    plant = "def fault(data): raise IndexError\nfuzz_seal.check_encoding = fault"
    run = fuzzed("-runs=20000", f"-artifact_prefix={tmp_path}/", str(tmp_path / "corpus"), plant=plant)
    assert 0 != run.returncode
    assert "IndexError" in run.stdout + run.stderr
    [found] = tmp_path.glob("crash-*")
    assert 0 == fuzzed(str(found)).returncode


def fuzzed(*arguments: str, plant: str = "") -> subprocess.CompletedProcess[str]:
    """Run the target as a person does, or with a fault that is planted before it starts."""
    script = f"from tests.fuzz import fuzz_seal\n{plant}\nfuzz_seal.fuzz({[*arguments]})"
    command = ["-c", script] if plant else [fuzz_seal.__file__, *arguments]
    return subprocess.run(
        [sys.executable, *command], cwd=fuzz_seal.ROOT, capture_output=True, text=True, timeout=100, check=False
    )
