"""Log lines for people and for machines: JSON, one a line. No value of a credential is ever given to a logger."""

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any, Final, TextIO

# What this service and the client say of an event. Anything else a library adds stays out.
_FIELDS: Final = ("provider", "org", "type", "event_id", "cause", "reason", "status", "version", "subject", "port")
# These log whole URLs.
_TALKATIVE: Final = ("httpx", "httpcore")


class Lines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record. Of an exception it has class and frames, and not the text, which may quote anything."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info and (error := record.exc_info[1]):
            line["error"] = type(error).__qualname__
            line["frames"] = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        return json.dumps(line)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Log to standard error, or to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
