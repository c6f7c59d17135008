"""The keys that bearer tokens are checked with: one shared secret, or an issuer's published set (RFC 7517)."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import jwt

from gateway.identity import NOT_SIGNED_IN
from gateway.problems import Refusal
from tenantvault.errors import Unauthenticated
from tenantvault.secret import Secret

FRESH: Final = 300.0
"""Seconds for which a fetched set is used without asking again."""

STALE: Final = 3600.0
"""Seconds for which it is still used while the issuer cannot be reached."""

COOLDOWN: Final = 30.0
"""Seconds between two fetches, so that tokens with invented key ids cannot make us flood the issuer."""

FETCH_TIMEOUT: Final = 5.0
"""Seconds that one fetch may take."""

_log = logging.getLogger(__name__)

Fetch = Callable[[], jwt.PyJWKSet]
"""Gets a published set. It may block: it runs in a thread."""


class Keys(Protocol):
    """Finds the key of a token."""

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms that these keys are for. The token has no say in it (RFC 8725, section 3.1)."""

    async def find(self, kid: str | None) -> jwt.PyJWK | bytes:
        """The key that a token's header names; Unauthenticated when there is none."""


class SharedSecret:
    """One HS256 secret, known to whoever makes the tokens."""

    algorithms: Final = ("HS256",)

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    async def find(self, kid: str | None) -> bytes:  # noqa: ARG002 - one secret, whatever the token calls it
        """The secret."""
        return self._secret.reveal().encode()


class PublishedKeys:
    """An issuer's RS256 and ES256 keys, fetched when they are first needed and again when they are old or lack a key.

    `now` is a monotonic clock in seconds.
    """

    algorithms: Final = ("RS256", "ES256")

    def __init__(self, fetch: Fetch, *, now: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._now = now
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched = self._tried = -STALE * 2
        self._lock = asyncio.Lock()

    async def find(self, kid: str | None) -> jwt.PyJWK:
        """The key with this id.

        Raises:
            Unauthenticated: the issuer has no such key, or the token names none.
            Refusal: the issuer cannot be reached and what it said last is too old.
        """
        if kid is None:
            raise Unauthenticated(NOT_SIGNED_IN)
        if self._age() > FRESH or kid not in self._keys:
            async with self._lock:
                if self._now() - self._tried >= COOLDOWN and (self._age() > FRESH or kid not in self._keys):
                    await self._renew()
        if self._age() > STALE:
            raise Refusal("SIGN_IN_UNAVAILABLE", retry_after=COOLDOWN)
        try:
            return self._keys[kid]
        except KeyError:
            raise Unauthenticated(NOT_SIGNED_IN) from None

    def _age(self) -> float:
        return self._now() - self._fetched

    async def _renew(self) -> None:
        self._tried = self._now()
        try:
            async with asyncio.timeout(FETCH_TIMEOUT * 2):
                published = await asyncio.to_thread(self._fetch)
        except (jwt.PyJWTError, OSError, ValueError, TimeoutError) as error:
            _log.error("token keys could not be fetched", exc_info=error)
            return
        self._keys = {
            key.key_id: key
            for key in published.keys
            if key.key_id and key.algorithm_name in self.algorithms and key.public_key_use in ("sig", None)
        }
        self._fetched = self._now()


def chosen(secret: Secret, *, url: str, file: str) -> Keys:
    """The keys for whichever is set: a shared secret, the URL of a published set, or a file with one."""
    if secret:
        return SharedSecret(secret)
    return PublishedKeys(from_url(url) if url else from_file(file))


def from_url(url: str) -> Fetch:
    """Fetches the set from an https URL. Redirects are not followed."""
    client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=FETCH_TIMEOUT)
    return client.get_jwk_set


def from_file(path: str) -> Fetch:
    """Reads the set from a file; a changed file is noticed like a changed answer of an issuer."""
    return lambda: jwt.PyJWKSet.from_dict(json.loads(Path(path).read_text()))
