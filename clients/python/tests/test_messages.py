"""Credentials survive the way into a message and back."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantvault import (
    ActiveCredential,
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    PreviousCredential,
    Provider,
    ResendCredential,
    Resource,
    ResourceKind,
    Secret,
    TwilioCredential,
    TwilioWebhook,
    VapiCredential,
)
from tenantvault.errors import InvalidRequest
from tenantvault.messages import (
    KIND_NUMBER,
    KIND_OF,
    PROVIDER_NUMBER,
    PROVIDER_OF,
    active_from_message,
    credential_from_message,
    credential_to_message,
    moment_to_timestamp,
    provider_from_number,
    resources_from_messages,
    resources_to_messages,
)
from tenantvault.v1 import credential_pb2 as pb

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SECRET = TEXT.map(Secret)
MOMENT = st.datetimes(timezones=st.just(UTC))
WEBHOOK = st.builds(
    TwilioWebhook, number_sid=TEXT, voice_url=SECRET, voice_method=TEXT, sms_url=SECRET, sms_method=TEXT
)
OF_KIND: dict[type[Any], st.SearchStrategy[Any]] = {
    VapiCredential: st.builds(
        VapiCredential,
        api_key=SECRET,
        webhook_secret=SECRET,
        region=st.sampled_from(["us", "eu"]),
        webhook_scheme=st.sampled_from(["header", "bearer", "hmac-sha256", "hmac-sha512", "hmac-sha1"]),
        webhook_credential_id=TEXT,
    ),
    TwilioCredential: st.builds(
        TwilioCredential,
        account_sid=TEXT,
        auth_token=SECRET,
        api_key_sid=TEXT,
        api_key_secret=SECRET,
        phone_number=TEXT,
        whatsapp_number=TEXT,
        webhook_shared_key=SECRET,
        webhook_algorithm=TEXT,
        saved_webhooks=st.lists(WEBHOOK, max_size=3).map(tuple),
    ),
    GoogleCalendarCredential: st.builds(
        GoogleCalendarCredential,
        refresh_token=SECRET,
        access_token=SECRET,
        expires_at=MOMENT,
        scopes=st.lists(TEXT).map(tuple),
        email=TEXT,
        channel_token=SECRET,
    ),
    ResendCredential: st.builds(
        ResendCredential, api_key=SECRET, webhook_secret=SECRET, api_key_id=TEXT, webhook_id=TEXT
    ),
    ElevenLabsCredential: st.builds(
        ElevenLabsCredential,
        api_key=SECRET,
        webhook_secret=SECRET,
        region=st.sampled_from(["global", "us", "eu", "in", "sg"]),
        webhook_id=TEXT,
    ),
}
CREDENTIAL = st.one_of(*OF_KIND.values())

# One of each kind, with a canary in every secret.
CANARIES: list[Credential] = [
    VapiCredential(api_key=Secret("canary-1"), webhook_secret=Secret("canary-2")),
    TwilioCredential(
        account_sid="AC0",
        auth_token=Secret("canary-1"),
        api_key_secret=Secret("canary-2"),
        phone_number="+12025550100",
        webhook_shared_key=Secret("canary-3"),
        saved_webhooks=(
            TwilioWebhook(
                number_sid="PN0",
                voice_url=Secret("https://u:canary-4@acme.example"),
                sms_url=Secret("https://u:canary-5@acme.example"),
            ),
        ),
    ),
    GoogleCalendarCredential(
        refresh_token=Secret("canary-1"),
        access_token=Secret("canary-2"),
        expires_at=datetime(2026, 11, 24, tzinfo=UTC),
        scopes=(),
        channel_token=Secret("canary-3"),
    ),
    ResendCredential(api_key=Secret("canary-1"), webhook_secret=Secret("canary-2")),
    ElevenLabsCredential(api_key=Secret("canary-1"), webhook_secret=Secret("canary-2")),
]


def secrets_in(value: Any) -> Iterator[Secret]:
    """Every secret in a credential, however deep."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from secrets_in(each)
    elif is_dataclass(value):
        for field in fields(value):
            yield from secrets_in(getattr(value, field.name))


def test_every_kind_is_tried() -> None:
    assert set(get_args(Credential)) == set(OF_KIND) == {type(credential) for credential in CANARIES}


@given(CREDENTIAL)
def test_a_credential_comes_back_as_it_was(credential: Credential) -> None:
    over_the_wire = pb.Credential.FromString(credential_to_message(credential).SerializeToString())

    assert credential == credential_from_message(over_the_wire)


@given(CREDENTIAL, CREDENTIAL, MOMENT)
def test_an_active_credential_comes_back_with_the_previous_one(
    credential: Credential, before: Credential, until: datetime
) -> None:
    message = pb.ActiveCredential(
        org_id="acme",
        provider=pb.PROVIDER_RESEND,
        version=3,
        credential=credential_to_message(credential),
        generation=7,
        served_stale=True,
        previous=pb.PreviousCredential(
            version=2, credential=credential_to_message(before), readable_until=moment_to_timestamp(until)
        ),
    )

    assert ActiveCredential(
        org_id="acme",
        provider=Provider.RESEND,
        version=3,
        credential=credential,
        resources=(),
        last_verified_at=None,
        generation=7,
        served_stale=True,
        previous=PreviousCredential(version=2, credential=before, readable_until=until),
    ) == active_from_message(pb.ActiveCredential.FromString(message.SerializeToString()))


@pytest.mark.parametrize("credential", CANARIES, ids=lambda credential: type(credential).__name__)
def test_no_way_of_showing_a_credential_shows_a_secret(credential: Credential) -> None:
    secrets = list(secrets_in(credential))
    assert all("canary" in secret.reveal() for secret in secrets)
    assert len(secrets) == len({secret.reveal() for secret in secrets})
    whole = ActiveCredential(
        org_id="acme",
        provider=Provider.VAPI,
        version=2,
        credential=credential,
        resources=(),
        last_verified_at=None,
        generation=1,
        previous=PreviousCredential(version=1, credential=credential, readable_until=datetime(2026, 1, 1, tzinfo=UTC)),
    )

    for shown in (repr(whole), str(whole), f"{whole}", "%s" % (whole,)):  # noqa: UP031  # one of the ways
        assert "canary" not in shown
        assert 2 * len(secrets) == shown.count("Secret(••••)")


@given(st.lists(st.builds(Resource, kind=st.sampled_from(ResourceKind), resource_id=TEXT, role=TEXT)))
def test_resources_come_back_as_they_were(resources: list[Resource]) -> None:
    assert tuple(resources) == resources_from_messages(resources_to_messages(resources))


@pytest.mark.parametrize(
    ("message", "credential"),
    [
        (
            pb.Credential(vapi=pb.VapiCredential(api_key="k")),
            VapiCredential(api_key=Secret("k"), region="us", webhook_scheme="header"),
        ),
        (
            pb.Credential(elevenlabs=pb.ElevenLabsCredential(api_key="k")),
            ElevenLabsCredential(api_key=Secret("k"), region="global"),
        ),
    ],
)
def test_what_is_absent_has_its_default(message: pb.Credential, credential: Credential) -> None:
    assert credential == credential_from_message(message)


def test_a_message_without_a_credential_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        credential_from_message(pb.Credential())

    assert ["credential"] == list(caught.value.fields)


@pytest.mark.parametrize("number", [0, -1, 99])
def test_a_number_of_no_provider_is_refused(number: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        provider_from_number(number)

    assert ["provider"] == list(caught.value.fields)


def test_providers_and_kinds_are_the_contracts() -> None:
    assert set(pb.Provider.values()) - {pb.PROVIDER_UNSPECIFIED} == set(PROVIDER_OF) == set(PROVIDER_NUMBER.values())
    assert set(pb.ResourceKind.values()) - {pb.RESOURCE_KIND_UNSPECIFIED} == set(KIND_OF) == set(KIND_NUMBER.values())
    assert set(Provider) == set(PROVIDER_NUMBER)
    assert set(ResourceKind) == set(KIND_NUMBER)
    assert all(provider is provider_from_number(number) for provider, number in PROVIDER_NUMBER.items())


@pytest.mark.parametrize("kind", [*OF_KIND, TwilioWebhook])
def test_a_typed_credential_has_the_contracts_fields_and_its_secrets_are_redacted_there(kind: type[Any]) -> None:
    here = {each.name: each.type for each in fields(kind)}
    there = pb.DESCRIPTOR.message_types_by_name[kind.__name__].fields

    assert set(here) == {field.name for field in there}
    assert {name for name, type_ in here.items() if type_ is Secret} == {
        field.name for field in there if field.GetOptions().debug_redact
    }
