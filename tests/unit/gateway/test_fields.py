import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import fields
from tenantvault.credentials import TwilioCredential, VapiCredential
from tenantvault.errors import InvalidRequest
from tenantvault.secret import Secret
from tests.unit.gateway.fakes import TWILIO, VAPI

KEY = VAPI["apiKey"]
SK = "SK" + "0b" * 16


def wrong(read: Callable[[Mapping[str, Any]], object], body: Mapping[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        read(body)
    return dict(refused.value.fields)


def test_a_vapi_credential_needs_its_key_only() -> None:
    assert fields.vapi({"apiKey": KEY}) == VapiCredential(api_key=Secret(KEY))


def test_a_vapi_credential_may_say_more() -> None:
    read = fields.vapi({"apiKey": KEY, "webhookSecret": "a-webhook-secret", "region": "EU"})
    assert read == VapiCredential(api_key=Secret(KEY), webhook_secret=Secret("a-webhook-secret"), region="eu")


@pytest.mark.parametrize("empty", [None, "", "  ", "''"])
def test_an_empty_optional_field_is_as_good_as_none(empty: str | None) -> None:
    assert fields.vapi({"apiKey": KEY, "webhookSecret": empty, "region": empty}) == fields.vapi({"apiKey": KEY})


def test_twilio_takes_an_auth_token() -> None:
    assert fields.twilio(TWILIO) == TwilioCredential(
        account_sid=TWILIO["accountSid"], auth_token=Secret(TWILIO["authToken"]), phone_number="+15005550100"
    )


def test_twilio_takes_an_api_key_instead_and_both_together() -> None:
    body = TWILIO | {"authToken": "", "apiKeySid": SK, "apiKeySecret": "k" * 32}
    by_key = fields.twilio(body)
    assert (by_key.api_key_sid, by_key.api_key_secret, bool(by_key.auth_token)) == (SK, Secret("k" * 32), False)
    both = fields.twilio(body | {"authToken": TWILIO["authToken"], "whatsappNumber": "WhatsApp:+44 20 7946 0001"})
    assert (both.auth_token, both.whatsapp_number) == (Secret(TWILIO["authToken"]), "+442079460001")


@pytest.mark.parametrize(
    "pasted",
    [
        f"  {KEY}\n",
        f'"{KEY}"',
        f"Bearer {KEY}",
        f"bearer   {KEY} ",
        f"'Bearer {KEY}'",
        f'Bearer "{KEY}"',
        f"\u201c{KEY}\u201d",
        f"\ufeff{KEY}\u200b",
        f"\u00a0`{KEY}`\u00a0",
        f"Bearer Bearer {KEY}",
    ],
)
def test_what_comes_along_when_pasting_is_trimmed(pasted: str) -> None:
    assert fields.vapi({"apiKey": pasted}).api_key.reveal() == KEY


@given(
    st.text("\u0020\t\n\"'`\u201c\u2019", max_size=5),
    st.sampled_from(["", "Bearer ", "BEARER\t"]),
    st.text("abcXYZ019-_", min_size=20, max_size=40),
    st.text("\u0020\t\n\"'`\u201c\u2019", max_size=5),
)
def test_trimming_finds_the_value_and_finds_it_again(before: str, prefix: str, value: str, after: str) -> None:
    trimmed = fields.trim(before + prefix + value + after)
    assert trimmed == value
    assert fields.trim(trimmed) == trimmed


@pytest.mark.parametrize("text", [" " * 60_000 + "x", "x" + " " * 60_000 + "x", "bearer " * 9000, "'" * 60_000])
def test_trimming_takes_no_time_that_anybody_would_notice(text: str) -> None:
    started = time.process_time()
    fields.trim(text)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    "number", ["+15005550100", "+1 500 555 0100", "+1 (500) 555-0100", "+1.500.555.0100", "whatsapp:+15005550100"]
)
def test_a_number_may_be_written_as_people_write_it(number: str) -> None:
    assert fields.twilio(TWILIO | {"phoneNumber": number}).phone_number == "+15005550100"


@pytest.mark.parametrize(
    "number",
    [
        "5005550100",
        "0015005550100",
        "+0123456789",
        "+",
        "+1",
        "+1234567890123456",
        "+1500555010a",
        "+44 (0)20 79460000",
        "+\u0661\u0665\u0660\u0660\u0665\u0665\u0665",
    ],
)
def test_a_number_that_is_no_e164_is_refused(number: str) -> None:
    assert "country code" in wrong(fields.twilio, TWILIO | {"phoneNumber": number})["phoneNumber"]


@pytest.mark.parametrize(
    ("body", "bad"),
    [
        ({}, {"apiKey"}),
        ({"apiKey": "short"}, {"apiKey"}),
        ({"apiKey": "x" * 257}, {"apiKey"}),
        ({"apiKey": KEY.replace("-", " ")}, {"apiKey"}),
        ({"apiKey": KEY + "\u00e9"}, {"apiKey"}),
        ({"apiKey": KEY + "\ud800"}, {"apiKey"}),
        ({"apiKey": KEY[:10] + "\r\n" + KEY[10:]}, {"apiKey"}),
        ({"apiKey": 7}, {"apiKey"}),
        ({"apiKey": [KEY]}, {"apiKey"}),
        ({"apiKey": {"value": KEY}}, {"apiKey"}),
        ({"apiKey": True}, {"apiKey"}),
        ({"apiKey": None}, {"apiKey"}),
        ({"apiKey": KEY, "webhookSecret": "short"}, {"webhookSecret"}),
        ({"apiKey": KEY, "webhookSecret": False}, {"webhookSecret"}),
        ({"apiKey": KEY, "region": "mars"}, {"region"}),
        ({"apiKey": KEY, "orgId": "globex"}, {"orgId"}),
        ({"apiKey": KEY, "org_id": "globex"}, {"org_id"}),
        ({"webhookSecret": "short", "region": 7, "extra": 1}, {"apiKey", "webhookSecret", "region", "extra"}),
    ],
)
def test_every_bad_field_of_vapi_is_named(body: dict[str, Any], bad: set[str]) -> None:
    assert set(wrong(fields.vapi, body)) == bad


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({"accountSid": None}, {"accountSid"}),
        ({"accountSid": "AC" + "0g" * 16}, {"accountSid"}),
        ({"accountSid": "AC" + "0a" * 15}, {"accountSid"}),
        ({"authToken": None}, {"authToken"}),
        ({"authToken": "  "}, {"authToken"}),
        ({"authToken": "''", "apiKeySid": " ", "apiKeySecret": " "}, {"authToken"}),
        ({"authToken": None, "apiKeySid": SK}, {"apiKeySecret"}),
        ({"authToken": None, "apiKeySid": SK, "apiKeySecret": " "}, {"apiKeySecret"}),
        ({"authToken": None, "apiKeySid": "SK1"}, {"apiKeySid", "apiKeySecret"}),
        ({"authToken": None, "apiKeySecret": "k" * 32}, {"apiKeySid"}),
        ({"authToken": None, "apiKeySid": "SK1", "apiKeySecret": "k" * 32}, {"apiKeySid"}),
        ({"authToken": None, "apiKeySid": 7, "apiKeySecret": "k"}, {"apiKeySid", "apiKeySecret"}),
        ({"authToken": "short"}, {"authToken"}),
        ({"phoneNumber": None}, {"phoneNumber"}),
        ({"whatsappNumber": "1"}, {"whatsappNumber"}),
        ({"apiKey": KEY}, {"apiKey"}),
        (dict.fromkeys(TWILIO, 7), set(TWILIO)),
        (dict.fromkeys(TWILIO), set(TWILIO)),
    ],
)
def test_every_bad_field_of_twilio_is_named(changes: dict[str, Any], bad: set[str]) -> None:
    assert set(wrong(fields.twilio, TWILIO | changes)) == bad


def test_identifiers_in_each_others_place_are_recognised() -> None:
    assert "API key" in wrong(fields.twilio, TWILIO | {"accountSid": SK})["accountSid"]
    assert "Account SID" in wrong(fields.twilio, TWILIO | {"authToken": TWILIO["accountSid"]})["authToken"]


def test_a_name_that_may_be_a_secret_is_not_given_back() -> None:
    complaints = wrong(fields.nothing, {KEY: 1, "sk_live_4242424242": 1, "x" * 40: 1, "": 1})
    assert list(complaints) == [fields.ANY]


def test_the_sentence_counts_the_fields() -> None:
    with pytest.raises(InvalidRequest, match=r"One field needs attention\."):
        fields.nothing({"a": 1})
    with pytest.raises(InvalidRequest, match=r"2 fields need attention\."):
        fields.nothing({"a": 1, "b": 1})


def test_no_complaint_quotes_the_value() -> None:
    canary = "canary 7f3c9e51"
    for read in (fields.vapi, fields.twilio, fields.org, fields.nothing):
        names = [*VAPI, *TWILIO, "apiKeySid", "apiKeySecret", "region", "webhookSecret", "whatsappNumber", "org"]
        body = dict.fromkeys(names, canary)
        assert canary not in str(wrong(read, body))


def test_an_org_is_picked_by_name() -> None:
    assert fields.org({"org": " acme "}) == "acme"
    assert wrong(fields.org, {}) == {"org": "Pick an organisation."}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@given(st.dictionaries(st.sampled_from([*VAPI, *TWILIO, "region", "apiKeySid", "apiKeySecret"]) | st.text(), JSON))
def test_a_body_is_a_credential_or_refused_with_its_fields(body: dict[str, Any]) -> None:
    for read in (fields.vapi, fields.twilio):
        complaints: Mapping[str, str] = {"none": ""}
        try:
            read(body)
        except InvalidRequest as refused:
            complaints = refused.fields
        assert complaints
