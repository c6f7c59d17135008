"""Resend's webhooks: Svix's published example, and everything that can be changed about it."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantvault.credentials import Provider, ResendCredential
from tenantvault.secret import Secret
from tenantvault.webhooks import Cause, Event, Request, WebhookRejected, resend

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(24))).decode()
NOW = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def credential(secret: str) -> ResendCredential:
    return ResendCredential(api_key=Secret("re_x"), webhook_secret=Secret(secret))


def request(
    *,
    event_id: bytes = b"msg_p5jXN8AQM9LWM0D4loKWxJek",
    timestamp: bytes = b"1614265330",
    signature: bytes = SIGNATURE,
    body: bytes = BODY,
) -> Request:
    headers = ((b"svix-id", event_id), (b"svix-timestamp", timestamp), (b"svix-signature", signature))
    return Request(method="POST", url="https://hooks.example.com/resend/acme", headers=headers, body=body)


def signed(body: bytes, *, timestamp: bytes = b"1614265330", secret: str = SECRET) -> Request:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = b"msg_1." + timestamp + b"." + body
    signature = b"v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest())
    return request(event_id=b"msg_1", timestamp=timestamp, signature=signature, body=body)


def cause(request: Request, *secrets: str, now: float = NOW) -> Cause:
    with pytest.raises(WebhookRejected) as rejected:
        resend.verify(request, [credential(secret) for secret in secrets], now=now)
    return rejected.value.cause


def test_the_vendors_example_is_accepted() -> None:
    event = resend.verify(request(), [credential(SECRET)], now=NOW)

    assert event == Event(
        provider=Provider.RESEND, event_id="msg_p5jXN8AQM9LWM0D4loKWxJek", type="", payload={"test": 2432232314}
    )


def test_the_type_is_the_vendors_word() -> None:
    body = b'{"type":"email.bounced","data":{}}'
    assert resend.verify(signed(body), [credential(SECRET)], now=NOW).type == "email.bounced"


@pytest.mark.parametrize("secrets", [(OTHER, SECRET), (SECRET, OTHER), ("", SECRET), ("whsec_%", SECRET)])
def test_the_secret_before_a_rotation_is_as_good(secrets: tuple[str, ...]) -> None:
    assert resend.verify(request(), [credential(secret) for secret in secrets], now=NOW).event_id


@pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix("whsec_")])
def test_a_secret_may_come_without_its_prefix(secret: str) -> None:
    assert resend.verify(request(), [credential(secret)], now=NOW).event_id


def test_a_secret_may_come_without_its_padding() -> None:
    secret = "whsec_" + base64.b64encode(bytes(range(20))).decode()
    assert resend.verify(signed(b"{}", secret=secret), [credential(secret.rstrip("="))], now=NOW).event_id


@pytest.mark.parametrize(
    "signature",
    [
        b"v1,AAAA " + SIGNATURE,
        SIGNATURE + b" v1,AAAA",
        b"v1a,AAAA v2,AAAA " + SIGNATURE,
        b"v1,\xff\xfe " + SIGNATURE,
    ],
)
def test_one_right_signature_among_several_is_enough(signature: bytes) -> None:
    assert resend.verify(request(signature=signature), [credential(SECRET)], now=NOW).event_id


@pytest.mark.parametrize(
    "tampered",
    [
        request(body=BODY + b" "),
        request(body=BODY.replace(b"2432232314", b"2432232315")),
        request(event_id=b"msg_p5jXN8AQM9LWM0D4loKWxJeK"),
        request(timestamp=b"1614265331"),
        request(timestamp=b"01614265330"),
        request(signature=SIGNATURE.replace(b"g0h", b"G0h")),
        request(signature=SIGNATURE.replace(b"v1,", b"v2,")),
        request(signature=SIGNATURE[:-1]),
        request(signature=b"v1," + "é".encode("latin-1")),
    ],
    ids=range(9),
)
def test_whatever_is_changed_is_seen(tampered: Request) -> None:
    assert cause(tampered, SECRET, OTHER) in {Cause.BAD_SIGNATURE, Cause.NO_SIGNATURE}


@settings(deadline=None)
@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_every_byte_of_the_body_counts(position: int, change: int) -> None:
    body = bytes(byte ^ change if index == position else byte for index, byte in enumerate(BODY))
    assert cause(request(body=body), SECRET) is Cause.BAD_SIGNATURE


@pytest.mark.parametrize("name", [b"svix-id", b"svix-timestamp", b"svix-signature"])
@pytest.mark.parametrize("copies", [0, 2])
def test_each_header_comes_once(name: bytes, copies: int) -> None:
    whole = request()
    headers = tuple(header for header in whole.headers for _ in range(copies if header[0] == name else 1))
    assert cause(replace(whole, headers=headers), SECRET) is Cause.NO_SIGNATURE


@pytest.mark.parametrize(
    ("late", "expected"), [(-300, None), (300, None), (300.5, Cause.TOO_OLD), (-300.5, Cause.TOO_NEW)]
)
def test_the_time_is_bounded_on_both_sides(late: float, expected: Cause | None) -> None:
    if expected is None:
        assert resend.verify(request(), [credential(SECRET)], now=NOW + late).event_id
    else:
        assert cause(request(), SECRET, now=NOW + late) is expected


@pytest.mark.parametrize(
    "timestamp",
    [b"+1614265330", b" 1614265330", b"1_614_265_330", "١٦١٤٢٦٥٣٣٠".encode(), b"1614265330.0", b"9" * 5000, b"-1"],
)
def test_a_time_is_ascii_digits(timestamp: bytes) -> None:
    assert cause(signed(b"{}", timestamp=timestamp), SECRET) is Cause.MALFORMED


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b"\xff", b"[" * 100_000, b"null"])
def test_a_body_that_is_no_object_is_malformed(body: bytes) -> None:
    assert cause(signed(body), SECRET) is Cause.MALFORMED


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64!", "whsec_MfKQ%%%%", "whsec_A", "whsec_é"])
def test_a_secret_that_is_none_is_a_fault_of_the_configuration(secret: str) -> None:
    assert cause(request(), secret) is Cause.NOT_CONFIGURED
    assert cause(request(signature=b""), secret) is Cause.NOT_CONFIGURED


def test_a_wrong_signature_is_no_fault_of_a_configuration_that_was_bad_before_a_rotation() -> None:
    assert cause(request(body=b"{}"), SECRET, "") is Cause.BAD_SIGNATURE


def test_nobodys_request_is_of_an_unknown_org() -> None:
    assert cause(request()) is Cause.UNKNOWN_ORG


def test_a_signature_by_the_stand_in_is_worth_nothing() -> None:
    stand_in = "whsec_" + base64.b64encode(bytes(24)).decode()
    assert cause(signed(b"{}", secret=stand_in)) is Cause.UNKNOWN_ORG
    assert cause(signed(b"{}", secret=stand_in), "") is Cause.NOT_CONFIGURED
    assert cause(signed(b"{}", secret=stand_in), SECRET) is Cause.BAD_SIGNATURE


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"svix-id", b"svix-timestamp", b"svix-signature", b"x"]),
            st.binary() | st.sampled_from([SIGNATURE, b"1614265330"]),
        )
    ),
    st.binary(),
)
def test_anything_at_all_is_a_rejection_and_no_other_error(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    junk = Request(method="POST", url="https://hooks.example.com", headers=tuple(headers), body=body)
    assert cause(junk, SECRET)


def test_a_request_or_an_event_that_is_printed_shows_nothing_that_was_sent() -> None:
    event = resend.verify(request(), [credential(SECRET)], now=NOW)
    assert "2432232314" not in repr(event)
    assert repr(request()) == "Request(method='POST')"


def test_no_text_of_a_rejection_tells_its_cause() -> None:
    makers: list[Callable[[], object]] = [
        lambda: resend.verify(request(), [], now=NOW),
        lambda: resend.verify(request(), [credential(OTHER)], now=NOW),
        lambda: resend.verify(request(), [credential(SECRET)], now=0),
    ]
    texts = set()
    for make in makers:
        with pytest.raises(WebhookRejected) as rejected:
            make()
        texts.add(str(rejected.value))
    assert len(texts) == 1
