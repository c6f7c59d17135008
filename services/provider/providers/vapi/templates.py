"""The assistants that an org gets.

Vapi knows no inbound or outbound assistants: both are the same thing, with other words. Limits of the schema
(https://api.vapi.ai/api-json): `name` has at most 40 characters, `maxDurationSeconds` is 10 to 43200.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from tenantvault.secret import Secret

ROLES: Final = ("inbound", "outbound")
"""What the assistants are for."""

MANAGED_BY: Final = "tenantvault"
"""The mark on the assistants that are ours."""

SECRET_HEADER: Final = "X-Vapi-Secret"  # noqa: S105 - the header's name
"""The header in which webhooks carry the org's secret."""


def assistant(org_id: str, role: str, *, url: str, secret: Secret) -> dict[str, Any]:
    """The body of an org's assistant. It holds the webhook secret; `metadata.spec_hash` stands for all the rest.

    The secret travels in `server.headers`: `server.secret` left the schema in 2025, and the credentials that Vapi keeps
    itself can be made by hand only.
    """
    digest = hashlib.sha256(org_id.encode()).hexdigest()
    body: dict[str, Any] = {
        "name": f"{org_id[:24]}-{role}-{digest[:6]}",
        "firstMessageMode": "assistant-speaks-first",
        "voice": {"provider": "11labs", "voiceId": "21m00Tcm4TlvDq8ikWAM", "model": "eleven_flash_v2_5"},
        "transcriber": {"provider": "deepgram", "model": "nova-3", "language": "en"},
        "server": {"url": url, "timeoutSeconds": 20, "headers": {SECRET_HEADER: secret.reveal()}},
        "serverMessages": ["status-update", "end-of-call-report", "tool-calls", "hang"],
        **_BY_ROLE[role],
    }
    spec_hash = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    body["metadata"] = {
        "tenant_id": org_id,
        "role": role,
        "managed_by": MANAGED_BY,
        "spec_hash": f"sha256:{spec_hash}",
    }
    return body


def _model(instructions: str) -> dict[str, Any]:
    return {"provider": "openai", "model": "gpt-4o", "messages": [{"role": "system", "content": instructions}]}


_BY_ROLE: Final[Mapping[str, Mapping[str, Any]]] = {
    "inbound": {
        "firstMessage": "Hello, thank you for calling. How can I help you?",
        "model": _model(
            "You are a friendly receptionist who answers the phone for a company. Find out what the caller needs, one "
            "question at a time, in short sentences. Ask for a name and a number to call back when you cannot help, "
            "and never make up facts about the company."
        ),
    },
    "outbound": {
        "firstMessage": "Hello, this is an automated assistant. Is this a good moment to talk?",
        "maxDurationSeconds": 600,
        "model": _model(
            "You are a polite assistant who makes phone calls for a company. Say why you call, in short sentences, and "
            "listen. End the call at once when you are asked to, when it is a bad moment, or when you reach a mailbox."
        ),
    },
}
