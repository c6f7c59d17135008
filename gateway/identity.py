"""Who is asking: the person and the org that a verified token or session names."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from tenantvault.errors import Unauthenticated

ORG_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""What an org id looks like, at every edge."""

NOT_SIGNED_IN: Final = "Sign in again: the request carries no valid session or token."
"""The one sentence for every way in which an identity can be missing or wrong."""

_LONGEST_PERSON: Final = 256

ClaimPath = tuple[str, ...]
"""Where a claim stands, e.g. `("app", "org_id")` for the dotted path `app.org_id`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A person of an org. `person` is the token's `sub`, empty when it has none.

    `session_id` is that of the dashboard's session; empty for a person who comes with a token.
    """

    org_id: str
    person: str
    roles: frozenset[str]
    session_id: str = ""

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any], *, org: ClaimPath, role: ClaimPath, session_id: str = "") -> Self:
        """The identity in a token's verified claims.

        The role may be a string or a list of strings; none means that the person may only look.

        Raises:
            Unauthenticated: the org is missing or malformed, or the person's name is.
        """
        org_id, person = _claim(claims, org), claims.get("sub", "")
        if not (isinstance(org_id, str) and ORG_ID.fullmatch(org_id)):
            raise Unauthenticated(NOT_SIGNED_IN)
        if not (isinstance(person, str) and len(person.encode(errors="replace")) <= _LONGEST_PERSON):
            raise Unauthenticated(NOT_SIGNED_IN)
        if person and not person.isprintable():
            raise Unauthenticated(NOT_SIGNED_IN)
        return cls(org_id=org_id, person=person, roles=_roles(_claim(claims, role)), session_id=session_id)

    @property
    def session(self) -> str:
        """What names the session in which the person acts: 64 hexadecimal digits that give nothing away.

        It is that of the dashboard's session, the same from its beginning to its end. Tokens come and go, so whoever
        comes with one is named by their org and themselves.
        """
        parts = ("session", self.session_id) if self.session_id else ("token", self.org_id, self.person)
        return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()


def _claim(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    value: Any = claims
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _roles(value: Any) -> frozenset[str]:
    values = value if isinstance(value, list) else [value]
    return frozenset(role for role in values if isinstance(role, str))
