"""Resend: e-mail.

Sources: https://resend.com/docs/api-reference, https://resend.com/docs/api-reference/errors,
https://resend.com/docs/webhooks/introduction.
"""

from services.provider.providers.resend.account import Resend

__all__ = ["Resend"]
