"""Between the contract's messages and the dataclasses of this service."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.provider.description import Description, Field
from services.provider.integration import Integration, State
from services.provider.work import DueWork, ScheduledWork, Task
from tenantvault.credentials import Provider
from tenantvault.messages import (
    PROVIDER_NUMBER,
    PROVIDER_OF,
    moment_to_timestamp,
    provider_from_number,
    resources_from_messages,
    resources_to_messages,
)
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import integration_service_pb2 as integration_pb
from tenantvault.v1 import store_service_pb2 as store

_NUMBER_OF: Final[Mapping[State, "pb.IntegrationState.ValueType"]] = MappingProxyType(
    {state: pb.IntegrationState.Value(f"INTEGRATION_STATE_{state.name}") for state in State}
)
_TASK_NUMBER: Final[Mapping[Task, "store.Task.ValueType"]] = MappingProxyType(
    {task: store.Task.Value(f"TASK_{task.name}") for task in Task}
)
_TASK_OF: Final[Mapping[int, Task]] = MappingProxyType({number: task for task, number in _TASK_NUMBER.items()})
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
        warnings=tuple(message.warnings),
        account=message.account,
        verification_reason=message.verification_reason,
        rotation_due_at=_moment(message.rotation_due_at) if message.HasField("rotation_due_at") else None,
        rotates_by_itself=message.rotates_by_itself,
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
        warnings=integration.warnings,
        account=integration.account,
        verification_reason=integration.verification_reason,
        rotation_due_at=_timestamp(integration.rotation_due_at),
        rotates_by_itself=integration.rotates_by_itself,
    )


def description_to_message(
    name: Provider, description: Description, *, by_consent: bool
) -> integration_pb.ProviderDescription:
    """The message of what a form shows of a provider."""
    return integration_pb.ProviderDescription(
        provider=PROVIDER_NUMBER[name],
        title=description.title,
        summary=description.summary,
        fields=[_field_to_message(field) for field in description.fields],
        console_url=description.console_url,
        next=description.next,
        by_consent=by_consent,
        asks_for=description.asks_for,
        never_asks_for=description.never_asks_for,
        available=description.available,
    )


def _field_to_message(field: Field) -> integration_pb.FieldDescription:
    return integration_pb.FieldDescription(
        name=field.name,
        label=field.label,
        required=field.required,
        secret=field.secret,
        pattern=field.pattern,
        placeholder=field.placeholder,
        hint=field.hint,
        help_url=field.help_url,
        choices=field.choices,
        advanced=field.advanced,
        way=field.way,
        made_up=field.made_up,
        phone_number=field.phone_number,
    )


def task_to_number(task: Task) -> "store.Task.ValueType":
    """The proto's number of a task."""
    return _TASK_NUMBER[task]


def schedule_to_message(schedule: Iterable[ScheduledWork]) -> store.Schedule:
    """The message of an integration's work."""
    return store.Schedule(
        work=[
            store.ScheduledWork(
                task=_TASK_NUMBER[work.task], due_in=duration_to_message(work.due_in), by_hand=work.by_hand
            )
            for work in schedule
        ]
    )


def due_work_from_message(message: store.DueWork) -> DueWork | None:
    """The work in a message; None for a task or a provider that this version does not know."""
    if message.task not in _TASK_OF or message.provider not in PROVIDER_OF:
        return None
    return DueWork(
        org_id=message.org_id,
        provider=PROVIDER_OF[message.provider],
        task=_TASK_OF[message.task],
        attempts=message.attempts,
        progress=message.progress,
    )


def duration_to_message(seconds: float) -> Duration:
    """The message of a duration in seconds, to the millisecond."""
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)


def _timestamp(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else moment_to_timestamp(moment)
