"""Twilio: telephony and messaging.

Sources: https://www.twilio.com/docs/iam/api/account, https://www.twilio.com/docs/iam/api/authtoken,
https://www.twilio.com/docs/iam/api/secondary_authtoken,
https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource, https://www.twilio.com/docs/api/errors.
"""

from services.provider.providers.twilio.account import Twilio

__all__ = ["Twilio"]
