import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.account import Account
from deploy.local.binaries import Binaries
from deploy.local.cluster import check_version, create_cluster, forget_dead_server, path_for
from deploy.local.errors import LocalError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    return data


def note(data: Path, pid: str) -> Path:
    path = data / "postmaster.pid"
    path.write_text(f"{pid}\n{data}\n")
    return path


def test_the_version_must_be_the_same(data: Path) -> None:
    (data / "PG_VERSION").write_text("18\n")

    check_version(data, Binaries(Path("bin"), 18))
    with pytest.raises(LocalError, match="made by PostgreSQL 18, and the one here is 19"):
        check_version(data, Binaries(Path("bin"), 19))


def test_an_end_in_order_leaves_nothing_to_wait_for(data: Path) -> None:
    forget_dead_server(data, patience=0)


@pytest.mark.parametrize("pid", ["", "half", "0"])
def test_a_damaged_note_is_postgres_to_judge(data: Path, pid: str) -> None:
    left = note(data, pid)

    forget_dead_server(data, patience=0)

    assert left.exists()


def test_another_program_with_the_number_of_the_server_is_none(data: Path) -> None:
    left = note(data, str(os.getpid()))

    forget_dead_server(data, patience=0)

    assert not left.exists()


def _server(directory: Path) -> "subprocess.Popen[bytes]":
    """Something that looks like a server to /proc."""
    program = directory.parent / "postgres"
    program.symlink_to("/bin/cat")
    pipe = subprocess.PIPE
    server = subprocess.Popen((str(program),), executable=program, cwd=directory, stdin=pipe, stdout=pipe, bufsize=0)
    assert server.stdin is not None
    assert server.stdout is not None
    # Popen returns while the kernel still gives the process its name; once it answers, it has it.
    server.stdin.write(b"x")
    assert server.stdout.read(1) == b"x"
    return server


def test_a_server_that_is_ending_is_waited_for(data: Path) -> None:
    with _server(data) as server, ThreadPoolExecutor() as pool:
        note(data, str(server.pid))
        waiting = pool.submit(forget_dead_server, data, patience=30)
        assert not waiting.done()
        server.kill()
        server.wait()
        waiting.result()


def test_a_server_that_stays_is_not_ours(data: Path) -> None:
    with _server(data) as server:
        left = note(data, str(server.pid))
        with pytest.raises(LocalError, match=rf"process {server.pid}.*stop it first"):
            forget_dead_server(data, patience=0)
        server.kill()

    assert left.exists()


def test_a_server_on_other_data_does_not_count(data: Path, tmp_path: Path) -> None:
    with _server(tmp_path / "data") as server:
        other = tmp_path / "other"
        other.mkdir()
        left = note(other, str(server.pid))
        forget_dead_server(other, patience=0)
        server.kill()

    assert not left.exists()


def _initdb(tmp_path: Path, script: str) -> Binaries:
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "initdb"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Binaries(directory, 18)


def test_a_failed_set_up_says_why_and_leaves_no_cluster_and_no_password(data: Path, tmp_path: Path) -> None:
    broken = _initdb(tmp_path, "echo 'initdb: error: no space' >&2; exit 1")

    with pytest.raises(LocalError, match="no space"):
        create_cluster(data, binaries=broken, account=None, password="p", scratch=tmp_path)

    assert list(data.iterdir()) == []
    assert not (tmp_path / "password").exists()


def test_the_password_goes_by_a_file_of_its_owner(data: Path, tmp_path: Path) -> None:
    look = 'for a; do case $a in --pwfile=*) ls -l "${a#*=}"; cat "${a#*=}";; esac; done > seen; touch PG_VERSION'
    create_cluster(data, binaries=_initdb(tmp_path, look), account=None, password="pass", scratch=tmp_path)

    seen = (data / "seen").read_text()
    assert seen.startswith("-rw-------")
    assert seen.endswith("pass")
    assert not (tmp_path / "password").exists()


def test_only_a_changed_account_needs_another_name_for_the_data() -> None:
    assert path_for(Path("/data"), None) == "/data"
    assert path_for(Path("/data"), Account(1, 1)) in {"/data", "/proc/self/cwd"}
