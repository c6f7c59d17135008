"""Webhooks of the five providers: whether they are what they say, and whose they are.

`Webhooks` is an ASGI application that finds the org, verifies, and hands each event to a handler once. Where requests
are taken in another way, `vapi.verify`, `twilio.verify`, `google.verify`, `resend.verify` and `elevenlabs.verify` do
the checking alone:

    from tenantvault.webhooks import Request, resend

    event = resend.verify(request, [active.credential], now=time.time())
"""

from tenantvault.webhooks import elevenlabs, google, resend, twilio, vapi
from tenantvault.webhooks.app import MAX_BUFFERED_BYTES, MAX_BYTES, Webhooks
from tenantvault.webhooks.event import Event
from tenantvault.webhooks.once import REMEMBERED, UNDER_WAY, Handler
from tenantvault.webhooks.org import Active, Previous, Vault
from tenantvault.webhooks.rejection import Cause, WebhookRejected
from tenantvault.webhooks.reply import Reply
from tenantvault.webhooks.request import Request
from tenantvault.webhooks.seen import Mark, Seen, SeenInMemory

__all__ = [
    "MAX_BUFFERED_BYTES",
    "MAX_BYTES",
    "REMEMBERED",
    "UNDER_WAY",
    "Active",
    "Cause",
    "Event",
    "Handler",
    "Mark",
    "Previous",
    "Reply",
    "Request",
    "Seen",
    "SeenInMemory",
    "Vault",
    "WebhookRejected",
    "Webhooks",
    "elevenlabs",
    "google",
    "resend",
    "twilio",
    "vapi",
]
