"""Where a number's calls and messages go: pointed to this deployment while it is connected, and put back afterwards.

What the URLs were before is kept in the credential, so that it is as safe as the rest of it: URLs may hold passwords.
An application or a trunk that is set on a number overrides them
(https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from services.provider.provider import Refused
from services.provider.providers.twilio.answers import text
from services.provider.providers.twilio.api import Api, Number
from tenantvault.credentials import TwilioCredential, TwilioWebhook
from tenantvault.errors import ProviderUnknownAnswer, TenantVaultError
from tenantvault.secret import Secret

_METHOD: Final = "POST"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Points numbers to `voice_url` and `sms_url`; what is empty of the two is left as the customer has it."""

    api: Api
    voice_url: str
    sms_url: str

    def __bool__(self) -> bool:
        return bool(self.voice_url or self.sms_url)

    def to_save(self, numbers: Sequence[Number], before: tuple[TwilioWebhook, ...]) -> tuple[TwilioWebhook, ...]:
        """What to remember of the numbers: what they have now, and where that is us, what was remembered `before`."""
        remembered = {each.number_sid: each for each in before}
        for number in numbers:
            nothing = TwilioWebhook(number_sid=_sid(number))
            remembered[_sid(number)] = self._own(number, remembered.get(_sid(number), nothing))
        return tuple(remembered.values())

    async def point(self, credential: TwilioCredential, number: Number) -> str:
        """Point a number to this deployment; a sentence when it could not be done. It raises nothing.

        A number that does already is not touched.
        """
        changes = {name: value for name, value in self._wanted() if text(number, _FIELDS[name]) != value}
        if not changes:
            return ""
        try:
            refused = await self.api.change_number(credential, _sid(number), changes)
        except TenantVaultError as error:
            _log.info("a number could not be pointed here", extra={"reason": error.reason})
            return "Twilio did not answer. Reconnect to set its webhooks."
        if refused is None:
            return ""
        _log.info("a number was not let be pointed here", extra={"reason": refused.kind.reason})
        return "Twilio did not let us set its webhooks. Connect with a key that may change phone numbers."

    async def put_back(self, credential: TwilioCredential, saved: TwilioWebhook) -> str:
        """Give a number its own webhooks again, where they still point to us; a sentence when it could not be done.

        It raises nothing.
        """
        if not self:
            return ""
        try:
            number = await self.api.number_by_sid(credential, saved.number_sid)
            if number is None:
                return ""
            if not isinstance(number, Refused):
                changes = dict(self._back(number, saved))
                number = await self.api.change_number(credential, saved.number_sid, changes) if changes else None
        except TenantVaultError as error:
            _log.info("a number's webhooks could not be put back", extra={"reason": error.reason})
            return "Twilio did not answer: look at the webhooks of your phone numbers there, and set them yourself."
        if isinstance(number, Refused):
            _log.info("a number's webhooks were not let be put back", extra={"reason": number.kind.reason})
            return "Twilio did not let us put back the webhooks of a phone number: set them there yourself."
        return ""

    def astray(self, number: Number) -> Iterator[str]:
        """What of a number's traffic does not come here: `calls` or `messages`."""
        if self.voice_url and text(number, "voice_url") != self.voice_url:
            yield "calls"
        if self.sms_url and text(number, "sms_url") != self.sms_url:
            yield "messages"

    def _own(self, number: Number, before: TwilioWebhook) -> TwilioWebhook:
        """The number's webhooks without ours, in whose place are those of before."""
        own = before
        if not self._is_ours(text(number, "voice_url")):
            url, method = Secret(text(number, "voice_url")), text(number, "voice_method") or _METHOD
            own = replace(own, voice_url=url, voice_method=method)
        if not self._is_ours(text(number, "sms_url")):
            url, method = Secret(text(number, "sms_url")), text(number, "sms_method") or _METHOD
            own = replace(own, sms_url=url, sms_method=method)
        return own

    def _is_ours(self, url: str) -> bool:
        """Whether a URL is at a host of ours: the path may be another one since the number was pointed here."""
        return bool(url) and _host(url) in {_host(ours) for ours in (self.voice_url, self.sms_url) if ours}

    def _wanted(self) -> Iterator[tuple[str, str]]:
        if self.voice_url:
            yield "VoiceUrl", self.voice_url
            yield "VoiceMethod", _METHOD
        if self.sms_url:
            yield "SmsUrl", self.sms_url
            yield "SmsMethod", _METHOD

    def _back(self, number: Number, saved: TwilioWebhook) -> Iterator[tuple[str, str]]:
        if self._is_ours(text(number, "voice_url")):
            yield "VoiceUrl", saved.voice_url.reveal()
            yield "VoiceMethod", saved.voice_method
        if self._is_ours(text(number, "sms_url")):
            yield "SmsUrl", saved.sms_url.reveal()
            yield "SmsMethod", saved.sms_method


_FIELDS: Final[Mapping[str, str]] = {
    "VoiceUrl": "voice_url",
    "VoiceMethod": "voice_method",
    "SmsUrl": "sms_url",
    "SmsMethod": "sms_method",
}
"""The fields of an answer, by the form's names for them."""


def _sid(number: Number) -> str:
    if not (sid := text(number, "sid")):
        raise ProviderUnknownAnswer
    return sid


def _host(url: str) -> str:
    """The host and port that a URL names; all of it when it names none."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower() or url
    except ValueError:
        return url
