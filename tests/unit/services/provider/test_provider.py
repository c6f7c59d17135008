from services.provider.provider import Accepted, Refused
from tenantvault.errors import InvalidCredentials, ProviderValidation


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
