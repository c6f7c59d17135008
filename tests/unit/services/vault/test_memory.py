import os
from datetime import timedelta

import pytest

from services.vault.audit import Chain
from services.vault.keyring import Keyring
from services.vault.local_key import LocalKey
from services.vault.memory import MemoryStore
from tests.suites.store_exam import *  # noqa: F403 - the exam is the test
from tests.suites.store_exam import Parts, PassTime


@pytest.fixture
def parts() -> Parts:
    chain = Chain.from_seed(os.urandom(32))
    store = MemoryStore(chain=chain)
    return Parts(
        store=store,
        audit=store,
        keys=store,
        ring=Keyring([LocalKey("exam", bytes(32))]),
        public_key=chain.public_key,
        work=store.work,
        oauth_states=store.oauth_states,
    )


@pytest.fixture
def pass_time(parts: Parts) -> PassTime:
    async def passed(org: str, time: timedelta) -> None:
        store = parts.store
        assert isinstance(store, MemoryStore)
        for row in store._orgs[org].facts.values():
            row.last_verified_at = row.last_verified_at and row.last_verified_at - time
        for piece, task in store.work._rows.items():
            if piece.org_id == org:
                task.finished_at = task.finished_at and task.finished_at - time
                task.leased_until = task.leased_until and task.leased_until - time

    return passed
