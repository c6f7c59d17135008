"""Webhooks of ElevenLabs.

`ElevenLabs-Signature: t=<seconds>,v0=<hex>`: HMAC-SHA256 over `{t}.{body}` by the webhook's secret as it stands
(https://elevenlabs.io/docs/agents-platform/workflows/post-call-webhooks). The vendor accepts half an hour of delay and
every time in the future; here the future ends after five minutes.
"""

from collections.abc import Sequence
from typing import Any, Final

from tenantvault.credentials import ElevenLabsCredential, Provider
from tenantvault.webhooks.content import fingerprint, json_object, text_at
from tenantvault.webhooks.event import Event
from tenantvault.webhooks.proof import Key, any_same, check_clock, judge, mac, secret_key, slots, whole_number
from tenantvault.webhooks.request import Request

PAST: Final = 1800.0
"""Seconds that a delivery may be late."""
FUTURE: Final = 300.0
"""Seconds that the sender's clock may be ahead of ours."""

_TIME: Final = b"t="
_SIGNATURE: Final = b"v0="
_STAND_IN: Final = Key(bytes(32))


def verify(request: Request, credentials: Sequence[ElevenLabsCredential], *, now: float) -> Event:
    """The event in a request that is signed with the secret of one of the credentials.

    Args:
        request: as it arrived.
        credentials: the current one first, then the one before; none for an org that nobody knows.
        now: seconds since 1970.

    Raises:
        WebhookRejected: it is not.
    """
    keys = [secret_key(credential.webhook_secret) for credential in credentials]
    header = request.header(b"elevenlabs-signature") or b""
    parts = [part.strip() for part in header.split(b",")]
    times = [part.removeprefix(_TIME) for part in parts if part.startswith(_TIME)]
    presented = [part.removeprefix(_SIGNATURE) for part in parts if part.startswith(_SIGNATURE)]
    # Of two times nobody could say which one was meant.
    timestamp = times[0] if len(times) == 1 else None
    signed = (timestamp or b"", b".", request.body)
    matches = [
        any_same(presented or [b""], [mac(key, *signed).hex().encode()]) and real
        for key, real in slots(keys, _STAND_IN)
    ]
    judge([key is not None for key in keys], matches, presented=bool(timestamp and presented))
    check_clock(whole_number(timestamp), now, past=PAST, future=FUTURE)
    payload = json_object(request.body)
    return Event(
        provider=Provider.ELEVENLABS,
        event_id=_id(payload, request.body),
        type=text_at(payload, "type"),
        payload=payload,
    )


def _id(payload: dict[str, Any], body: bytes) -> str:
    """An event has no id of its own: a conversation has one of each type at a time."""
    conversation = text_at(payload, "data", "conversation_id")
    at = payload.get("event_timestamp")
    if conversation and isinstance(at, int):
        return f"{text_at(payload, 'type')}:{conversation}:{at}"
    return fingerprint(body)
