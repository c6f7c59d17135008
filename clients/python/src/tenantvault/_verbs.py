"""What a client for threads is asked for."""

from collections.abc import Iterable
from typing import Any, Literal, overload

from tenantvault import _batches
from tenantvault._batches import Batch
from tenantvault._calls import Calls
from tenantvault._manner import Manner
from tenantvault._methods import REPORT_FAILURE
from tenantvault._reads import (
    current,
    failure_report,
    get_read,
    resolve_credential_read,
    resolve_org_read,
)
from tenantvault._refreshes import Refreshes
from tenantvault._tokens import MIN_LIFE, end_after, lasts, least_life, remaining, still_too_short
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
from tenantvault.errors import TenantVaultError


class Verbs:
    """The verbs of Client.

    Each looks into the memory before it does anything else: what is no argument is not there.
    """

    def __init__(self, calls: Calls, refreshes: Refreshes, manner: Manner) -> None:
        self._calls = calls
        self._refreshes = refreshes
        self._manner = manner

    def get(
        self,
        org_id: str,
        provider: Provider,
        *,
        include_previous: bool = False,
        from_memory: bool = True,
        max_staleness: float | None = None,
        deadline: float | None = None,
    ) -> ActiveCredential[Credential]:
        """The org's credential for a provider, as it is stored; CredentialNotFound when it has connected none.

        With `include_previous` the one that a rotation replaced comes along as its `previous`, while it is readable.
        `max_staleness` is how many seconds old the answer may be, when it comes from memory and when the vault's
        database cannot be asked; 0 asks the database. Without `from_memory` the vault is asked in any case, which may
        answer from its own.
        """
        key = (org_id, provider, include_previous)
        hit: ActiveCredential[Credential] | None = self._calls.hit(key, max_staleness) if from_memory else None
        return hit or self._got(org_id, provider, include_previous, max_staleness, deadline)

    def remembered(
        self, org_id: str, provider: Provider, *, include_previous: bool = False
    ) -> ActiveCredential[Credential] | None:
        """What `get` would give from memory; None when it would have to ask. It makes no call."""
        found: ActiveCredential[Credential] | None = self._calls.remembered((org_id, provider, include_previous))
        return found

    def vapi(
        self,
        org_id: str,
        *,
        include_previous: bool = False,
        max_staleness: float | None = None,
        deadline: float | None = None,
    ) -> ActiveCredential[VapiCredential]:
        """The org's Vapi credential; CredentialNotFound when it has connected none."""
        hit: ActiveCredential[VapiCredential] | None = self._calls.hit(
            (org_id, Provider.VAPI, include_previous), max_staleness
        )
        return hit or self._got(org_id, Provider.VAPI, include_previous, max_staleness, deadline)

    def twilio(
        self,
        org_id: str,
        *,
        include_previous: bool = False,
        max_staleness: float | None = None,
        deadline: float | None = None,
    ) -> ActiveCredential[TwilioCredential]:
        """The org's Twilio credential; CredentialNotFound when it has connected none."""
        hit: ActiveCredential[TwilioCredential] | None = self._calls.hit(
            (org_id, Provider.TWILIO, include_previous), max_staleness
        )
        return hit or self._got(org_id, Provider.TWILIO, include_previous, max_staleness, deadline)

    def resend(
        self,
        org_id: str,
        *,
        include_previous: bool = False,
        max_staleness: float | None = None,
        deadline: float | None = None,
    ) -> ActiveCredential[ResendCredential]:
        """The org's Resend credential; CredentialNotFound when it has connected none."""
        hit: ActiveCredential[ResendCredential] | None = self._calls.hit(
            (org_id, Provider.RESEND, include_previous), max_staleness
        )
        return hit or self._got(org_id, Provider.RESEND, include_previous, max_staleness, deadline)

    def elevenlabs(
        self,
        org_id: str,
        *,
        include_previous: bool = False,
        max_staleness: float | None = None,
        deadline: float | None = None,
    ) -> ActiveCredential[ElevenLabsCredential]:
        """The org's ElevenLabs credential; CredentialNotFound when it has connected none."""
        hit: ActiveCredential[ElevenLabsCredential] | None = self._calls.hit(
            (org_id, Provider.ELEVENLABS, include_previous), max_staleness
        )
        return hit or self._got(org_id, Provider.ELEVENLABS, include_previous, max_staleness, deadline)

    def google_calendar(
        self,
        org_id: str,
        *,
        min_life: float = MIN_LIFE,
        include_previous: bool = False,
        max_staleness: float | None = None,
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
        hit: ActiveCredential[GoogleCalendarCredential] | None = self._calls.hit(
            (org_id, Provider.GOOGLE_CALENDAR, include_previous), max_staleness
        )
        if hit is not None and lasts(hit, needed, self._manner.now()):
            return hit
        timeout = self._manner.timeout(deadline)
        ends = end_after(timeout)
        read: Any = get_read(
            org_id, Provider.GOOGLE_CALENDAR, include_previous=include_previous, max_staleness=max_staleness
        )
        with self._refreshes.of(org_id) as join:
            found: ActiveCredential[GoogleCalendarCredential] = self._calls.read(read, timeout, max_staleness)
            if lasts(found, needed, self._manner.now()):
                return found
            error = self._refreshes.refreshed(org_id, join, ends)
            if error is not None and not error.retryable:
                raise error
            try:
                # Somebody else may have got a new one.
                found = self._calls.read(current(read), remaining(ends, "vault"), 0)
            except TenantVaultError as failed:
                raise (error or failed) from None
            if lasts(found, needed, self._manner.now()):
                return found
            raise error or still_too_short()

    def get_many(
        self,
        keys: Iterable[tuple[str, Provider]],
        *,
        max_staleness: float | None = None,
        deadline: float | None = None,
    ) -> Batch[tuple[str, Provider], ActiveCredential[Credential]]:
        """The credentials of many orgs and providers, as they are stored, in calls of a thousand within one deadline.

        Each key has its own outcome: its credential, or the TenantVaultError that says why there is none.
        """
        return self._calls.read_many(_batches.credentials(max_staleness), keys, deadline, max_staleness)

    def report_failure(self, org_id: str, provider: Provider, version: int, *, deadline: float | None = None) -> bool:
        """Tell that the provider refused this version of the org's credential, so that it is tested soon.

        Returns whether a test is due now because of this call: telling it often tests it once, and nothing is done
        about another version than the active one. It is not tried again by itself.
        """
        response = self._calls.call(REPORT_FAILURE, failure_report(org_id, provider, version), deadline)
        return bool(response.test_is_due)

    def resolve_org(self, kind: ResourceKind, resource_id: str, *, deadline: float | None = None) -> ResolvedOrg:
        """The org that a resource belongs to, e.g. a webhook's assistant id; ResourceNotFound when it is nobody's."""
        hit: ResolvedOrg | None = self._calls.hit((kind, resource_id))
        if hit is not None:
            return hit
        return self._calls.read(resolve_org_read(kind, resource_id), deadline)

    def resolve_orgs(
        self, keys: Iterable[tuple[ResourceKind, str]], *, deadline: float | None = None
    ) -> Batch[tuple[ResourceKind, str], ResolvedOrg]:
        """The orgs of many resources, as `get_many`."""
        return self._calls.read_many(_batches.orgs(), keys, deadline)

    @overload
    def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Literal[Provider.VAPI],
        *,
        include_previous: bool = False,
        max_staleness: float | None = None,
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
        max_staleness: float | None = None,
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
        max_staleness: float | None = None,
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
        max_staleness: float | None = None,
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
        max_staleness: float | None = None,
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
        max_staleness: float | None = None,
        deadline: float | None = None,
    ) -> ActiveCredential[Credential]: ...
    def resolve_credential(
        self,
        kind: ResourceKind,
        resource_id: str,
        provider: Provider,
        *,
        include_previous: bool = False,
        max_staleness: float | None = None,
        deadline: float | None = None,
    ) -> ActiveCredential[Any]:
        """The credential of the org that a resource belongs to, in one call; its `org_id` is the org.

        Raises:
            ResourceNotFound: the resource is nobody's, or its org has no such credential: both answer alike.
        """
        hit: ActiveCredential[Credential] | None = self._calls.hit(
            (kind, resource_id, provider, include_previous), max_staleness
        )
        if hit is not None:
            return hit
        read = resolve_credential_read(
            kind, resource_id, provider, include_previous=include_previous, max_staleness=max_staleness
        )
        return self._calls.read(read, deadline, max_staleness)

    def _got(
        self,
        org_id: str,
        provider: Provider,
        include_previous: bool,  # noqa: FBT001 - as the verbs pass it on
        max_staleness: float | None,
        deadline: float | None,
    ) -> Any:
        read = get_read(org_id, provider, include_previous=include_previous, max_staleness=max_staleness)
        return self._calls.read(read, deadline, max_staleness)
