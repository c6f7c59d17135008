"""The client for threads."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, overload

import grpc

from tenantvault._flights import Flights, Join
from tenantvault._reads import (
    WAIT_FOR_READY,
    client_closed,
    failure,
    failure_report,
    get_request,
    no_answer,
    opened,
    resolve_credential_request,
    resolve_org_request,
    resolved,
    seconds,
)
from tenantvault._settings import Settings
from tenantvault._status import FailedCall
from tenantvault._tokens import (
    MIN_LIFE,
    current,
    end_after,
    lasts,
    least_life,
    nobody_to_refresh,
    refresh_request,
    remaining,
    still_too_short,
    utc_now,
)
from tenantvault.channel import DEFAULT_DEADLINE, open_blocking_channel
from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    Provider,
    ResendCredential,
    ResolvedOrg,
    ResourceKind,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.errors import DeadlineExceeded, TenantVaultError
from tenantvault.tls import TlsFiles
from tenantvault.v1.access_service_pb2 import GetCredentialRequest
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.directory_service_pb2_grpc import OrgDirectoryServiceStub
from tenantvault.v1.integration_service_pb2 import RefreshAccessTokenResponse
from tenantvault.v1.integration_service_pb2_grpc import IntegrationServiceStub

ResponseT = TypeVar("ResponseT")


class Client:
    """Reads credentials from the vault, blocking. One client serves all threads of its process.

    Make it by `from_env` or `connect`, and close it, or use it in `with`. It connects when it is first used and
    reconnects by itself; a call made meanwhile waits for that within its deadline.

    Every call has a deadline in seconds, `deadline` unless it names its own, and raises a `TenantVaultError` and
    nothing else.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        provider_channel: grpc.Channel | None = None,
        *,
        deadline: float = DEFAULT_DEADLINE,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._deadline = seconds(deadline)
        self._now = now
        self._channel = channel
        self._provider_channel = provider_channel
        access = CredentialAccessServiceStub(channel)
        self._get = access.GetCredential
        self._resolve_credential = access.ResolveCredential
        self._report_failure = access.ReportFailure
        self._resolve_org = OrgDirectoryServiceStub(channel).ResolveOrg
        self._refresh_token = (
            None if provider_channel is None else IntegrationServiceStub(provider_channel).RefreshAccessToken
        )
        self._flights: Flights[grpc.Future[RefreshAccessTokenResponse]] = Flights()
        self._closed = False

    @classmethod
    def connect(
        cls, target: str, tls: TlsFiles, *, provider_target: str | None = None, deadline: float = DEFAULT_DEADLINE
    ) -> Self:
        """A client of the vault at `host:port`; OSError when a file of `tls` cannot be read.

        `provider_target` is where the provider service is, which gets a new access token for `google_calendar`.
        """
        provider_channel = open_blocking_channel(provider_target, tls) if provider_target else None
        return cls(open_blocking_channel(target, tls), provider_channel, deadline=deadline)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, deadline: float = DEFAULT_DEADLINE) -> Self:
        """A client by TENANTVAULT_VAULT_TARGET, TENANTVAULT_TLS_CERT, TENANTVAULT_TLS_KEY and TENANTVAULT_TLS_CA.

        TENANTVAULT_PROVIDER_TARGET is optional: `google_calendar` needs it.

        Raises:
            ValueError: variables are missing, or name files that cannot be read; the sentence names them all.
        """
        settings = Settings.from_env(environ)
        return cls.connect(settings.target, settings.tls, provider_target=settings.provider_target, deadline=deadline)

    def get(
        self, org_id: str, provider: Provider, *, include_previous: bool = False, deadline: float | None = None
    ) -> ActiveCredential[Credential]:
        """The org's credential for a provider, as it is stored; CredentialNotFound when it has connected none.

        With `include_previous` the one that a rotation replaced comes along as its `previous`, while it is readable.
        """
        request = get_request(org_id, provider, include_previous=include_previous)
        return opened(self._call(self._get, request, deadline).credential, request)

    def vapi(
        self, org_id: str, *, include_previous: bool = False, deadline: float | None = None
    ) -> ActiveCredential[VapiCredential]:
        """The org's Vapi credential; CredentialNotFound when it has connected none."""
        found = self.get(org_id, Provider.VAPI, include_previous=include_previous, deadline=deadline)
        return cast("ActiveCredential[VapiCredential]", found)

    def twilio(
        self, org_id: str, *, include_previous: bool = False, deadline: float | None = None
    ) -> ActiveCredential[TwilioCredential]:
        """The org's Twilio credential; CredentialNotFound when it has connected none."""
        found = self.get(org_id, Provider.TWILIO, include_previous=include_previous, deadline=deadline)
        return cast("ActiveCredential[TwilioCredential]", found)

    def resend(
        self, org_id: str, *, include_previous: bool = False, deadline: float | None = None
    ) -> ActiveCredential[ResendCredential]:
        """The org's Resend credential; CredentialNotFound when it has connected none."""
        found = self.get(org_id, Provider.RESEND, include_previous=include_previous, deadline=deadline)
        return cast("ActiveCredential[ResendCredential]", found)

    def elevenlabs(
        self, org_id: str, *, include_previous: bool = False, deadline: float | None = None
    ) -> ActiveCredential[ElevenLabsCredential]:
        """The org's ElevenLabs credential; CredentialNotFound when it has connected none."""
        found = self.get(org_id, Provider.ELEVENLABS, include_previous=include_previous, deadline=deadline)
        return cast("ActiveCredential[ElevenLabsCredential]", found)

    def google_calendar(
        self,
        org_id: str,
        *,
        min_life: float = MIN_LIFE,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[GoogleCalendarCredential]:
        """The org's Google credential, with an access token that lasts `min_life` seconds more, from 1 to 1800.

        When the stored one does not, the provider service gets a new one first, within the same deadline; many calls at
        once ask for that once.

        Raises:
            CredentialNotFound: the org has connected none.
            ReauthRequired: the consent is over: the customer has to connect the account again.
            ProviderUnreachable: no new token could be had now.
            InvalidRequest: one is needed, and the client does not know where the provider service is.
        """
        needed = least_life(min_life)
        timeout = self._deadline if deadline is None else seconds(deadline)
        ends = end_after(timeout)
        request = get_request(org_id, Provider.GOOGLE_CALENDAR, include_previous=include_previous)
        with self._flights.of(org_id) as join:
            found = self._google(request, timeout)
            if lasts(found, needed, self._now()):
                return found
            error = self._refreshed(org_id, join, ends)
            if error is not None and not error.retryable:
                raise error
            try:
                # Somebody else may have got a new one.
                found = self._google(current(request), remaining(ends, "vault"))
            except TenantVaultError as failed:
                raise (error or failed) from None
            if lasts(found, needed, self._now()):
                return found
            raise error or still_too_short()

    def report_failure(self, org_id: str, provider: Provider, version: int, *, deadline: float | None = None) -> bool:
        """Tell that the provider refused this version of the org's credential, so that it is tested soon.

        Returns whether a test is due now because of this call: telling it often tests it once, and nothing is done
        about another version than the active one. It is not tried again by itself.
        """
        request = failure_report(org_id, provider, version)
        return self._call(self._report_failure, request, deadline).test_is_due

    def resolve_org(self, kind: ResourceKind, resource_id: str, *, deadline: float | None = None) -> ResolvedOrg:
        """The org that a resource belongs to, e.g. a webhook's assistant id; ResourceNotFound when it is nobody's."""
        return resolved(self._call(self._resolve_org, resolve_org_request(kind, resource_id), deadline))

    @overload
    def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.VAPI],
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[VapiCredential]: ...
    @overload
    def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.TWILIO],
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[TwilioCredential]: ...
    @overload
    def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.GOOGLE_CALENDAR],
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[GoogleCalendarCredential]: ...
    @overload
    def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.RESEND],
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[ResendCredential]: ...
    @overload
    def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.ELEVENLABS],
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[ElevenLabsCredential]: ...
    @overload
    def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Provider,
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[Credential]: ...
    def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Provider,
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[Credential]:
        """The credential of the org that a resource belongs to, in one call; its `org_id` is the org.

        Raises:
            ResourceNotFound: the resource is nobody's, or its org has no such credential: both answer alike.
        """
        request = resolve_credential_request(kind, resource_id, provider, include_previous=include_previous)
        return opened(self._call(self._resolve_credential, request, deadline).credential, request)

    def close(self) -> None:
        """End the connections and every call under way. A closed client stays closed."""
        self._closed = True
        try:
            self._channel.close()
        finally:
            if self._provider_channel is not None:
                self._provider_channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _google(self, request: GetCredentialRequest, timeout: float) -> ActiveCredential[GoogleCalendarCredential]:
        found = opened(self._call(self._get, request, timeout).credential, request)
        return cast("ActiveCredential[GoogleCalendarCredential]", found)

    def _refreshed(
        self, org_id: str, join: "Join[grpc.Future[RefreshAccessTokenResponse]]", ends: float
    ) -> TenantVaultError | None:
        """What kept the stored access token from being replaced; None when it was."""
        error, own = self._waited(org_id, join, ends)
        if not own and isinstance(error, DeadlineExceeded):
            # Who began it may have had less time. Only once: a slow service is not asked by every caller in turn.
            error, _ = self._waited(org_id, join, ends)
        return error

    def _waited(
        self, org_id: str, join: "Join[grpc.Future[RefreshAccessTokenResponse]]", ends: float
    ) -> tuple[TenantVaultError | None, bool]:
        """How a refresh ended, and whether it was begun by this call."""
        if self._refresh_token is None:
            raise nobody_to_refresh()
        start = self._refresh_token.future
        wait = remaining(ends, "provider service")
        # The flight has a time of its own: it goes on for the others when who began it has given up.
        limit = max(self._deadline, wait)
        own = False

        def begin() -> "grpc.Future[RefreshAccessTokenResponse]":
            nonlocal own
            own = True
            return start(refresh_request(org_id), timeout=limit, wait_for_ready=WAIT_FOR_READY)

        try:
            flight = join(begin)
            error = flight.exception(timeout=wait)
        except grpc.FutureTimeoutError:
            raise no_answer("provider service") from None
        except ValueError:
            # What a channel says that another thread has closed since.
            if self._closed:
                raise client_closed() from None
            raise
        if error is None:
            return None, own
        return failure(cast("FailedCall", error), closed=self._closed, service="provider service"), own

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
