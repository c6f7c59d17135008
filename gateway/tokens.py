"""Bearer tokens: the JWTs (RFC 7519) with which a host application says who its users are."""

from dataclasses import dataclass
from typing import Final

import jwt

from gateway.identity import NOT_SIGNED_IN, ClaimPath, Identity
from gateway.keys import Keys
from tenantvault.errors import Unauthenticated

LEEWAY: Final = 30
"""Seconds by which the issuer's clock and ours may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerTokens:
    """Checks tokens. `issuer` and `audience` are checked when they are not empty; `exp` must always be there."""

    keys: Keys
    issuer: str = ""
    audience: str = ""
    org: ClaimPath = ("org_id",)
    role: ClaimPath = ("role",)

    async def identify(self, token: str) -> Identity:
        """Whom a token names.

        Raises:
            Unauthenticated: the token is not valid here; the sentence does not tell why.
            Refusal: the issuer's keys cannot be had at the moment.
        """
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            claims = jwt.decode(
                token,
                await self.keys.find(kid),
                algorithms=list(self.keys.algorithms),
                audience=self.audience or None,
                issuer=self.issuer or None,
                leeway=LEEWAY,
                options={
                    "require": ["exp", *(["iss"] if self.issuer else []), *(["aud"] if self.audience else [])],
                    "verify_aud": bool(self.audience),
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.PyJWTError:
            raise Unauthenticated(NOT_SIGNED_IN) from None
        return Identity.from_claims(claims, org=self.org, role=self.role)
