import pytest

from gateway.names import camel


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("api_key", "apiKey"),
        ("credential.vapi.webhook_secret", "webhookSecret"),
        ("region", "region"),
        ("phoneNumber", "phoneNumber"),
        ("", ""),
    ],
)
def test_a_field_is_named_as_the_rest_interface_names_it(name: str, shown: str) -> None:
    assert camel(name) == shown
