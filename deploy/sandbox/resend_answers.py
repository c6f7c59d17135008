"""What the answers of the stand-in for Resend have in common: its errors, its pages and what it reads of a request.

Sources: https://resend.com/docs/api-reference/errors, https://resend.com/docs/api-reference/pagination,
https://resend.com/docs/api-reference/rate-limit.
"""

import json
from typing import Any, Final, Protocol, TypeVar

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from deploy.sandbox.answers import json_answer

A_SECOND: Final = 5
"""How many requests a team may make in one."""

_DEFAULT_PAGE: Final = 20
_LARGEST_PAGE: Final = 100


class Refused(Exception):
    """The API's no: its status, its name and its message."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(status, name, message)
        self.status = status
        self.name = name
        self.message = message

    def response(self) -> Response:
        """As the API words it."""
        body = {"statusCode": self.status, "message": self.message, "name": self.name}
        response = json_answer(body, self.status)
        if self.name == "rate_limit_exceeded":
            response.headers.update({"Retry-After": "1", **limits(0)})
        return response


class Shown(Protocol):
    """What a list is made of."""

    @property
    def id(self) -> str:
        """By what the next page is asked for."""

    def to_json(self) -> dict[str, Any]:
        """As the list shows it."""


_ShownT = TypeVar("_ShownT", bound=Shown)


def limits(left: int) -> dict[str, str]:
    """The headers that say how many requests a team may still make in this second."""
    return {
        "ratelimit-limit": str(A_SECOND),
        "ratelimit-remaining": str(left),
        "ratelimit-reset": "1",
        "ratelimit-policy": f"{A_SECOND};w=1",
    }


def page(query: QueryParams, items: list[_ShownT]) -> Response:
    """A list, newest first: at most `limit`, of those after or before the one with an id."""
    limit = query.get("limit", str(_DEFAULT_PAGE))
    if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit[:9]) <= _LARGEST_PAGE:
        raise Refused(422, "validation_error", f"The `limit` must be a number between 1 and {_LARGEST_PAGE}.")
    found = items[::-1]
    ids = [item.id for item in found]
    if (after := query.get("after")) is not None:
        found = found[ids.index(after) + 1 :] if after in ids else []
    elif (before := query.get("before")) is not None:
        found = found[: ids.index(before)][-int(limit) :] if before in ids else []
    shown = [item.to_json() for item in found[: int(limit)]]
    return json_answer({"object": "list", "has_more": len(found) > len(shown), "data": shown})


async def body_of(request: Request, *required: str) -> dict[str, Any]:
    """The JSON object in a request, which must have some fields."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "validation_error", "The request body is not valid JSON.")
    if missing := [name for name in required if not body.get(name)]:
        raise Refused(422, "missing_required_field", f"Missing `{missing[0]}` field.")
    return body
