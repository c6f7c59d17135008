"""Org keys wrapped by a KMS over HTTP: moto's server, which is real in everything but its keys' keeping."""

import base64
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.core.exceptions import JsonRESTError
from moto.kms.exceptions import AccessDeniedException
from moto.kms.models import KmsBackend
from moto.server import ThreadedMotoServer

from deploy.local.authority import DevelopmentAuthority
from services.vault.aws_kms import LIMIT_SECONDS, AwsKmsKey
from services.vault.seal import Unreadable
from tenantvault.errors import CredentialUnreadable, VaultUnavailable
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tenantvault.v1.admin_service_pb2_grpc import VaultAdminServiceStub
from tests.integration.conftest import Database
from tests.integration.vault.conftest import VAPI, Journal, running_vault

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

ORG_KEY = bytes(range(64, 96))
NAMES = {"org_id": "acme", "org_key_id": "k1"}


class Kms:
    """A KMS, and how an administrator reaches it."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        self.url = "http://{}:{}".format(*self._server.get_host_and_port())
        self.admin: KMSClient = boto3.Session(
            aws_access_key_id="admin", aws_secret_access_key="test", region_name="eu-central-1"
        ).client("kms", endpoint_url=self.url)

    def new_key(self) -> str:
        return self.admin.create_key()["KeyMetadata"]["Arn"]

    def stop(self) -> None:
        self.admin.close()
        self._server.stop()
        assert self._server._server
        self._server._server.server_close()


@pytest.fixture(scope="module", autouse=True)
def strict() -> Iterator[None]:
    """Moto uses disabled keys, and has another word for the blob of another key; here it does as KMS does."""

    def strictly(ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(self: KmsBackend, *, key_id: str, **arguments: Any) -> Any:
            if not self.keys[self.any_id_to_key_id(key_id)].enabled:
                raise JsonRESTError("DisabledException", "")
            try:
                return ask(self, key_id=key_id, **arguments)
            except AccessDeniedException:
                raise JsonRESTError("IncorrectKeyException", "") from None

        return asked

    with pytest.MonkeyPatch.context() as patch:
        for name in ("encrypt", "decrypt"):
            patch.setattr(KmsBackend, name, strictly(getattr(KmsBackend, name)))
        yield


@pytest.fixture(scope="module")
def kms() -> Iterator[Kms]:
    server = Kms()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def environment(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", kms.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "vault")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def key(kms: Kms) -> AwsKmsKey:
    return AwsKmsKey.open("prod-2026", kms.new_key())


async def test_what_was_wrapped_unwraps(key: AwsKmsKey) -> None:
    wrapped = await key.wrap(ORG_KEY, **NAMES)
    assert ORG_KEY not in wrapped
    assert wrapped != await key.wrap(ORG_KEY, **NAMES)
    assert ORG_KEY == await key.unwrap(wrapped, **NAMES)


@pytest.mark.parametrize("change", [{"org_id": "globex"}, {"org_key_id": "k2"}], ids=str)
async def test_a_wrapped_key_that_was_moved_does_not_unwrap(key: AwsKmsKey, change: dict[str, str]) -> None:
    wrapped = await key.wrap(ORG_KEY, **NAMES)
    with pytest.raises(Unreadable):
        await key.unwrap(wrapped, **{**NAMES, **change})


async def test_a_wrapped_key_that_was_changed_does_not_unwrap(key: AwsKmsKey) -> None:
    wrapped = await key.wrap(ORG_KEY, **NAMES)
    for changed in (wrapped[:-1], wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"no blob"):
        with pytest.raises(Unreadable):
            await key.unwrap(changed, **NAMES)


async def test_another_keys_blob_does_not_unwrap(kms: Kms, key: AwsKmsKey) -> None:
    other = AwsKmsKey.open("prod-2027", kms.new_key())
    with pytest.raises(Unreadable):
        await key.unwrap(await other.wrap(ORG_KEY, **NAMES), **NAMES)


async def test_a_disabled_key_is_unavailable_until_it_is_enabled(kms: Kms) -> None:
    arn = kms.new_key()
    key = AwsKmsKey.open("prod-2026", arn)
    wrapped = await key.wrap(ORG_KEY, **NAMES)
    kms.admin.disable_key(KeyId=arn.rpartition("/")[2])
    with pytest.raises(VaultUnavailable):
        await key.unwrap(wrapped, **NAMES)
    with pytest.raises(VaultUnavailable):
        await key.wrap(ORG_KEY, **NAMES)
    kms.admin.enable_key(KeyId=arn.rpartition("/")[2])
    assert ORG_KEY == await key.unwrap(wrapped, **NAMES)


async def test_a_key_that_is_not_there_is_unavailable(key: AwsKmsKey) -> None:
    gone = AwsKmsKey.open("prod-2026", "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab")
    with pytest.raises(VaultUnavailable):
        await gone.unwrap(await key.wrap(ORG_KEY, **NAMES), **NAMES)


async def test_credentials_that_come_late_are_found(key: AwsKmsKey) -> None:
    with pytest.MonkeyPatch.context() as before:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            before.delenv(f"AWS_{name}")
        for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
            before.setenv(f"AWS_{name}", "/dev/null")
        before.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(VaultUnavailable):
            await key.wrap(ORG_KEY, **NAMES)
    assert ORG_KEY == await key.unwrap(await key.wrap(ORG_KEY, **NAMES), **NAMES)


async def test_a_kms_that_is_stopped_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Kms()
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server.url)
    key = AwsKmsKey.open("prod-2026", server.new_key())
    wrapped = await key.wrap(ORG_KEY, **NAMES)
    server.stop()
    begun = time.monotonic()
    with pytest.raises(VaultUnavailable):
        await key.unwrap(wrapped, **NAMES)
    assert time.monotonic() - begun < LIMIT_SECONDS


async def test_a_kms_that_hangs_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # It takes connections and never reads.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:{}".format(*silent.getsockname()[1:]))
        key = AwsKmsKey.open("prod-2026", "arn:aws:kms:eu-central-1:123456789012:key/1234abcd")
        begun = time.monotonic()
        with pytest.raises(VaultUnavailable):
            await key.wrap(ORG_KEY, **NAMES)
        assert time.monotonic() - begun < LIMIT_SECONDS + 1
    assert ["TimeoutError"] == [vars(record)["code"] for record in caplog.records if hasattr(record, "code")]


async def test_no_org_key_is_in_the_log_at_its_most_talkative(key: AwsKmsKey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await key.unwrap(await key.wrap(ORG_KEY, **NAMES), **NAMES)
    assert caplog.records
    assert base64.b64encode(ORG_KEY).decode() not in caplog.text
    assert repr(ORG_KEY) not in caplog.text


async def test_a_vault_moves_from_a_local_master_key_to_the_kms_while_it_is_read(
    fresh_database: Database, authority: DevelopmentAuthority, vault_environ: dict[str, str], kms: Kms, org: str
) -> None:
    local, remote = fresh_database.master_keys, f"kms-1:aws-kms:{kms.new_key()}"
    environ = {**vault_environ, "TENANTVAULT_DATABASE_URL": fresh_database.app_url}
    async with running_vault({**environ, "TENANTVAULT_MASTER_KEYS": f"{local}\n{remote}"}, authority) as vault:
        await vault.connect(org)
    async with running_vault({**environ, "TENANTVAULT_MASTER_KEYS": f"{remote}\n{local}"}, authority) as vault:
        admin = VaultAdminServiceStub(await vault.channel("operator"))
        steps = [step async for step in admin.RotateMasterKey(admin_pb.RotateMasterKeyRequest(), timeout=60)]
        assert (0, ["test-1"]) == (steps[-1].left, list(steps[-1].retired))
        assert VAPI == (await vault.get(org)).credential
    async with running_vault({**environ, "TENANTVAULT_MASTER_KEYS": remote}, authority) as vault:
        assert VAPI == (await vault.get(org)).credential
        # The encryption context holds the key to its org.
        await vault.connect(f"{org}-2")
        await fresh_database.admin(
            "UPDATE org_keys k SET wrapped_key = other.wrapped_key FROM org_keys other"
            " WHERE k.org_id = $1 AND other.org_id = $2",
            org,
            f"{org}-2",
        )
    async with running_vault({**environ, "TENANTVAULT_MASTER_KEYS": remote}, authority) as vault:
        with pytest.raises(CredentialUnreadable):
            await vault.get(org)


async def test_a_vault_whose_kms_is_away_is_not_ready_and_says_why(
    fresh_database: Database, authority: DevelopmentAuthority, vault_environ: dict[str, str], journal: Journal
) -> None:
    away = Kms()
    arn = away.new_key()
    away.stop()
    environ = {
        **vault_environ,
        "TENANTVAULT_DATABASE_URL": fresh_database.app_url,
        "TENANTVAULT_MASTER_KEYS": f"kms-1:aws-kms:{arn}",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_KMS", away.url)
        async with running_vault(environ, authority, ready=False) as vault:
            assert not await vault.server.check()
    [event] = journal.events("self-check failed")
    assert "master key kms-1 does not wrap and unwrap" in event["reason"]
