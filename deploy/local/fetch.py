"""Fetches a credential as an internal service does: over mutual TLS, with the client library."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final

from deploy.local import running
from deploy.local.authority import DevelopmentAuthority
from deploy.local.errors import LocalError
from tenantvault.client import Client
from tenantvault.credentials import ActiveCredential, Credential, Provider
from tenantvault.errors import TenantVaultError
from tenantvault.secret import Secret

SERVICE: Final = "voice-agent"
"""In whose name: a service that the policy lets read credentials."""


def fetch(root: Path, org_id: str, provider: str, *, reveal: bool) -> str:
    """What the vault of the stack that runs on `root` gives for an org and a provider, for people to read.

    Secrets show their last four characters and their length, with `reveal` themselves. Raises LocalError.
    """
    by_name = {known.value.lower(): known for known in Provider}
    wanted = by_name.get(provider.lower())
    if wanted is None:
        raise LocalError(f"{provider!r} is no provider: give one of {', '.join(Provider)}.")
    target = running.find(root).vault_target
    tls = DevelopmentAuthority(root / "tls").issue(SERVICE, server=False)
    with Client.connect(target, tls) as vault:
        try:
            credential = vault.get(org_id, wanted)
        except TenantVaultError as error:
            raise LocalError(f"{error.message} ({error.reason})") from None
    return describe(credential, reveal=reveal)


def describe(active: ActiveCredential[Credential], *, reveal: bool) -> str:
    """The credential as lines of text."""
    lines = [
        ("org", active.org_id),
        ("provider", active.provider.value),
        ("version", str(active.version)),
        *_parts(active.credential, reveal=reveal),
        *((resource.kind.value, f"{resource.resource_id} {resource.role}".rstrip()) for resource in active.resources),
        ("last verified", f"{active.last_verified_at:%Y-%m-%d %H:%M:%S} UTC" if active.last_verified_at else "never"),
    ]
    return "\n".join(f"{label:<16}{text}" for label, text in lines)


def _parts(credential: Credential, *, reveal: bool) -> Iterator[tuple[str, str]]:
    for field in fields(credential):
        value = getattr(credential, field.name)
        if value:
            yield field.name, _shown(value, reveal=reveal) if isinstance(value, Secret) else value


def _shown(secret: Secret, *, reveal: bool) -> str:
    plaintext = secret.reveal()
    return plaintext if reveal else f"{secret.hint()} ({len(plaintext)} characters, decrypted)"
