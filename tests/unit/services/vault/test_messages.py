from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rpc.server import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES
from services.vault import messages, wire
from services.vault.credential import (
    Integration,
    Label,
    Plaintext,
    Previous,
    ReadCount,
    Reads,
    RecordName,
    Resource,
    State,
    Version,
    VersionState,
)
from services.vault.rotation import MasterKeyRow
from services.vault.work import DueWork, Piece, Task
from tenantvault.audit import Event, Head, Link
from tenantvault.errors import LEAVES, TenantVaultError
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import store_service_pb2 as store_pb

VAPI = pb.Credential(vapi=pb.VapiCredential(api_key="5f2c1e9a-0000-4000-8000-0000canary01", webhook_secret="whsec"))
OLD = pb.Credential(vapi=pb.VapiCredential(api_key="5f2c1e9a-0000-4000-8000-0000canary00"))
MOMENT = datetime(2026, 11, 23, 20, 36, 0, 123456, tzinfo=UTC)


def label(**changes: Any) -> Label:
    return Label(
        **{
            "name": RecordName("acme", "vapi", 3, "k1"),
            "resources": (Resource("vapi_assistant", "r1", "inbound"),),
            "last_verified_at": MOMENT,
            "generation": 7,
            **changes,
        }
    )


def plaintext(**changes: Any) -> Plaintext:
    return Plaintext(**{"label": label(), "payload": VAPI.SerializeToString(), **changes})


def active_message(opened: Plaintext) -> pb.ActiveCredential:
    message = pb.ActiveCredential()
    messages.fill_active(message, opened)
    return message


def test_what_is_written_into_one_answer_is_not_in_the_next_of_the_same_label() -> None:
    same = label()
    first = active_message(
        plaintext(label=same, served_stale=True, previous=Previous(2, OLD.SerializeToString(), MOMENT))
    )
    first.org_id = "changed"
    assert active_message(plaintext()) == active_message(plaintext(label=same))
    assert OLD == active_message(plaintext(label=same, payload=OLD.SerializeToString())).credential


def test_an_opened_credential_becomes_the_contracts_message() -> None:
    message = active_message(plaintext())
    assert (
        pb.ActiveCredential(
            org_id="acme",
            provider=pb.PROVIDER_VAPI,
            version=3,
            credential=VAPI,
            resources=[pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id="r1", role="inbound")],
            last_verified_at=message.last_verified_at,
            generation=7,
        )
        == message
    )
    assert MOMENT == message.last_verified_at.ToDatetime(tzinfo=UTC)


def test_a_moment_that_there_was_not_is_absent() -> None:
    assert not active_message(plaintext(label=label(last_verified_at=None))).HasField("last_verified_at")
    shown = messages.integration_message(Integration(provider="vapi", state=State.EMPTY))
    assert not shown.HasField("last_verified_at")
    assert not shown.HasField("connected_at")
    assert not shown.HasField("rotation_due_at")


@given(moment=st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_a_moment_keeps_its_microseconds(moment: datetime) -> None:
    for told in (moment, moment.astimezone(timezone(timedelta(hours=5, minutes=30)))):
        message = active_message(plaintext(label=label(last_verified_at=told)))
        assert moment == message.last_verified_at.ToDatetime(tzinfo=UTC)


@pytest.mark.parametrize("provider", wire.PROVIDERS.values())
@pytest.mark.parametrize("state", State)
def test_an_integration_becomes_the_contracts_message(provider: str, state: State) -> None:
    integration = Integration(
        provider=provider,
        state=state,
        version=1,
        latest_version=2,
        hint="••••ry01",
        resources=[Resource("phone_number", "+15005550006", "voice")],
        last_verified_at=MOMENT,
        verification_error="Refused.",
        verification_reason="INVALID_CREDENTIALS",
        warnings=("Soon over.", "Spare numbers."),
        account="ada@example.com",
        connected_at=MOMENT,
        rotation_due_at=MOMENT + timedelta(days=1),
        rotates_by_itself=True,
    )
    message = messages.integration_message(integration)
    assert (provider, state.name, 1, 2, "••••ry01", "Refused.") == (
        wire.PROVIDERS[message.provider],
        pb.IntegrationState.Name(message.state).removeprefix("INTEGRATION_STATE_"),
        message.version,
        message.latest_version,
        message.hint,
        message.verification_error,
    )
    assert MOMENT == message.connected_at.ToDatetime(tzinfo=UTC) == message.last_verified_at.ToDatetime(tzinfo=UTC)
    assert ("INVALID_CREDENTIALS", ["Soon over.", "Spare numbers."], "ada@example.com", True) == (
        message.verification_reason,
        list(message.warnings),
        message.account,
        message.rotates_by_itself,
    )
    assert MOMENT + timedelta(days=1) == message.rotation_due_at.ToDatetime(tzinfo=UTC)


@pytest.mark.parametrize("provider", wire.PROVIDERS.values())
@pytest.mark.parametrize("task", Task)
def test_work_that_is_due_becomes_the_contracts_message(provider: str, task: Task) -> None:
    work = DueWork(piece=Piece("acme", provider, task), attempts=3, progress="half of it", due_at=MOMENT)
    message = messages.due_work_message(work)
    assert ("acme", provider, f"TASK_{task.name}", 3, "half of it") == (
        message.org_id,
        wire.PROVIDERS[message.provider],
        store_pb.Task.Name(message.task),
        message.attempts,
        message.progress,
    )
    assert MOMENT == message.due_at.ToDatetime(tzinfo=UTC)


def test_the_previous_version_and_a_stale_answer_are_told_as_such() -> None:
    message = active_message(plaintext())
    assert (False, False) == (message.served_stale, message.HasField("previous"))
    message = active_message(plaintext(served_stale=True, previous=Previous(2, OLD.SerializeToString(), MOMENT)))
    assert message.served_stale
    assert (2, OLD) == (message.previous.version, message.previous.credential)
    assert MOMENT == message.previous.readable_until.ToDatetime(tzinfo=UTC)


def test_a_batch_of_the_largest_credentials_fits_into_an_answer_and_the_largest_requests_into_a_request() -> None:
    payload = pb.Credential(vapi=pb.VapiCredential(api_key="k" * (wire.MAX_PAYLOAD_BYTES - 8))).SerializeToString()
    assert wire.MAX_PAYLOAD_BYTES - 4 <= len(payload) <= wire.MAX_PAYLOAD_BYTES
    resources = [Resource("vapi_assistant", f"{number:036}", "outbound") for number in range(100)]
    one = active_message(plaintext(payload=payload, label=label(resources=resources, generation=2**62)))
    answer = access_pb.BatchGetCredentialsResponse(
        outcomes=[access_pb.CredentialOutcome(credential=one)] * wire.MAX_KEYS
    )
    assert answer.ByteSize() <= MAX_RESPONSE_BYTES
    org = "a" * 63
    for request in (
        access_pb.WatchChangesRequest(known=[access_pb.KnownOrg(org_id=org, generation=2**62)] * wire.MAX_KNOWN_ORGS),
        directory_pb.BatchResolveOrgsRequest(
            keys=[directory_pb.ResourceKey(kind=pb.RESOURCE_KIND_PHONE_NUMBER, resource_id="x" * 256)] * wire.MAX_KEYS
        ),
    ):
        assert request.ByteSize() <= MAX_REQUEST_BYTES


@pytest.mark.parametrize("state", VersionState)
def test_a_version_becomes_the_contracts_message(state: VersionState) -> None:
    version = Version(version=3, hint="••••ry01", created_at=MOMENT, state=state, destroyed_at=MOMENT)
    message = messages.version_message(version)
    assert (3, f"VERSION_STATE_{state.name}", "••••ry01", MOMENT, MOMENT, False) == (
        message.version,
        status_pb.VersionState.Name(message.state),
        message.hint,
        message.created_at.ToDatetime(tzinfo=UTC),
        message.destroyed_at.ToDatetime(tzinfo=UTC),
        message.HasField("readable_until"),
    )


@pytest.mark.parametrize("leaf", LEAVES)
def test_why_one_key_has_no_answer_is_told_by_its_reason(leaf: type[TenantVaultError]) -> None:
    assert pb.KeyFailure(reason=leaf.reason, message=leaf.sentence) == messages.failure_message(leaf())


def test_an_event_and_a_head_become_the_contracts_messages() -> None:
    event = Event(
        event_id="0b5b3f3e-0000-4000-8000-000000000001",
        org_id="acme",
        occurred_at=MOMENT,
        peer="voice-agent",
        on_behalf_of="ada",
        action="credential.get",
        provider="vapi",
        version=3,
        outcome="ok",
        request_id="request-0001",
        generation=7,
    )
    message = messages.event_message(Link(event, 9, b"h" * 32))
    told = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    assert MOMENT == told.pop("occurred_at").ToDatetime(tzinfo=UTC)
    assert (9, b"h" * 32) == (told.pop("sequence"), told.pop("hash"))
    assert told == {name: getattr(event, name) for name in told}
    head = Head("acme", 9, b"h" * 32, b"s" * 64, b"p" * 32)
    assert admin_pb.AuditHead(
        org_id="acme", sequence=9, hash=b"h" * 32, signature=b"s" * 64, public_key=b"p" * 32
    ) == messages.head_message(head)


def test_reads_that_were_counted_become_the_contracts_message() -> None:
    since = MOMENT - timedelta(days=30)
    message = messages.reads_message(Reads([ReadCount("voice-agent", "twilio", 2**40, MOMENT)], since))
    [count] = message.counts
    assert ("voice-agent", pb.PROVIDER_TWILIO, 2**40) == (count.peer, count.provider, count.reads)
    assert (MOMENT, since) == (count.last_read_at.ToDatetime(tzinfo=UTC), message.since.ToDatetime(tzinfo=UTC))


@pytest.mark.parametrize("state", ["staged", "active", "retired"])
def test_a_master_key_is_told_with_whether_this_vault_has_it(state: str) -> None:
    row = MasterKeyRow("m1", state, b"f" * 16, 5)
    message = messages.master_key_message(row, {"m1": b"f" * 16}, "m1")
    assert (f"MASTER_KEY_STATE_{state.upper()}", True, True, 5) == (
        admin_pb.MasterKeyState.Name(message.state),
        message.present,
        message.wrapping,
        message.org_keys,
    )
    for others in ({}, {"m1": b"another key of 16"}):
        message = messages.master_key_message(row, others, "m2")
        assert (False, False) == (message.present, message.wrapping)
