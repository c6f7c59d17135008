"""Who comes while a refresh is under way joins it; who comes after it begins another."""

from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tenantvault._flights import Flights


class Hangar:
    """Starts flights, and counts them."""

    def __init__(self) -> None:
        self.started: list[Future[None]] = []

    def __call__(self) -> Future[None]:
        self.started.append(Future())
        return self.started[-1]


@pytest.fixture
def flights() -> Flights[Future[None]]:
    return Flights()


@pytest.fixture
def start() -> Hangar:
    return Hangar()


def test_a_flight_under_way_is_joined(flights: Flights[Future[None]], start: Hangar) -> None:
    with flights.of("acme") as first, flights.of("acme") as second:
        assert first(start) is second(start)

    assert 1 == len(start.started)


def test_a_flight_that_ended_since_one_came_is_joined_too(flights: Flights[Future[None]], start: Hangar) -> None:
    with flights.of("acme") as first, flights.of("acme") as second:
        first(start).set_result(None)
        assert second(start) is start.started[0]


def test_a_flight_that_was_over_before_is_not_joined(flights: Flights[Future[None]], start: Hangar) -> None:
    with flights.of("acme") as first:
        first(start).set_result(None)
        with flights.of("acme") as second, flights.of("acme") as third:
            assert second(start) is third(start) is start.started[1]


def test_who_joins_again_takes_another_flight_when_the_first_is_over(
    flights: Flights[Future[None]], start: Hangar
) -> None:
    with flights.of("acme") as first, flights.of("acme") as second:
        assert first(start) is first(start) is second(start)
        start.started[0].set_result(None)
        assert first(start) is second(start) is start.started[1]


def test_a_flight_that_another_began_again_is_joined_even_if_it_is_over(
    flights: Flights[Future[None]], start: Hangar
) -> None:
    with flights.of("acme") as first, flights.of("acme") as second:
        first(start)
        second(start).set_result(None)
        first(start).set_result(None)
        assert second(start) is start.started[1]


def test_orgs_have_flights_of_their_own(flights: Flights[Future[None]], start: Hangar) -> None:
    with flights.of("acme") as acme, flights.of("globex") as globex:
        assert acme(start) is not globex(start)


def test_a_flight_outlives_who_began_it(flights: Flights[Future[None]], start: Hangar) -> None:
    with flights.of("acme") as first:
        first(start)
    with flights.of("acme") as second:
        assert start.started[0] is second(start)

    start.started[0].set_result(None)
    assert 0 == len(flights)


def test_a_flight_that_is_over_when_it_begins_is_let_go(flights: Flights[Future[None]]) -> None:
    over: Future[None] = Future()
    over.set_result(None)

    with flights.of("acme") as join:
        assert over is join(lambda: over)

    assert 0 == len(flights)


def test_a_flight_that_cannot_begin_is_begun_by_the_next(flights: Flights[Future[None]], start: Hangar) -> None:
    def fails() -> Future[None]:
        raise ValueError("closed")

    with flights.of("acme") as join:
        with pytest.raises(ValueError, match="closed"):
            join(fails)
        join(start).set_result(None)

    assert 0 == len(flights)


class AnyOrder(RuleBasedStateMachine):
    """Callers come, join and go, and flights end, in any order."""

    callers = Bundle("callers")

    def __init__(self) -> None:
        super().__init__()
        self.flights: Flights[Future[None]] = Flights()
        self.hangar: dict[str, Hangar] = {"acme": Hangar(), "globex": Hangar()}
        self.inside = 0

    @rule(target=callers, org=st.sampled_from(["acme", "globex"]))
    def come(self, org: str) -> Any:
        caller = self.flights.of(org)
        over = {id(flight) for flight in self.hangar[org].started if flight.done()}
        self.inside += 1
        return org, caller, caller.__enter__(), over

    @rule(caller=callers)
    def join(self, caller: Any) -> None:
        org, _, join, past = caller
        over = {id(flight) for flight in self.hangar[org].started if flight.done()}
        flight = join(self.hangar[org])
        assert id(flight) not in past & over
        past.add(id(flight))
        assert sum(not flight.done() for flight in self.hangar[org].started) <= 1

    @rule(caller=consumes(callers))
    def go(self, caller: Any) -> None:
        caller[1].__exit__(None, None, None)
        self.inside -= 1

    @rule(org=st.sampled_from(["acme", "globex"]))
    def land(self, org: str) -> None:
        for flight in self.hangar[org].started:
            if not flight.done():
                flight.set_result(None)

    @invariant()
    def nothing_is_kept_that_nobody_wants(self) -> None:
        under_way = any(not flight.done() for hangar in self.hangar.values() for flight in hangar.started)
        assert self.inside or under_way or not len(self.flights)


TestAnyOrder = AnyOrder.TestCase
