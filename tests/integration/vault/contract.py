"""The methods of the vault, as the contract's descriptors list them."""

from collections.abc import Iterator
from typing import Any

import grpc.aio
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from tenantvault.v1 import credential_pb2 as pb
from tests.integration.vault.conftest import VAPI

VAULT_SERVICES = (
    "tenantvault.v1.CredentialAccessService",
    "tenantvault.v1.OrgDirectoryService",
    "tenantvault.v1.IntegrationStatusService",
    "tenantvault.v1.IntegrationStoreService",
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
    """A request that a peer with the right to it would have answered, as far as that can be said for all."""
    request: Any = GetMessageClass(method.input_type)()
    for name, value in {"org_id": org, "provider": pb.PROVIDER_VAPI, "version": 1, "owner": "worker"}.items():
        if name in method.input_type.fields_by_name:
            setattr(request, name, value)
    if "credential" in method.input_type.fields_by_name:
        request.credential.CopyFrom(VAPI)
    return request


def stub(channel: grpc.aio.Channel, method: MethodDescriptor) -> Any:
    path = f"/{method.containing_service.full_name}/{method.name}"
    deserializer = GetMessageClass(method.output_type).FromString
    return channel.unary_unary(path, request_serializer=bytes_of, response_deserializer=deserializer)


def bytes_of(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
