"""Credentials survive the way into a message and back."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantvault import Credential, Provider, Resource, ResourceKind, Secret, TwilioCredential, VapiCredential
from tenantvault.errors import InvalidRequest
from tenantvault.messages import (
    KIND_NUMBER,
    KIND_OF,
    PROVIDER_NUMBER,
    PROVIDER_OF,
    credential_from_message,
    credential_to_message,
    provider_from_number,
    resources_from_messages,
    resources_to_messages,
)
from tenantvault.v1 import credential_pb2 as pb

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SECRET = TEXT.map(Secret)
CREDENTIAL = st.builds(
    VapiCredential, api_key=SECRET, webhook_secret=SECRET, region=st.sampled_from(["us", "eu"])
) | st.builds(
    TwilioCredential,
    account_sid=TEXT,
    auth_token=SECRET,
    api_key_sid=TEXT,
    api_key_secret=SECRET,
    phone_number=TEXT,
    whatsapp_number=TEXT,
)


@given(CREDENTIAL)
def test_a_credential_comes_back_as_it_was(credential: Credential) -> None:
    over_the_wire = pb.Credential.FromString(credential_to_message(credential).SerializeToString())

    assert credential == credential_from_message(over_the_wire)


@given(st.lists(st.builds(Resource, kind=st.sampled_from(ResourceKind), resource_id=TEXT, role=TEXT)))
def test_resources_come_back_as_they_were(resources: list[Resource]) -> None:
    assert tuple(resources) == resources_from_messages(resources_to_messages(resources))


def test_an_absent_region_is_the_us() -> None:
    message = pb.Credential(vapi=pb.VapiCredential(api_key="k"))

    assert VapiCredential(api_key=Secret("k"), region="us") == credential_from_message(message)


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


@pytest.mark.parametrize("kind", [VapiCredential, TwilioCredential])
def test_a_typed_credential_has_the_contracts_fields_and_its_secrets_are_redacted_there(kind: type[Any]) -> None:
    here = {each.name: each.type for each in fields(kind)}
    there = pb.DESCRIPTOR.message_types_by_name[kind.__name__].fields

    assert set(here) == {field.name for field in there}
    assert {name for name, type_ in here.items() if type_ is Secret} == {
        field.name for field in there if field.GetOptions().debug_redact
    }
