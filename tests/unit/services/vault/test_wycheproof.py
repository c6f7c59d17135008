"""Project Wycheproof's AES-256-GCM vectors, with 96-bit nonces and 128-bit tags.

A seal's nonce is always zero and its key is derived, so no vector from outside fits a whole seal. What is tested is the
cipher that `services.vault.seal` has imported, and then a seal that is given a vector's key and nonce for its own.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from services.vault import seal as module
from services.vault.seal import AESGCM, Unreadable, seal, unlock  # type: ignore[attr-defined]  # the seal's own AESGCM

VECTORS = json.loads(Path("tests/vectors/aes_gcm_wycheproof.json").read_text())
GROUPS = VECTORS["testGroups"]
TESTS = [test for group in GROUPS for test in group["tests"]]

SALT, COMMITMENT = b"s" * 32, b"c" * 32


def of(result: str) -> pytest.MarkDecorator:
    tests = [test for test in TESTS if test["result"] == result]
    return pytest.mark.parametrize("vector", tests, ids=lambda vector: f"tcId {vector['tcId']}")


def read(vector: dict[str, Any]) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Key, nonce, associated data, plaintext, and the ciphertext with its tag."""
    key, nonce, associated, plaintext = (bytes.fromhex(vector[name]) for name in ("key", "iv", "aad", "msg"))
    return key, nonce, associated, plaintext, bytes.fromhex(vector["ct"] + vector["tag"])


@pytest.fixture
def given(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal whose key and nonce are the vector's."""
    key, nonce, *_ = read(vector)
    monkeypatch.setattr(module, "_NONCE", nonce)
    monkeypatch.setattr(module, "_derive", lambda _key, _salt: (key, COMMITMENT))


def test_the_vectors_are_of_the_seals_cipher_and_none_is_lost() -> None:
    assert [(256, 96, 128)] == [(group["keySize"], group["ivSize"], group["tagSize"]) for group in GROUPS]
    assert list(range(91, 157)) == [test["tcId"] for test in TESTS]
    assert [39, 27] == [sum(test["result"] == result for test in TESTS) for result in ("valid", "invalid")]


@of("valid")
def test_a_valid_vector_is_encrypted_and_decrypted(vector: dict[str, Any]) -> None:
    key, nonce, associated, plaintext, ciphertext = read(vector)
    assert ciphertext == AESGCM(key).encrypt(nonce, plaintext, associated)
    assert plaintext == AESGCM(key).decrypt(nonce, ciphertext, associated)


@of("invalid")
def test_an_invalid_vector_is_not_decrypted(vector: dict[str, Any]) -> None:
    key, nonce, associated, _, ciphertext = read(vector)
    with pytest.raises(InvalidTag):
        AESGCM(key).decrypt(nonce, ciphertext, associated)


@of("valid")
def test_a_valid_vector_is_what_a_seal_ends_with(vector: dict[str, Any], given: None) -> None:
    _, _, associated, plaintext, ciphertext = read(vector)
    sealed = b"\x01" + SALT + COMMITMENT + ciphertext
    assert sealed == seal(bytes(32), plaintext, associated, salt=SALT)
    assert plaintext == unlock(bytes(32), sealed, associated).open()


@of("invalid")
def test_an_invalid_vector_is_unreadable(vector: dict[str, Any], given: None) -> None:
    _, _, associated, _, ciphertext = read(vector)
    record = unlock(bytes(32), b"\x01" + SALT + COMMITMENT + ciphertext, associated)
    with pytest.raises(Unreadable):
        record.open()
