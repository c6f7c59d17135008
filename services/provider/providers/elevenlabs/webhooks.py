"""One webhook for each org, at an API that shows a webhook's secret once.

A webhook of ours is one whose URL is ours. When its secret is not known, because the answer to making it was lost or
nobody stored it in time, it is of no use: it is deleted, and another is made. A webhook that is in use cannot be
deleted, so it is taken out of use first.

Sources: https://elevenlabs.io/docs/eleven-api/resources/webhooks,
https://elevenlabs.io/docs/agents-platform/workflows/post-call-webhooks.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from services.provider.provider import MayComeAbout, Refused
from services.provider.providers.elevenlabs.answers import text
from services.provider.providers.elevenlabs.api import Api, Item
from tenantvault.credentials import ElevenLabsCredential
from tenantvault.errors import (
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ProviderUnreachable,
    ProviderValidation,
    TenantVaultError,
)
from tenantvault.secret import Secret

EVENTS: Final = ("transcript", "call_initiation_failure")
"""What a webhook of ours is told of calls."""

NOT_TOLD: Final = (
    "ElevenLabs does not tell the webhook that was made of calls: another one is chosen for them, or this key may not "
    "choose. Choose it in ElevenLabs under Agents, Settings, Post-call webhook."
)

# Seconds to wait before each look for a webhook whose creation got no answer.
_LOOKS: Final = (0.5, 1.0, 2.0)
_CALLS: Final = "post_call_webhook_id"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook at ElevenLabs, and what it signs with."""

    id: str
    secret: Secret


class Webhooks:
    """Finds, makes and removes webhooks. `url` is what their URLs begin with; empty for none at all."""

    def __init__(self, api: Api, *, url: str, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._api = api
        self._url = url
        self._sleep = sleep

    def endpoint(self, org_id: str) -> str:
        """Where an org's webhook sends to; empty when none is to be made."""
        return f"{self._url}/{quote(org_id, safe='')}" if self._url else ""

    async def settle(self, credential: ElevenLabsCredential, org_id: str, known: Webhook | None) -> Webhook | Refused:
        """The org's webhook: the known one if it is there, enabled again if need be, or a new one.

        Raises:
            MayComeAbout: it was to be made, and nothing says whether it was.
            ProviderUnreachable: there was no definite answer.
        """
        webhooks = await self._api.webhooks(credential)
        if isinstance(webhooks, Refused):
            return webhooks
        kept: Item | None = None
        stuck = set[str]()
        for each in webhooks:
            webhook_id, is_ours = text(each, "webhook_id"), self._is_for(each, org_id)
            is_known = known is not None and webhook_id == known.id
            if is_ours and is_known:
                kept = each
            elif (is_ours or is_known) and not await self._cleared(credential, webhook_id):
                stuck.add(webhook_id)
        if kept is None or known is None:
            return await self._make(credential, org_id, stuck)
        if _is_off(kept) and (refused := await self._api.enable_webhook(credential, known.id, name=_name(org_id))):
            return refused
        return known

    async def tell_of_calls(self, credential: ElevenLabsCredential) -> bool:
        """Let the webhook be told of calls, unless another one is; returns whether it is.

        The setting is the workspace's, and there is one. It raises nothing: the webhook is good without it.
        """
        try:
            now = await self._api.call_webhook(credential)
            if isinstance(now, Refused):
                return False
            if text(now, _CALLS):
                return text(now, _CALLS) == credential.webhook_id
            wanted = {_CALLS: credential.webhook_id, "events": now.get("events") or list(EVENTS)}
            return await self._api.set_call_webhook(credential, wanted) is None
        except TenantVaultError as error:
            _log.info("calls are not told", extra={"provider": "elevenlabs", "reason": error.reason})
            return False

    async def flaw(self, credential: ElevenLabsCredential) -> str:
        """What is wrong with the webhook that was made, as a sentence; empty when nothing is.

        Raises:
            ProviderUnreachable: there was no definite answer.
        """
        if not credential.webhook_id:
            return ""
        webhooks = await self._api.webhooks(credential)
        if isinstance(webhooks, Refused):
            return ""  # this key may not look
        found = next((each for each in webhooks if text(each, "webhook_id") == credential.webhook_id), None)
        if found is None:
            return "The webhook that was made at ElevenLabs is gone: connect ElevenLabs again, and it is made anew."
        if _is_off(found):
            return "The webhook that was made at ElevenLabs is disabled: enable it there, or connect ElevenLabs again."
        calls = await self._api.call_webhook(credential)
        is_told = not isinstance(calls, Refused) and text(calls, _CALLS) == credential.webhook_id
        return "" if is_told else NOT_TOLD

    async def remove(self, credential: ElevenLabsCredential) -> str:
        """Delete the webhook that was made; returns what could not be done, as a sentence."""
        if not credential.webhook_id:
            return ""
        try:
            refused = await self._delete(credential, credential.webhook_id)
        except TenantVaultError as error:
            _log.info("a webhook stays", extra={"provider": "elevenlabs", "reason": error.reason})
            return _STAYS
        return _STAYS if refused else ""

    async def _make(
        self,
        credential: ElevenLabsCredential,
        org_id: str,
        stuck: set[str],
        pauses: tuple[float, ...] = _LOOKS,
    ) -> Webhook | Refused:
        """Make a webhook. When the answer is lost, its secret is too: look for it, delete it, and make another."""
        try:
            made = await self._api.create_webhook(credential, name=_name(org_id), url=self.endpoint(org_id))
        except (ProviderUnavailable, ProviderUnknownAnswer):
            for pause in pauses:
                await self._sleep(pause)
                if await self._was_found(credential, org_id, stuck):
                    return await self._make(credential, org_id, stuck, pauses=())
            raise MayComeAbout from None
        return made if isinstance(made, Refused) else await self._of(credential, made)

    async def _was_found(self, credential: ElevenLabsCredential, org_id: str, stuck: set[str]) -> bool:
        """Whether the webhook that was lost is there; it is deleted then, or is one of those that are stuck."""
        try:
            webhooks = await self._api.webhooks(credential)
            if isinstance(webhooks, Refused):
                return False
            ours = {text(each, "webhook_id") for each in webhooks if self._is_for(each, org_id)} - stuck
            stuck |= {each for each in ours if not await self._cleared(credential, each)}
        except ProviderUnreachable:
            return False
        return bool(ours)

    async def _of(self, credential: ElevenLabsCredential, made: Item) -> Webhook | Refused:
        """The webhook that was made. By the schema an answer may lack the secret: such a webhook is of no use."""
        webhook_id, secret = text(made, "webhook_id"), text(made, "webhook_secret")
        if not secret:
            await self._cleared(credential, webhook_id)
            return Refused(ProviderValidation, "ElevenLabs gave no secret for the webhook: make one there by hand.")
        return Webhook(webhook_id, Secret(secret))

    async def _cleared(self, credential: ElevenLabsCredential, webhook_id: str) -> bool:
        """Delete a webhook whose secret is not known, if that can be; returns whether it is gone."""
        try:
            gone = await self._delete(credential, webhook_id) is None
        except ProviderUnknownAnswer:
            gone = False
        if not gone:
            _log.warning("a webhook stays", extra={"provider": "elevenlabs", "surplus": [webhook_id]})
        return gone

    async def _delete(self, credential: ElevenLabsCredential, webhook_id: str) -> Refused | None:
        """Delete a webhook, out of its use for calls if need be."""
        now = await self._api.call_webhook(credential)
        if not isinstance(now, Refused) and text(now, _CALLS) == webhook_id:
            await self._api.set_call_webhook(credential, {_CALLS: None})
        return await self._api.delete_webhook(credential, webhook_id)

    def _is_for(self, webhook: Item, org_id: str) -> bool:
        return text(webhook, "webhook_url") == self.endpoint(org_id)


_STAYS: Final = "The webhook could not be deleted at ElevenLabs: delete it there, in the workspace's settings."


def _name(org_id: str) -> str:
    return f"tenantvault-{org_id}"


def _is_off(webhook: Item) -> bool:
    return webhook.get("is_disabled") is True or webhook.get("is_auto_disabled") is True
