from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.provider.description import Description, Field
from services.provider.integration import Integration, State
from services.provider.messages import (
    description_to_message,
    due_work_from_message,
    duration_to_message,
    integration_from_message,
    integration_to_message,
    schedule_to_message,
    task_to_number,
)
from services.provider.work import DueWork, ScheduledWork, Task
from tenantvault.credentials import Provider, Resource, ResourceKind
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import integration_service_pb2 as integration_pb
from tenantvault.v1 import store_service_pb2 as store

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
    warnings=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    account=st.text(max_size=8),
    verification_reason=st.text(max_size=8),
    rotation_due_at=MOMENTS,
    rotates_by_itself=st.booleans(),
)


@given(INTEGRATIONS)
def test_an_integration_survives_the_journey(integration: Integration) -> None:
    message = pb.Integration.FromString(integration_to_message(integration).SerializeToString())
    assert integration == integration_from_message(message)


def test_a_state_from_the_future_is_empty() -> None:
    message = pb.Integration(provider=pb.PROVIDER_VAPI)
    message.state = 99  # type: ignore[assignment]  # a newer server's value
    assert integration_from_message(message).state is State.EMPTY


def test_a_schedule_names_each_task_and_when() -> None:
    schedule = schedule_to_message([ScheduledWork(Task.VERIFY, 1.5), ScheduledWork(Task.ROTATE, 60.0, by_hand=True)])
    assert [
        store.ScheduledWork(task=store.TASK_VERIFY, due_in=duration_to_message(1.5)),
        store.ScheduledWork(task=store.TASK_ROTATE, due_in=duration_to_message(60.0), by_hand=True),
    ] == list(schedule.work)


def test_an_empty_schedule_is_one() -> None:
    request = store.RegisterResourcesRequest(schedule=schedule_to_message([]))
    assert request.HasField("schedule")


def test_work_that_is_due() -> None:
    message = store.DueWork(
        org_id="acme", provider=pb.PROVIDER_RESEND, task=store.TASK_ROTATE, attempts=2, progress="half"
    )
    assert due_work_from_message(message) == DueWork(
        org_id="acme", provider=Provider.RESEND, task=Task.ROTATE, attempts=2, progress="half"
    )


def test_work_from_the_future_is_not_for_this_version() -> None:
    strange_task = store.DueWork(org_id="acme", provider=pb.PROVIDER_RESEND)
    strange_task.task = 99  # type: ignore[assignment]  # a newer server's value
    strange_provider = store.DueWork(org_id="acme", task=store.TASK_VERIFY)
    strange_provider.provider = 99  # type: ignore[assignment]  # a newer server's value
    assert due_work_from_message(strange_task) is None
    assert due_work_from_message(strange_provider) is None


def test_every_task_has_its_number() -> None:
    assert {task.name for task in Task} == {
        store.Task.Name(task_to_number(task)).removeprefix("TASK_") for task in Task
    }


@given(st.floats(0.001, 1e8))
def test_a_duration_is_right_to_the_millisecond(seconds: float) -> None:
    duration = duration_to_message(seconds)
    assert abs(duration.seconds + duration.nanos / 1e9 - seconds) <= 0.000501


def test_a_description_travels_whole() -> None:
    field = Field(
        name="api_key",
        label="API key",
        hint="The private one.",
        pattern="x+",
        placeholder="x",
        help_url="https://help.test",
        choices=("a", "b"),
        required=True,
        secret=True,
        advanced=True,
        way="Key",
        made_up=True,
        phone_number=True,
    )
    description = Description(
        title="T",
        summary="S",
        next="N",
        console_url="https://c.test",
        fields=(field,),
        asks_for=("A",),
        never_asks_for=("B",),
        available=False,
    )
    message = description_to_message(Provider.VAPI, description, by_consent=True)
    assert message == integration_pb.ProviderDescription(
        provider=pb.PROVIDER_VAPI,
        title="T",
        summary="S",
        next="N",
        console_url="https://c.test",
        by_consent=True,
        asks_for=["A"],
        never_asks_for=["B"],
        fields=[
            integration_pb.FieldDescription(
                name="api_key",
                label="API key",
                hint="The private one.",
                pattern="x+",
                placeholder="x",
                help_url="https://help.test",
                choices=["a", "b"],
                required=True,
                secret=True,
                advanced=True,
                way="Key",
                made_up=True,
                phone_number=True,
            )
        ],
    )
