"""Each event is handed on once, and none is lost, whatever fails in between."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest

from tenantvault.credentials import Provider
from tenantvault.webhooks import REMEMBERED, UNDER_WAY, Event, Mark, SeenInMemory
from tenantvault.webhooks.once import Once
from tenantvault.webhooks.sender import SENDERS

EVENT = Event(provider=Provider.RESEND, org_id="acme", event_id="msg_1", type="email.sent", payload={})


class Recorded(SeenInMemory):
    """Says what it was asked to do, and fails where it is told to."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self.failing = set(failing)
        self.calls: list[tuple[str, str, float]] = []

    async def add(self, key: str, ttl: float) -> Mark:
        self._call("add", key, ttl)
        return await super().add(key, ttl)

    async def keep(self, key: str, ttl: float) -> None:
        self._call("keep", key, ttl)
        await super().keep(key, ttl)

    async def discard(self, key: str) -> None:
        self._call("discard", key, 0)
        await super().discard(key)

    def _call(self, verb: str, key: str, ttl: float) -> None:
        self.calls.append((verb, key, ttl))
        if verb in self.failing:
            raise ConnectionError(verb)


class Handler:
    """Counts; fails while `error` is set; waits for `may_end` where there is one."""

    def __init__(self, error: BaseException | None = None, *, gated: bool = False) -> None:
        self.count = 0
        self.error = error
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event() if gated else None

    async def __call__(self, _: Event) -> None:
        self.count += 1
        self.begun.set()
        if self.may_end:
            await self.may_end.wait()
        if self.error:
            raise self.error


async def take(once: Once, handler: Callable[[Event], Awaitable[None]], event: Event = EVENT) -> tuple[int, str]:
    # What waits for itself fails here.
    async with asyncio.timeout(5):
        taken = await once.take(SENDERS[event.provider], handler, event)
    return taken.status, dict(taken.headers).get("retry-after", "")


TAKEN, LATER, FAILED = (
    (HTTPStatus.OK, ""),
    (HTTPStatus.SERVICE_UNAVAILABLE, "5"),
    (HTTPStatus.INTERNAL_SERVER_ERROR, ""),
)


@pytest.mark.parametrize("other_process", [False, True])
@pytest.mark.parametrize("error", [None, RuntimeError("database is away")])
async def test_a_repeat_beside_one_that_is_being_taken_is_put_off_until_it_is_known_how_that_ends(
    *, other_process: bool, error: Exception | None
) -> None:
    seen, handler = SeenInMemory(), Handler(error, gated=True)
    once = Once(seen)
    beside = Once(seen) if other_process else once
    first = asyncio.create_task(take(once, handler))
    await handler.begun.wait()
    assert await take(beside, handler) == LATER
    assert handler.may_end
    handler.may_end.set()
    assert await first == (FAILED if error else TAKEN)

    handler.error = None
    assert await take(beside, handler) == TAKEN
    assert handler.count == (2 if error else 1)


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged as an error; other tests may have turned the rest on."""
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_handler_that_takes_longer_than_its_mark_is_not_run_beside_itself() -> None:
    now = 0.0
    once, handler = Once(SeenInMemory(clock=lambda: now)), Handler(gated=True)
    first = asyncio.create_task(take(once, handler))
    await handler.begun.wait()
    now = UNDER_WAY + 1
    assert await take(once, handler) == LATER
    assert handler.may_end
    handler.may_end.set()
    await first
    assert await take(once, handler) == TAKEN
    assert handler.count == 1


async def test_what_a_process_was_taking_when_it_was_killed_is_taken_by_another_after_a_minute() -> None:
    now = 0.0
    seen, handler = SeenInMemory(clock=lambda: now), Handler()
    for_the_key = Recorded()
    await take(Once(for_the_key), handler)
    await seen.add(for_the_key.calls[0][1], UNDER_WAY)
    once = Once(seen)
    assert await take(once, handler) == LATER
    now = UNDER_WAY
    assert await take(once, handler) == TAKEN
    assert handler.count == 2


async def test_the_mark_is_short_before_the_handler_and_long_after_it() -> None:
    seen = Recorded()
    await take(Once(seen), Handler())
    assert [(verb, ttl) for verb, _, ttl in seen.calls] == [("add", UNDER_WAY), ("keep", REMEMBERED)]


async def test_when_it_is_not_known_what_was_seen_the_provider_is_asked_to_come_back() -> None:
    handler, seen = Handler(), Recorded("add")
    once = Once(seen)
    assert await take(once, handler) == LATER
    assert handler.count == 0
    seen.failing.clear()
    assert await take(once, handler) == TAKEN


async def test_a_mark_that_cannot_be_taken_away_leaves_an_answer_and_ends_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    once, handler = Once(Recorded("discard")), Handler(RuntimeError("database is away"))
    assert await take(once, handler) == FAILED
    assert [(record.message, str((record.exc_info or ("", ""))[1])) for record in errors(caplog)] == [
        ("webhook failed", "database is away"),
        ("webhook still marked", "discard"),
    ]
    assert await take(once, handler) == LATER


async def test_a_mark_that_cannot_be_taken_away_does_not_hide_that_the_handler_was_cancelled() -> None:
    handler = Handler(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await take(Once(Recorded("discard")), handler)


async def test_what_was_taken_and_cannot_be_remembered_is_taken_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    assert await take(Once(Recorded("keep")), Handler()) == TAKEN
    assert [record.message for record in errors(caplog)] == ["webhook not remembered"]


async def test_a_question_is_never_put_off_and_leaves_no_mark() -> None:
    question = Event(
        provider=Provider.VAPI, org_id="acme", event_id="q", type="tool-calls", payload={}, wants_reply=True
    )
    seen, handler = Recorded(), Handler(gated=True)
    once = Once(seen)
    both = [asyncio.create_task(take(once, handler, question)) for _ in range(2)]
    await handler.begun.wait()
    assert handler.may_end
    handler.may_end.set()
    assert await asyncio.gather(*both) == [TAKEN, TAKEN]
    assert (handler.count, seen.calls) == (2, [])

    handler.error = RuntimeError("database is away")
    assert await take(once, handler, question) == FAILED


@pytest.mark.parametrize("event_id", ["c" * 1_000_000, "\ud800", "a:b"])
async def test_a_key_is_short_and_ascii_whatever_the_event_is_called(event_id: str) -> None:
    seen = Recorded()
    event = Event(provider=Provider.VAPI, org_id="acme", event_id=event_id, type="hang", payload={})
    assert await take(Once(seen), Handler(), event) == TAKEN
    provider, org_id, digest = seen.calls[0][1].split(":")
    assert (provider, org_id, len(digest)) == ("vapi", "acme", 64)
    assert seen.calls[0][1].isascii()


async def test_a_log_line_holds_no_more_of_the_senders_text_than_it_needs(caplog: pytest.LogCaptureFixture) -> None:
    event = Event(provider=Provider.VAPI, org_id="acme", event_id="\ud800" + "i" * 999, type="t" * 999, payload={})
    with caplog.at_level(logging.INFO, "tenantvault.webhooks"):
        await take(Once(SeenInMemory()), Handler(), event)
    (record,) = caplog.records
    told: dict[str, Any] = record.__dict__
    assert (told["type"], told["event_id"]) == ("t" * 100, "\\ud800" + "i" * 99)
