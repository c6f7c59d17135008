"""The client for asyncio."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, overload

import grpc.aio

from tenantvault._flights import Flights, Join
from tenantvault._reads import (
    WAIT_FOR_READY,
    Service,
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
    copied,
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
from tenantvault.channel import DEFAULT_DEADLINE, open_channel
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
from tenantvault.errors import DeadlineExceeded, InvalidRequest, TenantVaultError
from tenantvault.tls import TlsFiles
from tenantvault.v1.access_service_pb2 import GetCredentialRequest
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.directory_service_pb2_grpc import OrgDirectoryServiceStub
from tenantvault.v1.integration_service_pb2_grpc import IntegrationServiceStub

ResponseT = TypeVar("ResponseT")


class AsyncClient:
    """Reads credentials from the vault. One client serves all tasks of its event loop.

    Make it inside the running loop by `from_env` or `connect`, and close it, or use it in `async with`. It connects
    when it is first used and reconnects by itself; a call made meanwhile waits for that within its deadline.

    Every call has a deadline in seconds, `deadline` unless it names its own, and raises a `TenantVaultError` and
    nothing else; a task that is cancelled still gets its CancelledError.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        provider_channel: grpc.aio.Channel | None = None,
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
        self._flights: Flights[asyncio.Task[TenantVaultError | None]] = Flights()
        self._closed = False

    @classmethod
    def connect(
        cls, target: str, tls: TlsFiles, *, provider_target: str | None = None, deadline: float = DEFAULT_DEADLINE
    ) -> Self:
        """A client of the vault at `host:port`; OSError when a file of `tls` cannot be read.

        `provider_target` is where the provider service is, which gets a new access token for `google_calendar`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidRequest("Make an AsyncClient inside the event loop that uses it.") from None
        provider_channel = open_channel(provider_target, tls) if provider_target else None
        return cls(open_channel(target, tls), provider_channel, deadline=deadline)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, deadline: float = DEFAULT_DEADLINE) -> Self:
        """A client by TENANTVAULT_VAULT_TARGET, TENANTVAULT_TLS_CERT, TENANTVAULT_TLS_KEY and TENANTVAULT_TLS_CA.

        TENANTVAULT_PROVIDER_TARGET is optional: `google_calendar` needs it.

        Raises:
            ValueError: variables are missing, or name files that cannot be read; the sentence names them all.
        """
        settings = Settings.from_env(environ)
        return cls.connect(settings.target, settings.tls, provider_target=settings.provider_target, deadline=deadline)

    async def get(
        self, org_id: str, provider: Provider, *, include_previous: bool = False, deadline: float | None = None
    ) -> ActiveCredential[Credential]:
        """The org's credential for a provider, as it is stored; CredentialNotFound when it has connected none.

        With `include_previous` the one that a rotation replaced comes along as its `previous`, while it is readable.
        """
        request = get_request(org_id, provider, include_previous=include_previous)
        return opened((await self._call(self._get, request, deadline)).credential, request)

    async def vapi(
        self, org_id: str, *, include_previous: bool = False, deadline: float | None = None
    ) -> ActiveCredential[VapiCredential]:
        """The org's Vapi credential; CredentialNotFound when it has connected none."""
        found = await self.get(org_id, Provider.VAPI, include_previous=include_previous, deadline=deadline)
        return cast("ActiveCredential[VapiCredential]", found)

    async def twilio(
        self, org_id: str, *, include_previous: bool = False, deadline: float | None = None
    ) -> ActiveCredential[TwilioCredential]:
        """The org's Twilio credential; CredentialNotFound when it has connected none."""
        found = await self.get(org_id, Provider.TWILIO, include_previous=include_previous, deadline=deadline)
        return cast("ActiveCredential[TwilioCredential]", found)

    async def resend(
        self, org_id: str, *, include_previous: bool = False, deadline: float | None = None
    ) -> ActiveCredential[ResendCredential]:
        """The org's Resend credential; CredentialNotFound when it has connected none."""
        found = await self.get(org_id, Provider.RESEND, include_previous=include_previous, deadline=deadline)
        return cast("ActiveCredential[ResendCredential]", found)

    async def elevenlabs(
        self, org_id: str, *, include_previous: bool = False, deadline: float | None = None
    ) -> ActiveCredential[ElevenLabsCredential]:
        """The org's ElevenLabs credential; CredentialNotFound when it has connected none."""
        found = await self.get(org_id, Provider.ELEVENLABS, include_previous=include_previous, deadline=deadline)
        return cast("ActiveCredential[ElevenLabsCredential]", found)

    async def google_calendar(
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
            found = await self._google(request, timeout)
            if lasts(found, needed, self._now()):
                return found
            error = await self._refreshed(org_id, join, ends)
            if error is not None and not error.retryable:
                raise error
            try:
                # Somebody else may have got a new one.
                found = await self._google(current(request), remaining(ends, "vault"))
            except TenantVaultError as failed:
                raise (error or failed) from None
            if lasts(found, needed, self._now()):
                return found
            raise error or still_too_short()

    async def report_failure(
        self, org_id: str, provider: Provider, version: int, *, deadline: float | None = None
    ) -> bool:
        """Tell that the provider refused this version of the org's credential, so that it is tested soon.

        Returns whether a test is due now because of this call: telling it often tests it once, and nothing is done
        about another version than the active one. It is not tried again by itself.
        """
        request = failure_report(org_id, provider, version)
        return (await self._call(self._report_failure, request, deadline)).test_is_due

    async def resolve_org(self, kind: ResourceKind, resource_id: str, *, deadline: float | None = None) -> ResolvedOrg:
        """The org that a resource belongs to, e.g. a webhook's assistant id; ResourceNotFound when it is nobody's."""
        return resolved(await self._call(self._resolve_org, resolve_org_request(kind, resource_id), deadline))

    @overload
    async def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.VAPI],
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[VapiCredential]: ...
    @overload
    async def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.TWILIO],
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[TwilioCredential]: ...
    @overload
    async def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.GOOGLE_CALENDAR],
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[GoogleCalendarCredential]: ...
    @overload
    async def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.RESEND],
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[ResendCredential]: ...
    @overload
    async def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.ELEVENLABS],
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[ElevenLabsCredential]: ...
    @overload
    async def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Provider,
        *,
        include_previous: bool = False,
        deadline: float | None = None,
    ) -> ActiveCredential[Credential]: ...
    async def resolve_credential(
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
        return opened((await self._call(self._resolve_credential, request, deadline)).credential, request)

    async def close(self) -> None:
        """End the connections and every call under way. A closed client stays closed."""
        self._closed = True
        try:
            await self._channel.close()
        finally:
            if self._provider_channel is not None:
                await self._provider_channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _google(self, request: GetCredentialRequest, limit: float) -> ActiveCredential[GoogleCalendarCredential]:
        found = opened((await self._call(self._get, request, limit)).credential, request)
        return cast("ActiveCredential[GoogleCalendarCredential]", found)

    async def _refreshed(
        self, org_id: str, join: "Join[asyncio.Task[TenantVaultError | None]]", ends: float
    ) -> TenantVaultError | None:
        """What kept the stored access token from being replaced; None when it was."""
        error, own = await self._waited(org_id, join, ends)
        if not own and isinstance(error, DeadlineExceeded):
            # Who began it may have had less time. Only once: a slow service is not asked by every caller in turn.
            error, _ = await self._waited(org_id, join, ends)
        return error

    async def _waited(
        self, org_id: str, join: "Join[asyncio.Task[TenantVaultError | None]]", ends: float
    ) -> tuple[TenantVaultError | None, bool]:
        """How a refresh ended, and whether it was begun by this call."""
        method = self._refresh_token
        if method is None:
            raise nobody_to_refresh()
        wait = remaining(ends, "provider service")
        # The flight has a time of its own: it goes on for the others when who began it has given up.
        limit = max(self._deadline, wait)

        async def refresh() -> TenantVaultError | None:
            try:
                await self._call(method, refresh_request(org_id), limit, "provider service")
            except TenantVaultError as error:
                return error
            return None

        own = False

        def begin() -> asyncio.Task[TenantVaultError | None]:
            nonlocal own
            own = True
            return asyncio.create_task(refresh())

        flight = join(begin)
        await asyncio.wait({flight}, timeout=wait)
        if not flight.done():
            raise no_answer("provider service")
        error = flight.result()
        return None if error is None else copied(error), own

    async def _call(
        self,
        method: Callable[..., Awaitable[ResponseT]],
        request: Any,
        deadline: float | None,
        service: Service = "vault",
    ) -> ResponseT:
        timeout = self._deadline if deadline is None else seconds(deadline)
        if self._closed:
            raise client_closed()
        try:
            return await method(request, timeout=timeout, wait_for_ready=WAIT_FOR_READY)
        except grpc.aio.AioRpcError as error:
            raise failure(cast("FailedCall", error), closed=self._closed, service=service) from None
        except asyncio.CancelledError:
            # Closing the channel cancels its calls as if the waiting task had been cancelled.
            if not _wanted(asyncio.current_task()) and self._closed:
                raise client_closed() from None
            raise


def _wanted(task: asyncio.Task[Any] | None) -> bool:
    """Whether somebody asked for this task's cancellation."""
    return task is not None and task.cancelling() > 0
