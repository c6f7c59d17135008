"""A secret that is planted in every field appears nowhere but where it must."""

import logging
from collections.abc import Iterator

import httpx
import pytest

from services.provider.connect import Connect
from services.provider.lease import Leases
from services.provider.lifecycle import Lifecycle
from services.provider.outbound import Outbound, new_client
from services.provider.providers.twilio import Twilio
from services.provider.providers.vapi import Vapi
from services.provider.work import Timetable
from services.rpc import logs
from tenantvault._status import to_status
from tenantvault.credentials import Credential, Provider, TwilioCredential, VapiCredential
from tenantvault.errors import TenantVaultError
from tenantvault.secret import Secret
from tests.unit.services.provider.fake_vault import FakeVault, connected

CANARY = "c4n4ry"
VAPI = VapiCredential(api_key=Secret(f"{CANARY}-api-key-0123456789"), webhook_secret=Secret(f"{CANARY}-webhook-secret"))
TWILIO = TwilioCredential(
    account_sid="AC" + "0" * 32,
    auth_token=Secret(f"{CANARY}-auth-token"),
    api_key_sid="SK" + "0" * 32,
    api_key_secret=Secret(f"{CANARY}-api-key-secret"),
    phone_number="+14155550100",
)
UPSTREAM = f"{CANARY}-upstream-text"

ANSWERS = {
    "yes": httpx.Response(200, json={"status": "active", "auth_token": UPSTREAM, "incoming_phone_numbers": []}),
    "page": httpx.Response(200, json=[]),
    "no": httpx.Response(401, json={"message": UPSTREAM, "code": 20003}),
    "invalid": httpx.Response(400, json={"message": [UPSTREAM], "code": 1}),
    "odd": httpx.Response(418, json={"message": UPSTREAM}),
    "html": httpx.Response(403, html=UPSTREAM),
    "error": httpx.Response(500, text=UPSTREAM, headers={"X-Trace": UPSTREAM}),
    "slow down": httpx.Response(429, json={"message": UPSTREAM}),
    "elsewhere": httpx.Response(302, headers={"Location": f"https://x.test/?{UPSTREAM}"}),
    "away": httpx.ConnectError(UPSTREAM),
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


def shown(error: TenantVaultError) -> str:
    return f"{error!r} {error} {dict(error.fields)} {to_status(error)}"


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
@pytest.mark.parametrize("credential", [VAPI, TWILIO], ids=["vapi", "twilio"])
@pytest.mark.parametrize("verb", ["connect", "verify", "reconnect"])
async def test_no_secret_is_in_a_log_an_error_or_a_report(
    verb: str,
    credential: Credential,
    answer: httpx.Response | Exception,
    records: pytest.LogCaptureFixture,
) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    vault = FakeVault()
    outbound = Outbound(new_client(httpx.MockTransport(handle)), sleep=no_sleep)
    urls = {"us": "https://vapi.test"}
    vapi = Vapi(outbound, urls=urls, webhook_url="https://hooks.test/vapi", sleep=no_sleep)
    providers = (vapi, Twilio(outbound, url="https://twilio.test", accounts_url="https://accounts.test"))
    name = Provider.VAPI if isinstance(credential, VapiCredential) else Provider.TWILIO
    connected(vault, "acme", name, credential)
    leases = Leases(vault, seconds=15.0)
    connect = Connect(vault, providers, leases, Timetable())
    lifecycle = Lifecycle(vault, providers, leases, connect)
    try:
        if verb == "connect":
            seen = repr(await connect("acme", credential))
        else:
            seen = repr(await getattr(lifecycle, verb)("acme", name))
    except TenantVaultError as error:
        seen = shown(error)
    seen += repr((connect, lifecycle, outbound, providers, credential))
    seen += repr([vars(record) for record in records.records]) + records.text
    assert records.records
    assert CANARY not in seen


@pytest.mark.parametrize(
    "credential",
    [
        VapiCredential(api_key=Secret(f"{CANARY} x"), webhook_secret=Secret(f"{CANARY} x"), region=CANARY),
        TwilioCredential(
            account_sid=CANARY,
            auth_token=Secret(f"{CANARY} x"),
            api_key_sid=CANARY,
            api_key_secret=Secret(f"{CANARY} x"),
            phone_number=CANARY,
            whatsapp_number=CANARY,
        ),
        TwilioCredential(account_sid=CANARY, auth_token=Secret("AC" + "0" * 32), phone_number=CANARY),
    ],
    ids=["vapi", "twilio", "swapped"],
)
async def test_a_malformed_field_is_named_and_not_quoted(
    credential: Credential, records: pytest.LogCaptureFixture
) -> None:
    vault = FakeVault()
    outbound = Outbound(new_client(httpx.MockTransport(lambda _: httpx.Response(500))))
    vapi = Vapi(outbound, urls={"us": "https://vapi.test"}, webhook_url="https://hooks.test/vapi")
    twilio = Twilio(outbound, url="https://t.test", accounts_url="https://a.test")
    connect = Connect(vault, (vapi, twilio), Leases(vault, seconds=15.0), Timetable())
    with pytest.raises(TenantVaultError) as caught:
        await connect("acme", credential)
    assert CANARY not in shown(caught.value) + records.text


async def test_what_is_logged_survives_the_redaction(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        logs.configure(level="info", service="provider")
        outbound = Outbound(new_client(httpx.MockTransport(lambda _: httpx.Response(200, json=[]))))
        await outbound.request(Provider.VAPI, "GET", "https://vapi.test/assistant", route="/assistant")
    finally:
        root.handlers = handlers
        root.setLevel(level)
        for name in ("services", "tenantvault"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    line = capsys.readouterr().err
    assert '"route": "/assistant"' in line
    assert "left out" not in line
