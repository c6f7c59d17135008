"""Audit chains as the vault streams them and as exports keep them, and their proof."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Final, TextIO

from tenantvault.audit import GENESIS, Event, Export, Head, Link, Prover, check_signature, event_hash, to_lines
from tenantvault.cli.output import BadInput
from tenantvault.errors import InternalError
from tenantvault.v1.admin_service_pb2 import AuditHead, ExportAuditResponse
from tenantvault.v1.status_service_pb2 import AuditEvent

_UNKNOWN: Final = "The vault's answer holds something that is none of an audit chain's: update tenantvault."


Part = Link | Head


@dataclass(frozen=True, slots=True)
class Chain:
    """What was written or proved: how many events, and their signed end, which an org without events has not."""

    events: int
    head: Head | None


def link_from_message(message: AuditEvent) -> Link:
    """The event in an answer; InternalError for one that no vault can have written."""
    try:
        occurred_at = message.occurred_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InternalError(_UNKNOWN) from None
    if min(message.sequence, message.version, message.generation, message.occurred_at.seconds) < 0:
        raise InternalError(_UNKNOWN)
    event = Event(
        event_id=message.event_id,
        org_id=message.org_id,
        occurred_at=occurred_at,
        peer=message.peer,
        on_behalf_of=message.on_behalf_of,
        action=message.action,
        provider=message.provider,
        version=message.version,
        outcome=message.outcome,
        request_id=message.request_id,
        generation=message.generation,
    )
    return Link(event, message.sequence, message.hash)


def head_from_message(message: AuditHead) -> Head:
    """The signed head in an answer; InternalError for one that no vault can have written."""
    if message.sequence < 0:
        raise InternalError(_UNKNOWN)
    return Head(message.org_id, message.sequence, message.hash, message.signature, message.public_key)


def parts_of(answers: Iterable[ExportAuditResponse]) -> Iterator[Part]:
    """A chain as it comes; InternalError for what is none of a chain's."""
    ended = False
    for answer in answers:
        match answer.WhichOneof("part"):
            case "event" if not ended:
                yield link_from_message(answer.event)
            case "head" if not ended:
                ended = True
                yield head_from_message(answer.head)
            case _:
                raise InternalError(_UNKNOWN)


def parts_in(lines: Iterable[str]) -> Iterator[Part]:
    """The chain in an export, line by line; BadInput names the first line that is none of an export's."""
    ended = False
    for number, line in enumerate(lines, start=1):
        part = _parsed(line, number)
        if ended and (part.links or part.head):
            raise BadInput(f"Line {number} stands behind the head, which ends an export: nothing is proved.")
        yield from part.links
        if part.head:
            ended = True
            yield part.head


def write_export(parts: Iterable[Part], file: TextIO) -> Chain:
    """Write a chain as it comes; what was written."""
    events, head = 0, None
    for part in parts:
        if isinstance(part, Head):
            head = part
            lines = to_lines((), part)
        else:
            events += 1
            lines = to_lines((part,), None)
        file.writelines(f"{line}\n" for line in lines)
    return Chain(events, head)


def prove(parts: Iterable[Part], *, org_id: str | None = None, public_key: bytes | None = None) -> Chain:
    """Prove a chain as it comes; Broken when it is not as it was written.

    With `org_id`, it must be that org's. The signature must be that of `public_key`; without one, that of the key which
    the head names itself.
    """
    prover = None if org_id is None else Prover(org_id)
    head: Head | None = None
    for part in parts:
        if isinstance(part, Head):
            head = part
        else:
            prover = prover or Prover(part.event.org_id)
            prover.add(part)

    def check(named: bytes, signature: bytes, message: bytes) -> bool:
        return check_signature(public_key or named, signature, message)

    prover = prover or Prover(head.org_id if head else "")
    return Chain(prover.end(head, check), head)


def _parsed(line: str, number: int) -> Export:
    try:
        part = Export.parse([line])
        # What JSON can say and no event can, e.g. half a character or a time before 1970, shows here.
        for link in part.links:
            event_hash(GENESIS, link.sequence, link.event)
        # Whatever else JSON lets a line say, e.g. a field more, or one twice, no hash covers.
        as_written = line.strip() == "".join(to_lines(part.links, part.head))
    except (ValueError, OverflowError, RecursionError):
        as_written = False
    if not as_written:
        raise BadInput(f"Line {number} is not as an export of the audit has it: nothing is proved.")
    return part
