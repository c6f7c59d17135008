"""From the vault's nouns to the contract's answers."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final
from weakref import WeakKeyDictionary

from google.protobuf.timestamp_pb2 import Timestamp

from services.vault.audit import Page
from services.vault.credential import Integration, Label, Plaintext, Reads, Resource, State, Version, VersionState
from services.vault.reader import Owner
from services.vault.rotation import MasterKeyRow
from services.vault.wire import KINDS, PROVIDERS
from services.vault.wire_work import TASKS
from services.vault.work import DueWork
from tenantvault.audit import Head, Link
from tenantvault.errors import TenantVaultError
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import store_service_pb2 as store_pb

_NUMBERS: Final = {name: number for number, name in PROVIDERS.items()}
_KIND_NUMBERS: Final = {name: number for number, name in KINDS.items()}
_TASK_NUMBERS: Final = {task: number for number, task in TASKS.items()}
_STATES: Final = {state: pb.IntegrationState.Value(f"INTEGRATION_STATE_{state.name}") for state in State}
_VERSION_STATES: Final = {state: status_pb.VersionState.Value(f"VERSION_STATE_{state.name}") for state in VersionState}
# What was made of labels, for as long as these are remembered. It is copied from, never changed.
_labelled: Final[WeakKeyDictionary[Label, pb.ActiveCredential]] = WeakKeyDictionary()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def fill_active(message: pb.ActiveCredential, plaintext: Plaintext) -> None:
    """Write an opened credential where it is sent from."""
    if (labelled := _labelled.get(plaintext.label)) is None:
        labelled = _labelled[plaintext.label] = _label_message(plaintext.label)
    message.CopyFrom(labelled)
    message.credential.MergeFromString(plaintext.payload)
    if plaintext.served_stale:
        message.served_stale = True
    if previous := plaintext.previous:
        message.previous.version = previous.version
        message.previous.credential.MergeFromString(previous.payload)
        message.previous.readable_until.CopyFrom(_timestamp(previous.readable_until))


def integration_message(integration: Integration) -> pb.Integration:
    """The message of what may be shown of an integration."""
    return pb.Integration(
        provider=_NUMBERS[integration.provider],  # type: ignore[arg-type]  # an enum's number
        state=_STATES[integration.state],
        version=integration.version,
        latest_version=integration.latest_version,
        hint=integration.hint,
        resources=_resource_messages(integration.resources),
        verification_error=integration.verification_error,
        last_verified_at=_moment(integration.last_verified_at),
        connected_at=_moment(integration.connected_at),
        warnings=integration.warnings,
        account=integration.account,
        verification_reason=integration.verification_reason,
        rotation_due_at=_moment(integration.rotation_due_at),
        rotates_by_itself=integration.rotates_by_itself,
    )


def due_work_message(work: DueWork) -> store_pb.DueWork:
    """The message of a piece of work that the caller has now."""
    return store_pb.DueWork(
        org_id=work.piece.org_id,
        provider=_NUMBERS[work.piece.provider],  # type: ignore[arg-type]  # an enum's number
        task=_TASK_NUMBERS[work.piece.task],  # type: ignore[arg-type]  # an enum's number
        attempts=work.attempts,
        progress=work.progress,
        due_at=_moment(work.due_at),
    )


def version_message(version: Version) -> status_pb.Version:
    """The message of what may be shown of a version."""
    return status_pb.Version(
        version=version.version,
        state=_VERSION_STATES[version.state],
        hint=version.hint,
        created_at=_moment(version.created_at),
        destroyed_at=_moment(version.destroyed_at),
        readable_until=_moment(version.readable_until),
    )


def fill_owner(message: directory_pb.ResolveOrgResponse, owner: Owner) -> None:
    """Write whose a resource is where it is sent from."""
    message.org_id = owner.org_id
    message.role = owner.resource.role
    message.generation = owner.generation
    if owner.stale:
        message.served_stale = True


def failure_message(error: TenantVaultError) -> pb.KeyFailure:
    """Why one key of a batch has no answer."""
    return pb.KeyFailure(reason=error.reason, message=error.message)


def event_message(link: Link) -> status_pb.AuditEvent:
    """An event of the audit in its place."""
    event = link.event
    return status_pb.AuditEvent(
        event_id=event.event_id,
        org_id=event.org_id,
        sequence=link.sequence,
        occurred_at=_timestamp(event.occurred_at),
        peer=event.peer,
        on_behalf_of=event.on_behalf_of,
        action=event.action,
        provider=event.provider,
        version=event.version,
        outcome=event.outcome,
        request_id=event.request_id,
        generation=event.generation,
        hash=link.hash,
    )


def page_message(page: Page) -> status_pb.ListAuditEventsResponse:
    """A page of the audit, and where the next one begins."""
    message = status_pb.ListAuditEventsResponse(events=map(event_message, page.links))
    if page.last:
        message.next_before_sequence = page.last.sequence
        message.since.CopyFrom(_timestamp(page.last.event.occurred_at))
    return message


def reads_message(reads: Reads) -> status_pb.CountReadsResponse:
    """Who was given credentials, how often, and since when that is known."""
    return status_pb.CountReadsResponse(
        counts=[
            status_pb.ReadCount(
                peer=count.peer,
                provider=_NUMBERS[count.provider],  # type: ignore[arg-type]  # an enum's number
                reads=count.reads,
                last_read_at=_timestamp(count.last_read_at),
            )
            for count in reads.counts
        ],
        since=_timestamp(reads.since),
    )


def head_message(head: Head) -> admin_pb.AuditHead:
    """The signed end of a chain."""
    return admin_pb.AuditHead(
        org_id=head.org_id,
        sequence=head.sequence,
        hash=head.hash,
        signature=head.signature,
        public_key=head.public_key,
    )


def master_key_message(row: MasterKeyRow, fingerprints: Mapping[str, bytes], wrapping: str) -> admin_pb.MasterKey:
    """A master key: as the database knows it, and whether this vault has it."""
    return admin_pb.MasterKey(
        master_key_id=row.master_key_id,
        state=admin_pb.MasterKeyState.Value(f"MASTER_KEY_STATE_{row.state.upper()}"),
        fingerprint=row.fingerprint,
        present=fingerprints.get(row.master_key_id) == row.fingerprint,
        wrapping=row.master_key_id == wrapping,
        org_keys=row.org_keys,
    )


def _label_message(label: Label) -> pb.ActiveCredential:
    """All of the message but the credential."""
    name = label.name
    return pb.ActiveCredential(
        org_id=name.org_id,
        provider=_NUMBERS[name.provider],  # type: ignore[arg-type]  # an enum's number
        version=name.version,
        resources=_resource_messages(label.resources),
        last_verified_at=_moment(label.last_verified_at),
        generation=label.generation,
    )


def _resource_messages(resources: Iterable[Resource]) -> list[pb.Resource]:
    return [
        pb.Resource(
            kind=_KIND_NUMBERS[resource.kind],  # type: ignore[arg-type]  # an enum's number
            resource_id=resource.resource_id,
            role=resource.role,
        )
        for resource in resources
    ]


def _timestamp(moment: datetime) -> Timestamp:
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


def _moment(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else _timestamp(moment)
