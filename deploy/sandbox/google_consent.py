"""Where the browser is sent, and from where it comes back with a code.

Source: https://developers.google.com/identity/protocols/oauth2/web-server.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from deploy.sandbox.google_account import CONSENTS, DEFAULT, is_email, special
from deploy.sandbox.google_form import CLIENTS, form_of
from deploy.sandbox.google_grant import ALWAYS, PREFIX, WORDS, scopes_of
from deploy.sandbox.google_ledger import Code, Ledger
from deploy.sandbox.google_page import consent_page, error_page

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_KEPT: Final[tuple[str, ...]] = (
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "access_type",
    "prompt",
    "code_challenge",
    "code_challenge_method",
)


class Blocked(Exception):
    """The page cannot send the browser back, and says so itself."""

    def __init__(self, status: int, error: str, sentence: str) -> None:
        super().__init__(status, error)
        self.response = error_page(status, error, sentence)


class ConsentPage:
    """The page where a person allows."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def authorize(self, request: Request) -> Response:
        """`/o/oauth2/v2/auth`: the page, and what its form sends.

        With `sandbox_consent=allow` or `deny` the browser is sent back at once; `sandbox_untick` names, with commas
        between them, scopes that are left out, with or without what Google's begin with.
        """
        given = await form_of(request) if request.method == "POST" else request.query_params.multi_items()
        asked = dict(given)
        try:
            scopes = _checked(asked)
        except Blocked as blocked:
            return blocked.response
        if request.method == "POST":
            email, decision = asked.get("account", ""), asked.get("decision", "")
            ticked = {value for name, value in given if name == "grant"}
        else:
            email, decision = asked.get("login_hint", "") or DEFAULT, asked.get("sandbox_consent", "")
            left_out = asked.get("sandbox_untick", "").split(",")
            ticked = {scope for scope in scopes if {scope, scope.removeprefix(PREFIX)}.isdisjoint(left_out)}
        if decision == "deny":
            return _back(asked, {"error": "access_denied"})
        if decision == "allow" and is_email(email):
            if special(email) in CONSENTS:
                return _back(asked, {"error": CONSENTS[special(email)]})
            granted = tuple(scope for scope in scopes if scope in ALWAYS or scope in ticked)
            return _back(asked, {"code": self._code(asked, email, granted), "scope": " ".join(granted)})
        kept = {name: asked[name] for name in _KEPT if name in asked}
        return consent_page(action=request.url.path, kept=kept, scopes=scopes, email=email)

    def _code(self, asked: Mapping[str, str], email: str, granted: tuple[str, ...]) -> str:
        # Google gives a refresh token with the first consent, and again only when the page was asked for.
        again = "consent" in asked.get("prompt", "").split() or not self._ledger.knows(asked["client_id"], email)
        return self._ledger.give(
            Code(
                email=email,
                scopes=granted,
                client_id=asked["client_id"],
                redirect_uri=asked["redirect_uri"],
                challenge=asked.get("code_challenge", ""),
                lasting=asked.get("access_type") == "offline" and again and special(email) != "norefresh",
                at=self._ledger.now(),
            )
        )


def _checked(asked: Mapping[str, str]) -> tuple[str, ...]:
    """The scopes of a request that can be answered; Blocked for any other."""
    if not asked.get("client_id", "").endswith(CLIENTS):
        raise Blocked(401, "invalid_client", "The OAuth client was not found.")
    if not _is_loopback(asked.get("redirect_uri", "")):
        raise Blocked(400, "redirect_uri_mismatch", "The sandbox sends browsers back to this machine alone.")
    if asked.get("response_type") != "code":
        raise Blocked(400, "unsupported_response_type", "The response_type is code.")
    if asked.get("code_challenge") and asked.get("code_challenge_method") != "S256":
        raise Blocked(400, "invalid_request", "The code_challenge_method is S256.")
    scopes = scopes_of(asked.get("scope", ""))
    if not scopes or not set(scopes) <= set(WORDS):
        raise Blocked(400, "invalid_scope", "Some requested scopes are not known.")
    return scopes


def _is_loopback(url: str) -> bool:
    if not url.isascii() or not url.isprintable() or not set(url).isdisjoint(' \\"<>#'):
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and host in _LOOPBACK and "@" not in parts.netloc


def _back(asked: Mapping[str, str], result: Mapping[str, str]) -> Response:
    answer = {"state": asked["state"], **result} if "state" in asked else result
    url = asked["redirect_uri"]
    query = urlencode(answer, quote_via=quote, errors="replace")
    target = url + ("&" if "?" in url else "?") + query
    return RedirectResponse(target, HTTPStatus.FOUND, headers={"Cache-Control": "no-store"})
