"""What a fake vault was asked, and how it is to fail."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tenantvault._failures import copied
from tenantvault._methods import READS, REFRESH, REPORT_FAILURE, WATCH
from tenantvault.errors import TenantVaultError

METHODS: Final = tuple(name.rpartition("/")[2] for name in (*READS, REPORT_FAILURE, REFRESH, WATCH))
"""What a fake vault can be asked, by the names of the contract's methods."""

_WATCH: Final = WATCH.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a fake vault was asked to answer.

    Args:
        method: its name in the contract, e.g. `GetCredential`.
        keys: what it asked about, one entry for each: org and provider, or kind and id of a resource, of
            `ResolveCredential` with the provider behind them.
    """

    method: str
    keys: tuple[tuple[str, ...], ...]


@dataclass(slots=True)
class _Failure:
    error: TenantVaultError
    times: int
    method: str | None

    def meets(self, method: str) -> bool:
        return self.times > 0 and (method != _WATCH if self.method is None else method == self.method)


class Faults:
    """The calls that came, what is to become of the next ones, and how long each of them waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._failures: list[_Failure] = []
        self.seconds = 0.0

    @property
    def calls(self) -> tuple[Call, ...]:
        """What came, in its order."""
        with self._lock:
            return tuple(self._calls)

    def fail(self, error: TenantVaultError, times: int, method: str | None) -> None:
        """Have the next calls fail. ValueError when there is no such method, or when it is no number of times."""
        if method is not None and method not in METHODS:
            raise ValueError(f"method: give one of {', '.join(METHODS)}.")
        if times < 1:
            raise ValueError("times: give 1 or more.")
        with self._lock:
            self._failures.append(_Failure(error, times, method))

    def meet(self, call: Call, wait: Callable[[float], object]) -> None:
        """Note a call, have it wait, and raise the error that it is to end with."""
        with self._lock:
            self._calls.append(call)
        wait(self.seconds)
        self.demand(call.method)

    def demand(self, method: str) -> None:
        """Raise the error that a call of a method is to end with."""
        with self._lock:
            failure = next((failure for failure in self._failures if failure.meets(method)), None)
            if failure is None:
                return
            failure.times -= 1
        raise copied(failure.error)
