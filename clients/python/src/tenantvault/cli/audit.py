"""`tenantvault audit`: what happened to an org's credentials, as a list and as an export."""

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import click

from tenantvault.audit import Link, to_lines
from tenantvault.cli.arguments import LARGEST, chain_id, provider, provider_number
from tenantvault.cli.chain import Chain, Part, link_from_message, parts_of, write_export
from tenantvault.cli.connection import LONG, Access, Vault, access_options
from tenantvault.cli.output import BadInput, Output, counted, output_option, printable, readable, table
from tenantvault.credentials import Provider
from tenantvault.errors import InternalError
from tenantvault.v1.admin_service_pb2 import ExportAuditRequest
from tenantvault.v1.status_service_pb2 import ListAuditEventsRequest

_PAGE: Final = 500
_ACTION: Final = re.compile("[a-z][a-z0-9_.-]{0,63}")
_SERVICE: Final = re.compile("[a-z0-9][a-z0-9-]{0,62}")
_HEADER: Final = ("EVENT", "TIME", "ACTION", "PROVIDER", "VERSION", "OUTCOME", "PEER", "ON BEHALF OF", "REQUEST")


@click.group()
def audit() -> None:
    """List, export and prove what happened.

    In the place of an ORG stands _vault for what happened to the vault as a whole.
    """


def _action(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    if value is not None and not _ACTION.fullmatch(value):
        raise click.BadParameter("give an action, e.g. credential.get.", context, parameter)
    return value or ""


def _service(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    if value is not None and not _SERVICE.fullmatch(value):
        raise click.BadParameter("give a service's name, e.g. voice-agent.", context, parameter)
    return value or ""


@audit.command("list")
@click.argument("org", callback=chain_id)
@click.option("--provider", "wanted", metavar="PROVIDER", callback=provider, help="Only events of this provider.")
@click.option("--action", metavar="ACTION", callback=_action, help="Only events of this action, e.g. credential.get.")
@click.option("--service", metavar="NAME", callback=_service, help="Only events that it caused, e.g. voice-agent.")
@click.option("--failed", is_flag=True, help="Only events that did not end well.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many events.")
@click.option("--before", type=click.IntRange(1, LARGEST), default=None, help="Only events before this number.")
@access_options
@output_option
def list_events(
    access: Access,
    output: Output,
    *,
    org: str,
    wanted: Provider | None,
    action: str,
    service: str,
    failed: bool,
    limit: int,
    before: int | None,
) -> None:
    """List the events of ORG, newest first."""
    request = ListAuditEventsRequest(
        org_id=org,
        provider=provider_number(wanted),
        action=action,
        peer=service,
        failed=failed,
        before_sequence=before or 0,
    )
    with access.open() as vault:
        links = _listed(vault, request, limit)
    output.show({"events": [json.loads(line) for line in to_lines(links, None)]}, table(_HEADER, map(_row, links)))


def _listed(vault: Vault, request: ListAuditEventsRequest, limit: int) -> list[Link]:
    links: list[Link] = []
    while len(links) < limit:
        request.page_size = min(_PAGE, limit - len(links))
        page = vault.call(vault.status.ListAuditEvents, request)
        links += map(link_from_message, page.events)
        # A page may be empty and not be the last.
        if not page.next_before_sequence:
            break
        # Of a vault that goes round in circles there would be no end.
        if 0 < request.before_sequence <= page.next_before_sequence:
            raise InternalError("The vault's answer is not in order: update tenantvault.")
        request.before_sequence = page.next_before_sequence
    return links


def _row(link: Link) -> tuple[object, ...]:
    event = link.event
    return (
        link.sequence,
        readable(event.occurred_at),
        event.action,
        event.provider,
        event.version or "",
        event.outcome,
        event.peer,
        event.on_behalf_of,
        event.request_id,
    )


@audit.command("export")
@click.argument("org", callback=chain_id)
@click.option(
    "--output", "path", metavar="FILE", type=click.Path(path_type=Path), help="Where to write, instead of the terminal."
)
@click.option("--force", is_flag=True, help="Write over FILE when it is there.")
@access_options
@output_option
def export(access: Access, output: Output, *, org: str, path: Path | None, force: bool) -> None:
    """Export the whole audit chain of ORG, one JSON object a line, with its signed head at the end."""
    if path is None:
        with access.open(seconds=LONG) as vault:
            _export(vault, org, sys.stdout)
        sys.stdout.flush()
        return
    if not force and os.path.lexists(path):
        raise _there_already(path)
    with access.open(seconds=LONG) as vault, _new_file(path, force=force) as file:
        written = _export(vault, org, file)
    output.show(
        {"org_id": org, "file": str(path), **end_of(written)},
        [f"{printable(str(path))} holds {counted(written.events, 'event')} of {org}."],
    )


def _export(vault: Vault, org: str, file: TextIO) -> Chain:
    written = write_export(exported(vault, org), file)
    if written.events and written.head is None:
        raise InternalError("The vault ended the export without its signed head: nothing can be proved with it.")
    return written


def exported(vault: Vault, org: str) -> Iterator[Part]:
    """The audit chain of an org, as it comes."""
    return parts_of(vault.stream(vault.admin.ExportAudit, ExportAuditRequest(org_id=org)))


@contextmanager
def _new_file(path: Path, *, force: bool) -> Iterator[TextIO]:
    """A file that is there, with mode 0600, once everything is in it, and not before."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if force:
                Path(name).replace(path)
            else:
                # Unlike a rename, a link never takes the place of what came there meanwhile.
                path.hardlink_to(name)
        finally:
            Path(name).unlink(missing_ok=True)
    except FileExistsError:
        raise _there_already(path) from None
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.") from None


def _there_already(path: Path) -> BadInput:
    return BadInput(f"{path} is there already: name another file, or write over it with --force.")


def end_of(chain: Chain) -> dict[str, Any]:
    """How a chain ends, for programs."""
    head = chain.head
    return {
        "events": chain.events,
        "head": head.hash.hex() if head else None,
        "public_key": head.public_key.hex() if head else None,
    }
