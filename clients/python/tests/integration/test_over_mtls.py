"""Both clients against a real server, over mutual TLS."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from tenantvault import AsyncClient, Client, Provider, ResolvedOrg, ResourceKind, Secret, VapiCredential
from tenantvault._status import to_status
from tenantvault.errors import LEAVES, DeadlineExceeded, InvalidRequest, TenantVaultError, Unavailable
from tenantvault.messages import credential_to_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory

pytestmark = pytest.mark.enable_socket

CREDENTIAL = VapiCredential(api_key=Secret("ac3e-key"), webhook_secret=Secret("hook"))
ACTIVE = pb.ActiveCredential(
    org_id="acme", provider=pb.PROVIDER_VAPI, version=1, credential=credential_to_message(CREDENTIAL)
)
ASSISTANT = (ResourceKind.VAPI_ASSISTANT, "00000000-0000-4000-8000-000000000001")


async def serve_acme(request: Any, context: Any) -> Any:
    match request:
        case access.GetCredentialRequest():
            return access.GetCredentialResponse(credential=ACTIVE)
        case access.ResolveCredentialRequest():
            return access.ResolveCredentialResponse(credential=ACTIVE)
        case _:
            return directory.ResolveOrgResponse(org_id="acme", role="inbound")


class Hang:
    """An answer that comes when it is released, or never."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, request: Any, context: Any) -> Any:
        self.arrived.set()
        await self.release.wait()
        return await serve_acme(request, context)


async def test_every_verb_reads_from_the_vault(client: Any, vault: Any) -> None:
    vault.answer = serve_acme

    assert CREDENTIAL == (await client.vapi("acme")).credential
    assert CREDENTIAL == (await client.get("acme", Provider.VAPI)).credential
    assert CREDENTIAL == (await client.resolve_credential(*ASSISTANT, Provider.VAPI)).credential
    assert ResolvedOrg("acme", "inbound") == await client.resolve_org(*ASSISTANT)


async def test_the_environment_leads_to_the_vault(kind: Any, vault: Any, authority: Any) -> None:
    vault.answer = serve_acme
    tls = authority.issue("webhook-processor")
    environ = {
        "TENANTVAULT_VAULT_TARGET": vault.target,
        "TENANTVAULT_TLS_CERT": str(tls.certificate),
        "TENANTVAULT_TLS_KEY": str(tls.key),
        "TENANTVAULT_TLS_CA": str(tls.authorities),
    }

    if kind is AsyncClient:
        async with AsyncClient.from_env(environ) as asynchronous:
            assert CREDENTIAL == (await asynchronous.vapi("acme")).credential
    else:

        def read() -> VapiCredential:
            with Client.from_env(environ) as blocking:
                return blocking.vapi("acme").credential

        assert CREDENTIAL == await asyncio.to_thread(read)


async def test_the_server_learns_the_deadline(client: Any, vault: Any) -> None:
    remaining = []

    async def note(request: Any, context: Any) -> Any:
        remaining.append(context.time_remaining())
        return await serve_acme(request, context)

    vault.answer = note
    await client.vapi("acme", deadline=60)
    await client.vapi("acme")

    # On the wire a deadline is rounded up.
    assert 50 < remaining[0] < 61
    assert 0 < remaining[1] < 6


async def test_every_error_of_the_server_comes_back_equal(client: Any, vault: Any) -> None:
    for leaf in LEAVES:
        raised = leaf("Do this: …", fields={"api_key": "Not known.", "größe": "•"}, retry_after=0.01)
        vault.answer = _failing(raised)
        with pytest.raises(leaf) as caught:
            await client.vapi("acme")

        assert leaf is type(caught.value)
        assert leaf.reason == caught.value.reason
        assert (raised.message, raised.fields, raised.retry_after) == (
            caught.value.message,
            caught.value.fields,
            caught.value.retry_after,
        )


def _failing(raised: TenantVaultError) -> Any:
    async def fail(request: Any, context: Any) -> Any:
        code, message, trailers = to_status(raised)
        context.set_trailing_metadata(trailers)
        await context.abort(code, message)

    return fail


async def test_what_a_server_of_ours_would_never_say_stays_out(client: Any, vault: Any) -> None:
    async def leak(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNKNOWN, "token=canary")

    vault.answer = leak
    with pytest.raises(TenantVaultError) as caught:
        await client.vapi("acme")

    assert ("INTERNAL", False) == (caught.value.reason, "canary" in str(caught.value))


async def test_a_hanging_vault_costs_no_more_than_the_deadline(client: Any, vault: Any) -> None:
    vault.answer = Hang()

    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(client.vapi("acme", deadline=0.2), timeout=5)


@pytest.mark.parametrize("whose", ["a foreign certificate", "a foreign vault"])
async def test_strangers_get_no_connection(
    connect: Any, vault: Any, authority: Any, foreign_authority: Any, whose: str, tmp_path: Path
) -> None:
    vault.answer = serve_acme
    ours, foreign = authority.issue("voice-agent"), foreign_authority.issue("voice-agent")
    shown, trusted = (foreign, ours) if whose == "a foreign certificate" else (ours, foreign)
    tls = type(ours)(certificate=shown.certificate, key=shown.key, authorities=trusted.authorities)
    stranger = connect(tls)

    with pytest.raises(Unavailable):
        await stranger.vapi("acme", deadline=0.3)

    await stranger.close()
    assert 0 == vault.calls


async def until_it_fails(client: AsyncClient | Client) -> None:
    """Wait until the client's channel has failed to connect."""
    if isinstance(client, AsyncClient):
        state = client._wire._channels[0].get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            await client._wire._channels[0].wait_for_state_change(state)
            state = client._wire._channels[0].get_state(try_to_connect=True)
        return
    failed = threading.Event()

    def note(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            failed.set()

    client._wire._channels[0].subscribe(note, try_to_connect=True)
    await asyncio.to_thread(failed.wait)
    client._wire._channels[0].unsubscribe(note)


async def test_a_call_waits_for_a_vault_that_restarts(client: Any, vault: Any) -> None:
    vault.answer = serve_acme
    await client.vapi("acme")
    await vault.stop()
    await until_it_fails(client.client)

    call = asyncio.create_task(client.vapi("acme", deadline=60))
    with pytest.raises(DeadlineExceeded):
        await client.vapi("acme", deadline=0.1)
    assert not call.done()
    await vault.start()

    assert CREDENTIAL == (await call).credential


async def test_a_vault_that_goes_away_under_a_call_is_unavailable(connect: Any, vault: Any) -> None:
    client = connect(retries=False)
    vault.answer = hang = Hang()
    call = asyncio.create_task(client.vapi("acme", deadline=60))
    await hang.arrived.wait()
    await vault.stop()

    with pytest.raises(Unavailable):
        await call
    await client.close()


async def test_closing_ends_the_calls_under_way_with_an_error(client: Any, vault: Any) -> None:
    vault.answer = hang = Hang()
    call = asyncio.create_task(client.vapi("acme", deadline=60))
    await hang.arrived.wait()

    await client.close()

    with pytest.raises(InvalidRequest, match="closed"):
        await call
    with pytest.raises(InvalidRequest, match="closed"):
        await client.vapi("acme")
    await client.close()


async def test_cancelling_a_task_ends_its_call_on_the_server(vault: Any, authority: Any) -> None:
    ended = asyncio.Event()

    async def hang(request: Any, context: Any) -> Any:
        context.add_done_callback(lambda _: ended.set())
        arrived.set()
        await asyncio.Event().wait()

    vault.answer = hang
    arrived = asyncio.Event()
    async with AsyncClient.connect(vault.target, authority.issue("voice-agent")) as client:
        call = asyncio.create_task(client.vapi("acme", deadline=60))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await ended.wait()


async def test_many_tasks_and_many_threads_share_one_client(connect: Any, vault: Any) -> None:
    client = connect(cache=None)
    vault.answer = serve_acme

    found = await asyncio.gather(*(client.vapi("acme") for _ in range(50)))

    assert 50 == sum(each.credential == CREDENTIAL for each in found) == vault.calls
    await client.close()
