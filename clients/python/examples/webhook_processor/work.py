"""What is done with an event: here the thing it is about is looked up, with the credential of the org it is for."""

import logging
from http import HTTPStatus
from typing import Any, Protocol

from tenantvault import ActiveCredential, AsyncClient
from tenantvault.errors import NotFound
from tenantvault.webhooks import Event
from webhook_processor.lookup import Hosts, Lookup, prepare

_log = logging.getLogger(__name__)


class Providers(Protocol):
    """What makes the requests."""

    async def get(self, lookup: Lookup) -> int:
        """The status of the answer; raises when there was none, and then the event is delivered again."""
        ...


class Work:
    """The handlers. Put what your service does in the place of `_look_up`: quickly, or into a queue of its own."""

    def __init__(self, vault: AsyncClient, providers: Providers, hosts: Hosts) -> None:
        self._vault = vault
        self._providers = providers
        self._hosts = hosts

    async def take(self, event: Event) -> None:
        """Take an event that needs no answer."""
        active = await self._credential(event)
        if active is not None:
            await self._look_up(event, active)

    async def call(self, event: Event) -> dict[str, Any] | None:
        """Take an event of Vapi: asked who is to answer a call, name the org's own assistant."""
        if event.type != "assistant-request":
            await self.take(event)
            return None
        active = await self._credential(event)
        inbound = [] if active is None else [one for one in active.resources if one.role == "inbound"]
        return {"assistantId": inbound[0].resource_id} if inbound else {"error": "Nobody can answer this call."}

    async def message(self, event: Event) -> bytes | None:
        """Take an event of Twilio: a call that asks what to do next is ended."""
        if event.wants_reply:
            return b"<Response><Hangup/></Response>"
        await self.take(event)
        return None

    async def _credential(self, event: Event) -> ActiveCredential[Any] | None:
        """The org's credential: from memory as a rule. None when the org has disconnected it since."""
        try:
            return await self._vault.get(event.org_id, event.provider)
        except NotFound:
            _log.warning("disconnected meanwhile", extra=_about(event))
            return None

    async def _look_up(self, event: Event, active: ActiveCredential[Any]) -> None:
        lookup = prepare(event, active.credential, self._hosts)
        if lookup is None:
            _log.info("nothing to look up", extra=_about(event))
            return
        status = await self._providers.get(lookup)
        extra = {**_about(event), "subject": lookup.subject, "status": status, "version": active.version}
        if status == HTTPStatus.UNAUTHORIZED:
            # So that it is tested, and the customer sees what is wrong with it. To deliver again would not help.
            await self._vault.report_failure(event.org_id, event.provider, active.version)
            _log.warning("credential refused", extra=extra)
            return
        _log.info("looked up", extra=extra)


def _about(event: Event) -> dict[str, str]:
    return {"org": event.org_id, "provider": event.provider.value, "type": event.type}
