"""What somebody who can write to the database may try, one attempt at a time, and that each is found out."""

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.duration_pb2 import Duration

from deploy.local.authority import DevelopmentAuthority
from services.vault.audit import Chain, End
from tenantvault.audit import Broken, Event, Head, Link, check_signature, event_hash, head_message, prove
from tenantvault.channel import call
from tenantvault.errors import (
    CredentialNotFound,
    CredentialUnreadable,
    OrgFrozen,
    OrgShredded,
    ResourceConflict,
    ResourceNotFound,
    TenantVaultError,
    VaultUnavailable,
)
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.integration.conftest import Database
from tests.integration.vault.conftest import (
    OTHER_VAPI,
    TWILIO,
    VAPI,
    Journal,
    RunningVault,
    answers,
    assistant,
    forced,
    running_vault,
    vault_settings,
)

LOGGED = {
    "record": "a record does not open",
    "pointer": "an integration's proof does not hold: its rows were changed by SQL",
    "org_key": "an org's key does not unwrap",
    "rollback": "an org went back in time: its rows are older than what was read before",
}
TABLES = ("orgs", "org_keys", "org_credentials", "credential_versions", "assistant_org_mapping")


@dataclass(frozen=True)
class Attacked:
    """A vault on a database that somebody else writes to."""

    vault: RunningVault
    database: Database
    journal: Journal

    async def read(self, org: str, provider: "pb.Provider.ValueType" = pb.PROVIDER_VAPI) -> pb.ActiveCredential:
        """As the database has it now, and not as it is remembered."""
        request = access_pb.GetCredentialRequest(
            org_id=org, provider=provider, max_staleness=Duration(), include_previous=True
        )
        return (await call((await self.vault.access()).GetCredential, request)).credential

    async def newest(self, org: str, provider: "pb.Provider.ValueType" = pb.PROVIDER_VAPI) -> pb.ActiveCredential:
        request = access_pb.GetNewestCredentialRequest(org_id=org, provider=provider)
        return (await call((await self.vault.access("provider")).GetNewestCredential, request)).credential

    async def resolve(self, resource: pb.Resource) -> pb.ActiveCredential:
        request = access_pb.ResolveCredentialRequest(
            kind=resource.kind,
            resource_id=resource.resource_id,
            provider=pb.PROVIDER_VAPI,
            max_staleness=Duration(),
        )
        return (await call((await self.vault.access("webhook-processor")).ResolveCredential, request)).credential

    async def owner(self, resource: pb.Resource) -> str:
        request = directory_pb.ResolveOrgRequest(kind=resource.kind, resource_id=resource.resource_id)
        return (await call((await self.vault.directory()).ResolveOrg, request)).org_id

    async def finds(
        self,
        kind: str,
        org: str,
        reading: Any,
        *,
        error: type[TenantVaultError] = CredentialUnreadable,
        provider: str = "vapi",
        peer: str = "voice-agent",
    ) -> None:
        """Reading is refused, counted, logged and audited."""
        counted = self.vault.count("tenantvault_violations", kind)
        audited = len(await self.vault.events(org, "integrity.violation"))
        logged = len(self.journal.events(LOGGED[kind]))
        with pytest.raises(error) as refused:
            await reading
        assert error.sentence == refused.value.message
        assert counted + 1 == self.vault.count("tenantvault_violations", kind)
        *_, line = self.journal.events(LOGGED[kind])
        assert logged + 1 == len(self.journal.events(LOGGED[kind]))
        assert ("error", org, provider, kind) == (line["level"], line["org"], line["provider"], line["kind"])
        event, *_ = await self.vault.events_when(org, "integrity.violation", audited + 1)
        assert (kind, org, provider, peer, 0) == (
            event.outcome,
            event.org_id,
            event.provider,
            event.peer,
            event.generation,
        )

    async def saved(self, org: str, *tables: str) -> dict[str, list[asyncpg.Record]]:
        """The rows of an org, as a backup has them."""
        return {table: await self.database.admin(f"SELECT * FROM {table} WHERE org_id = $1", org) for table in tables}

    async def put_back(self, org: str, backup: dict[str, list[asyncpg.Record]]) -> None:
        db = await asyncpg.connect(self.database.admin_url)
        try:
            async with db.transaction():
                await db.execute("SET LOCAL session_replication_role = replica")
                for table, rows in backup.items():
                    await db.execute(f"DELETE FROM {table} WHERE org_id = $1", org)
                    for row in rows:
                        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
                        await db.execute(f"INSERT INTO {table} VALUES ({places})", *row.values())
        finally:
            await db.close()


@pytest.fixture
async def attacked(vault: RunningVault, database: Database, journal: Journal) -> Attacked:
    return Attacked(vault, database, journal)


# Ciphertext in another place.

BETWEEN_ORGS = """
    UPDATE {table} t SET encrypted_config = s.encrypted_config FROM {table} s
     WHERE (t.org_id, s.org_id) IN (($1, $2), ($2, $1)) AND t.provider = s.provider
"""
BETWEEN_PROVIDERS = """
    UPDATE {table} t SET encrypted_config = s.encrypted_config FROM {table} s
     WHERE t.org_id = $1 AND s.org_id = $1 AND t.provider <> s.provider
"""
BETWEEN_VERSIONS = """
    UPDATE credential_versions t SET encrypted_config = s.encrypted_config FROM credential_versions s
     WHERE t.org_id = $1 AND s.org_id = $1 AND t.version <> s.version
"""


async def test_ciphertext_that_two_orgs_have_exchanged_opens_for_neither(
    attacked: Attacked, org: str, other_org: str
) -> None:
    await attacked.vault.connect(org)
    await attacked.vault.connect(other_org, credential=OTHER_VAPI)
    await forced(attacked.database, BETWEEN_ORGS.format(table="org_credentials"), org, other_org)
    for of in (org, other_org):
        await attacked.finds("record", of, attacked.read(of))


async def test_versions_that_two_orgs_have_exchanged_open_for_neither(
    attacked: Attacked, org: str, other_org: str
) -> None:
    await attacked.vault.connect(org)
    await attacked.vault.connect(other_org, credential=OTHER_VAPI)
    await forced(attacked.database, BETWEEN_ORGS.format(table="credential_versions"), org, other_org)
    for of in (org, other_org):
        await attacked.finds("record", of, attacked.newest(of), peer="provider")
        # The copy that is read is as it was, until a change copies it anew.
        await attacked.read(of)
        request = store_pb.RecordVerificationRequest(org_id=of, provider=pb.PROVIDER_VAPI, version=1)
        await call((await attacked.vault.store()).RecordVerification, request)
        await attacked.finds("record", of, attacked.read(of))


@pytest.mark.parametrize("table", ["org_credentials", "credential_versions"])
async def test_ciphertext_that_two_providers_have_exchanged_opens_for_neither(
    attacked: Attacked, org: str, table: str
) -> None:
    await attacked.vault.connect(org)
    await attacked.vault.connect(org, credential=TWILIO)
    await forced(attacked.database, BETWEEN_PROVIDERS.format(table=table), org)
    for provider, name in ((pb.PROVIDER_VAPI, "vapi"), (pb.PROVIDER_TWILIO, "twilio")):
        if table == "org_credentials":
            await attacked.finds("record", org, attacked.read(org, provider), provider=name)
        else:
            await attacked.finds("record", org, attacked.newest(org, provider), provider=name, peer="provider")


async def test_the_old_versions_ciphertext_in_the_place_of_the_current_ones_does_not_open(
    attacked: Attacked, org: str
) -> None:
    await attacked.vault.connect(org)
    await attacked.vault.connect(org, credential=OTHER_VAPI, expected=1)
    await forced(
        attacked.database,
        "UPDATE org_credentials c SET encrypted_config = v.encrypted_config FROM credential_versions v"
        " WHERE c.org_id = $1 AND v.org_id = $1 AND v.version = 1",
        org,
    )
    await attacked.finds("record", org, attacked.read(org))


async def test_versions_that_have_exchanged_their_ciphertext_do_not_open(attacked: Attacked, org: str) -> None:
    await attacked.vault.connect(org)
    await attacked.vault.connect(org, credential=OTHER_VAPI, expected=1)
    await forced(attacked.database, BETWEEN_VERSIONS, org)
    await attacked.finds("record", org, attacked.newest(org), peer="provider")
    # The current one's copy is as it was: it is the one before that does not open.
    await attacked.finds("record", org, attacked.read(org))


# The directory.


async def test_an_assistant_that_was_given_to_another_org_is_nobodys(
    attacked: Attacked, org: str, other_org: str
) -> None:
    resource, theirs = assistant(), assistant()
    await attacked.vault.connect(org, resource)
    await attacked.vault.connect(other_org, theirs, credential=OTHER_VAPI)
    await attacked.database.admin("UPDATE assistant_org_mapping SET org_id = $2 WHERE org_id = $1", org, other_org)
    # It leads to the thief's org, whose rows are not its own any more.
    await attacked.finds(
        "pointer", other_org, attacked.resolve(resource), error=ResourceNotFound, peer="webhook-processor"
    )
    await attacked.finds(
        "pointer", other_org, attacked.owner(resource), error=ResourceNotFound, peer="webhook-processor"
    )
    for of in (org, other_org):
        await attacked.finds("pointer", of, attacked.read(of))


async def test_an_assistant_that_was_let_go_does_not_come_back_with_its_old_row(
    attacked: Attacked, org: str
) -> None:
    old, new = assistant(), assistant()
    await attacked.vault.connect(org, old)
    backup = await attacked.saved(org, "assistant_org_mapping")
    await attacked.vault.connect(org, new, credential=OTHER_VAPI, expected=1)
    assert org == await attacked.owner(new)
    # In the place of the new one, so that their number is right.
    await attacked.put_back(org, backup)
    await attacked.finds("pointer", org, attacked.owner(old), error=ResourceNotFound, peer="webhook-processor")
    await attacked.finds("pointer", org, attacked.read(org))


async def test_an_old_row_of_the_directory_beside_the_new_ones_is_found_out(attacked: Attacked, org: str) -> None:
    old, new = assistant(), assistant()
    await attacked.vault.connect(org, old)
    [row] = (await attacked.saved(org, "assistant_org_mapping"))["assistant_org_mapping"]
    await attacked.vault.connect(org, new, credential=OTHER_VAPI, expected=1)
    await attacked.database.admin("INSERT INTO assistant_org_mapping VALUES ($1, $2, $3, $4, $5, $6, $7)", *row)
    for resource in (old, new):
        await attacked.finds("pointer", org, attacked.resolve(resource), error=ResourceNotFound, peer="webhook-processor")


@pytest.mark.parametrize(
    "statement",
    [
        """INSERT INTO assistant_org_mapping (kind, resource_id, org_id, provider, role, mac)
             SELECT kind, 'forged-' || resource_id, org_id, provider, role, mac FROM assistant_org_mapping
              WHERE org_id = $1 LIMIT 1""",
        "DELETE FROM assistant_org_mapping WHERE org_id = $1 AND role = 'outbound'",
        "UPDATE assistant_org_mapping SET role = 'inbound' WHERE org_id = $1",
        "UPDATE assistant_org_mapping SET resource_id = 'forged-' || resource_id WHERE org_id = $1",
        "UPDATE assistant_org_mapping SET kind = 'phone_number' WHERE org_id = $1",
        "UPDATE assistant_org_mapping SET provider = 'twilio' WHERE org_id = $1 AND role = 'outbound'",
        """UPDATE assistant_org_mapping m SET mac = o.mac FROM assistant_org_mapping o
            WHERE m.org_id = $1 AND o.org_id = $1 AND m.role <> o.role""",
    ],
    ids=["added", "removed", "role", "identifier", "kind", "provider", "proofs exchanged"],
)
async def test_a_row_of_the_directory_that_was_changed_makes_the_integration_unreadable(
    attacked: Attacked, org: str, statement: str
) -> None:
    await attacked.vault.connect(org, assistant(), assistant(role="outbound"))
    await attacked.vault.connect(org, credential=TWILIO)
    await forced(attacked.database, statement, org)
    await attacked.finds("pointer", org, attacked.read(org))


# The pointer.

POINTERS = {
    "an older version": """
        UPDATE org_credentials c SET version = 1, encrypted_config = v.encrypted_config, key_id = v.key_id
          FROM credential_versions v WHERE c.org_id = $1 AND v.org_id = $1 AND v.version = 1
    """,
    "the version's number alone": "UPDATE org_credentials SET version = 1 WHERE org_id = $1",
    "the newest version": "UPDATE org_credentials SET latest_version = 1 WHERE org_id = $1",
    "a longer overlap": """
        UPDATE org_credentials SET previous_until = previous_until + interval '1 year' WHERE org_id = $1
    """,
    "a shorter overlap": "UPDATE org_credentials SET previous_until = now() WHERE org_id = $1",
    "no overlap": "UPDATE org_credentials SET previous_until = NULL, previous_version = 0 WHERE org_id = $1",
    "another version before": "UPDATE org_credentials SET previous_version = 2 WHERE org_id = $1",
    "when it was registered": "UPDATE org_credentials SET registered = registered + 1 WHERE org_id = $1",
    "how many resources there are": "UPDATE org_credentials SET resources = resources + 1 WHERE org_id = $1",
    "the generation ahead": "UPDATE orgs SET generation = generation + 1 WHERE org_id = $1",
    "the generation behind": "UPDATE orgs SET generation = generation - 1 WHERE org_id = $1",
    "frozen": "UPDATE orgs SET state = 'frozen' WHERE org_id = $1",
    "no proof": "UPDATE org_credentials SET mac = '' WHERE org_id = $1",
    "another proof": "UPDATE org_credentials SET mac = decode(repeat('00', 32), 'hex') WHERE org_id = $1",
    "no key": "UPDATE org_keys SET is_current = false WHERE org_id = $1",
}


@pytest.mark.parametrize("edit", POINTERS)
async def test_a_pointer_that_was_edited_is_not_followed(attacked: Attacked, org: str, edit: str) -> None:
    await attacked.vault.connect(org)
    await attacked.vault.connect(org, credential=OTHER_VAPI, expected=1)
    got = await attacked.read(org)
    assert (OTHER_VAPI, VAPI) == (got.credential, got.previous.credential)
    await forced(attacked.database, POINTERS[edit], org)
    await attacked.finds("pointer", org, attacked.read(org))


async def test_a_proof_of_another_org_proves_nothing(attacked: Attacked, org: str, other_org: str) -> None:
    for of in (org, other_org):
        await attacked.vault.connect(of)
    await attacked.database.admin(
        "UPDATE org_credentials c SET mac = o.mac FROM org_credentials o WHERE c.org_id = $1 AND o.org_id = $2",
        org,
        other_org,
    )
    await attacked.finds("pointer", org, attacked.read(org))


async def test_a_whole_older_row_with_its_own_proof_is_not_taken_for_the_current_one(
    attacked: Attacked, org: str
) -> None:
    await attacked.vault.connect(org)
    backup = await attacked.saved(org, "org_credentials")
    await attacked.vault.connect(org, credential=OTHER_VAPI, expected=1)
    await attacked.put_back(org, backup)
    await attacked.finds("pointer", org, attacked.read(org))


async def test_an_integration_that_was_disconnected_is_not_made_readable_by_sql(
    attacked: Attacked, org: str
) -> None:
    await attacked.vault.connect(org, resource := assistant())
    disconnect = store_pb.DisconnectRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    await call((await attacked.vault.store()).Disconnect, disconnect)
    with pytest.raises(CredentialNotFound):
        await attacked.read(org)
    await attacked.database.admin("UPDATE org_credentials SET is_active = true WHERE org_id = $1", org)
    await attacked.finds("pointer", org, attacked.read(org))
    await attacked.finds("pointer", org, attacked.newest(org), peer="provider")
    await attacked.finds(
        "pointer", org, attacked.resolve(resource), error=ResourceNotFound, peer="webhook-processor"
    )


async def test_a_frozen_org_is_not_unfrozen_by_sql(attacked: Attacked, org: str) -> None:
    await attacked.vault.connect(org)
    await attacked.vault.freeze(org)
    with pytest.raises(OrgFrozen):
        await attacked.read(org)
    await attacked.database.admin("UPDATE orgs SET state = 'active' WHERE org_id = $1", org)
    await attacked.finds("pointer", org, attacked.read(org))


async def test_a_shredded_org_is_not_brought_back_by_sql(attacked: Attacked, org: str) -> None:
    await attacked.vault.connect(org)
    keys = await attacked.saved(org, "org_keys", "credential_versions", "org_credentials")
    await attacked.vault.shred(org)
    with pytest.raises(OrgShredded):
        await attacked.read(org)
    await attacked.database.admin("UPDATE orgs SET state = 'active' WHERE org_id = $1", org)
    with pytest.raises(CredentialNotFound):
        await attacked.read(org)
    # And not with its keys and its ciphertext out of a backup either.
    await attacked.put_back(org, keys)
    await attacked.finds("pointer", org, attacked.read(org))


# The whole org put back.


async def put_whole_org_back(attacked: Attacked, org: str) -> None:
    """Version 2 was the current one and version 1 is again; the audit is as it was."""
    await attacked.vault.connect(org, assistant())
    backup = await attacked.saved(org, *TABLES)
    await attacked.vault.connect(org, assistant(), credential=OTHER_VAPI, expected=1)
    await attacked.read(org)
    await attacked.put_back(org, backup)


async def test_an_org_that_was_put_back_is_refused_by_a_vault_that_saw_it_later(attacked: Attacked, org: str) -> None:
    await put_whole_org_back(attacked, org)
    for _ in range(2):
        await attacked.finds("rollback", org, attacked.read(org))


async def test_an_org_that_was_put_back_is_named_by_the_audit_where_no_vault_saw_it_later(
    attacked: Attacked, authority: DevelopmentAuthority, org: str
) -> None:
    await put_whole_org_back(attacked, org)
    async with running_vault(vault_settings(attacked.database, authority), authority) as newcomer:
        # All its proofs hold: it was so once.
        assert (await newcomer.get(org)).credential == VAPI
        [_, read] = await newcomer.events_when(org, "credential.get", 2)
        verdict = await newcomer.verdict(org)
    assert "the org is at change 2, and the audit knows of change 4: an old state was put back" == verdict.problem
    assert verdict.broken_sequence == verdict.events > read.sequence


async def test_an_org_that_was_put_back_after_it_was_shredded_is_named_by_the_audit(
    attacked: Attacked, org: str
) -> None:
    await attacked.vault.connect(org)
    backup = await attacked.saved(org, *TABLES)
    await attacked.vault.shred(org)
    await attacked.put_back(org, backup)
    verdict = await attacked.vault.verdict(org)
    assert "the org is at change 2, and the audit knows of change 3: an old state was put back" == verdict.problem


# Keys.


async def test_wrapped_keys_that_two_orgs_have_exchanged_unwrap_for_neither(
    attacked: Attacked, org: str, other_org: str
) -> None:
    for of in (org, other_org):
        await attacked.vault.connect(of)
    await attacked.database.admin(
        "UPDATE org_keys t SET wrapped_key = s.wrapped_key FROM org_keys s"
        " WHERE (t.org_id, s.org_id) IN (($1, $2), ($2, $1))",
        org,
        other_org,
    )
    for of in (org, other_org):
        await attacked.finds("org_key", of, attacked.read(of))
        await attacked.finds("org_key", of, attacked.newest(of), peer="provider")
        with pytest.raises(CredentialUnreadable):
            await attacked.vault.put(of, OTHER_VAPI, expected=1)


async def test_a_version_that_was_destroyed_and_is_put_back_is_handed_out_by_no_read(
    attacked: Attacked, org: str
) -> None:
    await attacked.vault.connect(org)
    backup = await attacked.saved(org, "credential_versions")
    await attacked.vault.connect(org, credential=OTHER_VAPI, expected=1)
    destroy = store_pb.DestroyVersionRequest(org_id=org, provider=pb.PROVIDER_VAPI, version=1)
    await call((await attacked.vault.store("operator")).DestroyVersion, destroy)
    [row] = backup["credential_versions"]
    await attacked.database.admin(
        "UPDATE credential_versions SET encrypted_config = $2, destroyed_at = NULL WHERE org_id = $1 AND version = 1",
        org,
        row["encrypted_config"],
    )
    for got in (await attacked.read(org), await attacked.newest(org)):
        assert (2, OTHER_VAPI, False) == (got.version, got.credential, got.HasField("previous"))
