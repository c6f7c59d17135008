"""The way to the providers: requests that are bounded in time, in number and in what they may bring back."""

import asyncio
from types import TracebackType
from typing import Final, Self

import httpx

from webhook_processor.lookup import Lookup

WHOLE_SECONDS: Final = 5.0
"""Seconds for one request, whatever keeps it."""

LARGEST_ANSWER: Final = 1024 * 1024
"""Bytes; reading stops there."""

_CONNECTIONS: Final = 20


class NoAnswer(Exception):
    """The provider could not be reached, took too long or said too much. It holds nothing of the request."""


class Outbound:
    """Makes the requests, for all tasks of its event loop; use it in `async with`."""

    def __init__(self, *, whole_seconds: float = WHOLE_SECONDS) -> None:
        self._whole_seconds = whole_seconds
        # A credential follows no redirect, and goes through no proxy that the environment names.
        self._client = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            timeout=whole_seconds,
            follow_redirects=False,
            trust_env=False,
            # A small compressed answer must not become a large one before it is counted.
            headers={"accept": "application/json", "accept-encoding": "identity"},
        )

    async def get(self, lookup: Lookup) -> int:
        """The status of the provider's answer; its body is read and dropped.

        Raises:
            NoAnswer: there was none.
        """
        try:
            async with (
                asyncio.timeout(self._whole_seconds),
                self._client.stream("GET", lookup.url, headers=dict(lookup.headers)) as response,
            ):
                size = 0
                async for part in response.aiter_raw():
                    size += len(part)
                    if size > LARGEST_ANSWER:
                        raise NoAnswer
                return response.status_code
        except (httpx.HTTPError, TimeoutError):
            # Without its cause: that has the whole request, with the credential.
            raise NoAnswer from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()
