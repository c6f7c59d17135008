"""Webhooks of Vapi.

Vapi has no signature of its own: how its webhooks prove themselves is configured with the server that they go to
(https://docs.vapi.ai/server-url/server-authentication), and here by the stored credential's `webhook_scheme`:

- `header`: the secret itself in `X-Vapi-Secret`;
- `bearer`: the secret in `Authorization: Bearer`;
- `hmac-sha256`, `hmac-sha512`, `hmac-sha1`: hexadecimal in `X-Signature`, over `{X-Timestamp}.{body}`, the defaults of
  a credential of the type HMAC at Vapi. Whether its time is in seconds or milliseconds is told by its size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantvault.credentials import Provider, ResourceKind, VapiCredential
from tenantvault.webhooks.content import fingerprint, json_object, text_at
from tenantvault.webhooks.event import Event
from tenantvault.webhooks.name import Name
from tenantvault.webhooks.proof import Key, check_clock, judge, mac, same, secret_key, slots, whole_number
from tenantvault.webhooks.rejection import Cause, WebhookRejected
from tenantvault.webhooks.request import Request

TOLERANCE: Final = 300.0
"""Seconds between the sender's clock and ours, either way, where there is a time."""

WANTS_REPLY: Final = frozenset(
    {
        "assistant-request",
        "tool-calls",
        "transfer-destination-request",
        "handoff-destination-request",
        "knowledge-base-request",
        "voice-request",
    }
)
"""The types that are questions (https://docs.vapi.ai/server-url/events)."""

# These come once for each call and status; all others may come often, and differ by their body.
_ONCE: Final = frozenset({"status-update", "end-of-call-report"})
_HMAC: Final = "hmac-"
_ALGORITHMS: Final = frozenset({"sha1", "sha256", "sha512"})
_BEARER: Final = b"bearer "
# Seconds reach this in the year 5138, milliseconds reached it in 1973.
_MILLISECONDS_FROM: Final = 100_000_000_000


@dataclass(frozen=True, slots=True)
class _Key(Key):
    scheme: str = "header"


_STAND_IN: Final = _Key(bytes(32))


def verify(request: Request, credentials: Sequence[VapiCredential], *, now: float) -> Event:
    """The event in a request that proves itself by the secret of one of the credentials, in that one's scheme.

    Args:
        request: as it arrived.
        credentials: the current one first, then the one before; none for an org that nobody knows.
        now: seconds since 1970.

    Raises:
        WebhookRejected: it does not.
    """
    keys = [_key(credential) for credential in credentials]
    timestamp = request.header(b"x-timestamp")
    signed = (timestamp or b"", b".", request.body)
    timed, matches = [], []
    for key, real in slots(keys, _STAND_IN):
        match = same(_presented(request, key.scheme), _expected(key, signed)) and real
        matches.append(match)
        timed.append(match and key.scheme.startswith(_HMAC))
    presented = any(_presented(request, key.scheme) for key in keys if key)
    judge([key is not None for key in keys], matches, presented=presented)
    if any(timed):
        moment = whole_number(timestamp)
        signed_at = moment / 1000 if moment >= _MILLISECONDS_FROM else float(moment)
        check_clock(signed_at, now, past=TOLERANCE, future=TOLERANCE)
    payload = json_object(request.body)
    kind = text_at(payload, "message", "type")
    if not kind:
        raise WebhookRejected(Cause.MALFORMED)
    return Event(
        provider=Provider.VAPI,
        event_id=_id(payload, kind, request.body),
        type=kind,
        payload=payload,
        wants_reply=kind in WANTS_REPLY,
    )


def names(request: Request) -> tuple[Name, ...]:
    """What the body says it is about: assistants, then the number. Before the verification it is hearsay."""
    try:
        message = json_object(request.body).get("message")
    except WebhookRejected:
        return ()
    found = (
        Name(ResourceKind.VAPI_ASSISTANT, text_at(message, "call", "assistantId")),
        Name(ResourceKind.VAPI_ASSISTANT, text_at(message, "assistant", "id")),
        Name(ResourceKind.PHONE_NUMBER, text_at(message, "phoneNumber", "number")),
    )
    return tuple(dict.fromkeys(name for name in found if name.resource_id))


def _key(credential: VapiCredential) -> _Key | None:
    key = secret_key(credential.webhook_secret)
    scheme = credential.webhook_scheme
    algorithm = scheme.removeprefix(_HMAC) if scheme.startswith(_HMAC) else "sha256"
    known = scheme in {"header", "bearer"} or scheme.startswith(_HMAC)
    return _Key(key.secret, algorithm, scheme) if key and known and algorithm in _ALGORITHMS else None


def _expected(key: _Key, signed: Iterable[bytes]) -> bytes:
    # Whatever the scheme, so that the time it takes tells nobody which one an org has, or that it has one.
    signature = mac(key, *signed).hex().encode()
    return signature if key.scheme.startswith(_HMAC) else key.secret


def _presented(request: Request, scheme: str) -> bytes:
    authorization = request.header(b"authorization") or b""
    bearer = authorization[: len(_BEARER)].lower() == _BEARER
    ways = {
        "header": request.header(b"x-vapi-secret"),
        "bearer": authorization[len(_BEARER) :].strip(b" ") if bearer else None,
        _HMAC: (request.header(b"x-signature") or b"").lower(),
    }
    return ways[_HMAC if scheme.startswith(_HMAC) else scheme] or b""


def _id(payload: dict[str, Any], kind: str, body: bytes) -> str:
    call = text_at(payload, "message", "call", "id")
    if kind in _ONCE and call:
        return f"{call}:{kind}:{text_at(payload, 'message', 'status')}"
    return fingerprint(body)
