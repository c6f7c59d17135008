import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from gateway import views
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import integration_service_pb2 as provider_pb
from tests.unit.gateway.fakes import connected_twilio, connected_vapi


@pytest.mark.parametrize(
    ("state", "name", "connected"),
    [
        (pb.INTEGRATION_STATE_UNSPECIFIED, "empty", False),
        (pb.INTEGRATION_STATE_EMPTY, "empty", False),
        (pb.INTEGRATION_STATE_CONNECTING, "connecting", False),
        (pb.INTEGRATION_STATE_CONNECTED, "connected", True),
        (pb.INTEGRATION_STATE_REFUSED, "refused", False),
        (pb.INTEGRATION_STATE_DISCONNECTED, "disconnected", False),
    ],
)
def test_only_a_provider_that_said_yes_is_connected(
    state: pb.IntegrationState.ValueType,
    name: str,
    connected: bool,
) -> None:
    view = views.integration(pb.Integration(provider=pb.PROVIDER_VAPI, state=state))
    assert view == {"connected": connected, "state": name}


def test_every_state_of_the_contract_has_a_name() -> None:
    names = {views.integration(pb.Integration(state=state))["state"] for state in pb.IntegrationState.values()}
    assert names == {"empty", "connecting", "connected", "refused", "disconnected"}


def test_a_refusal_shows_its_sentence() -> None:
    shown = pb.Integration(state=pb.INTEGRATION_STATE_REFUSED, version=3, verification_error="No.", hint="••••1234")
    assert views.integration(shown) == {
        "connected": False,
        "state": "refused",
        "error": "No.",
        "version": 3,
        "hint": "••••1234",
    }


def test_an_integration_shows_what_it_warns_of_whose_it_is_and_why_it_was_refused() -> None:
    shown = pb.Integration(
        provider=pb.PROVIDER_RESEND,
        state=pb.INTEGRATION_STATE_REFUSED,
        warnings=["One.", "Two."],
        account="Acme Ltd",
        verification_error="No.",
        verification_reason="INVALID_CREDENTIALS",
    )
    assert views.integration(shown) == {
        "connected": False,
        "state": "refused",
        "warnings": ["One.", "Two."],
        "account": "Acme Ltd",
        "error": "No.",
        "reason": "INVALID_CREDENTIALS",
    }


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_rotation_that_is_due_says_when_and_who_does_it(by_itself: bool) -> None:
    shown = pb.Integration(rotation_due_at=Timestamp(seconds=1795428000), rotates_by_itself=by_itself)
    view = views.integration(shown)
    assert (view["rotationDueAt"], view["rotatesByItself"]) == ("2026-11-23T10:00:00.000Z", by_itself)
    assert "rotatesByItself" not in views.integration(pb.Integration(rotates_by_itself=by_itself))


@pytest.mark.parametrize("provider", [pb.PROVIDER_GOOGLE_CALENDAR, pb.PROVIDER_RESEND])
def test_the_account_of_google_calendar_is_an_email_address(provider: "pb.Provider.ValueType") -> None:
    view = views.integration(pb.Integration(provider=provider, account="ada@acme.example"))
    assert view["account"] == "ada@acme.example"
    assert ("email" in view) == (provider == pb.PROVIDER_GOOGLE_CALENDAR)


def test_a_trial_that_was_refused_names_the_field_as_the_interface_does() -> None:
    answer = provider_pb.TestCredentialResponse(reason="INVALID_CREDENTIALS", message="No.", field="auth_token")
    assert views.trial(answer) == {
        "accepted": False,
        "error": "No.",
        "code": "INVALID_CREDENTIALS",
        "field": "authToken",
    }
    assert views.trial(provider_pb.TestCredentialResponse(accepted=True)) == {"accepted": True}


def test_a_description_is_whole_and_its_names_are_those_of_the_interface() -> None:
    shown = provider_pb.ProviderDescription(
        provider=pb.PROVIDER_VAPI,
        title="Vapi",
        fields=[provider_pb.FieldDescription(name="webhook_secret", choices=["a", "b"], help_url="https://x.example")],
    )
    assert views.descriptions([shown]) == [
        {
            "provider": "vapi",
            "title": "Vapi",
            "summary": "",
            "fields": [
                {
                    "name": "webhookSecret",
                    "label": "",
                    "required": False,
                    "secret": False,
                    "pattern": "",
                    "placeholder": "",
                    "hint": "",
                    "helpUrl": "https://x.example",
                    "choices": ["a", "b"],
                    "advanced": False,
                    "way": "",
                    "madeUp": False,
                    "phoneNumber": False,
                }
            ],
            "consoleUrl": "",
            "next": "",
            "byConsent": False,
            "asksFor": [],
            "neverAsksFor": [],
            "available": False,
        }
    ]


def test_a_provider_of_a_newer_service_is_left_out() -> None:
    unknown = provider_pb.ProviderDescription()
    unknown.ParseFromString(b"\x08\x63")
    assert unknown.provider == 99
    assert views.descriptions([unknown, provider_pb.ProviderDescription()]) == []


def test_the_status_lists_the_five_by_the_names_of_the_interface() -> None:
    status = views.status([connected_twilio("+15005550100"), connected_vapi()])
    assert list(status) == ["vapi", "twilio", "googleCalendar", "resend", "elevenlabs"]
    assert status["twilio"]["phoneNumber"] == "+1••••••0100"
    assert status["vapi"]["inboundAssistantId"] == "assistant-in"


def test_a_number_for_whatsapp_only_is_not_the_phone_number() -> None:
    shown = pb.Integration(
        resources=[
            pb.Resource(kind=pb.RESOURCE_KIND_PHONE_NUMBER, resource_id="+15005550199", role="whatsapp"),
            pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id="x", role="other"),
        ]
    )
    assert views.resources(shown) == {}


def test_times_are_utc_and_say_so() -> None:
    shown = pb.Integration(last_verified_at=Timestamp(seconds=1795428000, nanos=123456789))
    assert views.last_verified(shown) == "2026-11-23T10:00:00.123Z"
    assert views.last_verified(pb.Integration()) is None


@pytest.mark.parametrize(
    ("number", "shown"),
    [("+15005550100", "+1••••••0100"), ("+442079460000", "+4•••••••0000"), ("+1234567", "+•••••67"), ("+12", "+••12")],
)
def test_a_masked_number_shows_its_ends(number: str, shown: str) -> None:
    assert views.masked(number) == shown


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_a_masked_number_hides_its_middle(number: str) -> None:
    masked = views.masked(number)
    assert len(masked) == len(number)
    assert masked.count("•") >= 3
    shown = [place for place, mark in enumerate(masked) if mark != "•"]
    assert len(shown) <= 6
    assert all(masked[place] == number[place] for place in shown)


def test_every_provider_has_a_name_for_people() -> None:
    assert set(views.NAMES) == set(views.status([]))
