"""What the REST interface shows: no secret, phone numbers masked, times in ISO 8601 UTC, names in camel case."""

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.names import camel
from tenantvault.credentials import Provider
from tenantvault.messages import PROVIDER_NUMBER, PROVIDER_OF
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import integration_service_pb2 as provider_pb
from tenantvault.v1 import status_service_pb2 as status_pb

NAMES: Final[Mapping[Provider, str]] = {
    Provider.VAPI: "Vapi",
    Provider.TWILIO: "Twilio",
    Provider.GOOGLE_CALENDAR: "Google Calendar",
    Provider.RESEND: "Resend",
    Provider.ELEVENLABS: "ElevenLabs",
}
"""The providers as people call them."""

STATES: Final[Mapping[int, str]] = {
    pb.INTEGRATION_STATE_EMPTY: "empty",
    pb.INTEGRATION_STATE_CONNECTING: "connecting",
    pb.INTEGRATION_STATE_CONNECTED: "connected",
    pb.INTEGRATION_STATE_REFUSED: "refused",
    pb.INTEGRATION_STATE_DISCONNECTED: "disconnected",
}
"""The states, by the contract's numbers."""

MAY_LACK: Final = frozenset({"person", "provider", "version"})
"""What an audit event may be without."""

_DOTS: Final = "•"
_WHATSAPP: Final = "whatsapp"
_LONG_NUMBER: Final = 9


def status(integrations: Iterable[pb.Integration]) -> dict[str, Any]:
    """Every provider with its state; one that the org never began to connect is `empty`."""
    known = {integration.provider: integration for integration in integrations}
    return {
        provider: integration(known.get(number, pb.Integration(state=pb.INTEGRATION_STATE_EMPTY)))
        for provider, number in PROVIDER_NUMBER.items()
    }


def integration(shown: pb.Integration) -> dict[str, Any]:
    """One integration; what is unknown is left out."""
    view = {
        "connected": connected(shown),
        "state": STATES.get(shown.state, "empty"),
        "lastVerified": last_verified(shown),
        "error": shown.verification_error,
        "reason": shown.verification_reason,
        "warnings": list(shown.warnings),
        "hint": shown.hint,
        "version": shown.version,
        "email": shown.account if shown.provider == pb.PROVIDER_GOOGLE_CALENDAR else "",
        "rotationDueAt": rotation_due_at(shown),
        "rotatesByItself": shown.rotates_by_itself if shown.HasField("rotation_due_at") else None,
        **account(shown),
        **resources(shown),
    }
    return {name: value for name, value in view.items() if value or value is False}


def verdict(shown: pb.Integration) -> dict[str, Any]:
    """What the provider said about the stored credential."""
    return {
        "connected": connected(shown),
        "lastVerified": last_verified(shown),
        "error": shown.verification_error or None,
    }


def trial(answer: provider_pb.TestCredentialResponse) -> dict[str, Any]:
    """What the provider said about a credential that is not stored; `field` is the one to mend."""
    said = {
        "account": answer.account,
        "error": answer.message,
        "code": answer.reason,
        "field": camel(answer.field),
    }
    return {"accepted": answer.accepted} | {name: text for name, text in said.items() if text}


def descriptions(shown: Iterable[provider_pb.ProviderDescription]) -> list[dict[str, Any]]:
    """The providers as a form shows them, without those that this version does not know: a newer service has more."""
    return [_description(each) for each in shown if each.provider in PROVIDER_OF]


def _description(shown: provider_pb.ProviderDescription) -> dict[str, Any]:
    view = MessageToDict(shown, always_print_fields_with_no_presence=True)
    fields = [field | {"name": camel(field["name"])} for field in view["fields"]]
    return view | {"provider": PROVIDER_OF[shown.provider].value, "fields": fields}


def connected(shown: pb.Integration) -> bool:
    """Whether the provider's last definite answer was yes."""
    return shown.state == pb.INTEGRATION_STATE_CONNECTED


def last_verified(shown: pb.Integration) -> str | None:
    """When the provider last confirmed the credential."""
    return iso(shown.last_verified_at) if shown.HasField("last_verified_at") else None


def rotation_due_at(shown: pb.Integration) -> str | None:
    """When the credential should be replaced; None when it need not be."""
    return iso(shown.rotation_due_at) if shown.HasField("rotation_due_at") else None


def account(shown: pb.Integration) -> dict[str, str]:
    """What the provider calls the account, when it says so."""
    return {"account": shown.account} if shown.account else {}


def resources(shown: pb.Integration) -> dict[str, str]:
    """What was provisioned: assistant ids whole, for they are no secret, and the phone number masked."""
    view = {}
    for resource in shown.resources:
        match resource.kind:
            case pb.RESOURCE_KIND_VAPI_ASSISTANT if resource.role in ("inbound", "outbound"):
                view[f"{resource.role}AssistantId"] = resource.resource_id
            case pb.RESOURCE_KIND_PHONE_NUMBER if resource.role != _WHATSAPP:
                view.setdefault("phoneNumber", masked(resource.resource_id))
    return view


def masked(number: str) -> str:
    """A phone number with its middle hidden: `+1••••••0100`. A short one keeps its last two digits only."""
    first, last = (2, 4) if len(number) >= _LONG_NUMBER else (1, 2)
    return number[:first] + _DOTS * max(2, len(number) - first - last) + number[-last:]


def audit_event(shown: status_pb.AuditEvent) -> dict[str, Any]:
    """Something that happened; without person, provider and version where there was none."""
    view = {
        "id": shown.event_id,
        "sequence": shown.sequence,
        "at": iso(shown.occurred_at),
        "service": shown.peer,
        "person": shown.on_behalf_of,
        "action": shown.action,
        "provider": shown.provider,
        "version": shown.version,
        "outcome": shown.outcome,
        "requestId": shown.request_id,
    }
    return {name: value for name, value in view.items() if value or name not in MAY_LACK}


def read_counts(shown: Iterable[status_pb.ReadCount]) -> list[dict[str, Any]]:
    """How often services were given credentials, without the providers that this version does not know."""
    return [
        {
            "service": count.peer,
            "provider": PROVIDER_OF[count.provider].value,
            "reads": count.reads,
            "lastReadAt": iso(count.last_read_at),
        }
        for count in shown
        if count.provider in PROVIDER_OF
    ]


def iso(timestamp: Timestamp) -> str:
    """A time, to the millisecond."""
    return timestamp.ToDatetime(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
