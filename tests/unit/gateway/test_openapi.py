import copy
import inspect
import re
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from gateway import openapi
from gateway.problems import TABLE
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tests.unit.gateway.fakes import (
    ELEVENLABS,
    OWN_PAGE,
    RESEND,
    TWILIO,
    VAPI,
    VERIFIED,
    Gateway,
    bearer,
    connected_account,
    connected_twilio,
    event,
)

API = "/api/integrations"
DESCRIBED = re.compile(r"/(api/.*|session|healthz|readyz)")


async def document_of(gateway: Gateway) -> Any:
    answer = await gateway.client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


async def test_the_document_is_valid(gateway: Gateway) -> None:
    OpenAPIV31SpecValidator(await document_of(gateway)).validate()


def routes_of(gateway: Gateway) -> list[tuple[str, str, Route]]:
    return [
        (path, method, route)
        for path, route in openapi.every_route(gateway.app.routes)
        for method in (route.methods or set()) - {"HEAD"}
    ]


async def test_every_route_of_the_interface_is_described_and_nothing_else(gateway: Gateway) -> None:
    described = {
        (path, method.upper()) for path, methods in (await document_of(gateway))["paths"].items() for method in methods
    }
    assert described == {(path, method) for path, method, _ in routes_of(gateway) if DESCRIBED.fullmatch(path)}
    assert len(described) == 18


async def test_an_endpoint_says_itself_which_request_it_answers(gateway: Gateway) -> None:
    for path, method, route in routes_of(gateway):
        assert (inspect.getdoc(route.endpoint) or "").startswith(f"{method} {path}: "), (method, path)


async def test_the_parameters_of_a_download_are_described(gateway: Gateway) -> None:
    described = (await document_of(gateway))["paths"][f"{API}/audit.csv"]["get"]["parameters"]
    assert {each["name"] for each in described} == {"provider", "action", "service", "failed", "org"}


async def test_every_problem_is_described(gateway: Gateway) -> None:
    codes = (await document_of(gateway))["components"]["schemas"]["Problem"]["properties"]["code"]["oneOf"]
    assert {code["const"] for code in codes} == set(TABLE)


def closed(schema: Any) -> Any:
    """The schema without room for members that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    room = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return {name: closed(each) for name, each in schema.items()} | room


def check(document: Any, operation: Any, answer: httpx.Response) -> None:
    described = operation["responses"]["200" if answer.status_code == 200 else "default"]
    if "$ref" in described:
        described = document["components"]["responses"]["Problem"]
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = described["content"][media_type]["schema"]
    body = answer.json() if "json" in media_type else answer.text
    root = closed(copy.deepcopy(schema | {"components": {"schemas": document["components"]["schemas"]}}))
    OAS31Validator(root, format_checker=OAS31Validator.FORMAT_CHECKER).validate(body)


class Exercise:
    """Requests whose answers are held against the document."""

    def __init__(self, gateway: Gateway, document: Any) -> None:
        self._gateway = gateway
        self._document = document
        self.answered: set[tuple[str, str, int]] = set()

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self._gateway.client.request(method, path, json=body, headers=OWN_PAGE | sent)
        plain = path.partition("?")[0]
        template = next(
            known
            for known, methods in sorted(self._document["paths"].items())
            if method.lower() in methods and re.fullmatch(re.sub(r"\{\w+\}", "[a-zA-Z]+", known), plain)
        )
        check(self._document, self._document["paths"][template][method.lower()], answer)
        self.answered.add((method, template, answer.status_code))
        return answer


async def test_real_answers_are_what_the_document_says(gateway: Gateway) -> None:
    document = await document_of(gateway)
    ask = Exercise(gateway, document)
    services = gateway.services
    await ask("GET", "/healthz")
    await ask("GET", "/readyz")
    await ask("POST", "/session")
    await ask("POST", "/session", **bearer())
    await ask("GET", f"{API}/status")
    for warnings in ((), ("A trial account.",)):
        services.warnings = services.unreleased = warnings
        for provider, body in (("vapi", VAPI), ("twilio", TWILIO), ("resend", RESEND), ("elevenlabs", ELEVENLABS)):
            await ask("POST", f"{API}/{provider}/test", body)
            await ask("POST", f"{API}/{provider}", body)
        for provider in ("vapi", "twilio", "resend"):
            await ask("POST", f"{API}/{provider}/verify")
            await ask("POST", f"{API}/{provider}/rotate")
        began = (await ask("POST", "/api/auth/google-calendar/start")).json()["authorizationUrl"]
        await ask("POST", "/api/auth/google-calendar/callback", {"code": "c", "state": began.rpartition("=")[2]})
        await ask("GET", f"{API}/status")
        await ask("DELETE", f"{API}/vapi")
        await ask("POST", f"{API}/vapi/reconnect")
    services.refusal = "The key is not valid."
    await ask("POST", f"{API}/vapi/test", VAPI)
    await ask("POST", f"{API}/vapi/verify")
    services.integrations["acme", pb.PROVIDER_TWILIO] = connected_twilio("+15005550100")
    for number in pb.IntegrationState.values():
        shown = connected_account(pb.PROVIDER_RESEND, "Acme Ltd")
        shown.MergeFrom(
            pb.Integration(state=number, verification_error="No.", verification_reason="INVALID_CREDENTIALS")
        )
        shown.MergeFrom(pb.Integration(rotation_due_at=VERIFIED, rotates_by_itself=True, warnings=["One."]))
        services.integrations["acme", pb.PROVIDER_RESEND] = shown
        await ask("GET", f"{API}/status")
    await ask("GET", f"{API}/providers")
    services.events = [event(1, provider="", version=0), event(2, on_behalf_of="ada"), event(3)]
    services.counts = [status_pb.ReadCount(peer="a", provider=pb.PROVIDER_VAPI, reads=7, last_read_at=VERIFIED)]
    for query in ("", "?limit=2", "?limit=0&x=1"):
        await ask("GET", f"{API}/audit{query}")
    await ask("GET", f"{API}/audit.csv")
    await ask("GET", f"{API}/access")
    await ask("POST", f"{API}/vapi", {"surprise": 1})
    await ask("POST", f"{API}/slack/verify")
    services.failure = RuntimeError("canary")
    await ask("POST", f"{API}/vapi/verify")
    await ask("DELETE", "/session")
    await ask("GET", f"{API}/status")
    done = {(method, path) for method, path, status in ask.answered if status == 200}
    every = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    # A stream does not end; tests of its own say what is in it.
    assert done == every - {("GET", f"{API}/events")}
    assert {status for _, _, status in ask.answered} == {200, 401, 404, 422, 500}


@pytest.mark.parametrize(
    ("body", "is_right"),
    [(VAPI, True), (TWILIO, True), ({"apiKey": None}, True), ({"apiKey": 7}, False), ({"x": ""}, False)],
)
async def test_a_body_is_right_where_the_document_says_so(
    gateway: Gateway, body: dict[str, Any], is_right: bool
) -> None:
    document = await document_of(gateway)
    operation = document["paths"]["/api/integrations/{provider}"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    validator = OAS31Validator(schema | {"components": document["components"]})
    assert validator.is_valid(body) == is_right
    answers = [
        await gateway.client.post(f"{API}/{provider}", json=body, headers=bearer())
        for provider in ("vapi", "twilio", "resend", "elevenlabs")
    ]
    assert is_right == any(answer.status_code == 200 for answer in answers)
