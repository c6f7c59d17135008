"""The operator's command in front of the vault of a running stack."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.local import running
from deploy.local.authority import DevelopmentAuthority

SERVICE: Final = "operator"
"""In whose name: a peer that the policy lets operate the vault."""


def operator_command(
    root: Path, arguments: Sequence[str], environ: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The command `tenantvault` with these arguments, and its environment.

    That is the environment of the person who calls, with the way to the vault and the provider service of the stack
    that runs on `root`. Raises LocalError.
    """
    stack = running.find(root)
    tls = DevelopmentAuthority(root / "tls").issue(SERVICE, server=False)
    return [sys.executable, "-m", "tenantvault.cli", *arguments], {
        **environ,
        "TENANTVAULT_VAULT_TARGET": stack.vault_target,
        "TENANTVAULT_PROVIDER_TARGET": stack.provider_target,
        "TENANTVAULT_TLS_CERT": str(tls.certificate),
        "TENANTVAULT_TLS_KEY": str(tls.key),
        "TENANTVAULT_TLS_CA": str(tls.authorities),
    }
