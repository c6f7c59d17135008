"""One refresh at a time for each org, whoever of a client's callers wants it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar


class Flight(Protocol):
    """Work under way that several callers wait for: an asyncio task, or a future of grpc's."""

    def done(self) -> bool:
        """Whether it is over, well or not."""

    def add_done_callback(self, fn: Callable[[Any], Any], /) -> None:
        """Call `fn` when it is over; at once when it is."""


FlightT = TypeVar("FlightT", bound=Flight)

Join: TypeAlias = Callable[[Callable[[], FlightT]], FlightT]
"""Gives the flight to wait for; what it is called with starts one, and is called when there is none to join."""


@dataclass(slots=True)
class _Org(Generic[FlightT]):
    """An org of which somebody wants something. `calls` counts who does, and the flight's own end."""

    calls: int = 0
    flight: FlightT | None = None


class Flights(Generic[FlightT]):
    """The flights of a client, for tasks and for threads. What nobody wants any more is forgotten."""

    def __init__(self) -> None:
        self._orgs: dict[str, _Org[FlightT]] = {}
        # A flight that is over when it begins lets go of its org inside `join`, in the same thread.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._orgs)

    @contextmanager
    def of(self, org_id: str) -> Iterator[Join[FlightT]]:
        """Enter it before looking whether a flight is needed at all.

        A flight that ended since then is joined too: what was seen before its end says nothing about what is now. So
        callers that come together take one flight, however their answers come in.

        Who joins again takes the same flight while it is under way, and another one when it is over.
        """
        org = self._held(org_id)
        past = org.flight if org.flight is not None and org.flight.done() else None

        def join(start: Callable[[], FlightT]) -> FlightT:
            nonlocal past
            with self._lock:
                if org.flight is None or (org.flight is past and past.done()):
                    org.flight = flight = start()
                    self._held(org_id)
                    flight.add_done_callback(lambda _: self._let_go(org_id))
                past = org.flight
                return past

        try:
            yield join
        finally:
            self._let_go(org_id)

    def _held(self, org_id: str) -> _Org[FlightT]:
        with self._lock:
            org = self._orgs.setdefault(org_id, _Org())
            org.calls += 1
            return org

    def _let_go(self, org_id: str) -> None:
        with self._lock:
            org = self._orgs[org_id]
            org.calls -= 1
            if not org.calls:
                del self._orgs[org_id]
