"""The one table between errors and gRPC statuses, in both directions.

A status carries google.rpc.ErrorInfo (domain `tenantvault`, the reason by name) and, where fields are at fault,
google.rpc.BadRequest, in the trailer `grpc-status-details-bin` (https://cloud.google.com/apis/design/errors).
"""

from collections.abc import Iterable
from typing import Final, Protocol

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from tenantvault.errors import (
    BY_REASON,
    DeadlineExceeded,
    InternalError,
    PermissionDenied,
    TenantVaultError,
    Unauthenticated,
    VaultUnavailable,
)

DOMAIN: Final = "tenantvault"
DETAILS: Final = "grpc-status-details-bin"
RETRY_AFTER: Final = "retry_after_seconds"

# What a transport says when no server of ours had a word in it.
_BY_CODE: Final[dict[grpc.StatusCode, type[TenantVaultError]]] = {
    grpc.StatusCode.UNAVAILABLE: VaultUnavailable,
    # What a server says to calls that arrive while it stops.
    grpc.StatusCode.CANCELLED: VaultUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}


def to_status(error: TenantVaultError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """The code, the sentence and the trailers that carry an error over the wire."""
    code = grpc.StatusCode[error.code]
    info = ErrorInfo(reason=error.reason, domain=DOMAIN)
    if error.retry_after is not None:
        info.metadata[RETRY_AFTER] = f"{error.retry_after:g}"
    details = [_packed(info)]
    if error.fields:
        violations = [BadRequest.FieldViolation(field=name, description=what) for name, what in error.fields.items()]
        details.append(_packed(BadRequest(field_violations=violations)))
    status = Status(code=code.value[0], message=error.message, details=details)
    return code, error.message, ((DETAILS, status.SerializeToString()),)


class FailedCall(Protocol):
    """What grpc.aio.AioRpcError and the blocking API's RpcError have in common."""

    def code(self) -> grpc.StatusCode:
        """The status."""

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The trailers."""


def from_status(call: FailedCall) -> TenantVaultError:
    """The error that a failed call stands for.

    A status without our details (a proxy's, the transport's) becomes the nearest class with its constant sentence;
    the foreign text stays out.
    """
    status = _status_of(call)
    for detail in status.details:
        info = ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in BY_REASON:
            return BY_REASON[info.reason](status.message, fields=_fields(status), retry_after=_retry_after(info))
    return _BY_CODE.get(call.code(), InternalError)()


def _packed(message: ErrorInfo | BadRequest) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def _status_of(call: FailedCall) -> Status:
    for key, value in call.trailing_metadata() or ():
        if key == DETAILS and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:
                break
    return Status()


def _fields(status: Status) -> dict[str, str]:
    for detail in status.details:
        bad = BadRequest()
        if detail.Unpack(bad):
            return {violation.field: violation.description for violation in bad.field_violations}
    return {}


def _retry_after(info: ErrorInfo) -> float | None:
    try:
        return float(info.metadata[RETRY_AFTER]) if RETRY_AFTER in info.metadata else None
    except ValueError:
        return None
