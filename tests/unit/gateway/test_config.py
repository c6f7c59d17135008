from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config
from tenantvault.secret import Secret

TLS = {name: f"/etc/tenantvault/{name}.pem" for name in ("TLS_CERT", "TLS_KEY", "TLS_CA")}
BASE = TLS | {
    "PUBLIC_URL": "https://vault.example.com",
    "JWT_SECRET": "j" * 32,
    "JWT_ISSUER": "https://login.example.com",
    "JWT_AUDIENCE": "tenantvault",
    "SESSION_SECRET": "s" * 32,
}
LOCAL = TLS | {"PROFILE": "local", "JWT_SECRET": "j" * 32, "SESSION_SECRET": "s" * 32}


def config(base: dict[str, str] = BASE, **changes: str | None) -> Config:
    settings = {name: value for name, value in (base | changes).items() if value is not None}
    return Config.from_env({f"TENANTVAULT_{name}": value for name, value in settings.items()})


def test_production_has_defaults_for_what_is_not_secret() -> None:
    read = config()
    assert (read.local, read.host, read.port, read.log_level) == (False, "127.0.0.1", 8400, "info")
    assert (read.vault_target, read.provider_target) == ("localhost:7401", "localhost:7402")
    assert (read.org_claim, read.role_claim) == (("org_id",), ("role",))
    assert (read.admin_roles, read.demo_orgs, read.sandbox) == (frozenset({"admin", "owner"}), (), False)
    assert (read.jwt_secret, read.session_secret, read.secure) == (Secret("j" * 32), Secret("s" * 32), True)
    assert str(read.tls.key) == "/etc/tenantvault/TLS_KEY.pem"


def test_the_local_profile_needs_little() -> None:
    read = config(LOCAL, PROVIDERS="sandbox", LISTEN="[::1]:0")
    assert (read.local, read.secure, read.sandbox, read.demo_orgs) == (True, False, True, ("acme", "globex"))
    assert (read.host, read.port, read.public_url.geturl()) == ("::1", 0, "http://localhost:8400")


def test_the_demo_orgs_may_be_others_or_none() -> None:
    assert config(LOCAL, DEMO_ORGS="initech, hooli").demo_orgs == ("initech", "hooli")
    assert config(LOCAL, DEMO_ORGS="").demo_orgs == ()


def test_settings_are_read_as_given() -> None:
    read = config(
        LISTEN="0.0.0.0:80",
        JWT_ORG_CLAIM="app.org.id",
        JWT_ROLE_CLAIM="app.roles",
        ADMIN_ROLES=" boss ,",
        VAULT_TARGET="vault:7401",
        PROVIDER_TARGET="provider:7402",
    )
    assert (read.host, read.port) == ("0.0.0.0", 80)
    assert (read.org_claim, read.role_claim) == (("app", "org", "id"), ("app", "roles"))
    assert (read.admin_roles, read.vault_target, read.provider_target) == (
        frozenset({"boss"}),
        "vault:7401",
        "provider:7402",
    )


def test_secrets_may_stand_in_files(tmp_path: Path) -> None:
    (tmp_path / "jwt").write_text("f" * 40 + "\n")
    read = config(JWT_SECRET=None, JWT_SECRET_FILE=str(tmp_path / "jwt"))
    assert read.jwt_secret == Secret("f" * 40)


def test_the_keys_may_be_published() -> None:
    assert config(JWT_SECRET=None, JWKS_URL="https://login.example.com/jwks").jwks_url.endswith("/jwks")
    assert config(JWT_SECRET=None, JWKS_FILE="/etc/jwks.json").jwks_file == "/etc/jwks.json"
    local = config(LOCAL, JWT_SECRET=None, JWKS_URL="http://127.0.0.1:9000/jwks")
    assert local.jwks_url == "http://127.0.0.1:9000/jwks"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"PROFILE": "test"}, "TENANTVAULT_PROFILE"),
        ({"TLS_KEY": None}, "TENANTVAULT_TLS_KEY"),
        ({"JWT_SECRET": "short"}, "TENANTVAULT_JWT_SECRET"),
        ({"JWT_SECRET": None}, "TENANTVAULT_JWKS_URL"),
        ({"JWKS_FILE": "/etc/jwks.json"}, "TENANTVAULT_JWT_SECRET"),
        ({"JWT_SECRET": None, "JWKS_URL": "https://a.example", "JWKS_FILE": "b"}, "TENANTVAULT_JWKS_FILE"),
        ({"JWT_SECRET": None, "JWKS_URL": "http://login.example.com/jwks"}, "TENANTVAULT_JWKS_URL"),
        ({"JWT_SECRET": None, "JWKS_URL": "file:///etc/passwd"}, "TENANTVAULT_JWKS_URL"),
        ({"JWT_SECRET": None, "JWKS_URL": "https://"}, "TENANTVAULT_JWKS_URL"),
        ({"JWT_SECRET": None, "JWKS_URL": "https://[bad"}, "TENANTVAULT_JWKS_URL"),
        ({"JWT_SECRET": None, "JWKS_URL": "https://u:p@login.example.com"}, "TENANTVAULT_JWKS_URL"),
        ({"JWT_SECRET_FILE": "/nowhere"}, "TENANTVAULT_JWT_SECRET_FILE"),
        ({"JWT_ISSUER": None}, "TENANTVAULT_JWT_ISSUER"),
        ({"JWT_AUDIENCE": None}, "TENANTVAULT_JWT_AUDIENCE"),
        ({"JWT_ORG_CLAIM": "a..b"}, "TENANTVAULT_JWT_ORG_CLAIM"),
        ({"JWT_ROLE_CLAIM": ""}, "TENANTVAULT_JWT_ROLE_CLAIM"),
        ({"ADMIN_ROLES": " , "}, "TENANTVAULT_ADMIN_ROLES"),
        ({"SESSION_SECRET": None}, "TENANTVAULT_SESSION_SECRET"),
        ({"SESSION_SECRET": "s" * 31}, "TENANTVAULT_SESSION_SECRET"),
        ({"SESSION_SECRET": "j" * 32}, "TENANTVAULT_SESSION_SECRET"),
        ({"PROVIDERS": "fake"}, "TENANTVAULT_PROVIDERS"),
        ({"PROVIDERS": "sandbox"}, "TENANTVAULT_PROVIDERS"),
        ({"DEMO_ORGS": "acme"}, "TENANTVAULT_DEMO_ORGS"),
        ({"PUBLIC_URL": None}, "TENANTVAULT_PUBLIC_URL"),
        ({"PUBLIC_URL": "http://vault.example.com"}, "TENANTVAULT_PUBLIC_URL"),
        ({"PUBLIC_URL": "http://localhost:8400"}, "TENANTVAULT_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://vault.example.com/app"}, "TENANTVAULT_PUBLIC_URL"),
        ({"PUBLIC_URL": "vault.example.com"}, "TENANTVAULT_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://vault.example.com:port"}, "TENANTVAULT_PUBLIC_URL"),
        ({"LISTEN": "8400"}, "TENANTVAULT_LISTEN"),
        ({"LISTEN": "127.0.0.1:99999"}, "TENANTVAULT_LISTEN"),
        ({"LISTEN": "127.0.0.1:"}, "TENANTVAULT_LISTEN"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        config(**changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"LISTEN": "0.0.0.0:8400"}, "TENANTVAULT_LISTEN"),
        ({"PUBLIC_URL": "http://vault.example.com"}, "TENANTVAULT_PUBLIC_URL"),
        ({"DEMO_ORGS": "Acme"}, "TENANTVAULT_DEMO_ORGS"),
    ],
)
def test_the_local_profile_stays_on_this_machine(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        config(LOCAL, **changes)


def test_an_empty_secret_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="TENANTVAULT_SESSION_SECRET_FILE"):
        config(SESSION_SECRET_FILE=str(tmp_path / "empty"))


def test_no_complaint_shows_a_secret() -> None:
    for name in ("JWT_SECRET", "SESSION_SECRET"):
        with pytest.raises(ValueError, match="too short") as refused:
            config(BASE | {name: "hunter2"})
        assert "hunter2" not in str(refused.value)
    assert "j" * 32 not in repr(config())
