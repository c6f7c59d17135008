"""A customer's ElevenLabs workspace: the test of its API key, and the webhook that is made in it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from services.provider.outbound import Outbound
from services.provider.provider import Accepted, Checkpoint, Provisioned, Refused, Verdict
from services.provider.providers.elevenlabs.answers import lacks_permission, text
from services.provider.providers.elevenlabs.api import MODELS, USER, VOICES, Api
from services.provider.providers.elevenlabs.form import description, problems, trimmed
from services.provider.providers.elevenlabs.webhooks import NOT_TOLD, Webhook, Webhooks
from tenantvault.credentials import Credential, ElevenLabsCredential, Provider, Resource
from tenantvault.errors import (
    AccountSuspended,
    InvalidCredentials,
    InvalidRequest,
    ProviderResourceMissing,
    ProviderUnknownAnswer,
    ProviderUnreachable,
)

_log = logging.getLogger(__name__)


class ElevenLabs:
    """The provider ElevenLabs.

    `urls` gives the API's base URL of each region, the default one first. An org's webhook sends to `webhook_url`, a
    slash and the org's id; without a `webhook_url`, none is made.
    """

    def __init__(
        self,
        outbound: Outbound,
        *,
        urls: Mapping[str, str],
        webhook_url: str = "",
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name: Final = Provider.ELEVENLABS
        self.credential: Final = ElevenLabsCredential
        self._regions = tuple(urls)
        self.description: Final = description(self._regions)
        self.consent: Final = None
        self.rotation: Final = None
        self._api = Api(outbound, urls)
        self._webhooks = Webhooks(self._api, url=webhook_url, sleep=sleep)

    def normalise(self, credential: ElevenLabsCredential) -> ElevenLabsCredential:
        """See the port."""
        meant = trimmed(credential, default_region=self._regions[0])
        if found := dict(problems(meant, regions=self._regions)):
            raise InvalidRequest("Some fields need another look.", fields=found)
        return meant

    async def test(self, credential: ElevenLabsCredential) -> Verdict:
        """See the port. A key that may not read its user is genuine: then it is asked what else it may do."""
        answer = await self._api.get(credential, USER)
        if isinstance(answer, Refused):
            if answer.kind is ProviderResourceMissing:  # the endpoint itself: it says nothing about the key
                raise ProviderUnknownAnswer
            return await self._limits(credential) if lacks_permission(answer) else answer
        return _of_subscription(answer.json)

    async def complete(
        self, org_id: str, credential: ElevenLabsCredential, newest: Callable[[], Awaitable[Credential | None]]
    ) -> ElevenLabsCredential:
        """See the port. A webhook secret that the customer leaves open stays what it was, or is that of a new webhook.

        A webhook is made at ElevenLabs when the key may do that. `webhook_id` always names the webhook of the secret.
        """
        before = await newest()
        known: Webhook | None = None
        if isinstance(before, ElevenLabsCredential) and before.region == credential.region:
            is_open = not credential.webhook_secret or credential.webhook_secret == before.webhook_secret
            if is_open and before.webhook_id:
                known = Webhook(before.webhook_id, before.webhook_secret)
            if is_open and before.api_key == credential.api_key:
                credential = replace(credential, webhook_secret=before.webhook_secret, webhook_id=before.webhook_id)
        is_the_customers_own = bool(credential.webhook_secret) and not credential.webhook_id
        if is_the_customers_own or not self._webhooks.endpoint(org_id):
            return credential
        webhook = await self._webhooks.settle(credential, org_id, known)
        if not isinstance(webhook, Refused):
            return replace(credential, webhook_secret=webhook.secret, webhook_id=webhook.id)
        if webhook.kind in {AccountSuspended, InvalidCredentials}:
            raise webhook.error()
        _log.info("no webhook", extra={"org": org_id, "provider": self.name.value, "reason": webhook.kind.reason})
        return credential

    async def provision(
        self, org_id: str, credential: ElevenLabsCredential, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> Provisioned:
        """See the port. The webhook that was made with its secret is set to be told of calls; nothing else is made."""
        del known, checkpoint
        if credential.webhook_id:
            is_told = await self._webhooks.tell_of_calls(credential)
            return Provisioned((), () if is_told else (NOT_TOLD,))
        return Provisioned((), self._unverified(org_id, credential))

    async def inspect(
        self, org_id: str, credential: ElevenLabsCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        """See the port."""
        del known
        flaw = await self._webhooks.flaw(credential)
        return (flaw,) if flaw else self._unverified(org_id, credential)

    async def release(
        self, org_id: str, credential: ElevenLabsCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        """See the port. The webhook that was made goes; the API key stays, it is the customer's."""
        del org_id, known
        left = await self._webhooks.remove(credential)
        return (left,) if left else ()

    def _unverified(self, org_id: str, credential: ElevenLabsCredential) -> tuple[str, ...]:
        if credential.webhook_secret:
            return ()
        endpoint = self._webhooks.endpoint(org_id)
        mend = (
            f"let the API key manage webhooks, or make a webhook for {endpoint} at ElevenLabs and" if endpoint else ""
        )
        mend = mend or "make a webhook at ElevenLabs and"
        return (f"{_UNVERIFIED}: {mend} give its secret.",)

    async def _limits(self, credential: ElevenLabsCredential) -> Verdict:
        """What a genuine key may not do, of what we need. Asking for it is no condition: one yes is known already."""
        missing = ["user_read"]
        for permission, route in _READS.items():
            try:
                answer = await self._api.get(credential, route, params={"page_size": 1} if route == VOICES else None)
            except ProviderUnreachable:
                continue
            if isinstance(answer, Refused):
                if lacks_permission(answer):
                    missing.append(permission)
                elif answer.kind is not ProviderResourceMissing:
                    return answer
        which = "the permission" if len(missing) == 1 else "the permissions"
        return Accepted((f"This key is genuine and lacks {which} {' and '.join(missing)}: {_ADD}",))


_READS: Final[Mapping[str, str]] = {"models_read": MODELS, "voices_read": VOICES}
_ADD: Final = "it works for the rest. Edit the key in ElevenLabs' dashboard, under API keys, to add what you need."
_UNVERIFIED: Final = "Without a webhook secret, webhooks cannot be verified"
_OF_STATUS: Final[Mapping[str, str]] = {
    "active": "",
    "free": "",
    "trialing": "",
    "past_due": "A payment to ElevenLabs is overdue: pay it there, or the key stops working.",
    "incomplete": "The first payment to ElevenLabs is not complete: finish it there, or the key stops working.",
}
_ODD_STATUS: Final = "ElevenLabs says something unusual about this subscription: look at it there."
_BLOCKED: Final = "The free plan of this ElevenLabs account is disabled: take a plan, or contact ElevenLabs."


def _of_subscription(user: Any) -> Verdict:
    subscription = user.get("subscription") if isinstance(user, dict) else None
    status = text(subscription, "status")
    if not status:
        raise ProviderUnknownAnswer
    if status == "free_disabled":
        return Refused(AccountSuspended, _BLOCKED, "apiKey")
    warning = _OF_STATUS.get(status, _ODD_STATUS)
    return Accepted((warning,) if warning else ())
