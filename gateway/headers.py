"""What stands around every answer: the headers that keep browsers safe, and the check of the host's name."""

import re
from typing import Final
from urllib.parse import SplitResult

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.problems import Refusal, problem

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Nothing inline, nothing foreign (https://www.w3.org/TR/CSP3/)."""

_ALWAYS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ONE_YEAR: Final = "max-age=31536000"
_STATIC: Final = "/static/"

# Probes come to a pod's address, not to the public name.
_ANY_HOST: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_OWN_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST: Final = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")
_PORTS: Final = {"http": 80, "https": 443}


class SecurityHeaders:
    """Adds the headers to every answer. `hsts` tells browsers to come by https only, for a year."""

    def __init__(self, app: ASGIApp, *, hsts: bool) -> None:
        self._app = app
        self._headers = {**_ALWAYS, **({"Strict-Transport-Security": _ONE_YEAR} if hsts else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer back with the headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                # Files are asked for again each time and answered by their ETag; the rest is never kept, unless its
                # endpoint says otherwise.
                headers.setdefault("Cache-Control", "no-cache" if scope["path"].startswith(_STATIC) else "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)


class HostCheck:
    """Answers only under our own name, so that no other name can be made to lead here (DNS rebinding)."""

    def __init__(self, app: ASGIApp, *, public_url: SplitResult, local: bool) -> None:
        self._app = app
        self._default_port = _PORTS[public_url.scheme]
        self._own = (public_url.hostname, public_url.port or self._default_port)
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what came under our name; refuse the rest."""
        if scope["type"] == "http" and scope["path"] not in _ANY_HOST and not self._is_own(scope):
            await problem(scope, Refusal("WRONG_HOST"))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        names = Headers(scope=scope).getlist("host")
        given = _HOST.fullmatch(names[0].lower()) if len(names) == 1 else None
        if given is None:
            return False
        name, port = given["name"].strip("[]"), int(given["port"] or self._default_port)
        return (name, port) == self._own or (self._local and name in _OWN_MACHINE)
