"""A master key (KEK) that stays in AWS KMS: org keys are sent there to be wrapped and unwrapped.

A wrapped org key is bound to its org and its id by the encryption context, which KMS authenticates and CloudTrail
records. Where KMS is, and as whom it is asked, boto3 finds in its usual places (`AWS_ENDPOINT_URL_KMS` among them).
"""

import asyncio
import hashlib
import logging
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from services.vault.seal import KEY_BYTES, Unreadable
from tenantvault.errors import VaultUnavailable

if TYPE_CHECKING:
    # It is in the stubs only.
    from types_boto3_kms import KMSClient

LIMIT_SECONDS: Final = 5.0
"""What a call takes at most, with its waiting for a thread and its second try."""

THREADS: Final = 8
ATTEMPTS: Final = 2
CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 3

_ARN: Final = re.compile(
    r"(?P<service>arn:aws[a-z-]*:kms):(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):key/(?P<key>[A-Za-z0-9-]+)"
)
_FINGERPRINT: Final = b"tenantvault/aws-kms-key-fingerprint/1\0"
_LONGEST_BLOB: Final = 6144
"""Bytes that Decrypt takes; KMS would call a longer blob a wrong request."""

_OUTCOMES: Final[Mapping[str, type[Exception]]] = MappingProxyType(
    {
        "IncorrectKeyException": Unreadable,
        "InvalidCiphertextException": Unreadable,
    }
)
"""What an error's code means. Any other is VaultUnavailable: the record is whole; time or an operator mends it."""

_log = logging.getLogger(__name__)


class AwsKmsKey:
    """One KMS key, by its ARN. `connect` makes the client, in a thread, when the first call needs it."""

    def __init__(
        self, key_id: str, arn: str, connect: Callable[[], "KMSClient"], *, limit_seconds: float = LIMIT_SECONDS
    ) -> None:
        self._key_id = key_id
        self._arn = arn
        self._connect = connect
        self._limit_seconds = limit_seconds
        self._client: KMSClient | None = None
        self._connecting = threading.Lock()
        # Not the loop's own threads: those look up host names too, and a KMS that hangs must not hold up the database.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="aws-kms")

    @classmethod
    def open(cls, key_id: str, location: str) -> Self:
        """The key at an ARN. Nothing is asked of AWS yet.

        Raises:
            ValueError: the location is no ARN of a key, or boto3 is not installed.
        """
        arn = _parts(location)
        try:
            # Only who keeps a key in AWS installs it.
            import boto3  # noqa: PLC0415
            from botocore.config import Config  # noqa: PLC0415
            from botocore.exceptions import NoCredentialsError  # noqa: PLC0415
        except ModuleNotFoundError:
            raise ValueError("a master key in AWS KMS needs boto3: pip install tenantvault-server[aws]") from None
        # At debug it writes requests and answers, and those hold org keys.
        logging.getLogger("botocore").setLevel(logging.WARNING)
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=THREADS,
        )

        def connect() -> "KMSClient":
            session = boto3.Session(region_name=arn["region"])
            # A client that was made without credentials never looks for them again.
            if session.get_credentials() is None:
                raise NoCredentialsError
            return session.client("kms", config=config)

        return cls(key_id, location, connect)

    @property
    def key_id(self) -> str:
        """The operator's name for the key."""
        return self._key_id

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that tell the key from another. A multi-Region key is one key in all its Regions."""
        arn = _parts(self._arn)
        region = "*" if arn["key"].startswith("mrk-") else arn["region"]
        name = f"{arn['service']}:{region}:{arn['account']}:key/{arn['key']}"
        return hashlib.sha256(_FINGERPRINT + name.encode()).digest()[:16]

    async def wrap(self, key: bytes, *, org_id: str, org_key_id: str) -> bytes:
        """Wrap an org's key, bound to the org and the key's id. VaultUnavailable when KMS does not do it now."""
        context = _context(org_id, org_key_id)
        return await self._ask(
            "Encrypt",
            lambda kms: kms.encrypt(KeyId=self._arn, Plaintext=key, EncryptionContext=context)["CiphertextBlob"],
        )

    async def unwrap(self, wrapped: bytes, *, org_id: str, org_key_id: str) -> bytes:
        """The org's key in the open.

        Raises:
            Unreadable: it is not what was wrapped for that org and id under this key.
            VaultUnavailable: KMS does not do it now.
        """
        if not 0 < len(wrapped) <= _LONGEST_BLOB:
            raise Unreadable
        context = _context(org_id, org_key_id)
        key = await self._ask(
            "Decrypt",
            # Without its name KMS would use whatever key the blob names.
            lambda kms: kms.decrypt(KeyId=self._arn, CiphertextBlob=wrapped, EncryptionContext=context)["Plaintext"],
        )
        if len(key) != KEY_BYTES:
            raise Unreadable
        return key

    def __repr__(self) -> str:
        return f"AwsKmsKey({self._key_id}, {self._arn})"

    async def _ask(self, operation: str, ask: Callable[["KMSClient"], bytes]) -> bytes:
        try:
            # A call that is given up while it waits for a thread is never made; one under way ends by its own timeouts.
            async with asyncio.timeout(self._limit_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: ask(self._connected()))
        except Exception as error:  # noqa: BLE001 - boto3 and what is below it have no common class
            code = _code(error)
            _log.warning(
                "AWS KMS did not answer with a result",
                extra={"operation": operation, "code": code, "master_key_id": self._key_id},
            )
            raise _OUTCOMES.get(code, VaultUnavailable) from None

    def _connected(self) -> "KMSClient":
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
            return self._client


def _parts(location: str) -> Mapping[str, str]:
    arn = _ARN.fullmatch(location)
    if arn is None:
        raise ValueError(
            "a master key in AWS KMS is given by its key's ARN, arn:aws:kms:REGION:ACCOUNT:key/ID:"
            " an alias can be pointed at another key, and a bare id says neither Region nor account"
        )
    return arn.groupdict()


def _context(org_id: str, org_key_id: str) -> Mapping[str, str]:
    return {"tenantvault:org": org_id, "tenantvault:key": org_key_id}


def _code(error: Exception) -> str:
    """What KMS calls the error, or else the name of its class; the text stays out of the log."""
    match getattr(error, "response", None):
        case {"Error": {"Code": str(code)}}:
            return code
    return type(error).__name__
