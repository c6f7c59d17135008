"""A vault in memory, and a sender of requests over ASGI."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from tenantvault.credentials import Credential, Provider, ResolvedOrg, Resource, ResourceKind
from tenantvault.errors import CredentialNotFound, ResourceNotFound, TenantVaultError

App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(slots=True)
class Overlap:
    credential: Credential
    readable_until: datetime


@dataclass(slots=True)
class Held:
    org_id: str
    credential: Credential
    previous: Overlap | None = None
    resources: tuple[Resource, ...] = ()


@dataclass(slots=True)
class MemoryVault:
    """What webhooks ask of the client; `memory` is what that remembers.

    `failure` is raised in the place of each answer, `failures` of one verb."""

    held: dict[tuple[str, Provider], Held] = field(default_factory=dict)
    owners: dict[tuple[ResourceKind, str], str] = field(default_factory=dict)
    failure: TenantVaultError | None = None
    failures: dict[str, TenantVaultError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    memory: dict[tuple[str, Provider], Held] = field(default_factory=dict)

    def put(self, org_id: str, provider: Provider, credential: Credential, *resources: Resource) -> Held:
        held = self.held[org_id, provider] = Held(org_id, credential, resources=resources)
        for resource in resources:
            self.owners[resource.kind, resource.resource_id] = org_id
        return held

    def remembered(self, org_id: str, provider: Provider, *, include_previous: bool = False) -> Held | None:
        assert include_previous
        return self.memory.get((org_id, provider))

    async def get(
        self, org_id: str, provider: Provider, *, include_previous: bool = False, from_memory: bool = True
    ) -> Held:
        self._ask("get")
        assert include_previous
        assert not from_memory
        if (org_id, provider) not in self.held:
            raise CredentialNotFound
        return self.held[org_id, provider]

    async def resolve_credential(
        self, kind: ResourceKind, resource_id: str, provider: Provider, *, include_previous: bool = False
    ) -> Held:
        self._ask("resolve_credential")
        assert include_previous
        key = (self.owners.get((kind, resource_id), ""), provider)
        if key not in self.held:
            raise ResourceNotFound
        return self.held[key]

    async def resolve_org(self, kind: ResourceKind, resource_id: str) -> ResolvedOrg:
        self._ask("resolve_org")
        if (kind, resource_id) not in self.owners:
            raise ResourceNotFound
        return ResolvedOrg(self.owners[kind, resource_id], "")

    def _ask(self, verb: str) -> None:
        self.asked.append(verb)
        if error := self.failure or self.failures.get(verb):
            raise error


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Sender:
    """Sends one request to an ASGI application. `received` counts how much of the body the application took."""

    received: int = 0

    async def __call__(
        self,
        app: App,
        target: str,
        *,
        method: str = "POST",
        headers: Iterable[tuple[bytes, bytes]] = (),
        chunks: Iterable[bytes] = (b"",),
        root_path: str = "",
        raw: bool = True,
        cut_off: bool = False,
    ) -> Response | None:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": root_path,
            "query_string": query.encode(),
            "headers": list(headers),
        }
        if raw:
            scope["raw_path"] = path.encode()
        parts = list(chunks)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not parts:
                return {"type": "http.disconnect"}
            part = parts.pop(0)
            self.received += len(part)
            return {"type": "http.request", "body": part, "more_body": bool(parts) or cut_off}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope, receive, send)
        if not sent:
            return None
        start, body = sent
        return Response(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            body["body"],
        )


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


@pytest.fixture
def send() -> Sender:
    return Sender()
