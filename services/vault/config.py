"""The vault's settings, out of the environment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from services.vault.cache import ENTRIES, MAX_STALENESS_SECONDS, TTL_SECONDS, Cache, Freshness
from services.vault.fleet import LEASE_SECONDS
from services.vault.spool import BOUND_SECONDS, MAX_BYTES, Spool
from tenantvault.secret import Secret

AUDIT_SPOOL: Final = "/var/lib/tenantvault/audit-spool"
OVERLAP_SECONDS: Final = 86_400.0
CACHED_ORG_KEYS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What only the vault needs; what every server needs is `services.rpc.server.ServerConfig`."""

    database_url: Secret
    master_keys: Secret
    cache_entries: int = ENTRIES
    cache_ttl_seconds: float = TTL_SECONDS
    cached_org_keys: int = CACHED_ORG_KEYS
    max_staleness_seconds: float = MAX_STALENESS_SECONDS
    reconcile_seconds: float = LEASE_SECONDS
    overlap_seconds: float = OVERLAP_SECONDS
    audit_spool: Path = Path(AUDIT_SPOOL)
    audit_spool_max_bytes: int = MAX_BYTES
    audit_bound_seconds: float = BOUND_SECONDS

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """From variables that begin with TENANTVAULT_.

        Raises:
            ValueError: a variable is missing or wrong; the sentence names it and never shows a secret.
        """
        return cls(
            database_url=required_url(environ, "TENANTVAULT_DATABASE_URL"),
            master_keys=required_secret(environ, "TENANTVAULT_MASTER_KEYS"),
            cache_entries=int(_positive(environ, "TENANTVAULT_CACHE_ENTRIES", ENTRIES, whole=True)),
            cache_ttl_seconds=_positive(environ, "TENANTVAULT_CACHE_TTL_SECONDS", TTL_SECONDS),
            cached_org_keys=int(_positive(environ, "TENANTVAULT_CACHED_ORG_KEYS", CACHED_ORG_KEYS, whole=True)),
            max_staleness_seconds=_number(environ, "TENANTVAULT_MAX_STALENESS_SECONDS", MAX_STALENESS_SECONDS),
            reconcile_seconds=_positive(environ, "TENANTVAULT_RECONCILE_SECONDS", LEASE_SECONDS),
            overlap_seconds=_number(environ, "TENANTVAULT_OVERLAP_SECONDS", OVERLAP_SECONDS),
            audit_spool=Path(environ.get("TENANTVAULT_AUDIT_SPOOL") or AUDIT_SPOOL),
            audit_spool_max_bytes=int(_positive(environ, "TENANTVAULT_AUDIT_SPOOL_MAX_BYTES", MAX_BYTES, whole=True)),
            audit_bound_seconds=_positive(environ, "TENANTVAULT_AUDIT_BOUND_SECONDS", BOUND_SECONDS),
        )

    def open_spool(self) -> Spool:
        """The audit spool of these settings. OSError when its folder cannot be written."""
        try:
            return Spool(self.audit_spool, bound_seconds=self.audit_bound_seconds, max_bytes=self.audit_spool_max_bytes)
        except OSError as error:
            raise OSError(
                f"the audit spool {self.audit_spool} cannot be written ({error.strerror}): give this process a folder"
                " of its own in TENANTVAULT_AUDIT_SPOOL"
            ) from None

    def cache(self, freshness: Freshness, *, owned: bool = True) -> Cache[Any]:
        """A cache of these settings; `owned` as in Cache."""
        return Cache(
            entries=self.cache_entries,
            ttl_seconds=self.cache_ttl_seconds,
            max_staleness=self.max_staleness_seconds,
            owned=owned,
            freshness=freshness,
        )


def required_url(environ: Mapping[str, str], name: str) -> Secret:
    """The URL of a PostgreSQL database, from where `required_secret` finds it.

    Raises:
        ValueError: it is missing or no such URL. It is looked at here because a driver would quote it.
    """
    url = required_secret(environ, name)
    try:
        parts = urlsplit(url.reveal())
        # Several hosts, each with its port, are for the driver to read. Else `port` refuses what is no number: most
        # often the rest of a password with a character in it that ends the host.
        fits = parts.scheme in {"postgresql", "postgres"} and ("," in parts.netloc or parts.port != 0)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} is no URL of a PostgreSQL database: write postgresql://user:password@host/database, and in the"
            " password %40 for @, %2F for / and so on"
        )
    return url


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


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(environ.get(name, default))
    except ValueError:
        value = -1
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number, zero or above")
    return value


def _positive(environ: Mapping[str, str], name: str, default: float, *, whole: bool = False) -> float:
    try:
        value = (int if whole else float)(environ.get(name, default))
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a {'whole ' if whole else ''}number above zero")
    return value
