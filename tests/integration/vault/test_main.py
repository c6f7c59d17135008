"""The vault as a process of its own: `python -m services.vault.main`."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.authority import DevelopmentAuthority
from services.rpc.server import GRACE
from tenantvault.channel import call, open_channel
from tenantvault.errors import CredentialNotFound
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tests.integration.conftest import Database
from tests.integration.vault.conftest import VAPI, RunningVault

NOT_SERVING, SERVING = 2, 1


async def started(environ: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.vault.main",
        env={**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def event(process: asyncio.subprocess.Process, text: str) -> dict[str, Any]:
    """The next event of that text in the process's log."""
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while line := await process.stderr.readline():
            found: dict[str, Any] = json.loads(line)
            if found["event"] == text:
                return found
    raise AssertionError(f"the process ended without {text!r}")


@contextlib.asynccontextmanager
async def serving(environ: Mapping[str, str]) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await started(environ)
    try:
        port = (await event(process, "listening"))["port"]
        await event(process, "ready to serve")
        yield process, f"localhost:{port}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_it_starts_serves_and_stops_when_it_is_told_to(
    vault_environ: dict[str, str], authority: DevelopmentAuthority, how: signal.Signals
) -> None:
    async with serving(vault_environ) as (process, target):
        tls = authority.issue("voice-agent", server=False)
        async with open_channel(target, tls) as channel:
            watch = aiter(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()))
            assert SERVING == (await anext(watch)).status
            get = access_pb.GetCredentialRequest(org_id="nobody", provider=pb.PROVIDER_VAPI)
            with pytest.raises(CredentialNotFound):
                await call(CredentialAccessServiceStub(channel).GetCredential, get)
            process.send_signal(how)
            assert NOT_SERVING == (await anext(watch)).status
            async with asyncio.timeout(GRACE):
                out, err = await process.communicate()
    assert (0, b"") == (process.returncode, out)
    events = [json.loads(line) for line in err.splitlines()]
    assert "stopping" in [line["event"] for line in events]
    assert {"vault"} == {line["service"] for line in events}


async def test_a_vault_that_is_stopped_leaves_its_reads_in_the_audit_and_the_fleet_without_it(
    vault: RunningVault, vault_environ: dict[str, str], authority: DevelopmentAuthority, database: Database, org: str
) -> None:
    await vault.connect(org)
    spool = Path(tempfile.mkdtemp(dir=authority.issue("vault", server=True).certificate.parent))
    reads = 20
    async with serving({**vault_environ, "TENANTVAULT_AUDIT_SPOOL": str(spool)}) as (process, target):
        [running] = await database.admin("SELECT count(*) FROM vaults")
        assert 2 == running["count"]
        get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI, on_behalf_of="ada")
        async with open_channel(target, authority.issue("voice-agent", server=False)) as channel:
            access = CredentialAccessServiceStub(channel)
            for _ in range(reads):
                assert VAPI == (await call(access.GetCredential, get)).credential.credential
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(GRACE):
            await process.communicate()
        assert 0 == process.returncode
    assert [("voice-agent", "ada")] * reads == [
        (event.peer, event.on_behalf_of) for event in await vault.events(org, "credential.get")
    ]
    assert [] == files(spool)
    [running] = await database.admin("SELECT count(*) FROM vaults")
    assert 1 == running["count"]


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def replaced(settings: Mapping[str, str], **changes: str | None) -> dict[str, str]:
    merged = {**settings, **changes}
    return {name: value for name, value in merged.items() if value is not None}


WRONG: dict[str, tuple[dict[str, str | None], str]] = {
    "no database": ({"TENANTVAULT_DATABASE_URL": None}, "TENANTVAULT_DATABASE_URL is missing"),
    "no URL": ({"TENANTVAULT_DATABASE_URL": "canary"}, "TENANTVAULT_DATABASE_URL is no URL"),
    "a password that ends the host": (
        {"TENANTVAULT_DATABASE_URL": "postgresql://app:pa/canary@host/vault"},
        "TENANTVAULT_DATABASE_URL is no URL",
    ),
    "no keys": ({"TENANTVAULT_MASTER_KEYS": None}, "TENANTVAULT_MASTER_KEYS is missing"),
    "a bad key": ({"TENANTVAULT_MASTER_KEYS": "m:canary"}, "master key 1: it is not of the form id:base64"),
    "a key without its id": ({"TENANTVAULT_MASTER_KEYS": "canary" * 7}, "master key 1: it has not 32 bytes"),
    "a file that is not there": (
        {"TENANTVAULT_MASTER_KEYS": None, "TENANTVAULT_MASTER_KEYS_FILE": "/nowhere"},
        "TENANTVAULT_MASTER_KEYS_FILE names a file that cannot be read",
    ),
    "a key without a name": ({"TENANTVAULT_MASTER_KEYS": f":{'A' * 43}="}, "master key 1 has no id"),
    "a key twice": (
        {"TENANTVAULT_MASTER_KEYS": f"canary:{'A' * 43}=,canary:{'B' * 42}A="},
        "master key 2 has an id that is there already",
    ),
    "a key of a service that is none": (
        {"TENANTVAULT_MASTER_KEYS": "m:aws-kms:canary"},
        "master key 1: a master key in AWS KMS is given by its key's ARN",
    ),
    "the spool": ({"TENANTVAULT_AUDIT_SPOOL": "/dev/null/spool"}, "the audit spool /dev/null/spool cannot be written"),
    "the spool's bound": (
        {"TENANTVAULT_AUDIT_SPOOL_MAX_BYTES": "canary"},
        "TENANTVAULT_AUDIT_SPOOL_MAX_BYTES must be a whole number above zero",
    ),
    "how long a write may take": (
        {"TENANTVAULT_AUDIT_BOUND_SECONDS": "0"},
        "TENANTVAULT_AUDIT_BOUND_SECONDS must be a number above zero",
    ),
    "the lease": (
        {"TENANTVAULT_RECONCILE_SECONDS": "-1"},
        "TENANTVAULT_RECONCILE_SECONDS must be a number above zero",
    ),
    "the staleness": (
        {"TENANTVAULT_MAX_STALENESS_SECONDS": "inf"},
        "TENANTVAULT_MAX_STALENESS_SECONDS must be a number, zero or above",
    ),
    "the overlap": (
        {"TENANTVAULT_OVERLAP_SECONDS": "canary"},
        "TENANTVAULT_OVERLAP_SECONDS must be a number, zero or above",
    ),
    "the keys in memory": (
        {"TENANTVAULT_CACHED_ORG_KEYS": "0.5"},
        "TENANTVAULT_CACHED_ORG_KEYS must be a whole number above zero",
    ),
    "the cache": ({"TENANTVAULT_CACHE_ENTRIES": "canary"}, "TENANTVAULT_CACHE_ENTRIES must be a whole number"),
    "no certificate": ({"TENANTVAULT_TLS_CERT": None}, "TENANTVAULT_TLS_CERT is missing"),
    "a certificate that is not there": ({"TENANTVAULT_TLS_CERT": "/nowhere.pem"}, "[Errno 2]"),
    "the profile": ({"TENANTVAULT_PROFILE": "canary"}, "TENANTVAULT_PROFILE must be production or local"),
    "the address": ({"TENANTVAULT_LISTEN": "canary"}, "TENANTVAULT_LISTEN must be host:port"),
    "the metrics' address": (
        {"TENANTVAULT_METRICS_LISTEN": "127.0.0.1:70000"},
        "TENANTVAULT_METRICS_LISTEN must be host:port",
    ),
    "the log level": ({"TENANTVAULT_LOG_LEVEL": "loud"}, "TENANTVAULT_LOG_LEVEL is 'loud'"),
    "the policy": ({"TENANTVAULT_POLICY_FILE": "/nowhere.toml"}, "the policy /nowhere.toml cannot be read"),
}


@pytest.mark.parametrize("wrong", ["no database", "a bad key"])
async def test_a_wrong_setting_ends_the_process_with_a_sentence(vault_environ: dict[str, str], wrong: str) -> None:
    changes, sentence = WRONG[wrong]
    process = await started(replaced(vault_environ, **changes))
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert (2, b"") == (process.returncode, out)
    assert err.decode().startswith(f"vault: {sentence}")
    assert 1 == err.count(b"\n")


@pytest.mark.parametrize("wrong", WRONG)
def test_every_wrong_setting_is_told_in_a_sentence_that_does_not_show_it(
    vault_environ: dict[str, str], wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the process does it, in this one, which is quicker."""
    import logging

    from services.rpc import process
    from services.vault.main import serve

    changes, sentence = WRONG[wrong]
    for name in [name for name in os.environ if name.startswith("TENANTVAULT_")]:
        monkeypatch.delenv(name)
    for name, value in replaced(vault_environ, **changes).items():
        monkeypatch.setenv(name, value)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers)
    monkeypatch.setattr(root, "level", root.level)
    assert 2 == process.run("vault", serve)
    told = capsys.readouterr()
    assert told.err.startswith(f"vault: {sentence}"), told.err
    assert ("", 1, False) == (told.out, told.err.count("\n"), "canary" in told.err)


async def test_a_port_that_is_taken_ends_the_process_with_a_sentence(vault_environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await started({**vault_environ, "TENANTVAULT_LISTEN": f"127.0.0.1:{port}"})
        async with asyncio.timeout(30):
            _, err = await process.communicate()
    assert 2 == process.returncode
    assert f"vault: cannot listen on 127.0.0.1:{port}: it is taken".encode() in err


async def test_a_vault_whose_database_is_away_runs_and_is_stopped(
    vault_environ: dict[str, str], tmp_path: Path
) -> None:
    process = await started(
        {**vault_environ, "TENANTVAULT_DATABASE_URL": f"postgresql://u:canary@/none?host={tmp_path}"}
    )
    failure = await event(process, "self-check failed")
    assert failure["reason"].startswith("the database cannot be reached (FileNotFoundError)")
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(GRACE):
        _, err = await process.communicate()
    assert 0 == process.returncode
    assert b"canary" not in err
