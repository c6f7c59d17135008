"""Between the protobuf messages of `tenantvault.v1` and the dataclasses of `tenantvault.credentials`."""

from collections.abc import Iterable, Mapping
from datetime import UTC
from types import MappingProxyType
from typing import Final

from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    Provider,
    Resource,
    ResourceKind,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.errors import InvalidRequest
from tenantvault.secret import Secret
from tenantvault.v1 import credential_pb2 as pb

PROVIDER_NUMBER: Final["Mapping[Provider, pb.Provider.ValueType]"] = MappingProxyType(
    {provider: pb.Provider.Value(f"PROVIDER_{provider.name}") for provider in Provider}
)
"""The proto's number of each provider."""

PROVIDER_OF: Final[Mapping[int, Provider]] = MappingProxyType(
    {number: provider for provider, number in PROVIDER_NUMBER.items()}
)
"""The provider of each proto number."""

KIND_NUMBER: Final["Mapping[ResourceKind, pb.ResourceKind.ValueType]"] = MappingProxyType(
    {kind: pb.ResourceKind.Value(f"RESOURCE_KIND_{kind.name}") for kind in ResourceKind}
)
"""The proto's number of each kind of resource."""

KIND_OF: Final[Mapping[int, ResourceKind]] = MappingProxyType({number: kind for kind, number in KIND_NUMBER.items()})
"""The kind of resource of each proto number."""


def credential_to_message(credential: Credential) -> pb.Credential:
    """The message for a credential. It holds plaintext."""
    match credential:
        case VapiCredential():
            return pb.Credential(
                vapi=pb.VapiCredential(
                    api_key=credential.api_key.reveal(),
                    webhook_secret=credential.webhook_secret.reveal(),
                    region=credential.region,
                )
            )
        case TwilioCredential():
            return pb.Credential(
                twilio=pb.TwilioCredential(
                    account_sid=credential.account_sid,
                    auth_token=credential.auth_token.reveal(),
                    api_key_sid=credential.api_key_sid,
                    api_key_secret=credential.api_key_secret.reveal(),
                    phone_number=credential.phone_number,
                    whatsapp_number=credential.whatsapp_number,
                )
            )


def credential_from_message(message: pb.Credential) -> Credential:
    """The credential in a message; InvalidRequest when it holds none that this version knows."""
    match message.WhichOneof("kind"):
        case "vapi":
            vapi = message.vapi
            return VapiCredential(
                api_key=Secret(vapi.api_key),
                webhook_secret=Secret(vapi.webhook_secret),
                region=vapi.region or "us",
            )
        case "twilio":
            twilio = message.twilio
            return TwilioCredential(
                account_sid=twilio.account_sid,
                auth_token=Secret(twilio.auth_token),
                api_key_sid=twilio.api_key_sid,
                api_key_secret=Secret(twilio.api_key_secret),
                phone_number=twilio.phone_number,
                whatsapp_number=twilio.whatsapp_number,
            )
        case _:
            raise InvalidRequest(fields={"credential": "Give the credential of a provider."})


def provider_from_number(number: int) -> Provider:
    """The provider of a message's number; InvalidRequest for none or an unknown one."""
    try:
        return PROVIDER_OF[number]
    except KeyError:
        raise InvalidRequest(fields={"provider": "Give one of the providers."}) from None


def resources_to_messages(resources: Iterable[Resource]) -> list[pb.Resource]:
    """The messages for resources."""
    return [
        pb.Resource(kind=KIND_NUMBER[resource.kind], resource_id=resource.resource_id, role=resource.role)
        for resource in resources
    ]


def resources_from_messages(messages: Iterable[pb.Resource]) -> tuple[Resource, ...]:
    """The resources in messages, without those of a kind that this version does not know: a newer server has more."""
    return tuple(
        Resource(KIND_OF[message.kind], message.resource_id, message.role)
        for message in messages
        if message.kind in KIND_OF
    )


def active_from_message(message: pb.ActiveCredential) -> ActiveCredential[Credential]:
    """The decrypted credential in a response."""
    return ActiveCredential(
        org_id=message.org_id,
        provider=provider_from_number(message.provider),
        version=message.version,
        credential=credential_from_message(message.credential),
        resources=resources_from_messages(message.resources),
        last_verified_at=message.last_verified_at.ToDatetime(tzinfo=UTC)
        if message.HasField("last_verified_at")
        else None,
        generation=message.generation,
        served_stale=message.served_stale,
    )
