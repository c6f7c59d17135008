"""Google's consent page, without its looks: a form, no script, nothing from elsewhere."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from starlette.responses import HTMLResponse

from deploy.sandbox.google_grant import ALWAYS, WORDS

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:3rem auto;padding:0 1rem;color:#1f1f1f;"
    "background:#fff}label{display:block;margin:.75rem 0}input[type=email]{font:inherit;width:100%;padding:.5rem;"
    "box-sizing:border-box}button{font:inherit;padding:.5rem 1.5rem;margin-right:1rem}"
)
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def consent_page(*, action: str, kept: Mapping[str, str], scopes: Iterable[str], email: str) -> HTMLResponse:
    """A checkbox for each scope that can be left out, the account, and two buttons. `kept` comes back with the form."""
    hidden = "".join(_input("hidden", name, value) for name, value in kept.items())
    boxes = "".join(
        f"<label>{_input('checkbox', 'grant', scope, 'checked')} {escape(WORDS[scope])}</label>"
        for scope in scopes
        if scope not in ALWAYS
    )
    client = escape(kept.get("client_id", ""))
    return _page(
        "Sign in with the sandbox's Google",
        f"<p>This is a stand-in: nothing here is a real account.</p><p><b>{client}</b> wants to use this account:</p>"
        f'<form method="post" action="{escape(action)}">{hidden}'
        f"<label>Account {_input('email', 'account', email, 'required', 'autocomplete=off')}</label>{boxes}"
        '<p><button name="decision" value="allow">Allow</button>'
        '<button name="decision" value="deny" formnovalidate>Deny</button></p></form>',
    )


def error_page(status: int, error: str, sentence: str) -> HTMLResponse:
    """What Google shows when it cannot send the browser back."""
    return _page(
        "Access blocked",
        f"<p>{escape(sentence)}</p><p>Error {status}: {escape(error)}</p>",
        status,
    )


def _input(kind: str, name: str, value: str, *more: str) -> str:
    return f'<input type="{kind}" name="{escape(name)}" value="{escape(value)}"{"".join(f" {each}" for each in more)}>'


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    html = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    # What a caller sent may hold surrogates, which UTF-8 cannot carry.
    return HTMLResponse(html.encode("utf-8", "replace"), status, headers=_HEADERS)
