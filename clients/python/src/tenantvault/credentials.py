"""The typed credentials, as their users meet them: frozen, with secrets that mask themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from tenantvault.secret import Secret


class Provider(StrEnum):
    """A provider, by the name that the REST interface and the database use."""

    VAPI = "vapi"
    TWILIO = "twilio"
    GOOGLE_CALENDAR = "googleCalendar"
    RESEND = "resend"
    ELEVENLABS = "elevenlabs"


class ResourceKind(StrEnum):
    """What an identifier at a provider names."""

    VAPI_ASSISTANT = "vapi_assistant"
    PHONE_NUMBER = "phone_number"
    TWILIO_ACCOUNT = "twilio_account"


@dataclass(frozen=True, slots=True, kw_only=True)
class VapiCredential:
    """A Vapi account. `region` is `us` or `eu`; `webhook_secret` is what Vapi's webhooks carry in `X-Vapi-Secret`."""

    api_key: Secret
    webhook_secret: Secret = field(default_factory=lambda: Secret(""))
    region: str = "us"


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioCredential:
    """A Twilio account, by Auth Token or by API key (SID and secret). Absent parts are empty; numbers are E.164."""

    account_sid: str
    auth_token: Secret = field(default_factory=lambda: Secret(""))
    api_key_sid: str = ""
    api_key_secret: Secret = field(default_factory=lambda: Secret(""))
    phone_number: str
    whatsapp_number: str = ""


Credential = VapiCredential | TwilioCredential

CredentialT_co = TypeVar("CredentialT_co", bound=Credential, covariant=True)


@dataclass(frozen=True, slots=True)
class Resource:
    """Something at a provider that belongs to one org, e.g. a Vapi assistant in the role `inbound`."""

    kind: ResourceKind
    resource_id: str
    role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveCredential(Generic[CredentialT_co]):
    """A decrypted credential with what a consumer needs around it.

    `served_stale` says that the vault's database could not be asked, and that this is what was current a moment before.
    """

    org_id: str
    provider: Provider
    version: int
    credential: CredentialT_co
    resources: tuple[Resource, ...]
    last_verified_at: datetime | None
    generation: int
    served_stale: bool = False

    def resource(self, role: str) -> str:
        """The id of the resource in this role, e.g. `inbound`; KeyError when there is none."""
        by_role: Mapping[str, str] = {resource.role: resource.resource_id for resource in self.resources}
        return by_role[role]


@dataclass(frozen=True, slots=True)
class ResolvedOrg:
    """The org that a resource belongs to, and what the resource is used for."""

    org_id: str
    role: str
