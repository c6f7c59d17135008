"""One webhook for each org, at an API without idempotency keys for that.

A webhook of ours is one whose endpoint is ours. It is looked for before it is made, and when the answer to making it is
lost, it is looked for again. Resend shows the signing secret of one that is there, so nothing is lost with an answer.

Source: https://resend.com/docs/api-reference/webhooks/create-webhook.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from services.provider.provider import MayComeAbout, Refused
from services.provider.providers.resend.answers import text
from services.provider.providers.resend.api import WEBHOOKS, Api, Item
from tenantvault.credentials import ResendCredential
from tenantvault.errors import ProviderUnavailable, ProviderUnknownAnswer, ProviderUnreachable, TenantVaultError
from tenantvault.secret import Secret

EVENTS: Final = (
    "email.sent",
    "email.delivered",
    "email.delivery_delayed",
    "email.bounced",
    "email.complained",
    "email.failed",
    "email.opened",
    "email.clicked",
    "email.received",
)
"""What a webhook of ours is told of."""

_ENABLED: Final = "enabled"
# Seconds to wait before each look for a webhook whose creation got no answer.
_LOOKS: Final = (0.5, 1.0, 2.0)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook at Resend, and what it signs with."""

    id: str
    secret: Secret


class Webhooks:
    """Finds, makes and removes webhooks. `url` is what their endpoints begin with; empty for none at all."""

    def __init__(self, api: Api, *, url: str, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._api = api
        self._url = url
        self._sleep = sleep

    def endpoint(self, org_id: str) -> str:
        """Where an org's webhook sends to; empty when none is to be made."""
        return f"{self._url}/{quote(org_id, safe='')}" if self._url else ""

    async def settle(self, credential: ResendCredential, org_id: str) -> Webhook | Refused:
        """The org's webhook: the one that is there, mended if need be, or a new one.

        One that the credential names moves along when our address changes.

        Raises:
            MayComeAbout: it was to be made, and nothing says whether it was.
            ProviderUnreachable: there was no definite answer.
        """
        endpoint = self.endpoint(org_id)
        wanted = {"endpoint": endpoint, "events": list(EVENTS)}
        found = await self._find(credential, endpoint, credential.webhook_id)
        if isinstance(found, Refused):
            return found
        return (
            await self._take(credential, text(found, "id"), wanted) if found else await self._make(credential, wanted)
        )

    async def flaw(self, credential: ResendCredential, org_id: str) -> str:
        """What is wrong with the webhook that was made, as a sentence; empty when nothing is.

        Raises:
            ProviderUnreachable: there was no definite answer.
        """
        if not credential.webhook_id:
            return ""
        found = await self._api.get(credential, WEBHOOKS, credential.webhook_id)
        if isinstance(found, Refused):
            return ""  # this key may not look
        if found is None:
            return "The webhook that was made at Resend is gone: connect Resend again, and it is made anew."
        if text(found, "status") != _ENABLED:
            return "The webhook that was made at Resend is disabled: enable it there, or connect Resend again."
        if self._url and text(found, "endpoint") != self.endpoint(org_id):
            return "The webhook that was made at Resend sends to another address: connect Resend again."
        return ""

    async def remove(self, credential: ResendCredential) -> str:
        """Delete the webhook that was made; returns what could not be done, as a sentence."""
        if not credential.webhook_id:
            return ""
        try:
            refused = await self._api.delete(credential, WEBHOOKS, credential.webhook_id)
        except TenantVaultError as error:
            _log.info("a webhook stays", extra={"provider": "resend", "reason": error.reason})
            return _STAYS
        return _STAYS if refused else ""

    async def _make(self, credential: ResendCredential, wanted: dict[str, Any]) -> Webhook | Refused:
        """Make a webhook, once. When the answer is lost, look for what it made instead of making another."""
        try:
            made = await self._api.create(credential, WEBHOOKS, wanted)
        except (ProviderUnavailable, ProviderUnknownAnswer):
            for pause in _LOOKS:
                await self._sleep(pause)
                try:
                    found = await self._find(credential, wanted["endpoint"])
                except ProviderUnreachable:
                    continue
                if isinstance(found, Refused):
                    return found
                if found:
                    return await self._take(credential, text(found, "id"), wanted)
            raise MayComeAbout from None
        return made if isinstance(made, Refused) else _webhook(made)

    async def _find(self, credential: ResendCredential, endpoint: str, known: str = "") -> Item | Refused | None:
        """The oldest webhook with an endpoint, which every worker would choose; else the one with a known id."""
        items = await self._api.all(credential, WEBHOOKS)
        if isinstance(items, Refused):
            return items
        ours = sorted(
            (item for item in items if text(item, "endpoint") == endpoint),
            key=lambda item: (text(item, "created_at"), text(item, "id")),
        )
        if ours[1:]:
            surplus = [text(item, "id") for item in ours[1:]]
            _log.warning("more than one webhook", extra={"provider": "resend", "surplus": surplus})
        return ours[0] if ours else next((item for item in items if known and text(item, "id") == known), None)

    async def _take(self, credential: ResendCredential, webhook_id: str, wanted: dict[str, Any]) -> Webhook | Refused:
        found = await self._api.get(credential, WEBHOOKS, webhook_id)
        if found is None:  # it was in the list a moment ago
            raise ProviderUnknownAnswer
        if isinstance(found, Refused):
            return found
        if not _is_as(found, wanted):
            body = wanted | {"status": _ENABLED}
            if refused := await self._api.update(credential, WEBHOOKS, webhook_id, body):
                return refused
        return _webhook(found)


_STAYS: Final = "The webhook could not be deleted at Resend: delete it there, under Webhooks."


def _is_as(found: Item, wanted: dict[str, Any]) -> bool:
    events = found.get("events")
    return (
        text(found, "status") == _ENABLED
        and text(found, "endpoint") == wanted["endpoint"]
        and isinstance(events, list)
        and all(event in events for event in wanted["events"])
    )


def _webhook(item: Item) -> Webhook:
    secret = text(item, "signing_secret")
    if not secret:
        raise ProviderUnknownAnswer
    return Webhook(text(item, "id"), Secret(secret))
