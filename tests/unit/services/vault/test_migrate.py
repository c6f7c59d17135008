import base64
import hashlib
import hmac
import re
from pathlib import Path

import pytest

from services.vault import migrate
from services.vault.migrate import Migration, MigrationError, available, main, scram_verifier

ONE, TWO, THREE = (Migration(f"000{n}_x", f"SELECT {n}") for n in (1, 2, 3))


def test_migrations_are_taken_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("0010_ten", "0002_two", "0001_one", "0003_three"):
        (tmp_path / f"{name}.sql").write_text(f"-- {name}")
    for name in ("roles.sql", "1_short.sql", "0004_other.txt", "0005.sql"):
        (tmp_path / name).write_text("-- none")
    assert ["0001_one", "0002_two", "0003_three", "0010_ten"] == [found.name for found in available(tmp_path)]
    assert "-- 0001_one" == available(tmp_path)[0].sql


def test_the_shipped_migrations_are_numbered_without_a_gap() -> None:
    numbers = [int(migration.name[:4]) for migration in available()]
    assert list(range(1, len(numbers) + 1)) == numbers


def test_a_checksum_tells_every_change() -> None:
    assert "17db4fd369edb9244b9f91d9aeed145c3d04ad8ba6e95d06247f07a63527d11a" == Migration("any", "SELECT 1;").checksum
    assert ONE.checksum != Migration(ONE.name, f"{ONE.sql} ").checksum


@pytest.mark.parametrize(
    ("applied", "missing"),
    [([], [ONE, TWO, THREE]), ([ONE], [TWO, THREE]), ([ONE, THREE], [TWO]), ([ONE, TWO, THREE], [])],
)
def test_what_is_missing_is_what_was_not_applied(applied: list[Migration], missing: list[Migration]) -> None:
    assert missing == migrate._missing([ONE, TWO, THREE], {found.name: found.checksum for found in applied})


def test_a_migration_that_was_changed_since_stops() -> None:
    with pytest.raises(MigrationError, match="migration 0002_x was changed after it was applied"):
        migrate._missing([ONE, TWO, THREE], {ONE.name: ONE.checksum, TWO.name: THREE.checksum})


def test_a_database_of_a_newer_version_stops() -> None:
    with pytest.raises(MigrationError, match="has migration 0003_x, which this version does not know"):
        migrate._missing([ONE, TWO], {found.name: found.checksum for found in (ONE, TWO, THREE)})


def test_a_verifier_proves_and_checks_as_in_rfc_7677() -> None:
    """The exchange of RFC 7677, section 3."""
    salt, nonce = "W22ZaJ0SNY7soEsUEjb6gQ==", "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    verifier = scram_verifier("pencil", base64.b64decode(salt))
    parts = re.fullmatch(r"SCRAM-SHA-256\$4096:(.+)\$(.+):(.+)", verifier)
    assert parts is not None
    assert salt == parts[1]
    stored_key, server_key = base64.b64decode(parts[2]), base64.b64decode(parts[3])
    said = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s={salt},i=4096,c=biws,r={nonce}".encode()
    assert (
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        == base64.b64encode(hmac.digest(server_key, said, "sha256")).decode()
    )
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    client_key = bytes(a ^ b for a, b in zip(proof, hmac.digest(stored_key, said, "sha256"), strict=True))
    assert stored_key == hashlib.sha256(client_key).digest()


def test_a_verifier_has_nothing_that_ends_a_string_in_sql() -> None:
    for salt in range(5):
        assert re.fullmatch(r"[A-Za-z0-9$:+/=-]+", scram_verifier("it's", bytes([salt] * 16))) is not None


@pytest.mark.parametrize(
    ("environ", "arguments", "complaint"),
    [
        ({}, [], "TENANTVAULT_MIGRATION_DATABASE_URL is missing"),
        ({"TENANTVAULT_MIGRATION_DATABASE_URL": "canary"}, [], "TENANTVAULT_MIGRATION_DATABASE_URL is no URL"),
        (
            {"TENANTVAULT_MIGRATION_DATABASE_URL": "postgresql://u:pa/canary@h/db"},
            [],
            "TENANTVAULT_MIGRATION_DATABASE_URL is no URL",
        ),
        (
            {"TENANTVAULT_MIGRATION_DATABASE_URL": "postgresql://u:canary@h/db"},
            ["--roles"],
            "TENANTVAULT_APP_PASSWORD is missing",
        ),
        (
            {
                "TENANTVAULT_MIGRATION_DATABASE_URL": "postgresql://u:canary@h/db",
                "TENANTVAULT_APP_PASSWORD": "canary-ä",
            },
            ["--roles"],
            "TENANTVAULT_APP_PASSWORD may have ASCII characters only",
        ),
    ],
)
def test_a_wrong_setting_ends_with_one_sentence(
    environ: dict[str, str],
    arguments: list[str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("TENANTVAULT_MIGRATION_DATABASE_URL", "TENANTVAULT_APP_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert 2 == main(arguments)
    told = capsys.readouterr()
    assert told.err.startswith(f"migrate: {complaint}")
    assert 1 == told.err.count("\n")
    assert "canary" not in told.err + told.out


@pytest.mark.parametrize(
    "url", ["postgresql://u:canary@/db?host=/nowhere/at/all", "postgresql://u:canary@/db?host=/nowhere&sslmode=canary"]
)
def test_a_database_that_cannot_be_reached_is_told_without_its_url(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENANTVAULT_MIGRATION_DATABASE_URL", url)
    assert 1 == main([])
    told = capsys.readouterr().err
    assert told.startswith("migrate: the database refused or cannot be reached: ")
    assert "canary" not in told


@pytest.mark.parametrize("arguments", [["--rolls"], ["now"], ["--roles=yes"]])
def test_an_unknown_argument_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert 2 == ended.value.code
    assert "usage: python -m services.vault.migrate" in capsys.readouterr().err


def test_help_says_what_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert 0 == ended.value.code
    told = " ".join(capsys.readouterr().out.split())
    assert "TENANTVAULT_MIGRATION_DATABASE_URL" in told
    assert "TENANTVAULT_APP_PASSWORD" in told
