"""A customer's Twilio account: the test of its credential, and what webhooks name it by."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from services.provider.outbound import Answer, Outbound
from services.provider.provider import Accepted, Checkpoint, Refused, Verdict
from services.provider.providers.twilio.answers import refusal, text
from services.provider.providers.twilio.form import problems, trimmed
from tenantvault.credentials import Credential, Provider, Resource, ResourceKind, TwilioCredential
from tenantvault.errors import AccountSuspended, InvalidRequest, ProviderResourceMissing, ProviderUnknownAnswer
from tenantvault.secret import Secret

_ACCOUNT: Final = "/2010-04-01/Accounts/{sid}.json"
_NUMBERS: Final = "/2010-04-01/Accounts/{sid}/IncomingPhoneNumbers.json"
# The filter matches parts of numbers; a whole number is part of few others.
_PAGE: Final = 100


class Twilio:
    """The provider Twilio. `url` is the API's base URL, e.g. `https://api.twilio.com`."""

    def __init__(self, outbound: Outbound, *, url: str) -> None:
        self.name: Final = Provider.TWILIO
        self.credential: Final = TwilioCredential
        self._outbound = outbound
        self._url = url

    def normalise(self, credential: TwilioCredential) -> TwilioCredential:
        """See the port."""
        meant = trimmed(credential)
        if found := dict(problems(meant)):
            raise InvalidRequest("Some fields need another look.", fields=found)
        return meant

    async def test(self, credential: TwilioCredential) -> Verdict:
        """See the port. Asks for the account and for the phone number, so that every part given is tried.

        An Auth Token may read its account. Most API keys may not, so that one is tried on the numbers alone.
        """
        token, login = self._logins(credential)
        account = await self._account(credential, token) if token.password else Accepted()
        if isinstance(account, Refused):
            return account
        voice = await self._number(credential, login, credential.phone_number)
        if isinstance(voice, Refused):
            return voice
        if voice is None:
            return Refused(ProviderResourceMissing, _NOT_OWNED, "phoneNumber")
        warnings = account.warnings + tuple(_limits(voice))
        if _has_another_for_whatsapp(credential):
            whatsapp = await self._number(credential, login, credential.whatsapp_number)
            if isinstance(whatsapp, Refused):
                return whatsapp
            warnings += () if whatsapp else (_WHATSAPP_NOT_OWNED,)
        return Accepted(warnings)

    async def complete(
        self, credential: TwilioCredential, newest: Callable[[], Awaitable[Credential | None]]
    ) -> TwilioCredential:
        """See the port. The customer chooses everything."""
        del newest
        return credential

    async def provision(
        self, org_id: str, credential: TwilioCredential, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> tuple[Resource, ...]:
        """See the port. Nothing is made at Twilio; webhooks name the account and the numbers.

        A number for WhatsApp that the account does not own is not registered: whoever typed it first would keep its
        owner from connecting.
        """
        del org_id, known, checkpoint
        account = Resource(ResourceKind.TWILIO_ACCOUNT, credential.account_sid, "account")
        voice = Resource(ResourceKind.PHONE_NUMBER, credential.phone_number, "voice")
        if not _has_another_for_whatsapp(credential):
            return (account, voice)
        _, login = self._logins(credential)
        owned = await self._number(credential, login, credential.whatsapp_number)
        if isinstance(owned, Refused):
            raise owned.error()
        if not owned:
            return (account, voice)
        return (account, voice, Resource(ResourceKind.PHONE_NUMBER, credential.whatsapp_number, "whatsapp"))

    async def _account(self, credential: TwilioCredential, login: "_Login") -> Verdict:
        answer = await self._get(_ACCOUNT, credential, login)
        if answer.status != HTTPStatus.OK:
            return refusal(answer, login.field)
        # The body has the Auth Token in it: these two texts are all that is kept.
        status, kind = text(answer.json, "status"), text(answer.json, "type")
        if status in {"suspended", "closed"}:
            return Refused(AccountSuspended, f"This Twilio account is {status}: contact Twilio.", "accountSid")
        if status != "active":
            raise ProviderUnknownAnswer
        return Accepted((_TRIAL,) if kind == "Trial" else ())

    async def _number(
        self, credential: TwilioCredential, login: "_Login", wanted: str
    ) -> Mapping[str, Any] | Refused | None:
        """The number as Twilio describes it; None when the account does not own it."""
        answer = await self._get(_NUMBERS, credential, login, params={"PhoneNumber": wanted, "PageSize": _PAGE})
        if answer.status != HTTPStatus.OK:
            return refusal(answer, login.field)
        numbers = answer.json.get("incoming_phone_numbers") if isinstance(answer.json, dict) else None
        if not isinstance(numbers, list):
            raise ProviderUnknownAnswer
        return next((number for number in numbers if text(number, "phone_number") == wanted), None)

    @staticmethod
    def _logins(credential: TwilioCredential) -> tuple["_Login", "_Login"]:
        """The Auth Token's login, and the one that asks for numbers: the API key's where there is one."""
        token = _Login(credential.account_sid, credential.auth_token, "authToken")
        key = _Login(credential.api_key_sid, credential.api_key_secret, "apiKeySecret")
        return token, key if key.password else token

    async def _get(
        self,
        route: str,
        credential: TwilioCredential,
        login: "_Login",
        params: Mapping[str, str | int] | None = None,
    ) -> Answer:
        answer = await self._outbound.request(
            self.name,
            "GET",
            self._url + route.format(sid=credential.account_sid),
            route=route,
            params=params,
            basic=(login.user, login.password.reveal()),
        )
        return answer.definite()


@dataclass(frozen=True, slots=True)
class _Login:
    """What a request authenticates with, and the field that its password came from."""

    user: str
    password: Secret
    field: str


_TRIAL: Final = "This is a trial account: it reaches only numbers that were verified at Twilio."
_NOT_OWNED: Final = "This Twilio account does not own the phone number: check both, or buy the number first."
_WHATSAPP_NOT_OWNED: Final = (
    "This account does not own the WhatsApp number as a phone number: its messages cannot be matched to your"
    " organisation by that number."
)
_NO_EFFECT: Final = "a webhook that is set on the number has no effect."


def _has_another_for_whatsapp(credential: TwilioCredential) -> bool:
    return credential.whatsapp_number not in {"", credential.phone_number}


def _limits(number: Mapping[str, Any]) -> Iterator[str]:
    """What stands in the way of using a number that the account owns."""
    able = number.get("capabilities")
    if isinstance(able, dict) and able.get("voice") is False:
        yield "This number cannot make or take voice calls."
    if isinstance(able, dict) and able.get("sms") is False:
        yield "This number cannot send or receive text messages."
    if number.get("trunk_sid"):
        yield f"A SIP trunk takes the calls to this number: {_NO_EFFECT}"
    if number.get("voice_application_sid"):
        yield f"A TwiML application takes the calls to this number: {_NO_EFFECT}"
    if number.get("sms_application_sid"):
        yield f"A TwiML application takes the messages to this number: {_NO_EFFECT}"
