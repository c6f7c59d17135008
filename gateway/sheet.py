"""Audit events as CSV (RFC 4180), for spreadsheets that might take a cell for a formula."""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

COLUMNS: Final = (
    "sequence",
    "at",
    "service",
    "person",
    "action",
    "provider",
    "version",
    "outcome",
    "requestId",
    "id",
)
"""The members of an event, in the order of a sheet."""

# What begins with one of these is calculated, or may get in the way of what is (https://owasp.org, CSV Injection);
# the last four are the first four at full width.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Where the list separator is a semicolon or a tab, one within a cell begins another, and quotes do not hold lines
# together.
_FORMULA_WITHIN: Final = re.compile(r"([;\t\r\n][\s\"]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """A line for each row; what a row lacks is an empty cell."""
    return _written([harmless(row.get(column, "")) for column in COLUMNS] for row in rows)


def head() -> str:
    """The line with the columns' names."""
    return _written([COLUMNS])


def note(sentence: str) -> str:
    """A line that is no row but says something about them."""
    return _written([[sentence, *[""] * (len(COLUMNS) - 1)]])


def harmless(value: object) -> str:
    """A cell's text, with an apostrophe before whatever a spreadsheet might calculate."""
    text = _FORMULA_WITHIN.sub(r"\1'", str(value))
    return f"'{text}" if text.startswith(_FORMULA) else text


def _written(cells: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(cells)
    return text.getvalue()
