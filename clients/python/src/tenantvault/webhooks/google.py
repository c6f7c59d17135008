"""Push notifications of Google Calendar.

A notification is a POST without a body that says only that something changed. Nothing is signed: it proves itself by
`X-Goog-Channel-Token`, the random text that the channel was opened with, which Google sends back
(https://developers.google.com/workspace/calendar/api/guides/push). Compare the channel's and the resource's ids with
those that you keep, then fetch the changes with the sync token. The first message of a channel is `sync`.
"""

from collections.abc import Sequence
from typing import Final

from tenantvault.credentials import GoogleCalendarCredential, Provider
from tenantvault.webhooks.event import Event
from tenantvault.webhooks.proof import Key, judge, same, secret_key, slots, whole_number
from tenantvault.webhooks.rejection import Cause, WebhookRejected
from tenantvault.webhooks.request import Request

SYNC: Final = "sync"
"""The type of the message that only says that a channel is open."""

_LONGEST_ID: Final = 64
_STAND_IN: Final = Key(bytes(32))


def verify(request: Request, credentials: Sequence[GoogleCalendarCredential], *, now: float) -> Event:  # noqa: ARG001 - it bears no time
    """The event in a request that holds the channel token of one of the credentials.

    Its payload has `channelId`, `resourceId`, `resourceUri`, `resourceState`, `messageNumber` and `expiration`, all
    text.

    Args:
        request: as it arrived.
        credentials: the current one first, then the one before; none for an org that nobody knows.
        now: seconds since 1970; a notification bears no time.

    Raises:
        WebhookRejected: it does not.
    """
    keys = [secret_key(credential.channel_token) for credential in credentials]
    matches = [same(_token(request), key.secret) and real for key, real in slots(keys, _STAND_IN)]
    judge([key is not None for key in keys], matches, presented=bool(_token(request)))
    channel, state = _text(request, b"x-goog-channel-id"), _text(request, b"x-goog-resource-state")
    number = whole_number(request.header(b"x-goog-message-number"))
    if not 0 < len(channel) <= _LONGEST_ID or not state:
        raise WebhookRejected(Cause.MALFORMED)
    payload = {
        "channelId": channel,
        "resourceId": _text(request, b"x-goog-resource-id"),
        "resourceUri": _text(request, b"x-goog-resource-uri"),
        "resourceState": state,
        "messageNumber": str(number),
        "expiration": _text(request, b"x-goog-channel-expiration"),
    }
    return Event(provider=Provider.GOOGLE_CALENDAR, event_id=f"{channel}:{number}", type=state, payload=payload)


def _token(request: Request) -> bytes:
    return request.header(b"x-goog-channel-token") or b""


def _text(request: Request, name: bytes) -> str:
    return (request.header(name) or b"").decode("latin-1")
