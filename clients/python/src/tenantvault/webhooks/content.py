"""What is in a body, and what names an event that its sender gives no name."""

import hashlib
import json
from typing import Any

from tenantvault.webhooks.rejection import Cause, WebhookRejected


def json_value(body: bytes) -> Any:
    """The JSON (RFC 8259) in a body.

    Raises:
        WebhookRejected: it is none, or nested too deeply to read.
    """
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        raise WebhookRejected(Cause.MALFORMED) from None


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        WebhookRejected: it is no JSON, or no object.
    """
    value = json_value(body)
    if not isinstance(value, dict):
        raise WebhookRejected(Cause.MALFORMED)
    return value


def text_at(value: Any, *path: str) -> str:
    """The text at a path of names; empty when there is none, or when it is no text."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def fingerprint(content: bytes) -> str:
    """A name made from all the content: the same bytes again are the same event."""
    return hashlib.sha256(content).hexdigest()
