import hmac
import json
from collections.abc import Mapping as Table
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vault import envelope as module
from services.vault.credential import Mapping, Org, OrgKey, OrgState, Pointer, Record, RecordName, Resource, Stored
from services.vault.envelope import Envelope
from services.vault.keyring import Keyring
from services.vault.local_key import LocalKey
from services.vault.seal import Unreadable, associated_data
from tenantvault.v1 import credential_pb2 as pb

VECTORS = json.loads(Path("tests/vectors/seal.json").read_text())

PAYLOAD = b"a payload"
UNTIL = datetime(2026, 11, 24, 10, 30, 15, 123456, tzinfo=UTC)
INBOUND = Resource("vapi_assistant", "assistant-1", "inbound")
OUTBOUND = Resource("vapi_assistant", "assistant-2", "outbound")
POINTER = Pointer(
    provider="vapi",
    version=3,
    latest_version=4,
    is_active=True,
    previous_version=2,
    previous_until=UNTIL,
    registered=17,
    resources=1,
)
ORG = Org(org_id="acme", generation=21)


class CountingKeys:
    """Master keys that count how often they are asked."""

    def __init__(self) -> None:
        self._keyring = Keyring([LocalKey("m", bytes(range(32)))])
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


async def stored(
    envelope: Envelope, key: OrgKey, *resources: Resource, pointer: Pointer = POINTER, org: Org = ORG
) -> Stored:
    """What a vault would have written."""
    return Stored(
        org_id=org.org_id,
        org_state=org.state,
        generation=org.generation,
        pointer=pointer,
        mac=await envelope.vouch(key, org, pointer),
        key=key,
        mappings=[await mapped(envelope, key, resource, pointer) for resource in resources],
    )


async def mapped(envelope: Envelope, key: OrgKey, resource: Resource, pointer: Pointer = POINTER) -> Mapping:
    mac = await envelope.vouch_mapping(key, pointer.provider, resource, pointer.registered)
    return Mapping(key.org_id, pointer.provider, resource, mac)


# Records.


async def test_a_record_opens_under_its_name(envelope: Envelope, key: OrgKey, name: RecordName) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    assert (await envelope.unlock(Record(name, sealed, key))).open() == PAYLOAD


@pytest.mark.parametrize(
    "change", [{"org_id": "globex"}, {"provider": "twilio"}, {"version": 2}, {"version": 4}, {"key_id": "k"}], ids=str
)
async def test_a_record_does_not_open_under_another_name(
    envelope: Envelope, key: OrgKey, name: RecordName, change: dict[str, Any]
) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    record = await envelope.unlock(Record(replace(name, **change), sealed, key))
    with pytest.raises(Unreadable):
        record.open()


async def test_a_record_does_not_open_as_another_kind_of_message(
    envelope: Envelope, key: OrgKey, name: RecordName, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    monkeypatch.setattr(module, "SCHEMA", "tenantvault.v2.Credential")
    record = await envelope.unlock(Record(name, sealed, key))
    with pytest.raises(Unreadable):
        record.open()


def test_the_schema_is_the_name_of_what_is_sealed() -> None:
    assert pb.Credential.DESCRIPTOR.full_name == module.SCHEMA


async def test_a_record_does_not_open_under_another_orgs_key(envelope: Envelope, key: OrgKey, name: RecordName) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    theirs = await envelope.new_key("globex")
    with pytest.raises(Unreadable):
        await envelope.unlock(Record(name, sealed, theirs))


async def test_a_wrapped_org_key_is_no_record_and_no_record_a_wrapped_key(
    envelope: Envelope, key: OrgKey, name: RecordName
) -> None:
    with pytest.raises(Unreadable):
        await envelope.unlock(Record(name, key.wrapped, key))
    planted = replace(key, wrapped=await envelope.seal(key, name, bytes(32)))
    with pytest.raises(Unreadable):
        await envelope.unlock(Record(name, b"", planted))


# Keys.


async def test_each_new_key_is_another(envelope: Envelope) -> None:
    made = [await envelope.new_key("acme") for _ in range(8)]
    assert 8 == len({key.key_id for key in made}) == len({key.wrapped for key in made})


async def test_a_key_is_unwrapped_once_for_all_that_it_does(
    envelope: Envelope, keys: CountingKeys, key: OrgKey, name: RecordName
) -> None:
    sealed = await envelope.seal(key, name, PAYLOAD)
    for _ in range(3):
        again = replace(key)
        assert (await envelope.unlock(Record(name, sealed, again))).open() == PAYLOAD
        assert await envelope.trusts(await stored(envelope, again, INBOUND))
        assert await envelope.trusts_mapping(again, await mapped(envelope, again, INBOUND), POINTER)
    assert [key] == keys.unwrapped


@pytest.mark.parametrize("field", ["org_id", "key_id", "master_key_id", "wrapped"])
async def test_a_key_row_that_was_changed_is_not_served_from_memory(
    envelope: Envelope, key: OrgKey, name: RecordName, field: str
) -> None:
    sealed, written = await envelope.seal(key, name, PAYLOAD), await stored(envelope, key, INBOUND)
    changed = replace(key, **{field: getattr(key, field) + (b"!" if field == "wrapped" else "x")})
    for use in (
        envelope.unlock(Record(name, sealed, changed)),
        envelope.seal(changed, name, PAYLOAD),
        envelope.vouch(changed, ORG, POINTER),
        envelope.vouch_mapping(changed, "vapi", INBOUND, 17),
        envelope.trusts(replace(written, key=changed)),
        envelope.trusts_mapping(changed, written.mappings[0], POINTER),
    ):
        with pytest.raises(Unreadable):
            await use


async def test_a_key_that_does_not_unwrap_is_not_remembered(keys: CountingKeys, key: OrgKey, name: RecordName) -> None:
    envelope = Envelope(keys)
    bad = replace(key, wrapped=b"")
    for _ in range(2):
        with pytest.raises(Unreadable):
            await envelope.unlock(Record(name, b"", bad))
    assert [bad, bad] == keys.unwrapped


async def test_the_unwrapped_keys_in_memory_are_bounded_and_the_least_used_goes_first(keys: CountingKeys) -> None:
    envelope = Envelope(keys, cached_keys=2)
    first, second, third = [await envelope.new_key(org) for org in ("a", "b", "c")]
    for used in (first, second, first, third, first, second):
        await envelope.vouch(used, ORG, POINTER)
    assert [first, second, third, second] == keys.unwrapped
    assert 2 == len(envelope._keys)


async def test_an_org_that_is_forgotten_has_no_key_in_memory(keys: CountingKeys, envelope: Envelope) -> None:
    mine, rotated, theirs = [await envelope.new_key(org) for org in ("acme", "acme", "globex")]
    for used in (mine, rotated, theirs):
        await envelope.vouch(used, ORG, POINTER)
    envelope.forget("acme")
    envelope.forget("nobody")
    assert [theirs] == list(envelope._keys)
    await envelope.vouch(mine, ORG, POINTER)
    assert [mine, rotated, theirs, mine] == keys.unwrapped


async def test_when_all_are_forgotten_none_stays_in_memory_nor_one_that_is_just_unwrapped(
    keys: CountingKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = Envelope(keys, cached_keys=2)
    first, second = [await envelope.new_key(org) for org in ("acme", "globex")]
    await envelope.vouch(first, ORG, POINTER)
    unwrap = keys.unwrap

    async def late(key: OrgKey) -> bytes:
        unwrapped = await unwrap(key)
        envelope.forget_all()
        return unwrapped

    with monkeypatch.context() as patched:
        patched.setattr(keys, "unwrap", late)
        await envelope.vouch(second, ORG, POINTER)
    assert 0 == len(envelope._keys)
    for key in (first, second, first):
        await envelope.vouch(key, ORG, POINTER)
    assert [first, second, first, second] == keys.unwrapped


async def test_no_key_shows_itself(envelope: Envelope, key: OrgKey, name: RecordName) -> None:
    await envelope.seal(key, name, PAYLOAD)
    [unwrapped] = envelope._keys.values()
    assert "_Unwrapped()" == repr(unwrapped)
    assert 32 == len(unwrapped.seal_key) == len(unwrapped.mac_key)
    assert unwrapped.seal_key != unwrapped.mac_key


# Proofs of a pointer.

# For each field something else than POINTER has.
OTHER_POINTERS: Final[Table[str, list[Any]]] = {
    "provider": ["twilio", "", "vap", "vapii"],
    "version": [2, 4, 0],
    "latest_version": [3, 5, 2**53],
    "is_active": [False],
    "previous_version": [1, 3, 0],
    "previous_until": [None, UNTIL + timedelta(microseconds=1), UNTIL - timedelta(microseconds=1)],
    "registered": [16, 18, 0],
    "resources": [0, 2],
}
POINTER_CHANGES = [{field: other} for field, others in OTHER_POINTERS.items() for other in others]


def test_every_field_of_a_pointer_is_tried() -> None:
    assert {field.name for field in fields(Pointer)} == OTHER_POINTERS.keys()
    assert not any(getattr(POINTER, field) in others for field, others in OTHER_POINTERS.items())


async def test_what_was_vouched_for_is_trusted(envelope: Envelope, key: OrgKey) -> None:
    written = await stored(envelope, key, INBOUND)
    assert 32 == len(written.mac) == len(written.mappings[0].mac)
    assert await envelope.trusts(written)
    two = replace(POINTER, resources=2)
    assert await envelope.trusts(await stored(envelope, key, INBOUND, OUTBOUND, pointer=two))
    bare = Pointer(provider="vapi", latest_version=1)
    assert await envelope.trusts(await stored(envelope, key, pointer=bare))


@pytest.mark.parametrize("change", POINTER_CHANGES, ids=str)
async def test_a_proof_is_of_every_field_of_a_pointer(envelope: Envelope, key: OrgKey, change: dict[str, Any]) -> None:
    written, other = await stored(envelope, key, INBOUND), replace(POINTER, **change)
    assert not await envelope.trusts(replace(written, pointer=other))
    assert written.mac != await envelope.vouch(key, ORG, other)
    # Not for want of the mappings that would fit it, either.
    fitting = await stored(envelope, key, *[INBOUND, OUTBOUND][: other.resources], pointer=other)
    assert await envelope.trusts(fitting)
    assert not await envelope.trusts(replace(fitting, mac=written.mac))


@pytest.mark.parametrize(
    "change",
    [
        {"org_id": "globex"},
        {"org_id": ""},
        {"state": OrgState.FROZEN},
        {"state": OrgState.SHREDDED},
        {"generation": 20},
        {"generation": 22},
    ],
    ids=str,
)
async def test_a_proof_is_of_the_org_its_state_and_its_generation(
    envelope: Envelope, key: OrgKey, change: dict[str, Any]
) -> None:
    written, other = await stored(envelope, key, INBOUND), replace(ORG, **change)
    assert written.mac != await envelope.vouch(key, other, POINTER)
    assert not await envelope.trusts(
        replace(written, org_id=other.org_id, org_state=other.state, generation=other.generation)
    )


async def test_a_proof_is_of_one_key(envelope: Envelope, key: OrgKey) -> None:
    written = await stored(envelope, key, INBOUND)
    for another in (await envelope.new_key("acme"), await envelope.new_key("globex")):
        assert not await envelope.trusts(replace(written, key=another))
        assert not await envelope.trusts_mapping(another, written.mappings[0], POINTER)


async def test_a_proof_says_which_of_the_orgs_keys_it_is_made_with(key: OrgKey) -> None:
    """One key under two ids is two keys, so that a row's key cannot be renamed to an old one."""

    class Fixed(CountingKeys):
        async def unwrap(self, key: OrgKey) -> bytes:
            return bytes(32)

    envelope = Envelope(Fixed())
    renamed = replace(key, key_id="another")
    assert await envelope.vouch(key, ORG, POINTER) != await envelope.vouch(renamed, ORG, POINTER)
    assert await envelope.vouch_mapping(key, "vapi", INBOUND, 1) != await envelope.vouch_mapping(
        renamed, "vapi", INBOUND, 1
    )
    # Under which master key it is wrapped is not said: that changes while everything is read.
    rewrapped = replace(key, master_key_id="another", wrapped=b"anew")
    assert await envelope.vouch(key, ORG, POINTER) == await envelope.vouch(rewrapped, ORG, POINTER)


async def test_without_a_key_nothing_is_trusted(envelope: Envelope, key: OrgKey) -> None:
    assert not await envelope.trusts(replace(await stored(envelope, key, INBOUND), key=None))


@pytest.mark.parametrize("mac", [b"", bytes(31), bytes(32), bytes(33)])
async def test_a_forged_proof_does_not_hold(envelope: Envelope, key: OrgKey, mac: bytes) -> None:
    written = await stored(envelope, key, INBOUND)
    assert not await envelope.trusts(replace(written, mac=mac))
    forged = replace(written.mappings[0], mac=mac)
    assert not await envelope.trusts(replace(written, mappings=[forged]))
    assert not await envelope.trusts_mapping(key, forged, POINTER)


async def test_a_proof_with_any_bit_changed_or_cut_or_longer_does_not_hold(envelope: Envelope, key: OrgKey) -> None:
    written = await stored(envelope, key, INBOUND)
    [mapping] = written.mappings
    for bit in range(256):
        mac = (int.from_bytes(written.mac) ^ 1 << bit).to_bytes(32)
        assert not await envelope.trusts(replace(written, mac=mac))
        mac = (int.from_bytes(mapping.mac) ^ 1 << bit).to_bytes(32)
        assert not await envelope.trusts_mapping(key, replace(mapping, mac=mac), POINTER)
    for mac in (written.mac[:-1], written.mac + b"\0"):
        assert not await envelope.trusts(replace(written, mac=mac))


@pytest.mark.parametrize(
    "change",
    [
        {"version": -1},
        {"latest_version": -1},
        {"previous_version": -1},
        {"registered": -1},
        {"resources": -1},
        {"previous_until": datetime(1969, 12, 31, tzinfo=UTC)},
        # As the driver gives a time without end.
        {"previous_until": datetime.max},  # noqa: DTZ901 - that it has no zone is the point
        {"previous_until": datetime.min},  # noqa: DTZ901 - the same
    ],
    ids=str,
)
async def test_numbers_and_times_that_no_vault_wrote_are_not_trusted(
    envelope: Envelope, key: OrgKey, change: dict[str, Any]
) -> None:
    written = await stored(envelope, key, INBOUND)
    assert not await envelope.trusts(replace(written, pointer=replace(POINTER, **change)))
    assert not await envelope.trusts(replace(written, generation=-1))


async def test_a_time_is_the_moment_whatever_zone_it_is_told_in(envelope: Envelope, key: OrgKey) -> None:
    elsewhere = replace(POINTER, previous_until=UNTIL.astimezone(timezone(timedelta(hours=5, minutes=45))))
    assert await envelope.vouch(key, ORG, POINTER) == await envelope.vouch(key, ORG, elsewhere)


@given(
    one=st.lists(st.integers(0, 3), min_size=5, max_size=5), other=st.lists(st.integers(0, 3), min_size=5, max_size=5)
)
def test_numbers_do_not_change_places_unnoticed(one: list[int], other: list[int]) -> None:
    def claim(numbers: list[int]) -> bytes:
        version, latest, previous, registered, resources = numbers
        pointer = Pointer(
            provider="vapi",
            version=version,
            latest_version=latest,
            previous_version=previous,
            registered=registered,
            resources=resources,
        )
        return module._pointer_claim(OrgKey("acme", "k1", "m", b""), "acme", OrgState.ACTIVE, 1, pointer)

    assert (claim(one) == claim(other)) == (one == other)


# Proofs of the directory.


@pytest.mark.parametrize(
    "change",
    [
        {"resource": replace(INBOUND, kind="phone_number")},
        {"resource": replace(INBOUND, resource_id="assistant-2")},
        {"resource": replace(INBOUND, role="outbound")},
        {"resource": replace(INBOUND, role="")},
        # The letters are the same, and stand in other fields.
        {"resource": Resource("vapi_assistantassistant-1", "", "inbound")},
        {"provider": "twilio"},
    ],
    ids=str,
)
async def test_a_proof_of_a_mapping_is_of_every_part_of_it(
    envelope: Envelope, key: OrgKey, change: dict[str, Any]
) -> None:
    written = await stored(envelope, key, INBOUND)
    [mapping] = written.mappings
    assert await envelope.trusts_mapping(key, mapping, POINTER)
    changed = replace(mapping, **change)
    assert not await envelope.trusts_mapping(key, changed, POINTER)
    assert not await envelope.trusts(replace(written, mappings=[changed]))


async def test_a_proof_of_a_mapping_is_of_the_time_of_its_registering(envelope: Envelope, key: OrgKey) -> None:
    mapping = await mapped(envelope, key, INBOUND)
    for registered in (16, 18, 0):
        later = replace(POINTER, registered=registered)
        assert not await envelope.trusts_mapping(key, mapping, later)
        renewed = await stored(envelope, key, INBOUND, pointer=later)
        assert await envelope.trusts(renewed)
        assert not await envelope.trusts(replace(renewed, mappings=[mapping]))
    # Whatever else changed meanwhile, it is the same mapping.
    assert await envelope.trusts_mapping(key, mapping, replace(POINTER, version=4, is_active=False, resources=0))


async def test_a_mapping_of_one_org_is_none_of_anothers(envelope: Envelope, key: OrgKey) -> None:
    theirs = await envelope.new_key("globex")
    mapping = await mapped(envelope, theirs, INBOUND)
    assert not await envelope.trusts_mapping(key, replace(mapping, org_id="acme"), POINTER)
    written = await stored(envelope, key, INBOUND)
    assert not await envelope.trusts(replace(written, mappings=[replace(mapping, org_id="acme")]))


@pytest.mark.parametrize(
    "resources", [[], [INBOUND], [INBOUND, OUTBOUND, INBOUND], [INBOUND, INBOUND, OUTBOUND]], ids=len
)
async def test_there_are_as_many_mappings_as_the_pointer_says(
    envelope: Envelope, key: OrgKey, resources: list[Resource]
) -> None:
    pointer = replace(POINTER, resources=2)
    written = await stored(envelope, key, INBOUND, OUTBOUND, pointer=pointer)
    mappings = [await mapped(envelope, key, resource, pointer) for resource in resources]
    assert await envelope.trusts(written)
    assert not await envelope.trusts(replace(written, mappings=mappings))


async def test_mappings_may_come_in_any_order(envelope: Envelope, key: OrgKey) -> None:
    written = await stored(envelope, key, INBOUND, OUTBOUND, pointer=replace(POINTER, resources=2))
    assert await envelope.trusts(replace(written, mappings=written.mappings[::-1]))


@pytest.mark.parametrize("broken", [0, 1, 2])
async def test_one_mapping_that_was_changed_is_enough(envelope: Envelope, key: OrgKey, broken: int) -> None:
    third = replace(INBOUND, resource_id="assistant-3")
    written = await stored(envelope, key, INBOUND, OUTBOUND, third, pointer=replace(POINTER, resources=3))
    mappings = list(written.mappings)
    mappings[broken] = replace(mappings[broken], resource=replace(mappings[broken].resource, role="other"))
    assert not await envelope.trusts(replace(written, mappings=mappings))


async def test_a_proof_of_a_mapping_is_none_of_a_pointer_nor_of_a_record(envelope: Envelope, key: OrgKey) -> None:
    """Each claim says what it is before anything else."""
    claims = (
        module._pointer_claim(key, "acme", OrgState.ACTIVE, 1, POINTER),
        module._mapping_claim(key, "vapi", INBOUND, 1),
        module._associated(RecordName("acme", "vapi", 1, key.key_id)),
    )
    kinds = (b"tenantvault/pointer", b"tenantvault/mapping", b"tenantvault/record")
    for claim, kind in zip(claims, kinds, strict=True):
        assert claim.startswith(len(kind).to_bytes(4) + kind)


# What must hold for ever.


class OneKey:
    """Master keys under which each org's key is the bytes 0 to 31."""

    async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
        raise NotImplementedError

    async def unwrap(self, key: OrgKey) -> bytes:
        return bytes(range(32))


def mac_by_hand(*parts: str | int) -> bytes:
    """HMAC-SHA256 over the parts under what HKDF-SHA256 (RFC 5869) makes of the bytes 0 to 31."""
    extracted = hmac.digest(bytes(32), bytes(range(32)), "sha256")
    mac_key = hmac.digest(extracted, b"tenantvault/row-mac/1\x01", "sha256")
    return hmac.digest(mac_key, associated_data(*parts), "sha256")


GOLDEN_KEY = OrgKey("acme", "6c6f6e672d676f6e65206b6579206964", "any", b"any")

# Rows with these proofs are in databases: they are never made again.
POINTER_MAC: Final = "07e1e85afdfd9a7e49a6a4686e263f3403c5ce57d5ea6c85109be72f3ab06062"
FIRST_POINTER_MAC: Final = "33e7a1c48bf86f786a619630081a5b65c9315a4b252beb9b297eb11fb820cc40"
MAPPING_MAC: Final = "00f17e5f866460e20bffffa7eb57bddf7a0cf36bbfbd57ef06d83c6fc0e4a002"


async def test_a_pointer_that_was_vouched_for_in_the_past_is_trusted_for_ever() -> None:
    envelope, micros = Envelope(OneKey()), 1795516215123456
    mac = await envelope.vouch(GOLDEN_KEY, ORG, POINTER)
    parts = ("acme", GOLDEN_KEY.key_id, "active", 21, "vapi", 3, 4, 1, 2, micros, 17, 1)
    assert mac_by_hand("tenantvault/pointer", *parts) == mac
    assert POINTER_MAC == mac.hex()
    first = Org(org_id="acme", generation=1)
    mac = await envelope.vouch(GOLDEN_KEY, first, Pointer(provider="vapi", latest_version=1))
    assert FIRST_POINTER_MAC == mac.hex()


async def test_a_mapping_that_was_vouched_for_in_the_past_is_trusted_for_ever() -> None:
    mac = await Envelope(OneKey()).vouch_mapping(GOLDEN_KEY, "vapi", INBOUND, 17)
    parts = ("acme", GOLDEN_KEY.key_id, "vapi", "vapi_assistant", "assistant-1", "inbound", 17)
    assert mac_by_hand("tenantvault/mapping", *parts) == mac
    assert MAPPING_MAC == mac.hex()


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda vector: f"{vector['org_id']} {vector['version']}")
async def test_a_record_of_the_past_opens_for_ever(vector: dict[str, Any]) -> None:
    envelope = Envelope(Keyring.parse(VECTORS["keyring"]["text"]))
    key = OrgKey(vector["org_id"], vector["key_id"], vector["master_key_id"], bytes.fromhex(vector["wrapped_key"]))
    name = RecordName(vector["org_id"], vector["provider"], vector["version"], vector["key_id"])
    record = await envelope.unlock(Record(name, bytes.fromhex(vector["sealed"]), key))
    assert vector["payload"] == record.open().hex()
    assert vector["provider"] == pb.Credential.FromString(record.open()).WhichOneof("kind")
