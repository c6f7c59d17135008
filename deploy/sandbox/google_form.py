"""What applications send to Google: forms, and who they are."""

from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import Request

from deploy.sandbox.google_grant import Token, token_of

CLIENTS: Final = ".apps.sandbox"
"""What the id of an application ends with."""

CLIENT_SECRET: Final = "sandbox-secret"  # noqa: S105  # it is published
"""The secret of every application."""


async def form_of(request: Request) -> list[tuple[str, str]]:
    """The fields of a form; none when the body is something else."""
    if not request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        return []
    return parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True)


def bearer(headers: Headers) -> Token | None:
    """The token in the Authorization header (RFC 6750); None when there is none that Google could have issued."""
    scheme, _, text = headers.get("Authorization", "").partition(" ")
    return token_of(text) if scheme.lower() == "bearer" else None
