"""What the vendors' own libraries sign is accepted here, and what they accept or refuse is accepted or refused here."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from elevenlabs.errors import BadRequestError
from elevenlabs.webhooks_custom import WebhooksClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from svix.webhooks import Webhook, WebhookVerificationError
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from tenantvault.credentials import Credential, ElevenLabsCredential, Provider, ResendCredential, TwilioCredential
from tenantvault.secret import Secret
from tenantvault.webhooks import Cause, Request, WebhookRejected
from tenantvault.webhooks.sender import SENDERS

FORM = b"application/x-www-form-urlencoded"
HEX = "0123456789abcdef"
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
SECRETS = st.text(HEX, min_size=32, max_size=32)
KEYS = st.binary(min_size=1, max_size=64).map(lambda key: "whsec_" + base64.b64encode(key).decode())
URLS = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["hooks.example.com", "10.0.0.1"]),
    st.sampled_from(["", ":80", ":443", ":8443"]),
    st.sampled_from(["/", "/twilio/acme", "/a%20b/c;d", "/%C3%A9"]),
    st.sampled_from(["", "?a=1&b=%20&c=", "?x=a+b&x=c", "?q=%e9"]),
)
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ONE_OF_TWO = st.booleans()
IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
# What a vendor's library parses must be JSON for it.
BODIES = st.dictionaries(TEXT, TEXT | st.integers() | st.none()).map(json.dumps)


def cause(provider: Provider, request: Request, credential: Credential, *, now: float = 0) -> Cause | None:
    """Why it is rejected; None when it is not."""
    try:
        SENDERS[provider].verify(request, [credential], now=now)
    except WebhookRejected as rejection:
        return rejection.cause
    return None


def twilio_credential(key: str, algorithm: str) -> TwilioCredential:
    shared = {"webhook_shared_key": Secret(key), "webhook_algorithm": algorithm} if algorithm else {}
    token = Secret("" if algorithm else key)
    return TwilioCredential(account_sid="AC", phone_number="+1", auth_token=token, **shared)  # type: ignore[arg-type]


def from_twilio(signature: str, url: str, body: bytes, content_type: bytes = FORM) -> Request:
    headers = ((b"content-type", content_type), (b"x-twilio-signature", signature.encode("utf-8")))
    return Request(method="POST", url=url, headers=headers, body=body)


ALGORITHMS = st.sampled_from(["", "HMAC_SHA1", "HMAC_SHA256"])


@settings(deadline=None)
@given(SECRETS, ALGORITHMS, URLS, st.dictionaries(NAMES, TEXT))
@example("0" * 32, "", "https://hooks.example.com/x", {"Body": "", "From": " +1", "a": "b&c=d"})
def test_a_form_that_twilios_library_signed_is_accepted(
    key: str, algorithm: str, url: str, parameters: dict[str, str]
) -> None:
    signature = RequestValidator(key).compute_signature(url, parameters, algorithm or None)
    request = from_twilio(signature, url, urlencode(parameters).encode())
    assert cause(Provider.TWILIO, request, twilio_credential(key, algorithm)) is None


@settings(deadline=None)
@given(SECRETS, URLS, st.binary(max_size=64).map(lambda raw: base64.b64encode(raw).decode()))
def test_json_that_twilios_library_signed_is_accepted(key: str, url: str, text: str) -> None:
    body = f'"{text}"'
    whole = f"{url}{'&' if '?' in url else '?'}bodySHA256={hashlib.sha256(body.encode()).hexdigest()}"
    signature = RequestValidator(key).compute_signature(whole, {})
    request = from_twilio(signature, whole, body.encode(), b"application/json")
    assert RequestValidator(key).validate(whole, body, signature)
    assert cause(Provider.TWILIO, request, twilio_credential(key, "")) is None


@settings(deadline=None)
@given(
    key=SECRETS,
    algorithm=ALGORITHMS,
    url=URLS,
    told=URLS,
    parameters=st.dictionaries(st.sampled_from(["Body", "To", "From"]), TEXT),
    arrived=st.dictionaries(st.sampled_from(["Body", "To", "From"]), TEXT),
    same_url=ONE_OF_TWO,
    same_form=ONE_OF_TWO,
    signed_port=st.sampled_from([":443", ":80", ":8443", ""]),
)
def test_twilios_library_and_this_one_say_the_same_of_any_form(
    key: str,
    algorithm: str,
    url: str,
    told: str,
    parameters: dict[str, str],
    arrived: dict[str, str],
    same_url: bool,
    same_form: bool,
    signed_port: str,
) -> None:
    told = url if same_url else told
    arrived = parameters if same_form else arrived
    validator = RequestValidator(key)
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    signed = f"{scheme}://{host.partition(':')[0]}{signed_port}{slash}{path}"
    signature = validator.compute_signature(signed, parameters, algorithm or None)
    accepted = validator.validate(told, arrived, signature, algorithm or None)
    request = from_twilio(signature, told, urlencode(arrived).encode())
    mine = cause(Provider.TWILIO, request, twilio_credential(key, algorithm))
    assert (mine is None) is accepted


@settings(deadline=None)
@given(SECRETS, st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "1", "2"]))))
def test_repeated_names_are_signed_as_twilios_library_does(key: str, pairs: list[tuple[str, str]]) -> None:
    class Pairs(dict[str, str]):
        def getlist(self, name: str) -> list[str]:
            return [value for other, value in pairs if other == name]

    url = "https://hooks.example.com/twilio/acme"
    signature = RequestValidator(key).compute_signature(url, Pairs(pairs))
    request = from_twilio(signature, url, urlencode(pairs).encode())
    assert cause(Provider.TWILIO, request, twilio_credential(key, "")) is None


def from_svix(event_id: str, timestamp: str, signature: str, body: str) -> Request:
    headers = (
        (b"svix-id", event_id.encode()),
        (b"svix-timestamp", timestamp.encode()),
        (b"svix-signature", signature.encode()),
    )
    return Request(method="POST", url="https://hooks.example.com/resend/acme", headers=headers, body=body.encode())


def resend(secret: str) -> ResendCredential:
    return ResendCredential(api_key=Secret("k"), webhook_secret=Secret(secret))


@settings(deadline=None)
@given(KEYS, IDS, st.integers(0, 4_000_000_000), BODIES, ONE_OF_TWO, ONE_OF_TWO)
def test_what_svixs_library_signed_is_accepted(
    secret: str, event_id: str, seconds: int, body: str, prefixed: bool, padded: bool
) -> None:
    secret = secret if prefixed else secret.removeprefix("whsec_")
    secret = secret if padded else secret.rstrip("=")
    signature = Webhook(secret).sign(event_id, datetime.fromtimestamp(seconds, UTC), body)
    request = from_svix(event_id, str(seconds), f"v1,AAAA {signature}", body)
    assert cause(Provider.RESEND, request, resend(secret), now=seconds) is None


@settings(deadline=None)
@given(KEYS, IDS, st.integers(-400, 400), BODIES, st.sampled_from(["", "id", "time", "body", "secret", "signature"]))
@example(KEY, "msg_1", 297, "{}", "")
@example(KEY, "msg_1", 303, "{}", "")
@example(KEY, "msg_1", -297, "{}", "")
@example(KEY, "msg_1", -303, "{}", "")
def test_svixs_library_and_this_one_say_the_same(secret: str, event_id: str, ago: int, body: str, changed: str) -> None:
    now = time.time()
    seconds = int(now) - ago
    signature = Webhook(secret).sign(event_id, datetime.fromtimestamp(seconds, UTC), body)
    sent_id = event_id + "x" if changed == "id" else event_id
    sent_seconds = seconds + 1 if changed == "time" else seconds
    sent_body = body + " " if changed == "body" else body
    own = "whsec_" + base64.b64encode(b"another key").decode() if changed == "secret" else secret
    if changed == "signature":
        signature = signature[:3] + ("B" if signature[3] == "A" else "A") + signature[4:]
    headers = {"svix-id": sent_id, "svix-timestamp": str(sent_seconds), "svix-signature": signature}
    try:
        Webhook(own).verify(sent_body, headers)
        accepted = True
    except WebhookVerificationError:
        accepted = False
    mine = cause(Provider.RESEND, from_svix(sent_id, str(sent_seconds), signature, sent_body), resend(own), now=now)
    # Each has its own clock: what is on the edge may be either.
    if abs(abs(now - sent_seconds) - 300) > 2:
        assert (mine is None) is accepted


def from_elevenlabs(header: str, body: str) -> Request:
    return Request(
        method="POST",
        url="https://hooks.example.com/elevenlabs/acme",
        headers=((b"elevenlabs-signature", header.encode()),),
        body=body.encode(),
    )


@settings(deadline=None)
@given(
    SECRETS,
    st.integers(-1700, 2000),
    BODIES,
    st.sampled_from(["", "time", "body", "secret", "signature", "version", "no time"]),
)
def test_elevenlabs_library_and_this_one_say_the_same_but_of_the_future(
    secret: str, ago: int, body: str, changed: str
) -> None:
    now = time.time()
    seconds = int(now) - ago
    digest = hmac.new(secret.encode(), f"{seconds}.{body}".encode(), hashlib.sha256).hexdigest()
    if changed == "signature":
        digest = ("1" if digest[0] == "0" else "0") + digest[1:]
    sent_seconds = seconds + 1 if changed == "time" else seconds
    sent_body = body + " " if changed == "body" else body
    own = secret[::-1] + "x" if changed == "secret" else secret
    header = f"t={sent_seconds},{'v1' if changed == 'version' else 'v0'}={digest}"
    header = header.partition(",")[2] if changed == "no time" else header
    try:
        # It needs no client for this.
        WebhooksClient.construct_event(None, sent_body, header, own)  # type: ignore[arg-type]
        accepted = True
    except BadRequestError:
        accepted = False
    credential = ElevenLabsCredential(api_key=Secret("k"), webhook_secret=Secret(own))
    mine = cause(Provider.ELEVENLABS, from_elevenlabs(header, sent_body), credential, now=now)
    if abs(sent_seconds - now - 300) < 2 or abs(now - sent_seconds - 1800) < 2:
        return
    if sent_seconds > now + 300 and accepted:
        assert mine is Cause.TOO_NEW
    else:
        assert (mine is None) is accepted


@pytest.mark.parametrize("timestamp", ["abc", "1.5", "1e9", "-"])
def test_what_breaks_elevenlabs_library_is_a_rejection_here(timestamp: str) -> None:
    digest = hmac.new(b"secret", f"{timestamp}.{{}}".encode(), hashlib.sha256).hexdigest()
    header = f"t={timestamp},v0={digest}"
    with pytest.raises(ValueError, match="int"):
        WebhooksClient.construct_event(None, "{}", header, "secret")  # type: ignore[arg-type]
    credential = ElevenLabsCredential(api_key=Secret("k"), webhook_secret=Secret("secret"))
    assert cause(Provider.ELEVENLABS, from_elevenlabs(header, "{}"), credential) is Cause.MALFORMED
