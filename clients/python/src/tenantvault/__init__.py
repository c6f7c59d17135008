"""The Python client of TenantVault.

    from tenantvault import AsyncClient

    async with AsyncClient.from_env() as vault:
        acme = await vault.vapi("acme")
        headers = {"Authorization": f"Bearer {acme.credential.api_key.reveal()}"}

`Client` is the same for threads. Everything that can go wrong is a class of `tenantvault.errors`.
"""

from tenantvault import errors
from tenantvault._batches import Batch
from tenantvault._cache_settings import CacheSettings, CacheStatistics
from tenantvault.async_client import AsyncClient
from tenantvault.channel import DEFAULT_DEADLINE
from tenantvault.client import Client
from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    PreviousCredential,
    Provider,
    ResendCredential,
    ResolvedOrg,
    Resource,
    ResourceKind,
    TwilioCredential,
    TwilioWebhook,
    VapiCredential,
)
from tenantvault.errors import TenantVaultError
from tenantvault.secret import Secret
from tenantvault.tls import TlsFiles

__all__ = [
    "DEFAULT_DEADLINE",
    "ActiveCredential",
    "AsyncClient",
    "Batch",
    "CacheSettings",
    "CacheStatistics",
    "Client",
    "Credential",
    "ElevenLabsCredential",
    "GoogleCalendarCredential",
    "PreviousCredential",
    "Provider",
    "ResendCredential",
    "ResolvedOrg",
    "Resource",
    "ResourceKind",
    "Secret",
    "TenantVaultError",
    "TlsFiles",
    "TwilioCredential",
    "TwilioWebhook",
    "VapiCredential",
    "errors",
]
