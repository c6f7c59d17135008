"""A customer's Vapi account: the fields of its credential, the test, and what is made in it."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from services.provider.fields import flaw_of_secret, pasted, pasted_secret
from services.provider.outbound import Outbound
from services.provider.provider import Accepted, Checkpoint, Refused, Verdict
from services.provider.providers.vapi.api import Api
from services.provider.providers.vapi.assistants import Assistants
from services.provider.providers.vapi.templates import ROLES, assistant
from tenantvault.credentials import Credential, Provider, Resource, ResourceKind, VapiCredential
from tenantvault.errors import InvalidRequest, WrongCredentialType
from tenantvault.secret import Secret

_SHORTEST_KEY: Final = 20
_SHORTEST_WEBHOOK_SECRET: Final = 8
_WEBHOOK_SECRET_BYTES: Final = 32
_ELEVENLABS_KEY = re.compile(r"sk_[0-9a-f]{48}", re.IGNORECASE)


class Vapi:
    """The provider Vapi.

    `urls` gives the API's base URL of each region, `us` and `eu`: separate deployments with separate keys. Assistants
    send their webhooks to `webhook_url`.
    """

    def __init__(
        self,
        outbound: Outbound,
        *,
        urls: Mapping[str, str],
        webhook_url: str,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        new_secret: Callable[[], str] = lambda: secrets.token_urlsafe(_WEBHOOK_SECRET_BYTES),
    ) -> None:
        self.name: Final = Provider.VAPI
        self.credential: Final = VapiCredential
        self._regions = tuple(urls)
        self._api = Api(outbound, urls)
        self._assistants = Assistants(self._api, sleep=sleep)
        self._webhook_url = webhook_url
        self._new_secret = new_secret

    def normalise(self, credential: VapiCredential) -> VapiCredential:
        """See the port. The vendor publishes no form of its keys; those seen are UUIDs."""
        meant = VapiCredential(
            api_key=pasted_secret(credential.api_key),
            webhook_secret=pasted_secret(credential.webhook_secret),
            region=pasted(credential.region).lower() or "us",
        )
        problems = {}
        if not meant.api_key:
            problems["apiKey"] = "Give the private API key from Vapi's dashboard."
        elif flaw := flaw_of_secret(meant.api_key, shortest=_SHORTEST_KEY):
            problems["apiKey"] = f"The API key {flaw}"
        if meant.webhook_secret and (flaw := flaw_of_secret(meant.webhook_secret, shortest=_SHORTEST_WEBHOOK_SECRET)):
            problems["webhookSecret"] = f"The webhook secret {flaw}"
        if meant.region not in self._regions:
            problems["region"] = f"Give a region: {' or '.join(self._regions)}."
        if problems:
            raise InvalidRequest("Some fields need another look.", fields=problems)
        return meant

    async def test(self, credential: VapiCredential) -> Verdict:
        """See the port. Private keys have no scopes: one that may list assistants may do everything."""
        if _ELEVENLABS_KEY.fullmatch(credential.api_key.reveal()):
            sentence = "This looks like an ElevenLabs key. Give the private API key from Vapi's dashboard."
            return Refused(WrongCredentialType, sentence, "apiKey")
        page = await self._api.page(credential, limit=1)
        return page if isinstance(page, Refused) else Accepted()

    async def complete(
        self, credential: VapiCredential, newest: Callable[[], Awaitable[Credential | None]]
    ) -> VapiCredential:
        """See the port. A webhook secret that the customer leaves open stays what it was, or is made up.

        It stays only with the API key it came with: another key may open another account, which then could read it.
        """
        if credential.webhook_secret:
            return credential
        before = await newest()
        if isinstance(before, VapiCredential) and before.webhook_secret and _same_account(before, credential):
            return replace(credential, webhook_secret=before.webhook_secret)
        return replace(credential, webhook_secret=Secret(self._new_secret()))

    async def provision(
        self, org_id: str, credential: VapiCredential, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> tuple[Resource, ...]:
        """See the port. An assistant for each role; the steps are `assistant_inbound` and `assistant_outbound`."""
        stored = {each.role: each.resource_id for each in known if each.kind is ResourceKind.VAPI_ASSISTANT}
        found = await self._assistants.find(credential, org_id, stored)
        resources = []
        for role in ROLES:
            wanted = assistant(org_id, role, url=self._webhook_url, secret=credential.webhook_secret)
            made = await self._assistants.settle(credential, wanted, found.get(role))
            resources.append(Resource(ResourceKind.VAPI_ASSISTANT, made, role))
            await checkpoint(f"assistant_{role}")
        return tuple(resources)


def _same_account(one: VapiCredential, other: VapiCredential) -> bool:
    return one.api_key == other.api_key and one.region == other.region
