"""`.ci/run` on machines that have or lack something; `make` and the rest are stand-ins."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CODE = Path(__file__).parents[3]
TOOLS = ("bash", "dirname", "sed")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs that is all there is, and says what was called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool} here"))
    for name in ("make", "python3", "chromium", "apt-get"):
        program = programs / name
        program.write_text(f'#!/bin/bash\necho "called: {name} $*"\n')
        program.chmod(0o755)
    return programs


def run(machine: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        (machine / "bash", CODE / ".ci" / "run"),
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": str(machine)},
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def test_with_everything_there_it_runs_the_tests_and_installs_nothing(machine: Path) -> None:
    result = run(machine)

    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "called: make test PYTHON=python3"
    assert "apt-get" not in result.stdout


def test_it_ends_as_the_tests_end(machine: Path) -> None:
    (machine / "make").write_text("#!/bin/bash\n[[ $1 == --version ]] || exit 3\n")

    assert run(machine).returncode == 3


def test_without_a_browser_root_installs_one_and_others_are_told(machine: Path) -> None:
    (machine / "chromium").unlink()

    result = run(machine)

    assert result.returncode == 0
    installed = "called: apt-get install --quiet --yes --no-install-recommends chromium-headless-shell" in result.stdout
    assert installed == (os.geteuid() == 0)
    assert installed or "browser tests will be skipped" in result.stdout


def test_a_failed_installation_is_a_failure(machine: Path) -> None:
    if os.geteuid():
        pytest.skip("only root installs")
    (machine / "chromium").unlink()
    (machine / "apt-get").write_text("#!/bin/bash\nexit 100\n")

    result = run(machine)

    assert result.returncode == 100
    assert "make test" not in result.stdout


@pytest.mark.parametrize(
    ("lacking", "said"),
    [("python3", "Python 3.11 or newer is needed"), ("make", "make is needed")],
)
def test_what_cannot_be_installed_is_asked_for(machine: Path, lacking: str, said: str) -> None:
    (machine / lacking).unlink()

    result = run(machine)

    assert result.returncode == 1
    assert said in result.stderr
