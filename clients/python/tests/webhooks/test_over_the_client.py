"""The application in front of the real client, whose transport alone is not real."""

import json
import time
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault import AsyncClient, Provider
from tenantvault._status import to_status
from tenantvault.errors import CredentialNotFound
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory
from tenantvault.webhooks import Event, Webhooks


def vapi(secret: str) -> pb.Credential:
    return pb.Credential(vapi=pb.VapiCredential(api_key="k", webhook_secret=secret))


async def test_the_secret_and_the_one_before_are_asked_for_and_accepted(
    asynchronous: AsyncClient, wire: Any, send: Any
) -> None:
    events: list[Event] = []
    hooks = Webhooks(asynchronous, public_url="https://hooks.example.com")

    @hooks.on(Provider.VAPI)
    async def keep(event: Event) -> None:
        events.append(event)

    until = Timestamp(seconds=int(time.time()) + 3600)
    wire.answer = access.GetCredentialResponse(
        credential=pb.ActiveCredential(
            org_id="acme",
            provider=pb.PROVIDER_VAPI,
            version=2,
            credential=vapi("new-secret"),
            previous=pb.PreviousCredential(version=1, credential=vapi("old-secret"), readable_until=until),
        )
    )
    statuses = []
    for secret in (b"old-secret", b"new-secret", b"guess"):
        body = b'{"message":{"type":"hang","at":"' + secret + b'"}}'
        answer = await send(hooks, "/vapi/acme", headers=[(b"x-vapi-secret", secret)], chunks=[body])
        statuses.append(answer.status)

    assert statuses == [200, 200, 401]
    assert [event.org_id for event in events] == ["acme", "acme"]
    assert all(call.request.include_previous for call in wire.calls)


async def test_an_id_that_is_none_and_an_org_without_a_credential_are_unknown(
    asynchronous: AsyncClient, wire: Any, send: Any
) -> None:
    hooks = Webhooks(asynchronous, public_url="https://hooks.example.com")

    @hooks.on(Provider.VAPI)
    async def never(_: Event) -> None:
        raise AssertionError("nothing was proven")

    code, _, trailers = to_status(CredentialNotFound())
    wire.answer = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), "foreign text")
    for path in ("/vapi/acme", "/vapi/No%20Org", "/vapi/../x", f"/vapi/{'a' * 999}"):
        answer = await send(hooks, path, headers=[(b"x-vapi-secret", b"s")], chunks=[b"{}"])
        assert answer.status == (404 if ".." in path else 401)


async def test_a_webhook_of_an_org_that_is_remembered_asks_the_vault_nothing(
    asynchronous: AsyncClient, wire: Any, send: Any
) -> None:
    client = AsyncClient(asynchronous._wire._channels[0])
    assert client._calls.cache is not None
    client._calls.cache.heard()
    hooks = Webhooks(client, public_url="https://hooks.example.com")
    kinds: list[str] = []

    @hooks.on(Provider.VAPI)
    async def keep(event: Event) -> None:
        kinds.append(event.type)

    def answer(call: Any) -> Any:
        if isinstance(call.request, directory.ResolveOrgRequest):
            return directory.ResolveOrgResponse(org_id="acme", generation=7)
        active = pb.ActiveCredential(
            org_id="acme",
            provider=pb.PROVIDER_VAPI,
            version=1,
            credential=vapi("secret"),
            resources=[pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id="assistant")],
            generation=7,
        )
        kind = access.ResolveCredentialResponse if "Resolve" in call.method else access.GetCredentialResponse
        return kind(credential=active)

    wire.answer = answer
    calls = []
    for number, path in enumerate(("/vapi/acme", "/vapi", "/vapi/acme", "/vapi")):
        message = {
            "type": f"hang-{number}",
            "call": {"assistantId": "assistant"},
            "phoneNumber": {"number": "+12025550100"},
        }
        body = json.dumps({"message": message}).encode()
        before = len(wire.calls)
        assert 200 == (await send(hooks, path, headers=[(b"x-vapi-secret", b"secret")], chunks=[body])).status
        calls.append(len(wire.calls) - before)

    # The credential and whose the number is; the credential by the assistant; and then nothing any more.
    assert [2, 1, 0, 0] == calls
    assert 4 == len(kinds)
    await client.close()
