"""Google Calendar's notifications."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantvault.credentials import GoogleCalendarCredential, Provider
from tenantvault.secret import Secret
from tenantvault.webhooks import Cause, Event, Request, WebhookRejected, google

TOKEN = "random-channel-token-of-acme"
HEADERS = {
    b"x-goog-channel-id": b"4ba78bf0-6a47-11e2-bcfd-0800200c9a66",
    b"x-goog-channel-token": TOKEN.encode(),
    b"x-goog-channel-expiration": b"Tue, 24 Nov 2026 20:00:00 GMT",
    b"x-goog-resource-id": b"ret08u3rv24htgh289g",
    b"x-goog-resource-uri": b"https://www.googleapis.com/calendar/v3/calendars/primary/events",
    b"x-goog-resource-state": b"exists",
    b"x-goog-message-number": b"10",
}


def credential(token: str) -> GoogleCalendarCredential:
    return GoogleCalendarCredential(
        refresh_token=Secret("r"),
        access_token=Secret("a"),
        expires_at=datetime(2026, 11, 24, tzinfo=UTC),
        scopes=(),
        channel_token=Secret(token),
    )


def request(**changes: bytes | None) -> Request:
    headers = {**HEADERS, **{name.replace("_", "-").encode(): value for name, value in changes.items()}}
    return Request(
        method="POST",
        url="https://hooks.example.com/googleCalendar/acme",
        headers=tuple((name, value) for name, value in headers.items() if value is not None),
        body=b"",
    )


def cause(request: Request, *tokens: str) -> Cause:
    with pytest.raises(WebhookRejected) as rejected:
        google.verify(request, [credential(token) for token in tokens], now=0)
    return rejected.value.cause


def test_a_notification_with_the_channels_token_is_accepted() -> None:
    assert google.verify(request(), [credential(TOKEN)], now=0) == Event(
        provider=Provider.GOOGLE_CALENDAR,
        event_id="4ba78bf0-6a47-11e2-bcfd-0800200c9a66:10",
        type="exists",
        payload={
            "channelId": "4ba78bf0-6a47-11e2-bcfd-0800200c9a66",
            "resourceId": "ret08u3rv24htgh289g",
            "resourceUri": "https://www.googleapis.com/calendar/v3/calendars/primary/events",
            "resourceState": "exists",
            "messageNumber": "10",
            "expiration": "Tue, 24 Nov 2026 20:00:00 GMT",
        },
    )


@pytest.mark.parametrize("tokens", [("other", TOKEN), (TOKEN, "other"), ("", TOKEN)])
def test_the_token_before_a_rotation_is_as_good(tokens: tuple[str, ...]) -> None:
    assert google.verify(request(), [credential(token) for token in tokens], now=0).event_id


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (b"", Cause.NO_SIGNATURE),
        (None, Cause.NO_SIGNATURE),
        (TOKEN.encode()[:-1], Cause.BAD_SIGNATURE),
        (TOKEN.encode() + b" ", Cause.BAD_SIGNATURE),
        (TOKEN.upper().encode(), Cause.BAD_SIGNATURE),
        (b"\xe9\xff", Cause.BAD_SIGNATURE),
    ],
)
def test_another_token_is_seen(token: bytes | None, expected: Cause) -> None:
    assert cause(request(x_goog_channel_token=token), TOKEN, "other") is expected


def test_two_tokens_are_none() -> None:
    whole = request()
    doubled = replace(whole, headers=(*whole.headers, (b"x-goog-channel-token", b"guess")))
    assert cause(doubled, TOKEN) is Cause.NO_SIGNATURE


@pytest.mark.parametrize("token", [b"", None, b"\0" * 32])
def test_no_token_matches_a_credential_without_one(token: bytes | None) -> None:
    assert cause(request(x_goog_channel_token=token), "") is Cause.NOT_CONFIGURED
    assert cause(request(x_goog_channel_token=token)) is Cause.UNKNOWN_ORG


@pytest.mark.parametrize(
    "malformed",
    [
        request(x_goog_channel_id=None),
        request(x_goog_channel_id=b"i" * 65),
        request(x_goog_resource_state=None),
        request(x_goog_message_number=None),
        request(x_goog_message_number=b"+1"),
        request(x_goog_message_number=b"1" * 16),
    ],
)
def test_a_notification_names_its_channel_and_number(malformed: Request) -> None:
    assert cause(malformed, TOKEN) is Cause.MALFORMED


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(HEADERS)), st.binary())))
def test_anything_at_all_is_a_rejection_and_no_other_error(headers: list[tuple[bytes, bytes]]) -> None:
    assert cause(replace(request(), headers=tuple(headers)), TOKEN)
