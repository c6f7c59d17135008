"""Errors on their way out over HTTP: one table, one shape (RFC 9457, `application/problem+json`)."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Scope

from gateway.names import camel
from tenantvault.errors import InternalError, TenantVaultError, Unauthenticated

REQUEST_ID: Final = "tenantvault.request_id"
"""Where a request's id is kept in its ASGI scope."""

_RETRY_AFTER: Final = 5.0
"""Seconds to wait before a retry when nobody said how long."""


class Row(NamedTuple):
    """How a problem looks: its status, its title, the sentence when the error brings none, and whether to retry."""

    status: int
    title: str
    detail: str = ""
    retryable: bool = False


TABLE: Final[Mapping[str, Row]] = MappingProxyType(
    {
        # The reasons of tenantvault.errors; their errors bring their own sentence.
        "INVALID_REQUEST": Row(422, "Some fields need attention"),
        "DEADLINE_REQUIRED": Row(500, "Something went wrong", InternalError.sentence),
        "UNAUTHENTICATED": Row(401, "Not signed in"),
        "PERMISSION_DENIED": Row(403, "Not allowed"),
        "CREDENTIAL_NOT_FOUND": Row(404, "Not connected"),
        "RESOURCE_NOT_FOUND": Row(404, "Not found"),
        "VERSION_CONFLICT": Row(409, "Changed meanwhile"),
        "RESOURCE_CONFLICT": Row(409, "In use elsewhere"),
        "LEASE_HELD": Row(409, "Busy", retryable=True),
        "INVALID_CREDENTIALS": Row(422, "The provider refused the credential"),
        "WRONG_CREDENTIAL_TYPE": Row(422, "The wrong kind of credential"),
        "INSUFFICIENT_SCOPE": Row(422, "The credential lacks a permission"),
        "ACCOUNT_SUSPENDED": Row(422, "The provider's account is suspended"),
        "QUOTA_EXCEEDED": Row(422, "The plan's allowance is spent"),
        "PROVIDER_RESOURCE_MISSING": Row(422, "The provider's account lacks something"),
        "PROVIDER_VALIDATION": Row(422, "The provider refused the request"),
        "RATE_LIMITED": Row(429, "The provider asks to slow down", retryable=True),
        "PROVIDER_UNAVAILABLE": Row(503, "The provider cannot be reached", retryable=True),
        "PROVIDER_UNKNOWN_ANSWER": Row(502, "The provider gave an unexpected answer", retryable=True),
        "VAULT_UNAVAILABLE": Row(503, "TenantVault cannot answer now", retryable=True),
        "DEADLINE_EXCEEDED": Row(504, "It took too long", retryable=True),
        "CREDENTIAL_UNREADABLE": Row(500, "The stored credential cannot be opened"),
        "INTERNAL": Row(500, "Something went wrong", InternalError.sentence),
        "ORG_FROZEN": Row(403, "Frozen"),
        "ORG_SHREDDED": Row(410, "Gone"),
        "VERSION_NOT_FOUND": Row(404, "No such version"),
        "AUDIT_UNAVAILABLE": Row(503, "TenantVault cannot answer now", retryable=True),
        "KEY_NOT_EVERYWHERE": Row(409, "A key is missing"),
        "REAUTH_REQUIRED": Row(422, "The consent is over"),
        "PROVIDER_MISCONFIGURED": Row(500, "This provider is not set up rightly"),
        "PROVIDER_CONFLICT": Row(409, "Something in the provider's account stands against it"),
        "OAUTH_STATE_INVALID": Row(400, "This sign-in cannot be finished"),
        "CONSENT_DENIED": Row(422, "The consent was not given"),
        # The gateway's own.
        "MALFORMED_BODY": Row(400, "The body is not valid", "Send one JSON object."),
        "BODY_TOO_LARGE": Row(413, "The body is too large", "Send at most 64 KiB."),
        "BODY_TOO_SLOW": Row(408, "The body did not arrive", "Send the body at once.", retryable=True),
        "UNSUPPORTED_MEDIA_TYPE": Row(415, "Not JSON", "Send the body as application/json."),
        "NOT_FOUND": Row(404, "Not found", "There is nothing at this address."),
        "METHOD_NOT_ALLOWED": Row(405, "Method not allowed", "This address does not take that method."),
        "UNKNOWN_PROVIDER": Row(404, "Unknown provider"),
        "CONSENT_REQUIRED": Row(
            409,
            "Connected by consent",
            "This provider is connected on its own page: send the browser to the address that"
            " POST /api/auth/google-calendar/start gives.",
        ),
        "CROSS_SITE_REQUEST": Row(
            403, "Not sent by the dashboard", "A change by cookie must come from this site's own pages."
        ),
        "OTHER_ORG": Row(409, "Signed in elsewhere", "You are signed in to another organisation now: reload the page."),
        "WRONG_HOST": Row(421, "Wrong host", "This server does not answer for that host name."),
        "NOT_READY": Row(503, "Not ready", retryable=True),
        "SIGN_IN_UNAVAILABLE": Row(
            503, "Sign-in cannot be checked now", "The sign-in service cannot be reached: try again.", retryable=True
        ),
        "TOO_MANY_STREAMS": Row(
            429,
            "Too many pages listen",
            "Ask for /api/integrations/status now and then instead of listening.",
            retryable=True,
        ),
    }
)
"""Every problem that can leave the gateway, by its stable code."""

_BY_STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 400: "MALFORMED_BODY"}
)


class Refusal(Exception):
    """A problem of the gateway's own, by its code in TABLE."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        fields: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.fields = dict(fields or {})
        self.retry_after = retry_after


class Interrupted(Exception):
    """An answer that has begun and cannot be finished: the transfer must break, so that nobody takes it for whole."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def problem(scope: Scope, error: Exception) -> JSONResponse:
    """The answer to an error.

    What is neither ours nor Starlette's, and whatever has no row, becomes the constant INTERNAL problem.
    """
    match error:
        case TenantVaultError() if error.reason in TABLE:
            # Where a row has a sentence, no error's text may take its place.
            detail = TABLE[error.reason].detail or error.message
            fields = {camel(name): what for name, what in error.fields.items()}
            return _answer(scope, error.reason, detail=detail, fields=fields, retry_after=error.retry_after)
        case Refusal():
            return _answer(scope, error.code, detail=error.detail, fields=error.fields, retry_after=error.retry_after)
        case HTTPException() if error.status_code in _BY_STATUS:
            return _answer(scope, _BY_STATUS[error.status_code], headers=error.headers)
        case _:
            return _answer(scope, InternalError.reason)


async def handle(request: Request, error: Exception) -> JSONResponse:
    """`problem` as Starlette's exception handlers are called."""
    return problem(request.scope, error)


def _answer(
    scope: Scope,
    code: str,
    *,
    detail: str = "",
    fields: Mapping[str, str] | None = None,
    retry_after: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    row = TABLE[code]
    answer = JSONResponse(
        {
            "type": f"urn:tenantvault:problem:{code.lower().replace('_', '-')}",
            "title": row.title,
            "status": row.status,
            "detail": detail or row.detail,
            "code": code,
            "success": False,
            "fields": dict(fields or {}),
            "requestId": scope.get(REQUEST_ID, ""),
        },
        status_code=row.status,
        headers=headers,
        media_type="application/problem+json",
    )
    if row.retryable:
        answer.headers["Retry-After"] = str(max(1, math.ceil(_RETRY_AFTER if retry_after is None else retry_after)))
    if code == Unauthenticated.reason:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
