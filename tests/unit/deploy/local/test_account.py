import os
import pwd
from pathlib import Path

import pytest

from deploy.local.account import Account, server_account
from deploy.local.errors import LocalError

KNOWN = {"postgres": 101, "nobody": 65534, "ada": 1000}


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> "Become":
    return Become(monkeypatch)


class Become:
    """A machine with a few accounts, seen by one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, uid: int, *, accounts: tuple[str, ...] = tuple(KNOWN), owner: int | None = None) -> None:
        by_name = {name: _entry(name, KNOWN[name]) for name in accounts}
        by_uid = {entry.pw_uid: entry for entry in by_name.values()}
        self._monkeypatch.setattr(os, "geteuid", lambda: uid)
        self._monkeypatch.setattr(pwd, "getpwnam", by_name.__getitem__)
        self._monkeypatch.setattr(pwd, "getpwuid", by_uid.__getitem__)
        if owner is not None:
            real = os.stat

            def stat(path: Path, **options: bool) -> os.stat_result:
                found = list(real(path, **options))
                found[4] = owner
                return os.stat_result(found)

            self._monkeypatch.setattr(os, "stat", stat)


def _entry(name: str, uid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid + 1, "", "/", "/bin/sh"))


def test_a_normal_user_keeps_the_account(become: Become, tmp_path: Path) -> None:
    become(1000)

    assert server_account(tmp_path / "new") is None


def test_a_normal_user_serves_their_own_data(become: Become, tmp_path: Path) -> None:
    become(1000, owner=1000)

    assert server_account(tmp_path) is None


def test_a_normal_user_does_not_serve_the_data_of_another(become: Become, tmp_path: Path) -> None:
    become(1000, owner=101)

    with pytest.raises(LocalError, match=r"belongs to another user \(uid 101\)"):
        server_account(tmp_path)


def test_a_user_without_an_entry_is_told_what_to_do(become: Become, tmp_path: Path) -> None:
    become(4242)

    with pytest.raises(LocalError, match=r"User id 4242 has no entry .*DATABASE_URL"):
        server_account(tmp_path / "new")


@pytest.mark.parametrize(("accounts", "uid"), [(("postgres", "nobody"), 101), (("nobody",), 65534)])
def test_root_changes_to_an_account_without_rights(
    become: Become, tmp_path: Path, accounts: tuple[str, ...], uid: int
) -> None:
    become(0, accounts=accounts)

    assert server_account(tmp_path / "new") == Account(uid, uid + 1)


def test_root_changes_to_the_owner_of_the_data(become: Become, tmp_path: Path) -> None:
    become(0, owner=1000)

    assert server_account(tmp_path) == Account(1000, 1001)


def test_root_does_not_serve_data_that_belong_to_root(become: Become, tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").touch()
    become(0, owner=0)

    with pytest.raises(LocalError, match="belongs to root"):
        server_account(tmp_path)


def test_root_may_begin_in_an_empty_folder_of_its_own(become: Become, tmp_path: Path) -> None:
    become(0, owner=0)

    assert server_account(tmp_path) == Account(101, 102)


def test_root_on_a_machine_without_such_an_account_is_told_so(become: Become, tmp_path: Path) -> None:
    become(0, accounts=("ada",))

    with pytest.raises(LocalError, match="'postgres' or 'nobody'"):
        server_account(tmp_path / "new")
