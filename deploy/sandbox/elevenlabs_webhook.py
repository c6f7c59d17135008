"""A webhook in the stand-in for ElevenLabs.

Source: https://elevenlabs.io/docs/api-reference/webhooks/list.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook of a workspace."""

    id: str
    workspace: str
    name: str
    url: str
    created_at: datetime
    is_disabled: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the list shows it: without the secret."""
        return {
            "name": self.name,
            "webhook_id": self.id,
            "webhook_url": self.url,
            "is_disabled": self.is_disabled,
            "is_auto_disabled": False,
            "created_at_unix": int(self.created_at.timestamp()),
            "auth_type": "hmac",
            "usage": None,
            "most_recent_failure_error_code": None,
            "most_recent_failure_timestamp": None,
        }

    def secret(self) -> str:
        """What it signs with."""
        return "wsec_" + hashlib.sha256(f"elevenlabs {self.id}".encode()).hexdigest()
