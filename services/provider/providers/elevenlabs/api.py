"""ElevenLabs' HTTP API, as far as it is used.

Sources: https://elevenlabs.io/docs/api-reference/user/get, https://elevenlabs.io/docs/api-reference/webhooks/list and
its neighbours, and the schemas of the settings (https://api.elevenlabs.io/openapi.json). The answer to making a webhook
holds its secret, and no other does.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from services.provider.outbound import Answer, Method, Outbound
from services.provider.provider import Refused
from services.provider.providers.elevenlabs.answers import meaning, text
from tenantvault.credentials import ElevenLabsCredential, Provider
from tenantvault.errors import ProviderResourceMissing, ProviderUnknownAnswer

Item = Mapping[str, Any]
"""A JSON object as ElevenLabs shows it."""

USER: Final = "/v1/user"
MODELS: Final = "/v1/models"
VOICES: Final = "/v2/voices"
SETTINGS: Final = "/v1/convai/settings"

_WEBHOOKS: Final = "/v1/workspace/webhooks"
_WEBHOOK: Final = "/v1/workspace/webhooks/{id}"


class Api:
    """The calls. Each returns what was asked for or a `Refused`; no definite answer is a `ProviderUnreachable`.

    `urls` gives the base URL of each region.
    """

    def __init__(self, outbound: Outbound, urls: Mapping[str, str]) -> None:
        self._outbound = outbound
        self._urls = urls

    async def get(
        self, credential: ElevenLabsCredential, route: str, *, params: Mapping[str, str | int] | None = None
    ) -> Answer | Refused:
        """Whatever is at a route."""
        return await self._call(credential, "GET", route, params=params)

    async def webhooks(self, credential: ElevenLabsCredential) -> list[Item] | Refused:
        """Every webhook of the workspace: the list has no pages."""
        answer = await self._call(credential, "GET", _WEBHOOKS)
        if isinstance(answer, Refused):
            return answer
        webhooks = _object(answer).get("webhooks")
        if not isinstance(webhooks, list) or not all(text(each, "webhook_id") for each in webhooks):
            raise ProviderUnknownAnswer
        return webhooks

    async def create_webhook(self, credential: ElevenLabsCredential, *, name: str, url: str) -> Item | Refused:
        """Make a webhook that is signed (HMAC). Without a definite answer, it may have been made."""
        settings = {"auth_type": "hmac", "name": name, "webhook_url": url}
        answer = await self._call(credential, "POST", _WEBHOOKS, body={"settings": settings})
        if isinstance(answer, Refused):
            return answer
        made = _object(answer)
        if not text(made, "webhook_id"):
            raise ProviderUnknownAnswer
        return made

    async def enable_webhook(self, credential: ElevenLabsCredential, webhook_id: str, *, name: str) -> Refused | None:
        """Enable a webhook that was disabled by a person or by its failures. The name is required, and becomes its."""
        body = {"is_disabled": False, "name": name}
        answer = await self._call(credential, "PATCH", _WEBHOOK, webhook_id, body=body)
        return answer if isinstance(answer, Refused) else None

    async def delete_webhook(self, credential: ElevenLabsCredential, webhook_id: str) -> Refused | None:
        """Delete a webhook. One that is gone already is as good as deleted; one that is in use is refused."""
        answer = await self._call(credential, "DELETE", _WEBHOOK, webhook_id)
        if isinstance(answer, Refused) and answer.kind is not ProviderResourceMissing:
            return answer
        return None

    async def call_webhook(self, credential: ElevenLabsCredential) -> Item | Refused:
        """What is set for the webhook that is told of calls: `post_call_webhook_id` and `events`, if they are."""
        answer = await self._call(credential, "GET", SETTINGS)
        if isinstance(answer, Refused):
            return answer
        webhooks = _object(answer).get("webhooks")
        return webhooks if isinstance(webhooks, dict) else {}

    async def set_call_webhook(self, credential: ElevenLabsCredential, webhooks: Item) -> Refused | None:
        """Set the webhook that is told of calls, for the whole workspace."""
        answer = await self._call(credential, "PATCH", SETTINGS, body={"webhooks": dict(webhooks)})
        return answer if isinstance(answer, Refused) else None

    async def _call(
        self,
        credential: ElevenLabsCredential,
        method: Method,
        route: str,
        item_id: str = "",
        *,
        params: Mapping[str, str | int] | None = None,
        body: Item | None = None,
    ) -> Answer | Refused:
        answer = await self._outbound.request(
            Provider.ELEVENLABS,
            method,
            self._urls[credential.region] + route.format(id=quote(item_id, safe="")),
            route=route,
            params=params,
            headers={"xi-api-key": credential.api_key.reveal()},
            body=body,
        )
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer.definite()
        return meaning(answer)


def _object(answer: Answer) -> Item:
    if not isinstance(answer.json, dict):
        raise ProviderUnknownAnswer
    return answer.json
