"""The methods that a client calls, by their full names, and which of them are reads."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.directory_service_pb2_grpc import OrgDirectoryServiceStub
from tenantvault.v1.integration_service_pb2_grpc import IntegrationServiceStub

_ACCESS: Final = "tenantvault.v1.CredentialAccessService"
_DIRECTORY: Final = "tenantvault.v1.OrgDirectoryService"

GET: Final = f"{_ACCESS}/GetCredential"
BATCH_GET: Final = f"{_ACCESS}/BatchGetCredentials"
RESOLVE_CREDENTIAL: Final = f"{_ACCESS}/ResolveCredential"
RESOLVE_ORG: Final = f"{_DIRECTORY}/ResolveOrg"
BATCH_RESOLVE: Final = f"{_DIRECTORY}/BatchResolveOrgs"
REPORT_FAILURE: Final = f"{_ACCESS}/ReportFailure"
WATCH: Final = f"{_ACCESS}/WatchChanges"
REFRESH: Final = "tenantvault.v1.IntegrationService/RefreshAccessToken"

READS: Final = (GET, BATCH_GET, RESOLVE_CREDENTIAL, RESOLVE_ORG, BATCH_RESOLVE)
"""Those that change nothing, and so may be asked again, or twice at once."""

Methods: TypeAlias = Mapping[str, Any]
"""The methods of one connection, by name."""


def vault_methods(channel: Any) -> Methods:
    """What is called at the vault over a channel."""
    access, directory = CredentialAccessServiceStub(channel), OrgDirectoryServiceStub(channel)
    return {
        GET: access.GetCredential,
        BATCH_GET: access.BatchGetCredentials,
        RESOLVE_CREDENTIAL: access.ResolveCredential,
        RESOLVE_ORG: directory.ResolveOrg,
        BATCH_RESOLVE: directory.BatchResolveOrgs,
        REPORT_FAILURE: access.ReportFailure,
        WATCH: access.WatchChanges,
    }


def provider_methods(channel: Any) -> Methods:
    """What is called at the provider service over a channel."""
    return {REFRESH: IntegrationServiceStub(channel).RefreshAccessToken}
