"""How an API key replaces itself: a key with full access may make and delete keys.

Source: https://resend.com/docs/api-reference/api-keys/create-api-key; a name has at most 50 characters. The token is in
the answer to making a key and nowhere else, so a key whose answer was lost is of no use: it is found by its name and
deleted.
"""

import hashlib
from dataclasses import replace
from typing import Final

from services.provider.provider import MayComeAbout, Refused
from services.provider.providers.resend.answers import text
from services.provider.providers.resend.api import API_KEYS, Api
from tenantvault.credentials import ResendCredential
from tenantvault.errors import ProviderUnavailable, ProviderUnknownAnswer
from tenantvault.secret import Secret

_LONGEST_NAME: Final = 50
_DIGITS: Final = 32


def key_name(mark: str, org_id: str) -> str:
    """The name of the keys that are made for an org. It is compared as a whole: one org's id may begin another's.

    `mark` is the deployment's, of at most 20 characters. Where deployments share an account, no mark may begin with
    another one and a dash: the org `eu-acme` of `tenantvault` is named like the org `acme` of `tenantvault-eu`.
    """
    name = f"{mark}-{org_id}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(org_id.encode()).hexdigest()[:_DIGITS]
    return f"{mark}-{digest}"[:_LONGEST_NAME]


class Keys:
    """Resend's rotation; see the port. Only keys with a name of this deployment's `mark` are its own."""

    def __init__(self, api: Api, *, mark: str) -> None:
        self._api = api
        self._mark = mark

    def possible(self, credential: ResendCredential) -> bool:
        """See the port. What a key may do is not to be seen; the test tells one that may only send."""
        return credential.api_key.reveal().startswith("re_")

    async def issue(self, org_id: str, current: ResendCredential) -> ResendCredential | Refused:
        """See the port."""
        name = key_name(self._mark, org_id)
        keys = await self._api.all(current, API_KEYS)
        if isinstance(keys, Refused):
            return keys
        for key in keys:
            if text(key, "name") == name and text(key, "id") != current.api_key_id:
                refused = await self._api.delete(current, API_KEYS, text(key, "id"))
                if refused:
                    return refused
        try:
            made = await self._api.create(current, API_KEYS, {"name": name, "permission": "full_access"})
        except ProviderUnavailable:
            # Nothing can be done with it, found or not; but nobody must look for leftovers before it is there.
            raise MayComeAbout from None
        if isinstance(made, Refused):
            return made
        token = text(made, "token")
        if not token:
            raise ProviderUnknownAnswer
        return replace(current, api_key=Secret(token), api_key_id=text(made, "id"))

    async def discard(self, current: ResendCredential, issued: ResendCredential) -> None:
        """See the port."""
        await self._delete(current, issued.api_key_id)

    def trace(self, current: ResendCredential) -> str:
        """See the port: the id of the key, which is known of a key that was made here and of no other."""
        return current.api_key_id

    async def retire(self, active: ResendCredential, trace: str) -> tuple[str, ...]:
        """See the port."""
        if not trace:
            return ("Delete the API key that was replaced: Resend's dashboard has it under API keys.",)
        await self._delete(active, trace)
        return ()

    async def _delete(self, credential: ResendCredential, key_id: str) -> None:
        """Delete a key, unless it is the one that is in use."""
        if key_id in {"", credential.api_key_id}:
            return
        if refused := await self._api.delete(credential, API_KEYS, key_id):
            raise refused.error()
