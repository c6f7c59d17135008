"""docs/providers.md, out of the descriptions that the forms come from: `make docs` writes it anew."""

from pathlib import Path
from typing import Any, Final

import httpx

from services.provider.config import Config
from services.provider.description import Field
from services.provider.outbound import Outbound
from services.provider.provider import Provider
from services.provider.registry import providers

PAGE: Final = Path(__file__).parents[2] / "docs/providers.md"

_HEAD: Final = """# Providers

What a customer gives for each provider, and what happens then. This page is written from the descriptions in
`services/provider/providers/` by `make docs`; the dashboard's forms come from the same place.
[adding-a-provider.md](adding-a-provider.md) leads through adding one, [webhooks.md](webhooks.md) through receiving
their webhooks.
"""
_ENVIRONMENT: Final = {
    "TENANTVAULT_VAPI_WEBHOOK_URL": "https://hooks.example.com/vapi",
    "TENANTVAULT_GOOGLE_CLIENT_ID": "client",
    "TENANTVAULT_GOOGLE_CLIENT_SECRET": "secret",
    "TENANTVAULT_GOOGLE_REDIRECT_URL": "https://gateway.example.com/oauth/google-calendar",
}


def page() -> str:
    """The page as it should be."""
    outbound = Outbound(httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(500))))
    known = providers(outbound, Config.from_env(_ENVIRONMENT))
    return "\n".join([_HEAD, *(_section(provider) for provider in known)])


def _section(provider: Provider[Any]) -> str:
    shown = provider.description
    lines = [f"## {shown.title}", "", shown.summary, "", f"Where: <{shown.console_url}>", ""]
    if shown.fields:
        lines += ["| Field | Needed | What it is |", "|---|---|---|", *(_row(field) for field in shown.fields), ""]
    if shown.asks_for:
        lines += ["The consent asks for:", "", *(f"- {each}" for each in shown.asks_for), ""]
        lines += ["It never asks to:", "", *(f"- {each}" for each in shown.never_asks_for), ""]
    lines += [shown.next, "", _rotation(provider), ""]
    return "\n".join(lines)


def _row(field: Field) -> str:
    needed = f"one way: {field.way}" if field.way else "yes" if field.required else "no"
    notes = [field.hint]
    if field.choices:
        notes.append("One of " + ", ".join(f"`{choice}`" for choice in field.choices) + ".")
    if field.phone_number:
        notes.append("With + and the country code.")
    if field.secret:
        notes.append("Secret.")
    if field.help_url:
        notes.append(f"[Help]({field.help_url})")
    return f"| {field.label} (`{_camel(field.name)}`) | {needed} | {' '.join(notes)} |"


def _rotation(provider: Provider[Any]) -> str:
    if provider.consent is not None:
        return "Access tokens are renewed before they end; there is nothing to rotate."
    if provider.rotation is not None:
        return "Rotation: by itself where the credential may do it, else the dashboard shows when it is due."
    return "Rotation: the dashboard shows when it is due; make a new key at the provider and connect with it."


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
