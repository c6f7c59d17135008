"""The vault's settings, out of the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.vault.cache import ENTRIES, TTL_SECONDS
from tenantvault.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What only the vault needs; what every server needs is `services.rpc.server.ServerConfig`."""

    database_url: Secret
    master_keys: Secret
    cache_entries: int = ENTRIES
    cache_ttl_seconds: float = TTL_SECONDS
    log_level: str = "info"

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """From variables that begin with TENANTVAULT_.

        Raises:
            ValueError: a variable is missing or wrong; the sentence names it and never shows a secret.
        """
        return cls(
            database_url=required_secret(environ, "TENANTVAULT_DATABASE_URL"),
            master_keys=required_secret(environ, "TENANTVAULT_MASTER_KEYS"),
            cache_entries=int(_positive(environ, "TENANTVAULT_CACHE_ENTRIES", ENTRIES)),
            cache_ttl_seconds=_positive(environ, "TENANTVAULT_CACHE_TTL_SECONDS", TTL_SECONDS),
            log_level=environ.get("TENANTVAULT_LOG_LEVEL", "info"),
        )


def required_secret(environ: Mapping[str, str], name: str) -> Secret:
    """The secret in a variable, or in the file that the variable with `_FILE` behind its name names.

    Raises:
        ValueError: it is in neither, in both, or the file cannot be read or is empty.
    """
    value, path = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if value and path:
        raise ValueError(f"{name} and {name}_FILE are both set: keep one")
    if path:
        try:
            value = Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"{name}_FILE names a file that cannot be read") from None
    if not value:
        raise ValueError(f"{name} is missing: set it, or {name}_FILE to a file that holds it")
    return Secret(value)


def _positive(environ: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(environ.get(name, default))
    except ValueError:
        value = 0
    if not value > 0:
        raise ValueError(f"{name} must be a number above zero")
    return value
