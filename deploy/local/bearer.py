"""Bearer tokens for the local gateway."""

from datetime import UTC, datetime, timedelta
from typing import Final

import jwt

from deploy.local.environments import AUDIENCE, ISSUER

LIFE: Final = timedelta(hours=12)


def bearer_token(secret: str, org_id: str, *, role: str, now: datetime | None = None) -> str:
    """A token (HS256) for a person of the org with this role, good for twelve hours."""
    issued = now or datetime.now(UTC)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "local-developer",
        "org_id": org_id,
        "role": role,
        "iat": issued,
        "exp": issued + LIFE,
    }
    return jwt.encode(claims, secret, algorithm="HS256")
