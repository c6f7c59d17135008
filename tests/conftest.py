"""What holds for every test."""

import gc


def pytest_collection_finish() -> None:
    """Let the garbage collector look at new objects only: the thousands of collected tests live as long as the run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
