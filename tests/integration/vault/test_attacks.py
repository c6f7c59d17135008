"""What somebody who can write to the database may try, one attempt at a time, and that each is found out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.duration_pb2 import Duration

from deploy.local.authority import DevelopmentAuthority
from services.vault.audit import End
from tenantvault.audit import GENESIS, Broken, Link, check_signature, event_hash, head_message, prove
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
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.integration.conftest import Database
from tests.integration.vault.conftest import (
    OTHER_VAPI,
    TWILIO,
    VAPI,
    Journal,
    RunningVault,
    assistant,
    eventually,
    forced,
    running_vault,
    vault_settings,
    waiting_for_locks,
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


async def test_an_assistant_that_was_let_go_does_not_come_back_with_its_old_row(attacked: Attacked, org: str) -> None:
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
        await attacked.finds(
            "pointer", org, attacked.resolve(resource), error=ResourceNotFound, peer="webhook-processor"
        )


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


async def test_an_integration_that_was_disconnected_is_not_made_readable_by_sql(attacked: Attacked, org: str) -> None:
    await attacked.vault.connect(org, resource := assistant())
    disconnect = store_pb.DisconnectRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    await call((await attacked.vault.store()).Disconnect, disconnect)
    with pytest.raises(CredentialNotFound):
        await attacked.read(org)
    await attacked.database.admin("UPDATE org_credentials SET is_active = true WHERE org_id = $1", org)
    await attacked.finds("pointer", org, attacked.read(org))
    await attacked.finds("pointer", org, attacked.newest(org), peer="provider")
    await attacked.finds("pointer", org, attacked.resolve(resource), error=ResourceNotFound, peer="webhook-processor")


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
    await attacked.finds("pointer", org, attacked.read(org))
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
        # Both versions before, and now the older one.
        await newcomer.events_when(org, "credential.get", 3)
        verdict = await newcomer.verdict(org)
    assert "the org is at change 2, and the audit knows of change 4: an old state was put back" == verdict.problem
    assert (7, 7) == (verdict.broken_sequence, verdict.events)


async def test_an_org_that_was_put_back_and_has_gone_on_since_is_named_by_the_audit_for_ever(
    attacked: Attacked, authority: DevelopmentAuthority, org: str
) -> None:
    await put_whole_org_back(attacked, org)
    async with running_vault(vault_settings(attacked.database, authority), authority) as newcomer:
        # Changes 3 and 4 once more, and 5 and 6.
        for number in range(1, 3):
            await newcomer.connect(org, credential=OTHER_VAPI if number % 2 else VAPI, expected=number)
        again = (await newcomer.events(org, "credential.put"))[1]
        verdict = await newcomer.verdict(org)
    assert (3, again.sequence) == (again.generation, verdict.broken_sequence)
    assert verdict.problem == (
        f"event {again.sequence} tells of change 3 and the one before it of change 4: an old state was put back,"
        " or events are missing"
    )


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


# What was tampered with is made good by connecting again, and by nothing else.


async def test_connecting_again_makes_an_integration_good_that_was_tampered_with(attacked: Attacked, org: str) -> None:
    await attacked.vault.connect(org, old := assistant())
    await attacked.vault.connect(org, credential=OTHER_VAPI, expected=1)
    await attacked.database.admin(
        "UPDATE org_credentials SET previous_until = previous_until + interval '1 year' WHERE org_id = $1", org
    )
    await attacked.finds("pointer", org, attacked.read(org))
    await attacked.vault.connect(org, new := assistant(), expected=2)
    got = await attacked.read(org)
    # Not what somebody else had said of the version before.
    assert (3, VAPI, [new], False) == (got.version, got.credential, list(got.resources), got.HasField("previous"))
    assert org == await attacked.owner(new)
    with pytest.raises(ResourceNotFound):
        await attacked.owner(old)
    assert "" == (await attacked.vault.verdict(org)).problem


async def test_what_a_thief_put_into_the_directory_goes_when_both_orgs_connect_again(
    attacked: Attacked, org: str, other_org: str
) -> None:
    resource, theirs = assistant(), assistant()
    await attacked.vault.connect(org, resource)
    await attacked.vault.connect(other_org, theirs)
    await attacked.database.admin("UPDATE assistant_org_mapping SET org_id = $2 WHERE org_id = $1", org, other_org)
    # The row stands in the way until its false owner says what is its own.
    with pytest.raises(ResourceConflict):
        await attacked.vault.connect(org, resource, expected=1)
    await attacked.vault.connect(other_org, theirs, expected=1)
    await attacked.vault.connect(org, resource, expected=1)
    for of, has in ((org, resource), (other_org, theirs)):
        assert of == await attacked.owner(has)
        assert [has] == list((await attacked.read(of)).resources)


async def test_no_other_change_vouches_for_what_was_tampered_with(
    attacked: Attacked, authority: DevelopmentAuthority, org: str
) -> None:
    await attacked.vault.connect(org)
    await attacked.vault.connect(org, credential=OTHER_VAPI, expected=1)
    await attacked.vault.connect(org, credential=TWILIO)
    await forced(
        attacked.database, POINTERS["an older version"] + " AND c.provider = 'vapi' AND v.provider = 'vapi'", org
    )
    store, admin = await attacked.vault.store(), await attacked.vault.admin()
    twilio: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_TWILIO}
    vapi: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI}
    changes = (
        call(store.RecordVerification, store_pb.RecordVerificationRequest(**twilio, version=1)),
        call(store.Disconnect, store_pb.DisconnectRequest(**twilio)),
        call(store.Reconnect, store_pb.ReconnectRequest(**twilio)),
        attacked.vault.connect(org, credential=TWILIO, expected=2),
        attacked.vault.freeze(org),
        attacked.vault.unfreeze(org),
        call(admin.RotateOrgKey, admin_pb.RotateOrgKeyRequest(org_id=org)),
        # A new version alone is not the integration's.
        attacked.vault.put(org, VAPI, expected=2),
    )
    for change in changes:
        await change
        await attacked.finds("pointer", org, attacked.read(org))
    # Nor is it changed by what would build on it.
    for refused in (
        call(store.RecordVerification, store_pb.RecordVerificationRequest(**vapi, version=1)),
        call(store.Disconnect, store_pb.DisconnectRequest(**vapi)),
        call(store.RollBackCredential, store_pb.RollBackCredentialRequest(**vapi, version=2, expected_version=1)),
    ):
        with pytest.raises(CredentialUnreadable):
            await refused
    assert TWILIO == (await attacked.read(org, pb.PROVIDER_TWILIO)).credential
    # A vault that never saw anything of it does not take it either.
    async with running_vault(vault_settings(attacked.database, authority), authority) as newcomer:
        with pytest.raises(CredentialUnreadable):
            await newcomer.get(org)
        await newcomer.connect(org, expected=3)
        assert (3, VAPI) == ((got := await newcomer.get(org)).version, got.credential)


# The audit.

EVENTS = 6


@pytest.fixture
async def chained(attacked: Attacked, org: str) -> str:
    """An org of whom six events tell: put, activate, get, verify, get, disconnect."""
    at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI}
    store = await attacked.vault.store()
    await attacked.vault.connect(org)
    for number, change in enumerate(
        (
            call(store.RecordVerification, store_pb.RecordVerificationRequest(**at, version=1, error="Refused.")),
            call(store.Disconnect, store_pb.DisconnectRequest(**at)),
        ),
        start=1,
    ):
        await attacked.vault.get(org)
        await attacked.vault.events_when(org, "credential.get", number)
        await change
    assert ("", EVENTS) == ((verdict := await attacked.vault.verdict(org)).problem, verdict.events)
    assert EVENTS == await proved(attacked.vault, org)
    return org


async def proved(vault: RunningVault, org: str) -> int:
    """Proved elsewhere, out of an export and the public key alone."""
    status = await call((await vault.admin()).GetKeyStatus, admin_pb.GetKeyStatusRequest())
    links, head = await vault.exported(org)
    return prove(
        links, head, lambda _, signature, message: check_signature(status.audit_public_key, signature, message)
    )


async def breaks(attacked: Attacked, org: str, sequence: int, problem: str) -> None:
    """The vault names the first event that is not as it was written, and so does whoever has an export."""
    verdict = await attacked.vault.verdict(org)
    assert (sequence, problem) == (verdict.broken_sequence, verdict.problem)
    with pytest.raises(Broken) as broken:
        await proved(attacked.vault, org)
    assert (sequence, problem) == (broken.value.sequence, str(broken.value))


CHANGED = "event {} was changed: its hash does not fit what it says and what went before"
MISSING = "event {} is missing: the next one there is {}"


@pytest.mark.parametrize(
    ("edit", "sequence"),
    [
        ("peer = 'nobody'", 1),
        ("peer = 'nobody'", EVENTS),
        ("on_behalf_of = 'mallory'", 3),
        ("action = 'credential.list'", 3),
        ("provider = 'twilio'", 3),
        ("version = version + 1", 3),
        ("outcome = 'denied'", 3),
        ("request_id = 'another'", 3),
        ("generation = generation + 1", 3),
        ("occurred_at = occurred_at + interval '1 microsecond'", 3),
        ("event_id = gen_random_uuid()", 3),
        ("hash = decode(repeat('00', 32), 'hex')", 1),
        ("hash = decode(repeat('00', 32), 'hex')", 3),
        ("hash = decode(repeat('00', 32), 'hex')", EVENTS),
    ],
)
async def test_an_event_that_was_edited_is_named(attacked: Attacked, chained: str, edit: str, sequence: int) -> None:
    await attacked.database.admin(
        f"UPDATE audit_events SET {edit} WHERE org_id = $1 AND sequence = $2", chained, sequence
    )
    await breaks(attacked, chained, sequence, CHANGED.format(sequence))


@pytest.mark.parametrize("sequence", [1, 3, EVENTS])
async def test_an_event_that_was_deleted_is_named(attacked: Attacked, chained: str, sequence: int) -> None:
    await attacked.database.admin("DELETE FROM audit_events WHERE org_id = $1 AND sequence = $2", chained, sequence)
    if sequence == EVENTS:
        problem = f"event {EVENTS} is missing: the head says that there are {EVENTS}"
    else:
        problem = MISSING.format(sequence, sequence + 1)
    await breaks(attacked, chained, sequence, problem)


async def test_an_event_that_was_deleted_is_named_although_the_others_have_closed_the_gap(
    attacked: Attacked, chained: str
) -> None:
    await forced(
        attacked.database,
        "DELETE FROM audit_events WHERE org_id = $1 AND sequence = 3;"
        "UPDATE audit_events SET sequence = 3 WHERE org_id = $1 AND sequence = 4;"
        "UPDATE audit_events SET sequence = 4 WHERE org_id = $1 AND sequence = 5;"
        "UPDATE audit_events SET sequence = 5 WHERE org_id = $1 AND sequence = 6;"
        "UPDATE audit_heads SET sequence = 5 WHERE org_id = $1",
        chained,
    )
    await breaks(attacked, chained, 3, CHANGED.format(3))


async def test_events_that_have_changed_places_are_named(attacked: Attacked, chained: str) -> None:
    await forced(
        attacked.database,
        "UPDATE audit_events SET sequence = 99 WHERE org_id = $1 AND sequence = 3;"
        "UPDATE audit_events SET sequence = 3 WHERE org_id = $1 AND sequence = 5;"
        "UPDATE audit_events SET sequence = 5 WHERE org_id = $1 AND sequence = 99",
        chained,
    )
    await breaks(attacked, chained, 3, CHANGED.format(3))


@pytest.mark.parametrize(
    ("place", "head", "broken", "problem"),
    [
        (EVENTS + 1, EVENTS, EVENTS + 1, f"event {EVENTS + 1} is none of the chain's: it ends before it"),
        (EVENTS + 1, EVENTS + 1, EVENTS + 1, f"event {EVENTS + 1} is not the one that the head was signed for"),
        (3, EVENTS + 1, 4, CHANGED.format(4)),
        (1, EVENTS + 1, 2, CHANGED.format(2)),
    ],
    ids=["behind the end", "behind the end, which was moved", "in between", "at the beginning"],
)
async def test_an_event_that_was_put_in_is_named(
    attacked: Attacked, chained: str, place: int, head: int, broken: int, problem: str
) -> None:
    await forced(
        attacked.database,
        f"UPDATE audit_events SET sequence = sequence + 100 WHERE org_id = $1 AND sequence >= {place};"
        "UPDATE audit_events SET sequence = sequence - 99 WHERE org_id = $1 AND sequence >= 100;"
        f"UPDATE audit_heads SET sequence = {head} WHERE org_id = $1",
        chained,
    )
    links, _ = await attacked.vault.exported(chained)
    # It fits what goes before it; what comes after it does not fit any more.
    before = links[place - 2].hash if place > 1 else GENESIS
    [read, *_] = [link for link in links if link.event.action == "credential.get"]
    forged = replace(read.event, event_id="00000000-0000-4000-8000-000000000000", peer="mallory")
    await put_in(attacked.database, [Link(forged, place, event_hash(before, place, forged))])
    await breaks(attacked, chained, broken, problem)


async def put_in(database: Database, links: Sequence[Link]) -> None:
    """Rows of the audit, in the place of those of the same number."""
    for link in links:
        event = link.event
        await database.admin(
            "DELETE FROM audit_events WHERE org_id = $1 AND sequence = $2", event.org_id, link.sequence
        )
        await database.admin(
            "INSERT INTO audit_events (event_id, org_id, sequence, occurred_at, peer, on_behalf_of, action, provider,"
            " version, outcome, request_id, generation, hash)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            event.event_id,
            event.org_id,
            link.sequence,
            event.occurred_at,
            event.peer,
            event.on_behalf_of,
            event.action,
            event.provider,
            event.version,
            event.outcome,
            event.request_id,
            event.generation,
            link.hash,
        )


async def test_a_chain_that_was_cut_off_is_named(attacked: Attacked, chained: str) -> None:
    """Its last event is gone, and its head says so; nobody but the vault can sign that."""
    links, _ = await attacked.vault.exported(chained)
    await forced(
        attacked.database,
        "DELETE FROM audit_events WHERE org_id = $1 AND sequence = 6;"
        "UPDATE audit_heads SET sequence = 5, hash = $2 WHERE org_id = $1",
        chained,
        links[4].hash,
    )
    await breaks(attacked, chained, 5, "the head is not signed by the vault's key")


async def test_a_chain_that_was_put_back_to_where_it_ended_before_is_named(attacked: Attacked, org: str) -> None:
    """With the head that was signed then; the org has moved on, and its own row says so."""
    await attacked.vault.connect(org)
    backup = await attacked.saved(org, "audit_events", "audit_heads")
    disconnect = store_pb.DisconnectRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    await call((await attacked.vault.store()).Disconnect, disconnect)
    await attacked.put_back(org, backup)
    verdict = await attacked.vault.verdict(org)
    assert (3, "the org is at change 3, and the audit ends with change 2: its end is missing") == (
        verdict.broken_sequence,
        verdict.problem,
    )


async def test_a_chain_that_was_put_back_and_has_gone_on_since_is_named_for_ever(attacked: Attacked, org: str) -> None:
    await attacked.vault.connect(org)
    backup = await attacked.saved(org, "audit_events", "audit_heads")
    store = await attacked.vault.store()
    at: dict[str, Any] = {"org_id": org, "provider": pb.PROVIDER_VAPI}
    await call(store.Disconnect, store_pb.DisconnectRequest(**at))
    await attacked.put_back(org, backup)
    await call(store.Reconnect, store_pb.ReconnectRequest(**at))
    verdict = await attacked.vault.verdict(org)
    assert (
        3,
        "event 3 tells of change 4 and the one before it of change 2: an old state was put back, or events are missing",
    ) == (
        verdict.broken_sequence,
        verdict.problem,
    )


async def test_a_chain_without_its_head_or_without_anything_is_named(attacked: Attacked, chained: str) -> None:
    await attacked.database.admin("DELETE FROM audit_heads WHERE org_id = $1", chained)
    await breaks(attacked, chained, EVENTS, "the chain has events and no head")
    await attacked.database.admin("DELETE FROM audit_events WHERE org_id = $1", chained)
    verdict = await attacked.vault.verdict(chained)
    assert (1, "the org is at change 4, and the audit ends with change 0: its end is missing") == (
        verdict.broken_sequence,
        verdict.problem,
    )


async def chained_anew(attacked: Attacked, org: str) -> list[Link]:
    """The first reader's name exchanged, and every hash computed again as the vault does it."""
    links, _ = await attacked.vault.exported(org)
    forged, last = [], End()
    for link in links:
        event = replace(link.event, peer="mallory") if link.sequence == 3 else link.event
        last = End(link.sequence, event_hash(last.hash, link.sequence, event))
        forged.append(Link(event, link.sequence, last.hash))
    await put_in(attacked.database, forged)
    return forged


async def test_a_chain_that_was_computed_anew_is_not_the_one_that_was_signed(attacked: Attacked, chained: str) -> None:
    forged = await chained_anew(attacked, chained)
    await breaks(attacked, chained, EVENTS, f"event {EVENTS} is not the one that the head was signed for")
    await attacked.database.admin("UPDATE audit_heads SET hash = $2 WHERE org_id = $1", chained, forged[-1].hash)
    await breaks(attacked, chained, EVENTS, "the head is not signed by the vault's key")


async def test_what_somebody_computed_anew_is_not_signed_by_the_vault_as_it_goes_on(
    attacked: Attacked, chained: str
) -> None:
    """The next event is put behind what is there: the head of that must not vouch for what went before."""
    forged = await chained_anew(attacked, chained)
    await attacked.database.admin("UPDATE audit_heads SET hash = $2 WHERE org_id = $1", chained, forged[-1].hash)
    store = await attacked.vault.store()
    at: dict[str, Any] = {"org_id": chained, "provider": pb.PROVIDER_VAPI}
    await call(store.Reconnect, store_pb.ReconnectRequest(**at))
    await breaks(attacked, chained, EVENTS + 1, CHANGED.format(EVENTS + 1))
    await attacked.vault.get(chained)
    await attacked.vault.events_when(chained, "credential.get", 3)
    await breaks(attacked, chained, EVENTS + 1, CHANGED.format(EVENTS + 1))
    assert [chained] == [
        line["org"] for line in attacked.journal.events("a chain does not end as it was signed: it was changed by SQL")
    ]


@pytest.mark.parametrize(
    ("attack", "broken"),
    [
        # The number alone: what was signed is still there, and the vault goes on behind it.
        ("UPDATE audit_heads SET sequence = 1 WHERE org_id = $1", 0),
        (
            (
                "UPDATE audit_heads h SET sequence = 1, hash = e.hash FROM audit_events e"
                " WHERE h.org_id = $1 AND e.org_id = $1 AND e.sequence = 1"
            ),
            EVENTS + 1,
        ),
        ("DELETE FROM audit_heads WHERE org_id = $1", EVENTS + 1),
    ],
    ids=["number", "set back", "removed"],
)
async def test_a_head_that_was_set_back_does_not_stop_the_audit_of_this_org_or_another(
    attacked: Attacked, chained: str, other_org: str, attack: str, broken: int
) -> None:
    await attacked.vault.connect(other_org)
    await attacked.database.admin(attack, chained)
    store = await attacked.vault.store()
    await call(store.Reconnect, store_pb.ReconnectRequest(org_id=chained, provider=pb.PROVIDER_VAPI))
    await attacked.vault.get(chained)
    await attacked.vault.get(other_org)
    await attacked.vault.events_when(chained, "credential.get", 3)
    await attacked.vault.events_when(other_org, "credential.get", 1)
    assert broken == (await attacked.vault.verdict(chained)).broken_sequence
    assert not (await attacked.vault.verdict(other_org)).problem


async def test_a_chain_that_somebody_else_signed_is_not_the_vaults(attacked: Attacked, chained: str) -> None:
    """With a key of their own in every place where the database has the vault's public key."""
    forged, key = await chained_anew(attacked, chained), Ed25519PrivateKey.generate()
    [kept] = await attacked.database.admin("SELECT public_key FROM signing_keys")
    try:
        await attacked.database.admin("UPDATE signing_keys SET public_key = $1", key.public_key().public_bytes_raw())
        await attacked.database.admin(
            "UPDATE audit_heads SET hash = $2, signature = $3, public_key = $4 WHERE org_id = $1",
            chained,
            forged[-1].hash,
            key.sign(head_message(chained, EVENTS, forged[-1].hash)),
            key.public_key().public_bytes_raw(),
        )
        await breaks(attacked, chained, EVENTS, "the head is not signed by the vault's key")
    finally:
        await attacked.database.admin("UPDATE signing_keys SET public_key = $1", kept["public_key"])


async def test_another_orgs_chain_is_not_taken_for_an_orgs_own(
    attacked: Attacked, chained: str, other_org: str
) -> None:
    await attacked.vault.connect(other_org)
    await forced(
        attacked.database,
        "DELETE FROM audit_events WHERE org_id = $1; DELETE FROM audit_heads WHERE org_id = $1;"
        "INSERT INTO audit_events SELECT gen_random_uuid(), $1, sequence, occurred_at, peer, on_behalf_of, action,"
        " provider, version, outcome, request_id, generation, hash FROM audit_events WHERE org_id = $2;"
        "INSERT INTO audit_heads SELECT $1, sequence, hash, signature, public_key FROM audit_heads WHERE org_id = $2",
        chained,
        other_org,
    )
    await breaks(attacked, chained, 1, CHANGED.format(1))


# What the vault relies on.

POLICY = (
    "CREATE POLICY own_org ON {} TO tenantvault_app USING (org_id = current_setting('tenantvault.org_id', true))"
    " WITH CHECK (org_id = current_setting('tenantvault.org_id', true))"
)
FLIPPED = "UPDATE master_keys SET fingerprint = set_byte(fingerprint, 0, get_byte(fingerprint, 0) # 255)"
WALLS = {
    "policy dropped": (
        "DROP POLICY own_org ON org_credentials",
        POLICY.format("org_credentials"),
        "row-level security",
        "the row-level security policy of table org_credentials is not the one that was migrated",
    ),
    "policy dropped from the audit": (
        "DROP POLICY own_org ON audit_events",
        POLICY.format("audit_events"),
        "row-level security",
        "the row-level security policy of table audit_events is not the one that was migrated",
    ),
    "not forced": (
        "ALTER TABLE org_credentials NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE org_credentials FORCE ROW LEVEL SECURITY",
        "row-level security",
        "table org_credentials does not force row-level security",
    ),
    "passed by": (
        "ALTER ROLE tenantvault_app BYPASSRLS",
        "ALTER ROLE tenantvault_app NOBYPASSRLS",
        "role",
        "the vault's database role is privileged: log in as tenantvault_app",
    ),
    "a retired master key made active": (
        (
            "WITH gone AS (INSERT INTO master_keys (master_key_id, fingerprint, state) VALUES ('gone', 'x', 'active'))"
            " INSERT INTO signing_keys (key_id, master_key_id, wrapped_key, public_key, is_current)"
            " VALUES ('gone', 'gone', 'x', 'x', false)"
        ),
        (
            "WITH gone AS (DELETE FROM signing_keys WHERE master_key_id = 'gone')"
            " DELETE FROM master_keys WHERE master_key_id = 'gone'"
        ),
        "master keys",
        "master key gone is missing: add it to TENANTVAULT_MASTER_KEYS",
    ),
    "the master key retired": (
        "UPDATE master_keys SET state = 'retired' WHERE master_key_id = 'test-1'",
        "UPDATE master_keys SET state = 'active' WHERE master_key_id = 'test-1'",
        "master keys",
        "master key test-1 is retired: put the key that is in use first in TENANTVAULT_MASTER_KEYS",
    ),
    "another key's fingerprint": (
        FLIPPED,
        FLIPPED,
        "master keys",
        "master key test-1 is another key than the one that wrapped this database's org keys",
    ),
}


@pytest.fixture
async def mended(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    yield
    [_, mends, *_] = WALLS[request.node.callspec.params["wall"]]
    await database.admin(mends)


@pytest.mark.parametrize("wall", WALLS)
async def test_a_vault_that_serves_stops_and_says_why_when_somebody_takes_a_wall_down(
    mended: None, attacked: Attacked, org: str, wall: str
) -> None:
    breaks_it, _, check, problem = WALLS[wall]
    await attacked.vault.connect(org)
    await attacked.read(org)
    await attacked.database.admin(breaks_it)
    assert problem == (await attacked.vault.diagnosis())[check]
    assert not await attacked.vault.server.check()
    for refused in (attacked.vault.get(org), attacked.vault.put(org, expected=1)):
        with pytest.raises(VaultUnavailable):
            await refused
    [failure] = attacked.journal.events("self-check failed")
    assert problem == failure["reason"]


# What is no attack.

BEFORE, AFTER = 20261, 20262


@pytest.fixture
async def stepped_in(
    fresh_database: Database, authority: DevelopmentAuthority, journal: Journal
) -> AsyncIterator[Attacked]:
    """Reads of Vapi's credentials stop before or after they have seen the rows, for as long as that lock is held."""
    [row] = await fresh_database.admin("SELECT pg_get_function_result('read_credentials'::regproc) AS result")
    await fresh_database.admin("ALTER FUNCTION read_credentials RENAME TO read_credentials_at_once")
    await fresh_database.admin(
        f"""
        CREATE FUNCTION read_credentials(wanted_orgs text[], wanted_providers text[], newest boolean)
            RETURNS {row["result"]} LANGUAGE plpgsql STABLE AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock({BEFORE}) WHERE 'vapi' = ANY(wanted_providers);
            RETURN QUERY SELECT * FROM public.read_credentials_at_once(wanted_orgs, wanted_providers, newest);
            PERFORM pg_advisory_xact_lock({AFTER}) WHERE 'vapi' = ANY(wanted_providers);
        END $$
        """
    )
    await fresh_database.admin(
        "GRANT EXECUTE ON FUNCTION read_credentials_at_once, read_credentials TO tenantvault_app"
    )
    async with running_vault(vault_settings(fresh_database, authority), authority) as vault:
        yield Attacked(vault, fresh_database, journal)


@contextlib.asynccontextmanager
async def stopped_on_its_way(
    attacked: Attacked, where: int, reading: Coroutine[Any, Any, Any]
) -> AsyncIterator["asyncio.Future[Any]"]:
    db = await asyncpg.connect(attacked.database.admin_url)
    try:
        await db.execute(f"SELECT pg_advisory_lock({where})")
        under_way = asyncio.ensure_future(reading)
        await eventually(lambda: waiting_for_locks(attacked.database, 1))
        yield under_way
    finally:
        await db.close()


def nothing_found(attacked: Attacked) -> bool:
    return not any(attacked.vault.count("tenantvault_violations", kind) for kind in ("mapping", *LOGGED))


async def test_a_read_that_is_overtaken_by_a_change_and_a_later_read_is_no_going_back(
    stepped_in: Attacked, org: str
) -> None:
    await stepped_in.vault.connect(org)
    async with stopped_on_its_way(stepped_in, AFTER, stepped_in.read(org)) as under_way:
        await stepped_in.vault.connect(org, credential=TWILIO)
        later = await stepped_in.read(org, pb.PROVIDER_TWILIO)
    earlier = await under_way
    assert (VAPI, True) == (earlier.credential, earlier.generation < later.generation)
    assert nothing_found(stepped_in)
    # What was read on the way is not remembered as the org's.
    assert (await stepped_in.vault.get(org)).generation == later.generation


async def test_a_look_up_that_is_overtaken_by_a_change_of_the_directory_finds_no_tampering(
    stepped_in: Attacked, org: str
) -> None:
    old, new = assistant(), assistant()
    await stepped_in.vault.connect(org, old)
    register = store_pb.RegisterResourcesRequest(org_id=org, provider=pb.PROVIDER_VAPI, version=1, resources=[new])
    async with stopped_on_its_way(stepped_in, BEFORE, stepped_in.owner(old)) as under_way:
        await call((await stepped_in.vault.store()).RegisterResources, register)
    assert org == await under_way
    with pytest.raises(ResourceNotFound):
        await stepped_in.owner(old)
    assert org == await stepped_in.owner(new)
    assert nothing_found(stepped_in)
