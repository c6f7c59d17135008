"""Both clients go on when their TLS files are replaced, over mutual TLS."""

import asyncio
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tenantvault import Secret, TlsFiles, VapiCredential, _renewal
from tenantvault.errors import InvalidRequest, Unavailable
from tenantvault.messages import credential_to_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb

pytestmark = pytest.mark.enable_socket

CREDENTIAL = pb.ActiveCredential(
    org_id="acme",
    provider=pb.PROVIDER_VAPI,
    version=1,
    generation=7,
    credential=credential_to_message(VapiCredential(api_key=Secret("key"))),
)


@pytest.fixture(autouse=True)
def _every_call_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_renewal, "LOOK_EVERY", 0.0)


class Peers:
    """Answers each call, and notes over which connection it came. What arrives `held` waits to be released."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.held = False
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, request: Any, context: Any) -> Any:
        self.seen.append(context.peer())
        if self.held:
            self.held = False
            self.arrived.set()
            await self.release.wait()
        return access.GetCredentialResponse(credential=CREDENTIAL)


@pytest.fixture
def peers(vault: Any) -> Peers:
    vault.answer = peers = Peers()
    return peers


def put(source: TlsFiles, place: TlsFiles) -> None:
    """Write these files in the place of those."""
    for each in fields(TlsFiles):
        getattr(place, each.name).write_bytes(getattr(source, each.name).read_bytes())


@pytest.fixture
def files(authority: Any, tmp_path: Path) -> TlsFiles:
    """The client's files, in a folder of their own."""
    files = TlsFiles(certificate=tmp_path / "c.pem", key=tmp_path / "c.key", authorities=tmp_path / "ca.pem")
    put(authority.issue("voice-agent"), files)
    return files


def write(path: Path, content: bytes | None) -> None:
    """Have the file hold that, or be gone."""
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


async def until_remembered(client: Any, vault: Any) -> None:
    """Read until a read makes no call."""
    calls = -1
    while calls != vault.calls:
        calls = vault.calls
        await client.vapi("acme")


@pytest.mark.parametrize("number", [1, 3])
async def test_a_client_reads_on_with_another_authority(
    connect: Any, vault: Any, peers: Peers, files: TlsFiles, foreign_authority: Any, number: int
) -> None:
    client = connect(files, cache=None, channels=number)
    for _ in range(number):
        await client.vapi("acme")
    put(foreign_authority.issue("voice-agent"), files)
    await vault.stop()
    await vault.start(foreign_authority.issue("vault"))

    for _ in range(number):
        assert 1 == (await client.vapi("acme")).version
    await client.close()


async def test_it_remembers_again_after_its_watch_has_waited_for_a_vault_that_it_did_not_trust(
    connect: Any, vault: Any, peers: Peers, files: TlsFiles, foreign_authority: Any
) -> None:
    vault.beats = True
    client = connect(files)
    await until_remembered(client, vault)
    await vault.stop()
    await vault.start(foreign_authority.issue("vault"))
    vault.watched.clear()
    # Meanwhile its next watch waits, for longer than a call may.
    with pytest.raises(Unavailable):
        await client.vapi("globex", deadline=0.3)

    put(foreign_authority.issue("voice-agent"), files)
    await until_remembered(client, vault)
    assert vault.watched.is_set()
    await client.close()


async def test_a_call_under_way_ends_well_over_the_old_connection(
    connect: Any, vault: Any, peers: Peers, files: TlsFiles, authority: Any
) -> None:
    client = connect(files, cache=None)
    peers.held = True
    call = asyncio.create_task(client.vapi("acme", deadline=60))
    await peers.arrived.wait()
    put(authority.issue("voice-agent"), files)
    await client.vapi("acme")
    peers.release.set()

    assert 1 == (await call).version
    assert 2 == len(set(peers.seen))
    await client.close()


@pytest.mark.parametrize("name", ["certificate", "key", "authorities"])
async def test_a_file_that_is_half_written_changes_nothing(
    connect: Any, vault: Any, peers: Peers, files: TlsFiles, authority: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(files, cache=None)
    whole = getattr(files, name).read_bytes()
    for content in (whole[:90], b"", None):
        write(getattr(files, name), content)
        await client.vapi("acme")

    assert 1 == len(set(peers.seen))
    assert 1 == sum("cannot be used" in record.getMessage() for record in caplog.records)
    put(authority.issue("voice-agent"), files)
    await client.vapi("acme")
    assert 2 == len(set(peers.seen))
    await client.close()


async def test_closing_ends_what_is_under_way_over_an_old_connection(
    connect: Any, vault: Any, peers: Peers, files: TlsFiles, authority: Any
) -> None:
    client = connect(files, cache=None)
    peers.held = True
    call = asyncio.create_task(client.vapi("acme", deadline=60))
    await peers.arrived.wait()
    put(authority.issue("voice-agent"), files)
    await client.vapi("acme")
    await client.close()

    with pytest.raises(InvalidRequest, match="closed"):
        await call
