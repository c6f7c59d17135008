"""The methods of the vault, as the contract's descriptors list them."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc.aio
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.integration.vault.conftest import GOOGLE, VAPI

VAULT_SERVICES = (
    "tenantvault.v1.CredentialAccessService",
    "tenantvault.v1.OrgDirectoryService",
    "tenantvault.v1.IntegrationStatusService",
    "tenantvault.v1.IntegrationStoreService",
    "tenantvault.v1.VaultAdminService",
)


def services() -> Iterator[ServiceDescriptor]:
    for name in VAULT_SERVICES:
        yield Default().FindServiceByName(name)


METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method for service in services() for method in service.methods
}


def holds_plaintext(message: Descriptor, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a credential can be anywhere inside of a message."""
    if message.full_name == pb.Credential.DESCRIPTOR.full_name:
        return True
    return any(
        field.message_type is not None and holds_plaintext(field.message_type, seen | {message.full_name})
        for field in message.fields
        if field.message_type is None or field.message_type.full_name not in seen
    )


PLAINTEXT = {name: method for name, method in METHODS.items() if holds_plaintext(method.output_type)}


def filled(method: MethodDescriptor, org: str) -> Any:
    """A request that a peer with the right to it would have answered, as far as that can be said for all.

    It never confirms what there is no way back from.
    """
    request: Any = GetMessageClass(method.input_type)()
    fields = method.input_type.fields_by_name
    values = {
        "org_id": org,
        "provider": pb.PROVIDER_VAPI,
        "version": 1,
        "expected_version": 1,
        "owner": "worker",
        "task": store_pb.TASK_VERIFY,
        "state_hash": bytes(32),
        "binding": bytes(32),
        "kind": pb.RESOURCE_KIND_VAPI_ASSISTANT,
        "resource_id": org,
    }
    for name in values.keys() & fields.keys():
        setattr(request, name, values[name])
    if "credential" in fields:
        request.credential.CopyFrom(VAPI)
    if method.name == "RefreshCredential":
        request.credential.CopyFrom(GOOGLE)
        request.lease_owner = "worker"
    for name in [name for name in ("duration", "due_in") if name in fields]:
        getattr(request, name).seconds = 1
    for name in [name for name in ("keys", "known") if name in fields]:
        key = getattr(request, name).add()
        for part in values.keys() & key.DESCRIPTOR.fields_by_name.keys():
            setattr(key, part, values[part])
    return request


def stub(channel: grpc.aio.Channel, method: MethodDescriptor) -> Callable[..., Awaitable[Any]]:
    """Calls a method. Of answers that stream it gives the first, or None when there is none."""
    deserializer = GetMessageClass(method.output_type).FromString
    return _calling(channel, method, request_serializer=bytes_of, response_deserializer=deserializer)


def raw(channel: grpc.aio.Channel, method: MethodDescriptor) -> Callable[..., Awaitable[Any]]:
    """The same with bytes, which need be no request."""
    return _calling(channel, method)


def _calling(channel: Any, method: MethodDescriptor, **how: Any) -> Callable[..., Awaitable[Any]]:
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    calling: Callable[..., Any] = kind(path, **how)

    async def first(request: Any, **options: Any) -> Any:
        answers = calling(request, **options)
        try:
            return await anext(aiter(answers), None)
        finally:
            answers.cancel()

    return first if method.server_streaming else calling


async def everything(channel: Any, method: MethodDescriptor, request: Any, *, seconds: float) -> list[Any]:
    """All that a method answers within some seconds, to any request; a refusal is no answer."""
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    path = f"/{method.containing_service.full_name}/{method.name}"
    deserializer = GetMessageClass(method.output_type).FromString
    calling = kind(path, request_serializer=bytes_of, response_deserializer=deserializer)(request, timeout=seconds)
    found: list[Any] = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        if method.server_streaming:
            async for answer in calling:
                found.append(answer)  # noqa: PERF401 - what came before the deadline counts
        else:
            found.append(await calling)
    return found


def bytes_of(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
