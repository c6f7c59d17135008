import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vault.aws_kms import AwsKmsKey
from services.vault.credential import OrgKey
from services.vault.keyring import SCHEMES, Keyring, MasterKey
from services.vault.local_key import LocalKey
from services.vault.seal import Unreadable
from tenantvault.errors import VaultUnavailable

VECTORS = json.loads(Path("tests/vectors/seal.json").read_text())

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
ORG_KEY = bytes(range(64, 96))
ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
KMS = f"kms-1:aws-kms:{ARN}"


def line(key_id: str, key: bytes) -> str:
    return f"{key_id}:{base64.b64encode(key).decode()}"


@dataclass(frozen=True, slots=True)
class RemoteKey:
    """A master key that is kept elsewhere, and may be away."""

    key_id: str
    away: bool = False
    fingerprint: bytes = bytes(16)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def wrap(self, key: bytes, *, org_id: str, org_key_id: str) -> bytes:
        self.asked.append(("wrap", org_id, org_key_id))
        if self.away:
            raise VaultUnavailable
        return self.key_id.encode() + key

    async def unwrap(self, wrapped: bytes, *, org_id: str, org_key_id: str) -> bytes:
        self.asked.append(("unwrap", org_id, org_key_id))
        if self.away:
            raise VaultUnavailable
        return wrapped.removeprefix(self.key_id.encode())


def test_the_first_line_is_the_key_that_wraps() -> None:
    keyring = Keyring.parse(f"{line('2026-11', TWO)}\n{line('2025', ONE)}\n")
    assert "2026-11" == keyring.wrapping
    assert "Keyring(2026-11, 2025)" == repr(keyring)


@pytest.mark.parametrize("parted", ["\n", ",", "\r\n", " ,\n ,", "\n\n\n"])
def test_lines_or_commas_part_the_keys(parted: str) -> None:
    keyring = Keyring.parse(f" {line('b', TWO)}{parted}{KMS}{parted}{line('a', ONE)} ")
    assert ["b", "kms-1", "a"] == list(keyring.fingerprints)


@pytest.mark.parametrize("text", [f"{line('local', ONE)}\n{KMS}", f"{KMS}\n{line('local', ONE)}"])
async def test_keys_of_every_kind_are_parsed_and_the_first_wraps(text: str) -> None:
    keyring = Keyring.parse(text)
    local = LocalKey("local", ONE)
    kms = AwsKmsKey.open("kms-1", ARN)
    assert {"local": local.fingerprint, "kms-1": kms.fingerprint} == keyring.fingerprints
    assert text.partition(":")[0] == keyring.wrapping
    # The local one unwraps wherever it stands.
    wrapped = await local.wrap(ORG_KEY, org_id="acme", org_key_id="k1")
    assert await keyring.unwrap(OrgKey("acme", "k1", "local", wrapped)) == ORG_KEY


def test_every_scheme_that_is_named_makes_a_key() -> None:
    places = {"aws-kms": ARN}
    assert places.keys() == SCHEMES.keys()
    for scheme, place in places.items():
        assert "some" == SCHEMES[scheme]("some", place).key_id


async def test_the_first_wraps_and_all_unwrap() -> None:
    old, both = Keyring.parse(line("old", ONE)), Keyring.parse(f"{line('new', TWO)},{line('old', ONE)}")
    wrapped_before = await old.wrap("acme", "k1", ORG_KEY)
    wrapped_now = await both.wrap("acme", "k2", ORG_KEY)
    assert ("acme", "k1", "old") == (wrapped_before.org_id, wrapped_before.key_id, wrapped_before.master_key_id)
    assert ("acme", "k2", "new") == (wrapped_now.org_id, wrapped_now.key_id, wrapped_now.master_key_id)
    assert ORG_KEY == await both.unwrap(wrapped_before)
    assert ORG_KEY == await both.unwrap(wrapped_now)
    with pytest.raises(Unreadable):
        await old.unwrap(wrapped_now)


async def test_only_the_key_that_is_meant_is_asked() -> None:
    first, second = RemoteKey("first"), RemoteKey("second")
    keyring = Keyring([first, second])
    key = await keyring.wrap("acme", "k1", ORG_KEY)
    assert OrgKey("acme", "k1", "first", b"first" + ORG_KEY) == key
    assert ORG_KEY == await keyring.unwrap(OrgKey("globex", "k2", "second", b"second" + ORG_KEY))
    assert [("wrap", "acme", "k1")] == first.asked
    assert [("unwrap", "globex", "k2")] == second.asked
    with pytest.raises(Unreadable):
        await keyring.unwrap(replace(key, master_key_id="third"))
    assert 2 == len(first.asked) + len(second.asked)


async def test_a_key_that_is_away_is_not_unreadable() -> None:
    keyring = Keyring([RemoteKey("away", away=True), LocalKey("here", ONE)])
    with pytest.raises(VaultUnavailable):
        await keyring.wrap("acme", "k1", ORG_KEY)
    with pytest.raises(VaultUnavailable):
        await keyring.unwrap(OrgKey("acme", "k1", "away", b""))
    # Nothing is wrapped under another key instead, and what is under another unwraps.
    wrapped = await LocalKey("here", ONE).wrap(ORG_KEY, org_id="acme", org_key_id="k1")
    assert ORG_KEY == await keyring.unwrap(OrgKey("acme", "k1", "here", wrapped))


@pytest.mark.parametrize(
    "change",
    [{"org_id": "globex"}, {"key_id": "k2"}, {"master_key_id": "spare"}, {"master_key_id": "unknown"}],
    ids=str,
)
async def test_a_wrapped_key_that_was_moved_does_not_unwrap(change: dict[str, Any]) -> None:
    # The spare is the same key under another name, so that only the name can be what is refused.
    keyring = Keyring([LocalKey("m", ONE), LocalKey("spare", ONE)])
    key = await keyring.wrap("acme", "k1", ORG_KEY)
    assert ORG_KEY == await keyring.unwrap(key)
    with pytest.raises(Unreadable):
        await keyring.unwrap(replace(key, **change))


async def test_another_key_of_the_same_name_does_not_unwrap() -> None:
    key = await Keyring([LocalKey("m", ONE)]).wrap("acme", "k1", ORG_KEY)
    with pytest.raises(Unreadable):
        await Keyring([LocalKey("m", TWO)]).unwrap(key)


@pytest.mark.parametrize(
    "vector", VECTORS["records"], ids=lambda vector: f"{vector['org_id']} {vector['provider']} {vector['version']}"
)
async def test_a_key_that_was_wrapped_in_the_past_unwraps_for_ever(vector: dict[str, Any]) -> None:
    keyring = Keyring.parse(VECTORS["keyring"]["text"])
    wrapped = bytes.fromhex(vector["wrapped_key"])
    key = await keyring.unwrap(OrgKey(vector["org_id"], vector["key_id"], vector["master_key_id"], wrapped))
    assert 32 == len(key)


def test_the_fingerprints_of_the_past_are_those_of_today() -> None:
    keyring = Keyring.parse(VECTORS["keyring"]["text"])
    assert VECTORS["keyring"]["fingerprints"] == {
        key_id: fingerprint.hex() for key_id, fingerprint in keyring.fingerprints.items()
    }
    assert next(iter(VECTORS["keyring"]["fingerprints"])) == keyring.wrapping


def test_a_keyring_shows_ids_only() -> None:
    keyring = Keyring([LocalKey("a", ONE), RemoteKey("b")])
    for shown in (repr(keyring), str(keyring), f"{keyring}"):
        assert "Keyring(a, b)" == shown


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
        (f"{line('good', ONE)}\nsecond:not base64", "master key 2: it is not of the form id:base64"),
        (f"{line('good', ONE)}\nsecond:{PADDED[:-1]}", "master key 2: it is not of the form id:base64"),
        (f"{line('good', ONE)}\nsecond:{BARE}", "master key 2: it is not of the form id:base64"),
        (f"{line('good', ONE)}\n{line('good', TWO)}", "master key 2 has an id that is there already"),
        (f"{line('kms-1', ONE)}\n{KMS}", "master key 2 has an id that is there already"),
        (f"{line('good', ONE)}\nsecond:{SHORT}", "master key 2: it has not 32 bytes"),
        (f"{line('good', ONE)}\nsecond:", "master key 2: it has not 32 bytes"),
        (f"{line('good', ONE)}\n{PADDED}", "master key 2: it has not 32 bytes"),
        (f"{line('good', ONE)}\n:{PADDED}", "master key 2 has no id"),
        (f"{line('good', ONE)}\nan id:{PADDED}", "master key 2 has no id"),
        (f"{line('good', ONE)}\n{'i' * 64}:{PADDED}", "master key 2 has no id"),
        (f"{line('good', ONE)}\n:aws-kms:{ARN}", "master key 2 has no id"),
        # A key without an id, in the alphabet that an id has too; and the two in the wrong order.
        (f"{line('good', ONE)}\n{BARE}", "master key 2: it has not 32 bytes"),
        (f"{line('good', ONE)}\n{BARE}:2026", "master key 2: it has not 32 bytes"),
        # A key service, by what is no ARN of a key, or that nobody knows.
        (f"{line('good', ONE)}\nsecond:aws-kms:", "master key 2: a master key in AWS KMS is given by its key's ARN"),
        (f"{line('good', ONE)}\nsecond:aws-kms:{ARN[:-37]}", "master key 2: a master key in AWS KMS is given by its"),
        (f"{line('good', ONE)}\nsecond:aws-kms:{PADDED}", "master key 2: a master key in AWS KMS is given by its"),
        (f"{line('good', ONE)}\nsecond:gcp-kms:{PADDED}", "master key 2: it is not of the form id:base64"),
        (f"{line('good', ONE)}\nsecond:aws-kms", "master key 2: it is not of the form id:base64"),
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


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [LocalKey("", ONE)],
        [LocalKey("a b", ONE)],
        [LocalKey("-a", ONE)],
        [LocalKey("a", ONE), LocalKey("a", TWO)],
        [LocalKey("a", ONE), RemoteKey("a")],
    ],
)
def test_a_keyring_of_anything_else_cannot_be_made(keys: Sequence[MasterKey]) -> None:
    with pytest.raises(ValueError, match="master key"):
        Keyring(keys)
