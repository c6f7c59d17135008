from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from deploy.local.environments import Environments, Ports
from gateway.config import Config as GatewayConfig
from services.provider.config import Config as ProviderConfig
from services.rpc.server import ServerConfig
from services.vault.config import Config as VaultConfig
from tenantvault.tls import TlsFiles

PORTS: Final = Ports(gateway=1, vault=2, provider=3, sandbox=4)
TLS: Final = TlsFiles(certificate=Path("c.pem"), key=Path("c.key"), authorities=Path("ca.pem"))
INHERITED: Final = {
    "PATH": "/usr/bin",
    "HOME": "/home/ada",
    "PYTHONWARNINGS": "error",
    "COVERAGE_PROCESS_START": "pyproject.toml",
    "DATABASE_URL": "postgresql://secret",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "TENANTVAULT_MASTER_KEYS": "another:one",
    "TENANTVAULT_LOG_LEVEL": "debug",
    "TENANTVAULT_CACHE_ENTRIES": "10",
    "TENANTVAULT_MAX_STALENESS_SECONDS": "20",
    "TENANTVAULT_OVERLAP_SECONDS": "30",
    "TENANTVAULT_RECONCILE_SECONDS": "4",
    "TENANTVAULT_CONNECT_LEASE_SECONDS": "2",
    "TENANTVAULT_GOOGLE_CLIENT_ID": "mine.apps.googleusercontent.com",
    "TENANTVAULT_GOOGLE_CLIENT_SECRET": "my-own",
    "TENANTVAULT_GOOGLE_REDIRECT_URL": "https://vault.example.com/oauth/google-calendar",
}
OF_THE_PROVIDER: Final = (
    "TENANTVAULT_ELEVENLABS_WEBHOOK_URL",
    "TENANTVAULT_PROVIDER_ROLE",
    "TENANTVAULT_RESEND_WEBHOOK_URL",
    "TENANTVAULT_ROTATION_DAYS",
    "TENANTVAULT_ROTATION_OVERLAP_SECONDS",
    "TENANTVAULT_TWILIO_SMS_WEBHOOK_URL",
    "TENANTVAULT_TWILIO_VOICE_WEBHOOK_URL",
    "TENANTVAULT_VAPI_TEMPLATES",
    "TENANTVAULT_VERIFY_SECONDS",
)
GOOGLE_SECRET: Final = Path("google")


@pytest.fixture
def environments() -> Environments:
    return Environments(INHERITED, PORTS, live=False)


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[str], Path]:
    """Puts a secret into a file."""

    def put(value: str) -> Path:
        path = tmp_path / value[:8]
        path.write_text(value)
        return path

    return put


def everything(environments: Environments) -> dict[str, dict[str, str]]:
    files = [Path(name) for name in ("jwt", "session", "url", "keys", "password")]
    jwt, session, url, keys, password = files
    return {
        "migrate": environments.migrate(admin_url=url, app_password=password),
        "vault": environments.vault(TLS, database_url=url, master_keys=keys, audit_spool=Path("/spool")),
        "provider": environments.provider(TLS, google_secret=GOOGLE_SECRET),
        "gateway": environments.gateway(TLS, jwt_secret=jwt, session_secret=session),
        "sandbox": environments.sandbox(),
    }


def test_each_process_inherits_a_few_harmless_variables(environments: Environments) -> None:
    for settings in everything(environments).values():
        assert settings["PATH"] == "/usr/bin"
        assert settings["PYTHONWARNINGS"] == "error"
        assert settings["COVERAGE_PROCESS_START"] == "pyproject.toml"
        assert settings["TENANTVAULT_LOG_LEVEL"] == "debug"
        assert not any("secret" in value for value in settings.values())
        assert "TENANTVAULT_MASTER_KEYS" not in settings


@pytest.mark.parametrize(
    ("part", "process"),
    [
        ("MASTER_KEYS", {"vault"}),
        ("TENANTVAULT_DATABASE_URL", {"vault"}),
        ("MIGRATION_DATABASE_URL", {"migrate"}),
        ("APP_PASSWORD", {"migrate"}),
        ("JWT_SECRET", {"gateway"}),
        ("SESSION_SECRET", {"gateway"}),
        ("VAPI_URL", {"provider"}),
        ("GOOGLE", {"provider"}),
        ("CONNECT_LEASE_SECONDS", {"provider"}),
        ("CACHE_ENTRIES", {"vault"}),
        ("MAX_STALENESS_SECONDS", {"vault"}),
        ("OVERLAP_SECONDS", {"vault"}),
        ("RECONCILE_SECONDS", {"vault"}),
        ("AUDIT_SPOOL", {"vault"}),
        ("TLS_KEY", {"vault", "provider", "gateway"}),
    ],
)
def test_a_setting_goes_to_those_that_need_it_and_to_no_other(
    environments: Environments, part: str, process: set[str]
) -> None:
    having = {
        name for name, settings in everything(environments).items() if any(part in variable for variable in settings)
    }

    assert having == process


def test_the_processes_understand_their_settings(environments: Environments, secret: Callable[[str], Path]) -> None:
    """The settings, read by the configurations that will read them."""
    url, keys = "postgresql://app:p@/postgres?host=%2Ftmp%2Fx", "local-1:AAAA"
    vault = environments.vault(TLS, database_url=secret(url), master_keys=secret(keys), audit_spool=Path("/spool"))
    provider = environments.provider(TLS, google_secret=secret("sandbox-secret"))
    gateway = environments.gateway(TLS, jwt_secret=secret("j" * 40), session_secret=secret("s" * 40))

    assert VaultConfig.from_env(vault).database_url.reveal() == url
    assert VaultConfig.from_env(vault).master_keys.reveal() == keys
    assert VaultConfig.from_env(vault).cache_entries == 10
    assert VaultConfig.from_env(vault).max_staleness_seconds == 20
    assert VaultConfig.from_env(vault).overlap_seconds == 30
    assert VaultConfig.from_env(vault).reconcile_seconds == 4
    assert VaultConfig.from_env(vault).audit_spool == Path("/spool")
    assert ServerConfig.from_env(vault, listen="").listen == "127.0.0.1:2"
    assert ServerConfig.from_env(provider, listen="").listen == "127.0.0.1:3"
    assert ProviderConfig.from_env(provider).twilio_url == "http://127.0.0.1:4/twilio"
    assert ProviderConfig.from_env(provider).vault_target == "127.0.0.1:2"
    assert ProviderConfig.from_env(provider).lease_seconds == 2
    google = ProviderConfig.from_env(provider).google
    assert google is not None
    assert google.client_secret.reveal() == "sandbox-secret"
    assert google.redirect_url == "http://localhost:1/oauth/google-calendar"
    config = GatewayConfig.from_env(gateway)
    assert (config.port, config.public_url.geturl()) == (1, "http://localhost:1")
    assert (config.vault_target, config.provider_target) == ("127.0.0.1:2", "127.0.0.1:3")
    assert config.sandbox
    assert config.demo_orgs == ("acme", "globex")


def test_live_means_the_real_hosts(secret: Callable[[str], Path]) -> None:
    live = Environments(INHERITED, PORTS, live=True)

    config = ProviderConfig.from_env(live.provider(TLS, google_secret=secret("sandbox-secret")))
    assert config.vapi_urls == {"us": "https://api.vapi.ai", "eu": "https://api.eu.vapi.ai"}
    assert config.twilio_url == "https://api.twilio.com"
    assert (config.twilio_accounts_url, config.resend_url) == ("https://accounts.twilio.com", "https://api.resend.com")
    gateway = live.gateway(TLS, jwt_secret=secret("j" * 40), session_secret=secret("s" * 40))
    assert not GatewayConfig.from_env(gateway).sandbox


def test_webhooks_go_nowhere_unless_told_where() -> None:
    told = {"TENANTVAULT_VAPI_WEBHOOK_URL": "https://hooks.example.com/vapi"}

    def webhooks(inherited: dict[str, str]) -> str:
        environments = Environments(inherited, PORTS, live=True)
        return ProviderConfig.from_env(environments.provider(TLS, google_secret=GOOGLE_SECRET)).vapi_webhook_url

    nowhere, somewhere = webhooks({}), webhooks(told)

    assert nowhere.endswith(".invalid/vapi")
    assert somewhere == "https://hooks.example.com/vapi"


def test_in_the_sandbox_every_provider_has_a_stand_in_and_google_an_application_of_its_own() -> None:
    provider = Environments(INHERITED, PORTS, live=False).provider(TLS, google_secret=GOOGLE_SECRET)

    assert {name: value for name, value in provider.items() if value.startswith("http") or "GOOGLE" in name} == {
        "TENANTVAULT_VAPI_URL": "http://127.0.0.1:4/vapi",
        "TENANTVAULT_VAPI_WEBHOOK_URL": "https://webhooks.tenantvault.invalid/vapi",
        "TENANTVAULT_TWILIO_URL": "http://127.0.0.1:4/twilio",
        "TENANTVAULT_TWILIO_ACCOUNTS_URL": "http://127.0.0.1:4/twilio",
        "TENANTVAULT_RESEND_URL": "http://127.0.0.1:4/resend",
        "TENANTVAULT_ELEVENLABS_URL": "http://127.0.0.1:4/elevenlabs",
        "TENANTVAULT_GOOGLE_URL": "http://127.0.0.1:4/google",
        "TENANTVAULT_GOOGLE_CLIENT_ID": "tenantvault.apps.sandbox",
        "TENANTVAULT_GOOGLE_CLIENT_SECRET_FILE": "google",
        "TENANTVAULT_GOOGLE_REDIRECT_URL": "http://localhost:1/oauth/google-calendar",
    }


def test_live_google_is_what_the_person_set_up_and_nothing_else() -> None:
    provider = Environments(INHERITED, PORTS, live=True).provider(TLS, google_secret=GOOGLE_SECRET)

    assert {name: value for name, value in provider.items() if "GOOGLE" in name} == {
        name: value for name, value in INHERITED.items() if "GOOGLE" in name
    }


@pytest.mark.parametrize("live", [True, False])
def test_the_provider_service_can_be_tuned(live: bool) -> None:
    inherited = dict.fromkeys(OF_THE_PROVIDER, "given")
    everywhere = everything(Environments(inherited, PORTS, live=live))

    assert inherited.items() <= everywhere.pop("provider").items()
    assert not [name for settings in everywhere.values() for name in settings if name in inherited]
