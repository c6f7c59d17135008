from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.provider.integration import Integration, State
from services.provider.messages import integration_from_message, integration_to_message
from tenantvault.credentials import Provider, Resource, ResourceKind
from tenantvault.v1 import credential_pb2 as pb

MOMENTS = st.none() | st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
RESOURCES = st.builds(Resource, st.sampled_from(ResourceKind), st.text(max_size=8), st.text(max_size=8))
INTEGRATIONS = st.builds(
    Integration,
    provider=st.sampled_from(Provider),
    state=st.sampled_from(State),
    version=st.integers(0, 2**40),
    latest_version=st.integers(0, 2**40),
    hint=st.text(max_size=8),
    resources=st.lists(RESOURCES, max_size=3).map(tuple),
    last_verified_at=MOMENTS,
    verification_error=st.text(max_size=8),
    connected_at=MOMENTS,
)


@given(INTEGRATIONS)
def test_an_integration_survives_the_journey(integration: Integration) -> None:
    message = pb.Integration.FromString(integration_to_message(integration).SerializeToString())
    assert integration == integration_from_message(message)


def test_a_state_from_the_future_is_empty() -> None:
    message = pb.Integration(provider=pb.PROVIDER_VAPI)
    message.state = 99  # type: ignore[assignment]  # a newer server's value
    assert integration_from_message(message).state is State.EMPTY
