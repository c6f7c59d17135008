"""From the contract's requests to the vault's nouns, with the checks of what comes in."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration

from services.rpc.middleware import current_call
from services.vault.credential import Facts, Origin, Resource
from tenantvault.audit import VAULT_CHAIN
from tenantvault.errors import InvalidRequest
from tenantvault.secret import Secret
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import store_service_pb2 as store_pb

PROVIDERS: Final[Mapping[int, str]] = MappingProxyType(
    {
        pb.PROVIDER_VAPI: "vapi",
        pb.PROVIDER_TWILIO: "twilio",
        pb.PROVIDER_GOOGLE_CALENDAR: "googleCalendar",
        pb.PROVIDER_RESEND: "resend",
        pb.PROVIDER_ELEVENLABS: "elevenlabs",
    }
)
"""The name of each provider in the tables."""

KINDS: Final[Mapping[int, str]] = MappingProxyType(
    {
        pb.RESOURCE_KIND_VAPI_ASSISTANT: "vapi_assistant",
        pb.RESOURCE_KIND_PHONE_NUMBER: "phone_number",
        pb.RESOURCE_KIND_TWILIO_ACCOUNT: "twilio_account",
    }
)
"""The name of each kind of resource in the tables."""

MAX_PAYLOAD_BYTES: Final = 16 * 1024
MAX_RESOURCES: Final = 100
MAX_LEASE_SECONDS: Final = 300.0
MAX_VERSION: Final = 2**53
MAX_KEYS: Final = 1000
MAX_KNOWN_ORGS: Final = 10_000
MAX_PAGE: Final = 1000
PAGE: Final = 100

_ORG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_ROLE: Final = re.compile(r"[a-z0-9_-]{0,32}")
_ACTION: Final = re.compile(r"[a-z_.]{0,64}")
_PEER: Final = re.compile(r"[a-z0-9-]{0,63}")
_REASON: Final = re.compile(r"[A-Z_]{0,64}")
_COUNTED: Final = timedelta(days=30)
_MAX_TEXT: Final = 256
_MAX_ERROR: Final = 1000
_MAX_WARNINGS: Final = 20
_MAX_WARNING: Final = 500

# Which provider a credential is of, and which of its secrets tells two of them apart.
_SHAPES: Final[Mapping[str, tuple[str, Callable[[pb.Credential], str]]]] = MappingProxyType(
    {
        "vapi": ("vapi", lambda credential: credential.vapi.api_key),
        "twilio": ("twilio", lambda credential: credential.twilio.auth_token or credential.twilio.api_key_secret),
        # The access token is another one every hour.
        "google_calendar": ("googleCalendar", lambda credential: credential.google_calendar.refresh_token),
        "resend": ("resend", lambda credential: credential.resend.api_key),
        "elevenlabs": ("elevenlabs", lambda credential: credential.elevenlabs.api_key),
    }
)


def text_from(field: str, value: str, *, at_least: int = 0, at_most: int = _MAX_TEXT) -> str:
    """A text as it came; InvalidRequest when its bytes are too few or too many, or do not print."""
    if not at_least <= len(value.encode()) <= at_most or not value.isprintable():
        raise InvalidRequest(fields={field: f"Give {at_least} to {at_most} bytes of printable text."})
    return value


def org_from(org_id: str) -> str:
    """An org id as it came; InvalidRequest when it is none."""
    if not _ORG.fullmatch(org_id):
        raise InvalidRequest(
            fields={"org_id": "Give 1 to 63 lower-case letters, digits, dashes and underscores, the first no dash."}
        )
    return org_id


def provider_from(number: int) -> str:
    """A provider's name; InvalidRequest for none or an unknown one."""
    if number not in PROVIDERS:
        raise InvalidRequest(fields={"provider": "Give one of the providers."})
    return PROVIDERS[number]


def resource_from(message: pb.Resource) -> Resource:
    """A resource; InvalidRequest when a part of it is none."""
    if not _ROLE.fullmatch(message.role):
        raise InvalidRequest(fields={"role": "Give at most 32 lower-case letters, digits, dashes and underscores."})
    return Resource(*resource_key_from(message.kind, message.resource_id), message.role)


def resource_key_from(kind: int, resource_id: str) -> tuple[str, str]:
    """The kind's name and the identifier; InvalidRequest when one is missing, unknown or too long."""
    if kind not in KINDS:
        raise InvalidRequest(fields={"kind": "Give one of the kinds of resource."})
    return KINDS[kind], text_from("resource_id", resource_id, at_least=1)


def resources_from(messages: Iterable[pb.Resource]) -> list[Resource]:
    """The resources of a request; InvalidRequest for one that is none, too many, or one twice."""
    resources = [resource_from(message) for message in messages]
    if len(resources) > MAX_RESOURCES or len({(r.kind, r.resource_id) for r in resources}) < len(resources):
        raise InvalidRequest(fields={"resources": f"Give at most {MAX_RESOURCES}, each once."})
    return resources


def payload_from(credential: pb.Credential) -> tuple[str, bytes, str]:
    """A credential's provider, the bytes that are sealed, and the hint that may be shown."""
    kind = credential.WhichOneof("kind")
    if kind is None or kind not in _SHAPES:
        raise InvalidRequest(fields={"credential": "Give the credential of a provider."})
    provider, telling = _SHAPES[kind]
    payload = credential.SerializeToString(deterministic=True)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise InvalidRequest(fields={"credential": f"Give at most {MAX_PAYLOAD_BYTES} bytes."})
    secret = telling(credential)
    # No secret has others, and the end of it is shown to people.
    if not secret or not secret.isprintable():
        raise InvalidRequest(fields={"credential": "Give the secret of the credential, in printable characters."})
    return provider, payload, Secret(secret).hint()


def origin_from(message: store_pb.Origin) -> Origin:
    """Who makes the change that is under way."""
    call = current_call()
    return Origin(call.peer, text_from("origin.on_behalf_of", message.on_behalf_of), call.request_id)


def reader_from(on_behalf_of: str = "") -> Origin:
    """Who reads in the call that is under way; InvalidRequest when the person's name is too long."""
    call = current_call()
    # Most reads are on nobody's behalf, and this is on the way of each.
    person = text_from("on_behalf_of", on_behalf_of) if on_behalf_of else ""
    return Origin(call.peer, person, call.request_id)


def max_staleness_from(
    request: access_pb.GetCredentialRequest | access_pb.ResolveCredentialRequest | access_pb.BatchGetCredentialsRequest,
) -> float | None:
    """How old an answer may be, in seconds; None when nothing is said, InvalidRequest when it is below zero."""
    if not request.HasField("max_staleness"):
        return None
    seconds = request.max_staleness.seconds + request.max_staleness.nanos / 1e9
    if seconds < 0:
        raise InvalidRequest(fields={"max_staleness": "Give zero or more seconds."})
    return seconds


def credential_keys_from(keys: Sequence[access_pb.CredentialKey]) -> list[tuple[str, str]]:
    """The orgs and providers of a batch; InvalidRequest when one is none, or there are none or too many."""
    _demand_number(keys)
    return [(org_from(key.org_id), provider_from(key.provider)) for key in keys]


def resource_keys_from(keys: Sequence[directory_pb.ResourceKey]) -> list[tuple[str, str]]:
    """The kinds and ids of a batch; InvalidRequest when one is none, or there are none or too many."""
    _demand_number(keys)
    return [resource_key_from(key.kind, key.resource_id) for key in keys]


def known_orgs_from(known: Sequence[access_pb.KnownOrg]) -> dict[str, int]:
    """The generations that a watcher knows, by org; InvalidRequest when one is none or there are too many."""
    if len(known) > MAX_KNOWN_ORGS:
        raise InvalidRequest(fields={"known": f"Give at most {MAX_KNOWN_ORGS}: drop the others and watch anew."})
    return {org_from(org.org_id): org.generation for org in known}


def chain_from(org_id: str) -> str:
    """The org whose chain is meant, or the vault's own; InvalidRequest when it is neither."""
    return org_id if org_id == VAULT_CHAIN else org_from(org_id)


def sequence_from(sequence: int) -> int:
    """The number of an event, 0 for none; InvalidRequest below that."""
    if not 0 <= sequence < MAX_VERSION:
        raise InvalidRequest(fields={"before_sequence": "Give the number of an event, or 0."})
    return sequence


def page_size_from(size: int) -> int:
    """How many are wanted; InvalidRequest outside of the limits."""
    if not 0 <= size <= MAX_PAGE:
        raise InvalidRequest(fields={"page_size": f"Give at most {MAX_PAGE}."})
    return size or PAGE


def action_from(action: str) -> str:
    """An action, empty for any; InvalidRequest when it is none."""
    if not _ACTION.fullmatch(action):
        raise InvalidRequest(fields={"action": "Give an action as it is in the events, e.g. credential.get."})
    return action


def peer_from(peer: str) -> str:
    """The name of a service, empty for any; InvalidRequest when it is none."""
    if not _PEER.fullmatch(peer):
        raise InvalidRequest(fields={"peer": "Give a service by the name in its certificate, e.g. voice-agent."})
    return peer


def since_from(
    request: status_pb.CountReadsRequest, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> datetime:
    """Since when reads are to be counted, 30 days ago when nothing is said; InvalidRequest when it is no moment."""
    if not request.HasField("since"):
        return now() - _COUNTED
    try:
        return request.since.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(fields={"since": "Give a moment between the years 1 and 9999."}) from None


def warnings_from(sentences: Sequence[str]) -> tuple[str, ...]:
    """Sentences for the customer; InvalidRequest when one is too long, or there are too many."""
    warnings = tuple(text_from("warnings", sentence, at_most=_MAX_WARNING) for sentence in sentences)
    if len(warnings) > _MAX_WARNINGS:
        raise InvalidRequest(fields={"warnings": f"Give at most {_MAX_WARNINGS} sentences."})
    return warnings


def facts_from(request: store_pb.RegisterResourcesRequest | store_pb.RecordVerificationRequest) -> Facts:
    """What the provider said; InvalidRequest when a part of it is too long, or a reason is given and no error."""
    facts = Facts(warnings=warnings_from(request.warnings), account=text_from("account", request.account))
    if isinstance(request, store_pb.RegisterResourcesRequest):
        return facts
    if not _REASON.fullmatch(request.reason):
        raise InvalidRequest(fields={"reason": "Give the name of an ErrorReason, e.g. INVALID_CREDENTIALS."})
    if request.reason and not request.error:
        raise InvalidRequest(fields={"error": "Give the sentence of the refusal too."})
    return replace(facts, error=text_from("error", request.error, at_most=_MAX_ERROR), reason=request.reason)


def version_from(version: int, *, at_least: int = 1) -> int:
    """A version's number; InvalidRequest below the least, or beyond what a version can come to."""
    if not at_least <= version < MAX_VERSION:
        raise InvalidRequest(fields={"version": f"Give a version of at least {at_least}."})
    return version


def owner_from(owner: str) -> str:
    """The owner of a lease; InvalidRequest when it is empty or too long."""
    return text_from("owner", owner, at_least=1, at_most=64)


def lease_seconds_from(duration: Duration) -> float:
    """How long a lease is wanted; InvalidRequest outside of the limits."""
    seconds = duration.seconds + duration.nanos / 1e9
    if not 0 < seconds <= MAX_LEASE_SECONDS:
        raise InvalidRequest(fields={"duration": f"Give more than zero and at most {MAX_LEASE_SECONDS:g} seconds."})
    return seconds


def _demand_number(keys: Sized) -> None:
    if not 0 < len(keys) <= MAX_KEYS:
        raise InvalidRequest(fields={"keys": f"Give 1 to {MAX_KEYS} keys."})
