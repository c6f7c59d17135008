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


def _nothing() -> Secret:
    return Secret("")


@dataclass(frozen=True, slots=True, kw_only=True)
class VapiCredential:
    """A Vapi account. `region` is `us` or `eu`.

    `webhook_secret` is what Vapi's webhooks prove themselves with, in the way of `webhook_scheme`: `header`
    (`X-Vapi-Secret`), `bearer`, or `hmac-sha256`, `hmac-sha512` and `hmac-sha1`, with which `webhook_credential_id`
    names Vapi's own copy of the secret.
    """

    api_key: Secret
    webhook_secret: Secret = field(default_factory=_nothing)
    region: str = "us"
    webhook_scheme: str = "header"
    webhook_credential_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioWebhook:
    """The webhooks of a phone number. Their URLs may hold passwords."""

    number_sid: str
    voice_url: Secret = field(default_factory=_nothing)
    voice_method: str = "POST"
    sms_url: Secret = field(default_factory=_nothing)
    sms_method: str = "POST"


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioCredential:
    """A Twilio account, by Auth Token or by API key (SID and secret). Absent parts are empty; numbers are E.164.

    Webhooks are signed with `webhook_shared_key` by `webhook_algorithm` where there is one, else with the Auth Token.
    `saved_webhooks` is what the numbers' webhooks were before the connect.
    """

    account_sid: str
    auth_token: Secret = field(default_factory=_nothing)
    api_key_sid: str = ""
    api_key_secret: Secret = field(default_factory=_nothing)
    phone_number: str
    whatsapp_number: str = ""
    webhook_shared_key: Secret = field(default_factory=_nothing)
    webhook_algorithm: str = ""
    saved_webhooks: tuple[TwilioWebhook, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleCalendarCredential:
    """A Google account that consented to the use of its calendars.

    `access_token` is good until `expires_at`, for `scopes`. Notification channels of this org carry `channel_token`.
    """

    refresh_token: Secret
    access_token: Secret
    expires_at: datetime
    scopes: tuple[str, ...]
    email: str = ""
    channel_token: Secret = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendCredential:
    """A Resend account. `webhook_secret` (`whsec_...`) is what its webhooks are signed with.

    `api_key_id` and `webhook_id` name, at Resend, what was made on the customer's behalf; empty for what was not.
    """

    api_key: Secret
    webhook_secret: Secret = field(default_factory=_nothing)
    api_key_id: str = ""
    webhook_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElevenLabsCredential:
    """An ElevenLabs workspace. `region` is `global`, `us`, `eu`, `in` or `sg`.

    `webhook_secret` is what its webhooks are signed with; `webhook_id` names the webhook when it was made on the
    customer's behalf.
    """

    api_key: Secret
    webhook_secret: Secret = field(default_factory=_nothing)
    region: str = "global"
    webhook_id: str = ""


Credential = VapiCredential | TwilioCredential | GoogleCalendarCredential | ResendCredential | ElevenLabsCredential

CredentialT_co = TypeVar("CredentialT_co", bound=Credential, covariant=True)


@dataclass(frozen=True, slots=True)
class Resource:
    """Something at a provider that belongs to one org, e.g. a Vapi assistant in the role `inbound`."""

    kind: ResourceKind
    resource_id: str
    role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousCredential(Generic[CredentialT_co]):
    """The credential that a rotation replaced, e.g. to verify a webhook that was signed with the old secret.

    The vault hands it out until `readable_until`, and not longer.
    """

    version: int
    credential: CredentialT_co
    readable_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveCredential(Generic[CredentialT_co]):
    """A decrypted credential with what a consumer needs around it.

    `served_stale` says that the vault, or its database, could not be asked, and that this is what was current before.
    `previous` is the version before, while its overlap lasts, and only when it was asked for.
    """

    org_id: str
    provider: Provider
    version: int
    credential: CredentialT_co
    resources: tuple[Resource, ...]
    last_verified_at: datetime | None
    generation: int
    served_stale: bool = False
    previous: PreviousCredential[CredentialT_co] | None = None

    def resource(self, role: str) -> str:
        """The id of the resource in this role, e.g. `inbound`; KeyError when there is none."""
        by_role: Mapping[str, str] = {resource.role: resource.resource_id for resource in self.resources}
        return by_role[role]


@dataclass(frozen=True, slots=True)
class ResolvedOrg:
    """The org that a resource belongs to, and what the resource is used for.

    `generation` counts the org's changes: a larger one is newer. `served_stale` is as in ActiveCredential.
    """

    org_id: str
    role: str
    generation: int = 0
    served_stale: bool = False
