"""The rules of change: from an org as it is to an org as it will be, or an error. Nothing here waits or stores.

Every change counts the generation up. A store calls one of these under the org's lock and writes what comes out; so
both stores follow the same rules, and what the org's key vouches for is worked out in one place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from services.vault.credential import Facts, Org, OrgState, Pointer, Resource, Version
from tenantvault.errors import (
    CredentialNotFound,
    OrgFrozen,
    OrgShredded,
    VersionConflict,
    VersionNotFound,
)

OK: Final = "ok"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """An org after a change, and what the audit says of it.

    `resources` replaces the provider's resources unless it is None. `connected`, `verified` and `facts` say what
    happens to what only people look at: the moment of connecting, the last confirmation, what the provider said, which
    stays when `facts` is None.
    """

    org: Org
    action: str
    provider: str = ""
    version: int = 0
    outcome: str = OK
    resources: Sequence[Resource] | None = None
    connected: bool = False
    verified: bool = False
    facts: Facts | None = None


def put(org: Org, provider: str, version: int) -> Changed:
    """Add a version that nobody can read yet. VersionConflict unless it follows the newest by one."""
    demand_open(org)
    pointer = org.pointers.get(provider, Pointer(provider=provider))
    if pointer.latest_version != version - 1:
        raise VersionConflict
    after = _with(org, replace(pointer, latest_version=version))
    return Changed(org=after, action="credential.put", provider=provider, version=version)


def activate(
    org: Org,
    provider: str,
    version: Version | None,
    resources: Sequence[Resource],
    *,
    now: datetime,
    overlap: timedelta,
    facts: Facts,
) -> Changed:
    """Make the newest version the current one, with its resources; the one before stays readable for the overlap.

    The current version may be registered again, also when it is not the newest: that changes its resources and what
    people look at; an account that is known stays when none is named.

    Raises:
        VersionConflict: it is neither the newest nor the current one, or a disconnect has passed it over.
    """
    demand_open(org)
    pointer = org.pointers.get(provider)
    if pointer is None or version is None or version.destroyed_at:
        raise VersionConflict
    again = pointer.is_active and pointer.version == version.version
    if not again and pointer.latest_version != version.version:
        raise VersionConflict
    after = replace(
        pointer,
        version=version.version,
        is_active=True,
        registered=org.generation + 1,
        resources=len(resources),
    )
    if not again:
        replaces = pointer.is_active and overlap > timedelta()
        after = replace(
            after,
            previous_version=pointer.version if replaces else 0,
            previous_until=now + overlap if replaces else None,
        )
    return Changed(
        org=_with(org, after),
        action="credential.activate",
        provider=provider,
        version=version.version,
        resources=resources,
        connected=not again,
        verified=True,
        # What is known of another version's account says nothing of this one's.
        facts=replace(facts, error="", reason="", account=facts.account or (None if again else "")),
    )


def verify(org: Org, provider: str, version: int, facts: Facts) -> Changed:
    """Keep the provider's definite answer about the current version: a refusal when it has an error.

    Raises:
        CredentialNotFound: nothing was ever put.
        VersionConflict: the version is not the current one.
    """
    demand_open(org)
    pointer = _current(org, provider, version)
    kept = replace(facts, account=facts.account or None)
    return Changed(
        org=_with(org, pointer),
        action="credential.verify",
        provider=provider,
        version=version,
        outcome=REFUSED if facts.error else OK,
        verified=not facts.error,
        facts=replace(kept, warnings=()) if facts.error else replace(kept, reason=""),
    )


def refresh(org: Org, provider: str, version: int) -> Changed:
    """Replace what the current version holds, e.g. for an access token that ended; its number stays.

    Raises:
        CredentialNotFound: nothing was ever put.
        VersionConflict: the version is not the current one.
    """
    demand_open(org)
    pointer = _current(org, provider, version)
    return Changed(org=_with(org, pointer), action="credential.refresh", provider=provider, version=version)


def disconnect(org: Org, provider: str) -> Changed | None:
    """Make the credential unreadable, the one before too; None when it is already.

    A setup that has not ended is given up, and the version that it put is kept as the current one.

    A version number is passed over, so that no work under way can undo it: neither what waits to be activated nor what
    was begun and has put nothing yet, a connect or a rotation, finds the newest version that it knew.
    """
    demand_not_shredded(org)
    pointer = _known(org, provider)
    if pointer.version and not pointer.is_active:
        return None
    after = replace(
        pointer,
        version=pointer.version or pointer.latest_version,
        is_active=False,
        latest_version=pointer.latest_version + 1,
        previous_version=0,
        previous_until=None,
    )
    return Changed(org=_with(org, after), action="credential.disconnect", provider=provider, version=after.version)


def reconnect(org: Org, provider: str, warnings: Sequence[str] = ()) -> Changed | None:
    """Make a disconnected credential readable again; None when it is.

    Warnings stand in the place of what the provider said, until it says something.
    """
    demand_open(org)
    pointer = _known(org, provider)
    if not pointer.version:
        raise CredentialNotFound
    if pointer.is_active:
        return None
    return Changed(
        org=_with(org, replace(pointer, is_active=True)),
        action="credential.reconnect",
        provider=provider,
        version=pointer.version,
        connected=True,
        facts=Facts(warnings=warnings) if warnings else None,
    )


def roll_back(org: Org, provider: str, version: Version | None, expected: int) -> Changed | None:
    """Make an older version the current one again; None when it is. What it replaces is not readable any more.

    Raises:
        CredentialNotFound: the integration is not connected.
        VersionConflict: the current version is not the expected one.
        VersionNotFound: the version was never active or is destroyed.
    """
    demand_open(org)
    pointer = _known(org, provider)
    if not pointer.is_active:
        raise CredentialNotFound
    if version is None or version.destroyed_at or not version.was_active or version.version > pointer.latest_version:
        raise VersionNotFound
    if pointer.version == version.version:
        return None
    if pointer.version != expected:
        raise VersionConflict
    after = replace(pointer, version=version.version, previous_version=0, previous_until=None)
    return Changed(
        org=_with(org, after),
        action="credential.roll_back",
        provider=provider,
        version=version.version,
        connected=True,
        # What was said, was said of another version.
        facts=Facts(account=""),
    )


def destroy(org: Org, provider: str, version: Version | None) -> Changed | None:
    """Destroy a version's ciphertext; None when it is destroyed.

    VersionConflict for the current one, and for that of a setup that has not ended.
    """
    demand_not_shredded(org)
    pointer = org.pointers.get(provider)
    if pointer is None or version is None:
        raise VersionNotFound
    if version.destroyed_at:
        return None
    if (pointer.version or pointer.latest_version) == version.version:
        raise VersionConflict
    if pointer.previous_version == version.version:
        pointer = replace(pointer, previous_version=0, previous_until=None)
    return Changed(org=_with(org, pointer), action="credential.destroy", provider=provider, version=version.version)


def freeze(org: Org) -> Changed | None:
    """Refuse every read of the org; None when that is so."""
    demand_not_shredded(org)
    if org.state is OrgState.FROZEN:
        return None
    return Changed(org=_counted(replace(org, state=OrgState.FROZEN)), action="org.freeze")


def unfreeze(org: Org) -> Changed | None:
    """End a freeze; None when there is none."""
    demand_not_shredded(org)
    if org.state is OrgState.ACTIVE:
        return None
    return Changed(org=_counted(replace(org, state=OrgState.ACTIVE)), action="org.unfreeze")


def shred(org: Org) -> Changed | None:
    """Destroy the org's keys; None when they are. Its pointers end, and its resources are let go."""
    if org.state is OrgState.SHREDDED:
        return None
    ended = {
        provider: replace(pointer, is_active=False, previous_version=0, previous_until=None, resources=0, registered=0)
        for provider, pointer in org.pointers.items()
    }
    return Changed(org=_counted(replace(org, state=OrgState.SHREDDED, pointers=ended)), action="org.shred")


def rotate_key(org: Org) -> Changed:
    """Give the org a new key; what it vouched for under the old one, it vouches for under the new one."""
    demand_open(org)
    return Changed(org=_counted(org), action="org.rotate_key")


def demand_open(org: Org) -> None:
    """OrgFrozen or OrgShredded unless the org may be read and changed."""
    if org.state is OrgState.FROZEN:
        raise OrgFrozen
    demand_not_shredded(org)


def demand_not_shredded(org: Org) -> None:
    """OrgShredded when it is."""
    if org.state is OrgState.SHREDDED:
        raise OrgShredded


def _known(org: Org, provider: str) -> Pointer:
    pointer = org.pointers.get(provider)
    if pointer is None:
        raise CredentialNotFound
    return pointer


def _current(org: Org, provider: str, version: int) -> Pointer:
    pointer = _known(org, provider)
    if pointer.version != version or not pointer.is_active:
        raise VersionConflict
    return pointer


def _with(org: Org, pointer: Pointer) -> Org:
    return _counted(replace(org, pointers={**org.pointers, pointer.provider: pointer}))


def _counted(org: Org) -> Org:
    return replace(org, generation=org.generation + 1)
