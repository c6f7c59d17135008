import base64
import hmac
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st

from services.vault.seal import KEY_BYTES, SALT_BYTES, SCHEME, Unreadable, associated_data, seal, unlock
from tests.fuzz.fuzz_seal import decoded, encoded

VECTORS = json.loads(Path("tests/vectors/seal.json").read_text())

KEY, SALT, ASSOCIATED, PLAINTEXT = bytes(range(32)), bytes(range(32, 64)), b"who and what", b"a secret of acme"
SEALED = seal(KEY, PLAINTEXT, ASSOCIATED, salt=SALT)
COMMITMENT = slice(1 + SALT_BYTES, 1 + SALT_BYTES + 32)
BODY = 1 + SALT_BYTES + 32

keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
# Few letters, among them what a length, a separator or an end could be taken for.
awkward = st.text(st.sampled_from("\0\1\4a/:,|\n "), max_size=6)
a_part = (
    st.text(st.characters(codec="utf-8"), max_size=8)
    | awkward
    | st.integers(0, 2**64 - 1)
    | st.integers(0, 3)
    | st.binary(max_size=8)
)
parts = st.lists(a_part, max_size=8)


def derived(key: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """HKDF-SHA256 of RFC 5869 by hand: the record's key and the commitment to it."""
    extracted = hmac.digest(salt, key, "sha256")
    first = hmac.digest(extracted, b"tenantvault/seal/1\x01", "sha256")
    return first, hmac.digest(extracted, first + b"tenantvault/seal/1\x02", "sha256")


def opened(sealed: bytes, *, key: bytes = KEY, associated: bytes = ASSOCIATED) -> bytes:
    return unlock(key, sealed, associated).open()


def refused(sealed: bytes, *, key: bytes = KEY, associated: bytes = ASSOCIATED) -> bool:
    """Whether a record is Unreadable, which is all that is said: no text, no cause."""
    with pytest.raises(Unreadable) as refusal:
        opened(sealed, key=key, associated=associated)
    error, before = refusal.value, refusal.value.__context__
    assert before is None or (type(before), before.args) == (InvalidTag, ())
    return (type(error), error.args, vars(error), error.__cause__) == (Unreadable, (), {}, None)


@given(key=keys, plaintext=st.binary(), associated=st.binary())
def test_what_was_sealed_opens(key: bytes, plaintext: bytes, associated: bytes) -> None:
    sealed = seal(key, plaintext, associated)
    assert plaintext == opened(sealed, key=key, associated=associated)
    assert not plaintext or len(plaintext) < 8 or plaintext not in sealed


def test_the_same_plaintext_is_sealed_under_another_key_each_time() -> None:
    once, again = (seal(KEY, PLAINTEXT, ASSOCIATED) for _ in range(2))
    assert once[1:BODY] != again[1:BODY]
    assert once[BODY:] != again[BODY:]


@pytest.mark.parametrize("vector", VECTORS["seal"], ids=lambda vector: f"{len(vector['plaintext']) // 2} bytes")
def test_a_vector_is_sealed_and_opens_as_ever(vector: dict[str, str]) -> None:
    key, salt, associated, plaintext, sealed = (
        bytes.fromhex(vector[name]) for name in ("key", "salt", "associated", "plaintext", "sealed")
    )
    assert plaintext == opened(sealed, key=key, associated=associated)
    assert sealed == seal(key, plaintext, associated, salt=salt)


@pytest.mark.parametrize("vector", VECTORS["seal"], ids=lambda vector: f"{len(vector['plaintext']) // 2} bytes")
def test_a_record_is_made_of_what_the_docstring_says(vector: dict[str, str]) -> None:
    key, salt, associated, plaintext, sealed = (
        bytes.fromhex(vector[name]) for name in ("key", "salt", "associated", "plaintext", "sealed")
    )
    record_key, commitment = derived(key, salt)
    ciphertext = AESGCM(record_key).encrypt(bytes(12), plaintext, associated)
    assert sealed == b"\x01" + salt + commitment + ciphertext
    assert len(plaintext) + 1 + 32 + 32 + 16 == len(sealed)


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda vector: f"{vector['org_id']} {vector['version']}")
def test_a_record_of_the_past_opens_from_the_master_key_down(vector: dict[str, Any]) -> None:
    master_keys = dict(line.split(":") for line in VECTORS["keyring"]["text"].splitlines())
    org_id, key_id, master_key_id = (vector[name] for name in ("org_id", "key_id", "master_key_id"))
    wrapped, sealed = (bytes.fromhex(vector[name]) for name in ("wrapped_key", "sealed"))

    master, bound = base64.b64decode(master_keys[master_key_id]), ("tenantvault/org-key", org_id, key_id, master_key_id)
    key = opened(wrapped, key=master, associated=associated_data(*bound))
    name = ("tenantvault/record", org_id, vector["provider"], vector["version"], key_id, "tenantvault.v1.Credential")
    assert vector["payload"] == opened(sealed, key=key, associated=associated_data(*name)).hex()


def test_a_record_with_any_byte_changed_does_not_open() -> None:
    for position, flip in itertools.product(range(len(SEALED)), (*(1 << bit for bit in range(8)), 0xFF)):
        changed = bytearray(SEALED)
        changed[position] ^= flip
        assert refused(bytes(changed)), (position, flip)


@given(plaintext=st.binary(max_size=64), associated=st.binary(max_size=16), data=st.data())
def test_no_record_with_a_bit_changed_opens(plaintext: bytes, associated: bytes, data: st.DataObject) -> None:
    sealed = seal(KEY, plaintext, associated, salt=SALT)
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    assert refused((int.from_bytes(sealed) ^ 1 << bit).to_bytes(len(sealed)), associated=associated)


def test_a_record_cut_anywhere_does_not_open() -> None:
    for length in range(len(SEALED)):
        assert refused(SEALED[:length]), length
        assert refused(SEALED[-length:] if length else b""), length


@given(more=st.binary(min_size=1))
@example(more=b"\0")
@example(more=SEALED)
def test_a_record_with_more_behind_it_does_not_open(more: bytes) -> None:
    assert refused(SEALED + more)


def test_an_unknown_scheme_does_not_open() -> None:
    for scheme in {*range(256)} - {SCHEME}:
        assert refused(bytes([scheme]) + SEALED[1:]), scheme


@given(noise=st.binary(max_size=200))
def test_bytes_that_were_never_sealed_do_not_open(noise: bytes) -> None:
    for sealed in (noise, bytes([SCHEME]) + noise, SEALED[: COMMITMENT.start] + noise, SEALED[:BODY] + noise):
        assert refused(sealed)


def test_a_mebibyte_of_noise_does_not_open() -> None:
    noise = random.Random(1).randbytes(1 << 20)
    for sealed in (noise, bytes([SCHEME]) + noise, SEALED[: COMMITMENT.start] + noise, SEALED[:BODY] + noise):
        assert refused(sealed)
    assert refused(SEALED + noise)


@given(key=keys.filter(lambda key: key != KEY))
def test_another_key_is_refused_before_anything_is_decrypted(key: bytes) -> None:
    with pytest.raises(Unreadable):
        unlock(key, SEALED, ASSOCIATED)
    assert refused(SEALED, key=key)


@given(associated=st.binary().filter(lambda associated: associated != ASSOCIATED))
def test_other_associated_data_does_not_open(associated: bytes) -> None:
    unlock(KEY, SEALED, associated)
    assert refused(SEALED, associated=associated)


def test_a_ciphertext_that_the_cipher_would_take_is_refused_without_its_commitment() -> None:
    record_key, commitment = derived(KEY, SALT)
    assert SEALED[COMMITMENT] == commitment
    assert AESGCM(record_key).decrypt(bytes(12), SEALED[BODY:], ASSOCIATED) == PLAINTEXT
    for other in (bytes(32), bytes(byte ^ 1 for byte in commitment), derived(KEY, bytes(32))[1]):
        with pytest.raises(Unreadable):
            unlock(KEY, SEALED[: 1 + SALT_BYTES] + other + SEALED[BODY:], ASSOCIATED)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_that_has_not_32_bytes_is_a_mistake_and_not_a_bad_record(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        seal(bytes(length), PLAINTEXT, ASSOCIATED)
    with pytest.raises(ValueError, match="32 bytes"):
        unlock(bytes(length), SEALED, ASSOCIATED)


def test_a_record_shows_neither_key_nor_ciphertext() -> None:
    shown = repr(unlock(KEY, SEALED, ASSOCIATED))
    assert repr(ASSOCIATED) in shown
    assert "aead" not in shown
    assert repr(SEALED[BODY:]) not in shown


def test_what_is_refused_does_not_say_why() -> None:
    causes = [b"", SEALED[:-1], b"\x02" + SEALED[1:], SEALED[:-1] + b"\0", SEALED[:40] + b"\0" * 8 + SEALED[48:]]
    assert all(refused(sealed) for sealed in causes)


# What is injective is the encoding of the sequence of the parts' bytes: a text and its UTF-8 are one part, and so are a
# number and its 8 bytes.
@given(one=parts, other=parts)
def test_no_two_sequences_of_parts_encode_alike(one: list[str | int | bytes], other: list[str | int | bytes]) -> None:
    alike = associated_data(*one) == associated_data(*other)
    assert (list(map(encoded, one)) == list(map(encoded, other))) == alike


@given(sequence=parts)
@example(sequence=[])
@example(sequence=[""])
@example(sequence=["", b"", "\0", "\0\0\0\0", 0, ""])
@example(sequence=["\0\0\0\1a", "a"])
@example(sequence=[b"\xff" * 256, "a/b:c,d|e"])
def test_the_parts_can_be_read_back(sequence: list[str | int | bytes]) -> None:
    assert list(map(encoded, sequence)) == decoded(associated_data(*sequence))


@given(sequence=parts, data=st.data())
def test_an_encoding_within_a_part_is_no_part_of_the_sequence(
    sequence: list[str | int | bytes], data: st.DataObject
) -> None:
    within = data.draw(st.integers(0, len(sequence)))
    nested = [*sequence[:within], associated_data(*sequence[within:])]
    assert [*map(encoded, sequence[:within]), associated_data(*sequence[within:])] == decoded(associated_data(*nested))
    assert associated_data(*nested) != associated_data(*sequence)


def test_a_text_and_a_number_encode_as_their_bytes() -> None:
    assert associated_data("Ü", 1) == associated_data("Ü".encode(), b"\0\0\0\0\0\0\0\1")


def test_moving_a_letter_between_neighbours_gives_other_associated_data() -> None:
    spellings = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("abc",), ("a", "b", "c")]
    assert len(spellings) == len({associated_data(*spelling) for spelling in spellings})


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_number_that_does_not_fit_is_not_cut(number: int) -> None:
    with pytest.raises(OverflowError):
        associated_data(number)


@pytest.mark.parametrize("vector", VECTORS["associated_data"], ids=lambda vector: str(vector["parts"]))
def test_associated_data_is_encoded_as_ever(vector: dict[str, Any]) -> None:
    assert vector["encoded"] == associated_data(*vector["parts"]).hex()
