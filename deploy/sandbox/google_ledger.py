"""What Google remembers: codes that wait, and how often an account gave its consent and took it back."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from deploy.sandbox.google_account import life_of
from deploy.sandbox.google_grant import Token

_CODE_SECONDS: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What a code was given for. `lasting` says whether a refresh token comes with it."""

    email: str
    scopes: tuple[str, ...]
    client_id: str
    redirect_uri: str
    challenge: str
    lasting: bool
    at: datetime


class Ledger:
    """Gives out codes and tokens. `new_id` numbers them."""

    def __init__(self, *, now: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self.now: Final = now
        self._new_id = new_id
        self._codes: dict[str, Code] = {}
        self._consents: Counter[tuple[str, str]] = Counter()
        self._revoked: Counter[tuple[str, str]] = Counter()

    def knows(self, client_id: str, email: str) -> bool:
        """Whether the account gave its consent to the application before, since the last revocation."""
        return self._consents[client_id, email] > 0

    def give(self, code: Code) -> str:
        """A code for a consent."""
        self._consents[code.client_id, code.email] += 1
        text = f"4/{self._new_id()}"
        self._codes[text] = code
        return text

    def take(self, text: str) -> Code | None:
        """What a code was for, once and within ten minutes; None for any other."""
        code = self._codes.pop(text, None)
        return code if code and (self.now() - code.at).total_seconds() <= _CODE_SECONDS else None

    def refresh_token(self, code: Code) -> Token:
        """The refresh token of a consent."""
        return Token(
            kind="refresh",
            email=code.email,
            client_id=code.client_id,
            scopes=code.scopes,
            age=self._revoked[code.client_id, code.email],
            ends=0,
            number=self._new_id(),
            fresh=True,
        )

    def access_token(self, token: Token, *, fresh: bool) -> dict[str, Any]:
        """The answer of the token endpoint with an access token for a refresh token."""
        life = life_of(token.email)
        access = Token(
            kind="access",
            email=token.email,
            client_id=token.client_id,
            scopes=token.scopes,
            age=token.age,
            ends=int(self.now().timestamp()) + life,
            number=self._new_id(),
            fresh=fresh,
        )
        scope = " ".join(token.scopes)
        return {"access_token": access.text(), "expires_in": life, "scope": scope, "token_type": "Bearer"}

    def revoke(self, token: Token) -> None:
        """End every token of the account for the application; the next consent is a first one again."""
        self._revoked[token.client_id, token.email] += 1
        self._consents[token.client_id, token.email] = 0

    def is_revoked(self, token: Token) -> bool:
        """Whether the consent that it belongs to was taken back."""
        return token.age < self._revoked[token.client_id, token.email]

    def is_good(self, token: Token) -> bool:
        """Whether it is an access token that has not ended."""
        return token.kind == "access" and not self.is_revoked(token) and self.now().timestamp() < token.ends

    def state(self) -> dict[str, Any]:
        """By application and e-mail address: consents since the last revocation, and revocations."""
        pairs = sorted(
            pair for pair in {*self._consents, *self._revoked} if self._consents[pair] or self._revoked[pair]
        )
        return {
            "consents": [
                {"clientId": pair[0], "email": pair[1], "given": self._consents[pair], "revoked": self._revoked[pair]}
                for pair in pairs
            ]
        }

    def reset(self) -> None:
        """Forget all of it. Tokens say themselves what they are, so revoked ones work again."""
        self._codes.clear()
        self._consents.clear()
        self._revoked.clear()
