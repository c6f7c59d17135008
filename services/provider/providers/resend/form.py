"""The fields of a Resend credential: what a form shows of them, and what may stand in them.

Sources: https://resend.com/docs/dashboard/api-keys/introduction for the keys, of whose form the vendor says no more
than that they begin with `re_`; https://docs.svix.com/receiving/verifying-payloads/how-manual for the webhook secret.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from services.provider.description import Description, Field
from services.provider.fields import flaw_of_secret, pasted_secret
from tenantvault.credentials import ResendCredential
from tenantvault.secret import Secret

API_KEY: Final = r"re_[!-~]{5,253}"
"""The whole of an API key, as a pattern."""

# Base64 of 16 bytes at least, with its padding.
SIGNING_SECRET: Final = r"whsec_(?:[A-Za-z0-9+\/]{4}){5,61}(?:[A-Za-z0-9+\/]{4}|[A-Za-z0-9+\/]{3}=|[A-Za-z0-9+\/]{2}==)"  # noqa: S105 - a pattern
"""The whole of a webhook's signing secret, as a pattern."""

_API_KEY = re.compile(API_KEY)
_SIGNING_SECRET = re.compile(SIGNING_SECRET)
# What else people have in their clipboard.
_OTHERS: Final = (
    (re.compile(r"sk_[0-9a-f]{48}\Z", re.IGNORECASE), "This looks like an ElevenLabs key."),
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE), "This looks like a Vapi key."),
    (re.compile(r"whsec_"), "This is a webhook signing secret."),
)

Problem = tuple[str, str]
"""A field, in the spelling of the REST interface, and what is wrong with it."""


def description() -> Description:
    """What a form shows."""
    return Description(
        title="Resend",
        summary="Sends e-mail from your own domains.",
        next=(
            "The key is tested, and a webhook is made in your Resend account when the key may do that and you give no "
            "secret of your own."
        ),
        console_url="https://resend.com/api-keys",
        fields=(
            Field(
                name="api_key",
                label="API key",
                hint="It begins with re_. Full access lets webhooks be made and the key be replaced by itself.",
                pattern=API_KEY,
                placeholder="re_...",
                help_url="https://resend.com/docs/dashboard/api-keys/introduction",
                required=True,
                secret=True,
            ),
            Field(
                name="webhook_secret",
                label="Webhook signing secret",
                hint="Only if you made a webhook yourself: it begins with whsec_ and is on the webhook's page.",
                pattern=SIGNING_SECRET,
                placeholder="whsec_...",
                help_url="https://resend.com/docs/webhooks/verify-webhooks-requests",
                secret=True,
                advanced=True,
            ),
        ),
    )


def trimmed(credential: ResendCredential) -> ResendCredential:
    """The credential without what copy and paste leaves around it."""
    return replace(
        credential,
        api_key=pasted_secret(credential.api_key),
        webhook_secret=pasted_secret(credential.webhook_secret),
    )


def problems(credential: ResendCredential) -> Iterator[Problem]:
    """Everything that is wrong with a trimmed credential."""
    if problem := _of_key(credential.api_key):
        yield "apiKey", problem
    if credential.webhook_secret and (problem := _of_webhook_secret(credential.webhook_secret)):
        yield "webhookSecret", problem


def _of_key(key: Secret) -> str:
    if not key:
        return "Give an API key from Resend's dashboard; it begins with re_."
    if flaw := flaw_of_secret(key):
        return f"The API key {flaw}"
    value = key.reveal()
    if _API_KEY.fullmatch(value):
        return ""
    looks_like = next((sentence for form, sentence in _OTHERS if form.match(value)), "Copy it from Resend's dashboard.")
    return f"{looks_like} Resend's API keys begin with re_, and more follows."


def _of_webhook_secret(secret: Secret) -> str:
    if flaw := flaw_of_secret(secret):
        return f"The webhook secret {flaw}"
    value = secret.reveal()
    if _SIGNING_SECRET.fullmatch(value):
        return ""
    if not value.startswith("whsec_"):
        return "The webhook secret begins with whsec_: copy it from the webhook's page at Resend."
    return "The webhook secret is not complete: copy the whole of it, to the last character."
