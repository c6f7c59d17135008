"""Twilio's webhooks: the vendor's examples, and everything that can be changed about them."""

import base64
import hmac
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantvault.credentials import Provider, ResourceKind, TwilioCredential
from tenantvault.secret import Secret
from tenantvault.webhooks import Cause, Event, Request, WebhookRejected, twilio
from tenantvault.webhooks.name import Name

TOKEN = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
SHARED = "sharedkey-secret-example"
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
PARAMETERS = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}
FORM = b"application/x-www-form-urlencoded"
JSON_BODY = b'{"property": "value", "boolean": true}'
JSON_URL = "https://mycompany.com/myapp.php?bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"


def credential(token: str = TOKEN, *, shared: str = "", algorithm: str = "") -> TwilioCredential:
    return TwilioCredential(
        account_sid="AC" + "0" * 32,
        auth_token=Secret(token),
        phone_number="+18005551212",
        webhook_shared_key=Secret(shared),
        webhook_algorithm=algorithm,
    )


def request(
    signature: bytes,
    *,
    url: str = URL,
    body: bytes = urlencode(PARAMETERS).encode(),
    content_type: bytes = FORM,
    method: str = "POST",
) -> Request:
    headers = ((b"content-type", content_type), (b"x-twilio-signature", signature))
    return Request(method=method, url=url, headers=headers, body=body)


def sign(text: str, *, key: str = TOKEN, algorithm: str = "sha1") -> bytes:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), algorithm).digest())


def form(parameters: Mapping[str, str], *, url: str = URL) -> Request:
    text = url + "".join(name + parameters[name] for name in sorted(parameters))
    return request(sign(text), url=url, body=urlencode(parameters).encode())


def verify(request: Request, *credentials: TwilioCredential) -> Event:
    return twilio.verify(request, credentials or (credential(),), now=0)


def cause(request: Request, *credentials: TwilioCredential) -> Cause:
    with pytest.raises(WebhookRejected) as rejected:
        verify(request, *credentials)
    return rejected.value.cause


EXAMPLE = request(b"OU1WNrv5EWwq8SZHNvRqJi4IiXk=")
JSON_EXAMPLE = request(b"u1s2MuvQwQai0R7Z+gs1pYGqKYw=", url=JSON_URL, body=JSON_BODY, content_type=b"application/json")
JSON_AS_FORM = replace(JSON_EXAMPLE, headers=((b"content-type", FORM), JSON_EXAMPLE.headers[1]))


@pytest.mark.parametrize(
    ("example", "own"),
    [
        (EXAMPLE, credential()),
        (request(b"RSOYDt4T1cUTdK1PDd93/VVr8B8="), credential("12345")),
        (request(b"Jn/RNZTvTNdpAKR+KJKSRxtdJZk=", body=urlencode({**PARAMETERS, "Body": ""}).encode()), credential()),
        (JSON_EXAMPLE, credential()),
        (
            request(b"q1AIuP6vZfRNgyCeb1KtUhFlOKkfeGH9JFCr9251y5w="),
            credential(shared=SHARED, algorithm="HMAC_SHA256"),
        ),
        (request(b"q1AIuP6vZfRNgyCeb1KtUhFlOKkfeGH9JFCr9251y5w="), credential("", shared=SHARED)),
    ],
)
def test_what_the_vendors_own_library_signed_is_accepted(example: Request, own: TwilioCredential) -> None:
    assert verify(example, own).provider is Provider.TWILIO


def test_a_form_becomes_a_dictionary_with_its_blanks() -> None:
    event = verify(form({"MessageSid": "SM1", "SmsStatus": "received", "Body": " ", "MediaUrl": ""}))

    assert event.payload == {"MessageSid": "SM1", "SmsStatus": "received", "Body": " ", "MediaUrl": ""}
    assert (event.type, event.wants_reply) == ("message.received", False)


def test_json_is_parsed() -> None:
    assert verify(JSON_EXAMPLE).payload == {"property": "value", "boolean": True}


def test_a_repeated_name_is_signed_and_given_by_its_distinct_values_in_order() -> None:
    sent = request(sign(URL + "MediaUrlaMediaUrlb"), body=b"MediaUrl=b&MediaUrl=a&MediaUrl=b")
    assert verify(sent).payload == {"MediaUrl": ("a", "b")}


def test_a_get_is_signed_by_its_url_alone_and_its_query_is_the_payload() -> None:
    url = "https://mycompany.com/voice?CallSid=CA1&CallStatus=ringing&Empty="
    event = verify(request(sign(url), url=url, body=b"", method="GET"))

    assert event.payload == {"CallSid": "CA1", "CallStatus": "ringing", "Empty": ""}
    assert event.type == "call.ringing"


@pytest.mark.parametrize("told", ["https://mycompany.com", "https://mycompany.com:443", "https://mycompany.com:8443"])
@pytest.mark.parametrize("port", ["", ":443", ":8443"])
def test_the_port_may_be_signed_or_left_out(told: str, port: str) -> None:
    sent = request(sign(f"https://mycompany.com{port}/x?a=%20b"), url=f"{told}/x?a=%20b", body=b"")
    default = {"", ":443"}
    own = told.removeprefix("https://mycompany.com")
    if port in {"", own} or {own, port} <= default:
        assert verify(sent).provider is Provider.TWILIO
    else:
        assert cause(sent) is Cause.BAD_SIGNATURE


def test_a_port_of_plain_http_is_80() -> None:
    assert verify(request(sign("http://[::1]:80/x"), url="http://[::1]/x", body=b"")).event_id


@pytest.mark.parametrize(
    "before", [(credential(OTHER), credential()), (credential(), credential(OTHER)), (credential(""), credential())]
)
def test_the_token_before_a_rotation_is_as_good(before: tuple[TwilioCredential, ...]) -> None:
    assert verify(EXAMPLE, *before).event_id


@pytest.mark.parametrize(
    ("tampered", "expected"),
    [
        (replace(EXAMPLE, body=EXAMPLE.body.replace(b"1234", b"1235")), Cause.BAD_SIGNATURE),
        (replace(EXAMPLE, body=EXAMPLE.body + b"&Body="), Cause.BAD_SIGNATURE),
        (replace(EXAMPLE, body=EXAMPLE.body.replace(b"Digits", b"Digit")), Cause.BAD_SIGNATURE),
        (replace(EXAMPLE, body=EXAMPLE.body.replace(b"&Digits=1234", b"")), Cause.BAD_SIGNATURE),
        (replace(EXAMPLE, url=URL.replace("foo=1", "foo=2")), Cause.BAD_SIGNATURE),
        (replace(EXAMPLE, url=URL.replace("https", "http")), Cause.BAD_SIGNATURE),
        (replace(EXAMPLE, url=URL.replace("mycompany", "yourcompany")), Cause.BAD_SIGNATURE),
        (replace(EXAMPLE, url=URL + "#x"), Cause.BAD_SIGNATURE),
        (replace(EXAMPLE, url="ftp://mycompany.com"), Cause.MALFORMED),
        (replace(EXAMPLE, method="GET"), Cause.BAD_SIGNATURE),
        (request(b"OU1WNrv5EWwq8SZHNvRqJi4IiXk"), Cause.BAD_SIGNATURE),
        (request("é".encode("latin-1")), Cause.BAD_SIGNATURE),
        (request(b""), Cause.NO_SIGNATURE),
        (replace(EXAMPLE, headers=EXAMPLE.headers[:1]), Cause.NO_SIGNATURE),
        (replace(EXAMPLE, headers=EXAMPLE.headers + EXAMPLE.headers[1:]), Cause.NO_SIGNATURE),
        (replace(EXAMPLE, headers=EXAMPLE.headers[1:]), Cause.BAD_SIGNATURE),
        (replace(JSON_EXAMPLE, body=JSON_BODY + b" "), Cause.BAD_SIGNATURE),
        (replace(JSON_EXAMPLE, url=JSON_URL.replace("0a1f", "0a1e")), Cause.BAD_SIGNATURE),
        (replace(JSON_AS_FORM, body=b""), Cause.BAD_SIGNATURE),
        (request(sign(URL), body=JSON_BODY, content_type=b"application/json"), Cause.NO_SIGNATURE),
        (request(sign(URL), body=JSON_BODY, content_type=b"text/plain"), Cause.NO_SIGNATURE),
        (request(sign(URL), body=b"a=%ff"), Cause.MALFORMED),
        (request(sign(URL), body=b"\xff"), Cause.MALFORMED),
        (request(sign(URL), body=b"&".join([b"a=1"] * 1001)), Cause.MALFORMED),
    ],
)
def test_whatever_is_changed_is_seen(tampered: Request, expected: Cause) -> None:
    assert cause(tampered, credential(), credential(OTHER)) is expected


@settings(deadline=None)
@given(st.sampled_from(sorted(PARAMETERS)), st.text(alphabet="0123456789", min_size=1))
def test_every_parameter_counts(name: str, value: str) -> None:
    changed = {**PARAMETERS, name: value}
    if changed != PARAMETERS:
        assert cause(replace(EXAMPLE, body=urlencode(changed).encode())) is Cause.BAD_SIGNATURE


def test_the_order_of_parameters_does_not_count() -> None:
    body = urlencode(dict(reversed(PARAMETERS.items()))).encode()
    assert verify(replace(EXAMPLE, body=body)) == verify(EXAMPLE)


def test_an_api_keys_secret_signs_nothing() -> None:
    only_key = replace(credential(""), api_key_sid="SK" + "0" * 32, api_key_secret=Secret(TOKEN))
    assert cause(EXAMPLE, only_key) is Cause.NOT_CONFIGURED


@pytest.mark.parametrize("settings", [b"key=k,algorithm=HMAC_SHA1", b"key=other,algorithm=HMAC_SHA256"])
def test_the_algorithm_is_the_stored_one_and_not_the_senders_choice(settings: bytes) -> None:
    text = URL + "".join(name + PARAMETERS[name] for name in sorted(PARAMETERS))
    own = credential(shared=SHARED, algorithm="HMAC_SHA256")
    header = (b"x-twilio-webhooks-signature-settings", settings)
    weaker = request(sign(text, key=SHARED))
    right = request(sign(text, key=SHARED, algorithm="sha256"))

    assert cause(replace(weaker, headers=(*weaker.headers, header)), own) is Cause.BAD_SIGNATURE
    assert verify(replace(right, headers=(*right.headers, header)), own).event_id


def test_with_a_shared_key_the_auth_token_signs_nothing() -> None:
    assert cause(EXAMPLE, credential(shared=SHARED)) is Cause.BAD_SIGNATURE
    assert cause(EXAMPLE, credential(shared=TOKEN, algorithm="HMAC_SHA256")) is Cause.BAD_SIGNATURE
    assert verify(EXAMPLE, credential("", shared=TOKEN, algorithm="HMAC_SHA1")).event_id


@pytest.mark.parametrize("own", [credential(""), credential(shared=SHARED, algorithm="HMAC_MD5")])
def test_no_key_or_no_known_algorithm_is_a_fault_of_the_configuration(own: TwilioCredential) -> None:
    assert cause(EXAMPLE, own) is Cause.NOT_CONFIGURED


def test_a_signature_by_the_stand_in_is_worth_nothing() -> None:
    text = URL + "".join(name + PARAMETERS[name] for name in sorted(PARAMETERS))
    forged = request(sign(text, key="\0" * 32))
    assert cause(forged, credential("")) is Cause.NOT_CONFIGURED
    with pytest.raises(WebhookRejected) as rejected:
        twilio.verify(forged, (), now=0)
    assert rejected.value.cause is Cause.UNKNOWN_ORG


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"MessageSid": "SM1", "MessageStatus": "sent", "SmsStatus": "old"}, ("message.sent", False)),
        ({"SmsSid": "SM2", "SmsStatus": "delivered"}, ("message.delivered", False)),
        ({"CallSid": "CA1", "CallStatus": "completed"}, ("call.completed", False)),
        (
            {"CallSid": "CA1", "CallStatus": "in-progress", "CallbackSource": "call-progress-events"},
            ("call.in-progress", False),
        ),
        ({"CallSid": "CA1", "CallStatus": "in-progress"}, ("call.in-progress", True)),
        ({"MessageSid": "IM1", "EventType": "onMessageAdded"}, ("onMessageAdded", False)),
        ({"AccountSid": "AC1"}, ("event", False)),
    ],
)
def test_what_is_said_of_a_message_or_call_is_told_by_its_parameters(
    parameters: dict[str, str], expected: tuple[str, bool]
) -> None:
    event = verify(form(parameters))
    assert (event.type, event.wants_reply) == expected


ENDED = {"AccountSid": "AC1", "CallSid": "CA1", "CallStatus": "completed"}
IN_CONVERSATION = {"AccountSid": "AC1", "MessageSid": "IM1", "ConversationSid": "CH1"}


@pytest.mark.parametrize(
    "events",
    [
        [
            ENDED | {"CallbackSource": "call-progress-events", "CallDuration": "3"},
            ENDED | {"RecordingUrl": "https://api.twilio.com/r", "Digits": "hangup"},
            ENDED | {"TranscriptionText": "please call back", "TranscriptionStatus": "completed"},
            ENDED | {"DialCallStatus": "no-answer"},
        ],
        [IN_CONVERSATION | {"EventType": f"onMessage{what}"} for what in ("Added", "Updated", "Removed")],
    ],
)
def test_different_events_of_one_call_or_message_have_different_ids(events: list[dict[str, str]]) -> None:
    assert len({verify(form(parameters)).event_id for parameters in events}) == len(events)


WHOLE = {
    "AccountSid": "AC1",
    "Body": "yes",
    "From": "+14158675309",
    "MessageSid": "SM1",
    "SmsStatus": "received",
    "To": "+18005551212",
}


@pytest.mark.parametrize(
    "cut",
    [
        {**{k: v for k, v in WHOLE.items() if k != "SmsStatus"}, "MessageSid": "SM1SmsStatusreceived"},
        {**{k: v for k, v in WHOLE.items() if k != "MessageSid"}, "From": "+14158675309MessageSidSM1"},
        {**{k: v for k, v in WHOLE.items() if k != "From"}, "Body": "yesFrom+14158675309"},
        {"AccountSid": "".join(name + value for name, value in WHOLE.items()).removeprefix("AccountSid")},
        {"A": "".join(name + value for name, value in WHOLE.items()).removeprefix("A")},
    ],
)
def test_one_signed_text_is_one_event_however_it_is_cut(cut: dict[str, str]) -> None:
    whole = form(WHOLE)
    again = verify(replace(whole, body=urlencode(cut).encode()))
    assert again.payload == cut
    assert again.event_id == verify(whole).event_id


def test_parameters_moved_into_the_url_are_the_same_event() -> None:
    whole = form(WHOLE)
    moved = URL + "".join(name + value for name, value in WHOLE.items())
    assert verify(replace(whole, url=moved, body=b"")).event_id == verify(whole).event_id
    assert verify(replace(whole, url=moved, body=b"", method="GET")).event_id == verify(whole).event_id


@settings(deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=5), min_size=4, max_size=4), st.sets(st.sampled_from("BCD"))
)
def test_any_cut_of_a_signed_text_has_one_id(values: list[str], joined: set[str]) -> None:
    pairs = list(zip("ABCD", values, strict=True))
    cut: list[list[str]] = []
    for name, value in pairs:
        if name in joined:
            cut[-1][1] += name + value
        else:
            cut.append([name, value])
    signature = sign(URL + "".join(name + value for name, value in zip("ABCD", values, strict=True)))
    whole = request(signature, body=urlencode(pairs).encode())
    again = request(signature, body=urlencode([(name, value) for name, value in cut]).encode())
    assert verify(again).event_id == verify(whole).event_id


def test_a_delivery_that_is_tried_again_is_the_same_event_whatever_is_not_signed_says() -> None:
    sent = form(WHOLE)
    again = replace(sent, headers=(*sent.headers, (b"i-twilio-idempotency-token", b"another")))
    assert verify(again).event_id == verify(sent).event_id


def test_one_event_told_to_a_url_with_and_without_its_port_has_one_id() -> None:
    with_port = form(WHOLE, url=URL.replace(".com/", ".com:443/"))
    assert verify(with_port).event_id == verify(form(WHOLE)).event_id


def test_two_accounts_are_what_twilio_never_sends() -> None:
    sent = request(sign(URL + "AccountSidAC1AccountSidAC2"), body=b"AccountSid=AC1&AccountSid=AC2")
    assert cause(sent) is Cause.MALFORMED


def test_a_call_that_asks_what_to_do_next_asks_anew_each_time() -> None:
    asked = {"CallSid": "CA1", "CallStatus": "in-progress"}
    events = [verify(form({**asked, "Digits": digits})) for digits in "121"]

    assert all(event.wants_reply for event in events)
    assert len({event.event_id for event in events}) == 2


def test_what_has_no_id_is_known_by_all_that_is_signed() -> None:
    ids = {verify(form({"EventType": "onX"})).event_id, verify(form({"EventType": "onY"})).event_id}
    ids |= {verify(form({"EventType": "onX"}, url=URL + "&c=3")).event_id, verify(JSON_EXAMPLE).event_id}
    assert len(ids) == 4
    assert verify(form({"EventType": "onX"})).type == "onX"


def test_a_form_names_its_account_and_helps_to_find_the_org_by_the_number_called() -> None:
    sent = form({"AccountSid": "AC1", "To": "whatsapp:+18005551212", "From": "whatsapp:+14158675309"})
    assert twilio.names(sent) == (
        Name(ResourceKind.TWILIO_ACCOUNT, "AC1"),
        Name(ResourceKind.PHONE_NUMBER, "+18005551212", binding=False),
    )


@pytest.mark.parametrize(
    "nameless",
    [
        JSON_EXAMPLE,
        request(b"", body=b"\xff"),
        request(b"", body=b"AccountSid=&To="),
        request(b"", body=b"AccountSid=AC1&AccountSid=AC2&To=1&To=2"),
    ],
)
def test_what_names_nothing_names_nothing(nameless: Request) -> None:
    assert twilio.names(nameless) == ()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"x-twilio-signature", b"content-type"]), st.binary() | st.just(FORM))),
    st.binary(),
    st.sampled_from(["GET", "POST"]),
    st.text(alphabet=st.characters(max_codepoint=255)).map("https://hooks.example.com/{}".format),
)
def test_anything_at_all_is_a_rejection_and_no_other_error(
    headers: list[tuple[bytes, bytes]], body: bytes, method: str, url: str
) -> None:
    assert cause(Request(method=method, url=url, headers=tuple(headers), body=body))
