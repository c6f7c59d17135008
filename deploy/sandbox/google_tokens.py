"""Google's token, revocation and userinfo endpoints.

Sources: https://developers.google.com/identity/protocols/oauth2/web-server, RFC 6749, RFC 7009, RFC 7636.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from starlette.requests import Request
from starlette.responses import Response

from deploy.sandbox.answers import SLOW_SECONDS, json_answer
from deploy.sandbox.google_account import REFRESHES, TokenFailure, special
from deploy.sandbox.google_form import CLIENT_SECRET, CLIENTS, bearer, form_of
from deploy.sandbox.google_grant import ALWAYS, EMAIL, token_of
from deploy.sandbox.google_ledger import Ledger
from deploy.sandbox.traffic import Sleep


class Refused(Exception):
    """The endpoint's no (RFC 6749, section 5.2)."""

    def __init__(self, failure: TokenFailure) -> None:
        super().__init__(failure.status, failure.error)
        self._failure = failure

    def response(self) -> Response:
        """As the endpoint words it: the error is a text, unlike the API's."""
        body = {"error": self._failure.error, "error_description": self._failure.description}
        if self._failure.subtype:
            body["error_subtype"] = self._failure.subtype
        return json_answer(body, self._failure.status)


class TokenEndpoints:
    """The endpoints. `sleep` slows the slow account."""

    def __init__(self, ledger: Ledger, *, sleep: Sleep) -> None:
        self._ledger = ledger
        self._sleep = sleep

    async def token(self, request: Request) -> Response:
        """`POST /token`, a form with the application's id and secret in it."""
        form = dict(await form_of(request))
        try:
            _authenticate(form)
            match form.get("grant_type"):
                case "authorization_code":
                    body = await self._redeem(form)
                case "refresh_token":
                    body = await self._renew(form)
                case _:
                    raise _no(HTTPStatus.BAD_REQUEST, "unsupported_grant_type", "Invalid grant_type")
        except Refused as refused:
            return refused.response()
        response = json_answer(body)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _redeem(self, form: Mapping[str, str]) -> dict[str, Any]:
        if not form.get("code"):
            raise _no(HTTPStatus.BAD_REQUEST, "invalid_request", "Missing required parameter: code")
        code = self._ledger.take(form["code"])
        if code is None or code.client_id != form["client_id"]:
            raise _bad_grant("Bad Request")
        if code.redirect_uri != form.get("redirect_uri"):
            raise _no(HTTPStatus.BAD_REQUEST, "redirect_uri_mismatch", "Bad Request")
        if code.challenge and not form.get("code_verifier"):
            raise _bad_grant("Missing code verifier.")
        if code.challenge and code.challenge != _challenge(form["code_verifier"]):
            raise _bad_grant("Invalid code verifier.")
        await self._hesitate(code.email)
        token = self._ledger.refresh_token(code)
        given = self._ledger.access_token(token, fresh=False)
        return given | {"refresh_token": token.text()} if code.lasting else given

    async def _renew(self, form: Mapping[str, str]) -> dict[str, Any]:
        token = token_of(form.get("refresh_token", ""))
        if token is None or token.kind != "refresh" or token.client_id != form["client_id"]:
            raise _bad_grant("Bad Request")
        if self._ledger.is_revoked(token):
            raise Refused(REFRESHES["revoked"])
        await self._hesitate(token.email)
        if (failure := REFRESHES.get(special(token.email))) is not None:
            raise Refused(failure)
        return self._ledger.access_token(token, fresh=True)

    async def revoke(self, request: Request) -> Response:
        """`POST /revoke`: with any token of an account, all of its tokens for that application end."""
        token = token_of(dict(await form_of(request)).get("token", ""))
        if token is None or self._ledger.is_revoked(token):
            return _no(HTTPStatus.BAD_REQUEST, "invalid_token", "Token expired or revoked").response()
        self._ledger.revoke(token)
        return json_answer({})

    async def userinfo(self, request: Request) -> Response:
        """`GET /v1/userinfo` (OpenID Connect Core 1.0, section 5.3). Its errors have this module's form."""
        token = bearer(request.headers)
        if token is None or not self._ledger.is_good(token) or ALWAYS.isdisjoint(token.scopes):
            return _no(HTTPStatus.UNAUTHORIZED, "invalid_request", "Invalid Credentials").response()
        body: dict[str, Any] = {"sub": str(uuid5(NAMESPACE_URL, token.email).int)[:21]}
        if EMAIL in token.scopes:
            body |= {"email": token.email, "email_verified": True}
        return json_answer(body)

    async def _hesitate(self, email: str) -> None:
        if special(email) == "slow":
            await self._sleep(SLOW_SECONDS)


def _authenticate(form: Mapping[str, str]) -> None:
    if not form.get("client_id", "").endswith(CLIENTS):
        raise _no(HTTPStatus.UNAUTHORIZED, "invalid_client", "The OAuth client was not found.")
    if not hmac.compare_digest(form.get("client_secret", "").encode(errors="replace"), CLIENT_SECRET.encode()):
        raise _no(HTTPStatus.UNAUTHORIZED, "invalid_client", "Unauthorized")


def _challenge(verifier: str) -> str:
    return urlsafe_b64encode(sha256(verifier.encode(errors="replace")).digest()).decode().rstrip("=")


def _bad_grant(description: str) -> Refused:
    return _no(HTTPStatus.BAD_REQUEST, "invalid_grant", description)


def _no(status: int, error: str, description: str) -> Refused:
    return Refused(TokenFailure(status, error, description))
