"""`tenantvault org`: stop handing out an org's credentials, for a while or for ever."""

import click

from tenantvault.cli.arguments import org_argument, org_id, origin_option
from tenantvault.cli.connection import Access, access_options
from tenantvault.cli.output import BadInput, Declined, Output, output_option
from tenantvault.v1.admin_service_pb2 import FreezeOrgRequest, ShredOrgRequest, UnfreezeOrgRequest
from tenantvault.v1.store_service_pb2 import Origin


@click.group()
def org() -> None:
    """Freeze, unfreeze and shred an org."""


@org.command("freeze")
@org_argument
@origin_option
@access_options
@output_option
def freeze(access: Access, output: Output, *, org: str, origin: Origin) -> None:
    """Refuse every read of ORG, in all vaults. Repeating it changes nothing."""
    with access.open() as vault:
        answer = vault.call(vault.admin.FreezeOrg, FreezeOrgRequest(org_id=org, origin=origin))
    output.show(
        {"org_id": org, "frozen": True, "generation": answer.generation},
        [f"{org} is frozen: no vault hands out anything of it. Its generation is {answer.generation}."],
    )


@org.command("unfreeze")
@org_argument
@origin_option
@access_options
@output_option
def unfreeze(access: Access, output: Output, *, org: str, origin: Origin) -> None:
    """End the freeze of ORG. Repeating it changes nothing."""
    with access.open() as vault:
        answer = vault.call(vault.admin.UnfreezeOrg, UnfreezeOrgRequest(org_id=org, origin=origin))
    output.show(
        {"org_id": org, "frozen": False, "generation": answer.generation},
        [f"{org} is not frozen any more. Its generation is {answer.generation}."],
    )


@org.command("shred")
@org_argument
@click.option("--confirm", metavar="ORG", callback=org_id, help="The org's id once more, instead of typing it.")
@origin_option
@access_options
@output_option
def shred(access: Access, output: Output, *, org: str, confirm: str | None, origin: Origin) -> None:
    """Destroy the keys of ORG, so that nothing of it can be read again. There is no way back."""
    if confirm is not None and confirm != org:
        raise BadInput(f"--confirm names {confirm}, and the org is {org}: nothing was shredded.")
    if confirm is None:
        output.warn(f"This destroys the keys of {org}. Nothing of it can be read again, here or in a backup.")
        confirm = output.ask("Type the org's id to go on:", instead=f"--confirm {org}")
        if confirm != org:
            raise Declined(f"That is not {org}: nothing was shredded.")
    with access.open() as vault:
        request = ShredOrgRequest(org_id=org, confirm_org_id=confirm, origin=origin)
        answer = vault.call(vault.admin.ShredOrg, request)
    output.show(
        {"org_id": org, "shredded": True, "generation": answer.generation},
        [f"The keys of {org} are destroyed. Its audit is kept."],
    )
