"""The README's commands, run as they stand there."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local.ports import free_port

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("readme")]

SH = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def commands() -> list[str]:
    blocks = SH.findall((ROOT / "README.md").read_text("utf-8"))
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.fixture
def settings() -> Iterator[dict[str, str]]:
    data = Path(tempfile.mkdtemp(prefix="tv-readme-"))
    data.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "COV_CORE"))}
    yield {**environ, "DATA": str(data / "local"), "PORT": str(free_port())}
    shutil.rmtree(data, ignore_errors=True)


def shell(command: str, settings: dict[str, str]) -> str:
    command = command.replace("localhost:8400", f"localhost:{settings['PORT']}")
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_the_commands_of_the_readme_do_what_it_says(settings: dict[str, str]) -> None:
    run, fetch, status, test = commands()
    assert ("make run", "make test") == (run, test)
    running = subprocess.Popen(
        run.split(), cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert running.stdout is not None
        said = ""
        for line in running.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        assert f"http://localhost:{settings['PORT']}" in said, said
        key = re.search(r"API key (\S+)", said)
        assert key is not None
        token = shell("make -s token ORG=acme", settings).strip()
        answer = httpx.post(
            f"http://localhost:{settings['PORT']}/api/integrations/vapi",
            json={"apiKey": key.group(1)},
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        assert answer.json()["success"], answer.text
        fetched = shell(fetch, settings)
        assert answer.json()["inboundAssistantId"] in fetched
        assert key.group(1) not in fetched
        assert key.group(1) in shell(f"{fetch} REVEAL=1", settings)
        assert '"connected":true' in shell(status, settings).replace(" ", "")
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.communicate(timeout=30)


def test_every_target_of_make_help_has_a_line() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony is not None
    assert sorted(phony.group(1).split()) == sorted(re.findall(r"^  make ([a-z0-9-]+)", said, re.MULTILINE))
