"""Every row of what Resend answers, and the fields of its credential."""

import base64
import re
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.provider.fields import pasted
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Accepted, Refused
from services.provider.providers.resend import Resend
from tenantvault.credentials import Credential, Provider, ResendCredential, TwilioCredential
from tenantvault.errors import (
    AccountSuspended,
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
)
from tenantvault.secret import Secret

KEY = "re_zKa4RCko_Lhm9ost2YjNCctnPjbLw8Nop"
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DOMAINS = {"object": "list", "has_more": False, "data": [{"id": "d", "name": "mail.test", "status": "verified"}]}
ONLY_SEND = "This API key is restricted to only send emails"


async def no_sleep(seconds: float) -> None:
    del seconds


def resend(handler: Callable[[httpx.Request], httpx.Response], *, webhook_url: str = "") -> Resend:
    outbound = Outbound(new_client(httpx.MockTransport(handler)), sleep=no_sleep)
    return Resend(outbound, url="https://resend.test", webhook_url=webhook_url, sleep=no_sleep)


def answering(response: httpx.Response) -> Resend:
    return resend(lambda _: response)


def unasked(request: httpx.Request) -> httpx.Response:
    raise AssertionError(request.url.path)


def credential(
    api_key: str = KEY, *, webhook_secret: str = "", api_key_id: str = "", webhook_id: str = ""
) -> ResendCredential:
    return ResendCredential(
        api_key=Secret(api_key), webhook_secret=Secret(webhook_secret), api_key_id=api_key_id, webhook_id=webhook_id
    )


def no(status: int, name: str, message: str = "No.") -> httpx.Response:
    return httpx.Response(status, json={"statusCode": status, "message": message, "name": name})


async def test_a_list_of_domains_is_a_yes() -> None:
    assert Accepted() == await answering(httpx.Response(200, json=DOMAINS)).test(credential())


async def test_an_account_without_a_domain_works_with_a_warning() -> None:
    verdict = await answering(httpx.Response(200, json=DOMAINS | {"data": []})).test(credential())
    assert isinstance(verdict, Accepted)
    assert "no domain" in " ".join(verdict.warnings)


async def test_a_key_that_may_only_send_is_genuine_and_says_what_it_lacks() -> None:
    verdict = await answering(no(401, "restricted_api_key", ONLY_SEND)).test(credential())
    warning = "This key may only send e-mail: fine for sending; webhooks and automatic rotation need full access."
    assert Accepted((warning,), may_rotate=False) == verdict


@pytest.mark.parametrize(
    ("response", "kind", "field"),
    [
        (no(400, "validation_error", "API key is invalid"), InvalidCredentials, "apiKey"),
        (no(401, "validation_error", "API key is invalid"), InvalidCredentials, "apiKey"),
        (no(403, "validation_error", "API key is invalid."), InvalidCredentials, "apiKey"),
        (no(400, "invalid_api_key", "API key is invalid"), InvalidCredentials, "apiKey"),
        (no(401, "invalid_api_key"), InvalidCredentials, "apiKey"),
        (no(403, "invalid_api_key", "API key is invalid"), InvalidCredentials, "apiKey"),
        (no(403, "restricted_api_key", "This API key is not active"), InvalidCredentials, "apiKey"),
        (no(403, "suspended_api_key"), AccountSuspended, "apiKey"),
        (no(403, "invalid_permission"), InsufficientScope, "apiKey"),
        (no(403, "validation_error", "The mail.test domain is not verified."), ProviderValidation, ""),
        (no(404, "not_found"), ProviderResourceMissing, ""),
        (no(405, "method_not_allowed"), ProviderResourceMissing, ""),
        (no(409, "invalid_idempotent_request"), ProviderConflict, ""),
        (no(422, "missing_required_field"), ProviderValidation, ""),
        (no(422, "invalid_parameter"), ProviderValidation, ""),
        (no(422, "a_name_of_tomorrow"), ProviderValidation, ""),
        (no(429, "daily_quota_exceeded"), QuotaExceeded, "apiKey"),
        (no(429, "monthly_quota_exceeded"), QuotaExceeded, "apiKey"),
    ],
)
async def test_a_definite_no(response: httpx.Response, kind: type[ProviderRefused], field: str) -> None:
    verdict = await answering(response).test(credential())
    assert isinstance(verdict, Refused)
    assert (kind, field) == (verdict.kind, verdict.field)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (no(409, "resource_locked"), ProviderUnavailable),
        (no(409, "concurrent_idempotent_requests"), ProviderUnavailable),
        (no(429, "rate_limit_exceeded"), RateLimited),
        (no(429, "a_limit_of_tomorrow"), RateLimited),
        (httpx.Response(429, text="slow down"), RateLimited),
        (no(500, "application_error"), ProviderUnavailable),
        (no(500, "internal_server_error"), ProviderUnavailable),
        (no(503, "service_unavailable"), ProviderUnavailable),
        (no(400, "application_error"), ProviderUnavailable),
        (no(408, ""), ProviderUnavailable),
        (no(401, "a_name_of_tomorrow"), ProviderUnknownAnswer),
        (no(403, "a_name_of_tomorrow"), ProviderUnknownAnswer),
        (httpx.Response(401, json={"message": "Unauthorized"}), ProviderUnknownAnswer),
        (httpx.Response(403, json=["no"]), ProviderUnknownAnswer),
        (httpx.Response(403, html="error code: 1010"), ProviderUnavailable),
        (httpx.Response(401, html="<html>Proxy</html>"), ProviderUnavailable),
        (httpx.Response(502, html="<html>Bad gateway</html>"), ProviderUnavailable),
        (httpx.Response(200, html="<html>Welcome</html>"), ProviderUnavailable),
        (httpx.Response(301, headers={"Location": "https://x.test/"}), ProviderUnknownAnswer),
        (httpx.Response(200, json=[]), ProviderUnknownAnswer),
        (httpx.Response(200, json={"data": "x"}), ProviderUnknownAnswer),
        (httpx.Response(200, json={"data": [{"name": "no id"}]}), ProviderUnknownAnswer),
    ],
)
async def test_what_says_nothing_is_no_verdict(response: httpx.Response, error: type[ProviderUnreachable]) -> None:
    with pytest.raises(error) as caught:
        await answering(response).test(credential())
    assert type(caught.value) is error


@pytest.mark.parametrize("failure", [httpx.ConnectError("away"), httpx.ReadTimeout("slow")])
async def test_a_provider_that_is_away_gives_no_verdict(failure: Exception) -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(ProviderUnavailable):
        await resend(away).test(credential())


@pytest.mark.parametrize("name", ["rate_limit_exceeded", "resource_locked"])
async def test_who_is_told_to_come_back_is_told_when(name: str) -> None:
    response = httpx.Response(429, json={"name": name}, headers={"Retry-After": "61"})
    with pytest.raises(ProviderUnreachable) as caught:
        await answering(response).test(credential())
    assert 61.0 == caught.value.retry_after


async def test_a_rate_limit_that_passes_is_not_noticed() -> None:
    answers = [no(429, "rate_limit_exceeded"), httpx.Response(200, json=DOMAINS)]
    assert Accepted() == await resend(lambda _: answers.pop(0)).test(credential())


async def test_a_missing_header_is_our_fault_and_not_the_keys(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InternalError):
        await answering(no(401, "missing_api_key")).test(credential())
    assert "Authorization" in caplog.text


async def test_the_key_travels_as_a_bearer_token_with_a_user_agent() -> None:
    asked: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url} {request.headers['Authorization']}")
        assert request.headers["User-Agent"].startswith("TenantVault/")
        return httpx.Response(200, json=DOMAINS)

    await resend(note).test(credential())
    assert [f"GET https://resend.test/domains?limit=1 Bearer {KEY}"] == asked


def test_pasted_fields_are_trimmed() -> None:
    typed = credential(f' "Bearer {KEY}"\n', webhook_secret=f" '{SIGNING}' ")
    assert credential(webhook_secret=SIGNING) == resend(unasked).normalise(typed)


@pytest.mark.parametrize("key", [KEY, "re_12345", "re_" + "x" * 253])
def test_the_form_of_keys_behind_their_prefix_is_not_ours_to_decide(key: str) -> None:
    assert Secret(key) == resend(unasked).normalise(credential(key)).api_key


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("", "Give an API key"),
        ("re_1234", "begin with re_"),
        ("sk_" + "0123456789abcdef" * 3, "ElevenLabs"),
        ("0d1b7a34-6f0e-4a52-9f53-1c0f5b0e2a77", "Vapi"),
        (SIGNING, "webhook signing secret"),
        ("RE_zKa4RCko_Lhm9ost2YjNCctnPjbLw8Nop", "begin with re_"),
        ("something-else-entirely", "begin with re_"),
        (KEY + " x", "white space"),
        ("re_" + "x" * 254, "at most 256"),
    ],
)
def test_what_is_no_key(key: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match="another look") as caught:
        resend(unasked).normalise(credential(key))
    assert sentence in caught.value.fields["apiKey"]
    assert len(key) < 8 or key not in str(dict(caught.value.fields))


@pytest.mark.parametrize(
    "secret",
    [
        "whsec_",
        "whsec_c2hvcnQ=",
        SIGNING.removeprefix("whsec_"),
        SIGNING + "x",
        SIGNING[:-1] + "!",
        SIGNING[:-4] + "a===",
        "whsec_" + "A" * 252,
        "a b",
    ],
)
def test_what_is_no_webhook_secret(secret: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resend(unasked).normalise(credential(webhook_secret=secret))
    assert {"webhookSecret"} == set(caught.value.fields)


@given(st.binary(min_size=16, max_size=180))
def test_every_signing_secret_of_a_sane_length_is_taken(key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    assert Secret(secret) == resend(unasked).normalise(credential(webhook_secret=secret)).webhook_secret


@given(st.text() | st.from_regex(r"re_[!-~]{3,9}", fullmatch=True), st.text() | st.just(SIGNING))
def test_the_form_and_the_service_agree(key: str, secret: str) -> None:
    refused = set[str]()
    meant = typed = credential(key, webhook_secret=secret)
    try:
        meant = resend(unasked).normalise(typed)
    except InvalidRequest as error:
        refused = set(error.fields)
    api_key, webhook_secret = resend(unasked).description.fields
    fits = {
        "apiKey": re.fullmatch(api_key.pattern, pasted(key)),
        "webhookSecret": not pasted(secret) or re.fullmatch(webhook_secret.pattern, pasted(secret)),
    }
    assert {field for field, fit in fits.items() if not fit} == refused
    assert refused or meant == resend(unasked).normalise(meant)


def test_the_description_names_the_fields_of_the_credential() -> None:
    provider = resend(unasked)
    fields = {field.name: field for field in provider.description.fields}
    assert {"api_key", "webhook_secret"} == set(fields)
    assert fields["api_key"].required
    assert all(field.secret and field.hint and field.help_url.startswith("https://") for field in fields.values())
    assert (Provider.RESEND, ResendCredential, None) == (provider.name, provider.credential, provider.consent)


async def completed(
    before: Credential | None, given: ResendCredential, handler: Callable[[httpx.Request], httpx.Response] = unasked
) -> ResendCredential:
    async def newest() -> Credential | None:
        return before

    return await resend(handler).complete("acme", given, newest)


@pytest.mark.parametrize(
    ("before", "given_one", "completed_one"),
    [
        (None, credential(), credential()),
        (None, credential(webhook_secret=SIGNING), credential(webhook_secret=SIGNING)),
        (
            credential(webhook_secret=SIGNING, webhook_id="w", api_key_id="k"),
            credential(),
            credential(webhook_secret=SIGNING, webhook_id="w", api_key_id="k"),
        ),
        (
            credential(webhook_secret=SIGNING, webhook_id="w", api_key_id="k"),
            credential(webhook_secret=SIGNING),
            credential(webhook_secret=SIGNING, webhook_id="w", api_key_id="k"),
        ),
        (
            credential(webhook_secret="whsec_before", webhook_id="w", api_key_id="k"),
            credential(webhook_secret=SIGNING),
            credential(webhook_secret=SIGNING, api_key_id="k"),
        ),
        (
            credential("re_another_key", webhook_secret=SIGNING, webhook_id="w", api_key_id="k"),
            credential(),
            credential(),
        ),
        (TwilioCredential(account_sid="AC", phone_number="+14155550100"), credential(), credential()),
    ],
)
async def test_what_is_left_open_stays_what_it_was_with_the_same_key(
    before: Credential | None, given_one: ResendCredential, completed_one: ResendCredential
) -> None:
    assert completed_one == await completed(before, given_one)


async def test_without_a_webhook_secret_the_customer_is_told_what_to_do() -> None:
    for webhook_url, hint in (("", "make a webhook at Resend"), ("https://hooks.test/r", "https://hooks.test/r/acme")):
        provider = resend(unasked, webhook_url=webhook_url)
        told = await provider.provision("acme", credential(), known=(), checkpoint=no_checkpoint)
        assert () == told.resources
        assert "Without a webhook secret, webhooks cannot be verified" in told.warnings[0]
        assert hint in told.warnings[0]


async def test_with_a_webhook_secret_there_is_nothing_to_tell() -> None:
    given_one = credential(webhook_secret=SIGNING)
    told = await resend(unasked).provision("acme", given_one, known=(), checkpoint=no_checkpoint)
    assert ((), ()) == (told.resources, told.warnings)


async def no_checkpoint(step: str) -> None:
    raise AssertionError(step)
