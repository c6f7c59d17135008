import asyncio
import os
from datetime import UTC, datetime

import pytest

from services.vault.audit import Chain, End, SigningKey, event_of
from services.vault.credential import OrgKey, Origin
from services.vault.keyring import Keyring
from services.vault.local_key import LocalKey
from services.vault.seal import Unreadable
from tenantvault.audit import GENESIS, VAULT_CHAIN, Event, check_signature, event_hash, prove
from tenantvault.errors import VaultUnavailable

SEED = bytes(range(32))
ORIGIN = Origin("operator", "ada@example.com", "request-0001")
MOMENT = datetime(2026, 11, 23, 20, 36, 0, 123456, tzinfo=UTC)


def event(action: str = "credential.put", **what: object) -> Event:
    return event_of(ORIGIN, org_id="acme", action=action, now=lambda: MOMENT, **what)  # type: ignore[arg-type]  # as it comes


def test_an_event_says_who_on_whose_behalf_what_and_when() -> None:
    told = event(provider="vapi", version=3, outcome="refused", generation=7)
    assert (
        "operator",
        "ada@example.com",
        "request-0001",
        "acme",
        "credential.put",
        "vapi",
        3,
        "refused",
        7,
        MOMENT,
    ) == (
        told.peer,
        told.on_behalf_of,
        told.request_id,
        told.org_id,
        told.action,
        told.provider,
        told.version,
        told.outcome,
        told.generation,
        told.occurred_at,
    )
    assert told.event_id != event().event_id


def test_a_chain_goes_on_where_it_ended_and_proves() -> None:
    chain = Chain.from_seed(SEED)
    first, head = chain.extend("acme", End(), [event(), event()])
    second, head = chain.extend("acme", End(head.sequence, head.hash), [event("org.freeze")])
    assert [1, 2, 3] == [link.sequence for link in (*first, *second)]
    assert 3 == prove([*first, *second], head, check_signature)
    assert first[0].hash == event_hash(GENESIS, 1, first[0].event)
    assert chain.public_key == head.public_key


def test_a_head_is_signed_by_the_key_of_the_seed_and_no_other() -> None:
    links, head = Chain.from_seed(SEED).extend("acme", End(), [event()])
    assert check_signature(Chain.from_seed(SEED).public_key, head.signature, head.signed())
    assert not check_signature(Chain.from_seed(bytes(32)).public_key, head.signature, head.signed())
    assert "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8" == head.public_key.hex()
    assert 1 == prove(links, head, check_signature)


@pytest.mark.parametrize("seen_before", [True, False])
def test_what_comes_behind_an_end_that_was_made_up_is_not_linked_to_it(
    *, seen_before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    first = Chain.from_seed(SEED)
    links, head = first.extend("acme", End(), [event()])
    end = End(head.sequence, head.hash, head.signature)
    chain = first if seen_before else Chain.from_seed(SEED)
    [linked], _ = chain.extend("acme", end, [event("credential.get")])
    assert 2 == prove([*links, linked], chain.extend("acme", end, [linked.event])[1], check_signature)
    assert "" == caplog.text
    for made_up in (End(1, bytes(32), head.signature), End(7, head.hash, head.signature), End(1, head.hash, b"")):
        [apart], _ = chain.extend("acme", made_up, [event("credential.get")])
        assert apart.hash != event_hash(made_up.hash, made_up.sequence + 1, apart.event)
        assert "changed by SQL" in caplog.text
        caplog.clear()


def test_the_signing_key_does_not_show_itself() -> None:
    assert SEED.hex() not in repr(Chain.from_seed(SEED))
    assert "key" not in repr(Chain.from_seed(SEED))


class Rows:
    """Where the signing key is kept."""

    def __init__(self) -> None:
        self.kept: OrgKey | None = None
        self.public_key = b""
        self.asked = 0
        self.away = False

    async def signing_key(self) -> OrgKey | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise VaultUnavailable
        return self.kept

    async def add_signing_key(self, key: OrgKey, public_key: bytes) -> OrgKey:
        await asyncio.sleep(0)
        if self.kept is None:
            self.kept, self.public_key = key, public_key
        return self.kept


def signing(rows: Rows, *, master: bytes = SEED) -> SigningKey:
    return SigningKey(rows, Keyring([LocalKey("m", master)]), random=os.urandom)


async def test_the_first_vault_makes_the_key_and_the_next_finds_it() -> None:
    rows = Rows()
    made, found = await signing(rows).chain(), await signing(rows).chain()
    assert made.public_key == found.public_key == rows.public_key
    assert rows.kept is not None
    assert VAULT_CHAIN == rows.kept.org_id


async def test_of_two_vaults_that_make_the_first_key_at_once_both_sign_with_the_one_that_is_kept() -> None:
    rows = Rows()
    one, other = await asyncio.gather(signing(rows).chain(), signing(rows).chain())
    assert one.public_key == other.public_key == rows.public_key


async def test_the_key_is_asked_for_once() -> None:
    rows = Rows()
    key = signing(rows)
    assert await key.chain() is await key.chain()
    assert 1 == rows.asked


async def test_a_database_that_is_away_is_asked_again() -> None:
    rows = Rows()
    rows.away = True
    key = signing(rows)
    with pytest.raises(VaultUnavailable):
        await key.chain()
    rows.away = False
    chain = await key.chain()
    assert rows.public_key == chain.public_key


async def test_a_key_of_another_master_key_does_not_unwrap() -> None:
    rows = Rows()
    await signing(rows).chain()
    with pytest.raises(Unreadable):
        await signing(rows, master=bytes(32)).chain()
