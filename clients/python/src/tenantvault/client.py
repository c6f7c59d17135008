"""The client for threads."""

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, overload

import grpc

from tenantvault._reads import (
    WAIT_FOR_READY,
    client_closed,
    failure,
    get_request,
    opened,
    resolve_credential_request,
    resolve_org_request,
    resolved,
    seconds,
)
from tenantvault._settings import Settings
from tenantvault._status import FailedCall
from tenantvault.channel import DEFAULT_DEADLINE, open_blocking_channel
from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    Provider,
    ResolvedOrg,
    ResourceKind,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.tls import TlsFiles
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.directory_service_pb2_grpc import OrgDirectoryServiceStub

ResponseT = TypeVar("ResponseT")


class Client:
    """Reads credentials from the vault, blocking. One client serves all threads of its process.

    Make it by `from_env` or `connect`, and close it, or use it in `with`. It connects when it is first used and
    reconnects by itself; a call made meanwhile waits for that within its deadline.

    Every call has a deadline in seconds, `deadline` unless it names its own, and raises a `TenantVaultError` and
    nothing else.
    """

    def __init__(self, channel: grpc.Channel, *, deadline: float = DEFAULT_DEADLINE) -> None:
        self._deadline = seconds(deadline)
        self._channel = channel
        access = CredentialAccessServiceStub(channel)
        self._get = access.GetCredential
        self._resolve_credential = access.ResolveCredential
        self._resolve_org = OrgDirectoryServiceStub(channel).ResolveOrg
        self._closed = False

    @classmethod
    def connect(cls, target: str, tls: TlsFiles, *, deadline: float = DEFAULT_DEADLINE) -> Self:
        """A client of the vault at `host:port`. OSError when a file of `tls` cannot be read."""
        return cls(open_blocking_channel(target, tls), deadline=deadline)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, deadline: float = DEFAULT_DEADLINE) -> Self:
        """A client by TENANTVAULT_VAULT_TARGET, TENANTVAULT_TLS_CERT, TENANTVAULT_TLS_KEY and TENANTVAULT_TLS_CA.

        Raises:
            ValueError: variables are missing, or name files that cannot be read; the sentence names them all.
        """
        settings = Settings.from_env(environ)
        return cls.connect(settings.target, settings.tls, deadline=deadline)

    def get(self, org_id: str, provider: Provider, *, deadline: float | None = None) -> ActiveCredential[Credential]:
        """The org's credential for a provider; CredentialNotFound when it has connected none."""
        request = get_request(org_id, provider)
        return opened(self._call(self._get, request, deadline).credential, request)

    def vapi(self, org_id: str, *, deadline: float | None = None) -> ActiveCredential[VapiCredential]:
        """The org's Vapi credential; CredentialNotFound when it has connected none."""
        return cast("ActiveCredential[VapiCredential]", self.get(org_id, Provider.VAPI, deadline=deadline))

    def twilio(self, org_id: str, *, deadline: float | None = None) -> ActiveCredential[TwilioCredential]:
        """The org's Twilio credential; CredentialNotFound when it has connected none."""
        return cast("ActiveCredential[TwilioCredential]", self.get(org_id, Provider.TWILIO, deadline=deadline))

    def resolve_org(self, kind: ResourceKind, resource_id: str, *, deadline: float | None = None) -> ResolvedOrg:
        """The org that a resource belongs to, e.g. a webhook's assistant id; ResourceNotFound when it is nobody's."""
        return resolved(self._call(self._resolve_org, resolve_org_request(kind, resource_id), deadline))

    @overload
    def resolve_credential(
        self, kind: ResourceKind, resource_id: str, provider: Literal[Provider.VAPI], *, deadline: float | None = None
    ) -> ActiveCredential[VapiCredential]: ...
    @overload
    def resolve_credential(
        self, kind: ResourceKind, resource_id: str, provider: Literal[Provider.TWILIO], *, deadline: float | None = None
    ) -> ActiveCredential[TwilioCredential]: ...
    @overload
    def resolve_credential(
        self, kind: ResourceKind, resource_id: str, provider: Provider, *, deadline: float | None = None
    ) -> ActiveCredential[Credential]: ...
    def resolve_credential(
        self, kind: ResourceKind, resource_id: str, provider: Provider, *, deadline: float | None = None
    ) -> ActiveCredential[Credential]:
        """The credential of the org that a resource belongs to, in one call; its `org_id` is the org.

        Raises:
            ResourceNotFound: the resource is nobody's, or its org has no such credential: both answer alike.
        """
        request = resolve_credential_request(kind, resource_id, provider)
        return opened(self._call(self._resolve_credential, request, deadline).credential, request)

    def close(self) -> None:
        """End the connection and every call under way. A closed client stays closed."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Callable[..., ResponseT], request: Any, deadline: float | None) -> ResponseT:
        timeout = self._deadline if deadline is None else seconds(deadline)
        if self._closed:
            raise client_closed()
        try:
            return method(request, timeout=timeout, wait_for_ready=WAIT_FOR_READY)
        except grpc.RpcError as error:
            raise failure(cast("FailedCall", error), closed=self._closed) from None
        except ValueError:
            # What a channel says that another thread has closed since.
            if self._closed:
                raise client_closed() from None
            raise
