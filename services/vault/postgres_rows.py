"""What the database's rows mean to the vault, and the queries that more than one place makes for them."""

import json
from typing import Any, Final

from services.vault.credential import (
    Integration,
    Mapping,
    OrgKey,
    OrgState,
    Pointer,
    Record,
    RecordName,
    Resource,
    Stored,
    Version,
    state_of,
)

INTEGRATIONS: Final = """
    SELECT c.provider, c.version, c.latest_version, c.hint, c.is_active, c.connected_at, c.last_verified_at,
           c.verification_error, c.verification_reason, c.warnings, c.account,
           r.due_at AS rotation_due_at, NOT r.by_hand AS rotates_by_itself,
           (SELECT jsonb_agg(jsonb_build_array(m.kind, m.resource_id, m.role) ORDER BY m.kind, m.role, m.resource_id)
              FROM assistant_org_mapping m WHERE m.org_id = c.org_id AND m.provider = c.provider) AS resources
      FROM org_credentials c
      LEFT JOIN tasks r ON r.org_id = c.org_id AND r.provider = c.provider AND r.task = 'rotate'
     WHERE c.org_id = $1
"""
"""Of an org, `$1`."""

POINTERS: Final = """
    SELECT c.provider, c.version, c.latest_version, c.is_active, c.previous_version, c.previous_until, c.registered,
           c.resources, c.mac, c.last_verified_at,
           (SELECT jsonb_agg(jsonb_build_array(m.kind, m.resource_id, m.role, encode(m.mac, 'hex')))
              FROM assistant_org_mapping m WHERE m.org_id = c.org_id AND m.provider = c.provider) AS mappings
      FROM org_credentials c
     WHERE c.org_id = $1
"""
"""Of an org, `$1`."""


def pointer_of(row: Any) -> Pointer:
    """Which version of an integration is current."""
    return Pointer(
        provider=row["provider"],
        version=row["version"] or 0,
        latest_version=row["latest_version"],
        is_active=row["is_active"],
        previous_version=row["previous_version"],
        previous_until=row["previous_until"],
        registered=row["registered"],
        resources=row["resources"],
    )


def stored_of(row: Any) -> Stored:
    """An integration as it is read, with its records and the keys that open them."""
    org_id, provider = row["org_id"], row["provider"]
    return Stored(
        org_id=org_id,
        org_state=OrgState(row["org_state"]),
        generation=row["generation"],
        pointer=pointer_of(row),
        mac=row["mac"],
        key=_key(org_id, row, "current"),
        mappings=mappings_of(org_id, provider, row["mappings"]),
        record=_record(org_id, provider, row["record_version"], row["record"], _key(org_id, row, "record")),
        previous=_record(
            org_id, provider, row["previous_version"], row["previous_record"], _key(org_id, row, "previous")
        ),
        last_verified_at=row["last_verified_at"],
    )


def _key(org_id: str, row: Any, which: str) -> OrgKey | None:
    key_id = row[f"{which}_key_id"]
    return OrgKey(org_id, key_id, row[f"{which}_master_key_id"], row[f"{which}_wrapped_key"]) if key_id else None


def _record(org_id: str, provider: str, version: int, sealed: bytes | None, key: OrgKey | None) -> Record | None:
    if sealed is None or key is None:
        return None
    # One that was emptied by SQL is there, and does not open.
    return Record(RecordName(org_id, provider, version, key.key_id), sealed, key)


def mappings_of(org_id: str, provider: str, encoded: str | None) -> tuple[Mapping, ...]:
    """The resources of an integration, of POINTERS' or a read's `mappings`."""
    return tuple(
        Mapping(org_id, provider, Resource(kind, resource_id, role), bytes.fromhex(mac))
        for kind, resource_id, role, mac in (json.loads(encoded) if encoded else ())
    )


def version_of(row: Any) -> Version:
    """What may be shown of a version; its state is for who knows the pointer."""
    return Version(
        version=row["version"],
        hint=row["hint"],
        created_at=row["created_at"],
        was_active=row["activated_at"] is not None,
        destroyed_at=row["destroyed_at"],
    )


def integration_of(row: Any) -> Integration:
    """What may be shown of an integration, of a row of INTEGRATIONS."""
    error = row["verification_error"] or ""
    return Integration(
        provider=row["provider"],
        state=state_of(
            version=row["version"],
            is_active=row["is_active"],
            latest_version=row["latest_version"],
            verification_error=error,
        ),
        version=row["version"] or 0,
        latest_version=row["latest_version"],
        hint=row["hint"] if row["version"] else "",
        resources=tuple(Resource(*parts) for parts in json.loads(row["resources"] or "[]")),
        last_verified_at=row["last_verified_at"],
        verification_error=error,
        verification_reason=row["verification_reason"] or "",
        warnings=tuple(row["warnings"]),
        account=row["account"],
        connected_at=row["connected_at"],
        rotation_due_at=row["rotation_due_at"],
        rotates_by_itself=bool(row["rotates_by_itself"]),
    )
