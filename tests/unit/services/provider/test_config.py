import itertools
from pathlib import Path

import pytest

from services.provider.config import ELEVENLABS_URLS, Config
from services.provider.providers.google_calendar import LIVE, Application
from services.provider.providers.vapi.templates import standard
from tenantvault.credentials import Provider
from tenantvault.secret import Secret

BASE = {"TENANTVAULT_VAPI_WEBHOOK_URL": "https://hooks.example.com/vapi"}
LOCAL = {**BASE, "TENANTVAULT_PROFILE": "local"}


def test_the_live_hosts_are_the_default() -> None:
    config = Config.from_env(BASE)
    assert (
        Config(
            vault_target="localhost:7401",
            role="all",
            mark="tenantvault",
            vapi_urls={"us": "https://api.vapi.ai", "eu": "https://api.eu.vapi.ai"},
            vapi_webhook_url="https://hooks.example.com/vapi",
            vapi_templates=standard(),
            twilio_url="https://api.twilio.com",
            twilio_accounts_url="https://accounts.twilio.com",
            twilio_voice_webhook_url="",
            twilio_sms_webhook_url="",
            google=None,
            google_endpoints=LIVE,
            resend_url="https://api.resend.com",
            resend_webhook_url="",
            elevenlabs_urls=ELEVENLABS_URLS,
            elevenlabs_webhook_url="",
            patience_seconds=25.0,
            lease_seconds=15.0,
            verify_seconds=86_400.0,
            rotation_days=dict.fromkeys(Provider, 90.0),
            overlap_seconds=43_200.0,
            work_lease_seconds=180.0,
            work_poll_seconds=5.0,
            work_concurrency=8,
            kill_at="",
        )
        == config
    )


def test_everything_can_be_said() -> None:
    config = Config.from_env(
        {
            **LOCAL,
            "TENANTVAULT_VAULT_TARGET": "vault.internal:7401",
            "TENANTVAULT_VAPI_URL": "http://127.0.0.1:7499/vapi/",
            "TENANTVAULT_VAPI_EU_URL": "http://localhost:7499/vapi-eu",
            "TENANTVAULT_TWILIO_URL": "http://[::1]:7499/twilio",
            "TENANTVAULT_TWILIO_ACCOUNTS_URL": "http://[::1]:7499/accounts",
            "TENANTVAULT_TWILIO_VOICE_WEBHOOK_URL": "https://hooks.example.com/voice",
            "TENANTVAULT_TWILIO_SMS_WEBHOOK_URL": "https://hooks.example.com/sms",
            "TENANTVAULT_GOOGLE_URL": "http://127.0.0.1:7499/google",
            "TENANTVAULT_GOOGLE_CLIENT_ID": "client",
            "TENANTVAULT_GOOGLE_CLIENT_SECRET": "client-secret",
            "TENANTVAULT_GOOGLE_REDIRECT_URL": "http://localhost:7400/oauth/google-calendar",
            "TENANTVAULT_RESEND_URL": "http://127.0.0.1:7499/resend",
            "TENANTVAULT_RESEND_WEBHOOK_URL": "https://hooks.example.com/resend",
            "TENANTVAULT_ELEVENLABS_URL": "http://127.0.0.1:7499/elevenlabs",
            "TENANTVAULT_ELEVENLABS_WEBHOOK_URL": "https://hooks.example.com/elevenlabs",
            "TENANTVAULT_PROVIDER_ROLE": "work",
            "TENANTVAULT_DEPLOYMENT": "staging2",
            "TENANTVAULT_VERIFY_SECONDS": "60",
            "TENANTVAULT_ROTATION_DAYS": "60, twilio=0,googleCalendar=7.5",
            "TENANTVAULT_ROTATION_OVERLAP_SECONDS": "30",
            "TENANTVAULT_WORK_LEASE_SECONDS": "3",
            "TENANTVAULT_PROVIDER_PATIENCE_SECONDS": "4",
            "TENANTVAULT_WORK_POLL_SECONDS": "0.1",
            "TENANTVAULT_WORK_CONCURRENCY": "4",
            "TENANTVAULT_CONNECT_LEASE_SECONDS": "2.5",
            "TENANTVAULT_CHECKPOINT_KILL": "stored",
        }
    )
    assert "vault.internal:7401" == config.vault_target
    assert {"us": "http://127.0.0.1:7499/vapi", "eu": "http://localhost:7499/vapi-eu"} == config.vapi_urls
    assert "http://[::1]:7499/twilio" == config.twilio_url
    assert (2.5, "stored") == (config.lease_seconds, config.kill_at)
    assert "http://[::1]:7499/accounts" == config.twilio_accounts_url
    assert "https://hooks.example.com/voice" == config.twilio_voice_webhook_url
    assert "https://hooks.example.com/sms" == config.twilio_sms_webhook_url
    assert config.google == Application(
        client_id="client",
        client_secret=Secret("client-secret"),
        redirect_url="http://localhost:7400/oauth/google-calendar",
    )
    assert "http://127.0.0.1:7499/google/token" == config.google_endpoints.token
    assert ("http://127.0.0.1:7499/resend", "https://hooks.example.com/resend") == (
        config.resend_url,
        config.resend_webhook_url,
    )
    assert dict.fromkeys(ELEVENLABS_URLS, "http://127.0.0.1:7499/elevenlabs") == config.elevenlabs_urls
    assert "https://hooks.example.com/elevenlabs" == config.elevenlabs_webhook_url
    assert "staging2" == config.mark
    assert ("work", 60.0, 30.0) == (config.role, config.verify_seconds, config.overlap_seconds)
    assert {
        Provider.VAPI: 60.0,
        Provider.TWILIO: 0.0,
        Provider.GOOGLE_CALENDAR: 7.5,
        Provider.RESEND: 60.0,
        Provider.ELEVENLABS: 60.0,
    } == config.rotation_days
    assert 4.0 == config.patience_seconds
    assert (3.0, 0.1, 4) == (config.work_lease_seconds, config.work_poll_seconds, config.work_concurrency)


def test_one_stand_in_serves_both_regions() -> None:
    config = Config.from_env({**BASE, "TENANTVAULT_VAPI_URL": "https://vapi.example.com"})
    assert {"https://vapi.example.com"} == set(config.vapi_urls.values())


@pytest.mark.parametrize(
    "variable",
    [
        "TENANTVAULT_VAPI_URL",
        "TENANTVAULT_VAPI_EU_URL",
        "TENANTVAULT_VAPI_WEBHOOK_URL",
        "TENANTVAULT_TWILIO_URL",
        "TENANTVAULT_TWILIO_ACCOUNTS_URL",
        "TENANTVAULT_TWILIO_VOICE_WEBHOOK_URL",
        "TENANTVAULT_TWILIO_SMS_WEBHOOK_URL",
        "TENANTVAULT_GOOGLE_URL",
        "TENANTVAULT_RESEND_URL",
        "TENANTVAULT_RESEND_WEBHOOK_URL",
        "TENANTVAULT_ELEVENLABS_URL",
        "TENANTVAULT_ELEVENLABS_WEBHOOK_URL",
    ],
)
@pytest.mark.parametrize(
    ("profile", "url"),
    [
        ("production", "http://127.0.0.1:7499"),
        ("production", "https://127.0.0.1:7499"),
        ("production", "https://localhost"),
        ("", "http://localhost:7499"),
        ("local", "http://api.vapi.ai"),
        ("local", "http://127.0.0.1.evil.test"),
        ("local", "ftp://127.0.0.1"),
        ("local", "api.vapi.ai"),
        ("local", "https://"),
        ("local", "https://user:pass@api.vapi.ai"),
        ("local", "https://api.vapi.ai?x=1"),
        ("local", "https://api.vapi.ai#x"),
        ("local", "https://api.vapi.ai:port"),
        ("local", "https://[::1"),
    ],
)
def test_what_is_no_url_of_a_provider(variable: str, profile: str, url: str) -> None:
    with pytest.raises(ValueError, match=variable) as caught:
        Config.from_env({**BASE, "TENANTVAULT_PROFILE": profile, variable: url})
    assert "pass@" not in str(caught.value)


def test_webhooks_need_a_place_to_go() -> None:
    with pytest.raises(ValueError, match=r"TENANTVAULT_VAPI_WEBHOOK_URL is missing.*example\.com"):
        Config.from_env({})


@pytest.mark.parametrize("seconds", ["0", "0.5", "301", "-1", "nan", "inf", "soon"])
def test_a_lease_has_sensible_limits(seconds: str) -> None:
    with pytest.raises(ValueError, match="TENANTVAULT_CONNECT_LEASE_SECONDS must be"):
        Config.from_env({**BASE, "TENANTVAULT_CONNECT_LEASE_SECONDS": seconds})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TENANTVAULT_PROVIDER_ROLE", "both"),
        ("TENANTVAULT_DEPLOYMENT", "Staging"),
        ("TENANTVAULT_DEPLOYMENT", "x" * 21),
        ("TENANTVAULT_DEPLOYMENT", "staging-2"),
        ("TENANTVAULT_VERIFY_SECONDS", "0"),
        ("TENANTVAULT_VERIFY_SECONDS", "nan"),
        ("TENANTVAULT_ROTATION_DAYS", "-1"),
        ("TENANTVAULT_ROTATION_DAYS", "3601"),
        ("TENANTVAULT_ROTATION_DAYS", "often"),
        ("TENANTVAULT_ROTATION_DAYS", "acme=3"),
        ("TENANTVAULT_ROTATION_DAYS", "twilio="),
        ("TENANTVAULT_ROTATION_OVERLAP_SECONDS", "soon"),
        ("TENANTVAULT_WORK_LEASE_SECONDS", "301"),
        ("TENANTVAULT_WORK_POLL_SECONDS", "0"),
        ("TENANTVAULT_PROVIDER_PATIENCE_SECONDS", "26"),
        ("TENANTVAULT_WORK_CONCURRENCY", "0"),
        ("TENANTVAULT_VAPI_TEMPLATES", "/nowhere/templates.json"),
    ],
)
def test_a_setting_that_is_wrong_is_named(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=variable):
        Config.from_env({**BASE, variable: value})


@pytest.mark.parametrize("given", [1, 2])
def test_an_application_at_google_is_whole_or_none(given: int) -> None:
    parts = {
        "TENANTVAULT_GOOGLE_CLIENT_ID": "client",
        "TENANTVAULT_GOOGLE_CLIENT_SECRET": "c4n4ry",
        "TENANTVAULT_GOOGLE_REDIRECT_URL": "https://gateway.example.com/oauth/google-calendar",
    }
    for some in itertools.combinations(parts, given):
        with pytest.raises(ValueError, match="set all of") as caught:
            Config.from_env({**BASE, **{name: parts[name] for name in some}})
        assert "c4n4ry" not in str(caught.value)


def test_the_secret_of_the_application_can_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("client-secret\n")
    environ = {
        **BASE,
        "TENANTVAULT_GOOGLE_CLIENT_ID": "client",
        "TENANTVAULT_GOOGLE_CLIENT_SECRET_FILE": str(file),
        "TENANTVAULT_GOOGLE_REDIRECT_URL": "https://gateway.example.com/oauth/google-calendar",
    }
    application = Config.from_env(environ).google
    assert application is not None
    assert Secret("client-secret") == application.client_secret
    with pytest.raises(ValueError, match="keep one"):
        Config.from_env({**environ, "TENANTVAULT_GOOGLE_CLIENT_SECRET": "another"})
    with pytest.raises(ValueError, match="cannot be read"):
        Config.from_env({**environ, "TENANTVAULT_GOOGLE_CLIENT_SECRET_FILE": str(tmp_path / "nowhere")})


@pytest.mark.parametrize("profile", ["production", ""])
def test_a_production_process_never_kills_itself(profile: str) -> None:
    environ = {**BASE, "TENANTVAULT_PROFILE": profile, "TENANTVAULT_CHECKPOINT_KILL": "stored"}
    with pytest.raises(ValueError, match="TENANTVAULT_CHECKPOINT_KILL"):
        Config.from_env(environ)
