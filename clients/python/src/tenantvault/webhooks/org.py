"""Whose webhook it is, and by which credentials it has to prove itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from tenantvault.credentials import Credential, Provider, ResolvedOrg, Resource, ResourceKind
from tenantvault.errors import InvalidRequest, NotFound, OrgFrozen, OrgShredded, TenantVaultError
from tenantvault.webhooks.name import Name

MOST_NAMES: Final = 3
"""How many names of one request the vault is asked about, at most: before it is verified, and once more after."""


class Previous(Protocol):
    """The credential before a rotation."""

    @property
    def credential(self) -> Credential:
        """The credential itself."""
        ...

    @property
    def readable_until(self) -> datetime:
        """When it stops being good for anything."""
        ...


class Active(Protocol):
    """An org's credential, as the client hands it out."""

    @property
    def org_id(self) -> str:
        """Whose it is."""
        ...

    @property
    def credential(self) -> Credential:
        """The current credential."""
        ...

    @property
    def previous(self) -> Previous | None:
        """The one before, while both are good."""
        ...

    @property
    def resources(self) -> tuple[Resource, ...]:
        """What at the provider is this org's."""
        ...


class Vault(Protocol):
    """What of the client is needed here; `tenantvault.AsyncClient` has it."""

    async def get(
        self, org_id: str, provider: Provider, *, include_previous: bool = False, from_memory: bool = True
    ) -> Active:
        """The org's credential, of the vault where it may not be `from_memory`; CredentialNotFound when it has none."""
        ...

    def remembered(self, org_id: str, provider: Provider, *, include_previous: bool = False) -> Active | None:
        """The same from memory alone; None when it is not there."""
        ...

    async def resolve_credential(
        self, kind: ResourceKind, resource_id: str, provider: Provider, *, include_previous: bool = False
    ) -> Active:
        """The credential of the org that a resource belongs to; ResourceNotFound when there is none."""
        ...

    async def resolve_org(self, kind: ResourceKind, resource_id: str) -> ResolvedOrg:
        """The org that a resource belongs to; ResourceNotFound when it is nobody's."""
        ...


@dataclass(frozen=True, slots=True)
class Owner:
    """The org that a webhook is for, as far as is known before it is verified; `found_by` named it.

    `remembered` says that the vault was not asked.
    """

    active: Active
    found_by: Name | None = None
    remembered: bool = False

    def credentials(self, now: float) -> tuple[Credential, ...]:
        """The current credential, and the one before while it is good. `now` is seconds since 1970."""
        previous = self.active.previous
        if previous is None or previous.readable_until.timestamp() <= now:
            return (self.active.credential,)
        return (self.active.credential, previous.credential)


async def find_owner(vault: Vault, provider: Provider, org_id: str, names: Sequence[Name]) -> Owner | None:
    """The org with this id, or without an id the first that one of MOST_NAMES leads to; None when there is none.

    An org that is frozen or shredded is none: of it nothing is handed out.

    Raises:
        TenantVaultError: the vault gave no answer, or does not let this service ask.
    """
    if org_id:
        remembered = vault.remembered(org_id, provider, include_previous=True)
        return await asked_owner(vault, provider, org_id) if remembered is None else Owner(remembered, remembered=True)
    for name in names[:MOST_NAMES]:
        try:
            active = await vault.resolve_credential(name.kind, name.resource_id, provider, include_previous=True)
        except TenantVaultError as error:
            if not _means_nobody(error):
                raise
        else:
            return Owner(active, name)
    return None


async def asked_owner(vault: Vault, provider: Provider, org_id: str) -> Owner | None:
    """The org with this id, as `find_owner`, and the vault is asked in any case."""
    try:
        return Owner(await vault.get(org_id, provider, include_previous=True, from_memory=False))
    except TenantVaultError as error:
        if not _means_nobody(error):
            raise
        return None


async def names_another(vault: Vault, owner: Owner, names: Sequence[Name]) -> bool:
    """Whether one of MOST_NAMES belongs to another org than the owner, if only a frozen one.

    A name that is nobody's says nothing, and one that does not bind is not asked about.

    Raises:
        TenantVaultError: the vault gave no answer, or does not let this service ask.
    """
    own = {(resource.kind, resource.resource_id) for resource in owner.active.resources}
    for name in names[:MOST_NAMES]:
        if not name.binding or name == owner.found_by or (name.kind, name.resource_id) in own:
            continue
        try:
            resolved = await vault.resolve_org(name.kind, name.resource_id)
        except (OrgFrozen, OrgShredded):
            return True
        except TenantVaultError as error:
            if not _means_nobody(error):
                raise
        else:
            if resolved.org_id != owner.active.org_id:
                return True
    return False


def _means_nobody(error: TenantVaultError) -> bool:
    """Whether it answers the question: a bad argument is an id that nobody has; any other bad call is our own fault."""
    return isinstance(error, NotFound | OrgFrozen | OrgShredded) or (
        isinstance(error, InvalidRequest) and bool(error.fields)
    )
