"""What both clients ask the vault, and what they make of its answers."""

import math
import operator
import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import grpc

from tenantvault._status import FailedCall, from_status
from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    Provider,
    ResendCredential,
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

Service: TypeAlias = Literal["vault", "provider service"]
"""Whom a client calls, as its sentences name it."""

WAIT_FOR_READY: Final = True
"""Calls wait for a channel that is connecting, within their deadline, so that a restart of a service costs its callers
time and no error. They may: nothing of a call was sent before the channel was ready.
"""

_ORG_ID: Final = re.compile("[a-z0-9][a-z0-9_-]{0,62}")
_MAX_RESOURCE_BYTES: Final = 256
_MAX_VERSION: Final = 2**63 - 1
_CREDENTIAL_OF: Final[Mapping[Provider, type[Credential]]] = {
    Provider.VAPI: VapiCredential,
    Provider.TWILIO: TwilioCredential,
    Provider.GOOGLE_CALENDAR: GoogleCalendarCredential,
    Provider.RESEND: ResendCredential,
    Provider.ELEVENLABS: ElevenLabsCredential,
}


def get_request(org_id: str, provider: Provider, *, include_previous: bool) -> access.GetCredentialRequest:
    """The request of `get`; InvalidRequest names a bad argument."""
    return access.GetCredentialRequest(
        org_id=_org_id(org_id), provider=_provider(provider), include_previous=bool(include_previous)
    )


def failure_report(org_id: str, provider: Provider, version: int) -> access.ReportFailureRequest:
    """The request of `report_failure`; InvalidRequest names a bad argument."""
    try:
        number = operator.index(version)
    except TypeError:
        number = 0
    if not 0 < number <= _MAX_VERSION:
        raise bad("version", "Give the version of the credential that was refused, 1 or more.")
    return access.ReportFailureRequest(org_id=_org_id(org_id), provider=_provider(provider), version=number)


def resolve_org_request(kind: ResourceKind, resource_id: str) -> directory.ResolveOrgRequest:
    """The request of `resolve_org`; InvalidRequest names a bad argument."""
    return directory.ResolveOrgRequest(kind=_kind(kind), resource_id=_resource_id(resource_id))


def resolve_credential_request(
    kind: ResourceKind, resource_id: str, provider: Provider, *, include_previous: bool
) -> access.ResolveCredentialRequest:
    """The request of `resolve_credential`; InvalidRequest names a bad argument."""
    return access.ResolveCredentialRequest(
        kind=_kind(kind),
        resource_id=_resource_id(resource_id),
        provider=_provider(provider),
        include_previous=bool(include_previous),
    )


def seconds(deadline: float) -> float:
    """The deadline itself; InvalidRequest when it is none."""
    try:
        if 0 < deadline < math.inf:
            return deadline
    except TypeError:
        pass
    raise bad("deadline", "Give seconds, more than zero.")


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
    except (InvalidRequest, ValueError):
        # A time may be none, or beyond what a datetime can be.
        active = None
    if active is None or not _is_of_its_provider(active):
        raise InternalError(
            "The vault's answer holds a credential that this version does not know: update tenantvault."
        )
    return active


def resolved(message: directory.ResolveOrgResponse) -> ResolvedOrg:
    """The org in an answer."""
    return ResolvedOrg(message.org_id, message.role)


def failure(call: FailedCall, *, closed: bool, service: Service = "vault") -> TenantVaultError:
    """The error that a failed call stands for. `closed` says whether the client was closed under it."""
    if closed and call.code() is grpc.StatusCode.CANCELLED:
        return client_closed()
    error = from_status(call)
    if isinstance(error, DeadlineExceeded) and error.message == DeadlineExceeded.sentence:
        # The transport's own: while it waits for a connection it does not tell what keeps it from one.
        return no_answer(service)
    return error


def no_answer(service: Service) -> DeadlineExceeded:
    """What a call raises that got no answer in time."""
    return DeadlineExceeded(
        f"The {service} did not answer within the deadline: it is slow, or cannot be reached with this address and "
        "these certificates."
    )


def client_closed() -> InvalidRequest:
    """What a call on a closed client raises."""
    return InvalidRequest("This client is closed: open a new one.")


def bad(field: str, what: str) -> InvalidRequest:
    """What a call raises that was given a bad argument, and what to give instead."""
    return InvalidRequest(f"{field}: {what}", fields={field: what})


def _is_of_its_provider(active: ActiveCredential[Credential]) -> bool:
    kind = _CREDENTIAL_OF[active.provider]
    return type(active.credential) is kind and (active.previous is None or type(active.previous.credential) is kind)


def _org_id(org_id: str) -> str:
    try:
        if _ORG_ID.fullmatch(org_id):
            return org_id
    except TypeError:
        pass
    raise bad("org_id", "Give lower-case letters, digits, - and _, at most 63, a letter or digit first.")


def _provider(provider: Provider) -> "pb.Provider.ValueType":
    try:
        return PROVIDER_NUMBER[provider]
    except (KeyError, TypeError):
        raise bad("provider", f"Give one of {', '.join(Provider)}.") from None


def _kind(kind: ResourceKind) -> "pb.ResourceKind.ValueType":
    try:
        return KIND_NUMBER[kind]
    except (KeyError, TypeError):
        raise bad("kind", f"Give one of {', '.join(ResourceKind)}.") from None


def _resource_id(resource_id: str) -> str:
    try:
        if 0 < len(resource_id.encode()) <= _MAX_RESOURCE_BYTES:
            return resource_id
    except (AttributeError, UnicodeEncodeError):
        pass
    raise bad("resource_id", f"Give the provider's identifier, at most {_MAX_RESOURCE_BYTES} bytes.")
