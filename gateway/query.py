"""Query strings into values: each parameter is known, comes once and is what it should be, else they are refused."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

from gateway import fields

_WHERE: Final = "query"
_NUMBER: Final = re.compile(r"[0-9]{1,16}")
_FLAGS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter: its JSON schema, what to give, and how a value is read.

    `read` raises ValueError for a wrong value; `default` stands for one that is not there.
    """

    schema: Mapping[str, Any]
    hint: str
    read: Callable[[str], Any]
    default: Any


def values(request: Request, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The value of each parameter.

    Raises:
        InvalidRequest: another one is there, or one is there twice or has a wrong value; `fields` names each.
    """
    read = {name: parameter.default for name, parameter in parameters.items()}
    wrong: dict[str, str] = {}
    seen = set()
    for name, value in request.query_params.multi_items():
        if name not in parameters:
            wrong[fields.plain(name, _WHERE)] = "This is not known here: leave it out."
        elif name in seen:
            wrong[name] = "Give this once."
        else:
            seen.add(name)
            try:
                read[name] = parameters[name].read(value)
            except ValueError:
                wrong[name] = parameters[name].hint
    fields.demand_none(wrong)
    return read


def whole(lowest: int, highest: int, *, default: int | None = None) -> Parameter:
    """A whole number; 0 for one that is not there, unless there is a default."""

    def read(value: str) -> int:
        if not (_NUMBER.fullmatch(value) and lowest <= int(value) <= highest):
            raise ValueError
        return int(value)

    schema = {"type": "integer", "minimum": lowest, "maximum": highest}
    return Parameter(
        schema=schema if default is None else schema | {"default": default},
        hint=f"Give a whole number from {lowest} to {highest}.",
        read=read,
        default=default or 0,
    )


def one_of(choices: Iterable[str]) -> Parameter:
    """One of these words; empty for none."""
    known = [str(choice) for choice in choices]

    def read(value: str) -> str:
        if value not in known:
            raise ValueError
        return value

    return Parameter(
        schema={"type": "string", "enum": known}, hint=f"Give one of {', '.join(known)}.", read=read, default=""
    )


def matching(pattern: str, *, hint: str) -> Parameter:
    """A word that this pattern describes as a whole; empty for none."""
    whole_word = re.compile(pattern)

    def read(value: str) -> str:
        if not whole_word.fullmatch(value):
            raise ValueError
        return value

    return Parameter(schema={"type": "string", "pattern": f"^{pattern}$"}, hint=hint, read=read, default="")


def flag() -> Parameter:
    """`true` or `false`, which is the default."""

    def read(value: str) -> bool:
        if value not in _FLAGS:
            raise ValueError
        return _FLAGS[value]

    schema = {"type": "boolean", "default": False}
    return Parameter(schema=schema, hint="Give true or false.", read=read, default=False)
