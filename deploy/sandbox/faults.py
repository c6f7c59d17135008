"""Ordered misbehaviour: which of the next requests fail, and how."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, Final, Self

from deploy.sandbox.journal import Exchange

_STATUSES: Final = frozenset(status for status in HTTPStatus if status >= HTTPStatus.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What the next `times` matching requests get instead of, or before, their answer.

    `method`, `path` (below the provider's root, without query) and `account` (as the journal names it) are shell
    patterns. The request waits `delay` seconds, then its connection is cut (`drop`), or it gets `status` with the
    provider's own error body or `body` (text is sent as HTML, anything else as JSON) and `Retry-After: retry_after`.
    With none of those it is only late. `after_effect` lets the request take effect first, so that what it creates is
    there although the caller never hears of it.
    """

    provider: str
    method: str = "*"
    path: str = "*"
    account: str = "*"
    times: int = 1
    delay: float = 0.0
    drop: bool = False
    status: int | None = None
    body: Any = None
    retry_after: int | None = None
    after_effect: bool = False

    @classmethod
    def from_json(cls, value: object, *, providers: Collection[str]) -> Self:
        """From a parsed JSON object, for one of the providers; ValueError says what is wrong with it."""
        if not isinstance(value, Mapping):
            raise ValueError("a fault is a JSON object")  # noqa: TRY004  # one class for every kind of bad input
        for name, given in value.items():
            if name not in _TYPES:
                raise ValueError(f"unknown field {name!r}; a fault has {', '.join(_TYPES)}")
            if _TYPES[name] and type(given) not in _TYPES[name]:
                raise ValueError(f"{name} has the wrong type")
        if value.get("provider") not in providers:
            raise ValueError(f"provider is one of {', '.join(providers)}")
        fault = cls(**value)
        if fault.times < 1 or fault.delay < 0 or (fault.retry_after or 0) < 0:
            raise ValueError("times is at least 1; delay and retry_after are not negative")
        if fault.status is not None and fault.status not in _STATUSES:
            raise ValueError("status is an HTTP status of 200 or more")
        if fault.drop and fault.status is not None:
            raise ValueError("give drop or status, not both")
        return fault

    def matches(self, exchange: Exchange) -> bool:
        """Whether it is meant for this request."""
        return self.provider == exchange.provider and all(
            fnmatchcase(given, wanted)
            for given, wanted in (
                (exchange.method, self.method),
                (exchange.path, self.path),
                (exchange.account, self.account),
            )
        )


# Exact types, since a bool is an int; none means any.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "provider": (str,),
    "method": (str,),
    "path": (str,),
    "account": (str,),
    "times": (int,),
    "delay": (int, float),
    "drop": (bool,),
    "status": (int,),
    "body": (),
    "retry_after": (int,),
    "after_effect": (bool,),
}


class Faults:
    """The faults that wait for their request, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Order one."""
        self._waiting.append(fault)

    def take(self, exchange: Exchange) -> Fault | None:
        """The oldest one for this request, used up by one time."""
        for index, fault in enumerate(self._waiting):
            if fault.matches(exchange):
                self._waiting[index : index + 1] = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                return fault
        return None

    def entries(self) -> list[dict[str, object]]:
        """What still waits."""
        return [asdict(fault) for fault in self._waiting]

    def clear(self) -> None:
        """Cancel all."""
        self._waiting.clear()
