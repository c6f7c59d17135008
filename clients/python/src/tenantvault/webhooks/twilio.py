"""Webhooks of Twilio.

`X-Twilio-Signature` is base64 of an HMAC over the public URL, followed, for a form, by each parameter's name and value,
in the order of the names. A GET is signed by its URL alone. So is a JSON body, whose SHA-256 stands in the URL as
`bodySHA256` (https://www.twilio.com/docs/usage/webhooks/webhooks-security). The key is the account's Auth Token, with
HMAC-SHA1, or a SharedKey with the algorithm that is stored beside it: what `X-Twilio-Webhooks-Signature-Settings` says
is not signed, and is not read (https://www.twilio.com/docs/usage/webhooks/webhook-shared-keys).

A signature bears no time: that an event is not taken twice is up to whoever keeps the ids of those that were seen. Nor
does it say where a name or a value ends: whoever saw a request can cut the same text into other parameters, or move
them into the URL. So an event's id is a hash of the text that was signed, which no such cut changes, and of nothing
else: neither of a SID, which is one of the parameters, nor of `I-Twilio-Idempotency-Token`, which is not signed. A
delivery that is tried again is the same text.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from tenantvault.credentials import Provider, ResourceKind, TwilioCredential
from tenantvault.webhooks.content import fingerprint, json_value, text_at
from tenantvault.webhooks.event import Event
from tenantvault.webhooks.name import Name
from tenantvault.webhooks.proof import Key, any_same, judge, mac, same, secret_key, slots
from tenantvault.webhooks.rejection import Cause, WebhookRejected
from tenantvault.webhooks.request import Request

_ALGORITHMS: Final = MappingProxyType({"": "sha256", "HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"})
_FORM: Final = b"application/x-www-form-urlencoded"
_BODY_HASH: Final = "bodySHA256"
_MOST_FIELDS: Final = 1000
_ACCOUNT: Final = "AccountSid"
_WHATSAPP: Final = "whatsapp:"
_ENDED: Final = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
_STAND_IN: Final = Key(bytes(32), "sha1")
_PORTS: Final = MappingProxyType({"http": "80", "https": "443"})
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^/?#:@\[\]]+)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?].*)?",
    re.DOTALL,
)

Form = dict[str, tuple[str, ...]]


def verify(request: Request, credentials: Sequence[TwilioCredential], *, now: float) -> Event:  # noqa: ARG001 - it bears no time
    """The event in a request that is signed with the key of one of the credentials.

    Args:
        request: as it arrived.
        credentials: the current one first, then the one before; none for an org that nobody knows.
        now: seconds since 1970; a signature bears no time.

    Raises:
        WebhookRejected: it is not.
    """
    keys = [_key(credential) for credential in credentials]
    form = _form(request)
    parameters = "" if request.method == "GET" else _signed_form(form or {})
    # The vendor's senders differ in whether they sign the port, and its own library tries both.
    texts = [(url + parameters).encode() for url in _spellings(request.url)]
    presented = request.header(b"x-twilio-signature")
    matches = [
        any_same([presented or b""], [base64.b64encode(mac(key, text)) for text in texts]) and real
        for key, real in slots(keys, _STAND_IN)
    ]
    judge([key is not None for key in keys], matches, presented=bool(presented))
    if request.method != "GET":
        _check_body(request, signed=form is not None)
    # The port is not the sender's to choose, so that the text without one stands for both.
    event_id = fingerprint(texts[0])
    if form is None:
        return _json_event(json_value(request.body), event_id)
    if len(form.get(_ACCOUNT, ())) > 1:
        raise WebhookRejected(Cause.MALFORMED)
    return _form_event({name: values[0] if len(values) == 1 else values for name, values in form.items()}, event_id)


def names(request: Request) -> tuple[Name, ...]:
    """What the request says it is about: the account, then the number. Before the verification it is hearsay.

    Each only where it has one value. The number helps to find the org and no more: `To` is the other end of what the
    org sends itself, and that may well be another org's number.
    """
    try:
        form = _form(request) or {}
    except WebhookRejected:
        return ()
    found = (
        Name(ResourceKind.TWILIO_ACCOUNT, _only(form, _ACCOUNT)),
        Name(ResourceKind.PHONE_NUMBER, _only(form, "To").removeprefix(_WHATSAPP), binding=False),
    )
    return tuple(name for name in found if name.resource_id)


def _only(form: Form, name: str) -> str:
    values = form.get(name, ())
    return values[0] if len(values) == 1 else ""


def _key(credential: TwilioCredential) -> Key | None:
    shared = secret_key(credential.webhook_shared_key)
    if shared:
        algorithm = _ALGORITHMS.get(credential.webhook_algorithm)
        return replace(shared, algorithm=algorithm) if algorithm else None
    token = secret_key(credential.auth_token)
    return replace(token, algorithm="sha1") if token else None


def _form(request: Request) -> Form | None:
    """The parameters, each with its distinct values in order, as they are signed; None when the body is no form."""
    if request.method == "GET":
        text = urlsplit(request.url).query
    elif (request.header(b"content-type") or b"").partition(b";")[0].strip().lower() == _FORM:
        text = _decoded(request.body)
    else:
        return None
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise WebhookRejected(Cause.MALFORMED) from None
    values: dict[str, set[str]] = {}
    for name, value in pairs:
        values.setdefault(name, set()).add(value)
    return {name: tuple(sorted(distinct)) for name, distinct in sorted(values.items())}


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise WebhookRejected(Cause.MALFORMED) from None


def _signed_form(form: Form) -> str:
    return "".join(name + value for name, values in form.items() for value in values)


def _spellings(url: str) -> tuple[str, str]:
    """The URL without a port and with one. The rest stays as it was sent: encoding it anew would change it."""
    parts = _URL.fullmatch(url)
    if parts is None:
        raise WebhookRejected(Cause.MALFORMED)
    scheme, host, rest = parts["scheme"], parts["host"], parts["rest"] or ""
    return f"{scheme}://{host}{rest}", f"{scheme}://{host}:{parts['port'] or _PORTS[scheme]}{rest}"


def _check_body(request: Request, *, signed: bool) -> None:
    """The signature covers a form, and of any other body only the hash in the URL."""
    stated = [value for name, value in parse_qsl(urlsplit(request.url).query) if name == _BODY_HASH]
    if not stated and signed:
        return
    if not stated:
        raise WebhookRejected(Cause.NO_SIGNATURE)
    if not same(hashlib.sha256(request.body).hexdigest().encode(), stated[0].encode()):
        raise WebhookRejected(Cause.BAD_SIGNATURE)


def _form_event(payload: dict[str, Any], event_id: str) -> Event:
    message = text_at(payload, "MessageSid") or text_at(payload, "SmsSid")
    message_status = text_at(payload, "MessageStatus") or text_at(payload, "SmsStatus")
    call, call_status = text_at(payload, "CallSid"), text_at(payload, "CallStatus")
    if message and message_status:
        return _event(payload, event_id, f"message.{message_status}")
    if call and call_status:
        told = "CallbackSource" in payload or call_status in _ENDED
        return _event(payload, event_id, f"call.{call_status}", wants_reply=not told)
    return _event(payload, event_id, text_at(payload, "EventType") or "event")


def _json_event(payload: Any, event_id: str) -> Event:
    return _event(payload, event_id, text_at(payload, "type") or "event")


def _event(payload: Any, event_id: str, kind: str, *, wants_reply: bool = False) -> Event:
    return Event(provider=Provider.TWILIO, event_id=event_id, type=kind, payload=payload, wants_reply=wants_reply)
