"""Webhooks of Resend, which Svix signs.

`svix-signature` holds one or more `v1,<base64>`, separated by spaces: HMAC-SHA256 over
`{svix-id}.{svix-timestamp}.{body}` by the key that stands in base64 behind `whsec_`. The event is accepted within five
minutes of its timestamp. Its id stays the same when it is delivered again, which may go on for a day
(https://docs.svix.com/receiving/verifying-payloads/how-manual,
https://resend.com/docs/dashboard/webhooks/verify-webhooks-requests).
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from tenantvault.credentials import Provider, ResendCredential
from tenantvault.secret import Secret
from tenantvault.webhooks.content import json_object, text_at
from tenantvault.webhooks.event import Event
from tenantvault.webhooks.proof import Key, any_same, check_clock, judge, mac, slots, whole_number
from tenantvault.webhooks.rejection import Cause, WebhookRejected
from tenantvault.webhooks.request import Request

TOLERANCE: Final = 300.0
"""Seconds between the sender's clock and ours, either way."""

_PREFIX: Final = "whsec_"
_VERSION: Final = b"v1,"
_LONGEST_ID: Final = 256
_STAND_IN: Final = Key(bytes(24))


def verify(request: Request, credentials: Sequence[ResendCredential], *, now: float) -> Event:
    """The event in a request that is signed with the secret of one of the credentials.

    Args:
        request: as it arrived.
        credentials: the current one first, then the one before; none for an org that nobody knows.
        now: seconds since 1970.

    Raises:
        WebhookRejected: it is not.
    """
    keys = [_key(credential.webhook_secret) for credential in credentials]
    event_id = request.header(b"svix-id")
    timestamp = request.header(b"svix-timestamp")
    header = request.header(b"svix-signature") or b""
    presented = [part.removeprefix(_VERSION) for part in header.split(b" ") if part.startswith(_VERSION)]
    signed = (event_id or b"", b".", timestamp or b"", b".", request.body)
    matches = [
        any_same(presented or [b""], [base64.b64encode(mac(key, *signed))]) and real
        for key, real in slots(keys, _STAND_IN)
    ]
    judge([key is not None for key in keys], matches, presented=bool(event_id and timestamp and presented))
    check_clock(whole_number(timestamp), now, past=TOLERANCE, future=TOLERANCE)
    payload = json_object(request.body)
    return Event(provider=Provider.RESEND, event_id=_id(event_id), type=text_at(payload, "type"), payload=payload)


def _key(secret: Secret) -> Key | None:
    text = secret.reveal().removeprefix(_PREFIX)
    try:
        # The vendor's own libraries take it without its padding too.
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return Key(decoded) if decoded else None


def _id(event_id: bytes | None) -> str:
    if not event_id or len(event_id) > _LONGEST_ID or not event_id.isascii():
        raise WebhookRejected(Cause.MALFORMED)
    return event_id.decode("ascii")
