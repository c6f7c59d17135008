import os
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from deploy.local.strongbox import Strongbox


@pytest.fixture
def box(tmp_path: Path) -> Strongbox:
    return Strongbox(tmp_path / "secrets")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_secret_is_made_once(box: Strongbox) -> None:
    numbers = count()

    box.keep("key", lambda: f"made {next(numbers)}")
    box.keep("key", lambda: f"made {next(numbers)}")

    assert box.read("key") == "made 0"


def test_of_many_that_make_it_at_once_one_wins_for_all(box: Strongbox) -> None:
    def keep(number: int) -> str:
        return box.keep("key", lambda: str(number)).read_text()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(keep, range(8)))) == 1


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_only_the_owner_may_read_it(box: Strongbox, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = box.keep("key", lambda: "x")
        changed = box.put("url", "y")
    finally:
        os.umask(before)

    assert mode(made) == mode(changed) == 0o600
    assert mode(made.parent) == 0o700


def test_a_changing_value_is_replaced_whole(box: Strongbox) -> None:
    box.put("url", "a longer one")
    path = box.put("url", "short")

    assert path.read_text() == "short"
    assert [entry.name for entry in path.parent.iterdir()] == ["url"]


def test_a_secret_that_was_never_made_is_not_there(box: Strongbox) -> None:
    with pytest.raises(FileNotFoundError):
        box.read("key")


def test_a_failure_to_make_one_leaves_nothing(box: Strongbox) -> None:
    def fail() -> str:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        box.keep("key", fail)

    assert not box.path("key").exists()
