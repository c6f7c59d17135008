"""A figure with its reference of the same run, its goal, and what the last committed run said."""

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

TOLERANCE: Final = 1.5
"""How many times worse than the committed one a figure may be before the comparison complains."""

_GOAL: Final = re.compile(r"(?P<sign>[<>≤≥]) (?P<bound>[0-9.]+)")
_MEETS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    ">": operator.gt,
    "≤": operator.le,
    "≥": operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured. `reference` says what it is held against, with the numbers of the same run.

    `goal` is a bound like `≤ 0.5`; an empty one is none.
    """

    name: str
    value: float
    unit: str
    reference: str = ""
    goal: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if not self.goal:
            return None
        sign, bound = _parsed(self.goal)
        return _MEETS[sign](self.value, bound)

    @property
    def smaller_is_better(self) -> bool:
        """Which way is better; figures without a goal are durations or sizes."""
        return not self.goal or _parsed(self.goal)[0] in "<≤"

    def worse_than(self, before: float) -> float:
        """How many times worse it is than it was before; below 1 it is better."""
        now, then = max(self.value, 1e-9), max(before, 1e-9)
        return now / then if self.smaller_is_better else then / now


def table(figures: Iterable[Figure]) -> str:
    """The figures for people."""
    rows = [("Figure", "Value", "Goal", "", "Reference")]
    for each in figures:
        mark = {True: "met", False: "NOT MET", None: ""}[each.met]
        rows.append((each.name, f"{each.value:,.4g} {each.unit}".strip(), each.goal, mark, each.reference))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def write(figures: Sequence[Figure], path: Path) -> None:
    """Write them as a list of objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps([asdict(each) | {"met": each.met} for each in figures], indent=2, ensure_ascii=False) + "\n"
    )


def complaints(now: Iterable[Figure], path: Path) -> list[str]:
    """What has become worse than the tolerance allows since the figures in a file were written."""
    before = {each["name"]: each["value"] for each in json.loads(path.read_text())}
    worse = ((each, each.worse_than(before[each.name])) for each in now if each.name in before)
    return [
        f"{each.name}: {each.value:.4g} {each.unit}, was {before[each.name]:.4g}: {times:.2f} times worse"
        for each, times in worse
        if times > TOLERANCE
    ]


def _parsed(goal: str) -> tuple[str, float]:
    found = _GOAL.fullmatch(goal)
    if found is None:
        raise ValueError(f"{goal!r} is no goal: write it like ≤ 0.5")
    return found["sign"], float(found["bound"])
