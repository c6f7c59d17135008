"""Every row of what ElevenLabs answers, and the fields of its credential."""

import re
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.provider.fields import pasted
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Accepted, Refused
from services.provider.providers.elevenlabs import ElevenLabs
from tenantvault.credentials import Credential, ElevenLabsCredential, Provider, TwilioCredential
from tenantvault.errors import (
    AccountSuspended,
    InsufficientScope,
    InvalidCredentials,
    InvalidRequest,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ProviderUnreachable,
    ProviderValidation,
    QuotaExceeded,
    RateLimited,
)
from tenantvault.secret import Secret

KEY = "sk_" + "0123456789abcdef" * 3
UUID = "0d1b7a34-6f0e-4a52-9f53-1c0f5b0e2a77"
URLS = {"global": "https://global.test", "us": "https://us.test", "eu": "https://eu.test/base"}


async def no_sleep(seconds: float) -> None:
    del seconds


def elevenlabs(handler: Callable[[httpx.Request], httpx.Response], *, webhook_url: str = "") -> ElevenLabs:
    outbound = Outbound(new_client(httpx.MockTransport(handler)), sleep=no_sleep)
    return ElevenLabs(outbound, urls=URLS, webhook_url=webhook_url, sleep=no_sleep)


def answering(response: httpx.Response) -> ElevenLabs:
    return elevenlabs(lambda _: response)


def unasked(request: httpx.Request) -> httpx.Response:
    raise AssertionError(request.url.path)


def credential(
    api_key: str = KEY, *, webhook_secret: str = "", region: str = "global", webhook_id: str = ""
) -> ElevenLabsCredential:
    return ElevenLabsCredential(
        api_key=Secret(api_key), webhook_secret=Secret(webhook_secret), region=region, webhook_id=webhook_id
    )


def user(status: object) -> httpx.Response:
    return httpx.Response(200, json={"user_id": "u", "subscription": {"tier": "creator", "status": status}})


def coded(status: int, code: str) -> httpx.Response:
    detail = {"type": "an_error", "code": code, "message": "No.", "status": "legacy", "request_id": "r", "param": None}
    return httpx.Response(status, json={"detail": detail})


def legacy(status: int, name: str) -> httpx.Response:
    return httpx.Response(status, json={"detail": {"status": name, "message": "No."}})


def plain(status: int, detail: object) -> httpx.Response:
    return httpx.Response(status, json={"detail": detail})


@pytest.mark.parametrize("status", ["active", "trialing", "free"])
async def test_a_subscription_that_runs_is_a_yes(status: str) -> None:
    assert Accepted() == await answering(user(status)).test(credential())


@pytest.mark.parametrize(
    ("status", "word"), [("past_due", "overdue"), ("incomplete", "not complete"), ("a_status_of_tomorrow", "unusual")]
)
async def test_a_subscription_that_limps_is_a_yes_with_a_warning(status: str, word: str) -> None:
    verdict = await answering(user(status)).test(credential())
    assert isinstance(verdict, Accepted)
    assert word in verdict.warnings[0]
    assert status not in verdict.warnings[0]


async def test_a_free_plan_that_is_disabled_is_a_suspended_account() -> None:
    verdict = await answering(user("free_disabled")).test(credential())
    assert isinstance(verdict, Refused)
    assert AccountSuspended is verdict.kind


@pytest.mark.parametrize("word", [coded, legacy])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "invalid_api_key", InvalidCredentials),
        (400, "invalid_api_key", InvalidCredentials),
        (401, "quota_exceeded", QuotaExceeded),
        (429, "quota_exceeded", QuotaExceeded),
        (401, "detected_unusual_activity", AccountSuspended),
        (403, "only_for_creator+", InsufficientScope),
        (403, "invalid_subscription", InsufficientScope),
    ],
)
async def test_a_definite_no(
    word: Callable[[int, str], httpx.Response], status: int, code: str, kind: type[ProviderRefused]
) -> None:
    verdict = await answering(word(status, code)).test(credential())
    assert isinstance(verdict, Refused)
    assert (kind, "apiKey") == (verdict.kind, verdict.field)


@pytest.mark.parametrize("detail", [[{"loc": ["query"], "msg": "no", "type": "t"}], [], "no", {"code": "of_tomorrow"}])
async def test_a_request_that_is_not_valid_says_nothing_about_the_key(detail: object) -> None:
    verdict = await answering(plain(422, detail)).test(credential())
    assert Refused(ProviderValidation, "ElevenLabs refused the request as not valid: tell the operator.") == verdict


async def test_a_text_may_say_it_too() -> None:
    verdict = await answering(plain(401, "Invalid API key")).test(credential())
    assert isinstance(verdict, Refused)
    assert InvalidCredentials is verdict.kind


async def test_the_status_speaks_where_the_code_is_not_known() -> None:
    detail = {"code": "of_tomorrow", "status": "quota_exceeded"}
    verdict = await answering(plain(401, detail)).test(credential())
    assert isinstance(verdict, Refused)
    assert QuotaExceeded is verdict.kind


async def test_a_key_of_another_region_is_hinted_at() -> None:
    verdict = await answering(coded(401, "invalid_api_key")).test(credential())
    assert isinstance(verdict, Refused)
    assert "region" in verdict.sentence


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (coded(429, "too_many_concurrent_requests"), RateLimited),
        (coded(429, "concurrent_limit_exceeded"), RateLimited),
        (coded(429, "rate_limit_exceeded"), RateLimited),
        (legacy(429, "system_busy"), RateLimited),
        (legacy(400, "system_busy"), RateLimited),
        (plain(429, "slow down"), RateLimited),
        (httpx.Response(429, text="slow down"), RateLimited),
        (plain(401, "Unauthorized"), ProviderUnknownAnswer),
        (plain(401, None), ProviderUnknownAnswer),
        (plain(401, []), ProviderUnknownAnswer),
        (httpx.Response(401, json=["no"]), ProviderUnknownAnswer),
        (coded(401, "of_tomorrow"), ProviderUnknownAnswer),
        (coded(403, "of_tomorrow"), ProviderUnknownAnswer),
        (plain(404, "Not Found"), ProviderUnknownAnswer),
        (plain(408, "Timeout"), ProviderUnavailable),
        (plain(500, "Internal Server Error"), ProviderUnavailable),
        (coded(503, "service_unavailable"), ProviderUnavailable),
        (httpx.Response(502, html="<html>Bad gateway</html>"), ProviderUnavailable),
        (httpx.Response(401, html="<html>Proxy</html>"), ProviderUnavailable),
        (httpx.Response(200, html="<html>Welcome</html>"), ProviderUnavailable),
        (httpx.Response(301, headers={"Location": "https://x.test/"}), ProviderUnknownAnswer),
        (httpx.Response(200, json=[]), ProviderUnknownAnswer),
        (httpx.Response(200, json={"user_id": "u"}), ProviderUnknownAnswer),
        (user(None), ProviderUnknownAnswer),
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
        await elevenlabs(away).test(credential())


async def test_a_rate_limit_says_when_to_come_back() -> None:
    response = httpx.Response(429, json={"detail": {"code": "system_busy"}}, headers={"Retry-After": "61"})
    with pytest.raises(RateLimited) as caught:
        await answering(response).test(credential())
    assert 61.0 == caught.value.retry_after


LACKS = coded(401, "missing_permissions")
GOOD = httpx.Response(200, json=[])


@pytest.mark.parametrize(
    ("lacking", "models", "voices", "named"),
    [
        (LACKS, GOOD, GOOD, "lacks the permission user_read:"),
        (legacy(401, "missing_permissions"), GOOD, GOOD, "lacks the permission user_read:"),
        (plain(401, "This key is missing the permission user_read"), GOOD, GOOD, "lacks the permission user_read:"),
        (LACKS, LACKS, GOOD, "lacks the permissions user_read and models_read:"),
        (LACKS, GOOD, LACKS, "lacks the permissions user_read and voices_read:"),
        (LACKS, LACKS, LACKS, "lacks the permissions user_read and models_read and voices_read:"),
        (LACKS, plain(503, "later"), plain(404, "Not Found"), "lacks the permission user_read:"),
        (LACKS, coded(429, "system_busy"), httpx.Response(200, html="?"), "lacks the permission user_read:"),
    ],
)
async def test_a_key_without_a_permission_is_genuine_and_the_permission_is_named(
    lacking: httpx.Response, models: httpx.Response, voices: httpx.Response, named: str
) -> None:
    answers = {"/v1/user": lacking, "/v1/models": models, "/v2/voices?page_size=1": voices}
    verdict = await elevenlabs(lambda request: answers[request.url.raw_path.decode()]).test(credential())
    assert isinstance(verdict, Accepted)
    assert named in verdict.warnings[0]


async def test_what_speaks_against_a_key_without_a_permission_counts() -> None:
    answers = {"/v1/user": LACKS, "/v1/models": coded(401, "detected_unusual_activity")}
    verdict = await elevenlabs(lambda request: answers[request.url.path]).test(credential())
    assert isinstance(verdict, Refused)
    assert AccountSuspended is verdict.kind


@pytest.mark.parametrize(("region", "url"), URLS.items())
async def test_the_region_chooses_the_deployment_and_the_key_has_its_own_header(region: str, url: str) -> None:
    asked: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        assert "Authorization" not in request.headers
        asked.append(f"{request.method} {request.url} {request.headers['xi-api-key']}")
        return user("active")

    await elevenlabs(note).test(credential(region=region))
    assert [f"GET {url}/v1/user {KEY}"] == asked


def test_pasted_fields_are_trimmed() -> None:
    typed = credential(f' "Bearer {KEY}"\n', webhook_secret=" 'hook-secret' ", region=" EU ")
    assert credential(webhook_secret="hook-secret", region="eu") == elevenlabs(unasked).normalise(typed)


def test_the_region_is_the_first_unless_said() -> None:
    assert "global" == elevenlabs(unasked).normalise(credential(region="")).region


@pytest.mark.parametrize("key", [KEY, "0123456789abcdef" * 2, KEY.upper(), "a-key-of-tomorrow-1234", "x" * 256])
def test_the_form_of_keys_is_not_ours_to_decide(key: str) -> None:
    assert Secret(key) == elevenlabs(unasked).normalise(credential(key)).api_key


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("", "Give an API key"),
        ("re_zKa4RCko_Lhm9ost2YjNCctnPjbLw8Nop", "Resend"),
        ("re_1", "Resend"),
        (UUID, "Vapi"),
        (UUID.upper(), "Vapi"),
        ("x" * 19, "at least 20"),
        ("x" * 257, "at most 256"),
        ("x" * 20 + " x", "white space"),
    ],
)
def test_what_is_no_key(key: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match="another look") as caught:
        elevenlabs(unasked).normalise(credential(key))
    assert sentence in caught.value.fields["apiKey"]
    assert len(key) < 19 or key not in str(dict(caught.value.fields))


def test_every_bad_field_is_named_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        elevenlabs(unasked).normalise(credential("too short", webhook_secret="short12", region="mars"))
    assert {"apiKey", "webhookSecret", "region"} == set(caught.value.fields)


@given(
    st.text() | st.from_regex(r"[!-~]{18,22}", fullmatch=True) | st.uuids().map(str) | st.just("re_" + "x" * 30),
    st.text() | st.from_regex(r"[!-~]{6,9}", fullmatch=True),
    st.text() | st.sampled_from([*URLS, ""]),
)
def test_the_form_and_the_service_agree(key: str, secret: str, region: str) -> None:
    provider = elevenlabs(unasked)
    meant = typed = credential(key, webhook_secret=secret, region=region)
    refused = set[str]()
    try:
        meant = provider.normalise(typed)
    except InvalidRequest as error:
        refused = set(error.fields)
    api_key, webhook_secret, regions = provider.description.fields
    fits = {
        "apiKey": re.fullmatch(api_key.pattern, pasted(key)),
        "webhookSecret": not pasted(secret) or re.fullmatch(webhook_secret.pattern, pasted(secret)),
        "region": pasted(region).lower() in {"", *regions.choices},
    }
    assert {field for field, fit in fits.items() if not fit} == refused
    assert refused or meant == provider.normalise(meant)


def test_the_description_names_the_fields_of_the_credential() -> None:
    provider = elevenlabs(unasked)
    fields = {field.name: field for field in provider.description.fields}
    assert {"api_key", "webhook_secret", "region"} == set(fields)
    assert tuple(URLS) == fields["region"].choices
    assert {"api_key", "webhook_secret"} == {name for name, field in fields.items() if field.secret}
    assert all(field.hint and field.help_url.startswith("https://") for field in fields.values())
    assert (Provider.ELEVENLABS, ElevenLabsCredential) == (provider.name, provider.credential)
    assert provider.consent is None
    assert provider.rotation is None


OURS = credential(webhook_secret="hook-secret", webhook_id="w")


@pytest.mark.parametrize(
    ("before", "given_one", "completed_one"),
    [
        (None, credential(), credential()),
        (None, credential(webhook_secret="customers-own"), credential(webhook_secret="customers-own")),
        (OURS, credential(), OURS),
        (OURS, credential(webhook_secret="hook-secret"), OURS),
        (OURS, credential(webhook_secret="customers-own"), credential(webhook_secret="customers-own")),
        (OURS, credential("another-key-0123456789"), credential("another-key-0123456789")),
        (OURS, credential(region="eu"), credential(region="eu")),
        (TwilioCredential(account_sid="AC", phone_number="+14155550100"), credential(), credential()),
    ],
)
async def test_what_is_left_open_stays_what_it_was_with_the_same_key(
    before: Credential | None, given_one: ElevenLabsCredential, completed_one: ElevenLabsCredential
) -> None:
    async def newest() -> Credential | None:
        return before

    assert completed_one == await elevenlabs(unasked).complete("acme", given_one, newest)


async def no_checkpoint(step: str) -> None:
    raise AssertionError(step)


async def test_without_a_webhook_secret_the_customer_is_told_what_to_do() -> None:
    for webhook_url, hint in (
        ("", "make a webhook at ElevenLabs"),
        ("https://hooks.test/e", "https://hooks.test/e/acme"),
    ):
        provider = elevenlabs(unasked, webhook_url=webhook_url)
        told = await provider.provision("acme", credential(), known=(), checkpoint=no_checkpoint)
        assert () == told.resources
        assert "Without a webhook secret, webhooks cannot be verified" in told.warnings[0]
        assert hint in told.warnings[0]


async def test_with_a_secret_of_the_customers_own_there_is_nothing_to_tell() -> None:
    own = credential(webhook_secret="customers-own")
    told = await elevenlabs(unasked).provision("acme", own, known=(), checkpoint=no_checkpoint)
    assert ((), ()) == (told.resources, told.warnings)
