"""A client's memory gives nothing that is older than what it was told, and nothing when it was told nothing."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from tenantvault import CacheSettings, CacheStatistics
from tenantvault._cache import Asked, Cache
from tenantvault._entries import Entries, Entry
from tenantvault._generations import Generations
from tenantvault.errors import InvalidRequest

KEY = ("acme", "vapi", False)


@pytest.fixture
def make(clock: Any) -> Callable[..., Cache[str]]:
    def made(*, settle: float = 0.0, **settings: Any) -> Cache[str]:
        return Cache(CacheSettings(**settings), clock, settle=settle)

    return made


@pytest.fixture
def cache(make: Callable[..., Cache[str]]) -> Cache[str]:
    """One whose watch was heard just now."""
    cache = make()
    cache.heard()
    return cache


def keep(
    cache: Cache[str],
    value: str = "a",
    *,
    key: Any = KEY,
    org_id: str = "acme",
    generation: int = 3,
    size: int = 100,
    asked: Asked | None = None,
    **options: Any,
) -> None:
    cache.keep(key, value, asked or cache.asked(), org_id=org_id, generation=generation, size=size, **options)


@pytest.mark.parametrize("name", ["entries", "max_bytes", "ttl", "lease", "max_stale"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", None])
def test_a_setting_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=name) as caught:
        CacheSettings(**{name: value})

    assert [name] == list(caught.value.fields)


def test_a_lease_that_no_heartbeat_could_keep_up_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="lease"):
        CacheSettings(lease=1.49)


def test_before_the_first_heartbeat_nothing_is_kept(make: Callable[..., Cache[str]]) -> None:
    cache = make()
    keep(cache)
    cache.heard()

    assert cache.hit(KEY) is None
    assert 1 == cache.statistics.not_kept


def test_after_it_an_answer_is_given_again(cache: Cache[str]) -> None:
    keep(cache)

    assert "a" == cache.hit(KEY)
    assert CacheStatistics(hits=1, entries=1, bytes=100) == cache.statistics


@pytest.mark.parametrize("key", [[], ("acme", [], False), {}, ("acme",), None])
def test_what_can_be_no_key_is_not_there(cache: Cache[str], key: Any) -> None:
    keep(cache)

    assert cache.hit(key) is None


@pytest.mark.parametrize(("silence", "expected"), [(2.999, "a"), (3.0, None)])
def test_a_silent_watch_ends_it_with_the_lease(
    cache: Cache[str], clock: Any, silence: float, expected: str | None
) -> None:
    keep(cache)
    clock.now += silence

    assert expected == cache.hit(KEY)


def test_a_word_after_a_silence_beyond_the_lease_is_not_believed(cache: Cache[str], clock: Any) -> None:
    keep(cache)
    clock.now += 3

    assert not cache.heard()
    assert cache.hit(KEY) is None

    # The next watch begins with what was missed.
    cache.lost()
    assert {"acme": 3} == cache.known()
    assert cache.heard()
    assert "a" == cache.hit(KEY)


@pytest.mark.parametrize(("age", "expected"), [(299, "a"), (300, None)])
def test_an_answer_grows_old_from_when_it_was_asked_for(
    cache: Cache[str], clock: Any, age: int, expected: str | None
) -> None:
    asked = cache.asked()
    clock.now += 1
    keep(cache, asked=asked)
    for _ in range(age - 1):
        clock.now += 1
        cache.heard()

    assert expected == cache.hit(KEY)


def test_an_answer_is_given_no_longer_than_it_lives(cache: Cache[str], clock: Any) -> None:
    keep(cache, life=2)
    clock.now += 1.999
    assert "a" == cache.hit(KEY)
    clock.now += 0.001

    assert cache.hit(KEY) is None


def test_an_answer_whose_life_is_over_is_not_kept(cache: Cache[str]) -> None:
    keep(cache, life=0)

    assert 0 == cache.statistics.entries


@pytest.mark.parametrize(("within", "expected"), [(None, "a"), (2, "a"), (1, None), (0, None), (-1, None)])
def test_a_caller_may_want_what_was_current_later(
    cache: Cache[str], clock: Any, within: float | None, expected: str | None
) -> None:
    keep(cache)
    clock.now += 1

    assert expected == cache.hit(KEY, within)


@pytest.mark.parametrize("within", ["1", math.nan, []])
def test_what_is_no_number_of_seconds_gives_nothing(cache: Cache[str], within: Any) -> None:
    keep(cache)

    assert cache.hit(KEY, within) is None


def test_a_change_drops_what_is_older_of_its_org(cache: Cache[str]) -> None:
    keep(cache)
    keep(cache, "newer", key="newer", generation=4)
    keep(cache, "other", key="other", org_id="globex", generation=1)
    cache.changed("acme", 4)

    assert [None, "newer", "other"] == [cache.hit(KEY), cache.hit("newer"), cache.hit("other")]
    assert 1 == cache.statistics.invalidated


def test_an_answer_that_is_older_than_a_change_is_not_kept(cache: Cache[str]) -> None:
    before = cache.asked()
    cache.changed("acme", 4)
    keep(cache, asked=before)
    # Another vault may answer so a moment later.
    keep(cache, generation=3)

    assert cache.hit(KEY) is None
    keep(cache, "b", generation=4, asked=before)
    assert "b" == cache.hit(KEY)


def test_an_old_change_that_comes_late_drops_nothing_newer(cache: Cache[str]) -> None:
    cache.changed("acme", 5)
    keep(cache, generation=5)
    cache.changed("acme", 4)

    assert "a" == cache.hit(KEY)
    keep(cache, "old", generation=4)
    assert "a" == cache.hit(KEY)


def test_a_newer_answer_drops_what_is_older_of_its_org_though_it_is_not_kept_itself(cache: Cache[str]) -> None:
    keep(cache)
    keep(cache, "large", key="other", generation=4, size=10**9)

    assert [None, None] == [cache.hit(KEY), cache.hit("other")]


def test_an_answer_without_a_generation_is_not_kept(cache: Cache[str]) -> None:
    keep(cache, generation=0)

    assert cache.hit(KEY) is None


def test_what_was_asked_for_under_another_watch_is_not_kept(cache: Cache[str]) -> None:
    before = cache.asked()
    cache.lost()
    keep(cache, asked=before)
    between = cache.asked()
    cache.heard()
    keep(cache, asked=between)

    assert cache.hit(KEY) is None


def test_a_lost_watch_ends_it_until_the_next_is_heard(cache: Cache[str]) -> None:
    keep(cache)
    cache.lost()
    assert cache.hit(KEY) is None
    cache.heard()

    assert "a" == cache.hit(KEY)


def test_a_resync_forgets_everything_and_waits_for_the_next_heartbeat(cache: Cache[str]) -> None:
    keep(cache)
    before = cache.asked()
    cache.resync()
    keep(cache, asked=before)
    keep(cache)
    assert cache.hit(KEY) is None
    cache.heard()
    assert cache.hit(KEY) is None
    keep(cache)

    assert "a" == cache.hit(KEY)
    assert 1 == cache.statistics.invalidated


def test_where_other_vaults_answer_nothing_is_kept_until_a_watch_has_settled(
    make: Callable[..., Cache[str]], clock: Any
) -> None:
    cache = make(settle=3.0)
    for second in range(4):
        cache.heard()
        keep(cache, asked=cache.asked())
        assert (second >= 3) == (cache.hit(KEY) is not None)
        clock.now += 1


def test_the_oldest_generation_of_each_org_is_known(cache: Cache[str]) -> None:
    keep(cache)
    keep(cache, key="other")
    keep(cache, key="globex", org_id="globex", generation=9)

    assert {"acme": 3, "globex": 9} == cache.known()
    assert 1 == cache.statistics.watches


def test_more_orgs_than_a_watch_may_be_asked_about_are_forgotten(make: Callable[..., Cache[str]]) -> None:
    cache = make(entries=20_000)
    cache.heard()
    for number in range(10_002):
        keep(cache, key=number, org_id=f"o{number}")

    assert 10_000 == len(cache.known())
    assert [None, "a"] == [cache.hit(1), cache.hit(2)]


@pytest.mark.parametrize("settings", [{"entries": 3}, {"max_bytes": 399}])
def test_to_make_room_what_was_not_used_lately_goes_first(
    make: Callable[..., Cache[str]], settings: dict[str, int]
) -> None:
    cache = make(**settings)
    cache.heard()
    for key in ("a", "b", "c"):
        keep(cache, key, key=key, org_id=key)
    cache.hit("a")
    keep(cache, "d", key="d")

    assert ["a", None, "c", "d"] == [cache.hit(key) for key in ("a", "b", "c", "d")]
    assert (1, 3, 300) == (cache.statistics.evicted, cache.statistics.entries, cache.statistics.bytes)
    # Each of them was used now: still one has to go.
    keep(cache, "e", key="e")
    assert "e" == cache.hit("e")
    assert 3 == cache.statistics.entries


def test_room_is_made_also_when_everything_is_used_all_the_time() -> None:
    class Busy(Entry[str]):
        """As if threads read it without a pause."""

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value or name == "used")

    entries: Entries[str] = Entries(2, 100)
    for key in "abcd":
        entries.put(key, Busy(key, key, 1, 10))

    assert (2, 20) == (len(entries), entries.bytes)


def test_an_answer_that_is_larger_than_all_may_be_is_not_kept(make: Callable[..., Cache[str]]) -> None:
    cache = make(max_bytes=100)
    cache.heard()
    keep(cache)
    keep(cache, size=101)

    assert "a" == cache.hit(KEY)


@pytest.mark.parametrize(("silence", "expected"), [(59.9, "a"), (60, None)])
def test_a_stale_answer_is_bounded_by_when_the_vault_was_last_heard(
    make: Callable[..., Cache[str]], clock: Any, silence: float, expected: str | None
) -> None:
    cache = make(max_stale=60, ttl=10)
    cache.heard()
    keep(cache)
    cache.lost()
    clock.now += silence

    assert cache.hit(KEY) is None
    assert expected == cache.stale(KEY)


def test_a_stale_answer_is_off_by_default_bounded_by_its_caller_and_by_its_life(
    cache: Cache[str], make: Callable[..., Cache[str]], clock: Any
) -> None:
    keep(cache)
    assert cache.stale(KEY) is None

    allowed = make(max_stale=60)
    allowed.heard()
    keep(allowed, life=30)
    clock.now += 20
    assert ["a", "a", None] == [allowed.stale(KEY), allowed.stale(KEY, 21), allowed.stale(KEY, 20)]
    clock.now += 10
    assert allowed.stale(KEY) is None
    assert allowed.stale("never asked for") is None


@pytest.mark.parametrize("verb", ["hit", "stale"])
def test_who_looks_while_a_watch_is_taken_up_again_does_not_get_what_it_just_made_old(clock: Any, verb: str) -> None:
    happens: list[Callable[[], object]] = []

    def timer() -> float:
        if happens:
            happens.pop()()
        return float(clock())

    cache: Cache[str] = Cache(CacheSettings(max_stale=5), timer)
    cache.heard()
    keep(cache)
    cache.lost()
    clock.now += 10

    def taken_up_again() -> None:
        cache.changed("acme", 4)
        cache.heard()

    # Between the look and what it is judged by.
    happens.append(taken_up_again)

    assert getattr(cache, verb)(KEY) is None
    assert not happens


def test_forgetting_takes_what_is_under_way_along_and_no_more(cache: Cache[str]) -> None:
    keep(cache)
    before = cache.asked()
    cache.forget()
    keep(cache, asked=before)
    assert cache.hit(KEY) is None
    keep(cache)

    assert "a" == cache.hit(KEY)


def test_an_end_is_for_good(cache: Cache[str]) -> None:
    keep(cache)
    cache.end()
    assert not cache.heard()
    keep(cache)

    assert cache.hit(KEY) is None
    assert 0 == cache.statistics.bytes


def test_a_call_is_joined_until_something_changes_or_it_is_as_old_as_the_lease(cache: Cache[str], clock: Any) -> None:
    asked = cache.asked()
    clock.now += 2.9
    assert cache.joinable(asked)
    clock.now += 0.1
    assert not cache.joinable(asked)

    happenings: list[Callable[[], object]] = [
        lambda: cache.changed("globex", 1),
        cache.lost,
        cache.resync,
        cache.forget,
    ]
    for happens in happenings:
        asked = cache.asked()
        happens()
        assert not cache.joinable(asked)


def test_of_an_org_that_was_let_go_no_answer_is_kept_that_was_asked_for_before(cache: Cache[str]) -> None:
    generations = Generations(bound=2)
    cache._generations = generations
    before = cache.asked()
    for org_id in ("acme", "b", "c"):
        cache.changed(org_id, 4)
    assert 0 == generations.newest("acme")
    keep(cache, asked=before)
    assert cache.hit(KEY) is None
    keep(cache, generation=4)

    assert "a" == cache.hit(KEY)


class Told(RuleBasedStateMachine):
    """Whatever is asked, told and lost in whatever order: against what the vault has in truth.

    The truth is each org's generation, and when it came to it. A watch tells in order, and may be behind.
    """

    answers = Bundle("answers")

    @initialize(entries=st.integers(1, 4), settle=st.sampled_from([0.0, 3.0]))
    def begin(self, entries: int, settle: float) -> None:
        self.now = 0.0
        self.settings = CacheSettings(entries=entries, max_bytes=350, ttl=20, lease=3, max_stale=10)
        self.cache: Cache[tuple[str, int]] = Cache(self.settings, lambda: self.now, settle=settle)
        self.settled = settle > 0
        self.truth = dict.fromkeys(("a", "b", "c"), 1)
        # What the watch has still to say, and of each org the generations that ended, with the time.
        self.unsaid: list[tuple[str, int]] | None = None
        self.replaced: dict[tuple[str, int], float] = {}
        self.told: dict[str, int] = dict.fromkeys(self.truth, 0)
        self.heard_at = -math.inf

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 8.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(org=st.sampled_from(["a", "b", "c"]))
    def something_changes(self, org: str) -> None:
        self.replaced[org, self.truth[org]] = self.now
        self.truth[org] += 1
        if self.unsaid is not None:
            self.unsaid.append((org, self.truth[org]))

    @precondition(lambda self: self.unsaid is None)
    @rule()
    def a_watch_begins(self) -> None:
        known = self.cache.known()
        self.unsaid = [(org, self.truth[org]) for org, generation in known.items() if generation < self.truth[org]]

    @precondition(lambda self: self.unsaid is not None)
    @rule()
    def the_watch_says_what_it_has_and_that_it_is_complete(self) -> None:
        assert self.unsaid is not None
        for org, generation in self.unsaid:
            self.cache.changed(org, generation)
            self.told[org] = max(self.told[org], generation)
        self.unsaid = []
        if self.cache.heard():
            self.heard_at = self.now
        else:
            self.the_watch_ends()

    @precondition(lambda self: self.unsaid is not None)
    @rule()
    def the_watch_has_to_resync(self) -> None:
        self.unsaid = []
        self.cache.resync()

    @precondition(lambda self: self.unsaid is not None)
    @rule()
    def the_watch_ends(self) -> None:
        self.unsaid = None
        self.cache.lost()

    @rule(target=answers, org=st.sampled_from(["a", "b", "c"]), part=st.integers(0, 1), lag=st.sampled_from([0, 2.5]))
    def ask(self, org: str, part: int, lag: float) -> Any:
        generation = self.truth[org]
        # Another vault may not have heard yet.
        while self.settled and self.replaced.get((org, generation - 1), -math.inf) > self.now - lag:
            generation -= 1
        return (org, part), self.cache.asked(), generation

    @rule(answer=consumes(answers), size=st.integers(50, 400))
    def an_answer_comes(self, answer: Any, size: int) -> None:
        key, asked, generation = answer
        self.cache.keep(key, (key[0], generation), asked, org_id=key[0], generation=generation, size=size)
        self.told[key[0]] = max(self.told[key[0]], generation)

    @invariant()
    def what_is_given_is_never_older_than_what_was_told_nor_than_the_lease(self) -> None:
        for org in getattr(self, "truth", ()):
            for part in (0, 1):
                if (found := self.cache.hit((org, part))) is not None:
                    assert found[1] >= self.told[org]
                    assert self.now - self.heard_at < self.settings.lease
                    assert self.now - self.replaced.get(found, math.inf) < self.settings.lease
                if (found := self.cache.stale((org, part))) is not None:
                    assert self.now - self.heard_at < self.settings.max_stale
                    assert self.now - self.replaced.get(found, math.inf) < self.settings.max_stale

    @invariant()
    def the_bounds_hold(self) -> None:
        if hasattr(self, "cache"):
            statistics = self.cache.statistics
            assert statistics.entries <= self.settings.entries
            assert 0 <= statistics.bytes <= self.settings.max_bytes
            assert bool(statistics.bytes) == bool(statistics.entries)


TestTold = Told.TestCase
TestTold.settings = hypothesis_settings(deadline=None, max_examples=60)


def test_threads_that_read_while_changes_are_told_get_nothing_older_than_what_was_told_before() -> None:
    cache: Cache[int] = Cache(CacheSettings(entries=4, lease=1000, ttl=1000))
    cache.heard()
    told = 0
    over = threading.Event()

    def read() -> int:
        worst = reads = 0
        while not over.is_set():
            before = told
            found = cache.hit(KEY)
            if found is None:
                cache.keep(KEY, before + 1, cache.asked(), org_id="acme", generation=before + 1, size=1)
                for key in range(5):
                    cache.keep(key, 0, cache.asked(), org_id=f"o{key}", generation=1, size=1)
            else:
                worst = max(worst, before - found)
            reads += 1
        assert reads
        return worst

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read) for _ in range(4)]
        for generation in range(1, 2001):
            cache.changed("acme", generation)
            told = generation
        over.set()

    assert [0, 0, 0, 0] == [max(reader.result(), 0) for reader in readers]
    statistics = cache.statistics
    assert statistics.entries == statistics.bytes <= 4
