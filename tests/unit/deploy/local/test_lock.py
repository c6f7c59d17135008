import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.lock import FileLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_one_at_a_time(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)

    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_it_waits_as_long_as_it_is_told_to(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(second.acquire, patience=30)
        assert not waiting.done()
        first.release()
        assert waiting.result()
    second.release()


def test_a_child_that_inherits_it_holds_it_too(path: Path) -> None:
    lock = FileLock(path)
    assert lock.acquire()
    with subprocess.Popen(("/bin/cat",), stdin=subprocess.PIPE, pass_fds=[lock.descriptor]):
        lock.release()
        assert not FileLock(path).acquire()

    assert lock.acquire()
    lock.release()


def test_a_child_that_does_not_inherit_it_does_not(path: Path) -> None:
    lock = FileLock(path)
    assert lock.acquire()
    with subprocess.Popen(("/bin/cat",), stdin=subprocess.PIPE):
        lock.release()
        assert lock.acquire()
    lock.release()


def test_only_its_owner_may_open_the_file(path: Path) -> None:
    with FileLock(path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_that_is_not_held_has_no_descriptor(path: Path) -> None:
    lock = FileLock(path)
    with pytest.raises(ValueError, match="not held"):
        _ = lock.descriptor
    lock.release()


def test_nothing_stays_open_when_the_lock_cannot_be_had(path: Path) -> None:
    with FileLock(path):
        before = len(os.listdir("/dev/fd"))  # noqa: PTH208  # a path cannot be read here
        assert not FileLock(path).acquire()
        assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208
