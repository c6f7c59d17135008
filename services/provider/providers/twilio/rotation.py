"""How an Auth Token is replaced: a second one is made, works beside the first, and becomes the only one.

Sources: https://www.twilio.com/docs/iam/api/secondary_authtoken, https://www.twilio.com/docs/iam/api/authtoken. An
account has at most two tokens. Twilio signs webhooks with the first until the second is promoted, and that ends the
first at once.
"""

import re
from dataclasses import replace
from typing import Final

from services.provider.provider import Refused
from services.provider.providers.twilio.api import Account, Api
from tenantvault.credentials import TwilioCredential

_TOKEN: Final = re.compile("[0-9a-f]{32}")


class TokenRotation:
    """See the port `Rotation`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def possible(self, credential: TwilioCredential) -> bool:
        """See the port. An API key cannot replace itself, and needs not: it goes on working beside any token."""
        return bool(credential.auth_token)

    async def issue(self, org_id: str, current: TwilioCredential) -> TwilioCredential | Refused:
        """See the port. A second token that is there already is taken away: nobody can read it any more.

        When the current one is itself the second, because a rotation ended before it was promoted, that comes first: it
        would take itself away.
        """
        del org_id
        account = await self._api.account(current)
        if isinstance(account, Refused):
            return account
        if _is_second(current, account):
            refused = await self._api.promote_secondary_token(current)
        else:
            refused = await self._api.delete_secondary_token(current)
        if refused is not None:
            return refused
        token = await self._api.new_secondary_token(current)
        return token if isinstance(token, Refused) else replace(current, auth_token=token)

    async def discard(self, current: TwilioCredential, issued: TwilioCredential) -> None:
        """See the port. Where the current one is itself the second, there is no other to take back."""
        account = await self._api.account(current)
        if isinstance(account, Refused):
            raise account.error()
        if _is_second(current, account) or current.auth_token == issued.auth_token:
            return
        if refused := await self._api.delete_secondary_token(current):
            raise refused.error()

    def trace(self, current: TwilioCredential) -> str:
        """See the port. There are two tokens at most, so that the other one needs no name."""
        del current
        return ""

    async def retire(self, active: TwilioCredential, trace: str) -> tuple[str, ...]:
        """See the port. Promoting the active token ends the other one; an active one that is the first is done.

        Nothing is taken away here: what would be could be the active token itself.
        """
        del trace
        account = await self._api.account(active)
        if isinstance(account, Refused):
            raise account.error()
        if account.auth_token == active.auth_token:
            return ()
        refused = await self._api.promote_secondary_token(active)
        # Where Twilio does not show the first token, what it says when there is nothing to promote is as good as a yes.
        if refused is not None and (refused.is_about_the_credential or _is_second(active, account)):
            raise refused.error()
        return ()


def _is_second(credential: TwilioCredential, account: Account) -> bool:
    """Whether an Auth Token that Twilio accepts is not the one that it shows as the account's."""
    shown = account.auth_token
    return _TOKEN.fullmatch(shown.reveal()) is not None and shown != credential.auth_token
