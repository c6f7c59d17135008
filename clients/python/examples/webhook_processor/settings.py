"""What the service needs to know, out of the environment. Where the vault is, the client reads there itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

_LISTEN: Final = re.compile(r"(?P<host>[^\s\[\]:]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_HIGHEST_PORT: Final = 65535
_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where it listens, what its public URL begins with, and how much it logs."""

    public_url: str
    host: str
    port: int
    log_level: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """From TENANTVAULT_PUBLIC_URL, TENANTVAULT_LISTEN and TENANTVAULT_LOG_LEVEL.

        Raises:
            ValueError: a variable is missing or wrong; the sentence names it and says what to do.
        """
        public_url, listen = (
            environ.get("TENANTVAULT_PUBLIC_URL", ""),
            environ.get("TENANTVAULT_LISTEN", "127.0.0.1:8500"),
        )
        log_level = environ.get("TENANTVAULT_LOG_LEVEL", "info")
        if not public_url:
            raise ValueError("TENANTVAULT_PUBLIC_URL is missing: give what the providers were told, without the path.")
        place = _LISTEN.fullmatch(listen)
        if place is None or int(place["port"]) > _HIGHEST_PORT:
            raise ValueError(f"TENANTVAULT_LISTEN is {listen!r}: give host:port.")
        if log_level not in _LEVELS:
            raise ValueError(f"TENANTVAULT_LOG_LEVEL is {log_level!r}: give {', '.join(_LEVELS)}.")
        return cls(public_url=public_url, host=place["host"].strip("[]"), port=int(place["port"]), log_level=log_level)
