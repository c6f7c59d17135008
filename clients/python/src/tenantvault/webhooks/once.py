"""Each event is handed on once, and none is lost."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from tenantvault.webhooks.asgi import Answer
from tenantvault.webhooks.content import fingerprint
from tenantvault.webhooks.event import Event
from tenantvault.webhooks.reply import Reply, answer, later
from tenantvault.webhooks.seen import Mark, Seen
from tenantvault.webhooks.sender import Sender

Handler = Callable[[Event], Awaitable[Reply]]
"""Takes an event. What it raises makes the provider deliver the event again."""

REMEMBERED: Final = 3 * 86400.0
"""Seconds for which it is known that an event was taken: longer than any of the five goes on delivering one event."""

UNDER_WAY: Final = 60.0
"""Seconds after which a process that took an event is believed to be gone, and another may take it."""

_FAILED: Final = Answer(status=HTTPStatus.INTERNAL_SERVER_ERROR)
_LONGEST_IN_LOG: Final = 100

_log = logging.getLogger(__name__)


class Once:
    """Hands on what was not taken before.

    A repeat is answered with 200 only when the event is known to have been taken: while it is under way, here or in
    another process, nobody knows yet whether it has to come again.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        # Beside the store, whose marks end, or may be pushed out, while a handler takes its time.
        self._under_way: set[str] = set()

    async def take(self, sender: Sender[Any], handler: Handler, event: Event) -> Answer:
        """Hand on an event, unless it was taken, or says nothing; the answer to its sender."""
        if event.type in sender.quiet:
            return answer(sender, None)
        extra = _extra(event)
        if event.wants_reply:
            try:
                return await _handed(sender, handler, event, extra)
            except Exception:  # noqa: BLE001 - whatever it is, the provider asks again
                _log.exception("webhook failed", extra=extra)
                return _FAILED
        key = f"{event.provider}:{event.org_id}:{fingerprint(event.event_id.encode('utf-8', 'surrogatepass'))}"
        if key in self._under_way:
            return _put_off(extra)
        self._under_way.add(key)
        try:
            return await self._new(sender, handler, event, key, extra)
        finally:
            self._under_way.discard(key)

    async def _new(
        self, sender: Sender[Any], handler: Handler, event: Event, key: str, extra: dict[str, str]
    ) -> Answer:
        try:
            mark = await self._seen.add(key, UNDER_WAY)
        except Exception:  # noqa: BLE001 - whatever keeps the store from answering, the event comes again
            _log.exception("webhook put off", extra=extra)
            return later()
        if mark is Mark.TAKEN:
            _log.info("webhook repeated", extra=extra)
            return answer(sender, None)
        if mark is Mark.UNDER_WAY:
            return _put_off(extra)
        try:
            taken = await _handed(sender, handler, event, extra)
        except BaseException as error:
            # Cancelled or failed: the event was not taken, so its next delivery is the first.
            if isinstance(error, Exception):
                _log.exception("webhook failed", extra=extra)
            await self._forget(key, extra)
            if not isinstance(error, Exception):
                raise
            return _FAILED
        await self._keep(key, extra)
        return taken

    async def _forget(self, key: str, extra: dict[str, str]) -> None:
        try:
            await self._seen.discard(key)
        except Exception:  # noqa: BLE001 - the mark ends by itself, and until then the event is put off
            _log.exception("webhook still marked", extra=extra)

    async def _keep(self, key: str, extra: dict[str, str]) -> None:
        try:
            await self._seen.keep(key, REMEMBERED)
        except Exception:  # noqa: BLE001 - the event was taken: to have it delivered again would help nobody
            _log.exception("webhook not remembered", extra=extra)


async def _handed(sender: Sender[Any], handler: Handler, event: Event, extra: dict[str, str]) -> Answer:
    taken = answer(sender, await handler(event))
    _log.info("webhook taken", extra=extra)
    return taken


def _put_off(extra: dict[str, str]) -> Answer:
    _log.info("webhook under way", extra=extra)
    return later()


def _extra(event: Event) -> dict[str, str]:
    return {
        "provider": event.provider.value,
        "org": event.org_id,
        "type": _cut(event.type),
        "event_id": _cut(event.event_id),
    }


def _cut(text: str) -> str:
    """As much of it as a log line needs. It is the sender's text, and JSON may hold what no UTF-8 can."""
    return text[:_LONGEST_IN_LOG].encode("utf-8", "backslashreplace").decode()
