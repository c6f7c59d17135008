"""The arrows between the rooms are as the contracts in pyproject.toml say, and the contracts see what breaks them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A module, and an import that must not be there.
FORBIDDEN = [
    ("gateway/app.py", "import services.vault.keeper"),
    ("gateway/app.py", "import asyncpg"),
    ("gateway/app.py", "import httpx"),
    ("services/vault/main.py", "import services.provider.connect"),
    ("services/provider/connect.py", "import services.vault.keeper"),
    ("services/provider/connect.py", "import asyncpg"),
    ("services/provider/providers/vapi/account.py", "import cryptography"),
    ("services/provider/providers/vapi/account.py", "import services.provider.providers.twilio"),
    ("services/vault/keeper.py", "import services.vault.postgres"),
    ("services/vault/keeper.py", "import grpc"),
    ("services/vault/keeper.py", "import asyncpg"),
    ("services/vault/servicer.py", "import httpx"),
    ("services/vault/main.py", "import tenantvault.async_client"),
    ("services/rpc/server.py", "import services.vault.keeper"),
    ("services/rpc/server.py", "import tenantvault.async_client"),
    ("clients/python/src/tenantvault/client.py", "import services.rpc.server"),
    ("clients/python/src/tenantvault/errors.py", "import grpc"),
    ("clients/python/src/tenantvault/webhooks/vapi.py", "import grpc"),
    ("services/provider/worker.py", "import grpc"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    # The folder's own packages, not those that the environment has installed.
    source = (
        "import sys; sys.path[:0] = ['.', 'clients/python/src'];"
        "from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", source], cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )


def test_the_contracts_are_kept() -> None:
    result = lint(ROOT)
    assert 0 == result.returncode, result.stdout


@pytest.mark.parametrize(("module", "line"), FORBIDDEN)
def test_an_import_against_the_arrows_is_seen(module: str, line: str, tmp_path: Path) -> None:
    for name in ("services", "gateway", "clients/python/src", "pyproject.toml"):
        source, copy = ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "dashboard"))
        else:
            shutil.copy(source, copy)
    target = tmp_path / module
    target.write_text(f"{line}\n{target.read_text('utf-8')}", "utf-8")
    assert 0 != lint(tmp_path).returncode
