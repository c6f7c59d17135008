import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vault.local_key import LocalKey
from services.vault.seal import Unreadable, associated_data, unlock

VECTORS = json.loads(Path("tests/vectors/seal.json").read_text())

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
ORG_KEY = bytes(range(64, 96))
KEY = LocalKey("m", ONE)


async def wrapped(key: LocalKey = KEY) -> bytes:
    return await key.wrap(ORG_KEY, org_id="acme", org_key_id="k1")


async def unwrapped(sealed: bytes, key: LocalKey = KEY, *, org_id: str = "acme", org_key_id: str = "k1") -> bytes:
    return await key.unwrap(sealed, org_id=org_id, org_key_id=org_key_id)


async def test_what_was_wrapped_unwraps() -> None:
    assert await unwrapped(await wrapped()) == ORG_KEY


async def test_a_wrapped_key_shows_nothing_of_the_key_and_is_another_each_time() -> None:
    once, again = await wrapped(), await wrapped()
    assert ORG_KEY not in once
    assert once != again


async def test_a_wrapped_key_is_bound_to_the_org_the_keys_id_and_the_master_keys_id() -> None:
    sealed = await wrapped()
    bound = associated_data("tenantvault/org-key", "acme", "k1", "m")
    assert unlock(ONE, sealed, bound).open() == ORG_KEY
    for moved in (
        unwrapped(sealed, org_id="globex"),
        unwrapped(sealed, org_key_id="k2"),
        # The same key under another name, so that only the name can be what is refused.
        unwrapped(sealed, LocalKey("spare", ONE)),
        unwrapped(sealed, LocalKey("m", TWO)),
    ):
        with pytest.raises(Unreadable):
            await moved


async def test_a_wrapped_key_that_was_changed_does_not_unwrap() -> None:
    sealed = await wrapped()
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(Unreadable):
            await unwrapped(bytes(changed))
    for cut in (b"", sealed[:-1], sealed + b"\0"):
        with pytest.raises(Unreadable):
            await unwrapped(cut)


@pytest.mark.parametrize(
    "vector", VECTORS["records"], ids=lambda vector: f"{vector['org_id']} {vector['provider']} {vector['version']}"
)
async def test_a_key_that_was_wrapped_in_the_past_unwraps_for_ever(vector: dict[str, Any]) -> None:
    keys = dict(line.split(":") for line in VECTORS["keyring"]["text"].splitlines())
    key = LocalKey.parse(vector["master_key_id"], keys[vector["master_key_id"]])
    opened = await unwrapped(
        bytes.fromhex(vector["wrapped_key"]), key, org_id=vector["org_id"], org_key_id=vector["key_id"]
    )
    assert 32 == len(opened)
    bound = (vector["org_id"], vector["provider"], vector["version"], vector["key_id"], "tenantvault.v1.Credential")
    record = unlock(opened, bytes.fromhex(vector["sealed"]), associated_data("tenantvault/record", *bound))
    assert vector["payload"] == record.open().hex()


def test_the_fingerprint_tells_keys_apart_and_gives_none_away() -> None:
    assert KEY.fingerprint == LocalKey("again", ONE).fingerprint != LocalKey("m", TWO).fingerprint
    assert 16 == len(KEY.fingerprint)
    assert KEY.fingerprint not in ONE
    # What a database remembers of a key, for ever.
    assert "68ca5b71e4a8abae2cdb697294c6606e" == KEY.fingerprint.hex()


def test_it_shows_its_id_and_not_itself() -> None:
    for shown in (repr(KEY), str(KEY), f"{KEY}"):
        assert "LocalKey(key_id='m')" == shown


def test_it_is_parsed_from_what_openssl_prints() -> None:
    assert KEY == LocalKey.parse("m", base64.b64encode(ONE).decode())


@pytest.mark.parametrize(
    ("encoded", "complaint"),
    [
        ("not base64", "not of the form id:base64"),
        (base64.b64encode(ONE).decode()[:-1], "not of the form id:base64"),
        (base64.urlsafe_b64encode(b"\xff" * 32).decode(), "not of the form id:base64"),
        (f"{base64.b64encode(ONE).decode()}\n", "not of the form id:base64"),
        ("schlüssel", "not of the form id:base64"),
        ("", "not 32 bytes"),
        (base64.b64encode(ONE[:16]).decode(), "not 32 bytes"),
        (base64.b64encode(ONE + TWO).decode(), "not 32 bytes"),
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(encoded: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        LocalKey.parse("m", encoded)
    assert not encoded or encoded not in str(refused.value)
    assert refused.value.__cause__ is None


@given(encoded=st.text(max_size=60) | st.binary(max_size=40).map(lambda noise: base64.b64encode(noise).decode()))
def test_no_text_does_anything_but_parse_or_be_refused(encoded: str) -> None:
    try:
        key = LocalKey.parse("m", encoded)
    except ValueError as refused:
        assert len(encoded) < 8 or encoded not in str(refused)  # noqa: PT017 - refusing is optional here
    else:
        assert base64.b64encode(key.key).decode() == encoded


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_cannot_be_made(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        LocalKey("m", bytes(length))
