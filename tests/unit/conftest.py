"""Unit tests open no socket; the event loop's own pair of Unix sockets is none to anywhere.

Properties are tried with 30 examples each. `HYPOTHESIS_PROFILE=long make unit` tries them with a thousand.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from pytest_socket import disable_socket, enable_socket

# No test is timed: machines are busy.
settings.register_profile("short", max_examples=30, deadline=None)
settings.register_profile("long", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[None]:
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
