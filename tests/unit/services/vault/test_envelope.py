import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.vault import envelope as module
from services.vault.credential import OrgKey, RecordName, Resource
from services.vault.envelope import Envelope
from services.vault.keyring import Keyring
from services.vault.seal import Unreadable
from tenantvault.v1 import credential_pb2 as pb

VECTORS = json.loads(Path("tests/vectors/seal.json").read_text())

PAYLOAD = b"a payload"
INBOUND = Resource("vapi_assistant", "assistant-1", "inbound")


class CountingKeys:
    """Master keys that count how often they are asked."""

    def __init__(self) -> None:
        self._keyring = Keyring({"m": bytes(range(32))})
        self.unwrapped: list[OrgKey] = []

    async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
        return await self._keyring.wrap(org_id, key_id, key)

    async def unwrap(self, key: OrgKey) -> bytes:
        self.unwrapped.append(key)
        return await self._keyring.unwrap(key)


@pytest.fixture
def keys() -> CountingKeys:
    return CountingKeys()


@pytest.fixture
def envelope(keys: CountingKeys) -> Envelope:
    return Envelope(keys)


@pytest.fixture
async def key(envelope: Envelope) -> OrgKey:
    return await envelope.new_key("acme")


@pytest.fixture
def name(key: OrgKey) -> RecordName:
    return RecordName("acme", "vapi", 3, key.key_id)


async def test_a_record_opens_under_its_name(envelope: Envelope, key: OrgKey, name: RecordName) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    assert (await envelope.unlock(key, name, sealed)).open() == PAYLOAD


@pytest.mark.parametrize(
    "change", [{"org_id": "globex"}, {"provider": "twilio"}, {"version": 2}, {"version": 4}, {"key_id": "k"}], ids=str
)
async def test_a_record_does_not_open_under_another_name(
    envelope: Envelope, key: OrgKey, name: RecordName, change: dict[str, Any]
) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    record = await envelope.unlock(key, replace(name, **change), sealed)
    with pytest.raises(Unreadable):
        record.open()


async def test_a_record_does_not_open_as_another_kind_of_message(
    envelope: Envelope, key: OrgKey, name: RecordName, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    monkeypatch.setattr(module, "SCHEMA", "tenantvault.v2.Credential")
    record = await envelope.unlock(key, name, sealed)
    with pytest.raises(Unreadable):
        record.open()


def test_the_schema_is_the_name_of_what_is_sealed() -> None:
    assert pb.Credential.DESCRIPTOR.full_name == module.SCHEMA


async def test_a_record_does_not_open_under_another_orgs_key(envelope: Envelope, key: OrgKey, name: RecordName) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    theirs = await envelope.new_key("globex")
    with pytest.raises(Unreadable):
        await envelope.unlock(theirs, name, sealed)


async def test_a_wrapped_org_key_is_no_record_and_no_record_a_wrapped_key(
    envelope: Envelope, key: OrgKey, name: RecordName
) -> None:
    with pytest.raises(Unreadable):
        await envelope.unlock(key, name, key.wrapped)
    with pytest.raises(Unreadable):
        await envelope.unlock(replace(key, wrapped=await envelope.seal(key, name, bytes(32))), name, b"")


async def test_each_new_key_is_another(envelope: Envelope) -> None:
    made = [await envelope.new_key("acme") for _ in range(8)]
    assert 8 == len({key.key_id for key in made}) == len({key.wrapped for key in made})


async def test_a_key_is_unwrapped_once(envelope: Envelope, keys: CountingKeys, key: OrgKey, name: RecordName) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    for _ in range(5):
        assert (await envelope.unlock(replace(key), name, sealed)).open() == PAYLOAD
    assert [key] == keys.unwrapped


@pytest.mark.parametrize("field", ["org_id", "key_id", "master_key_id", "wrapped"])
async def test_a_key_row_that_was_changed_is_not_served_from_memory(
    envelope: Envelope, key: OrgKey, name: RecordName, field: str
) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    await envelope.unlock(key, name, sealed)
    changed = replace(key, **{field: getattr(key, field) + (b"!" if field == "wrapped" else "x")})
    with pytest.raises(Unreadable):
        await envelope.unlock(changed, name, sealed)
    with pytest.raises(Unreadable):
        await envelope.vouch(changed, "vapi", INBOUND)


async def test_a_key_that_does_not_unwrap_is_not_remembered(keys: CountingKeys, key: OrgKey, name: RecordName) -> None:
    envelope = Envelope(keys)
    bad = replace(key, wrapped=b"")
    for _ in range(2):
        with pytest.raises(Unreadable):
            await envelope.unlock(bad, name, b"")
    assert [bad, bad] == keys.unwrapped


async def test_the_unwrapped_keys_in_memory_are_bounded(keys: CountingKeys) -> None:
    envelope = Envelope(keys, cached_keys=2)
    made = [await envelope.new_key(org) for org in ("a", "b", "c")]
    for key in (*made, made[0]):
        await envelope.vouch(key, "vapi", INBOUND)
    assert [*made, made[0]] == keys.unwrapped


async def test_a_proof_holds_for_what_was_said_only(envelope: Envelope, key: OrgKey) -> None:
    mac = await envelope.vouch(key, "vapi", INBOUND)
    assert 32 == len(mac)
    assert await envelope.vouched(key, "vapi", INBOUND, mac)
    assert not await envelope.vouched(key, "twilio", INBOUND, mac)
    for change in ({"kind": "phone_number"}, {"resource_id": "assistant-2"}, {"role": "outbound"}, {"role": ""}):
        assert not await envelope.vouched(key, "vapi", replace(INBOUND, **change), mac)


async def test_a_proof_of_one_org_is_none_of_another(envelope: Envelope, key: OrgKey) -> None:
    theirs = await envelope.new_key("globex")
    assert not await envelope.vouched(theirs, "vapi", INBOUND, await envelope.vouch(key, "vapi", INBOUND))


@pytest.mark.parametrize("forged", [b"", bytes(31), bytes(32), bytes(33)])
async def test_a_forged_proof_does_not_hold(envelope: Envelope, key: OrgKey, forged: bytes) -> None:
    assert not await envelope.vouched(key, "vapi", INBOUND, forged)


async def test_a_proof_with_any_bit_changed_does_not_hold(envelope: Envelope, key: OrgKey) -> None:
    mac = await envelope.vouch(key, "vapi", INBOUND)
    for bit in range(256):
        changed = (int.from_bytes(mac) ^ 1 << bit).to_bytes(32)
        assert not await envelope.vouched(key, "vapi", INBOUND, changed)


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.parse(VECTORS["keyring"]["text"])


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda vector: f"{vector['org_id']} {vector['version']}")
async def test_a_record_of_the_past_opens_for_ever(vector: dict[str, Any], keyring: Keyring) -> None:
    envelope = Envelope(keyring)
    key = OrgKey(vector["org_id"], vector["key_id"], vector["master_key_id"], bytes.fromhex(vector["wrapped_key"]))
    name = RecordName(vector["org_id"], vector["provider"], vector["version"], vector["key_id"])
    record = await envelope.unlock(key, name, bytes.fromhex(vector["sealed"]))
    assert vector["payload"] == record.open().hex()
    assert vector["provider"] == pb.Credential.FromString(record.open()).WhichOneof("kind")
    assert vector["mac"] == (await envelope.vouch(key, vector["provider"], Resource(**vector["resource"]))).hex()


def test_the_fingerprints_of_the_past_are_those_of_today(keyring: Keyring) -> None:
    assert VECTORS["keyring"]["fingerprints"] == {
        key_id: fingerprint.hex() for key_id, fingerprint in keyring.fingerprints.items()
    }
