import asyncio
import gc
import io
import json
import logging
from typing import Any

import pytest

from gateway import logs

CANARY = "canary-2b84a067f3c9e51d"


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_its_fields(log: io.StringIO) -> None:
    logging.getLogger("gateway.test").info("listening", extra={"port": 8400})
    (line,) = lines(log)
    assert {"event": "listening", "level": "info", "service": "gateway", "port": 8400}.items() <= line.items()
    assert line["timestamp"].endswith("Z")


def test_an_exception_leaves_its_type_and_frames_and_not_its_text(log: io.StringIO) -> None:
    def choke() -> None:
        raise ValueError(f"token={CANARY}")

    try:
        choke()
    except ValueError as error:
        logging.getLogger("gateway.test").exception("unexpected error")
        logging.getLogger("gateway.test").warning("unexpected error", exc_info=error)
    first, second = lines(log)
    assert first["error"] == second["error"] == "builtins.ValueError"
    assert any("test_logs.py" in frame for frame in first["frames"])
    assert CANARY not in log.getvalue()


def test_a_library_gives_its_text_and_not_its_values(log: io.StringIO) -> None:
    logging.getLogger("asyncio").warning("Exception in callback %s\n%s", CANARY, CANARY)
    logging.getLogger("gateway.test").warning("kept %s", "value")
    assert ["Exception in callback %s", "kept value"] == [line["event"] for line in lines(log)]


@pytest.mark.parametrize("key", ["Authorization", "apiKey", "api_key", "session_cookie", "jwt_token", "CREDENTIAL"])
def test_a_field_that_is_named_like_a_secret_is_left_out(log: io.StringIO, key: str) -> None:
    logging.getLogger("library").warning("request", extra={key: CANARY})
    assert lines(log)[0][key] == "[left out]"


async def test_the_report_of_a_lost_task_keeps_the_exceptions_text_out(log: io.StringIO) -> None:
    async def fail() -> None:
        raise ValueError(CANARY)

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    # Tests before this one may have left tasks of their own, which are told of here too.
    (line,) = [line for line in lines(log) if line["event"] == "Task exception was never retrieved"]
    assert "error" == line["level"]
    assert CANARY not in log.getvalue()


def test_libraries_speak_only_when_something_is_wrong() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    try:
        logs.configure(level="info", stream=stream)
        logging.getLogger("library").info("chatter")
        logging.getLogger("gateway.test").debug("chatter")
        logging.getLogger("gateway.test").info("event")
    finally:
        root.handlers, root.level = handlers, level
        logging.getLogger("gateway").setLevel(logging.NOTSET)
        logging.getLogger("tenantvault").setLevel(logging.NOTSET)
    assert [line["event"] for line in lines(stream)] == ["event"]


def test_an_unknown_level_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="TENANTVAULT_LOG_LEVEL"):
        logs.configure(level="loud")
