"""The body of an org's assistant, as Vapi is asked to make it.

Limits of the schema (https://api.vapi.ai/api-json): `name` has at most 40 characters.
"""

import hashlib
import json
from typing import Any, Final

from services.provider.providers.vapi.form import BEARER, HEADER
from services.provider.providers.vapi.templates import Templates
from tenantvault.credentials import VapiCredential

SECRET_HEADER: Final = "X-Vapi-Secret"  # noqa: S105 - the header's name
"""The header in which webhooks carry the org's secret in the scheme `header`."""

_TIMEOUT_SECONDS: Final = 20


def assistant(
    org_id: str, role: str, *, mark: str, url: str, credential: VapiCredential, templates: Templates
) -> dict[str, Any]:
    """The body of an org's assistant. `metadata.spec_hash` stands for all the rest, but for the other metadata.

    It may hold the webhook secret, which anybody may read who may read the assistant.
    """
    digest = hashlib.sha256(org_id.encode()).hexdigest()
    body: dict[str, Any] = {
        **templates.by_role[role],
        "name": f"{org_id[:24]}-{role}-{digest[:6]}",
        "server": {"url": url, "timeoutSeconds": _TIMEOUT_SECONDS, **_proof(credential)},
        "serverMessages": ["status-update", "end-of-call-report", "tool-calls", "hang"],
    }
    spec_hash = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    body["metadata"] = {
        "tenant_id": org_id,
        "role": role,
        "managed_by": mark,
        "spec_hash": f"sha256:{spec_hash}",
    }
    return body


def _proof(credential: VapiCredential) -> dict[str, Any]:
    """What makes the webhooks prove themselves (https://docs.vapi.ai/server-url/server-authentication).

    `server.secret` left the schema in 2025. What signs is a credential that Vapi keeps, and that is made by hand.
    """
    secret = credential.webhook_secret.reveal()
    if credential.webhook_scheme == HEADER:
        return {"headers": {SECRET_HEADER: secret}}
    if credential.webhook_scheme == BEARER:
        return {"headers": {"Authorization": f"Bearer {secret}"}}
    return {"credentialId": credential.webhook_credential_id}
