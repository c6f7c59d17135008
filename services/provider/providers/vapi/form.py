"""What may stand in the fields of a Vapi credential.

The vendor publishes no form of its keys; those seen are UUIDs. Source of the schemes:
https://docs.vapi.ai/server-url/server-authentication.
"""

import re
from collections.abc import Iterator
from typing import Final

from services.provider.description import Description, Field
from services.provider.fields import LONGEST, flaw_of_secret, pasted, pasted_secret
from tenantvault.credentials import VapiCredential

HEADER: Final = "header"
"""Webhooks carry the secret in a header of Vapi's name."""

BEARER: Final = "bearer"
"""Webhooks carry the secret as a bearer token (RFC 6750)."""

SCHEMES: Final = (HEADER, BEARER, "hmac-sha256", "hmac-sha512", "hmac-sha1")
"""How webhooks may prove themselves; all others are signed with a credential that Vapi keeps."""

Problem = tuple[str, str]
"""A field and what is wrong with it."""

_SHORTEST_KEY: Final = 20
_SHORTEST_WEBHOOK_SECRET: Final = 8
_UUID_FORM: Final = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_UUID = re.compile(_UUID_FORM)


def is_uuid(text: str) -> bool:
    """Whether it has the form of Vapi's ids and keys."""
    return _UUID.fullmatch(text) is not None


def trimmed(credential: VapiCredential) -> VapiCredential:
    """The credential without what copy and paste leaves around it."""
    return VapiCredential(
        api_key=pasted_secret(credential.api_key),
        webhook_secret=pasted_secret(credential.webhook_secret),
        region=pasted(credential.region).lower() or "us",
        webhook_scheme=pasted(credential.webhook_scheme).lower() or HEADER,
        webhook_credential_id=pasted(credential.webhook_credential_id),
    )


def problems(credential: VapiCredential, *, regions: tuple[str, ...]) -> Iterator[Problem]:
    """Everything that is wrong with a trimmed credential."""
    if not credential.api_key:
        yield "apiKey", "Give the private API key from Vapi's dashboard."
    elif flaw := flaw_of_secret(credential.api_key, shortest=_SHORTEST_KEY):
        yield "apiKey", f"The API key {flaw}"
    if credential.region not in regions:
        yield "region", f"Give a region: {' or '.join(regions)}."
    yield from _of_webhooks(credential)


def _of_webhooks(credential: VapiCredential) -> Iterator[Problem]:
    secret, held = credential.webhook_secret, credential.webhook_credential_id
    is_signed = credential.webhook_scheme in SCHEMES and credential.webhook_scheme not in {HEADER, BEARER}
    if secret and (flaw := flaw_of_secret(secret, shortest=_SHORTEST_WEBHOOK_SECRET)):
        yield "webhookSecret", f"The webhook secret {flaw}"
    elif is_signed and not secret:
        yield "webhookSecret", "Give the secret that Vapi signs with: the one of the credential made there."
    if credential.webhook_scheme not in SCHEMES:
        yield "webhookScheme", f"Give one of these: {', '.join(SCHEMES)}."
    elif is_signed and not is_uuid(held):
        yield "webhookCredentialId", "Give the id of the HMAC credential at Vapi; it looks like a UUID."
    elif held and not is_signed:
        yield "webhookCredentialId", "Only the HMAC schemes need a credential at Vapi: choose one, or leave this empty."


def description(regions: tuple[str, ...]) -> Description:
    """What a form shows."""
    return Description(
        title="Vapi",
        summary="Voice assistants that answer and make phone calls.",
        next="An inbound and an outbound assistant are made in your Vapi account. Nothing else there is changed.",
        console_url="https://dashboard.vapi.ai/org/api-keys",
        fields=(
            Field(
                name="api_key",
                label="API key",
                hint=f"The private key, not the public one. It has at least {_SHORTEST_KEY} characters.",
                pattern=f"[!-~]{{{_SHORTEST_KEY},{LONGEST}}}",
                placeholder="01234567-89ab-cdef-0123-456789abcdef",
                help_url="https://docs.vapi.ai/security-and-privacy/api-keys",
                required=True,
                secret=True,
            ),
            Field(
                name="webhook_secret",
                label="Webhook secret",
                hint="What Vapi's webhooks prove themselves with. Leave it empty unless you need to know it.",
                pattern=f"[!-~]{{{_SHORTEST_WEBHOOK_SECRET},{LONGEST}}}",
                help_url="https://docs.vapi.ai/server-url/server-authentication",
                secret=True,
                made_up=True,
            ),
            Field(
                name="region",
                label="Region",
                hint="Where the account is. Keys of one region are unknown in the other.",
                choices=regions,
            ),
            Field(
                name="webhook_scheme",
                label="Webhook scheme",
                hint="How webhooks prove themselves. The HMAC schemes need a credential that you make at Vapi.",
                help_url="https://docs.vapi.ai/server-url/server-authentication",
                choices=SCHEMES,
                advanced=True,
            ),
            Field(
                name="webhook_credential_id",
                label="Webhook credential id",
                hint="The id of the HMAC credential at Vapi. Its secret goes into the webhook secret.",
                pattern=_UUID_FORM,
                placeholder="01234567-89ab-cdef-0123-456789abcdef",
                help_url="https://docs.vapi.ai/server-url/server-authentication",
                advanced=True,
            ),
        ),
    )
