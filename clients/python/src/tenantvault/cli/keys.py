"""`tenantvault keys`: the master keys, and new ones in their place."""

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import click

from tenantvault.cli.arguments import org_argument, origin_option
from tenantvault.cli.connection import LONG, Access, Vault, access_options
from tenantvault.cli.output import Output, counted, output_option, printable, table
from tenantvault.errors import TenantVaultError, VaultUnavailable
from tenantvault.v1.admin_service_pb2 import (
    GetKeyStatusRequest,
    GetKeyStatusResponse,
    MasterKey,
    MasterKeyState,
    RotateMasterKeyRequest,
    RotateMasterKeyResponse,
    RotateOrgKeyRequest,
)
from tenantvault.v1.store_service_pb2 import Origin

_AGAIN: Final = "Run it again: it goes on where it was cut off."
_HEADER: Final = ("MASTER KEY", "STATE", "HERE", "WRAPS", "ORG KEYS", "FINGERPRINT")


@click.group()
def keys() -> None:
    """Show the keys, and give new ones."""


@keys.command("status")
@access_options
@output_option
def status(access: Access, output: Output) -> None:
    """Show the master keys, without their values, and the public key that signs the audit."""
    with access.open() as vault:
        answer = vault.call(vault.admin.GetKeyStatus, GetKeyStatusRequest())
    output.show(_status(answer), _described(answer))


@keys.command("rotate-master")
@origin_option
@access_options
@output_option
def rotate_master(access: Access, output: Output, *, origin: Origin) -> None:
    """Wrap every org's key anew under the master key that the vault wraps with.

    Reads go on meanwhile. What was cut off goes on when the command is run again.
    """
    last: RotateMasterKeyResponse | None = None
    with access.open(seconds=LONG) as vault:
        try:
            for last in _progress(_rotated(vault, origin), shown=not output.as_json and sys.stderr.isatty()):
                if output.as_json:
                    output.show(_step(last), ())
        except TenantVaultError as error:
            if last is None and not error.retryable:
                raise
            raise type(error)(f"{error.message} {_AGAIN}", retry_after=error.retry_after) from None
        except KeyboardInterrupt:
            raise click.Abort(_AGAIN) from None
    if last is None or last.left:
        raise VaultUnavailable(f"The vault ended before all was done. {_AGAIN}")
    if not output.as_json:
        click.echo(_done(last))


def _rotated(vault: Vault, origin: Origin) -> Iterator[RotateMasterKeyResponse]:
    return vault.stream(vault.admin.RotateMasterKey, RotateMasterKeyRequest(origin=origin))


@keys.command("rotate-org")
@org_argument
@origin_option
@access_options
@output_option
def rotate_org(access: Access, output: Output, *, org: str, origin: Origin) -> None:
    """Give ORG a new key; its records are sealed anew in the background."""
    with access.open() as vault:
        answer = vault.call(vault.admin.RotateOrgKey, RotateOrgKeyRequest(org_id=org, origin=origin))
    said = (
        f"{org} has the new key {printable(answer.key_id)}. Its records are sealed anew in the background, and then "
        "the old key is destroyed: 'tenantvault keys status' tells how many orgs wait."
    )
    output.show({"org_id": org, "key_id": answer.key_id}, [said])


def _progress(answers: Iterator[RotateMasterKeyResponse], *, shown: bool) -> Iterator[RotateMasterKeyResponse]:
    """The answers, with a bar on standard error that moves with them."""
    first = next(answers, None) if shown else None
    if first is None:
        yield from answers
        return
    with click.progressbar(length=_length(first), label="Wrapping keys", file=sys.stderr) as bar:
        for answer in chain([first], answers):
            bar.length = _length(answer)
            bar.update(answer.done - bar.pos)
            yield answer


def _length(answer: RotateMasterKeyResponse) -> int:
    return answer.done + answer.left


def _status(answer: GetKeyStatusResponse) -> dict[str, Any]:
    return {
        "master_keys": [
            {
                "master_key_id": key.master_key_id,
                "state": _state(key),
                "fingerprint": key.fingerprint.hex(),
                "present": key.present,
                "wrapping": key.wrapping,
                "org_keys": key.org_keys,
            }
            for key in answer.master_keys
        ],
        "audit_public_key": answer.audit_public_key.hex(),
        "org_rotations_under_way": answer.org_rotations_under_way,
    }


def _described(answer: GetKeyStatusResponse) -> list[str]:
    rows = [
        (
            key.master_key_id,
            _state(key),
            "yes" if key.present else "no",
            "yes" if key.wrapping else "no",
            key.org_keys,
            key.fingerprint.hex(),
        )
        for key in answer.master_keys
    ]
    return [
        *table(_HEADER, rows),
        "",
        f"The audit is signed with {answer.audit_public_key.hex()}.",
        f"Orgs with records that wait for their new key: {answer.org_rotations_under_way}.",
    ]


def _state(key: MasterKey) -> str:
    # A newer vault may know more states.
    if key.state not in MasterKeyState.values():
        return f"unknown ({key.state})"
    return MasterKeyState.Name(key.state).removeprefix("MASTER_KEY_STATE_").lower()


def _step(answer: RotateMasterKeyResponse) -> dict[str, Any]:
    return {
        "master_key_id": answer.master_key_id,
        "done": answer.done,
        "left": answer.left,
        "retired": list(answer.retired),
    }


def _done(answer: RotateMasterKeyResponse) -> str:
    said = f"Everything is wrapped under {printable(answer.master_key_id)}: {counted(answer.done, 'key')} anew."
    if answer.retired:
        said += f" Retired, and no longer needed in any keyring: {printable(', '.join(answer.retired))}."
    return said
