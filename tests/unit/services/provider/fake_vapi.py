"""An in-memory Vapi behind httpx.MockTransport, with faults that can be ordered."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

BASE = "https://vapi.test"
KEY = "0d1b7a34-6f0e-4a52-9f53-1c0f5b0e2a77"

Fault = Callable[[httpx.Request, Callable[[], httpx.Response]], httpx.Response]


def lost_before(request: httpx.Request, carry_out: Callable[[], httpx.Response]) -> httpx.Response:
    raise httpx.ConnectTimeout("it never arrived", request=request)


def lost_after(request: httpx.Request, carry_out: Callable[[], httpx.Response]) -> httpx.Response:
    carry_out()
    raise httpx.ReadTimeout("it arrived", request=request)


def failed_after(request: httpx.Request, carry_out: Callable[[], httpx.Response]) -> httpx.Response:
    carry_out()
    return httpx.Response(502, html="<html>Bad gateway</html>")


def failed_before(request: httpx.Request, carry_out: Callable[[], httpx.Response]) -> httpx.Response:
    return httpx.Response(500, json={"message": "Internal server error", "statusCode": 500})


@dataclass
class FakeVapi:
    """`faults` holds, for each method, what becomes of its next requests; a None lets one pass.

    `pulse` is called before and after each request takes effect; what it raises is what becomes of the request.
    """

    assistants: list[dict[str, Any]] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    faults: dict[str, deque[Fault | None]] = field(default_factory=dict)
    heeds_cursor: bool = True
    pinned: set[str] = field(default_factory=set)
    pulse: Callable[[str], None] = lambda _: None

    def client(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)

    def add(self, *, tenant: str, role: str, managed_by: str = "tenantvault", **body: Any) -> dict[str, Any]:
        metadata = {"tenant_id": tenant, "role": role, "managed_by": managed_by, "spec_hash": "sha256:old"}
        return self._make({"metadata": metadata} | body)

    def of(self, tenant: str) -> dict[str, list[dict[str, Any]]]:
        """The tenant's assistants by role."""
        found: dict[str, list[dict[str, Any]]] = {}
        for assistant in self.assistants:
            metadata = assistant.get("metadata") or {}
            if metadata.get("tenant_id") == tenant:
                found.setdefault(metadata["role"], []).append(assistant)
        return found

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.requests)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await asyncio.sleep(0)
        ordered = self.faults.get(request.method)
        fault = ordered.popleft() if ordered else None
        self.pulse("http")
        answer = fault(request, lambda: self._carry_out(request)) if fault else self._carry_out(request)
        self.pulse("http")
        return answer

    def _carry_out(self, request: httpx.Request) -> httpx.Response:
        assert f"Bearer {KEY}" == request.headers["Authorization"]
        path = request.url.path.removeprefix("/assistant")
        if not path:
            return self._create(request) if request.method == "POST" else self._page(request.url.params)
        found = next((each for each in self.assistants if path == f"/{each['id']}"), None)
        if found is None:
            return httpx.Response(404, json={"message": "Assistant Not Found", "statusCode": 404})
        if request.method == "PATCH":
            found.update(json.loads(request.content))
        if request.method == "DELETE":
            if found["id"] in self.pinned:
                return httpx.Response(409, json={"message": "assistant_pinned", "statusCode": 409})
            self.assistants.remove(found)
        return httpx.Response(200, json=found)

    def _create(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, json=self._make(json.loads(request.content)))

    def _page(self, params: httpx.QueryParams) -> httpx.Response:
        before = params.get("createdAtLt", "9") if self.heeds_cursor else "9"
        found = [each for each in reversed(self.assistants) if each["createdAt"] < before]
        return httpx.Response(200, json=found[: int(params["limit"])])

    def _make(self, body: dict[str, Any]) -> dict[str, Any]:
        number = len(self.assistants) + 1
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number)
        made = {"id": f"00000000-0000-0000-0000-{number:012}", "orgId": "o-1", "createdAt": moment.isoformat(), **body}
        self.assistants.append(made)
        return made
