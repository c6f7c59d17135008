from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import fields
from gateway.names import camel
from tenantvault.credentials import Provider
from tenantvault.errors import InvalidRequest
from tenantvault.v1 import credential_pb2 as pb
from tests.unit.gateway.fakes import ELEVENLABS, RESEND, TWILIO, VAPI

NOT_TYPED_IN = {
    (Provider.TWILIO, "savedWebhooks"),
    (Provider.RESEND, "apiKeyId"),
    (Provider.RESEND, "webhookId"),
    (Provider.ELEVENLABS, "webhookId"),
}
BODIES = {
    Provider.VAPI: VAPI | {"webhookSecret": "w", "region": "eu"},
    Provider.TWILIO: TWILIO,
    Provider.RESEND: RESEND,
    Provider.ELEVENLABS: ELEVENLABS,
}
WAYS = list(fields.TYPED_IN)


def complaints(provider: Provider, body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        fields.credential(provider, body)
    return dict(refused.value.fields)


def kind_of(provider: Provider) -> Any:
    return pb.Credential.DESCRIPTOR.fields_by_name[provider.name.lower()].message_type


@pytest.mark.parametrize("provider", WAYS)
def test_a_body_becomes_the_message_of_its_provider(provider: Provider) -> None:
    message = fields.credential(provider, BODIES[provider])
    assert message.WhichOneof("kind") == provider.name.lower()
    kind = getattr(message, provider.name.lower())
    assert {field.json_name: value for field, value in kind.ListFields()} == BODIES[provider]


@pytest.mark.parametrize("provider", WAYS)
def test_an_empty_body_is_a_credential_of_that_kind_too(provider: Provider) -> None:
    assert fields.credential(provider, {}).WhichOneof("kind") == provider.name.lower()


def test_every_field_of_the_contract_is_typed_in_or_kept_by_us() -> None:
    """Whoever adds a field to the contract decides here which of both it is."""
    known = {(provider, field.json_name) for provider in WAYS for field in kind_of(provider).fields}
    typed_in = {(provider, camel(name)) for provider, names in fields.TYPED_IN.items() for name in names}
    assert known == typed_in | NOT_TYPED_IN
    assert not typed_in & NOT_TYPED_IN


@pytest.mark.parametrize(("provider", "name"), sorted(NOT_TYPED_IN))
def test_what_is_kept_by_us_cannot_be_typed_in(provider: Provider, name: str) -> None:
    for spelling in (name, kind_of(provider).fields_by_camelcase_name[name].name):
        assert complaints(provider, BODIES[provider] | {spelling: "x"}) == {
            spelling: "This field is not known here: leave it out."
        }


@pytest.mark.parametrize("name", ["orgId", "kind", "vapi", "api_key", "accountSid", "ListFields"])
def test_an_unknown_field_is_refused_by_its_name(name: str) -> None:
    assert list(complaints(Provider.VAPI, VAPI | {name: "x"})) == [name]


@pytest.mark.parametrize("name", ["b7f1c1de-2f59-4a52-9a0d-3c0a5a4e0c11", "x" * 33, "", "a b", "apiKey\n"])
def test_a_name_that_may_be_a_secret_does_not_come_back(name: str) -> None:
    assert list(complaints(Provider.VAPI, VAPI | {name: "x"})) == [fields.ANY]


@pytest.mark.parametrize("value", [7, 0, True, False, [], ["x"], {}, {"x": "y"}, 1.5, "\ud800", "a\udfffb"])
def test_what_is_no_text_is_refused(value: Any) -> None:
    assert complaints(Provider.VAPI, {"apiKey": value}) == {"apiKey": "This must be text."}


@pytest.mark.parametrize("provider", WAYS)
def test_null_is_as_good_as_nothing(provider: Provider) -> None:
    body = dict.fromkeys(map(camel, fields.TYPED_IN[provider]))
    assert fields.credential(provider, body) == fields.credential(provider, {})


def test_nothing_huge_travels_on() -> None:
    longest = "x" * fields.LONGEST
    assert fields.credential(Provider.RESEND, {"apiKey": longest}).resend.api_key == longest
    assert list(complaints(Provider.RESEND, {"apiKey": longest + "x"})) == ["apiKey"]


def test_every_bad_field_is_reported_at_once_and_counted() -> None:
    body = {"accountSid": 1, "authToken": [], "orgId": "globex", "phoneNumber": "x" * 5000}
    with pytest.raises(InvalidRequest) as refused:
        fields.credential(Provider.TWILIO, body)
    assert set(refused.value.fields) == set(body)
    assert refused.value.message == "4 fields need attention."


@given(st.text(max_size=40).filter(lambda value: value.isprintable()))
def test_a_value_travels_as_it_was_typed_in(value: str) -> None:
    assert fields.credential(Provider.VAPI, {"apiKey": value}).vapi.api_key == value


def test_a_demo_org_is_picked_by_name() -> None:
    assert fields.org({"org": "acme"}) == "acme"
    for body in ({}, {"org": ""}, {"org": 7}, {"org": "acme", "role": "admin"}):
        with pytest.raises(InvalidRequest):
            fields.org(body)


def test_a_call_without_fields_takes_none() -> None:
    fields.nothing({})
    with pytest.raises(InvalidRequest):
        fields.nothing({"orgId": "globex"})
