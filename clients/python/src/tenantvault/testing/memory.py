"""What a fake vault holds, and what it says of it: the rules of the real one, without keys, database and audit."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    GoogleCalendarCredential,
    PreviousCredential,
    Provider,
    ResolvedOrg,
    Resource,
    ResourceKind,
)
from tenantvault.errors import (
    CredentialNotFound,
    InvalidRequest,
    OrgFrozen,
    ResourceConflict,
    ResourceNotFound,
)
from tenantvault.messages import credential_to_message
from tenantvault.secret import Secret

OVERLAP: Final = 86_400.0
"""Seconds for which the credential before stays readable, when nothing else is said."""

_TOKEN_LIFE: Final = timedelta(hours=1)


@dataclass(slots=True)
class _Held:
    """What an org has of one provider. `latest` counts the versions, and what passed one over."""

    credential: Credential
    version: int
    latest: int
    resources: tuple[Resource, ...]
    verified_at: datetime
    previous: PreviousCredential[Credential] | None = None
    is_active: bool = True
    is_reported: bool = False


@dataclass(slots=True)
class _Org:
    generation: int = 0
    is_frozen: bool = False
    held: dict[Provider, _Held] = field(default_factory=dict)


class Memory:
    """Orgs, their credentials and whose each resource is, for all threads. `now` says until when overlaps last."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._orgs: dict[str, _Org] = {}
        self._owners: dict[tuple[ResourceKind, str], tuple[str, Provider]] = {}
        self._renewed = 0
        self._lock = threading.RLock()

    def generation(self, org_id: str) -> int:
        """How often the org has changed."""
        with self._lock:
            return self._orgs.get(org_id, _Org()).generation

    def connect(self, org_id: str, credential: Credential, resources: Iterable[Resource], overlap: float) -> int:
        """Make a credential the org's current one, with its resources; its version.

        Raises:
            OrgFrozen: the org is.
            ResourceConflict: a resource is another org's.
        """
        with self._lock:
            org, wanted = self._orgs.get(org_id, _Org()), tuple(resources)
            if org.is_frozen:
                raise OrgFrozen
            if any(self._owners.get(_key(resource), (org_id,))[0] != org_id for resource in wanted):
                raise ResourceConflict
            provider, now = _provider_of(credential), self._now()
            before, previous = org.held.get(provider), None
            if before is not None and before.is_active and overlap > 0:
                until = now + timedelta(seconds=overlap)
                previous = PreviousCredential(
                    version=before.version, credential=before.credential, readable_until=until
                )
            version = before.latest + 1 if before else 1
            org.held[provider] = _Held(credential, version, version, wanted, now, previous)
            # As in the real one: it is put, and then made the current one.
            org.generation += 2
            self._orgs[org_id] = org
            self._owners = {key: owner for key, owner in self._owners.items() if owner != (org_id, provider)}
            self._owners.update({_key(resource): (org_id, provider) for resource in wanted})
            return version

    def rotate(self, org_id: str, credential: Credential, overlap: float) -> int:
        """Replace the current credential, and keep its resources; its version. Raises CredentialNotFound, OrgFrozen."""
        with self._lock:
            return self.connect(org_id, credential, self._held(org_id, _provider_of(credential)).resources, overlap)

    def disconnect(self, org_id: str, provider: Provider) -> None:
        """Make the credential unreadable, the one before too. CredentialNotFound when there never was one."""
        with self._lock:
            org = self._orgs.get(org_id, _Org())
            if provider not in org.held:
                raise CredentialNotFound
            held = org.held[provider]
            if held.is_active:
                held.is_active, held.previous, held.latest = False, None, held.latest + 1
                org.generation += 1

    def freeze(self, org_id: str, *, frozen: bool) -> None:
        """Refuse every read of the org, or end that."""
        with self._lock:
            org = self._orgs.setdefault(org_id, _Org())
            if org.is_frozen is not frozen:
                org.is_frozen = frozen
                org.generation += 1

    def get(self, org_id: str, provider: Provider, *, include_previous: bool = False) -> ActiveCredential[Credential]:
        """The current credential. Raises CredentialNotFound, OrgFrozen."""
        with self._lock:
            held = self._held(org_id, provider)
            overlaps = include_previous and held.previous is not None and self._now() < held.previous.readable_until
            return ActiveCredential(
                org_id=org_id,
                provider=provider,
                version=held.version,
                credential=held.credential,
                resources=held.resources,
                last_verified_at=held.verified_at,
                generation=self._orgs[org_id].generation,
                previous=held.previous if overlaps else None,
            )

    def owner(self, kind: ResourceKind, resource_id: str) -> ResolvedOrg:
        """Whose a resource is. Raises ResourceNotFound, OrgFrozen."""
        with self._lock:
            if (kind, resource_id) not in self._owners:
                raise ResourceNotFound
            org_id, provider = self._owners[kind, resource_id]
            org = self._orgs[org_id]
            if org.is_frozen:
                raise OrgFrozen
            roles = {_key(resource): resource.role for resource in org.held[provider].resources}
            return ResolvedOrg(org_id, roles[kind, resource_id], org.generation)

    def resolve(
        self, kind: ResourceKind, resource_id: str, provider: Provider, *, include_previous: bool = False
    ) -> ActiveCredential[Credential]:
        """The current credential of the org that has a resource. Raises ResourceNotFound, OrgFrozen."""
        with self._lock:
            try:
                return self.get(self.owner(kind, resource_id).org_id, provider, include_previous=include_previous)
            except CredentialNotFound:
                raise ResourceNotFound from None

    def report(self, org_id: str, provider: Provider, version: int) -> bool:
        """Whether a test is due because of this: the version is current, and this is its first report."""
        with self._lock:
            try:
                held = self._held(org_id, provider)
            except (CredentialNotFound, OrgFrozen):
                return False
            is_due = held.version == version and not held.is_reported
            held.is_reported = held.is_reported or is_due
            return is_due

    def refresh(self, org_id: str, provider: Provider, min_life: timedelta) -> datetime:
        """Make the access token last so long; when it ends. Raises InvalidRequest, CredentialNotFound, OrgFrozen."""
        with self._lock:
            held, now = self._held(org_id, provider), self._now()
            if not isinstance(held.credential, GoogleCalendarCredential):
                raise InvalidRequest(fields={"provider": "This provider has no access tokens."})
            if held.credential.expires_at - now < min_life:
                self._renewed += 1
                token = Secret(f"renewed-access-token-{self._renewed}")
                held.credential = replace(held.credential, access_token=token, expires_at=now + _TOKEN_LIFE)
                self._orgs[org_id].generation += 1
            return held.credential.expires_at

    def _held(self, org_id: str, provider: Provider) -> _Held:
        org = self._orgs.get(org_id, _Org())
        held = org.held.get(provider)
        if held is None:
            raise CredentialNotFound
        if org.is_frozen:
            raise OrgFrozen
        if not held.is_active:
            raise CredentialNotFound
        return held


def _key(resource: Resource) -> tuple[ResourceKind, str]:
    return resource.kind, resource.resource_id


def _provider_of(credential: Credential) -> Provider:
    return Provider[str(credential_to_message(credential).WhichOneof("kind")).upper()]
