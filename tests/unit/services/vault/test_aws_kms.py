"""No call leaves this process: botocore's stub answers, or an error is raised where a request would go out."""

import asyncio
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import exceptions
from botocore.config import Config
from botocore.stub import Stubber

from services.vault import aws_kms as module
from services.vault.aws_kms import AwsKmsKey
from services.vault.seal import Unreadable
from tenantvault.errors import VaultUnavailable

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ORG_KEY = bytes(range(64, 96))
BLOB = b"a blob of KMS"
NAMES = {"org_id": "acme", "org_key_id": "k1"}
CONTEXT = {"tenantvault:org": "acme", "tenantvault:key": "k1"}
DECRYPT = {"KeyId": ARN, "CiphertextBlob": BLOB, "EncryptionContext": CONTEXT}
ENDPOINT = "https://kms.eu-central-1.amazonaws.com/"
MESSAGE = "AWS KMS did not answer with a result"

CODES = [
    "AccessDeniedException",
    "DependencyTimeoutException",
    "DisabledException",
    "ExpiredTokenException",
    "InternalFailure",
    "InvalidGrantTokenException",
    "InvalidKeyUsageException",
    "KMSInternalException",
    "KMSInvalidStateException",
    "KeyUnavailableException",
    "LimitExceededException",
    "NotFoundException",
    "RequestExpired",
    "ServiceUnavailableException",
    "ThrottlingException",
    "UnrecognizedClientException",
    "ValidationException",
    "500",
    "a code of tomorrow",
]


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials are to be found, and nowhere else is AWS than usual."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "ENDPOINT_URL", "ENDPOINT_URL_KMS"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def somebody(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(scope="module")
def session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="eu-central-1")


@pytest.fixture
def client(session: boto3.Session) -> "KMSClient":
    """It tries once: a second try would wait for up to a second."""
    return session.client("kms", config=Config(retries={"mode": "standard", "total_max_attempts": 1}))


@pytest.fixture
def kms(client: "KMSClient") -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def key(client: "KMSClient") -> AwsKmsKey:
    return AwsKmsKey("prod-2026", ARN, lambda: client)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [
        (record.getMessage(), {name: vars(record)[name] for name in ("operation", "code", "master_key_id")})
        for record in caplog.records
        if record.name == module.__name__
    ]


async def test_wrapping_names_the_key_the_org_and_the_orgs_key(key: AwsKmsKey, kms: Stubber) -> None:
    sent = {"KeyId": ARN, "Plaintext": ORG_KEY, "EncryptionContext": CONTEXT}
    kms.add_response("encrypt", {"CiphertextBlob": BLOB, "KeyId": ARN}, sent)
    assert BLOB == await key.wrap(ORG_KEY, org_id="acme", org_key_id="k1")


async def test_unwrapping_names_the_key_the_org_and_the_orgs_key(key: AwsKmsKey, kms: Stubber) -> None:
    kms.add_response("decrypt", {"Plaintext": ORG_KEY, "KeyId": ARN}, DECRYPT)
    assert ORG_KEY == await key.unwrap(BLOB, org_id="acme", org_key_id="k1")


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException"])
async def test_what_kms_cannot_decrypt_is_unreadable(
    key: AwsKmsKey, kms: Stubber, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    kms.add_client_error("decrypt", code, "a text with " + BLOB.decode(), expected_params=DECRYPT)
    with pytest.raises(Unreadable) as raised:
        await key.unwrap(BLOB, **NAMES)
    assert raised.value.__suppress_context__
    assert [(MESSAGE, {"operation": "Decrypt", "code": code, "master_key_id": "prod-2026"})] == logged(caplog)
    assert BLOB.decode() not in caplog.text


@pytest.mark.parametrize("code", CODES)
async def test_any_other_no_of_kms_leaves_the_record_as_it_is(
    key: AwsKmsKey, kms: Stubber, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    for operation in ("encrypt", "decrypt"):
        kms.add_client_error(operation, code, "a text that is not for the log")
    with pytest.raises(VaultUnavailable):
        await key.wrap(ORG_KEY, **NAMES)
    with pytest.raises(VaultUnavailable) as raised:
        await key.unwrap(BLOB, **NAMES)
    assert VaultUnavailable.sentence == raised.value.message
    assert raised.value.__suppress_context__
    assert [
        (MESSAGE, {"operation": operation, "code": code, "master_key_id": "prod-2026"})
        for operation in ("Encrypt", "Decrypt")
    ] == logged(caplog)
    assert "not for the log" not in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectTimeoutError(endpoint_url=ENDPOINT),
        exceptions.ConnectionClosedError(endpoint_url=ENDPOINT),
        exceptions.EndpointConnectionError(endpoint_url=ENDPOINT, error="refused"),
        exceptions.HTTPClientError(error="broken"),
        exceptions.ProxyConnectionError(proxy_url=ENDPOINT, error="refused"),
        exceptions.ReadTimeoutError(endpoint_url=ENDPOINT),
        exceptions.SSLError(endpoint_url=ENDPOINT, error=OSError("self-signed")),
        exceptions.CredentialRetrievalError(provider="a provider", error_msg="away"),
        exceptions.PartialCredentialsError(provider="a provider", cred_var="a variable"),
        exceptions.TokenRetrievalError(provider="a provider", error_msg="away"),
        OSError("a text"),
        RuntimeError("a text"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_kms_that_cannot_be_reached_leaves_the_record_as_it_is(
    key: AwsKmsKey, client: "KMSClient", error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise error

    client.meta.events.register("before-send.kms", fail)
    with pytest.raises(VaultUnavailable):
        await key.unwrap(BLOB, **NAMES)
    expected = {"operation": "Decrypt", "code": type(error).__name__, "master_key_id": "prod-2026"}
    assert [(MESSAGE, expected)] == logged(caplog)
    assert str(error) not in caplog.text


async def test_a_client_that_cannot_be_made_is_made_by_the_next_call(client: "KMSClient", kms: Stubber) -> None:
    tries: list[Exception | None] = [exceptions.ProfileNotFound(profile="gone"), None]

    def connect() -> "KMSClient":
        if error := tries.pop(0):
            raise error
        return client

    key = AwsKmsKey("prod-2026", ARN, connect)
    with pytest.raises(VaultUnavailable):
        await key.unwrap(BLOB, **NAMES)
    for _ in range(2):
        kms.add_response("decrypt", {"Plaintext": ORG_KEY})
        assert ORG_KEY == await key.unwrap(BLOB, **NAMES)
    assert not tries


@pytest.mark.parametrize("blob", [b"", bytes(6145)], ids=["empty", "too long"])
async def test_what_kms_would_not_look_at_is_unreadable_without_asking(
    key: AwsKmsKey, kms: Stubber, blob: bytes
) -> None:
    with pytest.raises(Unreadable):
        await key.unwrap(blob, **NAMES)


@pytest.mark.parametrize("plaintext", [b"k" * 31, b"k" * 33])
async def test_what_is_no_org_key_is_unreadable(key: AwsKmsKey, kms: Stubber, plaintext: bytes) -> None:
    kms.add_response("decrypt", {"Plaintext": plaintext, "KeyId": ARN})
    with pytest.raises(Unreadable):
        await key.unwrap(BLOB, **NAMES)


async def test_the_loop_runs_while_kms_is_asked(client: "KMSClient", kms: Stubber) -> None:
    loop, asked, answer = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def connect() -> "KMSClient":
        loop.call_soon_threadsafe(asked.set)
        assert answer.wait(10)
        return client

    kms.add_response("decrypt", {"Plaintext": ORG_KEY, "KeyId": ARN}, DECRYPT)
    unwrapping = asyncio.create_task(AwsKmsKey("prod-2026", ARN, connect).unwrap(BLOB, **NAMES))
    await asked.wait()
    answer.set()
    assert ORG_KEY == await unwrapping


@pytest.fixture
def hanging() -> Iterator[Callable[[], "KMSClient"]]:
    """What never gives a client until the test is over."""
    over = threading.Event()

    def connect() -> "KMSClient":
        over.wait(60)
        raise exceptions.ConnectTimeoutError(endpoint_url=ENDPOINT)

    yield connect
    over.set()


async def test_a_call_that_hangs_is_given_up(
    hanging: Callable[[], "KMSClient"], caplog: pytest.LogCaptureFixture
) -> None:
    key = AwsKmsKey("prod-2026", ARN, hanging, limit_seconds=0.01)
    with pytest.raises(VaultUnavailable):
        await key.wrap(ORG_KEY, **NAMES)
    expected = {"operation": "Encrypt", "code": "TimeoutError", "master_key_id": "prod-2026"}
    assert [(MESSAGE, expected)] == logged(caplog)


async def test_a_caller_who_leaves_is_not_answered_with_an_error(
    hanging: Callable[[], "KMSClient"], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await AwsKmsKey("prod-2026", ARN, hanging).unwrap(BLOB, **NAMES)
    assert [] == logged(caplog)


async def test_a_call_that_was_given_up_before_its_turn_is_never_made(caplog: pytest.LogCaptureFixture) -> None:
    key = AwsKmsKey("prod-2026", ARN, lambda: pytest.fail("asked for a client"), limit_seconds=0.05)
    free, busy = threading.Event(), threading.Barrier(module.THREADS + 1)

    def occupy() -> None:
        busy.wait(10)
        assert free.wait(10)

    for _ in range(module.THREADS):
        key._threads.submit(occupy)
    await asyncio.to_thread(busy.wait, 10)
    with pytest.raises(VaultUnavailable):
        await key.unwrap(BLOB, **NAMES)
    free.set()
    await asyncio.to_thread(key._threads.shutdown)  # all that was to be made has been
    assert ["TimeoutError"] == [fields["code"] for _, fields in logged(caplog)]


@pytest.mark.usefixtures("somebody")
def test_open_asks_kms_of_the_keys_region_with_bounds() -> None:
    key = AwsKmsKey.open("prod-2026", ARN)
    client = key._connected()
    assert "prod-2026" == key.key_id
    assert ("eu-central-1", ENDPOINT.rstrip("/")) == (client.meta.region_name, client.meta.endpoint_url)
    config: Any = client.meta.config
    assert (2, 3, 8) == (config.connect_timeout, config.read_timeout, config.max_pool_connections)
    assert {"mode": "standard", "total_max_attempts": 2} == config.retries
    assert client is key._connected()


@pytest.mark.usefixtures("somebody")
def test_kms_may_be_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:4566")
    assert "http://127.0.0.1:4566" == AwsKmsKey.open("a", ARN)._connected().meta.endpoint_url


async def test_without_credentials_it_is_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(VaultUnavailable):
        await AwsKmsKey.open("prod-2026", ARN).unwrap(BLOB, **NAMES)
    expected = {"operation": "Decrypt", "code": "NoCredentialsError", "master_key_id": "prod-2026"}
    assert [(MESSAGE, expected)] == logged(caplog)


@pytest.mark.parametrize(
    "location",
    [
        "",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "alias/prod",
        "arn:aws:kms:eu-central-1:111122223333:alias/prod",
        "arn:aws:kms::111122223333:key/1234abcd",
        "arn:aws:kms:eu-central-1:1111:key/1234abcd",
        "arn:aws:kms:eu-central-1:111122223333:key/",
        "arn:aws:kms:eu-central-1:111122223333:key/1234abcd/5",
        "arn:aws:kms:eu-central-1:111122223333:key/alias:prod",
        "arn:aws:s3:eu-central-1:111122223333:key/1234abcd",
        f"{ARN}\n",
        f" {ARN}",
    ],
)
def test_what_is_no_arn_of_a_key_is_refused_and_not_quoted(location: str) -> None:
    with pytest.raises(ValueError, match="an alias can be pointed at another key") as refused:
        AwsKmsKey.open("prod-2026", location)
    assert len(location) < 8 or location not in str(refused.value)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws-cn:kms:cn-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
    ],
)
def test_a_key_may_be_in_any_partition(arn: str) -> None:
    assert f"AwsKmsKey(a, {arn})" == repr(AwsKmsKey.open("a", arn))


@pytest.mark.parametrize("module_name", ["boto3", "botocore.config"])
def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, module_name: str) -> None:
    monkeypatch.setitem(sys.modules, module_name, None)
    with pytest.raises(ValueError, match=re.escape("pip install tenantvault-server[aws]")):
        AwsKmsKey.open("prod-2026", ARN)


def test_fingerprints_tell_keys_apart() -> None:
    prints = {
        arn: AwsKmsKey.open("a", arn).fingerprint
        for arn in (
            ARN,
            ARN.replace("eu-central-1", "eu-west-1"),
            ARN.replace("1111", "1112"),
            ARN.replace("1234abcd", "1234abce"),
            ARN.replace("arn:aws:", "arn:aws-cn:"),
        )
    }
    assert len(prints) == len(set(prints.values()))
    assert {16} == {len(fingerprint) for fingerprint in prints.values()}


def test_a_fingerprint_is_of_the_key_and_not_of_its_name() -> None:
    assert AwsKmsKey.open("a", ARN).fingerprint == AwsKmsKey.open("b", ARN).fingerprint


def test_the_fingerprint_of_the_past_is_that_of_today() -> None:
    assert "8892cb43441df7c0540401e5695eaba3" == AwsKmsKey.open("a", ARN).fingerprint.hex()


def test_a_multi_region_key_has_one_fingerprint() -> None:
    arns = [
        f"arn:aws:kms:{region}:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
        for region in ("eu-central-1", "eu-west-1")
    ]
    assert 1 == len({AwsKmsKey.open("a", arn).fingerprint for arn in arns})


def test_a_key_shows_its_id_and_its_arn() -> None:
    key = AwsKmsKey.open("prod-2026", ARN)
    for shown in (repr(key), str(key), f"{key}"):
        assert f"AwsKmsKey(prod-2026, {ARN})" == shown
