"""A secret that is in an answer of ElevenLabs's, or in the credential, is in no log line, no error and no text."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from itertools import product
from typing import Any

import httpx
import pytest

from services.provider.outbound import Outbound, new_client
from services.provider.providers.elevenlabs import ElevenLabs
from tenantvault._status import to_status
from tenantvault.credentials import ElevenLabsCredential
from tenantvault.errors import TenantVaultError
from tenantvault.secret import Secret

CANARY = "c4n4ry"
ENDPOINT = "https://hooks.test/e/acme"
ITEM = {"webhook_id": "one", "webhook_url": ENDPOINT, "is_disabled": True, "webhook_secret": f"wsec_{CANARY}"}
SETTINGS = {"webhooks": {"post_call_webhook_id": "one", "events": [CANARY]}}
CREDENTIAL = ElevenLabsCredential(
    api_key=Secret(f"sk_{CANARY}-0123456789"), webhook_secret=Secret(f"wsec_{CANARY}"), webhook_id="one"
)
OPEN = ElevenLabsCredential(api_key=CREDENTIAL.api_key)
ANSWERS: dict[str, httpx.Response | Exception] = {
    "made": httpx.Response(200, json=ITEM),
    "list": httpx.Response(200, json={"webhooks": [ITEM], "subscription": {"status": CANARY}}),
    "settings": httpx.Response(200, json=SETTINGS),
    "no id": httpx.Response(200, json={"webhook_secret": CANARY}),
    "refused": httpx.Response(401, json={"detail": {"code": "invalid_api_key", "message": CANARY}}),
    "lacking": httpx.Response(401, json={"detail": f"missing the permission {CANARY}"}),
    "odd": httpx.Response(418, json={"detail": {"code": CANARY, "message": CANARY}}),
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


async def stored() -> ElevenLabsCredential:
    return CREDENTIAL


USES: dict[str, Callable[[ElevenLabs], Awaitable[Any]]] = {
    "test": lambda provider: provider.test(CREDENTIAL),
    "complete": lambda provider: provider.complete("acme", OPEN, nothing),
    "complete again": lambda provider: provider.complete("acme", OPEN, stored),
    "provision": lambda provider: provider.provision("acme", CREDENTIAL, known=(), checkpoint=pass_by),
    "inspect": lambda provider: provider.inspect("acme", CREDENTIAL, known=()),
    "release": lambda provider: provider.release("acme", CREDENTIAL, known=()),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
async def test_no_secret_is_in_a_log_an_error_or_a_text(
    use: Callable[[ElevenLabs], Awaitable[Any]], records: pytest.LogCaptureFixture
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
    provider = ElevenLabs(
        outbound, urls={"global": "https://eleven.test"}, webhook_url="https://hooks.test/e", sleep=no_sleep
    )
    seen = repr((provider, outbound, CREDENTIAL, provider.description))
    for asked, posted in product(ANSWERS.values(), repeat=2):  # noqa: B007 - the handler's
        try:
            seen += repr(await use(provider))
        except TenantVaultError as error:
            seen += f"{error!r} {error} {dict(error.fields)} {to_status(error)}"
    seen += repr([vars(record) for record in records.records]) + records.text
    assert CANARY not in seen


def test_a_malformed_field_is_named_and_not_quoted() -> None:
    outbound = Outbound(new_client(httpx.MockTransport(lambda _: httpx.Response(500))))
    typed = ElevenLabsCredential(api_key=Secret(f"{CANARY} x"), webhook_secret=Secret(CANARY + " x"), region=CANARY)
    with pytest.raises(TenantVaultError) as caught:
        ElevenLabs(outbound, urls={"global": "https://eleven.test"}).normalise(typed)
    assert {"apiKey", "webhookSecret", "region"} == set(caught.value.fields)
    assert CANARY not in f"{caught.value!r} {dict(caught.value.fields)}"
