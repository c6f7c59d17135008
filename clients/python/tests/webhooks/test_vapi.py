"""Vapi's webhooks, in each of the ways in which they can prove themselves."""

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantvault.credentials import Provider, ResourceKind, VapiCredential
from tenantvault.secret import Secret
from tenantvault.webhooks import Cause, Request, WebhookRejected, vapi
from tenantvault.webhooks.name import Name

SECRET = "vapi-hmac-secret-example"
OTHER = "another-secret-altogether"
NOW = 1795428000
BODY = b'{"message":{"type":"status-update","status":"ended","call":{"id":"call_1"}}}'
HMACS = {"hmac-sha256": "sha256", "hmac-sha512": "sha512", "hmac-sha1": "sha1"}
SCHEMES = ["header", "bearer", *HMACS]


def credential(secret: str, scheme: str = "header") -> VapiCredential:
    return VapiCredential(api_key=Secret("k"), webhook_secret=Secret(secret), webhook_scheme=scheme)


def request(body: bytes = BODY, **headers: bytes) -> Request:
    return Request(
        method="POST",
        url="https://hooks.example.com/vapi/acme",
        headers=tuple((name.replace("_", "-").encode(), value) for name, value in headers.items()),
        body=body,
    )


def proven(scheme: str, body: bytes = BODY, *, secret: str = SECRET, timestamp: str = "1795428000") -> Request:
    match scheme:
        case "header":
            return request(body, x_vapi_secret=secret.encode())
        case "bearer":
            return request(body, authorization=b"Bearer " + secret.encode())
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, HMACS[scheme]).hexdigest()
    return request(body, x_signature=digest.encode(), x_timestamp=timestamp.encode())


def cause(request: Request, *credentials: VapiCredential, now: float = NOW) -> Cause:
    with pytest.raises(WebhookRejected) as rejected:
        vapi.verify(request, credentials, now=now)
    return rejected.value.cause


def event_id(message: dict[str, Any]) -> str:
    body = json.dumps({"message": message}).encode()
    return vapi.verify(proven("header", body), [credential(SECRET)], now=NOW).event_id


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_proves_itself_in_the_stored_way_is_accepted(scheme: str) -> None:
    event = vapi.verify(proven(scheme), [credential(SECRET, scheme)], now=NOW)

    assert (event.provider, event.type, event.event_id) == (
        Provider.VAPI,
        "status-update",
        "call_1:status-update:ended",
    )
    assert event.payload == json.loads(BODY)


def test_a_signature_is_over_time_and_body() -> None:
    # By `printf '1795428000.{}' | openssl dgst -sha256 -hmac vapi-hmac-secret-example`, told by the start of it.
    expected = hmac.new(SECRET.encode(), b"1795428000.{}", hashlib.sha256).hexdigest()
    assert expected.startswith("a8c1ce393b84")
    bare = request(b"{}", x_signature=expected.encode(), x_timestamp=b"1795428000")
    assert cause(bare, credential(SECRET, "hmac-sha256")) is Cause.MALFORMED  # it has no type; its signature was right


@pytest.mark.parametrize("stored", SCHEMES)
@pytest.mark.parametrize("used", SCHEMES)
def test_the_way_is_the_stored_one_and_not_the_senders_choice(stored: str, used: str) -> None:
    if stored == used:
        return
    wrong = cause(proven(used), credential(SECRET, stored))
    both_macs = stored in HMACS and used in HMACS
    assert wrong is (Cause.BAD_SIGNATURE if both_macs else Cause.NO_SIGNATURE)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("before", SCHEMES)
def test_the_secret_before_a_rotation_is_as_good_in_its_own_way(scheme: str, before: str) -> None:
    both = [credential(OTHER, scheme), credential(SECRET, before)]
    assert vapi.verify(proven(before), both, now=NOW).event_id
    assert vapi.verify(proven(scheme, secret=OTHER), both, now=NOW).event_id


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_secret_is_seen(scheme: str) -> None:
    assert cause(proven(scheme, secret=OTHER), credential(SECRET, scheme)) is Cause.BAD_SIGNATURE
    assert cause(proven(scheme, secret=SECRET[:-1]), credential(SECRET, scheme)) is Cause.BAD_SIGNATURE


@pytest.mark.parametrize("scheme", HMACS)
def test_body_time_and_signature_are_covered(scheme: str) -> None:
    good = proven(scheme)
    signature = good.header(b"x-signature") or b""
    flipped = (b"0" if signature[:1] != b"0" else b"1") + signature[1:]
    for tampered in (
        replace(good, body=BODY + b" "),
        replace(good, headers=((b"x-signature", signature), (b"x-timestamp", b"1795428001"))),
        replace(good, headers=((b"x-signature", flipped), (b"x-timestamp", b"1795428000"))),
        replace(good, headers=((b"x-signature", b"\xe9"), (b"x-timestamp", b"1795428000"))),
        replace(good, headers=((b"x-signature", signature),)),
    ):
        assert cause(tampered, credential(SECRET, scheme)) is Cause.BAD_SIGNATURE


@settings(deadline=None)
@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_every_byte_of_a_signed_body_counts(position: int, change: int) -> None:
    body = bytes(byte ^ change if index == position else byte for index, byte in enumerate(BODY))
    tampered = replace(proven("hmac-sha256"), body=body)
    assert cause(tampered, credential(SECRET, "hmac-sha256")) is Cause.BAD_SIGNATURE


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_request_without_a_proof_has_none(scheme: str) -> None:
    assert cause(request(), credential(SECRET, scheme)) is Cause.NO_SIGNATURE


@pytest.mark.parametrize("authorization", [b"Basic abc", b"bearer", b"Bearer", b"Bearer ", b"", SECRET.encode()])
def test_a_bearer_is_announced_as_one(authorization: bytes) -> None:
    assert cause(request(authorization=authorization), credential(SECRET, "bearer")) is Cause.NO_SIGNATURE


def test_the_word_bearer_may_be_written_in_any_case() -> None:
    sent = request(authorization=b"bEaReR " + SECRET.encode())
    assert vapi.verify(sent, [credential(SECRET, "bearer")], now=NOW).event_id


def test_a_signature_may_be_written_in_upper_case() -> None:
    good = proven("hmac-sha256")
    upper = tuple((name, value.upper()) for name, value in good.headers)
    assert vapi.verify(replace(good, headers=upper), [credential(SECRET, "hmac-sha256")], now=NOW).event_id


@pytest.mark.parametrize("unit", [1, 1000])
@pytest.mark.parametrize(("late", "expected"), [(300, None), (-300, None), (301, Cause.TOO_OLD), (-301, Cause.TOO_NEW)])
def test_a_time_may_be_in_seconds_or_milliseconds_and_is_bounded(unit: int, late: int, expected: Cause | None) -> None:
    sent = proven("hmac-sha256", timestamp=str(NOW * unit))
    if expected is None:
        assert vapi.verify(sent, [credential(SECRET, "hmac-sha256")], now=NOW + late).event_id
    else:
        assert cause(sent, credential(SECRET, "hmac-sha256"), now=NOW + late) is expected


@pytest.mark.parametrize("timestamp", ["", "+1795428000", "1_795_428_000", "1e9", "9" * 5000])
def test_a_time_is_ascii_digits(timestamp: str) -> None:
    sent = proven("hmac-sha256", timestamp=timestamp)
    assert cause(sent, credential(SECRET, "hmac-sha256")) is Cause.MALFORMED


@pytest.mark.parametrize("scheme", ["", "hmac-md5", "hmac-", "sha256", "none"])
def test_a_way_that_nobody_knows_is_a_fault_of_the_configuration(scheme: str) -> None:
    assert cause(proven("header"), credential(SECRET, scheme)) is Cause.NOT_CONFIGURED


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_secret_is_a_fault_of_the_configuration_and_matches_nothing(scheme: str) -> None:
    assert cause(proven(scheme, secret=""), credential("", scheme)) is Cause.NOT_CONFIGURED
    assert cause(proven(scheme, secret="\0" * 32), credential("", scheme)) is Cause.NOT_CONFIGURED
    assert cause(proven(scheme, secret="\0" * 32)) is Cause.UNKNOWN_ORG


def test_a_secret_outside_ascii_is_compared_as_bytes() -> None:
    sent = proven("header", secret="géheim")
    assert vapi.verify(sent, [credential("géheim")], now=NOW).event_id
    assert cause(request(x_vapi_secret="géheim".encode("latin-1")), credential("géheim")) is Cause.BAD_SIGNATURE


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"message":1}', b'{"message":{"type":7}}', b"\xff"])
def test_a_body_without_a_type_is_malformed(body: bytes) -> None:
    assert cause(proven("header", body), credential(SECRET)) is Cause.MALFORMED


def test_the_same_status_of_a_call_is_one_event_whatever_else_is_in_it() -> None:
    update = {"type": "status-update", "status": "ended", "call": {"id": "c"}, "timestamp": 1}
    assert event_id(update) == event_id({**update, "timestamp": 2})
    assert event_id(update) != event_id({**update, "status": "ringing"})
    assert event_id(update) != event_id({**update, "call": {"id": "d"}})
    assert event_id(update) != event_id({**update, "type": "end-of-call-report"})


@pytest.mark.parametrize("kind", ["speech-update", "conversation-update", "transcript", "tool-calls"])
def test_what_comes_often_in_a_call_differs_by_its_body(kind: str) -> None:
    update = {"type": kind, "status": "started", "call": {"id": "c"}, "timestamp": 1}
    assert event_id(update) == event_id(dict(update))
    assert event_id(update) != event_id({**update, "timestamp": 2})


def test_questions_want_a_reply() -> None:
    asked = set()
    for kind in (
        "assistant-request",
        "tool-calls",
        "transfer-destination-request",
        "hang",
        "status-update",
        "unheard-of",
    ):
        sent = proven("header", json.dumps({"message": {"type": kind}}).encode())
        if vapi.verify(sent, [credential(SECRET)], now=NOW).wants_reply:
            asked.add(kind)
    assert asked == {"assistant-request", "tool-calls", "transfer-destination-request"}


def test_a_body_names_assistant_and_number_each_once() -> None:
    message = {
        "call": {"assistantId": "a1"},
        "assistant": {"id": "a1"},
        "phoneNumber": {"id": "pn", "number": "+14155550100"},
        "customer": {"number": "+14155550199"},
    }
    assert vapi.names(request(json.dumps({"message": message}).encode())) == (
        Name(ResourceKind.VAPI_ASSISTANT, "a1"),
        Name(ResourceKind.PHONE_NUMBER, "+14155550100"),
    )


@pytest.mark.parametrize("body", [b"", b"{}", b'{"message":[]}', b'{"message":{"call":7,"assistant":{"id":9}}}'])
def test_a_body_that_names_nothing_names_nothing(body: bytes) -> None:
    assert vapi.names(request(body)) == ()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([b"x-vapi-secret", b"authorization", b"x-signature", b"x-timestamp"]), st.binary())
    ),
    st.binary(),
    st.sampled_from(SCHEMES),
)
def test_anything_at_all_is_a_rejection_and_no_other_error(
    headers: list[tuple[bytes, bytes]], body: bytes, scheme: str
) -> None:
    assert cause(replace(request(body), headers=tuple(headers)), credential(SECRET, scheme))
