"""A webhook in the stand-in for Resend.

Sources: https://resend.com/docs/api-reference/webhooks/get-webhook, https://resend.com/docs/webhooks/event-types.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from deploy.sandbox.resend_answers import Refused
from deploy.sandbox.resend_keys import stamp

_EVENTS: Final = frozenset(
    (
        "email.sent",
        "email.delivered",
        "email.delivery_delayed",
        "email.bounced",
        "email.complained",
        "email.opened",
        "email.clicked",
        "email.failed",
        "email.scheduled",
        "email.suppressed",
        "email.received",
        "contact.created",
        "contact.updated",
        "contact.deleted",
        "domain.created",
        "domain.updated",
        "domain.deleted",
    )
)
_STATUSES: Final = ("enabled", "disabled")
_SIGNING_BYTES: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook of a team."""

    id: str
    team: str
    endpoint: str
    events: tuple[str, ...]
    created_at: datetime
    status: str = "enabled"

    def to_json(self) -> dict[str, Any]:
        """As the list shows it: without the signing secret."""
        return {
            "id": self.id,
            "created_at": stamp(self.created_at),
            "status": self.status,
            "endpoint": self.endpoint,
            "events": list(self.events),
        }

    def secret(self) -> str:
        """What it signs with."""
        digest = hashlib.sha256(f"resend {self.id}".encode()).digest()
        return "whsec_" + base64.b64encode(digest[:_SIGNING_BYTES]).decode()


def changed(webhook: Webhook, body: Mapping[str, Any]) -> Webhook:
    """The webhook with the fields that a body has."""
    endpoint, status = body.get("endpoint", webhook.endpoint), body.get("status", webhook.status)
    events = body.get("events", list(webhook.events))
    if not isinstance(endpoint, str) or not endpoint.startswith(("https://", "http://")):
        raise Refused(422, "validation_error", "The `endpoint` must be a valid URL.")
    if not isinstance(events, list) or not events or not all(each in _EVENTS for each in map(str, events)):
        raise Refused(422, "validation_error", "The `events` must be a list of known event types.")
    if status not in _STATUSES:
        raise Refused(422, "validation_error", 'The `status` must be "enabled" | "disabled".')
    return replace(webhook, endpoint=endpoint, events=tuple(events), status=status)
