"""A value that hides itself."""

import hmac
from typing import Final, NoReturn

MASK: Final = "••••"

_HINT_LENGTH: Final = 4
# A hint must leave most of the secret unknown: short values show nothing.
_SHORTEST_WITH_HINT: Final = 12


class Secret:
    """A secret string that shows itself only to `reveal()`.

    `repr`, `str`, `format` and `%s` give a mask; pickling, copying into JSON and hashing are refused, so that the
    value cannot slip into a log line, a cache key or a crash report. Equality takes the same time for every value.
    """

    __slots__ = ("_value",)

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret would be a handle on it

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself. Pass it on at once and keep no other reference."""
        return self._value

    def hint(self) -> str:
        """The mask with the last four characters, for people to tell two secrets apart.

        A secret of fewer than twelve characters gives the bare mask.
        """
        return MASK + self._value[-_HINT_LENGTH:] if len(self._value) >= _SHORTEST_WITH_HINT else MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # What UTF-8 cannot carry must not end in an error that holds the value.
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"), other._value.encode("utf-8", "surrogatepass")
        )

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied; pass the object itself")
