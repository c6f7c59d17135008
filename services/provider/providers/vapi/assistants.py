"""One assistant for each role, never two, at an API without idempotency keys.

Vapi cannot be told "make this unless it is there". So an assistant carries its owner in its metadata; it is looked for
before it is made, and when the answer to making it is lost, it is looked for again. One worker at a time may do this
for an org: two that look at the same moment both find nothing.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from services.provider.outbound import AnswerTooLarge
from services.provider.provider import MayComeAbout, Refused
from services.provider.providers.vapi.api import Api, Assistant
from services.provider.providers.vapi.templates import ROLES
from tenantvault.credentials import VapiCredential
from tenantvault.errors import (
    ProviderConflict,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    TenantVaultError,
)

_LARGEST_PAGE: Final = 1000
_SHRINK: Final = 4
# Seconds to wait before each look for an assistant whose creation got no answer.
_LOOKS: Final = (0.5, 1.0, 2.0)
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Assistants:
    """Finds, makes, changes and removes assistants; those whose metadata have the `mark` are ours.

    Its methods raise a `ProviderRefused` or a `ProviderUnreachable`, where they do not say otherwise.
    """

    def __init__(self, api: Api, *, mark: str, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._api = api
        self._mark = mark
        self._sleep = sleep

    async def find(self, credential: VapiCredential, org_id: str, stored: Mapping[str, str]) -> dict[str, Assistant]:
        """The org's assistants by role: those with the stored ids, and what a look at the whole account adds.

        One whose metadata do not name the mark and the org is not ours, whatever the record says, and is never touched.
        """
        found: dict[str, Assistant] = {}
        for role in ROLES:
            if role in stored:
                assistant = _granted(await self._api.get(credential, stored[role]))
                if assistant and self._role(assistant, org_id) == role:
                    found[role] = assistant
        return found if len(found) == len(ROLES) else await self._oldest(credential, org_id) | found

    async def settle(self, credential: VapiCredential, wanted: Assistant, found: Assistant | None) -> str:
        """Make the wanted assistant of the one found, or anew; returns its id."""
        assistant = found or await self._create(credential, wanted)
        if lacking := lacks(assistant, wanted):
            assistant = _granted(await self._api.update(credential, assistant["id"], lacking))
            if lacks(assistant, wanted):
                # By the vendor's change log, an org's changes may stay drafts until somebody publishes them.
                _log.warning("an assistant did not take a change", extra={"assistant_id": assistant["id"]})
        return str(assistant["id"])

    async def change(self, credential: VapiCredential, wanted: Assistant, found: Assistant) -> str:
        """Make the wanted assistant of the one found; a sentence when it could not be done. It raises nothing."""
        try:
            await self.settle(credential, wanted, found)
        except TenantVaultError as error:
            _log.info("an assistant could not be changed", extra={"reason": error.reason})
            why = "did not let us change it" if isinstance(error, ProviderRefused) else "did not answer"
            role = wanted["metadata"]["role"]
            return f"The {role} assistant still has the webhook secret and settings of before: Vapi {why}. Reconnect."
        return ""

    async def inspect(
        self, credential: VapiCredential, org_id: str, stored: Mapping[str, str], *, wanted: Mapping[str, Assistant]
    ) -> tuple[str, ...]:
        """What is wrong with the org's assistants, a sentence each. Raises nothing but `ProviderUnreachable`.

        Of the wanted ones only what makes the webhooks arrive and prove themselves is compared: the rest is the
        customer's to change.
        """
        sentences = []
        for role in ROLES:
            assistant = await self._api.get(credential, stored[role]) if role in stored else {}
            if isinstance(assistant, Refused):
                return (assistant.sentence,)
            if assistant is None:
                sentences.append(f"The {role} assistant was deleted at Vapi: reconnect to make it again.")
            elif assistant and self._role(assistant, org_id) != role:
                sentences.append(f"The {role} assistant lost its mark at Vapi: reconnect to make another.")
            elif assistant and _server(assistant).get("url") != (url := wanted[role]["server"]["url"]):
                sentences.append(f"The {role} assistant sends its webhooks elsewhere: set its server URL to {url}.")
            elif assistant and not _proves_itself(_server(assistant), wanted[role]["server"]):
                sentences.append(
                    f"The {role} assistant does not prove its webhooks by the stored secret: reconnect to set it."
                )
        return tuple(sentences)

    async def remove(self, credential: VapiCredential, org_id: str) -> tuple[str, ...]:
        """Delete every assistant of the org, twins too; what could not be deleted, a sentence each. Raises nothing."""
        try:
            ours = [each async for each in self._all(credential) if self._role(each, org_id)]
        except TenantVaultError as error:
            _log.info("the assistants could not be looked for", extra={"reason": error.reason})
            return ("Vapi did not show the assistants: delete the ones of this connection there.",)
        sentences = []
        for assistant in ours:
            role = self._role(assistant, org_id)
            try:
                refused = await self._api.delete(credential, assistant["id"])
            except TenantVaultError as error:
                _log.info("an assistant could not be deleted", extra={"reason": error.reason})
                sentences.append(f"Vapi did not confirm that the {role} assistant is deleted: look for it there.")
                continue
            if refused is None:
                continue
            if refused.kind is ProviderConflict:
                sentences.append(f"The {role} assistant is in use by a phone number at Vapi: remove it there.")
            else:
                sentences.append(f"Vapi did not let us delete the {role} assistant: delete it there.")
        return tuple(sentences)

    async def _create(self, credential: VapiCredential, wanted: Assistant) -> Assistant:
        """Make an assistant, once. When the answer is lost, look for what it made instead of making another."""
        owner, role = wanted["metadata"]["tenant_id"], wanted["metadata"]["role"]
        try:
            return _granted(await self._api.create(credential, wanted))
        except (ProviderUnavailable, ProviderUnknownAnswer):
            for pause in _LOOKS:
                await self._sleep(pause)
                found = await self._oldest(credential, owner)
                if role in found:
                    return found[role]
            raise MayComeAbout from None

    async def _oldest(self, credential: VapiCredential, org_id: str) -> dict[str, Assistant]:
        """For each role the oldest assistant of the org: the one that every worker would choose."""
        ours: dict[str, list[Assistant]] = {}
        async for assistant in self._all(credential):
            if role := self._role(assistant, org_id):
                ours.setdefault(role, []).append(assistant)
        oldest = {}
        for role, assistants in ours.items():
            oldest[role], *extras = sorted(assistants, key=lambda each: (each["createdAt"], each["id"]))
            if extras:
                ids = [each["id"] for each in extras]
                _log.warning("more than one assistant", extra={"org": org_id, "role": role, "surplus": ids})
        return oldest

    async def _all(self, credential: VapiCredential) -> AsyncIterator[Assistant]:
        """Every assistant of the account. There is no cursor but the time of creation, newest first."""
        limit, oldest, seen = _LARGEST_PAGE, "", set[str]()
        while True:
            try:
                page = _granted(await self._api.page(credential, limit=limit, created_before=oldest))
            except AnswerTooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // _SHRINK)
                continue
            fresh = [assistant for assistant in page if assistant["id"] not in seen]
            for assistant in fresh:
                yield assistant
            if len(page) < limit:
                return
            if not fresh:  # the cursor is not heeded: going on would never end, stopping would miss some
                raise ProviderUnknownAnswer
            seen.update(assistant["id"] for assistant in fresh)
            oldest = min(assistant["createdAt"] for assistant in page)

    def _role(self, assistant: Assistant, org_id: str) -> str:
        """The role in which an assistant is the org's; empty when it is not."""
        metadata = _metadata(assistant)
        is_ours = metadata.get("managed_by") == self._mark and metadata.get("tenant_id") == org_id
        return metadata["role"] if is_ours and metadata.get("role") in ROLES else ""


def lacks(assistant: Assistant, wanted: Assistant) -> Assistant:
    """What an assistant lacks of the wanted one: all when it was made of another spec, or what proves its webhooks.

    Whatever else the customer changed in it, also where its webhooks go, is theirs to change.
    """
    if _metadata(assistant).get("spec_hash") != wanted["metadata"]["spec_hash"]:
        return wanted
    server = _server(assistant)
    comes_here = server.get("url") == wanted["server"]["url"]
    return {"server": wanted["server"]} if comes_here and not _proves_itself(server, wanted["server"]) else {}


def _proves_itself(server: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether webhooks carry what they are wanted to carry; further headers are no matter."""
    headers = server.get("headers")
    own = headers if isinstance(headers, dict) else {}
    if "credentialId" in wanted:
        return bool(server.get("credentialId") == wanted["credentialId"])
    return all(own.get(name) == value for name, value in wanted["headers"].items())


def _granted(result: _T | Refused) -> _T:
    if isinstance(result, Refused):
        raise result.error()
    return result


def _metadata(assistant: Assistant) -> dict[str, Any]:
    metadata = assistant.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _server(assistant: Assistant) -> dict[str, Any]:
    server = assistant.get("server")
    return server if isinstance(server, dict) else {}
