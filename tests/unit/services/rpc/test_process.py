import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import pytest
import uvloop

from services.rpc import process

CANARY = "canary-9c4e"

Serve = Callable[[Mapping[str, str]], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TENANTVAULT_LOG_LEVEL", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    for name in ("services", "tenantvault"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def raising(error: BaseException) -> Serve:
    async def serve(_: Mapping[str, str]) -> None:
        raise error

    return serve


def test_a_process_that_ends_well_ends_with_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def serve(environ: Mapping[str, str]) -> None:
        seen.append((environ["SETTING"], type(asyncio.get_running_loop())))

    monkeypatch.setenv("SETTING", "value")
    assert 0 == process.run("vault", serve)
    assert [("value", uvloop.Loop)] == seen


@pytest.mark.parametrize("error", [ValueError("SETTING is missing: set it"), OSError("SETTING is missing: set it")])
def test_a_wrong_setting_is_one_sentence_and_two(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == process.run("vault", raising(error))
    assert ("", "vault: SETTING is missing: set it\n") == tuple(capsys.readouterr())


def test_a_wrong_log_level_is_one_sentence_and_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(_: Mapping[str, str]) -> None:
        raise AssertionError("it was not to be started")

    monkeypatch.setenv("TENANTVAULT_LOG_LEVEL", "loud")
    assert 2 == process.run("vault", serve)
    assert capsys.readouterr().err.startswith("vault: TENANTVAULT_LOG_LEVEL is 'loud'")


def test_a_key_that_interrupts_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert 130 == process.run("vault", raising(KeyboardInterrupt()))
    assert ("", "") == tuple(capsys.readouterr())


def test_whatever_else_ends_it_is_logged_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert 1 == process.run("vault", raising(RuntimeError(CANARY)))
    told = capsys.readouterr().err
    [event] = [json.loads(line) for line in told.splitlines()]
    assert ("the process failed", "builtins.RuntimeError") == (event["event"], event["error"])
    assert CANARY not in told


def test_an_error_that_nobody_waited_for_is_logged_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    async def serve(_: Mapping[str, str]) -> None:
        loop = asyncio.get_running_loop()
        loop.create_future().set_exception(ValueError(CANARY))
        loop.call_soon(lambda: int(CANARY))
        loop.call_exception_handler({"message": CANARY})
        await asyncio.sleep(0)

    assert 0 == process.run("vault", serve)
    told = capsys.readouterr().err
    events = [json.loads(line) for line in told.splitlines()]
    assert ["an error that nobody waited for"] * 3 == [event["event"] for event in events]
    assert {"builtins.ValueError", None} == {event.get("error") for event in events}
    assert CANARY not in told


async def test_work_in_the_background_goes_on_while_the_body_runs_and_is_ended_with_it() -> None:
    began, ended = asyncio.Event(), []

    async def endless() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    async with process.in_background(endless()):
        await began.wait()
        assert [] == ended
    assert ["cleaned up"] == ended


async def test_work_that_fails_is_logged_without_its_text_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    goes_on = asyncio.Event()

    async def failing() -> None:
        raise RuntimeError(CANARY)

    async def other() -> None:
        await asyncio.sleep(0)
        goes_on.set()
        await asyncio.Event().wait()

    async with process.in_background(failing(), other()):
        await goes_on.wait()
    [record] = [record for record in caplog.records if record.name == "services.rpc.process"]
    assert ("work in the background ended", "CRITICAL") == (record.message, record.levelname)
    assert CANARY not in record.getMessage()


async def test_what_the_body_raises_passes_and_the_work_ends() -> None:
    cancelled = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def body() -> None:
        async with process.in_background(endless()):
            await asyncio.sleep(0)
            raise ValueError("the body's own")

    with pytest.raises(ValueError, match="the body's own"):
        await body()
    assert [True] == cancelled
