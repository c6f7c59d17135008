"""Request bodies: one JSON object (RFC 8259), at most 64 KiB, read with no trust in what the sender says about it."""

import asyncio
import json
import re
from typing import Any, Final, NoReturn

from starlette.requests import Request

from gateway.problems import Refusal

MAX_BYTES: Final = 64 * 1024

PATIENCE: Final = 10.0
"""Seconds in which a body must have arrived."""

_JSON: Final = "application/json"
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


async def read_object(request: Request, *, patience: float = PATIENCE) -> dict[str, Any]:
    """The object in a request's body; an empty one for no body at all.

    Raises:
        Refusal: the body is of another type, too large, too slow, or not one JSON object whose names are unique.
    """
    raw = await _read(request, patience)
    if not raw:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise Refusal("UNSUPPORTED_MEDIA_TYPE")
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal("MALFORMED_BODY") from None
    if not isinstance(value, dict):
        raise Refusal("MALFORMED_BODY")
    return value


async def _read(request: Request, patience: float) -> bytes:
    announced = request.headers.get("content-length", "0")
    if _NUMBER.fullmatch(announced) and int(announced) > MAX_BYTES:
        raise Refusal("BODY_TOO_LARGE")
    body = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise Refusal("BODY_TOO_LARGE")
    except TimeoutError:
        raise Refusal("BODY_TOO_SLOW") from None
    return bytes(body)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
