import pytest

from services.provider.provider import Accepted, Refused
from tenantvault.errors import (
    InsufficientScope,
    InvalidCredentials,
    ProviderConflict,
    ProviderRefused,
    ProviderResourceMissing,
    ProviderValidation,
)


def test_a_refusal_becomes_its_error_with_the_field_at_fault() -> None:
    error = Refused(InvalidCredentials, "Check the key.", "apiKey").error()
    assert type(error) is InvalidCredentials
    assert "Check the key." == error.message
    assert {"apiKey": "Check the key."} == dict(error.fields)


def test_a_refusal_of_no_field_names_none() -> None:
    assert not Refused(ProviderValidation, "Tell the operator.").error().fields


def test_verdicts_compare_by_what_they_say() -> None:
    assert Accepted(()) == Accepted()
    assert Refused(InvalidCredentials, "No.", "apiKey") != Refused(InvalidCredentials, "No.", "authToken")


@pytest.mark.parametrize(
    ("kind", "about"),
    [(InvalidCredentials, True), (InsufficientScope, True), (ProviderValidation, False), (ProviderConflict, False)],
)
def test_a_refusal_of_what_was_asked_says_nothing_about_the_credential(
    kind: type[ProviderRefused], about: bool
) -> None:
    assert about is Refused(kind, "No.").is_about_the_credential


def test_a_thing_that_is_missing_speaks_against_the_field_that_named_it() -> None:
    assert Refused(ProviderResourceMissing, "Not yours.", "phoneNumber").is_about_the_credential
    assert not Refused(ProviderResourceMissing, "Nothing there.").is_about_the_credential
