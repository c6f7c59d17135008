"""The application in front of the real client, whose transport alone is not real."""

import time
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault import AsyncClient, Provider
from tenantvault._status import to_status
from tenantvault.errors import CredentialNotFound
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
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
