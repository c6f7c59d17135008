"""What was seen is remembered, for a while, up to a number, and up to a share for each org."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tenantvault.webhooks import Mark, SeenInMemory

KEYS = st.sampled_from("abc")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_key_is_new_once_until_it_is_forgotten_or_old() -> None:
    clock = Clock()
    seen = SeenInMemory(clock=clock)

    assert await seen.add("a", 10) is Mark.NEW
    assert await seen.add("a", 10) is Mark.UNDER_WAY
    await seen.discard("a")
    await seen.discard("never there")
    assert await seen.add("a", 10) is Mark.NEW
    clock.now = 9.9
    assert await seen.add("a", 10) is Mark.UNDER_WAY
    clock.now = 10
    assert await seen.add("a", 10) is Mark.NEW


async def test_what_was_taken_is_known_as_that_for_the_longer_time() -> None:
    clock = Clock()
    seen = SeenInMemory(clock=clock)
    await seen.add("a", 10)
    clock.now = 5
    await seen.keep("a", 100)
    clock.now = 104.9
    assert await seen.add("a", 10) is Mark.TAKEN
    clock.now = 105
    assert await seen.add("a", 10) is Mark.NEW


async def test_what_was_forgotten_before_it_was_taken_is_kept_all_the_same() -> None:
    seen = SeenInMemory()
    await seen.keep("a", 100)
    assert await seen.add("a", 10) is Mark.TAKEN


async def test_no_more_keys_are_kept_than_allowed() -> None:
    seen = SeenInMemory(most=2, most_per_org=2)
    for org_id in "abc":
        assert await seen.add(f"vapi:{org_id}:1", 10) is Mark.NEW

    assert await seen.add("vapi:c:1", 10) is Mark.UNDER_WAY
    assert await seen.add("vapi:b:1", 10) is Mark.UNDER_WAY
    assert await seen.add("vapi:a:1", 10) is Mark.NEW


async def test_an_org_with_many_events_pushes_out_its_own_marks_and_nobody_elses() -> None:
    seen = SeenInMemory(most=100)
    await seen.add("vapi:globex:1", 10)
    for number in range(1000):
        await seen.add(f"{'vapi' if number % 2 else 'twilio'}:acme:{number}", 10)

    assert await seen.add("vapi:globex:1", 10) is Mark.UNDER_WAY
    last_of_acme = [await seen.add(f"{'vapi' if n % 2 else 'twilio'}:acme:{n}", 10) for n in range(990, 1000)]
    assert last_of_acme == [Mark.UNDER_WAY] * 10
    assert await seen.add("vapi:acme:989", 10) is Mark.NEW


class Remembering(RuleBasedStateMachine):
    """Against a dictionary of what each key is and when it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.seen = SeenInMemory(clock=self.clock)
        self.known: dict[str, tuple[Mark, float]] = {}

    def run(self, coroutine: object) -> object:
        try:
            coroutine.send(None)  # type: ignore[attr-defined]  # it never waits
        except StopIteration as stop:
            return stop.value
        raise AssertionError("it waited")

    @rule(key=KEYS, ttl=st.integers(1, 5))
    def add(self, key: str, ttl: int) -> None:
        mark, ends = self.known.get(key, (Mark.NEW, 0.0))
        expected = mark if ends > self.clock.now else Mark.NEW
        assert self.run(self.seen.add(key, ttl)) is expected
        if expected is Mark.NEW:
            self.known[key] = (Mark.UNDER_WAY, self.clock.now + ttl)

    @rule(key=KEYS, ttl=st.integers(1, 9))
    def keep(self, key: str, ttl: int) -> None:
        self.run(self.seen.keep(key, ttl))
        self.known[key] = (Mark.TAKEN, self.clock.now + ttl)

    @rule(key=KEYS)
    def discard(self, key: str) -> None:
        self.run(self.seen.discard(key))
        self.known.pop(key, None)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def the_clock_never_goes_back(self) -> None:
        assert self.clock.now >= 0


TestRemembering = Remembering.TestCase
TestRemembering.settings = settings(stateful_step_count=30, deadline=None)
