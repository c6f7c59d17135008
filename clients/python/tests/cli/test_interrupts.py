"""Ctrl-C does not break into gRPC: it ends the call, and is raised behind it."""

import signal
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

pytest.importorskip("click")


class Call(grpc.RpcError):
    """A call in the middle of whose code a Ctrl-C comes. `reached` says whether that code ran to its end."""

    def __init__(self) -> None:
        self.cancelled = self.reached = 0

    def __call__(self, request: object, **options: object) -> "Call":
        return self

    def future(self, request: object, **options: object) -> "Call":
        return self

    def result(self) -> object:
        signal.raise_signal(signal.SIGINT)
        self.reached += 1
        if self.cancelled:
            raise self
        return "answer"

    __next__ = result

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture(autouse=True)
def as_a_program_starts() -> Iterator[None]:
    """Ctrl-C means KeyboardInterrupt, whatever the tests before and whoever started them have made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def vault() -> Any:
    from tenantvault.cli.connection import Vault

    return Vault(grpc.insecure_channel("localhost:1"), "localhost:1", 1)


@pytest.mark.parametrize("way", ["call", "stream"])
def test_a_call_is_ended_and_what_grpc_does_is_not_broken_off(vault: Any, way: str) -> None:
    call: Any = Call()

    with vault, pytest.raises(KeyboardInterrupt):
        vault.call(call, "") if way == "call" else next(vault.stream(call, ""))

    assert (1, 1) == (call.cancelled, call.reached)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_that_comes_before_there_is_a_call_ends_it_at_once() -> None:
    from tenantvault.cli.interrupts import Held

    call = Call()

    def late() -> None:
        with Held() as held:
            signal.raise_signal(signal.SIGINT)
            held.ends(call)

    with pytest.raises(KeyboardInterrupt):
        late()

    assert 1 == call.cancelled


def test_where_it_means_something_else_that_stays() -> None:
    from tenantvault.cli.interrupts import Held

    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        with Held():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

    assert [signal.SIGINT] == came


def test_a_thread_that_gets_no_signals_is_left_alone() -> None:
    from tenantvault.cli.interrupts import Held

    failures: list[BaseException] = []

    def hold() -> None:
        try:
            with Held():
                pass
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            failures.append(error)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()

    assert [] == failures
