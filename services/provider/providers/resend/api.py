"""Resend's HTTP API, as far as it is used.

Sources: https://resend.com/docs/api-reference, https://resend.com/docs/api-reference/pagination. Three answers hold a
secret: that to making a webhook, that to fetching one, and that to making an API key.
"""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from services.provider.outbound import Answer, Method, Outbound
from services.provider.provider import Refused
from services.provider.providers.resend.answers import meaning, text
from tenantvault.credentials import Provider, ResendCredential
from tenantvault.errors import ProviderResourceMissing, ProviderUnknownAnswer

Item = Mapping[str, Any]
"""A webhook or an API key as Resend shows it; `id` is a text."""

DOMAINS: Final = "/domains"
WEBHOOKS: Final = "/webhooks"
API_KEYS: Final = "/api-keys"

_ONE: Final = "/{id}"
_PAGE: Final = 100
# A list that is longer than this is one whose cursor is not heeded.
_MOST_PAGES: Final = 100


class Api:
    """The calls. Each returns what was asked for or a `Refused`; no definite answer is a `ProviderUnreachable`."""

    def __init__(self, outbound: Outbound, url: str) -> None:
        self._outbound = outbound
        self._url = url

    async def page(
        self, credential: ResendCredential, route: str, *, limit: int, after: str = ""
    ) -> tuple[list[Item], bool] | Refused:
        """At most `limit` items after the one with an id, and whether there are more."""
        params: dict[str, str | int] = {"limit": limit}
        if after:
            params["after"] = after
        answer = await self._call(credential, "GET", route, params=params)
        if isinstance(answer, Refused):
            return answer
        body = answer.json
        if not isinstance(body, dict) or not isinstance(body.get("data"), list):
            raise ProviderUnknownAnswer
        return [_item(each) for each in body["data"]], body.get("has_more") is True

    async def all(self, credential: ResendCredential, route: str) -> list[Item] | Refused:
        """Every item of a list, page by page."""
        items: list[Item] = []
        async for page in self._pages(credential, route):
            if isinstance(page, Refused):
                return page
            items += page
        return items

    async def get(self, credential: ResendCredential, route: str, item_id: str) -> Item | Refused | None:
        """One item; None when there is no such one."""
        answer = await self._call(credential, "GET", route + _ONE, item_id)
        if isinstance(answer, Refused):
            return None if answer.kind is ProviderResourceMissing else answer
        return _item(answer.json)

    async def create(self, credential: ResendCredential, route: str, body: Item) -> Item | Refused:
        """Make an item. Without a definite answer, it may have been made."""
        answer = await self._call(credential, "POST", route, body=body)
        return answer if isinstance(answer, Refused) else _item(answer.json)

    async def update(self, credential: ResendCredential, route: str, item_id: str, body: Item) -> Refused | None:
        """Change the fields that `body` has."""
        answer = await self._call(credential, "PATCH", route + _ONE, item_id, body=body)
        return answer if isinstance(answer, Refused) else None

    async def delete(self, credential: ResendCredential, route: str, item_id: str) -> Refused | None:
        """Delete an item. One that is gone already is as good as deleted."""
        answer = await self._call(credential, "DELETE", route + _ONE, item_id)
        if isinstance(answer, Refused) and answer.kind is not ProviderResourceMissing:
            return answer
        return None

    async def _pages(self, credential: ResendCredential, route: str) -> AsyncIterator[list[Item] | Refused]:
        after = ""
        for _ in range(_MOST_PAGES):
            page = await self.page(credential, route, limit=_PAGE, after=after)
            if isinstance(page, Refused):
                yield page
                return
            items, has_more = page
            yield items
            if not has_more or not items:
                return
            after = text(items[-1], "id")
        raise ProviderUnknownAnswer

    async def _call(
        self,
        credential: ResendCredential,
        method: Method,
        route: str,
        item_id: str = "",
        *,
        params: Mapping[str, str | int] | None = None,
        body: Item | None = None,
    ) -> Answer | Refused:
        answer = await self._outbound.request(
            Provider.RESEND,
            method,
            self._url + route.format(id=quote(item_id, safe="")),
            route=route,
            params=params,
            headers={"Authorization": f"Bearer {credential.api_key.reveal()}"},
            body=body,
        )
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer.definite()
        return meaning(answer)


def _item(value: Any) -> Item:
    if not text(value, "id"):
        raise ProviderUnknownAnswer
    found: Item = value
    return found
