import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from gateway.body import MAX_BYTES, read_object
from gateway.problems import Refusal
from tenantvault.v1 import credential_pb2 as pb
from tests.unit.gateway.fakes import VAPI, Gateway, bearer

CONNECT = "/api/integrations/vapi"
JSON = {"Content-Type": "application/json"}


async def send(gateway: Gateway, body: Any, headers: dict[str, str] | None = None) -> tuple[int, str]:
    answer = await gateway.client.post(CONNECT, content=body, headers=bearer() | JSON | (headers or {}))
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"7",
        b"null",
        b"{} {}",
        b'{"apiKey": "a", "apiKey": "b"}',
        b'{"region": {"a": 1, "a": 2}}',
        b'{"apiKey": NaN}',
        b'{"apiKey": Infinity}',
        b'{"apiKey": "\xff"}',
        '{"apiKey": "a"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b'{"apiKey": ' + b"9" * 5000 + b"}",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 60_000,
    ],
)
async def test_what_is_not_one_json_object_is_malformed(gateway: Gateway, body: bytes) -> None:
    assert await send(gateway, body) == (400, "MALFORMED_BODY")
    assert gateway.services.asked == []


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"]
)
async def test_another_type_is_refused(gateway: Gateway, kind: str) -> None:
    body = json.dumps(VAPI).encode()
    assert await send(gateway, body, {"Content-Type": kind}) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON ;x=y"])
async def test_json_is_taken_however_it_is_written(gateway: Gateway, kind: str) -> None:
    assert (await send(gateway, json.dumps(VAPI).encode(), {"Content-Type": kind}))[0] == 200


async def test_a_large_body_is_refused(gateway: Gateway) -> None:
    assert await send(gateway, b"x" * 2_000_000) == (413, "BODY_TOO_LARGE")


async def test_a_body_that_is_announced_as_large_is_not_read() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("it was read")

    headers = [(b"content-length", b"65537"), (b"content-type", b"application/json")]
    with pytest.raises(Refusal, match="BODY_TOO_LARGE"):
        await read_object(Request({"type": "http", "method": "POST", "headers": headers}, receive))


async def test_a_large_body_without_a_length_is_refused_while_it_is_read(gateway: Gateway) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 8192
            yield b" " * 8192

    assert await send(gateway, endless()) == (413, "BODY_TOO_LARGE")
    assert sent <= MAX_BYTES + 3 * 8192


@pytest.mark.parametrize("length", ["abc", "-1", "9" * 30, "+7"])
async def test_a_length_that_lies_decides_nothing(gateway: Gateway, length: str) -> None:
    body = b" " * (MAX_BYTES + 1)
    assert (await send(gateway, body, {"Content-Length": length}))[0] == 413
    assert (await send(gateway, json.dumps(VAPI).encode(), {"Content-Length": length}))[0] == 200


async def test_a_body_of_exactly_the_limit_is_read(gateway: Gateway) -> None:
    body = json.dumps(VAPI).encode()
    assert (await send(gateway, body + b" " * (MAX_BYTES - len(body))))[0] == 200


async def test_no_body_is_an_object_without_members(gateway: Gateway) -> None:
    answer = await gateway.client.post(CONNECT, headers=bearer())
    assert answer.status_code == 200
    assert gateway.services.asked[0].credential.vapi == pb.VapiCredential()


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    request = Request({"type": "http", "method": "POST", "headers": []}, never)
    with pytest.raises(Refusal, match="BODY_TOO_SLOW"):
        await read_object(request, patience=0.001)
