import json
import threading
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway import keys
from gateway.keys import COOLDOWN, FRESH, STALE, PublishedKeys, SharedSecret
from gateway.problems import Refusal
from tenantvault.errors import Unauthenticated
from tenantvault.secret import Secret
from tests.unit.gateway.signing import EC_KEY, JWKS, RSA_KEY, public_jwk


class Issuer:
    """An issuer whose keys change and who is down at times; and a clock."""

    def __init__(self) -> None:
        self.jwks: dict[str, Any] = {"keys": [public_jwk(RSA_KEY, "old")]}
        self.failure: Exception | None = None
        self.fetched = 0
        self.seconds = 1000.0

    def fetch(self) -> jwt.PyJWKSet:
        self.fetched += 1
        if self.failure:
            raise self.failure
        return jwt.PyJWKSet.from_dict(self.jwks)

    def now(self) -> float:
        return self.seconds

    def keys(self) -> PublishedKeys:
        return PublishedKeys(self.fetch, now=self.now)


async def test_keys_are_fetched_once_and_used_while_they_are_fresh() -> None:
    issuer = Issuer()
    published = issuer.keys()
    for _ in range(3):
        assert (await published.find("old")).key_id == "old"
        issuer.seconds += FRESH / 3
    assert issuer.fetched == 1
    issuer.seconds += 1
    await published.find("old")
    assert issuer.fetched == 2


async def test_an_unknown_key_is_asked_for_once_in_a_while() -> None:
    issuer = Issuer()
    published = issuer.keys()
    await published.find("old")
    issuer.jwks = {"keys": [public_jwk(EC_KEY, "new")]}
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await published.find("new")
    assert issuer.fetched == 1
    issuer.seconds += COOLDOWN
    assert (await published.find("new")).key_id == "new"
    with pytest.raises(Unauthenticated):
        await published.find("old")
    assert issuer.fetched == 2


@pytest.mark.parametrize("failure", [jwt.PyJWKClientConnectionError("down"), OSError("down"), ValueError("no JSON")])
async def test_while_the_issuer_is_down_old_keys_serve_for_an_hour(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = Issuer()
    published = issuer.keys()
    await published.find("old")
    issuer.failure = failure
    issuer.seconds += STALE
    assert (await published.find("old")).key_id == "old"
    assert "token keys could not be fetched" in caplog.messages
    issuer.seconds += COOLDOWN
    with pytest.raises(Refusal, match="SIGN_IN_UNAVAILABLE") as refused:
        await published.find("old")
    assert refused.value.retry_after == COOLDOWN


async def test_an_issuer_that_is_down_is_not_asked_all_the_time() -> None:
    issuer = Issuer()
    issuer.failure = OSError("down")
    published = issuer.keys()
    for _ in range(5):
        with pytest.raises(Refusal):
            await published.find("old")
    assert issuer.fetched == 1


async def test_a_fetch_does_not_stop_the_event_loop() -> None:
    issuer = Issuer()
    threads = []

    def fetch() -> jwt.PyJWKSet:
        threads.append(threading.current_thread())
        return issuer.fetch()

    await PublishedKeys(fetch, now=issuer.now).find("old")
    assert threading.main_thread() not in threads


async def test_only_signing_keys_of_the_two_algorithms_count() -> None:
    issuer = Issuer()
    issuer.jwks = JWKS
    published = issuer.keys()
    for kid in ("shared", "for-encryption"):
        with pytest.raises(Unauthenticated):
            await published.find(kid)
    assert (await published.find("ec-1")).algorithm_name == "ES256"
    assert published.algorithms == ("RS256", "ES256")


async def test_the_keys_follow_what_is_set(tmp_path: Path) -> None:
    secret = keys.chosen(Secret("s" * 32), url="", file="")
    assert isinstance(secret, SharedSecret)
    assert await secret.find("any") == b"s" * 32
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(JWKS))
    from_file = keys.chosen(Secret(""), url="", file=str(file))
    assert isinstance(await from_file.find("rsa-1"), jwt.PyJWK)
    assert isinstance(keys.chosen(Secret(""), url="https://login.example.com/jwks", file=""), PublishedKeys)


def test_a_url_is_fetched_without_following_redirects_and_with_a_time_limit() -> None:
    fetch = keys.from_url("https://login.example.com/jwks")
    client = fetch.__self__  # type: ignore[attr-defined]  # a bound method of PyJWT's client
    assert (client.uri, client.timeout) == ("https://login.example.com/jwks", keys.FETCH_TIMEOUT)
