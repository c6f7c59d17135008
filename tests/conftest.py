"""What holds for every test."""

import gc
import logging
from pathlib import Path

import pytest

# Their processes are not measured anyway, and measuring is a fifth of the time of what runs in this one.
UNMEASURED = [Path(__file__).parent / name for name in ("integration", "e2e")]


def pytest_configure() -> None:
    """Keep what gRPC says while it takes a server apart from being kept: the record would hold what is gone by then."""
    # A server that was never stopped names itself in a record of level DEBUG when its memory is freed. Whoever keeps
    # the record, as pytest does, ends the process with a segmentation fault.
    logging.getLogger("grpc").setLevel(logging.INFO)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure the coverage of the tests that need no socket, and of the clients' own."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in UNMEASURED):
            item.add_marker(pytest.mark.no_cover)


def pytest_collection_finish() -> None:
    """Let the garbage collector look at new objects only: the thousands of collected tests live as long as the run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
