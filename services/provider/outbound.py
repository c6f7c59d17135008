"""The one way out to the internet: one httpx client, and one function that makes a request with it.

Nothing of a request or an answer is logged but the method, the provider, the route's template, the status and the
time. Credentials never follow a redirect: a 3xx is an answer like any other, and one that nobody understands.
"""

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from typing import Any, Final, Literal, Self

import httpx

from tenantvault.credentials import Provider
from tenantvault.errors import ProviderUnavailable, ProviderUnknownAnswer, RateLimited

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 15.0
POOL_SECONDS: Final = 5.0
WHOLE_SECONDS: Final = 25.0
"""Seconds for one request with all its retries, when nothing else is said."""

LARGEST_ANSWER: Final = 1024 * 1024
"""Bytes."""

RETRIES: Final = 2
"""How often a GET is tried again while somebody waits for it."""

_FIRST_BACKOFF: Final = 0.5
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_log = logging.getLogger(__name__)

Method = Literal["GET", "POST", "PATCH", "DELETE"]


class AnswerTooLarge(ProviderUnknownAnswer):
    """The answer has more than LARGEST_ANSWER bytes; reading was stopped."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered. `json` is None when the body is none; `retry_after` is in seconds.

    Bodies may hold secrets: Twilio's account has its Auth Token in it. `empty` says that there was no body at all.
    """

    status: int
    json: Any = field(default=None, repr=False)
    retry_after: float | None = None
    empty: bool = field(default=False, compare=False)

    def definite(self) -> Self:
        """The answer itself, when it is the provider's word.

        Raises:
            RateLimited: it is a 429.
            ProviderUnavailable: it is a 408, a 5xx, or no JSON: a proxy's page, not the provider's word. A success
                without a body is one.
            ProviderUnknownAnswer: it is a 1xx or 3xx.
        """
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise RateLimited(retry_after=self.retry_after)
        if HTTPStatus.MULTIPLE_CHOICES <= self.status < HTTPStatus.BAD_REQUEST or self.status < HTTPStatus.OK:
            raise ProviderUnknownAnswer
        done = self.empty and self.status < HTTPStatus.MULTIPLE_CHOICES
        if _failed(self.status) or (self.json is None and not done):
            raise ProviderUnavailable(retry_after=self.retry_after)
        return self


def new_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """The client of this process: close it at the end. It keeps no cookies and takes nothing from the environment."""
    for name in ("httpx", "httpcore"):  # they log whole URLs and headers
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, pool=POOL_SECONDS),
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        headers={
            "User-Agent": f"TenantVault/{version('tenantvault-server')}",
            "Accept": "application/json",
            # A small compressed answer must not become a large one in memory before it can be counted.
            "Accept-Encoding": "identity",
        },
    )


class Outbound:
    """Makes requests. `clock` is monotonic seconds, `now` the time of day, `jitter` gives numbers from 0 to 1.

    `retries` is how often a GET is tried again: work in the background has its own way of coming back later.
    `whole_seconds` is how long a request may take with all of them.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        retries: int = RETRIES,
        whole_seconds: float = WHOLE_SECONDS,
    ) -> None:
        self._client = client
        self._retries = retries
        self._whole_seconds = whole_seconds
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._jitter = jitter

    async def request(
        self,
        provider: Provider,
        method: Method,
        url: str,
        *,
        route: str,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        basic: tuple[str, str] | None = None,
        body: object = None,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make a request and return the answer, whatever its status.

        A GET is made up to three times while there is no connection, no answer in time, a 408, a 429 or a 5xx; between
        the attempts it backs off exponentially with full jitter, and for at least as long as the provider asks. Any
        other method is tried once: nobody knows what became of it.

        Args:
            provider: whose API it is, for the log.
            method: the HTTP method.
            url: without a query.
            route: the URL's template, for the log, e.g. `/assistant/{id}`.
            params: the query.
            headers: beside the client's own.
            basic: user name and password of HTTP Basic authentication.
            body: sent as JSON; None for no body.
            form: sent as a form (`application/x-www-form-urlencoded`) in the place of `body`.

        Raises:
            ProviderUnavailable: no answer in time.
            AnswerTooLarge: more than LARGEST_ANSWER bytes.
            ProviderUnknownAnswer: compressed, although that was not asked for.
        """
        give_up = self._clock() + self._whole_seconds
        request = self._client.build_request(method, url, params=params, headers=headers, json=body, data=form)
        auth = httpx.BasicAuth(*basic) if basic else None
        attempts = 1 + self._retries if method == "GET" else 1
        attempt = 1
        while True:
            answer = await self._attempt(provider, request, route, auth, give_up - self._clock())
            if answer is not None and not _is_transient(answer.status):
                return answer
            pause = self._pause(attempt, answer)
            if attempt == attempts or self._clock() + pause >= give_up:
                break
            await self._sleep(pause)
            attempt += 1
        if answer is None:
            raise ProviderUnavailable
        return answer

    async def _attempt(
        self, provider: Provider, request: httpx.Request, route: str, auth: httpx.BasicAuth | None, seconds: float
    ) -> Answer | None:
        began = self._clock()
        outcome: dict[str, object] = {}
        try:
            async with asyncio.timeout(seconds):
                answer = await self._exchange(request, auth)
        except (httpx.RequestError, TimeoutError) as error:
            outcome = {"failure": type(error).__name__}
            return None
        except ProviderUnknownAnswer as error:
            outcome = {"failure": type(error).__name__}
            raise
        else:
            outcome = {"status": answer.status}
            return answer
        finally:
            milliseconds = round((self._clock() - began) * 1000, 1)
            extra = {"provider": provider.value, "method": request.method, "route": route, "ms": milliseconds}
            _log.info("provider call", extra=extra | (outcome or {"failure": "cut off"}))

    async def _exchange(self, request: httpx.Request, auth: httpx.BasicAuth | None) -> Answer:
        response = await self._client.send(request, auth=auth, stream=True)
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ProviderUnknownAnswer  # it was not asked for, and may be any size when it is unpacked
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    raise AnswerTooLarge
        finally:
            await response.aclose()
        retry_after = _retry_after(response.headers, self._now())
        return Answer(response.status_code, _parsed(body), retry_after, empty=not body)

    def _pause(self, attempt: int, answer: Answer | None) -> float:
        asked = answer.retry_after if answer is not None and answer.retry_after is not None else 0.0
        return max(asked, self._jitter() * _FIRST_BACKOFF * 2.0**attempt)


def _failed(status: int) -> bool:
    return status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _is_transient(status: int) -> bool:
    return _failed(status) or status == HTTPStatus.TOO_MANY_REQUESTS


def _parsed(body: bytearray) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, an endless number, or nested beyond reason
        return None


def _retry_after(headers: httpx.Headers, now: datetime) -> float | None:
    """Seconds, from `retry-after-ms` (Vapi's own) or `Retry-After` in either form (RFC 9110, section 10.2.3)."""
    if _SECONDS.fullmatch(milliseconds := headers.get("retry-after-ms", "")):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    seconds: float = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return max(0.0, seconds)
