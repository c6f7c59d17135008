"""Both clients in front of the fake vault."""

import asyncio
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tenantvault import (
    AsyncClient,
    Client,
    GoogleCalendarCredential,
    Provider,
    ResendCredential,
    Resource,
    ResourceKind,
    Secret,
    VapiCredential,
)
from tenantvault.errors import (
    LEAVES,
    CredentialNotFound,
    DeadlineExceeded,
    InvalidRequest,
    OrgFrozen,
    ReauthRequired,
    ResourceConflict,
    ResourceNotFound,
    TenantVaultError,
    VaultUnavailable,
)
from tenantvault.testing import Call, FakeVault

pytestmark = pytest.mark.enable_socket

OLD, NEW = (VapiCredential(api_key=Secret(f"{age}-api-key"), webhook_secret=Secret(age)) for age in ("old", "new"))
INBOUND = Resource(ResourceKind.VAPI_ASSISTANT, "assistant-1", "inbound")
MAIL = ResendCredential(api_key=Secret("re_1"))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def google(expires_at: datetime) -> GoogleCalendarCredential:
    return GoogleCalendarCredential(
        refresh_token=Secret("1//refresh"), access_token=Secret("first-access"), expires_at=expires_at, scopes=("a",)
    )


async def until_remembered(client: Any) -> None:
    while client.client.remembered("acme", Provider.VAPI) is None:
        await client.vapi("acme")


async def until_told(client: Any, credential: VapiCredential) -> None:
    # In a task of its own: what is answered from memory lets no other one run.
    while (await asyncio.create_task(client.vapi("acme"))).credential != credential:
        pass


async def test_what_is_connected_is_read_in_every_way(client: Any, tenantvault_vault: FakeVault) -> None:
    assert 1 == tenantvault_vault.connect("acme", OLD, [INBOUND])
    tenantvault_vault.connect("acme", MAIL)

    active = await client.vapi("acme")
    found = await client.get_many([("acme", Provider.RESEND), ("globex", Provider.VAPI)])
    owners = await client.resolve_orgs([(INBOUND.kind, INBOUND.resource_id), (INBOUND.kind, "other")])

    assert (OLD, 1, "assistant-1", None) == (
        active.credential,
        active.version,
        active.resource("inbound"),
        active.previous,
    )
    assert MAIL == found.value(("acme", Provider.RESEND)).credential
    assert CredentialNotFound is type(found["globex", Provider.VAPI])
    assert "acme" == owners.value((INBOUND.kind, INBOUND.resource_id)).org_id
    assert ResourceNotFound is type(owners[INBOUND.kind, "other"])
    assert "inbound" == (await client.resolve_org(INBOUND.kind, INBOUND.resource_id)).role
    assert MAIL == (await client.resolve_credential(INBOUND.kind, INBOUND.resource_id, Provider.RESEND)).credential


async def test_a_change_is_never_answered_from_memory(client: Any, tenantvault_vault: FakeVault) -> None:
    tenantvault_vault.connect("acme", OLD)
    await until_remembered(client)

    tenantvault_vault.rotate("acme", NEW)
    assert NEW == (await client.vapi("acme")).credential
    await until_remembered(client)
    tenantvault_vault.freeze("acme")
    with pytest.raises(OrgFrozen):
        await client.vapi("acme")
    tenantvault_vault.unfreeze("acme")
    await until_remembered(client)
    tenantvault_vault.disconnect("acme", Provider.VAPI)
    with pytest.raises(CredentialNotFound):
        await client.vapi("acme")


async def test_a_watch_tells_of_changes_and_another_one_of_those_it_missed(
    client: Any, tenantvault_vault: FakeVault
) -> None:
    tenantvault_vault.connect("acme", OLD)
    await until_remembered(client)
    # From here on only the watch tells.
    tenantvault_vault._clients.clear()

    tenantvault_vault.drop_watches()
    tenantvault_vault.rotate("acme", NEW)
    await until_told(client, NEW)
    await until_remembered(client)
    tenantvault_vault.rotate("acme", OLD)
    await until_told(client, OLD)

    assert 2 <= client.client.cache_statistics.watches


async def test_the_one_before_is_readable_until_its_overlap_ends() -> None:
    now = NOW
    with FakeVault(now=lambda: now) as vault, vault.client(cache=None) as client:
        vault.connect("acme", OLD, [INBOUND])
        assert 2 == vault.rotate("acme", NEW, overlap=60)

        active = client.vapi("acme", include_previous=True)
        assert active.previous is not None
        assert (OLD, 1, NOW + timedelta(seconds=60)) == (
            active.previous.credential,
            active.previous.version,
            active.previous.readable_until,
        )
        assert (INBOUND,) == active.resources
        assert client.vapi("acme").previous is None
        now = NOW + timedelta(seconds=60)
        assert client.vapi("acme", include_previous=True).previous is None


def test_a_resource_belongs_to_one_org_and_goes_with_a_reconfiguration(tenantvault_vault: FakeVault) -> None:
    tenantvault_vault.connect("acme", OLD, [INBOUND])
    with pytest.raises(ResourceConflict):
        tenantvault_vault.connect("globex", OLD, [INBOUND])

    tenantvault_vault.connect("acme", NEW)

    assert 1 == tenantvault_vault.connect("globex", OLD, [INBOUND])


def test_every_error_that_it_is_told_reaches_the_client(tenantvault_vault: FakeVault) -> None:
    with tenantvault_vault.client(cache=None, retries=False) as client:
        for leaf in LEAVES:
            raised = leaf("Do this.", fields={"api_key": "Not known."}, retry_after=2.5)
            tenantvault_vault.fail(raised, times=2, method="ResolveOrg")
            with pytest.raises(CredentialNotFound):
                client.resend("acme")
            for _ in range(2):
                with pytest.raises(TenantVaultError) as caught:
                    client.resolve_org(INBOUND.kind, INBOUND.resource_id)
                assert leaf is type(caught.value)
                assert (raised.args, raised.fields, 2.5) == (
                    caught.value.args,
                    caught.value.fields,
                    caught.value.retry_after,
                )
            with pytest.raises(ResourceNotFound):
                client.resolve_org(INBOUND.kind, INBOUND.resource_id)


def test_a_vault_that_fails_once_is_asked_again(tenantvault_vault: FakeVault, tenantvault_client: Client) -> None:
    tenantvault_vault.connect("acme", OLD)
    tenantvault_vault.fail(VaultUnavailable())

    assert OLD == tenantvault_client.vapi("acme").credential
    assert 2 == len(tenantvault_vault.calls)


@pytest.mark.parametrize("wrong", [{"method": "Connect"}, {"times": 0}])
def test_a_failure_that_can_never_come_is_refused(tenantvault_vault: FakeVault, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give"):
        tenantvault_vault.fail(VaultUnavailable(), **wrong)


async def test_a_slow_vault_costs_no_more_than_the_deadline(client: Any, tenantvault_vault: FakeVault) -> None:
    tenantvault_vault.connect("acme", OLD)
    tenantvault_vault.delay(600)
    with pytest.raises(DeadlineExceeded):
        await client.vapi("acme", deadline=0.1)

    tenantvault_vault.delay(0)
    assert OLD == (await client.vapi("acme")).credential


async def test_a_watch_that_is_refused_leaves_nothing_in_memory(client: Any, tenantvault_vault: FakeVault) -> None:
    tenantvault_vault.connect("acme", OLD)
    tenantvault_vault.fail(VaultUnavailable(), times=10**6, method="WatchChanges")
    for _ in range(3):
        await client.vapi("acme")

    assert 3 == len(tenantvault_vault.calls)


def test_what_was_asked_is_told_without_secrets(tenantvault_vault: FakeVault) -> None:
    tenantvault_vault.connect("acme", OLD, [INBOUND])
    with tenantvault_vault.client(cache=None) as client:
        client.vapi("acme")
        client.resolve_credential(INBOUND.kind, INBOUND.resource_id, Provider.VAPI)
        client.get_many([("acme", Provider.VAPI), ("globex", Provider.TWILIO)])
        client.report_failure("acme", Provider.VAPI, 1)

    assert (
        Call("GetCredential", (("acme", "vapi"),)),
        Call("ResolveCredential", (("vapi_assistant", "assistant-1", "vapi"),)),
        Call("BatchGetCredentials", (("acme", "vapi"), ("globex", "twilio"))),
        Call("ReportFailure", (("acme", "vapi"),)),
    ) == tenantvault_vault.calls
    assert "old-api-key" not in repr(tenantvault_vault.calls)


async def test_a_version_is_reported_once(client: Any, tenantvault_vault: FakeVault) -> None:
    tenantvault_vault.connect("acme", OLD)
    told = [await client.report_failure("acme", Provider.VAPI, version) for version in (2, 1, 1)]
    tenantvault_vault.rotate("acme", NEW)

    assert [False, True, False] == told
    assert await client.report_failure("acme", Provider.VAPI, 2)


async def test_an_access_token_that_ends_soon_is_replaced(client: Any, tenantvault_vault: FakeVault) -> None:
    tenantvault_vault.connect("acme", google(datetime.now(UTC) + timedelta(seconds=30)))

    active = await client.google_calendar("acme")

    assert "first-access" != active.credential.access_token.reveal()
    assert active.credential.expires_at > datetime.now(UTC) + timedelta(minutes=50)
    assert "RefreshAccessToken" in [call.method for call in tenantvault_vault.calls]


async def test_a_consent_that_is_over_is_told_as_such(client: Any, tenantvault_vault: FakeVault) -> None:
    tenantvault_vault.connect("acme", google(datetime.now(UTC)))
    tenantvault_vault.fail(ReauthRequired(), method="RefreshAccessToken")

    with pytest.raises(ReauthRequired):
        await client.google_calendar("acme")


async def test_many_tasks_get_their_answers_at_once(
    tenantvault_vault: FakeVault, tenantvault_async_client: AsyncClient
) -> None:
    for number in range(50):
        tenantvault_vault.connect(f"org-{number}", OLD)

    found = await asyncio.gather(*(tenantvault_async_client.vapi(f"org-{number}") for number in range(50)))

    assert [f"org-{number}" for number in range(50)] == [active.org_id for active in found]


def test_the_end_of_the_vault_ends_its_threads() -> None:
    vault = FakeVault()
    vault.connect("acme", OLD)
    with vault.client() as client:
        client.vapi("acme")
        vault.close()
        with pytest.raises(DeadlineExceeded):
            client.vapi("acme", deadline=0.1, max_staleness=0)

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tenantvault-fake")]


def test_an_asynchronous_client_is_made_inside_the_loop_that_uses_it(tenantvault_vault: FakeVault) -> None:
    with pytest.raises(InvalidRequest, match="event loop"):
        tenantvault_vault.async_client()


def test_an_org_that_no_client_could_ask_about_is_refused(tenantvault_vault: FakeVault) -> None:
    with pytest.raises(InvalidRequest):
        tenantvault_vault.connect("No Org", OLD)


def test_without_pytest_the_vault_is_there_all_the_same() -> None:
    source = "import sys; sys.modules['pytest'] = None; import tenantvault.testing as t; t.FakeVault().close()"
    subprocess.run([sys.executable, "-c", source], check=True, timeout=100)
