"""What was seen is remembered, for a while and up to a number."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tenantvault.webhooks import SeenInMemory

KEYS = st.sampled_from("abc")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_key_is_new_once_until_it_is_forgotten_or_old() -> None:
    clock = Clock()
    seen = SeenInMemory(clock=clock)

    assert await seen.add("a", 10)
    assert not await seen.add("a", 10)
    await seen.discard("a")
    await seen.discard("never there")
    assert await seen.add("a", 10)
    clock.now = 9.9
    assert not await seen.add("a", 10)
    clock.now = 10
    assert await seen.add("a", 10)


async def test_no_more_keys_are_kept_than_allowed() -> None:
    seen = SeenInMemory(most=2)
    for key in "abc":
        assert await seen.add(key, 10)

    assert not await seen.add("c", 10)
    assert not await seen.add("b", 10)
    assert await seen.add("a", 10)


class Remembering(RuleBasedStateMachine):
    """Against a dictionary of when each key ends."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.seen = SeenInMemory(clock=self.clock)
        self.ends: dict[str, float] = {}

    def run(self, coroutine: object) -> object:
        try:
            coroutine.send(None)  # type: ignore[attr-defined]  # it never waits
        except StopIteration as stop:
            return stop.value
        raise AssertionError("it waited")

    @rule(key=KEYS, ttl=st.integers(1, 5))
    def add(self, key: str, ttl: int) -> None:
        new = self.ends.get(key, 0) <= self.clock.now
        assert self.run(self.seen.add(key, ttl)) is new
        if new:
            self.ends[key] = self.clock.now + ttl

    @rule(key=KEYS)
    def discard(self, key: str) -> None:
        self.run(self.seen.discard(key))
        self.ends.pop(key, None)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def the_clock_never_goes_back(self) -> None:
        assert self.clock.now >= 0


TestRemembering = Remembering.TestCase
TestRemembering.settings = settings(stateful_step_count=30, deadline=None)
