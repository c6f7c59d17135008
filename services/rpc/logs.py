"""Logs: one JSON object a line on standard error, in which no secret can be.

Of an exception only its type and its frames are written, never its text: a library's message may quote the value that
it choked on. For the same reason a library's record gives the first line of its text only, with the places of its
values left open. What a person must know is in the constant text and the fields of our own events.
"""

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, TextIO

import structlog

# Keys that no event of ours has; should a library's record bring one, its value stays out.
_FORBIDDEN: Final = ("authorization", "api_key", "apikey", "password", "secret", "token", "cookie", "credential")

# Our own events: from them everything is written; libraries speak only when something is wrong.
_OURS: Final = ("services", "tenantvault")

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered; every event meanwhile carries it."""

_OWN_FIELDS: Final = frozenset({"event", "level", "logger", "timestamp", "error", "frames"})


def configure(*, level: str, service: str, stream: TextIO | None = None) -> None:
    """Send every log record of this process to `stream` (standard error), as JSON, with the service's name.

    Raises:
        ValueError: `level` is none of debug, info, warning and error.
    """
    if level not in {"debug", "info", "warning", "error"}:
        raise ValueError(f"TENANTVAULT_LOG_LEVEL is {level!r}: give debug, info, warning or error")

    def add_service(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        if answering := request_id.get():
            event.setdefault("request_id", answering)
        return event

    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(without_foreign_values)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                add_service,
                without_exception_text,
                without_secrets,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())


def without_foreign_values(record: logging.LogRecord) -> bool:
    """Cut a library's record down to the first line of its text, with the places of its values left open."""
    if record.name.partition(".")[0] not in _OURS:
        record.msg, record.args = str(record.msg).partition("\n")[0], ()
    return True


def without_exception_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put an exception's type and frames in the place of the exception."""
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else info if isinstance(info, BaseException) else None
    if error is not None:
        event["error"] = _qualified_name(error)
        event["frames"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
    return event


def without_secrets(_: Any, __: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the values of fields whose names say that they hold a secret."""
    return {
        key: "[left out]" if key not in _OWN_FIELDS and any(word in key.lower() for word in _FORBIDDEN) else value
        for key, value in event.items()
    }


def _qualified_name(error: BaseException) -> str:
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}"
