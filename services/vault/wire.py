"""Between the contract's messages and the vault's nouns, with the checks of what comes in."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.rpc.middleware import current_call
from services.vault.credential import Integration, Origin, Plaintext, Resource, State
from tenantvault.errors import InvalidRequest
from tenantvault.secret import Secret
from tenantvault.v1 import credential_pb2 as pb
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

_ORG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_ROLE: Final = re.compile(r"[a-z0-9_-]{0,32}")
_NUMBERS: Final = {name: number for number, name in PROVIDERS.items()}
_KIND_NUMBERS: Final = {name: number for number, name in KINDS.items()}
_STATES: Final = {state: pb.IntegrationState.Value(f"INTEGRATION_STATE_{state.name}") for state in State}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_TEXT: Final = 256
_MAX_ERROR: Final = 1000

# Which provider a credential is of, and which of its secrets tells two of them apart.
_SHAPES: Final[Mapping[str, tuple[str, Callable[[pb.Credential], str]]]] = MappingProxyType(
    {
        "vapi": ("vapi", lambda credential: credential.vapi.api_key),
        "twilio": ("twilio", lambda credential: credential.twilio.auth_token or credential.twilio.api_key_secret),
    }
)


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
    return KINDS[kind], _text("resource_id", resource_id, at_least=1)


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
    return Origin(call.peer, _text("origin.on_behalf_of", message.on_behalf_of), call.request_id)


def error_from(error: str) -> str:
    """The sentence of a refusal; InvalidRequest when it is too long."""
    return _text("error", error, at_most=_MAX_ERROR)


def version_from(version: int, *, at_least: int = 1) -> int:
    """A version's number; InvalidRequest below the least, or beyond what a version can come to."""
    if not at_least <= version < MAX_VERSION:
        raise InvalidRequest(fields={"version": f"Give a version of at least {at_least}."})
    return version


def owner_from(owner: str) -> str:
    """The owner of a lease; InvalidRequest when it is empty or too long."""
    return _text("owner", owner, at_least=1, at_most=64)


def lease_seconds_from(duration: Duration) -> float:
    """How long a lease is wanted; InvalidRequest outside of the limits."""
    seconds = duration.seconds + duration.nanos / 1e9
    if not 0 < seconds <= MAX_LEASE_SECONDS:
        raise InvalidRequest(fields={"duration": f"Give more than zero and at most {MAX_LEASE_SECONDS:g} seconds."})
    return seconds


def fill_active(message: pb.ActiveCredential, plaintext: Plaintext) -> None:
    """Write an opened credential where it is sent from: this is most of what a read from memory costs."""
    name = plaintext.name
    message.org_id = name.org_id
    message.provider = _NUMBERS[name.provider]  # type: ignore[assignment]  # an enum's number
    message.version = name.version
    message.credential.MergeFromString(plaintext.payload)
    message.resources.extend(_resource_messages(plaintext.resources))
    _fill_timestamp(message, "last_verified_at", plaintext.last_verified_at)
    message.generation = plaintext.generation


def integration_message(integration: Integration) -> pb.Integration:
    """The message of what may be shown of an integration."""
    message = pb.Integration(
        provider=_NUMBERS[integration.provider],  # type: ignore[arg-type]  # an enum's number
        state=_STATES[integration.state],
        version=integration.version,
        latest_version=integration.latest_version,
        hint=integration.hint,
        resources=_resource_messages(integration.resources),
        verification_error=integration.verification_error,
    )
    _fill_timestamp(message, "last_verified_at", integration.last_verified_at)
    _fill_timestamp(message, "connected_at", integration.connected_at)
    return message


def _resource_messages(resources: Iterable[Resource]) -> list[pb.Resource]:
    return [
        pb.Resource(
            kind=_KIND_NUMBERS[resource.kind],  # type: ignore[arg-type]  # an enum's number
            resource_id=resource.resource_id,
            role=resource.role,
        )
        for resource in resources
    ]


def _fill_timestamp(message: pb.ActiveCredential | pb.Integration, field: str, moment: datetime | None) -> None:
    if moment is not None:
        since = moment - _EPOCH
        timestamp: Timestamp = getattr(message, field)
        timestamp.seconds = since.days * 86400 + since.seconds
        timestamp.nanos = since.microseconds * 1000


def _text(field: str, value: str, *, at_least: int = 0, at_most: int = _MAX_TEXT) -> str:
    if not at_least <= len(value.encode()) <= at_most or not value.isprintable():
        raise InvalidRequest(fields={field: f"Give {at_least} to {at_most} bytes of printable text."})
    return value
