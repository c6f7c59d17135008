from datetime import UTC, datetime, timedelta

from deploy.local.bearer import bearer_token
from deploy.local.environments import AUDIENCE, ISSUER
from gateway.keys import SharedSecret
from gateway.tokens import BearerTokens
from tenantvault.secret import Secret

SECRET = "s" * 40


async def test_the_gateway_accepts_the_token() -> None:
    gateway = BearerTokens(keys=SharedSecret(Secret(SECRET)), issuer=ISSUER, audience=AUDIENCE)

    identity = await gateway.identify(bearer_token(SECRET, "acme", role="admin"))

    assert identity.org_id == "acme"
    assert identity.roles == {"admin"}


async def test_it_ends_after_half_a_day() -> None:
    import jwt
    import pytest

    issued = datetime.now(UTC) - timedelta(hours=13)
    token = bearer_token(SECRET, "acme", role="admin", now=issued)

    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(token, SECRET, algorithms=["HS256"], audience=AUDIENCE)
