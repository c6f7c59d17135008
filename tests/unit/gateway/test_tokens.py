import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.identity import NOT_SIGNED_IN, Identity
from gateway.keys import PublishedKeys, SharedSecret
from gateway.tokens import BearerTokens
from tenantvault.errors import Unauthenticated
from tenantvault.secret import Secret
from tests.unit.gateway.fakes import JWT_SECRET, Gateway, token
from tests.unit.gateway.signing import EC_KEY, JWKS, RSA_KEY

PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def seconds_from_now(seconds: int) -> int:
    """When a test runs, which may be minutes after it was collected."""
    return int(time.time()) + seconds


def claims(**changes: Any) -> dict[str, Any]:
    return jwt.decode(token(**changes), options={"verify_signature": False})


def signed_by_hand(header: dict[str, Any], secret: bytes, digest: str = "sha256") -> str:
    """A token whose header says what it likes, signed with HMAC; PyJWT would refuse to make some of them."""

    def part(value: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    text = part(header) + b"." + part(claims())
    signature = base64.urlsafe_b64encode(hmac.new(secret, text, digest).digest()).rstrip(b"=")
    return (text + b"." + signature).decode()


def unsigned() -> str:
    return jwt.encode(claims(), "", algorithm="none")


def tampered() -> str:
    head, body, signature = token().split(".")
    return f"{head}.{body[:-4]}AAAA.{signature}"


BAD: dict[str, Callable[[], str]] = {
    "not a token": lambda: "hello",
    "empty": lambda: "",
    "alg none": unsigned,
    "alg none with a signature": lambda: signed_by_hand({"alg": "none", "typ": "JWT"}, b""),
    "alg HS512": lambda: signed_by_hand({"alg": "HS512"}, JWT_SECRET.reveal().encode(), "sha512"),
    "no alg": lambda: signed_by_hand({"typ": "JWT"}, JWT_SECRET.reveal().encode()),
    "another secret": lambda: token(Secret("another-secret-another-secret-another")),
    "tampered": tampered,
    "expired": lambda: token(exp=seconds_from_now(-60)),
    "no expiry": lambda: token(exp=None),
    "expiry that is no number": lambda: token(exp="soon"),
    "not yet valid": lambda: token(nbf=seconds_from_now(300)),
    "issued in the future": lambda: token(iat=seconds_from_now(300)),
    "another issuer": lambda: token(iss="https://evil.example"),
    "no issuer": lambda: token(iss=None),
    "another audience": lambda: token(aud="somebody-else"),
    "no audience": lambda: token(aud=None),
    "no org": lambda: token(org_id=None),
    "org is a number": lambda: token(org_id=7),
    "org is a list": lambda: token(org_id=["acme"]),
    "org in capitals": lambda: token(org_id="Acme"),
    "org with a path": lambda: token(org_id="../acme"),
    "org with a line break": lambda: token(org_id="acme\n"),
    "org is empty": lambda: token(org_id=""),
    "org too long": lambda: token(org_id="a" * 64),
    "person is no text": lambda: signed({"sub": 7}),
    "person too long": lambda: token(sub="a" * 257),
    "person with a line break": lambda: token(sub="ada\nroot"),
}


def signed(changes: dict[str, Any]) -> str:
    return jwt.api_jws.encode(json.dumps(claims() | changes).encode(), JWT_SECRET.reveal(), algorithm="HS256")


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_token_gets_the_one_sentence(gateway: Gateway, what: str) -> None:
    header = {"Authorization": f"Bearer {BAD[what]()}"}
    for path in ("/api/integrations/status", "/session"):
        method = "POST" if path == "/session" else "GET"
        answer = await gateway.client.request(method, path, headers=header)
        assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
        assert answer.json()["detail"] == NOT_SIGNED_IN


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer", "bearer ", "Token abc", "Bearer a b c"])
async def test_another_kind_of_authorization_gets_the_one_sentence(gateway: Gateway, header: str) -> None:
    await gateway.sign_in()
    answer = await gateway.client.get("/api/integrations/status", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["detail"]) == (401, NOT_SIGNED_IN)


def tokens(**settings: Any) -> BearerTokens:
    return BearerTokens(**({"keys": SharedSecret(JWT_SECRET)} | settings))


def published() -> PublishedKeys:
    return PublishedKeys(lambda: jwt.PyJWKSet.from_dict(JWKS))


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA_KEY, "RS256", "rsa-1"), (EC_KEY, "ES256", "ec-1")])
async def test_a_token_signed_with_a_published_key_is_good(key: Any, algorithm: str, kid: str) -> None:
    made = jwt.encode(claims(), key, algorithm, headers={"kid": kid})
    assert (await tokens(keys=published()).identify(made)).org_id == "acme"


@pytest.mark.parametrize(
    ("header", "secret"),
    [
        ({"alg": "HS256", "kid": "rsa-1"}, PUBLIC_PEM),
        ({"alg": "HS256", "kid": "shared"}, b"shared-secret-shared-secret-shared"),
        ({"alg": "RS256", "kid": "rsa-1"}, PUBLIC_PEM),
        ({"alg": "none", "kid": "rsa-1"}, b""),
    ],
)
async def test_a_public_key_is_no_shared_secret(header: dict[str, Any], secret: bytes) -> None:
    with pytest.raises(Unauthenticated, match=NOT_SIGNED_IN):
        await tokens(keys=published()).identify(signed_by_hand(header, secret))


@pytest.mark.parametrize("headers", [{}, {"kid": "rsa-2"}, {"kid": "for-encryption"}, {"kid": "ec-1"}])
async def test_a_token_must_name_the_key_that_signed_it(headers: dict[str, Any]) -> None:
    made = jwt.encode(claims(), RSA_KEY, "RS256", headers=headers)
    with pytest.raises(Unauthenticated, match=NOT_SIGNED_IN):
        await tokens(keys=published()).identify(made)


async def test_claims_may_stand_deeper_in_the_token() -> None:
    made = token(org_id=None, role=None, app={"tenant": {"id": "globex"}, "roles": ["owner", 7]})
    who = await tokens(org=("app", "tenant", "id"), role=("app", "roles")).identify(made)
    assert who == Identity(org_id="globex", person="ada@acme.example", roles=frozenset({"owner"}))


@pytest.mark.parametrize("app", ["globex", ["globex"], {"tenant": "globex"}, None])
async def test_a_claim_path_that_leads_nowhere_is_a_missing_org(app: Any) -> None:
    with pytest.raises(Unauthenticated):
        await tokens(org=("app", "tenant", "id")).identify(token(app=app))


async def test_without_an_issuer_and_audience_set_a_token_may_carry_any() -> None:
    assert (await tokens().identify(token(iss="x", aud=["y"]))).org_id == "acme"


async def test_a_person_without_a_name_is_nobody() -> None:
    assert (await tokens().identify(token(sub=None))).person == ""


async def test_clocks_may_differ_a_little() -> None:
    now = int(time.time())
    assert (await tokens().identify(token(exp=now - 5, nbf=now + 5))).org_id == "acme"


def joined(parts: list[bytes]) -> str:
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts).decode()


HEADER_VALUES = st.none() | st.booleans() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=2)
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "b64", "crit", "typ"]), HEADER_VALUES)


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=80)
    | st.lists(st.binary(max_size=30), min_size=3, max_size=3).map(joined)
    | HEADERS.map(lambda header: signed_by_hand(header, b"k" * 32))
)
async def test_no_token_leads_to_anything_but_the_one_error(made: str) -> None:
    with pytest.raises(Unauthenticated, match=NOT_SIGNED_IN):
        await tokens().identify(made)
    with pytest.raises(Unauthenticated, match=NOT_SIGNED_IN):
        await tokens(keys=published()).identify(made)
