"""Where a client finds its vault, from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tenantvault.tls import TlsFiles

_NEEDED: Final[Mapping[str, str]] = {
    "TENANTVAULT_VAULT_TARGET": "the vault's host:port",
    "TENANTVAULT_TLS_CERT": "the path of this service's certificate, PEM",
    "TENANTVAULT_TLS_KEY": "the path of its private key, PEM",
    "TENANTVAULT_TLS_CA": "the path of the authorities to trust, PEM",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The vault's `host:port`, the provider service's where it is known, and what mutual TLS needs."""

    target: str
    tls: TlsFiles
    provider_target: str | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """From the environment.

        Raises:
            ValueError: variables are missing, or name files that cannot be read; the sentence names them all.
        """
        if missing := [f"{name} ({what})" for name, what in _NEEDED.items() if not environ.get(name)]:
            raise ValueError(f"Set {', '.join(missing)}.")
        files = [name for name in _NEEDED if name.startswith("TENANTVAULT_TLS_")]
        if unreadable := [name for name in files if not _readable(Path(environ[name]))]:
            raise ValueError(f"Cannot read the file that {', '.join(unreadable)} names.")
        return cls(
            target=environ["TENANTVAULT_VAULT_TARGET"],
            tls=TlsFiles.from_env(environ),
            provider_target=environ.get("TENANTVAULT_PROVIDER_TARGET") or None,
        )


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True
