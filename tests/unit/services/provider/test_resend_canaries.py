"""A secret that is in an answer of Resend's, or in the credential, is in no log line, no error and no text."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import httpx
import pytest

from services.provider.outbound import Outbound, new_client
from services.provider.providers.resend import Resend
from tenantvault._status import to_status
from tenantvault.credentials import ResendCredential
from tenantvault.errors import TenantVaultError
from tenantvault.secret import Secret

CANARY = "c4n4ry"
ENDPOINT = "https://hooks.test/r/acme"
ITEM = {
    "id": "one",
    "endpoint": ENDPOINT,
    "name": "tenantvault-acme",
    "status": "disabled",
    "signing_secret": f"whsec_{CANARY}",
    "token": f"re_{CANARY}",
}
CREDENTIAL = ResendCredential(
    api_key=Secret(f"re_{CANARY}-key"), webhook_secret=Secret(f"whsec_{CANARY}"), api_key_id="k", webhook_id="one"
)
OPEN = ResendCredential(api_key=CREDENTIAL.api_key)
ANSWERS: dict[str, httpx.Response | Exception] = {
    "made": httpx.Response(201, json=ITEM),
    "list": httpx.Response(200, json={"data": [ITEM], "has_more": False}),
    "no id": httpx.Response(201, json={"token": CANARY, "signing_secret": CANARY}),
    "refused": httpx.Response(401, json={"name": "validation_error", "message": f"API key is invalid: {CANARY}"}),
    "odd": httpx.Response(418, json={"name": CANARY, "message": CANARY}),
    "html": httpx.Response(403, html=CANARY),
    "error": httpx.Response(500, text=CANARY),
    "away": httpx.ConnectError(CANARY),
}


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    loggers = [logging.getLogger(name) for name in ("httpx", "httpcore")]
    before = [logger.level for logger in loggers]
    with caplog.at_level(logging.DEBUG):
        yield caplog
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


async def no_sleep(seconds: float) -> None:
    del seconds


async def pass_by(step: str) -> None:
    del step


async def nothing() -> None:
    return None


USES: dict[str, Callable[[Resend], Awaitable[Any]]] = {
    "test": lambda provider: provider.test(CREDENTIAL),
    "complete": lambda provider: provider.complete("acme", OPEN, nothing),
    "provision": lambda provider: provider.provision("acme", OPEN, known=(), checkpoint=pass_by),
    "inspect": lambda provider: provider.inspect("acme", CREDENTIAL, known=()),
    "release": lambda provider: provider.release("acme", CREDENTIAL, known=()),
    "issue": lambda provider: provider.rotation.issue("acme", CREDENTIAL),
    "discard": lambda provider: provider.rotation.discard(CREDENTIAL, replace(OPEN, api_key_id="another")),
    "retire": lambda provider: provider.rotation.retire(CREDENTIAL, "another"),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
async def test_no_secret_is_in_a_log_an_error_or_a_text(
    use: Callable[[Resend], Awaitable[Any]], records: pytest.LogCaptureFixture
) -> None:
    asked: httpx.Response | Exception
    posted: httpx.Response | Exception

    def handle(request: httpx.Request) -> httpx.Response:
        assert CANARY not in str(request.url)
        answer = asked if request.method == "GET" else posted
        if isinstance(answer, Exception):
            raise answer
        return answer

    outbound = Outbound(new_client(httpx.MockTransport(handle)), sleep=no_sleep, retries=0)
    provider = Resend(outbound, url="https://resend.test", webhook_url="https://hooks.test/r", sleep=no_sleep)
    seen = repr((provider, provider.rotation, outbound, CREDENTIAL, provider.description))
    for asked, posted in product(ANSWERS.values(), repeat=2):  # noqa: B007 - the handler's
        try:
            seen += repr(await use(provider))
        except TenantVaultError as error:
            seen += f"{error!r} {error} {dict(error.fields)} {to_status(error)}"
    seen += repr([vars(record) for record in records.records]) + records.text
    assert CANARY not in seen


def test_a_malformed_field_is_named_and_not_quoted() -> None:
    outbound = Outbound(new_client(httpx.MockTransport(lambda _: httpx.Response(500))))
    typed = ResendCredential(api_key=Secret(f"{CANARY} x"), webhook_secret=Secret(f"whsec_{CANARY}"))
    with pytest.raises(TenantVaultError) as caught:
        Resend(outbound, url="https://resend.test").normalise(typed)
    assert {"apiKey", "webhookSecret"} == set(caught.value.fields)
    assert CANARY not in f"{caught.value!r} {dict(caught.value.fields)}"
