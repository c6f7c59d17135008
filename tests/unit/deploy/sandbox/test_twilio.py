import re
from urllib.parse import parse_qsl

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deploy.sandbox.answers import SLOW_SECONDS
from deploy.sandbox.twilio_account import numbers_of, secret_of

ACME = "ACac3e0000000000000000002025550100"
GLOBEX = "AC610bec00000000000000003125550100"
ROOT = "/twilio/2010-04-01/Accounts"


def auth(sid: str) -> tuple[str, str]:
    return sid, secret_of(sid)


def special(beginning: str) -> str:
    """An account that begins so and owns +12025550150."""
    return beginning + "0" * (24 - len(beginning)) + "2025550150"


async def test_the_account_comes_with_its_auth_token(sandbox: httpx.AsyncClient) -> None:
    response = await sandbox.get(f"{ROOT}/{ACME}.json", auth=auth(ACME))

    assert 200 == response.status_code
    account = response.json()
    assert (ACME, ACME, "active", "Full") == (
        account["sid"],
        account["owner_account_sid"],
        account["status"],
        account["type"],
    )
    assert "0010555202000000000000000000e3ca" == account["auth_token"]


@pytest.mark.parametrize(
    ("beginning", "differs"),
    [
        ("AC0ff0", {"status": "suspended"}),
        ("ACdead", {"status": "closed"}),
        ("ACf2ee", {"type": "Trial"}),
        ("ACc11d", {"owner_account_sid": "AC" + "0" * 32}),
    ],
)
async def test_a_special_account_says_what_is_special(
    sandbox: httpx.AsyncClient, beginning: str, differs: dict[str, str]
) -> None:
    sid = special(beginning)

    account = (await sandbox.get(f"{ROOT}/{sid}.json", auth=auth(sid))).json()

    assert differs == {name: account[name] for name in differs}


@pytest.mark.parametrize(("beginning", "state"), [("AC0ff0", "suspended"), ("ACdead", "closed")])
async def test_an_account_that_is_not_active_shows_no_numbers(
    sandbox: httpx.AsyncClient, beginning: str, state: str
) -> None:
    sid = special(beginning)

    response = await sandbox.get(f"{ROOT}/{sid}/IncomingPhoneNumbers.json", auth=auth(sid))

    assert (403, 20403) == (response.status_code, response.json()["code"])
    assert state in response.json()["message"]


@pytest.mark.parametrize(
    "credentials",
    [
        (ACME, "wrong"),
        (ACME, secret_of(GLOBEX)),
        auth(GLOBEX),
        ("ACnonsense", "esnesnon"),
        ("SKac3e000000000000000000" + "2025550199", secret_of("SKac3e000000000000000000" + "2025550199")),
        ("", ""),
        None,
    ],
)
async def test_a_bad_pair_is_refused_in_the_classic_form(
    sandbox: httpx.AsyncClient, credentials: tuple[str, str] | None
) -> None:
    response = await sandbox.get(f"{ROOT}/{ACME}.json", auth=credentials)

    assert 401 == response.status_code
    assert 'Basic realm="Twilio API"' == response.headers["WWW-Authenticate"]
    assert {
        "code": 20003,
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    } == response.json()


@pytest.mark.parametrize("authorization", ["Basic !", "Basic /w==", "Bearer x", "Basic"])
async def test_a_broken_header_is_a_bad_pair(sandbox: httpx.AsyncClient, authorization: str) -> None:
    response = await sandbox.get(f"{ROOT}/{ACME}.json", headers={"Authorization": authorization})

    assert (401, 20003) == (response.status_code, response.json()["code"])


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (10001, 401),
        (20003, 401),
        (20005, 401),
        (20006, 403),
        (20008, 403),
        (20403, 403),
        (20404, 404),
        (20429, 429),
        (20500, 500),
        (20503, 503),
        (70051, 403),
    ],
)
async def test_a_failing_account_fails_with_the_code_in_it(sandbox: httpx.AsyncClient, code: int, status: int) -> None:
    sid = special(f"ACfa11{code}")

    response = await sandbox.get(f"{ROOT}/{sid}.json", auth=auth(sid))

    assert (status, status, code) == (response.status_code, response.json()["status"], response.json()["code"])
    assert "Retry-After" not in response.headers


async def test_the_account_of_a_broken_gateway_gets_html(sandbox: httpx.AsyncClient) -> None:
    sid = special("ACfa1120502")

    response = await sandbox.get(f"{ROOT}/{sid}.json", auth=auth(sid))

    assert 502 == response.status_code
    assert response.headers["Content-Type"].startswith("text/html")


async def test_the_slow_account_works_after_a_while(sandbox: httpx.AsyncClient, naps: list[float]) -> None:
    sid = special("ACfa1120504")

    response = await sandbox.get(f"{ROOT}/{sid}.json", auth=auth(sid))

    assert (200, [SLOW_SECONDS]) == (response.status_code, naps)


async def test_an_account_owns_three_numbers_of_different_capabilities(sandbox: httpx.AsyncClient) -> None:
    response = await sandbox.get(f"{ROOT}/{ACME}/IncomingPhoneNumbers.json", auth=auth(ACME))

    numbers = response.json()["incoming_phone_numbers"]
    assert [("+12025550100", True, True), ("+12025550101", True, False), ("+12025550102", False, True)] == [
        (each["phone_number"], each["capabilities"]["voice"], each["capabilities"]["sms"]) for each in numbers
    ]
    assert all(re.fullmatch("PN[0-9a-f]{32}", each["sid"]) for each in numbers)
    assert response.json()["next_page_uri"] is None


async def test_an_account_whose_digits_make_no_number_owns_none(sandbox: httpx.AsyncClient) -> None:
    sid = "AC" + "a" * 32

    response = await sandbox.get(f"{ROOT}/{sid}/IncomingPhoneNumbers.json", auth=auth(sid))

    assert (200, []) == (response.status_code, response.json()["incoming_phone_numbers"])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("+12025550100", ["+12025550100"]),
        ("2025550101", ["+12025550101"]),
        ("5550", ["+12025550100", "+12025550101", "+12025550102"]),
        ("+1202555*10*", ["+12025550100", "+12025550101", "+12025550102"]),
        ("*2", ["+12025550100", "+12025550101", "+12025550102"]),
        ("+13125550100", []),
        (".", []),
    ],
)
async def test_the_number_filter_matches_in_part(sandbox: httpx.AsyncClient, wanted: str, found: list[str]) -> None:
    response = await sandbox.get(
        f"{ROOT}/{ACME}/IncomingPhoneNumbers.json", params={"PhoneNumber": wanted}, auth=auth(ACME)
    )

    assert found == [each["phone_number"] for each in response.json()["incoming_phone_numbers"]]


async def test_the_list_is_paged_by_the_next_page_uri(sandbox: httpx.AsyncClient) -> None:
    uri: str | None = f"/2010-04-01/Accounts/{ACME}/IncomingPhoneNumbers.json?PageSize=2&PhoneNumber=555"
    pages = []
    while uri is not None:
        page = (await sandbox.get("/twilio" + uri, auth=auth(ACME))).json()
        pages.append([each["phone_number"] for each in page["incoming_phone_numbers"]])
        uri = page["next_page_uri"]

    assert [["+12025550100", "+12025550101"], ["+12025550102"]] == pages
    assert (1, 2, 2, 2) == (page["page"], page["page_size"], page["start"], page["end"])
    query = dict(parse_qsl(page["previous_page_uri"].partition("?")[2]))
    assert {"PhoneNumber": "555", "PageSize": "2", "Page": "0"} == query


async def test_a_full_page_is_the_last_when_nothing_follows(sandbox: httpx.AsyncClient) -> None:
    response = await sandbox.get(f"{ROOT}/{ACME}/IncomingPhoneNumbers.json", params={"PageSize": 3}, auth=auth(ACME))

    assert response.json()["next_page_uri"] is None


@pytest.mark.parametrize("query", [{"PageSize": "0"}, {"PageSize": "x"}, {"PageSize": "-1"}, {"Page": "x"}])
async def test_an_odd_page_is_no_error(sandbox: httpx.AsyncClient, query: dict[str, str]) -> None:
    response = await sandbox.get(f"{ROOT}/{ACME}/IncomingPhoneNumbers.json", params=query, auth=auth(ACME))

    assert 200 == response.status_code
    assert response.json()["incoming_phone_numbers"]


async def test_an_update_by_form_changes_what_it_names_and_ignores_the_rest(sandbox: httpx.AsyncClient) -> None:
    number = f"{ROOT}/{ACME}/IncomingPhoneNumbers/PN{ACME[2:]}.json"
    before = (await sandbox.get(number, auth=auth(ACME))).json()

    form = {"VoiceUrl": "https://hooks.example.com/voice", "SmsUrl": "", "FriendlyName": "Front desk", "Sid": "PNx"}
    response = await sandbox.post(number, data=form, auth=auth(ACME))

    assert 200 == response.status_code
    changed = {"voice_url": "https://hooks.example.com/voice", "friendly_name": "Front desk"}
    assert {**before, **changed} == response.json() == (await sandbox.get(number, auth=auth(ACME))).json()


async def test_an_update_by_json_changes_nothing(sandbox: httpx.AsyncClient) -> None:
    number = f"{ROOT}/{ACME}/IncomingPhoneNumbers/PN{ACME[2:]}.json"

    response = await sandbox.post(number, json={"VoiceUrl": "https://hooks.example.com/voice"}, auth=auth(ACME))

    assert (200, "") == (response.status_code, response.json()["voice_url"])


async def test_a_number_of_another_account_is_not_found(sandbox: httpx.AsyncClient) -> None:
    path = f"/2010-04-01/Accounts/{GLOBEX}/IncomingPhoneNumbers/PN{ACME[2:]}.json"

    response = await sandbox.get("/twilio" + path, auth=auth(GLOBEX))

    assert (404, 20404) == (response.status_code, response.json()["code"])
    assert f"The requested resource {path} was not found" == response.json()["message"]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_another_endpoint_is_not_found(sandbox: httpx.AsyncClient, method: str) -> None:
    response = await sandbox.request(method, f"{ROOT}/{ACME}/Messages.json", auth=auth(ACME))

    assert (404, 20404) == (response.status_code, response.json()["code"])


@pytest.mark.parametrize(
    ("beginning", "account", "numbers"),
    [
        ("SKa110", (200, None), (200, None)),
        ("SK1234", (401, 20003), (200, None)),
        ("SKdeaf", (401, 20003), (403, 70051)),
    ],
)
async def test_an_api_key_may_do_what_its_kind_may(
    sandbox: httpx.AsyncClient, beginning: str, account: tuple[int, int | None], numbers: tuple[int, int | None]
) -> None:
    key = beginning + "0" * 18 + ACME[-10:]

    fetched = await sandbox.get(f"{ROOT}/{ACME}.json", auth=auth(key))
    listed = await sandbox.get(f"{ROOT}/{ACME}/IncomingPhoneNumbers.json", auth=auth(key))

    assert account == (fetched.status_code, fetched.json().get("code"))
    assert numbers == (listed.status_code, listed.json().get("code"))
    if account[0] == 401:
        assert "Authentication Error - invalid username" == fetched.json()["message"]


SECONDARY = "/twilio/v1/AuthTokens/Secondary"
PROMOTE = "/twilio/v1/AuthTokens/Promote"


async def works(sandbox: httpx.AsyncClient, token: str) -> bool:
    return 200 == (await sandbox.get(f"{ROOT}/{ACME}.json", auth=(ACME, token))).status_code


async def test_a_second_token_works_beside_the_first_until_it_is_promoted(sandbox: httpx.AsyncClient) -> None:
    made = await sandbox.post(SECONDARY, auth=auth(ACME))
    second = made.json()["secondary_auth_token"]

    assert (201, ACME) == (made.status_code, made.json()["account_sid"])
    assert re.fullmatch("[0-9a-f]{32}", second)
    assert [True, True] == [await works(sandbox, token) for token in (secret_of(ACME), second)]
    assert secret_of(ACME) == (await sandbox.get(f"{ROOT}/{ACME}.json", auth=(ACME, second))).json()["auth_token"]

    promoted = await sandbox.post(PROMOTE, auth=(ACME, second))

    assert (200, second) == (promoted.status_code, promoted.json()["auth_token"])
    assert [False, True] == [await works(sandbox, token) for token in (secret_of(ACME), second)]
    assert second == (await sandbox.get(f"{ROOT}/{ACME}.json", auth=(ACME, second))).json()["auth_token"]


async def test_a_second_token_that_is_deleted_is_dead(sandbox: httpx.AsyncClient) -> None:
    second = (await sandbox.post(SECONDARY, auth=auth(ACME))).json()["secondary_auth_token"]

    response = await sandbox.delete(SECONDARY, auth=auth(ACME))

    assert (204, b"") == (response.status_code, response.content)
    assert not await works(sandbox, second)


@pytest.mark.parametrize(("method", "path"), [("DELETE", SECONDARY), ("POST", PROMOTE)])
async def test_without_a_second_token_there_is_nothing_to_delete_or_promote(
    sandbox: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await sandbox.request(method, path, auth=auth(ACME))

    assert (404, 20404) == (response.status_code, response.json()["code"])
    assert await works(sandbox, secret_of(ACME))


async def test_there_is_at_most_one_second_token(sandbox: httpx.AsyncClient) -> None:
    second = (await sandbox.post(SECONDARY, auth=auth(ACME))).json()["secondary_auth_token"]

    assert 404 == (await sandbox.post(SECONDARY, auth=auth(ACME))).status_code
    assert await works(sandbox, second)


async def test_some_accounts_may_not_have_a_second_token(sandbox: httpx.AsyncClient) -> None:
    assert 404 == (await sandbox.post(SECONDARY, auth=auth(special("AC011e")))).status_code


@pytest.mark.parametrize(("method", "path"), [("POST", SECONDARY), ("DELETE", SECONDARY), ("POST", PROMOTE)])
async def test_tokens_are_not_for_api_keys_and_strangers(sandbox: httpx.AsyncClient, method: str, path: str) -> None:
    for credentials in (auth("SKa110" + "0" * 18 + ACME[-10:]), (ACME, "wrong"), None):
        response = await sandbox.request(method, path, auth=credentials)
        assert (401, 20003) == (response.status_code, response.json()["code"])


async def test_the_state_tells_of_tokens_without_them(sandbox: httpx.AsyncClient) -> None:
    second = (await sandbox.post(SECONDARY, auth=auth(ACME))).json()["secondary_auth_token"]
    await sandbox.post(SECONDARY, auth=auth(GLOBEX))
    await sandbox.post(PROMOTE, auth=auth(GLOBEX))

    response = await sandbox.get("/_sandbox/state")

    assert {GLOBEX: "promoted", ACME: "second"} == response.json()["twilio"]["tokens"]
    assert second not in response.text
    await sandbox.post("/_sandbox/reset")
    assert [True, False] == [await works(sandbox, token) for token in (secret_of(ACME), second)]


@example("AC" + "0" * 22 + "9999999999")
@given(st.from_regex(r"AC[0-9a-f]{22}[0-9]{10}", fullmatch=True))
def test_every_account_of_a_number_owns_it_first(sid: str) -> None:
    numbers = numbers_of(sid, {})

    assert f"+1{sid[-10:]}" == numbers[0].phone_number
    assert 3 == len({number.sid for number in numbers})
    assert all(re.fullmatch(r"\+1[0-9]{10}", number.phone_number) for number in numbers)
