"""Every row of what Vapi answers, and the fields of its credential."""

import re
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.provider.fields import pasted
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Accepted, Refused
from services.provider.providers.vapi import Vapi
from tenantvault.credentials import TwilioCredential, VapiCredential
from tenantvault.errors import (
    InsufficientScope,
    InternalError,
    InvalidCredentials,
    InvalidRequest,
    ProviderConflict,
    ProviderRefused,
    ProviderResourceMissing,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ProviderUnreachable,
    ProviderValidation,
    QuotaExceeded,
    RateLimited,
    WrongCredentialType,
)
from tenantvault.secret import Secret

KEY = "0d1b7a34-6f0e-4a52-9f53-1c0f5b0e2a77"
URLS = {"us": "https://us.test", "eu": "https://eu.test/api"}
HINT = "Invalid Key. Hot tip, you may be using the private key instead of the public key, or vice versa."


async def no_sleep(seconds: float) -> None:
    del seconds


def vapi(handler: Callable[[httpx.Request], httpx.Response]) -> Vapi:
    outbound = Outbound(new_client(httpx.MockTransport(handler)), sleep=no_sleep)
    return Vapi(outbound, urls=URLS, webhook_url="https://hooks.test/vapi", new_secret=lambda: "made-up-secret")


def answering(response: httpx.Response) -> Vapi:
    return vapi(lambda _: response)


def unasked(request: httpx.Request) -> httpx.Response:
    raise AssertionError(request.url.path)


def credential(
    api_key: str = KEY, *, webhook_secret: str = "", region: str = "us", scheme: str = "header", held: str = ""
) -> VapiCredential:
    return VapiCredential(
        api_key=Secret(api_key),
        webhook_secret=Secret(webhook_secret),
        region=region,
        webhook_scheme=scheme,
        webhook_credential_id=held,
    )


def nest(status: int, message: object = "No.", error: str = "Error") -> httpx.Response:
    return httpx.Response(status, json={"message": message, "error": error, "statusCode": status})


@pytest.mark.parametrize("page", [[], [{"id": "a", "orgId": "o", "createdAt": "2026-01-01T00:00:00.000Z"}]])
async def test_a_page_of_assistants_is_a_yes(page: list[object]) -> None:
    assert Accepted() == await answering(httpx.Response(200, json=page)).test(credential())


@pytest.mark.parametrize(
    ("response", "kind", "field"),
    [
        (nest(401, HINT), InvalidCredentials, "apiKey"),
        (nest(401, [HINT]), InvalidCredentials, "apiKey"),
        (httpx.Response(401, json={"statusCode": 401}), InvalidCredentials, "apiKey"),
        (nest(402), QuotaExceeded, "apiKey"),
        (nest(403), InsufficientScope, "apiKey"),
        (nest(400, "limit must be a number"), ProviderValidation, ""),
        (nest(400, ["property x should not exist", "limit must be a number"]), ProviderValidation, ""),
        (nest(422), ProviderValidation, ""),
        (nest(404), ProviderResourceMissing, ""),
        (nest(409), ProviderConflict, ""),
    ],
)
async def test_a_definite_no(response: httpx.Response, kind: type[ProviderRefused], field: str) -> None:
    verdict = await answering(response).test(credential())
    assert isinstance(verdict, Refused)
    assert (kind, field) == (verdict.kind, verdict.field)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (nest(405), ProviderUnknownAnswer),
        (nest(418), ProviderUnknownAnswer),
        (nest(408), ProviderUnavailable),
        (nest(429, "Rate limit exceeded"), RateLimited),
        (nest(500), ProviderUnavailable),
        (nest(503), ProviderUnavailable),
        (httpx.Response(502, html="<html>Bad gateway</html>"), ProviderUnavailable),
        (httpx.Response(520, html="<html>Cloudflare</html>"), ProviderUnavailable),
        (httpx.Response(403, html="<html>Cloudflare</html>"), ProviderUnavailable),
        (httpx.Response(401, html="<html>Proxy</html>"), ProviderUnavailable),
        (httpx.Response(200, html="<html>Welcome</html>"), ProviderUnavailable),
        (httpx.Response(301, headers={"Location": "https://x.test/"}), ProviderUnknownAnswer),
        (httpx.Response(200, json={"results": []}), ProviderUnknownAnswer),
        (httpx.Response(200, json=["x"]), ProviderUnknownAnswer),
        (httpx.Response(200, json=[{"id": 7, "createdAt": "2026"}]), ProviderUnknownAnswer),
    ],
)
async def test_what_says_nothing_is_no_verdict(response: httpx.Response, error: type[ProviderUnreachable]) -> None:
    with pytest.raises(error) as caught:
        await answering(response).test(credential())
    assert type(caught.value) is error


async def test_a_provider_that_is_away_gives_no_verdict() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away", request=request)

    with pytest.raises(ProviderUnavailable):
        await vapi(away).test(credential())


async def test_a_rate_limit_says_when_to_come_back() -> None:
    with pytest.raises(RateLimited) as caught:
        await answering(httpx.Response(429, json={}, headers={"retry-after-ms": "61500"})).test(credential())
    assert 61.5 == caught.value.retry_after


@pytest.mark.parametrize("message", ["Missing Authorization Header.", ["Missing Authorization Header."]])
async def test_a_missing_header_is_our_fault_and_not_the_keys(
    caplog: pytest.LogCaptureFixture, message: str | list[str]
) -> None:
    with pytest.raises(InternalError):
        await answering(nest(401, message)).test(credential())
    assert "Authorization" in caplog.text


@pytest.mark.parametrize(("region", "other"), [("us", "EU"), ("eu", "US")])
async def test_a_refused_key_may_be_the_public_one_or_of_the_other_region(region: str, other: str) -> None:
    verdict = await answering(nest(401, HINT)).test(credential(region=region))
    assert isinstance(verdict, Refused)
    assert "public key" in verdict.sentence
    assert f"{other} region" in verdict.sentence
    assert "usually look like" not in verdict.sentence


async def test_a_refused_key_that_is_no_uuid_is_told_how_keys_look() -> None:
    verdict = await answering(nest(401, HINT)).test(credential("sk_live_0123456789abcdef"))
    assert isinstance(verdict, Refused)
    assert "usually look like" in verdict.sentence


@pytest.mark.parametrize("key", ["sk_" + "0123456789abcdef" * 3, "sk_" + "0123456789ABCDEF" * 3])
async def test_an_elevenlabs_key_is_recognised_without_a_call(key: str) -> None:
    verdict = await vapi(unasked).test(credential(key))
    assert isinstance(verdict, Refused)
    assert (WrongCredentialType, "apiKey") == (verdict.kind, verdict.field)
    assert "ElevenLabs" in verdict.sentence


@pytest.mark.parametrize(("region", "url"), [("us", "https://us.test"), ("eu", "https://eu.test/api")])
async def test_the_region_chooses_the_deployment(region: str, url: str) -> None:
    asked: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url} {request.headers['Authorization']}")
        return httpx.Response(200, json=[])

    await vapi(note).test(credential(region=region))
    assert [f"GET {url}/assistant?limit=1 Bearer {KEY}"] == asked


def test_pasted_fields_are_trimmed() -> None:
    typed = credential(f' "Bearer {KEY}"\n', webhook_secret=" 'hook-secret' ", region=" EU ")
    assert credential(webhook_secret="hook-secret", region="eu") == vapi(unasked).normalise(typed)


def test_the_region_is_us_unless_said() -> None:
    assert credential(region="us") == vapi(unasked).normalise(credential(region=""))


@pytest.mark.parametrize("key", [KEY, "sk_live_0123456789abcdef", "x" * 20, "x" * 256])
def test_the_form_of_keys_is_not_ours_to_decide(key: str) -> None:
    assert Secret(key) == vapi(unasked).normalise(credential(key)).api_key


def test_every_bad_field_is_named_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        vapi(unasked).normalise(credential("too short", webhook_secret="a b", region="mars"))
    assert {"apiKey", "webhookSecret", "region"} == set(caught.value.fields)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("", "Give the private API key"),
        ("Bearer ", "at least 20"),
        ("x" * 19, "at least 20"),
        ("x" * 257, "at most 256"),
        ("x" * 20 + " x", "white space"),
        ("x" * 20 + "\nx", "white space"),
        ("ключ" * 10, "do not belong"),
    ],
)
def test_what_is_no_key(key: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match="another look") as caught:
        vapi(unasked).normalise(credential(key))
    assert sentence in caught.value.fields["apiKey"]
    assert not key or len(key) < 19 or key not in str(dict(caught.value.fields))


@pytest.mark.parametrize("secret", ["short12", "x" * 257, "has space in", "line\nbreak-in-it"])
def test_what_is_no_webhook_secret(secret: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        vapi(unasked).normalise(credential(webhook_secret=secret))
    assert {"webhookSecret"} == set(caught.value.fields)


HELD = "4fc1f6ad-1c35-4d0b-9d0f-6a8f1d3f0b11"
HMAC = ("hmac-sha256", "hmac-sha512", "hmac-sha1")


@pytest.mark.parametrize("scheme", HMAC)
def test_an_hmac_scheme_stays_with_its_credential(scheme: str) -> None:
    typed = credential(webhook_secret="hook-secret", scheme=f" {scheme.upper()} ", held=f'"{HELD}"')
    meant = credential(webhook_secret="hook-secret", scheme=scheme, held=HELD)
    assert meant == vapi(unasked).normalise(typed)


@pytest.mark.parametrize("scheme", HMAC)
@pytest.mark.parametrize("held", ["", "x", f"{HELD}0", HELD.replace("-", "")])
def test_an_hmac_scheme_needs_the_credential_that_vapi_keeps(scheme: str, held: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        vapi(unasked).normalise(credential(webhook_secret="hook-secret", scheme=scheme, held=held))
    assert {"webhookCredentialId"} == set(caught.value.fields)


@pytest.mark.parametrize("scheme", HMAC)
def test_an_hmac_scheme_needs_its_secret(scheme: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        vapi(unasked).normalise(credential(scheme=scheme, held=HELD))
    assert {"webhookSecret"} == set(caught.value.fields)


@pytest.mark.parametrize("scheme", ["header", "bearer"])
def test_a_scheme_without_a_signature_takes_no_credential_of_vapis(scheme: str) -> None:
    assert credential(scheme=scheme) == vapi(unasked).normalise(credential(scheme=scheme))
    with pytest.raises(InvalidRequest) as caught:
        vapi(unasked).normalise(credential(scheme=scheme, held=HELD))
    assert {"webhookCredentialId"} == set(caught.value.fields)


@pytest.mark.parametrize("scheme", ["hmac", "hmac-md5", "none", "x-vapi-signature"])
def test_another_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        vapi(unasked).normalise(credential(scheme=scheme))
    assert {"webhookScheme"} == set(caught.value.fields)


def test_the_scheme_is_the_header_unless_said() -> None:
    assert credential() == vapi(unasked).normalise(credential(scheme=""))


@given(st.text(), st.text(), st.text())
def test_a_credential_is_either_usable_or_refused_by_field(key: str, secret: str, region: str) -> None:
    typed = credential(key, webhook_secret=secret, region=region)
    refused, meant = set[str](), typed
    try:
        meant = vapi(unasked).normalise(typed)
    except InvalidRequest as error:
        refused = set(error.fields)
    is_usable = [
        re.fullmatch(r"[!-~]{20,256}", pasted(key)),
        re.fullmatch(r"([!-~]{8,256})?", pasted(secret)),
        pasted(region).lower() in {"", *URLS},
    ]
    fields = ["apiKey", "webhookSecret", "region"]
    assert {field for field, usable in zip(fields, is_usable, strict=True) if not usable} == refused
    assert refused or meant == vapi(unasked).normalise(meant)


async def test_a_webhook_secret_of_the_customer_stays_and_nothing_is_read() -> None:
    async def newest() -> VapiCredential:
        raise AssertionError

    given_one = credential(webhook_secret="customers-own")
    assert given_one == await vapi(unasked).complete("acme", given_one, newest)


@pytest.mark.parametrize(
    ("before", "secret"),
    [
        (None, "made-up-secret"),
        (credential(webhook_secret="from-before"), "from-before"),
        (credential("another-key-0123456789", webhook_secret="from-before"), "made-up-secret"),
        (credential(webhook_secret="from-before", region="eu"), "made-up-secret"),
        (credential(), "made-up-secret"),
        (TwilioCredential(account_sid="AC", phone_number="+14155550100"), "made-up-secret"),
    ],
)
async def test_a_webhook_secret_left_open_is_that_of_before_or_made_up(
    before: VapiCredential | TwilioCredential | None, secret: str
) -> None:
    async def newest() -> VapiCredential | TwilioCredential | None:
        return before

    assert credential(webhook_secret=secret) == await vapi(unasked).complete("acme", credential(), newest)


async def test_a_webhook_secret_is_32_random_bytes() -> None:
    async def newest() -> None:
        return None

    outbound = Outbound(new_client(httpx.MockTransport(unasked)))
    provider = Vapi(outbound, urls=URLS, webhook_url="https://hooks.test/vapi")
    made = {(await provider.complete("acme", credential(), newest)).webhook_secret.reveal() for _ in range(8)}
    assert 8 == len(made)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in made)
