import pytest

from services.provider.config import Config

BASE = {"TENANTVAULT_VAPI_WEBHOOK_URL": "https://hooks.example.com/vapi"}
LOCAL = {**BASE, "TENANTVAULT_PROFILE": "local"}


def test_the_live_hosts_are_the_default() -> None:
    config = Config.from_env(BASE)
    assert (
        Config(
            vault_target="localhost:7401",
            vapi_urls={"us": "https://api.vapi.ai", "eu": "https://api.eu.vapi.ai"},
            twilio_url="https://api.twilio.com",
            vapi_webhook_url="https://hooks.example.com/vapi",
            lease_seconds=15.0,
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
            "TENANTVAULT_CONNECT_LEASE_SECONDS": "2.5",
            "TENANTVAULT_CHECKPOINT_KILL": "stored",
        }
    )
    assert "vault.internal:7401" == config.vault_target
    assert {"us": "http://127.0.0.1:7499/vapi", "eu": "http://localhost:7499/vapi-eu"} == config.vapi_urls
    assert "http://[::1]:7499/twilio" == config.twilio_url
    assert (2.5, "stored") == (config.lease_seconds, config.kill_at)


def test_one_stand_in_serves_both_regions() -> None:
    config = Config.from_env({**BASE, "TENANTVAULT_VAPI_URL": "https://vapi.example.com"})
    assert {"https://vapi.example.com"} == set(config.vapi_urls.values())


@pytest.mark.parametrize(
    "variable",
    ["TENANTVAULT_VAPI_URL", "TENANTVAULT_VAPI_EU_URL", "TENANTVAULT_TWILIO_URL", "TENANTVAULT_VAPI_WEBHOOK_URL"],
)
@pytest.mark.parametrize(
    ("profile", "url"),
    [
        ("production", "http://127.0.0.1:7499"),
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


@pytest.mark.parametrize("profile", ["production", ""])
def test_a_production_process_never_kills_itself(profile: str) -> None:
    environ = {**BASE, "TENANTVAULT_PROFILE": profile, "TENANTVAULT_CHECKPOINT_KILL": "stored"}
    with pytest.raises(ValueError, match="TENANTVAULT_CHECKPOINT_KILL"):
        Config.from_env(environ)
