"""`tenantvault audit verify`: the proof that a chain is as it was written."""

from pathlib import Path

import click

from tenantvault.audit import Broken, Head
from tenantvault.cli.arguments import chain_id, public_key
from tenantvault.cli.audit import end_of, exported
from tenantvault.cli.chain import Chain, parts_in, prove
from tenantvault.cli.connection import LONG, Access, Vault, access_options
from tenantvault.cli.output import BadInput, Output, Status, counted, output_option, printable
from tenantvault.v1.admin_service_pb2 import VerifyAuditRequest, VerifyAuditResponse


@click.command("verify")
@click.argument("org", required=False, callback=chain_id)
@click.option(
    "--file",
    "path",
    metavar="EXPORT",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An export to prove, without a vault.",
)
@click.option(
    "--public-key",
    "signer",
    metavar="HEX",
    callback=public_key,
    help="The vault's public key, as 'tenantvault keys status' shows it.  [default: the one that the chain names]",
)
@access_options
@output_option
def verify(access: Access, output: Output, *, org: str | None, path: Path | None, signer: bytes | None) -> None:
    """Prove that no event of ORG, or of an export of its chain, was changed, moved, left out or added.

    The proof is made here. For ORG, the vault makes it too, against its database.
    """
    try:
        match org, path:
            case str(), None:
                proved = _proved_with_the_vault(access, org, signer)
            case None, Path():
                proved = _proved(path, signer)
            case _:
                raise BadInput("Give an ORG, or an export with --file, and not both.")
    except Broken as broken:
        output.show(
            {"org_id": org, "intact": False, "broken_sequence": broken.sequence, "problem": str(broken)},
            [f"BROKEN at event {broken.sequence}: {printable(str(broken))}."],
        )
        raise click.exceptions.Exit(Status.NO) from None
    head = proved.head
    output.show(
        {
            "org_id": head.org_id if head else org,
            "intact": True,
            "public_key_given": signer is not None,
            **end_of(proved),
        },
        _praise(head, given=signer is not None) if head else [f"{org} has no events."],
    )


def _proved_with_the_vault(access: Access, org: str, signer: bytes | None) -> Chain:
    with access.open(seconds=LONG) as vault:
        # Asked first: what happens meanwhile makes a chain longer, and nothing makes it shorter.
        theirs = _proved_there(vault, org)
        proved = prove(exported(vault, org), org_id=org, public_key=signer)
        if proved.events < theirs.events:
            raise Broken(
                proved.events + 1,
                f"the vault counts {counted(theirs.events, 'event')} and exported {proved.events or 'none'}",
            )
        if proved.events > theirs.events:
            theirs = _proved_there(vault, org)
    if theirs.events < proved.events:
        raise Broken(theirs.events + 1, f"the vault counts {theirs.events} events now, and exported {proved.events}")
    if proved.head and theirs.events == proved.events and theirs.head != proved.head.hash:
        raise Broken(proved.events, f"event {proved.events} is another one in the vault's database")
    return proved


def _proved_there(vault: Vault, org: str) -> VerifyAuditResponse:
    theirs = vault.call(vault.admin.VerifyAudit, VerifyAuditRequest(org_id=org))
    if theirs.broken_sequence or theirs.problem:
        raise Broken(theirs.broken_sequence, f"the vault says: {theirs.problem}")
    return theirs


def _proved(path: Path, signer: bytes | None) -> Chain:
    try:
        # Bytes that are no UTF-8 become what no event can hold.
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            proved = prove(parts_in(file), public_key=signer)
    except OSError as error:
        raise BadInput(f"Cannot read {path}: {error.strerror}.") from None
    if proved.head is None:
        raise Broken(1, "there is no event and no signed head, so nothing can be proved")
    return proved


def _praise(head: Head, *, given: bool) -> list[str]:
    trust = (
        "Its head is signed with the key that you gave."
        if given
        else "The signature was checked against the key in the export only: give the vault's with --public-key."
    )
    return [
        f"{printable(head.org_id)} is whole: {counted(head.sequence, 'event')}, as they were written.",
        f"head        {head.hash.hex()}",
        f"public key  {head.public_key.hex()}",
        trust,
    ]
