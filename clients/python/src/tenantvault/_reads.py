"""What both clients ask the vault, and what they make of its answers."""

import math
import re
from collections.abc import Mapping
from typing import Final

import grpc

from tenantvault._status import FailedCall, from_status
from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    Provider,
    ResolvedOrg,
    ResourceKind,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.errors import DeadlineExceeded, InternalError, InvalidRequest, TenantVaultError
from tenantvault.messages import KIND_NUMBER, PROVIDER_NUMBER, active_from_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory

WAIT_FOR_READY: Final = True
"""Reads wait for a channel that is connecting, within their deadline, so that a restart of the vault costs its callers
time and no error. A read may: it changes nothing, and nothing of it was sent before the channel was ready.
"""

_ORG_ID: Final = re.compile("[a-z0-9][a-z0-9_-]{0,62}")
_MAX_RESOURCE_BYTES: Final = 256
_CREDENTIAL_OF: Final[Mapping[Provider, type[Credential]]] = {
    Provider.VAPI: VapiCredential,
    Provider.TWILIO: TwilioCredential,
}


def get_request(org_id: str, provider: Provider) -> access.GetCredentialRequest:
    """The request of `get`; InvalidRequest names a bad argument."""
    try:
        well_formed = _ORG_ID.fullmatch(org_id)
    except TypeError:
        well_formed = None
    if well_formed is None:
        raise _bad("org_id", "Give lower-case letters, digits, - and _, at most 63, a letter or digit first.")
    return access.GetCredentialRequest(org_id=org_id, provider=_provider(provider))


def resolve_org_request(kind: ResourceKind, resource_id: str) -> directory.ResolveOrgRequest:
    """The request of `resolve_org`; InvalidRequest names a bad argument."""
    return directory.ResolveOrgRequest(kind=_kind(kind), resource_id=_resource_id(resource_id))


def resolve_credential_request(
    kind: ResourceKind, resource_id: str, provider: Provider
) -> access.ResolveCredentialRequest:
    """The request of `resolve_credential`; InvalidRequest names a bad argument."""
    return access.ResolveCredentialRequest(
        kind=_kind(kind), resource_id=_resource_id(resource_id), provider=_provider(provider)
    )


def seconds(deadline: float) -> float:
    """The deadline itself; InvalidRequest when it is none."""
    try:
        if 0 < deadline < math.inf:
            return deadline
    except TypeError:
        pass
    raise _bad("deadline", "Give seconds, more than zero.")


def opened(
    message: pb.ActiveCredential, request: access.GetCredentialRequest | access.ResolveCredentialRequest
) -> ActiveCredential[Credential]:
    """The credential in an answer.

    Raises:
        InternalError: the answer is not one to this request, or not one that this version understands.
    """
    if message.provider != request.provider or (
        isinstance(request, access.GetCredentialRequest) and message.org_id != request.org_id
    ):
        raise InternalError(
            "The vault answered for another org or provider. Nothing was handed out: tell the operator."
        )
    try:
        active = active_from_message(message)
    except InvalidRequest:
        active = None
    if active is None or type(active.credential) is not _CREDENTIAL_OF.get(active.provider):
        raise InternalError(
            "The vault's answer holds a credential that this version does not know: update tenantvault."
        )
    return active


def resolved(message: directory.ResolveOrgResponse) -> ResolvedOrg:
    """The org in an answer."""
    return ResolvedOrg(message.org_id, message.role)


def failure(call: FailedCall, *, closed: bool) -> TenantVaultError:
    """The error that a failed read stands for. `closed` says whether the client was closed under it."""
    if closed and call.code() is grpc.StatusCode.CANCELLED:
        return client_closed()
    error = from_status(call)
    if isinstance(error, DeadlineExceeded) and error.message == DeadlineExceeded.sentence:
        # The transport's own: while it waits for a connection it does not tell what keeps it from one.
        return DeadlineExceeded(
            "The vault did not answer within the deadline: it is slow, or cannot be reached with this address and "
            "these certificates."
        )
    return error


def client_closed() -> InvalidRequest:
    """What a call on a closed client raises."""
    return InvalidRequest("This client is closed: open a new one.")


def _provider(provider: Provider) -> "pb.Provider.ValueType":
    try:
        return PROVIDER_NUMBER[provider]
    except (KeyError, TypeError):
        raise _bad("provider", f"Give one of {', '.join(Provider)}.") from None


def _kind(kind: ResourceKind) -> "pb.ResourceKind.ValueType":
    try:
        return KIND_NUMBER[kind]
    except (KeyError, TypeError):
        raise _bad("kind", f"Give one of {', '.join(ResourceKind)}.") from None


def _resource_id(resource_id: str) -> str:
    try:
        if 0 < len(resource_id.encode()) <= _MAX_RESOURCE_BYTES:
            return resource_id
    except (AttributeError, UnicodeEncodeError):
        pass
    raise _bad("resource_id", f"Give the provider's identifier, at most {_MAX_RESOURCE_BYTES} bytes.")


def _bad(field: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {what}", fields={field: what})
