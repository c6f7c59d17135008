"""Google Calendar, by the consent of a person.

Sources: https://developers.google.com/identity/protocols/oauth2/web-server,
https://developers.google.com/workspace/calendar/api/v3/reference,
https://developers.google.com/workspace/calendar/api/guides/errors.
"""

from services.provider.providers.google_calendar.account import GoogleCalendar
from services.provider.providers.google_calendar.application import LIVE, Application, Endpoints, below

__all__ = ["LIVE", "Application", "Endpoints", "GoogleCalendar", "below"]
