from pathlib import Path

import pytest

from services.vault.cache import AlwaysFresh
from services.vault.config import Config, required_secret, required_url

URL = "postgresql://tenantvault_app:canary@db.example.com:5432/vault?sslmode=verify-full"
NEEDED = {"TENANTVAULT_DATABASE_URL": URL, "TENANTVAULT_MASTER_KEYS": "m:canary"}


def test_what_is_not_set_has_its_default() -> None:
    config = Config.from_env(NEEDED)
    assert (URL, "m:canary", 1000, 300.0) == (
        config.database_url.reveal(),
        config.master_keys.reveal(),
        config.cache_entries,
        config.cache_ttl_seconds,
    )
    assert (60.0, 2.0, 86_400.0, 10_000) == (
        config.max_staleness_seconds,
        config.reconcile_seconds,
        config.overlap_seconds,
        config.cached_org_keys,
    )
    assert (Path("/var/lib/tenantvault/audit-spool"), 256 * 1024 * 1024, 5.0) == (
        config.audit_spool,
        config.audit_spool_max_bytes,
        config.audit_bound_seconds,
    )


def test_everything_can_be_set(tmp_path: Path) -> None:
    url, keys = tmp_path / "url", tmp_path / "keys"
    url.write_text(f"{URL}\n")
    keys.write_text("a:canary\nb:canary\n\n")
    config = Config.from_env(
        {
            "TENANTVAULT_DATABASE_URL_FILE": str(url),
            "TENANTVAULT_MASTER_KEYS_FILE": str(keys),
            "TENANTVAULT_CACHE_ENTRIES": "7",
            "TENANTVAULT_CACHE_TTL_SECONDS": "0.5",
            "TENANTVAULT_CACHED_ORG_KEYS": "8",
            "TENANTVAULT_MAX_STALENESS_SECONDS": "0",
            "TENANTVAULT_RECONCILE_SECONDS": "1.5",
            "TENANTVAULT_OVERLAP_SECONDS": "0",
            "TENANTVAULT_AUDIT_SPOOL": str(tmp_path / "spool"),
            "TENANTVAULT_AUDIT_SPOOL_MAX_BYTES": "9",
            "TENANTVAULT_AUDIT_BOUND_SECONDS": "2.5",
        }
    )
    assert (8, 0.0, 1.5, 0.0, tmp_path / "spool", 9, 2.5) == (
        config.cached_org_keys,
        config.max_staleness_seconds,
        config.reconcile_seconds,
        config.overlap_seconds,
        config.audit_spool,
        config.audit_spool_max_bytes,
        config.audit_bound_seconds,
    )
    assert (URL, "a:canary\nb:canary", 7, 0.5) == (
        config.database_url.reveal(),
        config.master_keys.reveal(),
        config.cache_entries,
        config.cache_ttl_seconds,
    )


def test_settings_do_not_show_their_secrets() -> None:
    assert "canary" not in repr(Config.from_env(NEEDED))


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_needed_and_missing_is_named(name: str, value: str | None) -> None:
    environ = {key: (value if key == name else given) for key, given in NEEDED.items()}
    with pytest.raises(ValueError, match=rf"^{name} is missing: set it, or {name}_FILE") as refused:
        Config.from_env({key: given for key, given in environ.items() if given is not None})
    assert "canary" not in str(refused.value)


def test_a_secret_in_two_places_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^SECRET and SECRET_FILE are both set") as refused:
        required_secret({"SECRET": "canary", "SECRET_FILE": str(tmp_path)}, "SECRET")
    assert "canary" not in str(refused.value)


def test_a_file_that_holds_no_secret_is_refused_by_the_variables_name(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff canary")
    for file, complaint in (
        ("absent", "SECRET_FILE names a file that cannot be read"),
        ("", "SECRET_FILE names a file that cannot be read"),
        ("binary", "SECRET_FILE names a file that cannot be read"),
        ("empty", "SECRET is missing"),
    ):
        with pytest.raises(ValueError, match=rf"^{complaint}") as refused:
            required_secret({"SECRET_FILE": str(tmp_path / file)}, "SECRET")
        assert "canary" not in str(refused.value)
        assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", ["TENANTVAULT_CACHE_ENTRIES", "TENANTVAULT_CACHE_TTL_SECONDS"])
@pytest.mark.parametrize("value", ["0", "-1", "", "many", "inf", "nan", "-inf", "1e999"])
def test_a_bound_is_a_number_above_zero(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a (whole )?number above zero$"):
        Config.from_env({**NEEDED, name: value})


def test_the_cache_has_whole_entries() -> None:
    with pytest.raises(ValueError, match=r"^TENANTVAULT_CACHE_ENTRIES must be a whole number above zero$"):
        Config.from_env({**NEEDED, "TENANTVAULT_CACHE_ENTRIES": "0.5"})


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "postgres://app@/vault?host=/run/postgresql",
        "postgresql://app:canary@10.0.0.1:5432,10.0.0.2:5433/vault",
        "postgresql://app:canary@[::1]:5432/vault",
        "postgresql:///vault",
    ],
)
def test_a_database_url_is_taken_as_it_is(url: str) -> None:
    assert url == required_url({"URL": url}, "URL").reveal()


@pytest.mark.parametrize(
    "url",
    [
        "canary",
        "app:canary@db.example.com/vault",
        "mysql://app:canary@db.example.com/vault",
        # What drivers quote: the rest of a password as the port.
        "postgresql://app:canary/more@db.example.com/vault",
        "postgresql://app:canary#more@db.example.com/vault",
        "postgresql://app:canary?more@db.example.com/vault",
        "postgresql://app:p@db.example.com:canary/vault",
        "postgresql://app:p@db.example.com:0/vault",
        "postgresql://app:p@db.example.com:99999/vault",
        "postgresql://app:canary[@db.example.com/vault",
    ],
)
def test_what_is_no_database_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"^URL is no URL of a PostgreSQL database: write postgresql://") as refused:
        required_url({"URL": url}, "URL")
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", ["TENANTVAULT_MAX_STALENESS_SECONDS", "TENANTVAULT_OVERLAP_SECONDS"])
@pytest.mark.parametrize("value", ["-1", "", "many", "inf", "nan"])
def test_a_time_that_may_be_none_is_a_number_from_zero_on(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a number, zero or above$"):
        Config.from_env({**NEEDED, name: value})


def test_a_folder_that_cannot_be_written_is_named_with_what_to_set(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    config = Config.from_env({**NEEDED, "TENANTVAULT_AUDIT_SPOOL": str(file / "spool")})
    with pytest.raises(OSError, match=r"^the audit spool .* cannot be written \(.*\): .* TENANTVAULT_AUDIT_SPOOL$"):
        config.open_spool()


def test_the_spool_and_the_caches_are_of_these_settings(tmp_path: Path) -> None:
    config = Config.from_env({**NEEDED, "TENANTVAULT_AUDIT_SPOOL": str(tmp_path / "spool")})
    spool = config.open_spool()
    assert [] != list((tmp_path / "spool").iterdir())
    spool.close()
    assert [] == list((tmp_path / "spool").iterdir())
    assert not config.cache(AlwaysFresh()).generations()
