"""Fetches a credential as an internal service does: over mutual TLS, with the client library."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Final

from deploy.local import running
from deploy.local.authority import DevelopmentAuthority
from deploy.local.errors import LocalError
from tenantvault.client import Client
from tenantvault.credentials import ActiveCredential, Credential, Provider, TwilioWebhook
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
    stack = running.find(root)
    tls = DevelopmentAuthority(root / "tls").issue(SERVICE, server=False)
    with Client.connect(stack.vault_target, tls, provider_target=stack.provider_target) as vault:
        try:
            # An access token ends within the hour: a service would have it renewed.
            is_google = wanted is Provider.GOOGLE_CALENDAR
            credential = vault.google_calendar(org_id) if is_google else vault.get(org_id, wanted)
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
        ("last verified", _shown(active.last_verified_at or "never", reveal=reveal)),
    ]
    width = max(16, *(len(label) + 1 for label, _ in lines))
    return "\n".join(f"{label:<{width}}{text}" for label, text in lines)


def _parts(credential: Credential, *, reveal: bool) -> Iterator[tuple[str, str]]:
    for field in fields(credential):
        value = getattr(credential, field.name)
        if value:
            yield field.name, _shown(value, reveal=reveal)


def _shown(value: object, *, reveal: bool) -> str:
    match value:
        case Secret():
            plaintext = value.reveal()
            return plaintext if reveal else f"{value.hint()} ({len(plaintext)} characters, decrypted)"
        case TwilioWebhook():
            return f"of {value.number_sid}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S} UTC"
        case tuple():
            return ", ".join(_shown(part, reveal=reveal) for part in value)
        case _:
            return str(value)
