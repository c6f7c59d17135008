"""The embedded PostgreSQL as a real server."""

import asyncio
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from deploy.local.binaries import Binaries, find_binaries, open_to_all
from deploy.local.errors import LocalError
from deploy.local.postgres import EmbeddedPostgres

ROOT = os.geteuid() == 0
CODE = Path(__file__).parents[3]
as_root = pytest.mark.skipif(not ROOT, reason="only root changes to another account")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "pg"


def server(data: Path, **options: Any) -> EmbeddedPostgres:
    return EmbeddedPostgres(data, durable=False, **options)


def query(url: str, *statements: str, arguments: tuple[object, ...] = ()) -> Any:
    async def run() -> Any:
        db = await asyncpg.connect(url)
        try:
            for statement in statements[:-1]:
                await db.execute(statement)
            return await db.fetchval(statements[-1], *arguments)
        finally:
            await db.close()

    return asyncio.run(run())


def test_data_survive_a_stop_and_a_start(data: Path) -> None:
    with server(data) as postgres:
        query(postgres.admin_url, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (7)")
    with server(data) as postgres:
        assert query(postgres.admin_url, "SELECT n FROM t") == 7


def test_data_survive_a_crash(data: Path) -> None:
    with server(data) as postgres:
        query(postgres.admin_url, "CREATE TABLE t (n int)", "INSERT INTO t SELECT generate_series(1, 1000)")
        postgres.kill()
        postgres.start()

        assert query(postgres.admin_url, "SELECT count(*) FROM t") == 1000


@on_linux
def test_the_server_ends_with_the_process_that_started_it(data: Path) -> None:
    script = (
        "import sys, signal; from pathlib import Path; from deploy.local.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen((sys.executable, "-c", script, data), cwd=CODE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()

    # The start waits for the lock, which the old server holds until its last process has ended.
    with server(data) as postgres:
        assert postgres.pid != pid
        assert not Path("/proc", str(pid), "exe").exists()


def test_of_two_first_starts_one_serves_and_the_other_is_told_so(data: Path) -> None:
    servers = [server(data, patience=0.3) for _ in range(2)]

    def attempt(postgres: EmbeddedPostgres) -> str:
        try:
            postgres.prepare()
        except LocalError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor() as pool:
        answers = sorted(pool.map(attempt, servers))
    for postgres in servers:
        postgres.close()

    assert answers == ["", f"A PostgreSQL is already running on {data}."]
    with server(data) as postgres:
        assert query(postgres.admin_url, "SELECT 1") == 1


def test_a_start_waits_for_an_earlier_server_that_is_just_ending(data: Path) -> None:
    first = server(data)
    first.start()
    with ThreadPoolExecutor() as pool:
        stopping = pool.submit(first.stop)
        with server(data) as second:
            assert query(second.admin_url, "SELECT 1") == 1
        stopping.result()


def test_one_that_was_refused_takes_nothing_from_the_one_that_runs(data: Path) -> None:
    with server(data) as first:
        second = server(data, patience=0)
        with pytest.raises(LocalError, match="already running"):
            second.start()
        second.stop()

        assert query(first.admin_url, "SELECT 1") == 1


def test_it_leaves_no_folder_for_its_socket_behind(data: Path) -> None:
    with server(data) as postgres:
        folder = Path(parse_qs(urlsplit(postgres.admin_url).query)["host"][0])
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()

    (data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(LocalError):
        server(data).start()
    assert not folder.exists()


def test_a_folder_that_somebody_else_made_for_its_socket_is_not_used(data: Path) -> None:
    with server(data) as postgres:
        folder = Path(parse_qs(urlsplit(postgres.admin_url).query)["host"][0])
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    try:
        with pytest.raises(LocalError, match="belongs to somebody else"):
            server(data).start()
        assert folder.exists()
    finally:
        folder.rmdir()


def test_it_listens_on_no_port_and_wants_the_password(data: Path) -> None:
    with server(data) as postgres:
        assert query(postgres.admin_url, "SHOW listen_addresses") == ""
        assert query(postgres.admin_url, "SHOW data_checksums") == "on"
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(postgres.url("postgres", "guess"), "SELECT 1")


def test_no_value_of_a_statement_reaches_the_log(data: Path) -> None:
    with server(data) as postgres:
        url = postgres.admin_url
        query(url, "CREATE TABLE t (s text UNIQUE)", "INSERT INTO t VALUES ($1)", arguments=("canary-1",))
        with pytest.raises(asyncpg.UniqueViolationError):
            query(url, "INSERT INTO t VALUES ($1)", arguments=("canary-1",))
        with pytest.raises(asyncpg.PostgresSyntaxError):
            query(url, "SELECT 'canary-2' FROM FROM")
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            query(url, "SELECT $1::text::int", arguments=("3-yranac",))

    log = data.with_name("pg.log").read_text()
    assert "duplicate key" in log
    assert "canary-1" not in log
    assert "canary-2" not in log


def test_data_of_another_version_are_left_alone(data: Path) -> None:
    with server(data):
        pass
    version = data / "PG_VERSION"
    version.write_text("9.6\n")

    with pytest.raises(LocalError, match=r"made by PostgreSQL 9\.6.*Nothing was changed"):
        server(data).start()

    assert version.read_text() == "9.6\n"


def test_a_directory_with_other_files_is_left_alone(data: Path) -> None:
    data.mkdir()
    (data / "thesis.txt").write_text("years of work")
    if ROOT:
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)

    with pytest.raises(LocalError, match="holds files and no PostgreSQL data"):
        server(data).start()

    assert [path.name for path in data.iterdir()] == ["thesis.txt"]


def test_a_set_up_that_was_cut_off_is_done_again(data: Path) -> None:
    half = data.with_name("pg.new")
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")

    with server(data) as postgres:
        assert query(postgres.admin_url, "SELECT 1") == 1


def test_a_process_id_that_another_program_has_got_since_is_no_server(data: Path) -> None:
    with server(data) as postgres:
        postgres.kill()
        note = data / "postmaster.pid"
        lines = note.read_text().splitlines()
        note.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))
        postgres.start()

        assert query(postgres.admin_url, "SELECT 1") == 1


def test_a_password_that_is_lost_is_said_so(data: Path) -> None:
    with server(data):
        pass
    data.with_name("pg.password").unlink()

    with pytest.raises(LocalError, match=r"put .*pg\.password back"):
        server(data).start()


def test_a_long_path_does_not_matter(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-name-of-a-folder"] * 6)
    deep.mkdir(parents=True)

    with server(deep / "pg") as postgres:
        assert query(postgres.admin_url, "SELECT 1") == 1


def test_a_server_that_does_not_start_shows_its_log(data: Path) -> None:
    with server(data):
        pass
    (data / "postgresql.conf").write_text("no_such_setting = 1\n")

    with pytest.raises(LocalError, match="no_such_setting"):
        server(data).start()


@as_root
@on_linux
def test_root_needs_no_folder_above_the_data_opened(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)

    with server(private / "pg") as postgres:
        assert Path("/proc", str(postgres.pid)).stat().st_uid != 0
        assert query(postgres.admin_url, "SELECT 1") == 1

    assert private.stat().st_mode & 0o777 == 0o700
    assert private.stat().st_uid == 0


@as_root
def test_root_serves_data_under_the_account_of_their_owner(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    data = tmp_path / "pg"
    data.mkdir(mode=0o700)
    os.chown(data, nobody.pw_uid, nobody.pw_gid)

    with server(data) as postgres:
        assert (data / "PG_VERSION").stat().st_uid == nobody.pw_uid
        assert query(postgres.admin_url, "SELECT 1") == 1


@as_root
def test_programs_out_of_reach_are_copied_and_serve(tmp_path: Path, public: Path) -> None:
    install = find_binaries().directory.parent
    site = tmp_path / "closed" / "site"
    _copy_programs(install, site)
    (tmp_path / "closed").chmod(0o700)
    closed = Binaries(site / install.parent.name / install.name / "bin", find_binaries().major)

    copy = open_to_all(closed, caches=[public])

    assert copy.directory.is_relative_to(public)
    with server(tmp_path / "pg", binaries=copy) as postgres:
        assert query(postgres.admin_url, "SELECT 1") == 1


@as_root
def test_a_normal_user_starts_it_too(public: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    answer = _run_as(nobody.pw_uid, nobody.pw_gid, public)

    assert answer.stdout == f"serves as {nobody.pw_uid}\n", answer.stderr


@as_root
def test_a_user_without_an_entry_is_told_so(public: Path) -> None:
    answer = _run_as(54321, 54321, public)

    assert "User id 54321 has no entry in the user database" in answer.stderr


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can get to."""
    folder = Path(tempfile.mkdtemp(prefix="tv-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _copy_programs(install: Path, site: Path) -> None:
    unneeded = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(install, site / install.parent.name / install.name, ignore=unneeded)
    libraries = install.parents[1] / f"{install.parent.name}.libs"
    if libraries.exists():
        shutil.copytree(libraries, site / libraries.name)


def _run_as(uid: int, gid: int, public: Path) -> subprocess.CompletedProcess[str]:
    """Start and stop a server in a process of this user, with nothing of this checkout but a copy."""
    python = _python_for(uid)
    install = find_binaries().directory.parent
    _copy_programs(install, public)
    (public / install.parent.name / "__init__.py").touch()
    shutil.copytree(CODE / "deploy" / "local", public / "deploy" / "local")
    home = public / "home"
    home.mkdir()
    os.chown(home, uid, gid)
    script = (
        "import os, sys; from pathlib import Path; from deploy.local.postgres import EmbeddedPostgres\n"
        "from deploy.local.errors import LocalError\n"
        "try:\n"
        "    with EmbeddedPostgres(Path(sys.argv[1])) as server:\n"
        "        print('serves as', os.stat(f'/proc/{server.pid}').st_uid)\n"
        "except LocalError as error: sys.exit(str(error))\n"
    )
    return subprocess.run(
        (*_as(uid, gid), python, "-c", script, home / "pg"),
        check=False,
        capture_output=True,
        text=True,
        cwd=public,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(public), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=60,
    )


def _as(uid: int, gid: int) -> tuple[str, ...]:
    """What makes a command this user's, once it is a process: this one has gRPC's threads, and must not fork."""
    become = (
        f"import os, sys; os.setgroups([]); os.setgid({gid}); os.setuid({uid}); os.execv(sys.argv[1], sys.argv[1:])"
    )
    return (sys.executable, "-c", become)


def _python_for(uid: int) -> str:
    """A Python that the user may run: this one can be in root's home."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            code = "import sys; sys.exit(sys.version_info < (3, 11))"
            if not subprocess.run((*_as(uid, uid), python, "-c", code), check=False, capture_output=True).returncode:
                return python
        except OSError:
            continue
    pytest.skip("no Python >= 3.11 here that another user may run")
