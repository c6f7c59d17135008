"""The providers that can be connected: one line each."""

from typing import Any

from services.provider.config import Config
from services.provider.outbound import Outbound
from services.provider.provider import Provider
from services.provider.providers.elevenlabs import ElevenLabs
from services.provider.providers.google_calendar import GoogleCalendar
from services.provider.providers.resend import Resend
from services.provider.providers.twilio import Twilio
from services.provider.providers.vapi import Vapi


def providers(outbound: Outbound, config: Config) -> tuple[Provider[Any], ...]:
    """All of them, in the order of the contract's enum."""
    return (
        Vapi(
            outbound,
            urls=config.vapi_urls,
            webhook_url=config.vapi_webhook_url,
            templates=config.vapi_templates,
            mark=config.mark,
        ),
        Twilio(
            outbound,
            url=config.twilio_url,
            accounts_url=config.twilio_accounts_url,
            voice_webhook_url=config.twilio_voice_webhook_url,
            sms_webhook_url=config.twilio_sms_webhook_url,
        ),
        GoogleCalendar(outbound, application=config.google, endpoints=config.google_endpoints),
        Resend(outbound, url=config.resend_url, webhook_url=config.resend_webhook_url, mark=config.mark),
        ElevenLabs(outbound, urls=config.elevenlabs_urls, webhook_url=config.elevenlabs_webhook_url),
    )
