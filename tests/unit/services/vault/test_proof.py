from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from services.vault.audit import Chain, End, event_of
from services.vault.credential import Origin
from services.vault.proof import AuditProof, Verdict
from tenantvault.audit import GENESIS, VAULT_CHAIN, Head, Link

CHAIN = Chain.from_seed(bytes(range(32)))


class Written:
    """A chain of three events in the database, or of these changes, and what its org says of itself."""

    def __init__(self, org_id: str = "acme", changes: Sequence[int] = (1, 2, 3)) -> None:
        events = [
            event_of(Origin("provider"), org_id=org_id, action="credential.put", generation=number)
            for number in changes
        ]
        self.links, head = CHAIN.extend(org_id, End(), events)
        self.head: Head | None = head
        self.generations = (max(changes), max(changes))

    async def chain_of(self, _: str) -> AsyncIterator[Link | Head]:
        for link in self.links:
            yield link
        if self.head is not None:
            yield self.head

    async def generation(self, _: str) -> tuple[int, int]:
        return self.generations


async def proved(written: Written, org_id: str = "acme") -> Verdict:
    async def chain() -> Chain:
        return CHAIN

    return await AuditProof(written, chain).prove(org_id)


async def test_a_chain_as_it_was_written_proves() -> None:
    written = Written()
    assert Verdict(3, written.links[-1].hash) == await proved(written)


async def test_a_chain_to_which_nothing_ever_happened_proves() -> None:
    written = Written()
    written.links, written.head, written.generations = [], None, (0, 0)
    assert Verdict(0, GENESIS) == await proved(written)


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_event_that_was_changed_is_named(place: int) -> None:
    written = Written()
    link = written.links[place]
    written.links[place] = replace(link, event=replace(link.event, outcome="refused"))
    verdict = await proved(written)
    assert (place, place + 1) == (verdict.events, verdict.broken_sequence)
    assert f"event {place + 1} was changed" in verdict.problem


async def test_a_head_that_another_key_signed_is_no_proof_although_it_says_that_key() -> None:
    """Whoever can write rows can also write a public key."""
    written, forger = Written(), Chain.from_seed(bytes(32))
    assert written.head is not None
    _, written.head = forger.extend("acme", End(written.head.sequence, written.head.hash), [])
    verdict = await proved(written)
    assert (3, "the head is not signed by the vault's key") == (verdict.broken_sequence, verdict.problem)


async def test_a_head_of_another_org_is_no_proof() -> None:
    written = Written()
    written.head = Written("globex").head
    assert (await proved(written)).problem


async def test_an_org_that_was_set_back_is_named() -> None:
    written = Written()
    written.generations = (2, 3)
    verdict = await proved(written)
    assert 3 == verdict.broken_sequence
    assert "an old state was put back" in verdict.problem


async def test_an_end_that_was_cut_off_is_named() -> None:
    written = Written()
    written.generations = (4, 3)
    verdict = await proved(written)
    assert 4 == verdict.broken_sequence
    assert "its end is missing" in verdict.problem


@pytest.mark.parametrize("changes", [(0, 0), (1, 0, 2, 0, 0, 3, 0), (0, 7, 8, 0, 9)])
async def test_reads_between_changes_and_changes_from_before_there_was_a_chain_are_in_order(
    changes: tuple[int, ...],
) -> None:
    written = Written(changes=changes)
    assert Verdict(len(changes), written.links[-1].hash) == await proved(written)


@pytest.mark.parametrize(
    ("changes", "broken"), [((1, 2, 2), 3), ((1, 2, 0, 2, 3), 4), ((1, 2, 3, 2), 4), ((1, 3), 2), ((4, 5, 1), 3)]
)
async def test_a_change_that_does_not_follow_the_one_before_it_is_named_though_the_chain_itself_holds(
    changes: tuple[int, ...], broken: int
) -> None:
    """An old state that was put back goes on from where it was, and signs what it does."""
    written = Written(changes=changes)
    verdict = await proved(written)
    assert broken == verdict.broken_sequence
    assert f"event {broken} tells of change {changes[broken - 1]} and the one before it of change" in verdict.problem


async def test_the_public_key_is_that_of_the_key_that_signs_here() -> None:
    async def chain() -> Chain:
        return CHAIN

    assert CHAIN.public_key == await AuditProof(Written(), chain).public_key()


async def test_the_vaults_own_chain_has_no_org_to_be_compared_with() -> None:
    written = Written(VAULT_CHAIN)
    written.generations = (0, 3)
    assert Verdict(3, written.links[-1].hash) == await proved(written, VAULT_CHAIN)
