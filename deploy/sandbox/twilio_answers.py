"""How Twilio's API says no.

Sources: https://www.twilio.com/docs/usage/twilios-response and the error dictionary
(https://www.twilio.com/docs/api/errors).
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.responses import HTMLResponse, Response

from deploy.sandbox.answers import json_answer

HTML: Final = 20502
"""The code of an answer that is a proxy's page."""

SLOW: Final = 20504
"""The code of an answer that is slow."""

FAILURES: Final[Mapping[int, tuple[int, str]]] = {
    10001: (401, "Account is not active"),
    20003: (401, "Authenticate"),
    20005: (401, "Account not active"),
    20006: (403, "Access Denied"),
    20008: (403, "Resource not accessible with Test Account Credentials"),
    20403: (403, "Forbidden"),
    20404: (404, "The requested resource was not found"),
    20429: (429, "Too Many Requests"),
    20500: (500, "An internal server error has occurred"),
    20503: (503, "Service unavailable"),
    70051: (403, "Authorization Error: the API Key lacks a permission for this request"),
}
"""The status and the message of each code."""

_CODE_OF_STATUS: Final = 20000


class Refused(Exception):
    """The API's no. Without a message it is the code's own."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def response(self) -> Response:
        """As the API words it."""
        if self.code == HTML:
            return HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", HTTPStatus.BAD_GATEWAY)
        if self.code in FAILURES:
            status, message = FAILURES[self.code]
        else:
            status = self.code - _CODE_OF_STATUS
            message = HTTPStatus(status).phrase
        response = json_answer(
            {
                "code": self.code,
                "message": self.message or message,
                "more_info": f"https://www.twilio.com/docs/errors/{self.code}",
                "status": status,
            },
            status,
        )
        if status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = 'Basic realm="Twilio API"'
        return response


def refused_with(status: int) -> Refused:
    """The no that has a status."""
    return Refused(20003 if status == HTTPStatus.UNAUTHORIZED else _CODE_OF_STATUS + status)
