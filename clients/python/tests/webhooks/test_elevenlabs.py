"""ElevenLabs' webhooks."""

import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantvault.credentials import ElevenLabsCredential, Provider
from tenantvault.secret import Secret
from tenantvault.webhooks import Cause, Event, Request, WebhookRejected, elevenlabs

SECRET = "wsec_0123456789abcdef0123456789abcdef"
OTHER = "wsec_other"
NOW = 1795428000
BODY = (
    b'{"type":"post_call_transcription","event_timestamp":1795428000,'
    b'"data":{"agent_id":"agent_x","conversation_id":"conv_x","status":"done"}}'
)
SIGNATURE = b"8f555384a4e53fc5f81b79c2f4ee9f1409a3d16268d6e5084a25959fa1859a6a"
HEADER = b"t=1795428000,v0=" + SIGNATURE


def credential(secret: str) -> ElevenLabsCredential:
    return ElevenLabsCredential(api_key=Secret("sk_x"), webhook_secret=Secret(secret))


def request(header: bytes = HEADER, body: bytes = BODY) -> Request:
    return Request(
        method="POST",
        url="https://hooks.example.com/elevenlabs/acme",
        headers=((b"elevenlabs-signature", header),),
        body=body,
    )


def signed(body: bytes, *, timestamp: str = "1795428000", secret: str = SECRET) -> Request:
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return request(f"t={timestamp},v0={digest}".encode(), body)


def cause(request: Request, *secrets: str, now: float = NOW) -> Cause:
    with pytest.raises(WebhookRejected) as rejected:
        elevenlabs.verify(request, [credential(secret) for secret in secrets], now=now)
    return rejected.value.cause


def event_id(body: bytes) -> str:
    return elevenlabs.verify(signed(body), [credential(SECRET)], now=NOW).event_id


def test_what_the_vendors_own_library_signed_is_accepted() -> None:
    event = elevenlabs.verify(request(), [credential(SECRET)], now=NOW)

    assert event == Event(
        provider=Provider.ELEVENLABS,
        event_id="post_call_transcription:conv_x:1795428000",
        type="post_call_transcription",
        payload={
            "type": "post_call_transcription",
            "event_timestamp": 1795428000,
            "data": {"agent_id": "agent_x", "conversation_id": "conv_x", "status": "done"},
        },
    )


@pytest.mark.parametrize("secrets", [(OTHER, SECRET), (SECRET, OTHER), ("", SECRET)])
def test_the_secret_before_a_rotation_is_as_good(secrets: tuple[str, ...]) -> None:
    assert elevenlabs.verify(request(), [credential(secret) for secret in secrets], now=NOW).event_id


@pytest.mark.parametrize(
    "header",
    [
        b"t=1795428000,v0=00,v0=" + SIGNATURE,
        b"t=1795428000,v0=" + SIGNATURE + b",v0=00",
        b"t=1795428000, v0=" + SIGNATURE + b" , v1=00",
        b"v0=" + SIGNATURE + b",t=1795428000",
    ],
)
def test_several_signatures_and_spaces_are_fine(header: bytes) -> None:
    assert elevenlabs.verify(request(header), [credential(SECRET)], now=NOW).event_id


@pytest.mark.parametrize(
    ("tampered", "expected"),
    [
        (request(body=BODY + b"\n"), Cause.BAD_SIGNATURE),
        (request(HEADER.replace(b"t=1795428000", b"t=1795428001")), Cause.BAD_SIGNATURE),
        (request(HEADER.replace(b"8f55", b"8f56")), Cause.BAD_SIGNATURE),
        (request(HEADER + b",t=1795428001"), Cause.NO_SIGNATURE),
        (request(HEADER.replace(b"v0=", b"v1=")), Cause.NO_SIGNATURE),
        (request(b"v0=" + SIGNATURE), Cause.NO_SIGNATURE),
        (request(b""), Cause.NO_SIGNATURE),
        (request(b"t=1795428000,v0=\xe9\xff"), Cause.BAD_SIGNATURE),
        (replace(request(), headers=request().headers * 2), Cause.NO_SIGNATURE),
        (replace(request(), headers=()), Cause.NO_SIGNATURE),
    ],
)
def test_whatever_is_changed_is_seen(tampered: Request, expected: Cause) -> None:
    assert cause(tampered, SECRET, OTHER) is expected


@settings(deadline=None)
@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_every_byte_of_the_body_counts(position: int, change: int) -> None:
    body = bytes(byte ^ change if index == position else byte for index, byte in enumerate(BODY))
    assert cause(request(body=body), SECRET) is Cause.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        (1800, None),
        (1800.5, Cause.TOO_OLD),
        (-300, None),
        (-300.5, Cause.TOO_NEW),
    ],
)
def test_half_an_hour_late_is_fine_and_five_minutes_early(late: float, expected: Cause | None) -> None:
    if expected is None:
        assert elevenlabs.verify(request(), [credential(SECRET)], now=NOW + late).event_id
    else:
        assert cause(request(), SECRET, now=NOW + late) is expected


@pytest.mark.parametrize("timestamp", ["+1795428000", "1_795_428_000", "abc", "1795428000.0", "9" * 5000])
def test_a_time_is_ascii_digits(timestamp: str) -> None:
    assert cause(signed(b"{}", timestamp=timestamp), SECRET) is Cause.MALFORMED


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{"])
def test_a_body_that_is_no_object_is_malformed(body: bytes) -> None:
    assert cause(signed(body), SECRET) is Cause.MALFORMED


def test_without_a_secret_it_is_a_fault_of_the_configuration() -> None:
    assert cause(request(), "") is Cause.NOT_CONFIGURED


def test_a_signature_by_the_stand_in_is_worth_nothing() -> None:
    assert cause(signed(b"{}", secret="\0" * 32)) is Cause.UNKNOWN_ORG
    assert cause(signed(b"{}", secret="\0" * 32), "") is Cause.NOT_CONFIGURED


def test_nobodys_request_is_of_an_unknown_org() -> None:
    assert cause(request()) is Cause.UNKNOWN_ORG


def test_events_differ_by_type_conversation_and_time() -> None:
    bodies = [
        BODY,
        BODY.replace(b"transcription", b"audio"),
        BODY.replace(b"conv_x", b"conv_y"),
        BODY.replace(b'"event_timestamp":1795428000', b'"event_timestamp":1795428001'),
    ]
    assert len({event_id(body) for body in bodies}) == len(bodies)
    assert event_id(BODY) == event_id(BODY + b" ")


@pytest.mark.parametrize(
    "body", [b'{"type":"voice_removal_notice","data":{"a":1}}', b'{"event_timestamp":"x","data":1}']
)
def test_an_event_of_no_conversation_is_known_by_its_body(body: bytes) -> None:
    assert event_id(body) == hashlib.sha256(body).hexdigest()


@settings(deadline=None)
@given(st.binary() | st.text().map(lambda text: f"t={text},v0={text}".encode()), st.binary())
def test_anything_at_all_is_a_rejection_and_no_other_error(header: bytes, body: bytes) -> None:
    assert cause(request(header, body), SECRET)
