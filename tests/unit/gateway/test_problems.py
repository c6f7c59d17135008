import pytest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from gateway.problems import TABLE, Refusal, problem
from tenantvault.errors import LEAVES, CredentialNotFound, InternalError, InvalidRequest, TenantVaultError
from tests.unit.gateway.fakes import VAPI, Gateway, bearer

MEMBERS = {"type", "title", "status", "detail", "code", "success", "fields", "requestId"}


@pytest.mark.parametrize("leaf", LEAVES)
async def test_every_error_has_a_row_and_leaves_in_the_one_shape(
    gateway: Gateway, leaf: type[TenantVaultError]
) -> None:
    assert leaf.reason in TABLE
    gateway.services.failure = leaf()
    answer = await gateway.client.post("/api/integrations/vapi", json=VAPI, headers=bearer())
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) == MEMBERS
    assert answer.status_code == body["status"] >= 400
    assert body["success"] is False
    assert body["detail"]
    assert body["title"]
    assert answer.headers["x-request-id"] == body["requestId"]
    assert body["type"].startswith("urn:tenantvault:problem:")


@pytest.mark.parametrize("leaf", LEAVES)
def test_what_is_retryable_has_a_retry_after(leaf: type[TenantVaultError]) -> None:
    assert ("retry-after" in problem({}, leaf()).headers) == leaf.retryable


def test_every_row_is_used_by_an_error_or_has_a_sentence_of_its_own() -> None:
    reasons = {leaf.reason for leaf in LEAVES}
    given = {"UNKNOWN_PROVIDER", "NOT_READY"}
    assert not [code for code, row in TABLE.items() if not row.detail and code not in reasons | given]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("token=abc"), InternalError("upstream said: abc"), HTTPException(401, "abc"), KeyError("abc")],
)
def test_what_is_unexpected_becomes_a_constant_sentence(error: Exception) -> None:
    answer = problem({}, error)
    assert answer.status_code == 500
    assert InternalError.sentence in bytes(answer.body).decode()
    assert "abc" not in bytes(answer.body).decode()


def test_an_error_without_a_row_becomes_the_constant_problem() -> None:
    class Strange(TenantVaultError):
        reason = "STRANGE"
        code = "INTERNAL"

    assert b"STRANGE" not in problem({}, Strange("abc")).body


def test_fields_are_named_as_the_rest_interface_names_them() -> None:
    named = {"api_key": "a", "credential.vapi.webhook_secret": "b", "region": "c", "phoneNumber": "d"}
    answer = body_of(problem({}, InvalidRequest(fields=named)))
    assert answer["fields"] == {"apiKey": "a", "webhookSecret": "b", "region": "c", "phoneNumber": "d"}


def test_an_error_brings_its_own_sentence() -> None:
    assert body_of(problem({}, CredentialNotFound("Connect Vapi first.")))["detail"] == "Connect Vapi first."


def test_a_refusal_has_its_rows_sentence_unless_it_brings_one() -> None:
    assert TABLE["BODY_TOO_LARGE"].detail == body_of(problem({}, Refusal("BODY_TOO_LARGE")))["detail"]
    assert body_of(problem({}, Refusal("UNKNOWN_PROVIDER", "Mine.")))["detail"] == "Mine."


def test_who_is_not_signed_in_is_told_how_to_identify() -> None:
    answer = problem({}, next(leaf for leaf in LEAVES if leaf.reason == "UNAUTHENTICATED")())
    assert answer.headers["www-authenticate"] == "Bearer"


def body_of(answer: JSONResponse) -> dict[str, object]:
    import json

    body: dict[str, object] = json.loads(bytes(answer.body))
    return body
