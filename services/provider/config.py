"""The provider service's settings, out of the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

_MAX_LEASE_SECONDS: Final = 300.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What only this service needs; what every server needs is `services.rpc.server.ServerConfig`.

    `vapi_urls` has a base URL for each region; URLs have no slash at the end. `kill_at` names the step of a connect at
    which the process kills itself, for tests of what that leaves behind; empty for none.
    """

    vault_target: str
    vapi_urls: Mapping[str, str]
    twilio_url: str
    vapi_webhook_url: str
    lease_seconds: float
    kill_at: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """From variables that begin with TENANTVAULT_.

        Raises:
            ValueError: a variable is missing or wrong; the sentence names it.
        """
        is_local = environ.get("TENANTVAULT_PROFILE") == "local"
        if environ.get("TENANTVAULT_CHECKPOINT_KILL") and not is_local:
            raise ValueError("TENANTVAULT_CHECKPOINT_KILL is for tests in the local profile: unset it")

        def url(name: str, default: str) -> str:
            return _url(name, environ.get(name) or default, is_local=is_local)

        return cls(
            vault_target=environ.get("TENANTVAULT_VAULT_TARGET") or "localhost:7401",
            vapi_urls={
                "us": url("TENANTVAULT_VAPI_URL", "https://api.vapi.ai"),
                # A stand-in serves both regions, unless it says otherwise.
                "eu": url("TENANTVAULT_VAPI_EU_URL", environ.get("TENANTVAULT_VAPI_URL") or "https://api.eu.vapi.ai"),
            },
            twilio_url=url("TENANTVAULT_TWILIO_URL", "https://api.twilio.com"),
            vapi_webhook_url=url("TENANTVAULT_VAPI_WEBHOOK_URL", ""),
            lease_seconds=_lease_seconds(environ.get("TENANTVAULT_CONNECT_LEASE_SECONDS") or "15"),
            kill_at=environ.get("TENANTVAULT_CHECKPOINT_KILL", ""),
        )


def _url(name: str, value: str, *, is_local: bool) -> str:
    if not value:
        raise ValueError(f"{name} is missing: give a URL, e.g. https://hooks.example.com/vapi")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{name} is not a URL") from None
    if not host or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{name} must be a URL with a host, and without a user name, a query or a fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local and host in _LOOPBACK):
        raise ValueError(f"{name} must begin with https:// (http:// only in the local profile, on this machine)")
    return value.rstrip("/")


def _lease_seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= _MAX_LEASE_SECONDS:
        raise ValueError(f"TENANTVAULT_CONNECT_LEASE_SECONDS must be a number from 1 to {_MAX_LEASE_SECONDS:g}")
    return seconds
