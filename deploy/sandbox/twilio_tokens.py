"""The Auth Tokens of Twilio's accounts.

Sources: https://www.twilio.com/docs/iam/api/secondary_authtoken, https://www.twilio.com/docs/iam/api/authtoken. Twilio
has them at a host of their own, accounts.twilio.com; here they are below the same root as the rest. An account that
begins with `AC011e` may have no second token.
"""

from collections.abc import Callable
from typing import Final

from deploy.sandbox.twilio_account import secret_of

_SINGLE: Final = "011e"


class Tokens:
    """Which tokens work. `new_id` gives a UUID as text."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._first: dict[str, str] = {}
        self._second: dict[str, str] = {}

    def first(self, account: str) -> str:
        """The token that signs webhooks."""
        return self._first.get(account, secret_of(account))

    def works(self, sid: str, password: str) -> bool:
        """Whether it is a token of the account, or the secret of an API key."""
        return password in {self.first(sid), self._second.get(sid, self.first(sid))}

    def create(self, account: str) -> str | None:
        """A second token; None for an account that may not have one or has one."""
        if account[2:6] == _SINGLE or account in self._second:
            return None
        self._second[account] = self._new_id().replace("-", "")
        return self._second[account]

    def delete(self, account: str) -> bool:
        """Take the second token away; False when there is none."""
        return self._second.pop(account, None) is not None

    def promote(self, account: str) -> str | None:
        """The second token as the only one; None when there is none."""
        if account not in self._second:
            return None
        self._first[account] = self._second.pop(account)
        return self._first[account]

    def state(self) -> dict[str, str]:
        """What became of the tokens of each account, without them."""
        return {
            account: "second" if account in self._second else "promoted"
            for account in sorted({*self._first, *self._second})
        }

    def reset(self) -> None:
        """Forget every token that was made."""
        self._first.clear()
        self._second.clear()
