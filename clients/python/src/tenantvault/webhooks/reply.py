"""What the sender of a verified webhook is answered."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from tenantvault.webhooks.asgi import Answer, in_seconds
from tenantvault.webhooks.sender import Sender

Reply = Mapping[str, Any] | bytes | None
"""What a handler answers with: a JSON object, a ready body (JSON, of Twilio TwiML), or nothing."""

_JSON: Final = "application/json"
_RETRY_SECONDS: Final = 5.0


def answer(sender: Sender[Any], reply: Reply) -> Answer:
    """A handler's reply in the form that the provider takes.

    Raises:
        TypeError: it holds what is no JSON.
        ValueError: it holds itself.
    """
    if reply is None:
        return Answer(status=HTTPStatus.OK, body=sender.empty, media_type=sender.media_type if sender.empty else "")
    if isinstance(reply, bytes):
        return Answer(status=HTTPStatus.OK, body=reply, media_type=sender.media_type)
    return Answer(status=HTTPStatus.OK, body=json.dumps(reply).encode(), media_type=_JSON)


def later(retry_after: float | None = None) -> Answer:
    """Come back after so many seconds, 5 unless they are given.

    Providers deliver again what got this answer, Twilio only where its URL is set up for that
    (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides).
    """
    delay = _RETRY_SECONDS if retry_after is None else retry_after
    return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, headers=(("retry-after", in_seconds(delay)),))
