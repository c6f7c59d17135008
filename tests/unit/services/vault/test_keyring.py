import base64
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vault.credential import OrgKey
from services.vault.keyring import Keyring
from services.vault.seal import Unreadable

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
ORG_KEY = bytes(range(64, 96))


def line(key_id: str, key: bytes) -> str:
    return f"{key_id}:{base64.b64encode(key).decode()}"


def test_the_first_line_is_the_key_that_wraps() -> None:
    keyring = Keyring.parse(f"{line('2026-11', TWO)}\n{line('2025', ONE)}\n")
    assert "Keyring(2026-11, 2025)" == repr(keyring)


@pytest.mark.parametrize("parted", ["\n", ",", "\r\n", " ,\n ,", "\n\n\n"])
def test_lines_or_commas_part_the_keys(parted: str) -> None:
    keyring = Keyring.parse(f" {line('b', TWO)}{parted}{line('a', ONE)} ")
    assert ["b", "a"] == list(keyring.fingerprints)


async def test_the_first_wraps_and_all_unwrap() -> None:
    old, both = Keyring.parse(line("old", ONE)), Keyring.parse(f"{line('new', TWO)},{line('old', ONE)}")
    wrapped_before = await old.wrap("acme", "k1", ORG_KEY)
    wrapped_now = await both.wrap("acme", "k2", ORG_KEY)
    assert ("old", "new") == (wrapped_before.master_key_id, wrapped_now.master_key_id)
    assert ORG_KEY == await both.unwrap(wrapped_before)
    assert ORG_KEY == await both.unwrap(wrapped_now)
    with pytest.raises(Unreadable):
        await old.unwrap(wrapped_now)


async def test_a_wrapped_key_shows_nothing_of_the_key() -> None:
    wrapped = await Keyring({"m": ONE}).wrap("acme", "k1", ORG_KEY)
    assert ORG_KEY not in wrapped.wrapped
    assert wrapped != await Keyring({"m": ONE}).wrap("acme", "k1", ORG_KEY)


@pytest.mark.parametrize(
    "change",
    [{"org_id": "globex"}, {"key_id": "k2"}, {"master_key_id": "spare"}, {"master_key_id": "unknown"}],
    ids=str,
)
async def test_a_wrapped_key_that_was_moved_does_not_unwrap(change: dict[str, Any]) -> None:
    # The spare is the same key under another name, so that only the name can be what is refused.
    keyring = Keyring({"m": ONE, "spare": ONE})
    key = await keyring.wrap("acme", "k1", ORG_KEY)
    assert ORG_KEY == await keyring.unwrap(key)
    with pytest.raises(Unreadable):
        await keyring.unwrap(replace(key, **change))


async def test_a_wrapped_key_that_was_changed_does_not_unwrap() -> None:
    keyring = Keyring({"m": ONE})
    key = await keyring.wrap("acme", "k1", ORG_KEY)
    for position in range(len(key.wrapped)):
        changed = bytearray(key.wrapped)
        changed[position] ^= 1
        with pytest.raises(Unreadable):
            await keyring.unwrap(OrgKey("acme", "k1", "m", bytes(changed)))


async def test_another_key_of_the_same_name_does_not_unwrap() -> None:
    key = await Keyring({"m": ONE}).wrap("acme", "k1", ORG_KEY)
    with pytest.raises(Unreadable):
        await Keyring({"m": TWO}).unwrap(key)


def test_fingerprints_tell_keys_apart_and_give_none_away() -> None:
    fingerprints = Keyring({"a": ONE, "b": TWO, "again": ONE}).fingerprints
    assert fingerprints["a"] == fingerprints["again"] != fingerprints["b"]
    assert {16} == {len(fingerprint) for fingerprint in fingerprints.values()}
    assert all(fingerprint not in ONE + TWO for fingerprint in fingerprints.values())


def test_a_keyring_shows_ids_only() -> None:
    keyring = Keyring({"a": ONE})
    for shown in (repr(keyring), str(keyring), f"{keyring}"):
        assert "Keyring(a)" == shown


SHORT, PADDED, BARE = (
    base64.b64encode(bytes(16)).decode(),
    base64.b64encode(TWO).decode(),
    base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("="),
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "needs a master key"),
        (" \n,\n ", "needs a master key"),
        (f"{line('good', ONE)}\nsecond:not base64", "master key 2 is not of the form"),
        (f"{line('good', ONE)}\nsecond:{PADDED[:-1]}", "master key 2 is not of the form"),
        (f"{line('good', ONE)}\nsecond:{BARE}", "master key 2 is not of the form"),
        (f"{line('good', ONE)}\n{line('good', TWO)}", "master key 2 has an id that is there already"),
        (f"{line('good', ONE)}\nsecond:{SHORT}", "master key 2 has not 32 bytes"),
        (f"{line('good', ONE)}\nsecond:", "master key 2 has not 32 bytes"),
        (f"{line('good', ONE)}\n{PADDED}", "master key 2 has no id"),
        (f"{line('good', ONE)}\n:{PADDED}", "master key 2 has no id"),
        (f"{line('good', ONE)}\nan id:{PADDED}", "master key 2 has no id"),
        (f"{line('good', ONE)}\n{'i' * 64}:{PADDED}", "master key 2 has no id"),
        # A key without an id, in the alphabet that an id has too; and the two in the wrong order.
        (f"{line('good', ONE)}\n{BARE}", "master key 2 has not 32 bytes"),
        (f"{line('good', ONE)}\n{BARE}:2026", "master key 2 has not 32 bytes"),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_never_quoted(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        Keyring.parse(text)
    told = str(refused.value)
    for entry in filter(None, text.replace(",", "\n").splitlines()):
        for part in (entry, *entry.split(":")):
            assert len(part.strip()) < 8 or part.strip() not in told
    assert refused.value.__cause__ is None


@given(text=st.text(max_size=60) | st.text("abc:=,\n +/019", max_size=80))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    try:
        keyring = Keyring.parse(text)
    except ValueError as refused:
        assert len(text) < 8 or text not in str(refused)  # noqa: PT017 - refusing is optional here
    else:
        assert keyring.fingerprints


@pytest.mark.parametrize("keys", [{}, {"": ONE}, {"a b": ONE}, {"a": b""}, {"a": ONE + b"x"}])
def test_a_keyring_of_anything_else_cannot_be_made(keys: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="master key"):
        Keyring(keys)
