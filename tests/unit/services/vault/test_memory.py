import os

import pytest

from services.vault.audit import Chain
from services.vault.keyring import Keyring
from services.vault.local_key import LocalKey
from services.vault.memory import MemoryStore
from tests.suites.store_exam import *  # noqa: F403 - the exam is the test
from tests.suites.store_exam import Parts


@pytest.fixture
def parts() -> Parts:
    chain = Chain.from_seed(os.urandom(32))
    store = MemoryStore(chain=chain)
    return Parts(
        store=store, audit=store, keys=store, ring=Keyring([LocalKey("exam", bytes(32))]), public_key=chain.public_key
    )
