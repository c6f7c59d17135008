"""Between the contract's message of an integration and the dataclass."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from services.provider.integration import Integration, State
from tenantvault.messages import PROVIDER_NUMBER, provider_from_number, resources_from_messages, resources_to_messages
from tenantvault.v1 import credential_pb2 as pb

_NUMBER_OF: Final[Mapping[State, "pb.IntegrationState.ValueType"]] = MappingProxyType(
    {state: pb.IntegrationState.Value(f"INTEGRATION_STATE_{state.name}") for state in State}
)
_STATE_OF: Final[Mapping[int, State]] = MappingProxyType({number: state for state, number in _NUMBER_OF.items()})


def integration_from_message(message: pb.Integration) -> Integration:
    """The integration in a message. A state that this version does not know is EMPTY."""
    return Integration(
        provider=provider_from_number(message.provider),
        state=_STATE_OF.get(message.state, State.EMPTY),
        version=message.version,
        latest_version=message.latest_version,
        hint=message.hint,
        resources=resources_from_messages(message.resources),
        last_verified_at=_moment(message.last_verified_at) if message.HasField("last_verified_at") else None,
        verification_error=message.verification_error,
        connected_at=_moment(message.connected_at) if message.HasField("connected_at") else None,
    )


def integration_to_message(integration: Integration) -> pb.Integration:
    """The message of an integration."""
    return pb.Integration(
        provider=PROVIDER_NUMBER[integration.provider],
        state=_NUMBER_OF[integration.state],
        version=integration.version,
        latest_version=integration.latest_version,
        hint=integration.hint,
        resources=resources_to_messages(integration.resources),
        last_verified_at=_timestamp(integration.last_verified_at),
        verification_error=integration.verification_error,
        connected_at=_timestamp(integration.connected_at),
    )


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
