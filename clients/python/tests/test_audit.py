"""The audit chain: every way to tamper with it is found, and named where it begins."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tenantvault.audit import (
    GENESIS,
    VAULT_CHAIN,
    Broken,
    Event,
    Export,
    Head,
    Link,
    Prover,
    check_signature,
    event_hash,
    head_message,
    prove,
    to_lines,
)

ORG = "acme"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = KEY.public_key().public_bytes_raw()
LARGEST = 2**63 - 1

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.integers(0, LARGEST)
TIME = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
HASH = st.binary(min_size=32, max_size=32)
TEXTS = ["event_id", "peer", "on_behalf_of", "action", "provider", "outcome", "request_id"]
EVENT = st.builds(
    Event,
    org_id=st.just(ORG),
    occurred_at=TIME,
    version=NUMBER,
    generation=NUMBER,
    **dict.fromkeys(TEXTS, TEXT),
)
FIELD: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys([*TEXTS, "org_id"], TEXT),
    "occurred_at": TIME,
    "version": NUMBER,
    "generation": NUMBER,
}


def linked(events: list[Event]) -> list[Link]:
    links: list[Link] = []
    previous = GENESIS
    for number, event in enumerate(events, start=1):
        previous = event_hash(previous, number, event)
        links.append(Link(event, number, previous))
    return links


def signed(links: list[Link], key: Ed25519PrivateKey = KEY, org_id: str = ORG) -> Head:
    last = links[-1].hash if links else GENESIS
    signature = key.sign(head_message(org_id, len(links), last))
    return Head(org_id, len(links), last, signature, key.public_key().public_bytes_raw())


def chains(at_least: int = 1) -> st.SearchStrategy[list[Link]]:
    return st.lists(EVENT, min_size=at_least, max_size=6).map(linked)


def broken(links: list[Link], head: Head | None) -> tuple[int, str]:
    with pytest.raises(Broken) as caught:
        prove(links, head, check_signature)
    return caught.value.sequence, str(caught.value)


def another(old: Any, strategy: st.SearchStrategy[Any], data: st.DataObject) -> Any:
    return data.draw(strategy.filter(lambda new: new != old))


EXAMPLE = linked(
    [
        Event(
            event_id=f"00000000-0000-4000-8000-00000000000{number}",
            org_id=ORG,
            occurred_at=datetime(2026, 11, 24, 12, 30, number, 123456, tzinfo=UTC),
            peer="voice-agent",
            on_behalf_of="ada",
            action="credential.get",
            provider="vapi",
            version=number,
            outcome="ok",
            request_id=f"request-{number}",
            generation=0,
        )
        for number in range(4)
    ]
)


@given(chains(at_least=0))
def test_a_chain_that_was_left_alone_is_whole(links: list[Link]) -> None:
    assert len(links) == prove(iter(links), signed(links), check_signature)


def test_no_chain_is_whole() -> None:
    assert 0 == prove([], None, check_signature)


def test_the_hash_is_what_it_says() -> None:
    event = EXAMPLE[1].event
    microseconds = 1_795_523_401_123_456

    def part(value: bytes) -> bytes:
        return len(value).to_bytes(4, "big") + value

    parts = [
        b"tenantvault/audit-event/1",
        EXAMPLE[0].hash,
        (2).to_bytes(8, "big"),
        b"00000000-0000-4000-8000-000000000001",
        b"acme",
        microseconds.to_bytes(8, "big"),
        b"voice-agent",
        b"ada",
        b"credential.get",
        b"vapi",
        (1).to_bytes(8, "big"),
        b"ok",
        b"request-1",
        bytes(8),
    ]
    assert hashlib.sha256(b"".join(map(part, parts))).digest() == event_hash(EXAMPLE[0].hash, 2, event)
    assert (
        part(b"tenantvault/audit-head/1") + part(b"acme") + part((4).to_bytes(8, "big")) + part(EXAMPLE[3].hash)
        == signed(EXAMPLE).signed()
    )


def test_the_hash_of_a_chain_never_changes() -> None:
    # A chain that was written once must be proved by every later version.
    assert "63dbe2cec551702ca66008a683571729466cf53178ae363be599a8722c4010e1" == EXAMPLE[-1].hash.hex()


def test_the_hash_covers_every_field() -> None:
    assert {field.name for field in fields(Event)} == set(FIELD)


@given(EVENT, st.data())
def test_text_cannot_move_from_one_field_into_the_next(event: Event, data: st.DataObject) -> None:
    left, right = data.draw(st.sampled_from(list(pairwise(TEXTS))))
    moved = replace(event, **{left: getattr(event, left) + "x"})
    kept = replace(event, **{right: "x" + getattr(event, right)})

    assert event_hash(GENESIS, 1, moved) != event_hash(GENESIS, 1, kept)


@given(EVENT, st.integers(-14, 14))
def test_an_instant_has_one_hash_in_every_zone(event: Event, hours: int) -> None:
    event = replace(event, occurred_at=event.occurred_at.replace(year=2026, month=3, day=3))
    elsewhere = replace(event, occurred_at=event.occurred_at.astimezone(timezone(timedelta(hours=hours))))

    assert event_hash(GENESIS, 1, event) == event_hash(GENESIS, 1, elsewhere)


@given(chains(), st.data())
def test_an_event_that_was_changed_is_named(links: list[Link], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links) - 1))
    name = data.draw(st.sampled_from(sorted(FIELD)))
    head, old = signed(links), links[index]
    new = another(getattr(old.event, name), FIELD[name], data)
    links[index] = replace(old, event=replace(old.event, **{name: new}))

    assert index + 1 == broken(links, head)[0]


@given(chains(), st.data())
def test_a_hash_or_a_number_that_was_changed_is_named(links: list[Link], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links) - 1))
    head, old = signed(links), links[index]
    links[index] = data.draw(
        st.sampled_from(
            [
                replace(old, hash=another(old.hash, HASH | st.binary(max_size=33), data)),
                replace(old, sequence=another(old.sequence, st.integers(-1, 9) | NUMBER, data)),
            ]
        )
    )

    assert index + 1 == broken(links, head)[0]


@given(chains(at_least=2), st.data())
def test_an_event_that_was_changed_with_its_hash_breaks_the_next_one(links: list[Link], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links) - 2))
    head, old = signed(links), links[index]
    event = replace(old.event, outcome=another(old.event.outcome, TEXT, data))
    previous = links[index - 1].hash if index else GENESIS
    links[index] = Link(event, old.sequence, event_hash(previous, old.sequence, event))

    assert index + 2 == broken(links, head)[0]


@given(chains(), st.data())
def test_a_chain_that_was_written_anew_does_not_fit_its_head(links: list[Link], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links) - 1))
    events = [link.event for link in links]
    events[index] = replace(events[index], outcome=another(events[index].outcome, TEXT, data))

    sequence, problem = broken(linked(events), signed(links))
    assert (len(links), True) == (sequence, "not the one that the head was signed for" in problem)


@given(chains(), st.data())
def test_an_event_that_was_left_out_is_named(links: list[Link], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links) - 1))
    head = signed(links)
    rest = links[:index] + links[index + 1 :]
    numbered = [replace(link, sequence=number) for number, link in enumerate(rest, start=1)]

    assert index + 1 == broken(rest, head)[0]
    assert index + 1 == broken(numbered, head)[0]


@given(chains(), st.data())
def test_a_chain_that_was_cut_off_is_missing_what_came_next(links: list[Link], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(links) - 1))

    sequence, problem = broken(links[:kept], signed(links))
    assert (kept + 1, True) == (sequence, "is missing" in problem)


@given(chains(), EVENT, st.data())
def test_an_event_that_was_added_is_named(links: list[Link], event: Event, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(links)))
    head = signed(links)
    previous = links[index - 1].hash if index else GENESIS
    fitting = Link(event, index + 1, event_hash(previous, index + 1, event))
    strange = replace(fitting, hash=another(fitting.hash, HASH, data))
    rest = [replace(link, sequence=link.sequence + 1) for link in links[index:]]

    # One that fits what went before shows by the next one, which no longer does.
    expected = index + 1 if index == len(links) else index + 2
    assert expected == broken([*links[:index], fitting, *links[index:]], head)[0]
    assert expected == broken([*links[:index], fitting, *rest], head)[0]
    assert index + 1 == broken([*links[:index], strange, *rest], head)[0]


@given(chains(at_least=2), st.data())
def test_events_that_were_moved_are_named(links: list[Link], data: st.DataObject) -> None:
    first, second = sorted(data.draw(st.lists(st.integers(0, len(links) - 1), min_size=2, max_size=2, unique=True)))
    head = signed(links)
    moved = list(links)
    moved[first], moved[second] = moved[second], moved[first]
    numbered = [replace(link, sequence=number) for number, link in enumerate(moved, start=1)]

    assert first + 1 == broken(moved, head)[0]
    assert first + 1 == broken(numbered, head)[0]


@given(chains())
def test_events_without_a_head_are_not_whole(links: list[Link]) -> None:
    assert (len(links), "the chain has events and no head") == broken(links, None)


@pytest.mark.parametrize(
    ("edit", "sequence"),
    [
        ({"sequence": 3}, 4),
        ({"sequence": 5}, 5),
        ({"sequence": 0}, 1),
        ({"hash": EXAMPLE[2].hash}, 4),
        ({"hash": b""}, 4),
        ({"signature": bytes(64)}, 4),
        ({"signature": b""}, 4),
        ({"public_key": bytes(32)}, 4),
        ({"public_key": b""}, 4),
        ({"org_id": "globex"}, 1),
    ],
)
def test_a_head_that_was_changed_is_none(edit: dict[str, Any], sequence: int) -> None:
    assert sequence == broken(EXAMPLE, replace(signed(EXAMPLE), **edit))[0]


def test_a_head_that_was_signed_for_less_is_none() -> None:
    signature = signed(EXAMPLE[:3]).signature

    assert (4, "the head is not signed by the vault's key") == broken(
        EXAMPLE, replace(signed(EXAMPLE), signature=signature)
    )


def test_a_head_of_nothing_must_be_signed_too() -> None:
    head = signed([])

    assert 0 == prove([], head, check_signature)
    assert 0 == broken([], replace(head, signature=bytes(64)))[0]
    assert 0 == broken([], replace(head, hash=bytes([1]) * 32))[0]


def test_a_chain_that_was_forged_as_a_whole_is_found_with_the_vaults_key() -> None:
    forged = signed(EXAMPLE, key=Ed25519PrivateKey.generate())

    def with_the_vaults(_: bytes, signature: bytes, message: bytes) -> bool:
        return check_signature(PUBLIC_KEY, signature, message)

    assert 4 == prove(EXAMPLE, forged, check_signature)
    with pytest.raises(Broken, match="not signed by the vault's key"):
        prove(EXAMPLE, forged, with_the_vaults)


def test_a_chain_is_proved_as_it_comes() -> None:
    taken: list[int] = []

    def coming() -> Any:
        for link in [EXAMPLE[0], EXAMPLE[2], EXAMPLE[3]]:
            taken.append(link.sequence)
            yield link

    with pytest.raises(Broken):
        prove(coming(), signed(EXAMPLE), check_signature)
    assert [1, 3] == taken


@given(chains())
def test_a_prover_tells_how_far_it_is_and_goes_on_there(links: list[Link]) -> None:
    prover = Prover(ORG)
    for link in links:
        prover.add(link)
        assert (link.sequence, link.hash) == (prover.count, prover.last)
        resumed = Prover(ORG, prover.count, prover.last)

    assert len(links) == resumed.end(signed(links), check_signature) == prover.end(signed(links), check_signature)


@given(chains(at_least=2))
def test_what_a_prover_refused_changes_nothing_in_it(links: list[Link]) -> None:
    prover = Prover(ORG)
    with pytest.raises(Broken):
        prover.add(links[1])
    for link in links:
        prover.add(link)

    assert len(links) == prover.end(signed(links), check_signature)


def test_an_empty_chain_has_its_orgs_head_or_none() -> None:
    assert 0 == Prover(ORG).end(None, check_signature) == Prover(ORG).end(signed([]), check_signature)
    with pytest.raises(Broken):
        Prover("globex").end(signed([]), check_signature)


def test_the_vaults_own_chain_is_no_orgs() -> None:
    assert VAULT_CHAIN.startswith("_")


def test_a_signature_is_checked_as_rfc_8032_has_it() -> None:
    # Section 7.1, test 3.
    public = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
    signature = bytes.fromhex(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )

    assert check_signature(public, signature, bytes.fromhex("af82"))
    assert not check_signature(public, signature, bytes.fromhex("af83"))
    assert not check_signature(PUBLIC_KEY, signature, bytes.fromhex("af82"))


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33)])
def test_what_is_no_key_signs_nothing(public: bytes) -> None:
    assert not check_signature(public, bytes(64), b"")


@given(chains(at_least=0), st.sampled_from([signed, lambda _: None]))
def test_an_export_comes_back_as_it_was(links: list[Link], end: Callable[[list[Link]], Head | None]) -> None:
    head = end(links)
    lines = list(to_lines(links, head))

    assert Export(tuple(links), head) == Export.parse(lines)
    assert Export(tuple(links), head) == Export.parse(f"{line}\n\n" for line in lines)
    assert len(links) + (head is not None) == len(lines)
    assert all(line.isascii() and "\n" not in line for line in lines)


def test_an_export_is_written_as_it_comes() -> None:
    def coming() -> Any:
        yield EXAMPLE[0]
        raise AssertionError("more than was asked for")

    assert "request-0" in next(to_lines(coming(), None))


def edited(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda line: line.update(values)


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda line: line.pop(name)


@pytest.mark.parametrize(
    "edit",
    [
        *[without(name) for name in (*FIELD, "sequence", "hash")],
        *[edited(**{name: None}) for name in (*FIELD, "sequence", "hash")],
        *[edited(**{name: 7}) for name in (*TEXTS, "org_id", "occurred_at", "hash")],
        *[edited(**{name: value}) for name in ("sequence", "version", "generation") for value in ("1", 1.5, -1, 2**63)],
        edited(occurred_at="yesterday"),
        edited(occurred_at="2026-11-24T12:00:00"),
        edited(occurred_at="2026-13-24T12:00:00+00:00"),
        edited(hash="no hex"),
        edited(hash="0"),
        edited(head=None),
        edited(head=[]),
        edited(head={}),
        edited(head={"org_id": "acme", "sequence": "4", "hash": "", "signature": "", "public_key": ""}),
        edited(head={"org_id": "acme", "sequence": 4, "hash": "x", "signature": "", "public_key": ""}),
    ],
)
@pytest.mark.parametrize("number", [1, 3])
def test_a_line_with_a_bad_field_is_named(number: int, edit: Callable[[dict[str, Any]], None]) -> None:
    lines = list(to_lines(EXAMPLE, signed(EXAMPLE)))
    line = json.loads(lines[number - 1])
    edit(line)
    lines[number - 1] = json.dumps(line)

    with pytest.raises(ValueError, match=rf"^line {number} is none of an export"):
        Export.parse(lines)


@pytest.mark.parametrize(
    "line", ["{", "x", "null", "1", '""', '"head"', "[]", '["head"]', "{}", '{"head"', "{}{}", "\x00", "9" * 5000]
)
def test_a_line_that_is_something_else_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=r"^line 3 is none of an export"):
        Export.parse(["", *to_lines(EXAMPLE[:1], None), line])


def test_an_error_does_not_repeat_the_line() -> None:
    with pytest.raises(ValueError, match="line 1") as caught:
        Export.parse(['{"canary'])

    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__
