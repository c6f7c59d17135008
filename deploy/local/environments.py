"""Which process gets which setting: each what it needs, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantvault.tls import TlsFiles

DEMO_ORGS: Final = ("acme", "globex")
ISSUER: Final = "tenantvault-local"
AUDIENCE: Final = "tenantvault"

WEBHOOK_URL: Final = "TENANTVAULT_VAPI_WEBHOOK_URL"
# `.invalid` resolves nowhere (RFC 2606): a webhook carries a secret and must not reach a stranger.
_NO_WEBHOOKS: Final = "https://webhooks.tenantvault.invalid/vapi"

_PASSED_ON: Final = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TENANTVAULT_LOG_LEVEL"})
_VAULT_TUNING: Final = frozenset(
    {
        "TENANTVAULT_CACHE_ENTRIES",
        "TENANTVAULT_CACHE_TTL_SECONDS",
        "TENANTVAULT_MAX_STALENESS_SECONDS",
        "TENANTVAULT_OVERLAP_SECONDS",
        "TENANTVAULT_RECONCILE_SECONDS",
    }
)
_PROVIDER_TUNING: Final = frozenset(
    {
        "TENANTVAULT_CONNECT_LEASE_SECONDS",
        "TENANTVAULT_ELEVENLABS_WEBHOOK_URL",
        "TENANTVAULT_PROVIDER_PATIENCE_SECONDS",
        "TENANTVAULT_PROVIDER_ROLE",
        "TENANTVAULT_RESEND_WEBHOOK_URL",
        "TENANTVAULT_ROTATION_DAYS",
        "TENANTVAULT_ROTATION_OVERLAP_SECONDS",
        "TENANTVAULT_TWILIO_SMS_WEBHOOK_URL",
        "TENANTVAULT_TWILIO_VOICE_WEBHOOK_URL",
        "TENANTVAULT_VAPI_TEMPLATES",
        "TENANTVAULT_VERIFY_SECONDS",
        WEBHOOK_URL,
    }
)
# One's own application at Google. The stand-in has another.
_LIVE_TUNING: Final = frozenset(
    {
        "TENANTVAULT_GOOGLE_CLIENT_ID",
        "TENANTVAULT_GOOGLE_CLIENT_SECRET",
        "TENANTVAULT_GOOGLE_CLIENT_SECRET_FILE",
        "TENANTVAULT_GOOGLE_REDIRECT_URL",
    }
)
GOOGLE_CLIENT_SECRET: Final = "sandbox-secret"  # noqa: S105 - the stand-in takes it from anybody
"""The secret of the application that the stand-in for Google knows."""
_GOOGLE_CLIENT_ID: Final = "tenantvault.apps.sandbox"
# What steers the interpreter, and what measures the coverage of processes that tests start.
_PASSED_ON_PREFIXES: Final = ("PYTHON", "COVERAGE_PROCESS_", "COV_CORE_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where each process listens on 127.0.0.1."""

    gateway: int
    vault: int
    provider: int
    sandbox: int


@dataclass(frozen=True, slots=True)
class Environments:
    """The environment of each process of a local stack.

    `inherited` is the environment of the person who starts it. Secrets go as paths, so that no listing of processes
    shows them.
    """

    inherited: Mapping[str, str]
    ports: Ports
    live: bool

    def migrate(self, *, admin_url: Path, app_password: Path) -> dict[str, str]:
        """Of the step that brings the schema up to date."""
        return self._common() | {
            "TENANTVAULT_MIGRATION_DATABASE_URL_FILE": str(admin_url),
            "TENANTVAULT_APP_PASSWORD_FILE": str(app_password),
        }

    def vault(self, tls: TlsFiles, *, database_url: Path, master_keys: Path, audit_spool: Path) -> dict[str, str]:
        """Of the only one with keys and database."""
        return self._service(tls, self.ports.vault, _VAULT_TUNING) | {
            "TENANTVAULT_DATABASE_URL_FILE": str(database_url),
            "TENANTVAULT_MASTER_KEYS_FILE": str(master_keys),
            "TENANTVAULT_AUDIT_SPOOL": str(audit_spool),
        }

    def provider(self, tls: TlsFiles, *, google_secret: Path) -> dict[str, str]:
        """Of the only one that talks to the providers. `google_secret` holds GOOGLE_CLIENT_SECRET; unused when live."""
        tuning = _PROVIDER_TUNING | _LIVE_TUNING if self.live else _PROVIDER_TUNING
        return {
            WEBHOOK_URL: _NO_WEBHOOKS,
            **self._service(tls, self.ports.provider, tuning),
            "TENANTVAULT_VAULT_TARGET": _target(self.ports.vault),
            **({} if self.live else self._stand_ins(google_secret)),
        }

    def gateway(self, tls: TlsFiles, *, jwt_secret: Path, session_secret: Path) -> dict[str, str]:
        """Of the one that browsers talk to."""
        return self._service(tls, self.ports.gateway) | {
            "TENANTVAULT_PUBLIC_URL": f"http://localhost:{self.ports.gateway}",
            "TENANTVAULT_VAULT_TARGET": _target(self.ports.vault),
            "TENANTVAULT_PROVIDER_TARGET": _target(self.ports.provider),
            "TENANTVAULT_JWT_SECRET_FILE": str(jwt_secret),
            "TENANTVAULT_JWT_ISSUER": ISSUER,
            "TENANTVAULT_JWT_AUDIENCE": AUDIENCE,
            "TENANTVAULT_SESSION_SECRET_FILE": str(session_secret),
            "TENANTVAULT_PROVIDERS": "live" if self.live else "sandbox",
            "TENANTVAULT_DEMO_ORGS": ",".join(DEMO_ORGS),
        }

    def sandbox(self) -> dict[str, str]:
        """Of the stand-ins for the providers."""
        return self._common() | {"TENANTVAULT_SANDBOX_LISTEN": _target(self.ports.sandbox)}

    def _stand_ins(self, google_secret: Path) -> dict[str, str]:
        sandbox = f"http://127.0.0.1:{self.ports.sandbox}"
        return {
            "TENANTVAULT_VAPI_URL": f"{sandbox}/vapi",
            "TENANTVAULT_TWILIO_URL": f"{sandbox}/twilio",
            "TENANTVAULT_TWILIO_ACCOUNTS_URL": f"{sandbox}/twilio",
            "TENANTVAULT_RESEND_URL": f"{sandbox}/resend",
            "TENANTVAULT_ELEVENLABS_URL": f"{sandbox}/elevenlabs",
            "TENANTVAULT_GOOGLE_URL": f"{sandbox}/google",
            "TENANTVAULT_GOOGLE_CLIENT_ID": _GOOGLE_CLIENT_ID,
            "TENANTVAULT_GOOGLE_CLIENT_SECRET_FILE": str(google_secret),
            "TENANTVAULT_GOOGLE_REDIRECT_URL": f"http://localhost:{self.ports.gateway}/oauth/google-calendar",
        }

    def _common(self, tuning: frozenset[str] = frozenset()) -> dict[str, str]:
        passed_on = {
            name: value
            for name, value in self.inherited.items()
            if name in _PASSED_ON | tuning or name.startswith(_PASSED_ON_PREFIXES)
        }
        return {"PYTHONUNBUFFERED": "1", **passed_on}

    def _service(self, tls: TlsFiles, port: int, tuning: frozenset[str] = frozenset()) -> dict[str, str]:
        return self._common(tuning) | {
            "TENANTVAULT_PROFILE": "local",
            "TENANTVAULT_LISTEN": _target(port),
            "TENANTVAULT_TLS_CERT": str(tls.certificate),
            "TENANTVAULT_TLS_KEY": str(tls.key),
            "TENANTVAULT_TLS_CA": str(tls.authorities),
        }


def _target(port: int) -> str:
    return f"127.0.0.1:{port}"
