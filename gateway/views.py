"""An integration as the REST interface shows it: no secret, phone numbers masked, times in ISO 8601 UTC."""

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault.credentials import Provider
from tenantvault.messages import PROVIDER_NUMBER
from tenantvault.v1 import credential_pb2 as pb

NAMES: Final[Mapping[Provider, str]] = {
    Provider.VAPI: "Vapi",
    Provider.TWILIO: "Twilio",
    Provider.GOOGLE_CALENDAR: "Google Calendar",
    Provider.RESEND: "Resend",
    Provider.ELEVENLABS: "ElevenLabs",
}
"""The providers as people call them."""

_STATES: Final[Mapping[int, str]] = {
    pb.INTEGRATION_STATE_EMPTY: "empty",
    pb.INTEGRATION_STATE_CONNECTING: "connecting",
    pb.INTEGRATION_STATE_CONNECTED: "connected",
    pb.INTEGRATION_STATE_REFUSED: "refused",
    pb.INTEGRATION_STATE_DISCONNECTED: "disconnected",
}
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
        "state": _STATES.get(shown.state, "empty"),
        "lastVerified": last_verified(shown),
        "error": shown.verification_error,
        "hint": shown.hint,
        "version": shown.version,
        **resources(shown),
    }
    return {name: value for name, value in view.items() if value not in ("", None, 0) or name == "connected"}


def connected(shown: pb.Integration) -> bool:
    """Whether the provider's last definite answer was yes."""
    return shown.state == pb.INTEGRATION_STATE_CONNECTED


def last_verified(shown: pb.Integration) -> str | None:
    """When the provider last confirmed the credential."""
    return _iso(shown.last_verified_at) if shown.HasField("last_verified_at") else None


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


def _iso(timestamp: Timestamp) -> str:
    return timestamp.ToDatetime(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
