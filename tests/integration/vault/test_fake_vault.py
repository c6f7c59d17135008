"""The vault that the client has for tests says what the real one says."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from tenantvault import AsyncClient, Provider, Resource, ResourceKind, Secret, TwilioCredential, VapiCredential
from tenantvault.channel import call
from tenantvault.credentials import Credential
from tenantvault.errors import TenantVaultError
from tenantvault.messages import PROVIDER_NUMBER, credential_to_message, resources_to_messages
from tenantvault.testing import OVERLAP, FakeVault
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.integration.vault.conftest import RunningVault

OLD, NEW = (VapiCredential(api_key=Secret(f"{age}-api-key-1234"), webhook_secret=Secret(age)) for age in ("old", "new"))
LINE = TwilioCredential(account_sid="AC" + "0" * 32, auth_token=Secret("f" * 32), phone_number="+15005550006")
INBOUND = Resource(ResourceKind.VAPI_ASSISTANT, "assistant-1", "inbound")
NUMBER = Resource(ResourceKind.PHONE_NUMBER, LINE.phone_number, "voice")


@dataclass(slots=True)
class RealVault:
    """The verbs of the fake one, done to a real one."""

    vault: RunningVault

    async def connect(self, org_id: str, credential: Credential, *resources: Resource, expected: int = 0) -> None:
        message = credential_to_message(credential)
        await self.vault.connect(org_id, *resources_to_messages(resources), credential=message, expected=expected)

    async def disconnect(self, org_id: str, provider: Provider) -> None:
        request = store_pb.DisconnectRequest(org_id=org_id, provider=PROVIDER_NUMBER[provider])
        await call((await self.vault.store()).Disconnect, request)

    async def freeze(self, org_id: str) -> None:
        await self.vault.freeze(org_id)

    async def unfreeze(self, org_id: str) -> None:
        await self.vault.unfreeze(org_id)


@dataclass(slots=True)
class Fake:
    vault: FakeVault

    async def connect(self, org_id: str, credential: Credential, *resources: Resource, expected: int = 0) -> None:
        self.vault.connect(org_id, credential, resources)

    async def disconnect(self, org_id: str, provider: Provider) -> None:
        self.vault.disconnect(org_id, provider)

    async def freeze(self, org_id: str) -> None:
        self.vault.freeze(org_id)

    async def unfreeze(self, org_id: str) -> None:
        self.vault.unfreeze(org_id)


async def outcome(read: Awaitable[Any]) -> Any:
    """What a read gives that both can be held to: everything but times, of which the length of the overlap counts."""
    try:
        answer = await read
    except TenantVaultError as error:
        return error.reason, error.message
    if not hasattr(answer, "version"):
        return answer
    previous = answer.previous
    until = previous and round((previous.readable_until - answer.last_verified_at) / timedelta(seconds=1), -2)
    before = previous and (previous.version, previous.credential, until)
    return answer.org_id, answer.version, answer.credential, answer.resources, answer.generation, before


async def told(client: AsyncClient) -> list[Any]:
    """What is said of everything that the story is about."""
    keys = [("acme", Provider.VAPI), ("acme", Provider.TWILIO), ("globex", Provider.VAPI)]
    resources = [(one.kind, one.resource_id) for one in (INBOUND, NUMBER)]
    # Each verb for any kind and provider: their overloads are for literals.
    asked: Any = client
    reads: list[Callable[..., Awaitable[Any]]] = [
        *(lambda key=key: asked.get(*key, include_previous=True) for key in keys),
        *(lambda key=key: asked.resolve_org(*key) for key in resources),
        *(lambda key=key: asked.resolve_credential(*key, Provider.VAPI) for key in resources),
    ]
    single = [await outcome(read()) for read in reads]
    many = [*(await client.get_many(keys)).values(), *(await client.resolve_orgs(resources)).values()]
    return single + [await outcome(_ready(value)) for value in many]


async def _ready(value: Any) -> Any:
    if isinstance(value, TenantVaultError):
        raise value
    return value


async def story(world: Any, client: AsyncClient) -> list[list[Any]]:
    """What is said after each step."""
    steps: list[Callable[[], Awaitable[None]]] = [
        lambda: world.connect("acme", OLD, INBOUND),
        lambda: world.connect("acme", LINE, NUMBER),
        lambda: world.connect("acme", NEW, INBOUND, expected=1),
        lambda: world.freeze("acme"),
        lambda: world.unfreeze("acme"),
        lambda: world.disconnect("acme", Provider.VAPI),
        lambda: world.freeze("acme"),
        lambda: world.unfreeze("acme"),
        lambda: world.connect("acme", OLD, expected=3),
    ]
    found = [await told(client)]
    for step in steps:
        await step()
        found.append(await told(client))
    return found


@pytest.mark.timeout(120)
async def test_both_say_the_same_after_every_step(vault: RunningVault) -> None:
    tls = vault.authority.issue("webhook-processor", server=False)
    async with AsyncClient.connect(vault.target, tls, cache=None) as client:
        real = await story(RealVault(vault), client)
    with FakeVault() as fake:
        async with fake.async_client(cache=None) as client:
            assert real == await story(Fake(fake), client)
    assert OVERLAP == real[3][0][-1][-1]
