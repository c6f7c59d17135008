from dataclasses import dataclass, field

import pytest

from services.provider.outage import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Outages
from tenantvault.credentials import Provider

VAPI, TWILIO = Provider.VAPI, Provider.TWILIO


@dataclass
class World:
    time: float = 1000.0
    outages: Outages = field(init=False)

    def __post_init__(self) -> None:
        self.outages = Outages(clock=lambda: self.time, jitter=lambda: 0.5)

    def fail(self, times: int = FAILURES) -> None:
        for _ in range(times):
            self.outages.failed(VAPI)


def test_a_few_failures_are_no_outage() -> None:
    world = World()
    world.fail(FAILURES - 1)
    assert 0.0 == world.outages.wait(VAPI)


def test_failures_in_a_row_are_an_outage_of_that_provider_only() -> None:
    world = World()
    world.fail()
    assert FIRST_PAUSE * 1.5 == world.outages.wait(VAPI)
    assert 0.0 == world.outages.wait(TWILIO)


def test_an_answer_between_them_makes_it_none() -> None:
    world = World()
    world.fail(FAILURES - 1)
    world.outages.answered(VAPI)
    world.fail(1)
    assert 0.0 == world.outages.wait(VAPI)


def test_when_the_pause_is_over_one_may_try() -> None:
    world = World()
    world.fail()
    world.time += FIRST_PAUSE
    assert 0.0 == world.outages.wait(VAPI)
    assert all(world.outages.wait(VAPI) > 0 for _ in range(10))


def test_the_one_who_tries_and_gets_an_answer_ends_the_outage() -> None:
    world = World()
    world.fail()
    world.time += FIRST_PAUSE
    assert 0.0 == world.outages.wait(VAPI)
    world.outages.answered(VAPI)
    assert all(0.0 == world.outages.wait(VAPI) for _ in range(10))


@pytest.mark.parametrize("more", [1, 2, 5, 100])
def test_each_failed_try_doubles_the_pause_up_to_a_bound(more: int) -> None:
    world = World()
    world.fail(FAILURES + more)
    pause = min(FIRST_PAUSE * 2.0**more, LONGEST_PAUSE)
    assert pause * 1.5 == world.outages.wait(VAPI)


def test_one_who_tries_and_never_comes_back_does_not_end_the_tries() -> None:
    world = World()
    world.fail()
    for _ in range(5):
        world.time += FIRST_PAUSE
        assert 0.0 == world.outages.wait(VAPI)
