"""Every row of what Twilio answers, and the fields of its credential."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.provider.outbound import Outbound, new_client
from services.provider.provider import Accepted, Refused
from services.provider.providers.twilio import Twilio
from tenantvault.credentials import Resource, ResourceKind, TwilioCredential, TwilioWebhook
from tenantvault.errors import (
    AccountSuspended,
    InsufficientScope,
    InvalidCredentials,
    InvalidRequest,
    ProviderConflict,
    ProviderRefused,
    ProviderResourceMissing,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ProviderUnreachable,
    ProviderValidation,
    RateLimited,
    WrongCredentialType,
)
from tenantvault.secret import Secret

SID = "AC" + "0123456789abcdef" * 2
KEY_SID = "SK" + "fedcba9876543210" * 2
TOKEN = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
KEY_SECRET = "kEy5ecretkEy5ecretkEy5ecretkEy50"
NUMBER = "+14155550100"

BY_TOKEN = TwilioCredential(account_sid=SID, auth_token=Secret(TOKEN), phone_number=NUMBER)
BY_KEY = TwilioCredential(account_sid=SID, api_key_sid=KEY_SID, api_key_secret=Secret(KEY_SECRET), phone_number=NUMBER)
BY_BOTH = replace(BY_KEY, auth_token=Secret(TOKEN))

OWNED: Mapping[str, Any] = {
    "sid": "PN1",
    "phone_number": NUMBER,
    "capabilities": {"voice": True, "sms": True, "mms": True, "fax": False},
    "voice_application_sid": "",
    "sms_application_sid": "",
    "trunk_sid": None,
}


async def no_sleep(seconds: float) -> None:
    del seconds


class Desk:
    """A provider at a Twilio that gives the same answers every time."""

    def __init__(
        self, *, account: httpx.Response | None = None, numbers: httpx.Response | list[Any] | None = None
    ) -> None:
        self.requests: list[httpx.Request] = []
        self.account = account or the_account()
        owned = [OWNED] if numbers is None else numbers
        self.numbers = httpx.Response(200, json={"incoming_phone_numbers": owned}) if isinstance(owned, list) else owned
        outbound = Outbound(new_client(httpx.MockTransport(self._handle)), sleep=no_sleep)
        self.twilio = Twilio(outbound, url="https://twilio.test", accounts_url="https://accounts.test")

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.numbers if "IncomingPhoneNumbers" in request.url.path else self.account


def said(status: int, code: int | str | None, message: str = "Authenticate") -> httpx.Response:
    body = {"code": code, "message": message, "more_info": "https://www.twilio.com/docs", "status": status}
    return httpx.Response(status, json=body)


def problem(status: int, code: int, detail: str) -> httpx.Response:
    return httpx.Response(
        status, json={"type": "x", "title": "Forbidden", "status": status, "code": code, "detail": detail}
    )


def the_account(**changes: object) -> httpx.Response:
    body = {"sid": SID, "status": "active", "type": "Full", "friendly_name": "Acme", "auth_token": TOKEN} | changes
    return httpx.Response(200, json=body)


async def test_an_auth_token_is_tried_on_the_account_and_the_number() -> None:
    desk = Desk()
    assert Accepted(account="Acme") == await desk.twilio.test(BY_TOKEN)
    first, second = desk.requests
    assert f"https://twilio.test/2010-04-01/Accounts/{SID}.json" == str(first.url)
    assert f"/2010-04-01/Accounts/{SID}/IncomingPhoneNumbers.json" == second.url.path
    assert b"PhoneNumber=%2B14155550100" in second.url.query
    basic = httpx.BasicAuth(SID, TOKEN)._auth_header
    assert [basic, basic] == [request.headers["Authorization"] for request in desk.requests]


INVALID_USERNAME = said(401, 20003, "Authentication Error - invalid username")


@pytest.mark.parametrize(
    "response",
    [INVALID_USERNAME, said(401, 20003), said(403, 70051), said(403, 20403), said(401, 99999), said(401, None)],
)
async def test_an_api_key_that_may_not_read_its_account_is_tried_on_the_numbers(response: httpx.Response) -> None:
    desk = Desk(account=response)
    assert Accepted() == await desk.twilio.test(BY_KEY)
    first, second = desk.requests
    assert f"/2010-04-01/Accounts/{SID}.json" == first.url.path
    assert f"/2010-04-01/Accounts/{SID}/IncomingPhoneNumbers.json" == second.url.path
    key = httpx.BasicAuth(KEY_SID, KEY_SECRET)._auth_header
    assert [key, key] == [request.headers["Authorization"] for request in desk.requests]


async def test_an_api_key_that_may_read_its_account_is_told_of_it() -> None:
    verdict = await Desk(account=the_account(type="Trial")).twilio.test(BY_KEY)
    assert isinstance(verdict, Accepted)
    assert ("Acme", 1) == (verdict.account, len(verdict.warnings))
    verdict = await Desk(account=the_account(status="suspended")).twilio.test(BY_KEY)
    assert isinstance(verdict, Refused)
    assert verdict.kind is AccountSuspended


async def test_of_both_each_is_tried() -> None:
    desk = Desk()
    assert Accepted(account="Acme") == await desk.twilio.test(BY_BOTH)
    token, key = (httpx.BasicAuth(*pair)._auth_header for pair in ((SID, TOKEN), (KEY_SID, KEY_SECRET)))
    assert [token, key] == [request.headers["Authorization"] for request in desk.requests]


async def test_a_trial_account_is_told_its_limit() -> None:
    verdict = await Desk(account=the_account(type="Trial")).twilio.test(BY_TOKEN)
    assert isinstance(verdict, Accepted)
    assert 1 == len(verdict.warnings)
    assert "trial" in verdict.warnings[0]


@pytest.mark.parametrize(
    ("name", "shown"), [("Acme\x00\u202e Ltd\n", "Acme Ltd"), ("x" * 65, "x" * 64), (None, ""), (7, "")]
)
async def test_the_accounts_name_is_shown_as_far_as_it_can_be(name: object, shown: str) -> None:
    assert Accepted(account=shown) == await Desk(account=the_account(friendly_name=name)).twilio.test(BY_TOKEN)


async def test_a_subaccount_is_as_good_as_any() -> None:
    assert Accepted(account="Acme") == await Desk(account=the_account(owner_account_sid="AC" + "9" * 32)).twilio.test(
        BY_TOKEN
    )


@pytest.mark.parametrize("status", ["suspended", "closed"])
async def test_an_account_that_is_not_active(status: str) -> None:
    verdict = await Desk(account=the_account(status=status)).twilio.test(BY_TOKEN)
    assert isinstance(verdict, Refused)
    assert (AccountSuspended, "accountSid") == (verdict.kind, verdict.field)
    assert status in verdict.sentence


ROWS: list[tuple[httpx.Response, type[ProviderRefused], str]] = [
    (said(401, 20003), InvalidCredentials, "password"),
    (said(401, 20005, "Account not active"), AccountSuspended, "accountSid"),
    (said(403, 20005, "Account not active"), AccountSuspended, "accountSid"),
    (said(401, 10001, "Account is not active"), AccountSuspended, "accountSid"),
    (said(403, 10001, "Account is not active"), AccountSuspended, "accountSid"),
    (said(403, 20403, "Forbidden"), InsufficientScope, "password"),
    (said(403, 20403, "Account is suspended"), AccountSuspended, "accountSid"),
    (said(403, 20403, "This account was closed"), AccountSuspended, "accountSid"),
    (problem(403, 20403, "The account has been suspended."), AccountSuspended, "accountSid"),
    (said(401, 70051, "Authorization Error"), InsufficientScope, "password"),
    (said(403, 70051, "Authorization Error"), InsufficientScope, "password"),
    (problem(403, 70051, "The API key lacks a permission."), InsufficientScope, "password"),
    (said(403, 20008, "Resource not accessible with Test Account Credentials"), WrongCredentialType, "password"),
    (said(403, 20006, "Access Denied"), InsufficientScope, "password"),
    (said(404, 20404, "The requested resource was not found"), ProviderResourceMissing, "accountSid"),
    (said(400, 21452, "Invalid PhoneNumber"), ProviderValidation, ""),
    (said(422, None, "Unprocessable"), ProviderValidation, ""),
    (problem(400, 21452, "The phone number is malformed."), ProviderValidation, ""),
    (problem(401, 20003, "Authenticate"), InvalidCredentials, "password"),
    (problem(403, 20008, "Not for test credentials."), WrongCredentialType, "password"),
    (problem(404, 20404, "Not found."), ProviderResourceMissing, "accountSid"),
    (said(409, 20409, "Conflict"), ProviderConflict, ""),
]


@pytest.mark.parametrize(("response", "kind", "field"), ROWS)
async def test_a_definite_no_about_the_account(
    response: httpx.Response, kind: type[ProviderRefused], field: str
) -> None:
    verdict = await Desk(account=response).twilio.test(BY_TOKEN)
    assert isinstance(verdict, Refused)
    assert (kind, field.replace("password", "authToken")) == (verdict.kind, verdict.field)


@pytest.mark.parametrize(("response", "kind", "field"), ROWS)
@pytest.mark.parametrize(("credential", "password"), [(BY_TOKEN, "authToken"), (BY_KEY, "apiKeySecret")])
async def test_a_definite_no_about_the_numbers(
    credential: TwilioCredential, password: str, response: httpx.Response, kind: type[ProviderRefused], field: str
) -> None:
    verdict = await Desk(account=the_account(), numbers=response).twilio.test(credential)
    assert isinstance(verdict, Refused)
    assert (kind, field.replace("password", password)) == (verdict.kind, verdict.field)


async def test_a_key_that_may_not_read_numbers_is_genuine_and_limited() -> None:
    invalid_username = said(401, 20003, "Authentication Error - invalid username")
    verdict = await Desk(numbers=invalid_username).twilio.test(BY_KEY)
    assert isinstance(verdict, Refused)
    assert (InsufficientScope, "apiKeySecret") == (verdict.kind, verdict.field)
    verdict = await Desk(account=invalid_username).twilio.test(BY_TOKEN)
    assert isinstance(verdict, Refused)
    assert verdict.kind is InvalidCredentials


async def test_a_refused_pair_is_told_all_the_causes() -> None:
    verdict = await Desk(account=said(401, 20003)).twilio.test(BY_TOKEN)
    assert isinstance(verdict, Refused)
    for cause in ("suspended", "deleted", "region", "test credentials"):
        assert cause in verdict.sentence


UNCLEAR: list[tuple[httpx.Response, type[ProviderUnreachable]]] = [
    (said(429, 20429, "Too Many Requests"), RateLimited),
    (said(500, 20500), ProviderUnavailable),
    (said(503, 20503), ProviderUnavailable),
    (said(408, None), ProviderUnavailable),
    (httpx.Response(502, html="<html>Bad gateway</html>"), ProviderUnavailable),
    (httpx.Response(401, html="<html>Proxy</html>"), ProviderUnavailable),
    (httpx.Response(403, content=b""), ProviderUnavailable),
    (httpx.Response(401, json={"error": "who knows"}), ProviderUnknownAnswer),
    (httpx.Response(403, json=["x"]), ProviderUnknownAnswer),
    (said(401, 99999), ProviderUnknownAnswer),
    (said(401, "20003"), ProviderUnknownAnswer),
    (said(418, 20418), ProviderUnknownAnswer),
    (problem(429, 20429, "Slow down."), RateLimited),
    (problem(503, 20503, "Away."), ProviderUnavailable),
    (httpx.Response(307, headers={"Location": "https://x.test/"}), ProviderUnknownAnswer),
    (httpx.Response(200, json=[]), ProviderUnknownAnswer),
    (httpx.Response(200, json={"status": "sleeping"}), ProviderUnknownAnswer),
    (httpx.Response(200, json={"incoming_phone_numbers": "many"}), ProviderUnknownAnswer),
]


@pytest.mark.parametrize(("response", "error"), UNCLEAR)
@pytest.mark.parametrize("part", ["account", "numbers"])
async def test_what_says_nothing_is_no_verdict(
    part: str, response: httpx.Response, error: type[ProviderUnreachable]
) -> None:
    desk = Desk(account=response) if part == "account" else Desk(numbers=response)
    with pytest.raises(error) as caught:
        await desk.twilio.test(BY_TOKEN)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        [{**OWNED, "phone_number": "+141555501001"}],
        [{**OWNED, "phone_number": "14155550100"}],
        [{"sid": "PN1"}],
        ["+14155550100"],
    ],
)
async def test_a_number_that_is_not_owned_exactly(numbers: list[Any]) -> None:
    verdict = await Desk(numbers=numbers).twilio.test(BY_TOKEN)
    assert isinstance(verdict, Refused)
    assert (ProviderResourceMissing, "phoneNumber") == (verdict.kind, verdict.field)


async def test_the_exact_number_is_found_among_others() -> None:
    others = [{**OWNED, "phone_number": "+141555501001"}, OWNED]
    assert Accepted(account="Acme") == await Desk(numbers=others).twilio.test(BY_TOKEN)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"capabilities": {"voice": False, "sms": True}}, ["voice calls"]),
        ({"capabilities": {"voice": True, "sms": False}}, ["text messages"]),
        ({"capabilities": {"voice": False, "sms": False}}, ["voice calls", "text messages"]),
        ({"capabilities": None}, []),
        ({"trunk_sid": "TK1"}, ["SIP trunk"]),
        ({"voice_application_sid": "AP1"}, ["calls"]),
        ({"sms_application_sid": "AP1"}, ["messages"]),
    ],
)
async def test_what_stands_in_the_way_of_an_owned_number_is_a_warning(
    changes: dict[str, object], words: list[str]
) -> None:
    verdict = await Desk(numbers=[{**OWNED, **changes}]).twilio.test(BY_TOKEN)
    assert isinstance(verdict, Accepted)
    assert len(words) == len(verdict.warnings)
    assert all(word in warning for word, warning in zip(words, verdict.warnings, strict=True))


async def test_warnings_of_account_and_number_come_together() -> None:
    desk = Desk(account=the_account(type="Trial"), numbers=[{**OWNED, "trunk_sid": "TK1"}])
    verdict = await desk.twilio.test(BY_TOKEN)
    assert isinstance(verdict, Accepted)
    assert 2 == len(verdict.warnings)


WHATSAPP = "+14155550199"


async def pass_no_checkpoint(step: str) -> None:
    raise AssertionError(step)


@pytest.mark.parametrize(
    ("whatsapp", "owned", "roles"),
    [
        ("", [OWNED], ["account", "voice"]),
        (NUMBER, [OWNED], ["account", "voice"]),
        (WHATSAPP, [OWNED, {**OWNED, "sid": "PN2", "phone_number": WHATSAPP}], ["account", "voice", "whatsapp"]),
        (WHATSAPP, [OWNED, {**OWNED, "sid": "PN2", "phone_number": f"{WHATSAPP}0"}], ["account", "voice"]),
    ],
)
async def test_the_account_and_the_numbers_it_owns_are_registered(
    whatsapp: str, owned: list[Any], roles: list[str]
) -> None:
    credential = replace(BY_TOKEN, whatsapp_number=whatsapp)
    made = await Desk(numbers=owned).twilio.provision("acme", credential, known=(), checkpoint=pass_no_checkpoint)
    known = [
        Resource(ResourceKind.TWILIO_ACCOUNT, SID, "account"),
        Resource(ResourceKind.PHONE_NUMBER, NUMBER, "voice"),
        Resource(ResourceKind.PHONE_NUMBER, WHATSAPP, "whatsapp"),
    ]
    assert [resource for resource in known if resource.role in roles] == list(made.resources)
    assert () == made.warnings


async def test_a_number_that_was_sold_meanwhile_ends_the_provisioning() -> None:
    with pytest.raises(ProviderResourceMissing) as caught:
        await Desk(numbers=[]).twilio.provision("acme", BY_TOKEN, known=(), checkpoint=pass_no_checkpoint)
    assert {"phoneNumber"} == set(caught.value.fields)


async def test_a_refusal_while_the_whatsapp_number_is_looked_for_ends_the_provisioning() -> None:
    credential = replace(BY_TOKEN, whatsapp_number=WHATSAPP)
    with pytest.raises(InvalidCredentials):
        await Desk(numbers=said(401, 20003)).twilio.provision(
            "acme", credential, known=(), checkpoint=pass_no_checkpoint
        )


@pytest.mark.parametrize(("number", "warnings"), [(WHATSAPP, 0), ("+14155550198", 1)])
async def test_a_whatsapp_number_that_is_not_owned_is_a_warning(number: str, warnings: int) -> None:
    desk = Desk(numbers=[OWNED, {**OWNED, "phone_number": WHATSAPP}])
    verdict = await desk.twilio.test(replace(BY_TOKEN, whatsapp_number=number))
    assert isinstance(verdict, Accepted)
    assert warnings == len(verdict.warnings)


async def test_a_refusal_of_the_look_for_the_whatsapp_number_is_the_verdict() -> None:
    answers = iter([httpx.Response(200, json={"incoming_phone_numbers": [OWNED]}), said(401, 20003)])

    def handle(request: httpx.Request) -> httpx.Response:
        return next(answers) if "IncomingPhoneNumbers" in request.url.path else the_account()

    outbound = Outbound(new_client(httpx.MockTransport(handle)), sleep=no_sleep)
    verdict = await Twilio(outbound, url="https://twilio.test", accounts_url="https://accounts.test").test(
        replace(BY_TOKEN, whatsapp_number=WHATSAPP)
    )
    assert isinstance(verdict, Refused)
    assert InvalidCredentials is verdict.kind


async def test_nothing_is_chosen_in_the_customers_stead() -> None:
    async def newest() -> None:
        raise AssertionError

    assert await Desk().twilio.complete("acme", BY_TOKEN, newest) is BY_TOKEN


def test_pasted_fields_are_trimmed() -> None:
    typed = TwilioCredential(
        account_sid=f" {SID}\n",
        auth_token=Secret(f'"{TOKEN}"'),
        api_key_sid=f"\t{KEY_SID}",
        api_key_secret=Secret(f"{KEY_SECRET} "),
        phone_number="+1 (415) 555-0100",
        whatsapp_number="whatsapp:+1 415 555 0199",
    )
    assert replace(BY_BOTH, whatsapp_number="+14155550199") == Desk().twilio.normalise(typed)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"account_sid": ""}, {"accountSid"}),
        ({"account_sid": SID[:-1]}, {"accountSid"}),
        ({"account_sid": SID.replace("AC", "ac")}, {"accountSid"}),
        ({"account_sid": KEY_SID}, {"accountSid"}),
        ({"account_sid": TOKEN, "auth_token": Secret(SID)}, {"accountSid", "authToken"}),
        ({"account_sid": TOKEN}, {"accountSid"}),
        ({"auth_token": Secret(SID)}, {"authToken"}),
        ({"auth_token": Secret(KEY_SID)}, {"authToken"}),
        ({"api_key_sid": KEY_SECRET, "api_key_secret": Secret(KEY_SID)}, {"apiKeySid", "apiKeySecret"}),
        ({"webhook_shared_key": Secret("two words")}, {"webhookSharedKey"}),
        ({"webhook_shared_key": Secret("k"), "webhook_algorithm": "HMAC_MD5"}, {"webhookAlgorithm"}),
        ({"webhook_algorithm": "HMAC_MD5"}, {"webhookAlgorithm"}),
        ({"auth_token": Secret("")}, {"authToken"}),
        ({"auth_token": Secret("two words")}, {"authToken"}),
        ({"auth_token": Secret("x" * 257)}, {"authToken"}),
        ({"api_key_sid": KEY_SID}, {"apiKeySecret"}),
        ({"api_key_secret": Secret(KEY_SECRET)}, {"apiKeySid"}),
        ({"api_key_sid": SID, "api_key_secret": Secret(KEY_SECRET)}, {"apiKeySid"}),
        ({"api_key_sid": KEY_SID, "api_key_secret": Secret("two words")}, {"apiKeySecret"}),
        ({"phone_number": ""}, {"phoneNumber"}),
        ({"phone_number": "4155550100"}, {"phoneNumber"}),
        ({"whatsapp_number": "whatsapp"}, {"whatsappNumber"}),
        (
            {"account_sid": "x", "auth_token": Secret("a b"), "phone_number": "1", "whatsapp_number": "2"},
            {"accountSid", "authToken", "phoneNumber", "whatsappNumber"},
        ),
    ],
)
def test_every_bad_field_is_named_at_once(changes: dict[str, Any], fields: set[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Desk().twilio.normalise(replace(BY_TOKEN, **changes))
    assert fields == set(caught.value.fields)


def test_a_swapped_pair_is_recognised() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Desk().twilio.normalise(replace(BY_TOKEN, account_sid=TOKEN, auth_token=Secret(SID)))
    assert all("swapped" in sentence and "starts with AC" in sentence for sentence in caught.value.fields.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"account_sid": TOKEN}, "looks like an Auth Token"),
        ({"auth_token": Secret(SID)}, "This is an Account SID"),
        ({"auth_token": Secret(KEY_SID)}, "SID of an API key"),
        ({"api_key_sid": KEY_SECRET, "api_key_secret": Secret(KEY_SID)}, "look swapped: the SID starts with SK"),
    ],
)
def test_what_stands_in_the_wrong_field_is_recognised(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Desk().twilio.normalise(replace(BY_BOTH, **changes))
    assert all(words in sentence for sentence in caught.value.fields.values())


@pytest.mark.parametrize(
    ("shared_key", "algorithm", "meant"),
    [
        ("shared-key", "", "HMAC_SHA256"),
        ("shared-key", " hmac_sha1 ", "HMAC_SHA1"),
        ("shared-key", "HMAC_SHA256", "HMAC_SHA256"),
        ("", "HMAC_SHA1", ""),
        ("", "", ""),
    ],
)
def test_a_shared_key_has_an_algorithm_and_nothing_else_has(shared_key: str, algorithm: str, meant: str) -> None:
    typed = replace(BY_TOKEN, webhook_shared_key=Secret(f" {shared_key} "), webhook_algorithm=algorithm)
    normalised = Desk().twilio.normalise(typed)
    assert (Secret(shared_key), meant) == (normalised.webhook_shared_key, normalised.webhook_algorithm)


def test_webhooks_to_put_back_cannot_be_typed_in() -> None:
    typed = replace(BY_TOKEN, saved_webhooks=(TwilioWebhook(number_sid="PN1"),))
    assert () == Desk().twilio.normalise(typed).saved_webhooks


def test_an_api_keys_sid_given_as_the_accounts_is_recognised() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Desk().twilio.normalise(replace(BY_TOKEN, account_sid=KEY_SID))
    assert "API key" in caught.value.fields["accountSid"]


@given(st.builds(TwilioCredential, account_sid=st.text(), auth_token=st.text().map(Secret), phone_number=st.text()))
def test_what_is_refused_is_refused_by_field(typed: TwilioCredential) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Desk().twilio.normalise(typed)
    assert set(caught.value.fields) <= {"accountSid", "authToken", "phoneNumber"}


Normalise = Callable[[TwilioCredential], TwilioCredential]


@given(
    st.from_regex(r"AC[0-9a-fA-F]{32}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    st.from_regex(r"\+[1-9][0-9]{1,14}", fullmatch=True),
)
def test_what_is_good_stays_as_it_is(sid: str, token: str, number: str) -> None:
    credential = TwilioCredential(account_sid=sid, auth_token=Secret(token), phone_number=number)
    assert credential == Desk().twilio.normalise(credential)
