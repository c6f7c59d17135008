"""A customer's Twilio account: the test of its credential, and what webhooks name it by."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from services.provider.description import Description
from services.provider.outbound import Outbound
from services.provider.provider import Accepted, Checkpoint, Provisioned, Refused, Rotation, Verdict
from services.provider.providers.twilio.answers import text
from services.provider.providers.twilio.api import Account, Api, Number
from services.provider.providers.twilio.description import description
from services.provider.providers.twilio.form import problems, trimmed
from services.provider.providers.twilio.rotation import TokenRotation
from services.provider.providers.twilio.webhooks import Webhooks
from tenantvault.credentials import Credential, Provider, Resource, ResourceKind, TwilioCredential
from tenantvault.errors import (
    AccountSuspended,
    InsufficientScope,
    InvalidCredentials,
    InvalidRequest,
    ProviderResourceMissing,
    ProviderUnknownAnswer,
)

_VOICE: Final = "voice"
_WHATSAPP: Final = "whatsapp"
_CALLED: Final = {_VOICE: "phone number", _WHATSAPP: "WhatsApp number"}


class Twilio:
    """The provider Twilio.

    `url` is the API's base URL, `https://api.twilio.com`, and `accounts_url` the one of the API for Auth Tokens,
    `https://accounts.twilio.com`. Calls to the customers' numbers go to `voice_webhook_url` and messages to
    `sms_webhook_url`; where one is empty, the customer's own setting stays.
    """

    def __init__(
        self,
        outbound: Outbound,
        *,
        url: str,
        accounts_url: str,
        voice_webhook_url: str = "",
        sms_webhook_url: str = "",
    ) -> None:
        self.name: Final = Provider.TWILIO
        self.credential: Final = TwilioCredential
        self.consent: Final = None
        self._api = Api(outbound, url=url, accounts_url=accounts_url)
        self._webhooks = Webhooks(self._api, voice_webhook_url, sms_webhook_url)
        self.description: Final[Description] = description(sets_webhooks=bool(self._webhooks))
        self.rotation: Final[Rotation[TwilioCredential]] = TokenRotation(self._api)

    def normalise(self, credential: TwilioCredential) -> TwilioCredential:
        """See the port."""
        meant = trimmed(credential)
        if found := dict(problems(meant)):
            raise InvalidRequest("Some fields need another look.", fields=found)
        return meant

    async def test(self, credential: TwilioCredential) -> Verdict:
        """See the port. Asks for the account and for the phone number, so that every part given is tried."""
        account = await self._account(credential)
        if isinstance(account, Refused):
            return account
        voice = await self._api.number(credential, credential.phone_number)
        if isinstance(voice, Refused):
            return voice
        if voice is None:
            return Refused(ProviderResourceMissing, _NOT_OWNED, "phoneNumber")
        warnings = account.warnings + tuple(_limits(voice, _VOICE))
        if _has_another_for_whatsapp(credential):
            whatsapp = await self._api.number(credential, credential.whatsapp_number)
            if isinstance(whatsapp, Refused):
                return whatsapp
            warnings += tuple(_limits(whatsapp, _WHATSAPP)) if whatsapp else (_WHATSAPP_NOT_OWNED,)
        return replace(account, warnings=warnings)

    async def complete(
        self, org_id: str, credential: TwilioCredential, newest: Callable[[], Awaitable[Credential | None]]
    ) -> TwilioCredential:
        """See the port. The customer chooses everything; what is kept are the webhooks that the numbers had before.

        Those of another account's numbers are kept too, for when that one is connected again.
        """
        del org_id
        if not self._webhooks:
            return credential
        numbers = [number async for _, number in self._owned(credential)]
        before = await newest()
        kept = before.saved_webhooks if isinstance(before, TwilioCredential) else ()
        return replace(credential, saved_webhooks=self._webhooks.to_save(numbers, kept))

    async def provision(
        self, org_id: str, credential: TwilioCredential, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> Provisioned:
        """See the port. Webhooks name the account and the numbers, which are looked for and not touched.

        A number for WhatsApp that the account does not own is not registered: whoever typed it first would keep its
        owner from connecting. The step of each number that is pointed here in the end is `webhooks_<role>`.
        """
        del org_id, known
        numbers = {role: number async for role, number in self._owned(credential)}
        account = _account(credential)
        phones = (Resource(ResourceKind.PHONE_NUMBER, each["phone_number"], role) for role, each in numbers.items())
        finish = partial(self._point, credential, numbers, checkpoint) if self._webhooks else None
        return Provisioned((account, *phones), finish=finish)

    async def inspect(
        self, org_id: str, credential: TwilioCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        """See the port."""
        del org_id
        sentences: list[str] = []
        for resource in known:
            if resource.kind is not ResourceKind.PHONE_NUMBER or resource.role not in _CALLED:
                continue
            number, called = await self._api.number(credential, resource.resource_id), _CALLED[resource.role]
            if isinstance(number, Refused):
                return (number.sentence,)
            if number is None:
                sentences.append(f"The {called} is not in the Twilio account any more: connect with another one.")
                continue
            sentences.extend(
                f"The {what} to the {called} go elsewhere: its webhook at Twilio was changed. Reconnect to set it."
                for what in self._webhooks.astray(number)
            )
        return tuple(sentences)

    async def release(
        self, org_id: str, credential: TwilioCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        """See the port. The numbers get the webhooks back that they had before, if the account is this org's."""
        del org_id
        if _account(credential) not in known:
            return ()
        return _unique([await self._webhooks.put_back(credential, saved) for saved in credential.saved_webhooks])

    async def _point(
        self,
        credential: TwilioCredential,
        numbers: Mapping[str, Number],
        checkpoint: Checkpoint,
        before: Credential | None,
    ) -> tuple[str, ...]:
        """Point the numbers here, and give those that are not used any more their own webhooks back."""
        sentences = []
        for role, number in numbers.items():
            if why := await self._webhooks.point(credential, number):
                sentences.append(f"Calls and messages to the {_CALLED[role]} do not come here yet: {why}")
            await checkpoint(f"webhooks_{role}")
        used = {text(number, "sid") for number in numbers.values()}
        unused = [saved for saved in credential.saved_webhooks if saved.number_sid not in used]
        sentences += [await self._webhooks.put_back(credential, saved) for saved in unused]
        if isinstance(before, TwilioCredential) and before.account_sid != credential.account_sid:
            left = [await self._webhooks.put_back(before, saved) for saved in before.saved_webhooks]
            sentences.append(_ACCOUNT_BEFORE if any(left) else "")
        return _unique(sentences)

    async def _account(self, credential: TwilioCredential) -> Verdict:
        """The verdict on the account. Most API keys may not read it: the numbers decide about those."""
        try:
            account = await self._api.account(credential)
        except ProviderUnknownAnswer:
            if credential.auth_token:
                raise
            return Accepted()
        if isinstance(account, Account):
            return _verdict(account)
        is_undecided = account.kind in {InvalidCredentials, InsufficientScope} and not credential.auth_token
        return Accepted() if is_undecided else account

    async def _owned(self, credential: TwilioCredential) -> AsyncIterator[tuple[str, Number]]:
        """The numbers of the credential that the account owns, by role. Raises as `provision` does."""
        wanted = {_VOICE: credential.phone_number}
        if _has_another_for_whatsapp(credential):
            wanted[_WHATSAPP] = credential.whatsapp_number
        for role, written in wanted.items():
            number = await self._api.number(credential, written)
            if isinstance(number, Refused):
                raise number.error()
            if number is not None:
                yield role, number
            elif role == _VOICE:
                raise Refused(ProviderResourceMissing, _NOT_OWNED, "phoneNumber").error()


_TRIAL: Final = "This is a trial account: it reaches only numbers that were verified at Twilio."
_NOT_OWNED: Final = "This Twilio account does not own the phone number: check both, or buy the number first."
_WHATSAPP_NOT_OWNED: Final = (
    "This account does not own the WhatsApp number as a phone number: its messages cannot be matched to your"
    " organisation by that number."
)
_ACCOUNT_BEFORE: Final = (
    "The numbers of the Twilio account used before may still send their calls and messages here: set their webhooks "
    "there yourself."
)
_NO_EFFECT: Final = "a webhook that is set on the number has no effect."


def _verdict(account: Account) -> Verdict:
    if account.status in {"suspended", "closed"}:
        return Refused(AccountSuspended, f"This Twilio account is {account.status}: contact Twilio.", "accountSid")
    if account.status != "active":
        raise ProviderUnknownAnswer
    return Accepted((_TRIAL,) if account.kind == "Trial" else (), account.name)


def _account(credential: TwilioCredential) -> Resource:
    return Resource(ResourceKind.TWILIO_ACCOUNT, credential.account_sid, "account")


def _has_another_for_whatsapp(credential: TwilioCredential) -> bool:
    return credential.whatsapp_number not in {"", credential.phone_number}


def _unique(sentences: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentence for sentence in sentences if sentence))


def _limits(number: Number, role: str) -> Iterator[str]:
    """What stands in the way of using a number that the account owns."""
    able, called = number.get("capabilities"), f"the {_CALLED[role]}"
    if isinstance(able, dict) and able.get("voice") is False and role == _VOICE:
        yield "This number cannot make or take voice calls."
    if isinstance(able, dict) and able.get("sms") is False and role == _VOICE:
        yield "This number cannot send or receive text messages."
    if number.get("trunk_sid"):
        yield f"A SIP trunk takes the calls to {called}: {_NO_EFFECT}"
    if number.get("voice_application_sid"):
        yield f"A TwiML application takes the calls to {called}: {_NO_EFFECT}"
    if number.get("sms_application_sid"):
        yield f"A TwiML application takes the messages to {called}: {_NO_EFFECT}"
