import asyncio
import contextvars
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from services.rpc import logs
from tenantvault.secret import Secret

CANARY = "canary-7d1f"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before = (root.handlers, root.level, {name: logging.getLogger(name).level for name in ("services", "tenantvault")})
    logs.configure(level="info", service="vault", stream=stream)
    yield stream
    root.handlers, level, levels = before
    root.setLevel(level)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail() -> None:
    raise ValueError(f"token={CANARY}") from OSError(CANARY)


ours = logging.getLogger("services.vault.keeper")
theirs = logging.getLogger("asyncio")


def test_an_event_is_one_object_on_one_line(stream: io.StringIO) -> None:
    ours.info("two\nlines %s", "ä", extra={"org": "acme", "version": 3})
    [event] = lines(stream)
    timestamp = event.pop("timestamp")
    assert {
        "event": "two\nlines ä",
        "level": "info",
        "logger": "services.vault.keeper",
        "service": "vault",
        "org": "acme",
        "version": 3,
    } == event
    assert timestamp.endswith("Z")


@pytest.mark.parametrize("logger", [ours, theirs, logging.getLogger("grpc._cython.cygrpc")], ids=lambda one: one.name)
def test_of_an_exception_the_type_and_the_frames_are_written(stream: io.StringIO, logger: logging.Logger) -> None:
    try:
        fail()
    except ValueError as error:
        logger.exception("it failed")
        logger.critical("it failed", exc_info=error)
    for event in lines(stream):
        assert "builtins.ValueError" == event["error"]
        assert event["frames"][-1].endswith(" fail")
        assert f"{__file__}:" in event["frames"][-1]
    assert 2 == len(lines(stream))
    assert CANARY not in stream.getvalue()


def test_an_exception_that_was_never_raised_has_no_frames(stream: io.StringIO) -> None:
    ours.error("it failed", exc_info=ValueError(CANARY))
    [event] = lines(stream)
    assert ("builtins.ValueError", []) == (event["error"], event["frames"])
    assert CANARY not in stream.getvalue()


def test_a_stack_has_no_values(stream: io.StringIO) -> None:
    value = Secret(CANARY)
    ours.error("here", stack_info=True, extra={"value": value})
    assert 1 == len(lines(stream))
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "x_api_key",
        "APIKEY",
        "db_password",
        "client_secret",
        "access_token",
        "set-cookie",
        "credential",
    ],
)
def test_a_field_that_is_named_like_a_secret_is_left_out(stream: io.StringIO, name: str) -> None:
    theirs.error("sent", extra={name: CANARY, "host": "example.com"})
    [event] = lines(stream)
    assert ("[left out]", "example.com") == (event[name], event["host"])
    assert CANARY not in stream.getvalue()


def test_what_happens_during_a_request_carries_its_id(stream: io.StringIO) -> None:
    def answer() -> None:
        logs.request_id.set("request-0001")
        ours.info("a record does not open")
        ours.info("call", extra={"request_id": "request-0002"})

    contextvars.copy_context().run(answer)
    contextvars.Context().run(ours.info, "stopping")
    assert ["request-0001", "request-0002", None] == [event.get("request_id") for event in lines(stream)]


def test_an_events_own_fields_are_not_left_out(stream: io.StringIO) -> None:
    ours.warning("the token was refused", extra={"key_id": "k1"})
    [event] = lines(stream)
    assert ("the token was refused", "k1") == (event["event"], event["key_id"])


def test_of_a_librarys_record_the_values_are_left_open(stream: io.StringIO) -> None:
    theirs.error("cannot parse %r of %(what)s", CANARY)
    logging.getLogger("httpx").warning("GET %s\n%s", f"https://example.com/?key={CANARY}", CANARY)
    logging.getLogger("service").warning("not ours %s", CANARY)
    logging.getLogger("root2").warning({"not": "a text", "line": "one"})
    assert ["cannot parse %r of %(what)s", "GET %s", "not ours %s", "{'not': 'a text', 'line': 'one'}"] == [
        event["event"] for event in lines(stream)
    ]
    assert CANARY not in stream.getvalue()


async def test_what_asyncio_says_of_a_forgotten_error_does_not_quote_it(stream: io.StringIO) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    future.set_exception(ValueError(CANARY))
    del future
    await asyncio.sleep(0)
    # Tests before this one may have left tasks of their own, which are told of here too.
    [event] = [event for event in lines(stream) if event["event"] == "Future exception was never retrieved"]
    assert "asyncio" == event["logger"]
    assert "builtins.ValueError" == event["error"]
    assert CANARY not in stream.getvalue()


def test_libraries_are_heard_only_when_something_is_wrong(stream: io.StringIO) -> None:
    theirs.info("working")
    ours.debug("details")
    ours.info("event")
    logging.getLogger("tenantvault.channel").info("event")
    theirs.warning("odd")
    assert ["event", "event", "odd"] == [event["event"] for event in lines(stream)]


def test_the_level_is_ours_to_choose(stream: io.StringIO) -> None:
    logs.configure(level="debug", service="vault", stream=stream)
    ours.debug("details")
    theirs.debug("details of a library")
    logs.configure(level="error", service="vault", stream=stream)
    ours.warning("odd")
    assert ["details"] == [event["event"] for event in lines(stream)]


def test_configuring_again_does_not_write_twice(stream: io.StringIO) -> None:
    logs.configure(level="info", service="vault", stream=stream)
    ours.info("once")
    assert 1 == len(lines(stream))


@pytest.mark.parametrize("level", ["", "INFO", "verbose", "10"])
def test_an_unknown_level_is_refused_by_the_variables_name(level: str) -> None:
    with pytest.raises(ValueError, match=r"^TENANTVAULT_LOG_LEVEL is .*: give debug, info, warning or error$"):
        logs.configure(level=level, service="vault")


def test_what_json_does_not_know_is_shown_as_it_shows_itself(stream: io.StringIO) -> None:
    ours.info("odd", extra={"value": Secret(CANARY), "number": 1j})
    [event] = lines(stream)
    assert ("Secret(••••)", "1j") == (event["value"], event["number"])
