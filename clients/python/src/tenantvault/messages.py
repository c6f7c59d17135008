"""Between the protobuf messages of `tenantvault.v1` and the dataclasses of `tenantvault.credentials`."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    PreviousCredential,
    Provider,
    ResendCredential,
    Resource,
    ResourceKind,
    TwilioCredential,
    TwilioWebhook,
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

_HEADER: Final = "header"


def credential_to_message(credential: Credential) -> pb.Credential:
    """The message for a credential. It holds plaintext."""
    match credential:
        case VapiCredential():
            return pb.Credential(
                vapi=pb.VapiCredential(
                    api_key=credential.api_key.reveal(),
                    webhook_secret=credential.webhook_secret.reveal(),
                    region=credential.region,
                    # The default is left out: what was stored before there was a choice is the same bytes.
                    webhook_scheme="" if credential.webhook_scheme == _HEADER else credential.webhook_scheme,
                    webhook_credential_id=credential.webhook_credential_id,
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
                    webhook_shared_key=credential.webhook_shared_key.reveal(),
                    webhook_algorithm=credential.webhook_algorithm,
                    saved_webhooks=[_webhook_to_message(webhook) for webhook in credential.saved_webhooks],
                )
            )
        case GoogleCalendarCredential():
            return pb.Credential(
                google_calendar=pb.GoogleCalendarCredential(
                    refresh_token=credential.refresh_token.reveal(),
                    access_token=credential.access_token.reveal(),
                    expires_at=moment_to_timestamp(credential.expires_at),
                    scopes=credential.scopes,
                    email=credential.email,
                    channel_token=credential.channel_token.reveal(),
                )
            )
        case ResendCredential():
            return pb.Credential(
                resend=pb.ResendCredential(
                    api_key=credential.api_key.reveal(),
                    webhook_secret=credential.webhook_secret.reveal(),
                    api_key_id=credential.api_key_id,
                    webhook_id=credential.webhook_id,
                )
            )
        case ElevenLabsCredential():
            return pb.Credential(
                elevenlabs=pb.ElevenLabsCredential(
                    api_key=credential.api_key.reveal(),
                    webhook_secret=credential.webhook_secret.reveal(),
                    region=credential.region,
                    webhook_id=credential.webhook_id,
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
                webhook_scheme=vapi.webhook_scheme or _HEADER,
                webhook_credential_id=vapi.webhook_credential_id,
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
                webhook_shared_key=Secret(twilio.webhook_shared_key),
                webhook_algorithm=twilio.webhook_algorithm,
                saved_webhooks=tuple(_webhook_from_message(webhook) for webhook in twilio.saved_webhooks),
            )
        case "google_calendar":
            google = message.google_calendar
            return GoogleCalendarCredential(
                refresh_token=Secret(google.refresh_token),
                access_token=Secret(google.access_token),
                expires_at=google.expires_at.ToDatetime(tzinfo=UTC),
                scopes=tuple(google.scopes),
                email=google.email,
                channel_token=Secret(google.channel_token),
            )
        case "resend":
            resend = message.resend
            return ResendCredential(
                api_key=Secret(resend.api_key),
                webhook_secret=Secret(resend.webhook_secret),
                api_key_id=resend.api_key_id,
                webhook_id=resend.webhook_id,
            )
        case "elevenlabs":
            elevenlabs = message.elevenlabs
            return ElevenLabsCredential(
                api_key=Secret(elevenlabs.api_key),
                webhook_secret=Secret(elevenlabs.webhook_secret),
                region=elevenlabs.region or "global",
                webhook_id=elevenlabs.webhook_id,
            )
        case _:
            raise InvalidRequest(fields={"credential": "Give the credential of a provider."})


def _webhook_to_message(webhook: TwilioWebhook) -> pb.TwilioWebhook:
    return pb.TwilioWebhook(
        number_sid=webhook.number_sid,
        voice_url=webhook.voice_url.reveal(),
        voice_method=webhook.voice_method,
        sms_url=webhook.sms_url.reveal(),
        sms_method=webhook.sms_method,
    )


def _webhook_from_message(message: pb.TwilioWebhook) -> TwilioWebhook:
    return TwilioWebhook(
        number_sid=message.number_sid,
        voice_url=Secret(message.voice_url),
        voice_method=message.voice_method,
        sms_url=Secret(message.sms_url),
        sms_method=message.sms_method,
    )


def moment_to_timestamp(moment: datetime) -> Timestamp:
    """The message for a time that knows its zone."""
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


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
        previous=_previous_from_message(message.previous) if message.HasField("previous") else None,
    )


def _previous_from_message(message: pb.PreviousCredential) -> PreviousCredential[Credential]:
    return PreviousCredential(
        version=message.version,
        credential=credential_from_message(message.credential),
        readable_until=message.readable_until.ToDatetime(tzinfo=UTC),
    )
