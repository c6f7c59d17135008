"""The provider service's settings, out of the environment."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import urlsplit

from services.provider.outbound import WHOLE_SECONDS
from services.provider.providers.google_calendar import LIVE, Application, Endpoints, below
from services.provider.providers.vapi.templates import Templates, load_templates, standard
from services.provider.work import OVERLAP_SECONDS, ROTATION_DAYS, VERIFY_SECONDS
from tenantvault.credentials import Provider as Name
from tenantvault.secret import Secret

ROLES: Final = ("all", "serve", "work")
"""What a process does: answer calls, work in the background, or both."""

ELEVENLABS_URLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "global": "https://api.elevenlabs.io",
        "us": "https://api.us.elevenlabs.io",
        "eu": "https://api.eu.residency.elevenlabs.io",
        "in": "https://api.in.residency.elevenlabs.io",
        "sg": "https://api.sg.residency.elevenlabs.io",
    }
)
"""Where ElevenLabs keeps workspaces (https://elevenlabs.io/docs/overview/administration/data-residency)."""

WORK_LEASE_SECONDS: Final = 180.0
"""For how long a worker has what it took: longer than a piece of work takes, and what a dead one costs the others."""

WORK_POLL_SECONDS: Final = 5.0
"""How long a worker that found nothing due waits before it looks again."""

WORK_CONCURRENCY: Final = 8
"""How many pieces a worker does at a time."""

_MARK: Final = re.compile(r"[a-z0-9]{1,20}")
_MOST_DAYS: Final = 3600.0
_YEAR: Final = 365 * 86_400.0
_MAX_LEASE_SECONDS: Final = 300.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What only this service needs; what every server needs is `services.rpc.server.ServerConfig`.

    URLs have no slash at the end; those of regions are by their names. `google` is None where this deployment has no
    application at Google. Webhook URLs that are empty are not set at the provider. What is made at a provider carries
    the `mark`. `kill_at` names the step of a saga at which the process kills itself, for tests of what that leaves
    behind; empty for none.
    """

    vault_target: str
    role: str
    mark: str
    vapi_urls: Mapping[str, str]
    vapi_webhook_url: str
    vapi_templates: Templates
    twilio_url: str
    twilio_accounts_url: str
    twilio_voice_webhook_url: str
    twilio_sms_webhook_url: str
    google: Application | None
    google_endpoints: Endpoints
    resend_url: str
    resend_webhook_url: str
    elevenlabs_urls: Mapping[str, str]
    elevenlabs_webhook_url: str
    patience_seconds: float
    lease_seconds: float
    verify_seconds: float
    rotation_days: Mapping[Name, float]
    overlap_seconds: float
    work_lease_seconds: float
    work_poll_seconds: float
    work_concurrency: int
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
        role = environ.get("TENANTVAULT_PROVIDER_ROLE") or "all"
        if role not in ROLES:
            raise ValueError(f"TENANTVAULT_PROVIDER_ROLE must be {', '.join(ROLES[:-1])} or {ROLES[-1]}")

        mark = environ.get("TENANTVAULT_DEPLOYMENT") or "tenantvault"
        if not _MARK.fullmatch(mark):
            raise ValueError("TENANTVAULT_DEPLOYMENT must be 1 to 20 lower-case letters and digits")

        def url(name: str, default: str) -> str:
            return _url(name, environ.get(name) or default, is_local=is_local)

        def webhook(name: str) -> str:
            return url(name, "") if environ.get(name) else ""

        elevenlabs = environ.get("TENANTVAULT_ELEVENLABS_URL")
        google = environ.get("TENANTVAULT_GOOGLE_URL")
        return cls(
            vault_target=environ.get("TENANTVAULT_VAULT_TARGET") or "localhost:7401",
            role=role,
            mark=mark,
            vapi_urls={
                "us": url("TENANTVAULT_VAPI_URL", "https://api.vapi.ai"),
                # A stand-in serves both regions, unless it says otherwise.
                "eu": url("TENANTVAULT_VAPI_EU_URL", environ.get("TENANTVAULT_VAPI_URL") or "https://api.eu.vapi.ai"),
            },
            vapi_webhook_url=url("TENANTVAULT_VAPI_WEBHOOK_URL", ""),
            vapi_templates=_templates(environ.get("TENANTVAULT_VAPI_TEMPLATES", "")),
            twilio_url=url("TENANTVAULT_TWILIO_URL", "https://api.twilio.com"),
            twilio_accounts_url=url("TENANTVAULT_TWILIO_ACCOUNTS_URL", "https://accounts.twilio.com"),
            twilio_voice_webhook_url=webhook("TENANTVAULT_TWILIO_VOICE_WEBHOOK_URL"),
            twilio_sms_webhook_url=webhook("TENANTVAULT_TWILIO_SMS_WEBHOOK_URL"),
            google=_application(environ, url),
            google_endpoints=below(url("TENANTVAULT_GOOGLE_URL", "")) if google else LIVE,
            resend_url=url("TENANTVAULT_RESEND_URL", "https://api.resend.com"),
            resend_webhook_url=webhook("TENANTVAULT_RESEND_WEBHOOK_URL"),
            elevenlabs_urls=dict.fromkeys(ELEVENLABS_URLS, url("TENANTVAULT_ELEVENLABS_URL", ""))
            if elevenlabs
            else ELEVENLABS_URLS,
            elevenlabs_webhook_url=webhook("TENANTVAULT_ELEVENLABS_WEBHOOK_URL"),
            patience_seconds=_number(
                environ, "TENANTVAULT_PROVIDER_PATIENCE_SECONDS", WHOLE_SECONDS, 1.0, WHOLE_SECONDS
            ),
            lease_seconds=_number(environ, "TENANTVAULT_CONNECT_LEASE_SECONDS", 15.0, 1.0, _MAX_LEASE_SECONDS),
            verify_seconds=_number(environ, "TENANTVAULT_VERIFY_SECONDS", VERIFY_SECONDS, 1.0, _YEAR),
            rotation_days=_rotation_days(environ.get("TENANTVAULT_ROTATION_DAYS", "")),
            overlap_seconds=_number(environ, "TENANTVAULT_ROTATION_OVERLAP_SECONDS", OVERLAP_SECONDS, 0.0, _YEAR),
            work_lease_seconds=_number(
                environ, "TENANTVAULT_WORK_LEASE_SECONDS", WORK_LEASE_SECONDS, 1.0, _MAX_LEASE_SECONDS
            ),
            work_poll_seconds=_number(environ, "TENANTVAULT_WORK_POLL_SECONDS", WORK_POLL_SECONDS, 0.01, 3600.0),
            work_concurrency=int(_number(environ, "TENANTVAULT_WORK_CONCURRENCY", WORK_CONCURRENCY, 1.0, 100.0)),
            kill_at=environ.get("TENANTVAULT_CHECKPOINT_KILL", ""),
        )


def _application(environ: Mapping[str, str], url: Callable[[str, str], str]) -> Application | None:
    """This deployment's application at Google; None where nothing is said of it."""
    names = ("TENANTVAULT_GOOGLE_CLIENT_ID", "TENANTVAULT_GOOGLE_CLIENT_SECRET", "TENANTVAULT_GOOGLE_REDIRECT_URL")
    secret = _secret(environ, names[1])
    if not (environ.get(names[0]) or secret or environ.get(names[2])):
        return None
    if not (environ.get(names[0]) and secret and environ.get(names[2])):
        raise ValueError(f"set all of {', '.join(names)}, or none: they are one application at Google")
    return Application(
        client_id=environ[names[0]],
        client_secret=Secret(secret),
        redirect_url=url("TENANTVAULT_GOOGLE_REDIRECT_URL", ""),
    )


def _secret(environ: Mapping[str, str], name: str) -> str:
    """A secret in a variable, or in the file that the variable with `_FILE` behind its name names; empty for none."""
    value, path = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if value and path:
        raise ValueError(f"{name} and {name}_FILE are both set: keep one")
    if not path:
        return value
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{name}_FILE names a file that cannot be read") from None


def _templates(path: str) -> Templates:
    try:
        return load_templates(path) if path else standard()
    except ValueError as error:
        raise ValueError(f"TENANTVAULT_VAPI_TEMPLATES: {error}") from None


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
    if host in _LOOPBACK and not is_local:
        raise ValueError(f"{name} names this machine: stand-ins for the providers are for the local profile")
    return value.rstrip("/")


def _rotation_days(given: str) -> Mapping[Name, float]:
    """How old the credentials of each provider get: a number for all, and numbers by name, e.g. `90,twilio=0`."""
    days = dict.fromkeys(Name, ROTATION_DAYS)
    for part in filter(None, (part.strip() for part in given.split(","))):
        name, _, number = part.rpartition("=")
        if name and name not in {known.value for known in Name}:
            raise ValueError(f"TENANTVAULT_ROTATION_DAYS: {name} is no provider: {', '.join(Name)}")
        value = _number(
            {"TENANTVAULT_ROTATION_DAYS": number or "none"}, "TENANTVAULT_ROTATION_DAYS", 0.0, 0.0, _MOST_DAYS
        )
        days.update({Name(name): value} if name else dict.fromkeys(Name, value))
    return MappingProxyType(days)


def _number(environ: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    try:
        number = float(environ.get(name) or default)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}")
    return number
