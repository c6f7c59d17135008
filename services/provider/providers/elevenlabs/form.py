"""The fields of an ElevenLabs credential: what a form shows of them, and what may stand in them.

Sources: https://elevenlabs.io/docs/api-reference/authentication; the regions are those of the API description
(https://api.elevenlabs.io/openapi.json). Keys look like `sk_` and 48 hexadecimal digits, older ones like 32 of those,
which is no promise of the vendor's: only what is another provider's is refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from services.provider.description import Description, Field
from services.provider.fields import flaw_of_secret, pasted, pasted_secret
from tenantvault.credentials import ElevenLabsCredential
from tenantvault.secret import Secret

API_KEY: Final = r"(?!re_)(?![0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$)[!-~]{20,256}"
"""The whole of an API key, as a pattern."""

SIGNING_SECRET: Final = r"[!-~]{8,256}"  # noqa: S105 - a pattern
"""The whole of a webhook's secret, as a pattern."""

_SHORTEST_KEY: Final = 20
_SHORTEST_SECRET: Final = 8
_API_KEY = re.compile(API_KEY)

Problem = tuple[str, str]
"""A field, in the spelling of the REST interface, and what is wrong with it."""


def description(regions: Sequence[str]) -> Description:
    """What a form shows. The first region is the default."""
    return Description(
        title="ElevenLabs",
        summary="Speaks with the voices and the agents of your ElevenLabs workspace.",
        next=(
            "The key is tested, and a webhook is made in your workspace when the key may do that and you give no "
            "secret of your own."
        ),
        console_url="https://elevenlabs.io/app/settings/api-keys",
        fields=(
            Field(
                name="api_key",
                label="API key",
                hint="It begins with sk_. Let it read the user, the models and the voices, and manage webhooks.",
                pattern=API_KEY,
                placeholder="sk_...",
                help_url="https://elevenlabs.io/docs/api-reference/authentication",
                required=True,
                secret=True,
            ),
            Field(
                name="webhook_secret",
                label="Webhook secret",
                hint="Only if you made a webhook yourself: ElevenLabs shows its secret once, when it is made.",
                pattern=SIGNING_SECRET,
                help_url="https://elevenlabs.io/docs/eleven-api/resources/webhooks",
                secret=True,
                advanced=True,
            ),
            Field(
                name="region",
                label="Region",
                hint="Leave it unless your workspace has its data kept in one region; its keys work there only.",
                help_url="https://elevenlabs.io/docs/overview/administration/data-residency",
                choices=tuple(regions),
                advanced=True,
            ),
        ),
    )


def trimmed(credential: ElevenLabsCredential, *, default_region: str) -> ElevenLabsCredential:
    """The credential without what copy and paste leaves around it."""
    return replace(
        credential,
        api_key=pasted_secret(credential.api_key),
        webhook_secret=pasted_secret(credential.webhook_secret),
        region=pasted(credential.region).lower() or default_region,
    )


def problems(credential: ElevenLabsCredential, *, regions: Sequence[str]) -> Iterator[Problem]:
    """Everything that is wrong with a trimmed credential."""
    if problem := _of_key(credential.api_key):
        yield "apiKey", problem
    secret = credential.webhook_secret
    if secret and (flaw := flaw_of_secret(secret, shortest=_SHORTEST_SECRET)):
        yield "webhookSecret", f"The webhook secret {flaw}"
    if credential.region not in regions:
        yield "region", f"Give a region: {', '.join(regions)}."


def _of_key(key: Secret) -> str:
    if not key:
        return "Give an API key from ElevenLabs' dashboard; it begins with sk_."
    value = key.reveal()
    if value.startswith("re_"):
        return "This looks like a Resend key. ElevenLabs' keys begin with sk_."
    if flaw := flaw_of_secret(key, shortest=_SHORTEST_KEY):
        return f"The API key {flaw}"
    return "" if _API_KEY.fullmatch(value) else "This looks like a Vapi key. ElevenLabs' keys begin with sk_."
