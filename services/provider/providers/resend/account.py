"""A customer's Resend account: the test of its API key, and the webhook that is made in it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from services.provider.outbound import Outbound
from services.provider.provider import Accepted, Checkpoint, Provisioned, Refused, Verdict
from services.provider.providers.resend.answers import is_sending_only
from services.provider.providers.resend.api import DOMAINS, Api
from services.provider.providers.resend.form import description, problems, trimmed
from services.provider.providers.resend.keys import Keys
from services.provider.providers.resend.webhooks import Webhooks
from tenantvault.credentials import Credential, Provider, ResendCredential, Resource
from tenantvault.errors import AccountSuspended, InvalidCredentials, InvalidRequest

_log = logging.getLogger(__name__)


class Resend:
    """The provider Resend.

    `url` is the API's base URL, e.g. `https://api.resend.com`. An org's webhook sends to `webhook_url`, a slash and the
    org's id; without a `webhook_url`, none is made. The names of API keys that are made here begin with `mark`, so that
    two deployments with the same org do not delete each other's.
    """

    def __init__(
        self,
        outbound: Outbound,
        *,
        url: str,
        webhook_url: str = "",
        mark: str = "tenantvault",
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name: Final = Provider.RESEND
        self.credential: Final = ResendCredential
        self.description: Final = description()
        self.consent: Final = None
        self._api = Api(outbound, url)
        self._webhooks = Webhooks(self._api, url=webhook_url, sleep=sleep)
        self.rotation: Final = Keys(self._api, mark=mark)

    def normalise(self, credential: ResendCredential) -> ResendCredential:
        """See the port."""
        meant = trimmed(credential)
        if found := dict(problems(meant)):
            raise InvalidRequest("Some fields need another look.", fields=found)
        return meant

    async def test(self, credential: ResendCredential) -> Verdict:
        """See the port. A key that may only send is as good as any: sending itself cannot be tried without sending."""
        page = await self._api.page(credential, DOMAINS, limit=1)
        if isinstance(page, Refused):
            return Accepted((_SENDING_ONLY,), may_rotate=False) if is_sending_only(page) else page
        domains, _ = page
        return Accepted(() if domains else (_NO_DOMAIN,))

    async def complete(
        self, org_id: str, credential: ResendCredential, newest: Callable[[], Awaitable[Credential | None]]
    ) -> ResendCredential:
        """See the port. A webhook secret that the customer leaves open stays what it was, or is that of a new webhook.

        A webhook is made at Resend when the key may do that. `webhook_id` always names the webhook of the secret.
        """
        before = await newest()
        if isinstance(before, ResendCredential) and before.api_key == credential.api_key:
            credential = replace(credential, api_key_id=before.api_key_id)
            if not credential.webhook_secret or credential.webhook_secret == before.webhook_secret:
                credential = replace(credential, webhook_secret=before.webhook_secret, webhook_id=before.webhook_id)
        is_the_customers_own = bool(credential.webhook_secret) and not credential.webhook_id
        if is_the_customers_own or not self._webhooks.endpoint(org_id):
            return credential
        webhook = await self._webhooks.settle(credential, org_id)
        if not isinstance(webhook, Refused):
            return replace(credential, webhook_secret=webhook.secret, webhook_id=webhook.id)
        if webhook.kind in {AccountSuspended, InvalidCredentials}:
            raise webhook.error()
        _log.info("no webhook", extra={"org": org_id, "provider": self.name.value, "reason": webhook.kind.reason})
        return credential

    async def provision(
        self, org_id: str, credential: ResendCredential, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> Provisioned:
        """See the port. Nothing at Resend names an org; the webhook was made with its secret."""
        del known, checkpoint
        return Provisioned((), self._unverified(org_id, credential))

    async def inspect(
        self, org_id: str, credential: ResendCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        """See the port."""
        del known
        flaw = await self._webhooks.flaw(credential, org_id)
        return (flaw,) if flaw else self._unverified(org_id, credential)

    async def release(
        self, org_id: str, credential: ResendCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        """See the port. The webhook that was made goes; the API key stays, it is the customer's."""
        del org_id, known
        left = await self._webhooks.remove(credential)
        return (left,) if left else ()

    def _unverified(self, org_id: str, credential: ResendCredential) -> tuple[str, ...]:
        if credential.webhook_secret:
            return ()
        endpoint = self._webhooks.endpoint(org_id)
        mend = f"give an API key with full access, or make a webhook for {endpoint} at Resend and" if endpoint else ""
        return (f"{_UNVERIFIED}: {mend or 'make a webhook at Resend and'} give its signing secret.",)


_SENDING_ONLY: Final = (
    "This key may only send e-mail: fine for sending; webhooks and automatic rotation need full access."
)
_NO_DOMAIN: Final = "This Resend account has no domain yet: until one is verified, it sends to your own address only."
_UNVERIFIED: Final = "Without a webhook secret, webhooks cannot be verified"
