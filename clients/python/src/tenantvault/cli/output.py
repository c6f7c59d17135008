"""What a command prints, says and asks; for people, or as JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import wraps
from typing import Any, ClassVar, Final

import click
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

NOTHING: Final = "-"
"""What stands in a table where there is nothing."""


class Status(IntEnum):
    """The exit statuses. A script may rely on them."""

    OK = 0
    NO = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    INTERRUPTED = 130
    READER_GONE = 141


class BadInput(click.ClickException):
    """What was given cannot be used; the sentence says what to give instead."""

    exit_code: ClassVar[int] = Status.USAGE


class Declined(click.ClickException):
    """The person said no, and nothing was done."""

    exit_code: ClassVar[int] = Status.NO


@dataclass(frozen=True, slots=True)
class Output:
    """Results on standard output, what is said and asked on standard error: as text, or as one JSON object a line."""

    as_json: bool

    def show(self, data: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Print a result: `data` as JSON, or `lines` for people."""
        if self.as_json:
            click.echo(json.dumps(data))
        else:
            for line in lines:
                click.echo(line)

    def warn(self, sentence: str) -> None:
        """Say what a person should know before a question."""
        click.echo(json.dumps({"warning": sentence}) if self.as_json else sentence, err=True)

    def ask(self, question: str, *, instead: str) -> str:
        """What is answered; BadInput when nobody is there to ask, saying which option to give `instead`."""
        # Not click's prompt: it writes to standard output too, and tells an end of the input as it tells a Ctrl-C.
        if self.as_json:
            click.echo(json.dumps({"question": question}), err=True)
        else:
            click.echo(f"{question} ", err=True, nl=False)
        answer = sys.stdin.readline() if sys.stdin else ""
        if not answer:
            if not self.as_json:
                click.echo(err=True)
            raise BadInput(f"Nobody is there to answer: give {instead}.")
        return answer.strip()

    def confirm(self, question: str, *, instead: str) -> bool:
        """Whether the answer is yes; BadInput when nobody is there to ask."""
        return self.ask(f"{question} [y/N]", instead=instead).lower() in {"y", "yes"}


def output_option(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the option --json, and its `output`."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    @wraps(command)
    def run(*, as_json: bool, **rest: Any) -> None:
        command(output=Output(as_json), **rest)

    return run


def printable(text: str) -> str:
    """The text on one line, with every character that would steer a terminal as an escape that can be read."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines with aligned columns. What is empty shows as a dash."""
    cells = [list(header), *([printable(str(cell)) or NOTHING for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def counted(number: int, noun: str) -> str:
    """A number of things, e.g. `1 event` and `2 events`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def time_in(message: Message, field: str) -> datetime | None:
    """The time in a field; None when it is absent, or one that no calendar has."""
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def readable(when: datetime | None) -> str:
    """A time for people; empty for none."""
    return f"{when:%Y-%m-%d %H:%M:%S} UTC" if when else ""


def iso(when: datetime | None) -> str | None:
    """A time for programs."""
    return when.isoformat() if when else None
