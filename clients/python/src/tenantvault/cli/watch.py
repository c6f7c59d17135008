"""`tenantvault watch`: changes, as they come."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import click

from tenantvault.cli.connection import Access, Vault, access_options, for_services
from tenantvault.cli.output import Output, iso, output_option, printable, readable
from tenantvault.errors import DeadlineExceeded, VaultUnavailable
from tenantvault.v1.access_service_pb2 import Resync, WatchChangesRequest, WatchChangesResponse

_LONGEST: Final = 3500.0
"""Seconds; the vault allows an hour."""

_BEGUN: Final = "Watching for changes. Ctrl-C ends it."


@click.command(short_help="Show changes of all orgs as they come.")
@access_options
@output_option
def watch(access: Access, output: Output) -> None:
    """Show every change of any org as it comes, a line each, until Ctrl-C.

    A line says that something of the org can be read no more, or reads otherwise; what it was is in the audit. It takes
    the certificate of a service that may watch.
    """
    with access.open(seconds=_LONGEST) as vault, for_services("WatchChanges"):
        if not output.as_json and sys.stderr.isatty():
            click.echo(_BEGUN, err=True)
        for word in _words(vault):
            now = datetime.now(UTC)
            if word.HasField("change"):
                org, generation = word.change.org_id, word.change.generation
                output.show(
                    {"event": "change", "at": iso(now), "org_id": org, "generation": generation},
                    [f"{readable(now)}  {printable(org)} changed: its generation is {generation} now."],
                )
            else:
                output.show(
                    {"event": "resync", "at": iso(now)}, [f"{readable(now)}  Changes may have been missed here."]
                )


def _words(vault: Vault) -> Iterator[WatchChangesResponse]:
    """What there is to tell, without end: a watch whose time is over is followed by another."""
    while True:
        heard = False
        try:
            for word in vault.stream(vault.access.WatchChanges, WatchChangesRequest()):
                heard = True
                if not word.HasField("heartbeat"):
                    yield word
        except DeadlineExceeded:
            if not heard:
                raise
            # Between the two.
            yield WatchChangesResponse(resync=Resync())
        else:
            raise VaultUnavailable("The vault ended the watch, as it does when it stops: watch again.")
