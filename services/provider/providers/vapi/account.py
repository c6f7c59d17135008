"""A customer's Vapi account: the test of its credential, and what is made in it."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from services.provider.description import Description
from services.provider.outbound import Outbound
from services.provider.provider import Accepted, Checkpoint, Provisioned, Refused, Verdict
from services.provider.providers.vapi.api import Api, Assistant
from services.provider.providers.vapi.assistants import Assistants, lacks
from services.provider.providers.vapi.body import assistant
from services.provider.providers.vapi.form import description, problems, trimmed
from services.provider.providers.vapi.templates import ROLES, Templates, standard
from tenantvault.credentials import Credential, Provider, Resource, ResourceKind, VapiCredential
from tenantvault.errors import InvalidRequest, WrongCredentialType
from tenantvault.secret import Secret

_WEBHOOK_SECRET_BYTES: Final = 32
_ELEVENLABS_KEY = re.compile(r"sk_[0-9a-f]{48}", re.IGNORECASE)


class Vapi:
    """The provider Vapi.

    `urls` gives the API's base URL of each region, `us` and `eu`: separate deployments with separate keys. Assistants
    are made of `templates`, ours when None, and send their webhooks to `webhook_url`. Their metadata carry `mark`, the
    name of this deployment: one that carries another is another deployment's, and is not touched.
    """

    def __init__(
        self,
        outbound: Outbound,
        *,
        urls: Mapping[str, str],
        webhook_url: str,
        mark: str = "tenantvault",
        templates: Templates | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        new_secret: Callable[[], str] = lambda: secrets.token_urlsafe(_WEBHOOK_SECRET_BYTES),
    ) -> None:
        self.name: Final = Provider.VAPI
        self.credential: Final = VapiCredential
        self.description: Final[Description] = description(tuple(urls))
        self.consent: Final = None
        self.rotation: Final = None  # Vapi has no API for its keys
        self._regions = tuple(urls)
        self._api = Api(outbound, urls)
        self._assistants = Assistants(self._api, mark=mark, sleep=sleep)
        self._mark = mark
        self._templates = templates or standard()
        self._webhook_url = webhook_url
        self._new_secret = new_secret

    def normalise(self, credential: VapiCredential) -> VapiCredential:
        """See the port."""
        meant = trimmed(credential)
        if found := dict(problems(meant, regions=self._regions)):
            raise InvalidRequest("Some fields need another look.", fields=found)
        return meant

    async def test(self, credential: VapiCredential) -> Verdict:
        """See the port. Private keys have no scopes: one that may list assistants may do everything."""
        if _ELEVENLABS_KEY.fullmatch(credential.api_key.reveal()):
            sentence = "This looks like an ElevenLabs key. Give the private API key from Vapi's dashboard."
            return Refused(WrongCredentialType, sentence, "apiKey")
        page = await self._api.page(credential, limit=1)
        return page if isinstance(page, Refused) else Accepted()

    async def complete(
        self, org_id: str, credential: VapiCredential, newest: Callable[[], Awaitable[Credential | None]]
    ) -> VapiCredential:
        """See the port. A webhook secret that the customer leaves open stays what it was, or is made up.

        It stays only with the API key it came with: another key may open another account, which then could read it.
        """
        del org_id
        if credential.webhook_secret:
            return credential
        before = await newest()
        if isinstance(before, VapiCredential) and before.webhook_secret and _same_account(before, credential):
            return replace(credential, webhook_secret=before.webhook_secret)
        return replace(credential, webhook_secret=Secret(self._new_secret()))

    async def provision(
        self, org_id: str, credential: VapiCredential, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> Provisioned:
        """See the port. An assistant for each role; the steps are `assistant_inbound` and `assistant_outbound`.

        One that is on record is changed in the end: until then, whoever gets its webhooks knows the secret of before.
        """
        on_record = _by_role(known)
        found = await self._assistants.find(credential, org_id, on_record)
        resources, later = [], []
        for role in ROLES:
            wanted, there = self._wanted(org_id, credential, role), found.get(role)
            if there and there["id"] == on_record.get(role) and lacks(there, wanted):
                later.append((wanted, there))
                made = on_record[role]
            else:
                made = await self._assistants.settle(credential, wanted, there)
            resources.append(Resource(ResourceKind.VAPI_ASSISTANT, made, role))
            await checkpoint(f"assistant_{role}")

        async def finish(before: Credential | None) -> tuple[str, ...]:
            del before
            said = [await self._assistants.change(credential, wanted, there) for wanted, there in later]
            return tuple(sentence for sentence in said if sentence)

        return Provisioned(tuple(resources), finish=finish if later else None)

    async def inspect(self, org_id: str, credential: VapiCredential, *, known: tuple[Resource, ...]) -> tuple[str, ...]:
        """See the port."""
        wanted = {role: self._wanted(org_id, credential, role) for role in ROLES}
        return await self._assistants.inspect(credential, org_id, _by_role(known), wanted=wanted)

    async def release(self, org_id: str, credential: VapiCredential, *, known: tuple[Resource, ...]) -> tuple[str, ...]:
        """See the port. What is ours says so itself, so that the record is not needed."""
        del known
        return await self._assistants.remove(credential, org_id)

    def _wanted(self, org_id: str, credential: VapiCredential, role: str) -> Assistant:
        url, templates = self._webhook_url, self._templates
        return assistant(org_id, role, mark=self._mark, url=url, credential=credential, templates=templates)


def _same_account(one: VapiCredential, other: VapiCredential) -> bool:
    return one.api_key == other.api_key and one.region == other.region


def _by_role(known: tuple[Resource, ...]) -> dict[str, str]:
    return {each.role: each.resource_id for each in known if each.kind is ResourceKind.VAPI_ASSISTANT}
