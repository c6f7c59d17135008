"""The fixtures in a project of somebody else's."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest
from tenantvault import Secret, VapiCredential

KEY = VapiCredential(api_key=Secret("key"))

def test_for_threads(tenantvault_vault, tenantvault_client):
    tenantvault_vault.connect("acme", KEY)
    assert tenantvault_client.vapi("acme").credential == KEY

@pytest.mark.asyncio
async def test_for_asyncio(tenantvault_vault, tenantvault_async_client):
    tenantvault_vault.connect("acme", KEY)
    assert (await tenantvault_async_client.vapi("acme")).credential == KEY
"""


def test_they_are_there_for_one_line_in_its_conftest(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    (tmp_path / "test_service.py").write_text(TESTS)
    # Without all the plugins that happen to be installed here.
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider"]

    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tenantvault.testing.fixtures"]\n')
    done = subprocess.run(run, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=100)

    assert "2 passed" in done.stdout, done.stdout + done.stderr
