"""What both clients ask the vault, and what they make of its answers."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from google.protobuf.duration_pb2 import Duration

from tenantvault._entries import Key
from tenantvault._failures import bad, copied
from tenantvault._methods import GET, RESOLVE_CREDENTIAL, RESOLVE_ORG
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
from tenantvault.errors import InternalError, InvalidRequest, TenantVaultError
from tenantvault.messages import KIND_NUMBER, KIND_OF, PROVIDER_NUMBER, PROVIDER_OF, active_from_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory

AnswerT = TypeVar("AnswerT")

LONGEST_DEADLINE: Final = 119
"""Seconds that a call may take at most. The services refuse more than 120, and gRPC rounds up to the next whole one."""

_ORG_ID: Final = re.compile("[a-z0-9][a-z0-9_-]{0,62}")
_MAX_RESOURCE_BYTES: Final = 256
_MAX_VERSION: Final = 2**63 - 1
_MAX_STALENESS: Final = 10**9
_CREDENTIAL_OF: Final[Mapping[Provider, type[Credential]]] = {
    Provider.VAPI: VapiCredential,
    Provider.TWILIO: TwilioCredential,
    Provider.GOOGLE_CALENDAR: GoogleCalendarCredential,
    Provider.RESEND: ResendCredential,
    Provider.ELEVENLABS: ElevenLabsCredential,
}


@dataclass(frozen=True, slots=True)
class Read(Generic[AnswerT]):
    """A read: the call, what its answer is remembered under, and what a response is made into.

    `outcome` gives an error instead of raising it: who raises has to hold the response no more, since it is plaintext,
    and a log may show what is in the frames of an error.
    """

    method: str
    request: Any
    key: Key
    outcome: Callable[[Any], AnswerT | TenantVaultError]

    def answer(self, response: Any) -> AnswerT:
        """What a response is made into; raises the error that it is. Who asks should not hold the response either."""
        outcome = self.outcome(response)
        del response
        return handed_out(outcome)


def get_read(
    org_id: str, provider: Provider, *, include_previous: bool, max_staleness: float | None
) -> Read[ActiveCredential[Credential]]:
    """The read of `get`; InvalidRequest names a bad argument."""
    request = access.GetCredentialRequest(
        org_id=org_of(org_id),
        provider=provider_number(provider),
        include_previous=bool(include_previous),
        max_staleness=staleness(max_staleness),
    )
    # The arguments as they came may be something else that equals them.
    key = (request.org_id, PROVIDER_OF[request.provider], request.include_previous)
    return Read(GET, request, key, lambda response: opened(response.credential, request.provider, request.org_id))


def resolve_credential_read(
    kind: ResourceKind, resource_id: str, provider: Provider, *, include_previous: bool, max_staleness: float | None
) -> Read[ActiveCredential[Credential]]:
    """The read of `resolve_credential`; InvalidRequest names a bad argument."""
    request = access.ResolveCredentialRequest(
        kind=kind_number(kind),
        resource_id=resource_of(resource_id),
        provider=provider_number(provider),
        include_previous=bool(include_previous),
        max_staleness=staleness(max_staleness),
    )
    key = (KIND_OF[request.kind], request.resource_id, PROVIDER_OF[request.provider], request.include_previous)
    return Read(RESOLVE_CREDENTIAL, request, key, lambda response: opened(response.credential, request.provider))


def resolve_org_read(kind: ResourceKind, resource_id: str) -> Read[ResolvedOrg]:
    """The read of `resolve_org`; InvalidRequest names a bad argument."""
    request = directory.ResolveOrgRequest(kind=kind_number(kind), resource_id=resource_of(resource_id))
    return Read(RESOLVE_ORG, request, (KIND_OF[request.kind], request.resource_id), resolved)


def current(read: Read[AnswerT]) -> Read[AnswerT]:
    """The same read, for what is stored now, and nothing that was current a moment before."""
    request = type(read.request)()
    request.CopyFrom(read.request)
    request.max_staleness.CopyFrom(Duration())
    return replace(read, request=request)


def failure_report(org_id: str, provider: Provider, version: int) -> access.ReportFailureRequest:
    """The request of `report_failure`; InvalidRequest names a bad argument."""
    try:
        number = operator.index(version)
    except TypeError:
        number = 0
    if not 0 < number <= _MAX_VERSION:
        raise bad("version", "Give the version of the credential that was refused, 1 or more.")
    return access.ReportFailureRequest(org_id=org_of(org_id), provider=provider_number(provider), version=number)


def opened(
    message: pb.ActiveCredential, provider: "pb.Provider.ValueType", org_id: str | None = None
) -> ActiveCredential[Credential] | InternalError:
    """The credential in an answer about a provider, and an org where one was named.

    It is an InternalError where the answer is about another, or not one that this version understands.
    """
    if message.provider != provider or org_id not in {None, message.org_id}:
        return InternalError(
            "The vault answered for another org or provider. Nothing was handed out: tell the operator."
        )
    try:
        active = active_from_message(message)
    except (InvalidRequest, ValueError):
        # A time may be none, or beyond what a datetime can be.
        active = None
    if active is None or not _is_of_its_provider(active):
        return InternalError(
            "The vault's answer holds a credential that this version does not know: update tenantvault."
        )
    return active


def handed_out(outcome: AnswerT | TenantVaultError) -> AnswerT:
    """The answer itself; raises the error that it is, which may be others' too."""
    if isinstance(outcome, TenantVaultError):
        raise copied(outcome)
    return outcome


def resolved(message: directory.ResolveOrgResponse) -> ResolvedOrg:
    """The org in an answer."""
    return ResolvedOrg(message.org_id, message.role, message.generation, served_stale=message.served_stale)


def seconds(deadline: float) -> float:
    """The deadline itself; InvalidRequest when it is none."""
    try:
        if 0 < deadline <= LONGEST_DEADLINE:
            return deadline
    except TypeError:
        pass
    raise bad("deadline", f"Give seconds, more than zero and at most {LONGEST_DEADLINE}.")


def staleness(max_staleness: float | None) -> Duration | None:
    """How old an answer may be, as the contract has it; InvalidRequest when it is no number of seconds."""
    if max_staleness is None:
        return None
    try:
        if 0 <= max_staleness < math.inf:
            return Duration(
                seconds=int(min(max_staleness, _MAX_STALENESS)), nanos=int(max_staleness % 1 * 1_000_000_000)
            )
    except TypeError:
        pass
    raise bad("max_staleness", "Give seconds, zero or more.")


def org_of(org_id: str) -> str:
    """The org id itself; InvalidRequest when it is none."""
    try:
        if _ORG_ID.fullmatch(org_id):
            return org_id
    except TypeError:
        pass
    raise bad("org_id", "Give lower-case letters, digits, - and _, at most 63, a letter or digit first.")


def provider_number(provider: Provider) -> "pb.Provider.ValueType":
    """The contract's number of a provider; InvalidRequest when it is none."""
    try:
        return PROVIDER_NUMBER[provider]
    except (KeyError, TypeError):
        raise bad("provider", f"Give one of {', '.join(Provider)}.") from None


def kind_number(kind: ResourceKind) -> "pb.ResourceKind.ValueType":
    """The contract's number of a kind of resource; InvalidRequest when it is none."""
    try:
        return KIND_NUMBER[kind]
    except (KeyError, TypeError):
        raise bad("kind", f"Give one of {', '.join(ResourceKind)}.") from None


def resource_of(resource_id: str) -> str:
    """The identifier itself; InvalidRequest when it is none."""
    try:
        if 0 < len(resource_id.encode()) <= _MAX_RESOURCE_BYTES:
            return resource_id
    except (AttributeError, UnicodeEncodeError):
        pass
    raise bad("resource_id", f"Give the provider's identifier, at most {_MAX_RESOURCE_BYTES} bytes.")


def _is_of_its_provider(active: ActiveCredential[Credential]) -> bool:
    kind = _CREDENTIAL_OF[active.provider]
    return type(active.credential) is kind and (active.previous is None or type(active.previous.credential) is kind)
