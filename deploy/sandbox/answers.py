"""What the stand-ins' answers have in common."""

import json
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Scope

SLOW_SECONDS: Final = 30.0
"""How long a slow credential keeps its caller waiting: longer than a client of sense waits."""

EVERY_METHOD: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""For the route that says that there is no such endpoint."""


def json_answer(body: Any, status: int = HTTPStatus.OK) -> Response:
    """A JSON response, in ASCII: what a caller sent may hold surrogates, which UTF-8 cannot carry."""
    return Response(json.dumps(body, separators=(",", ":")), status, media_type="application/json")


def path_below(scope: Scope) -> str:
    """The path as the vendor's own host would see it, without where the stand-in is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope["root_path"])
