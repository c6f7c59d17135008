"""The example of the client: a service that takes webhooks, in front of the fake vault and a vendor on loopback."""

import asyncio
import base64
import hashlib
import hmac
import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from starlette.applications import Starlette
from svix.webhooks import Webhook
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from deploy.local.authority import DevelopmentAuthority
from tenantvault import (
    ElevenLabsCredential,
    Provider,
    ResendCredential,
    Resource,
    ResourceKind,
    Secret,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.credentials import Credential
from tenantvault.errors import VaultUnavailable
from tenantvault.testing import FakeVault
from tenantvault.webhooks import Event
from webhook_processor import logs
from webhook_processor.app import build
from webhook_processor.lookup import Hosts, prepare
from webhook_processor.outbound import LARGEST_ANSWER, Outbound
from webhook_processor.server import new_server
from webhook_processor.settings import Settings

PUBLIC_URL = "https://hooks.example.com"
ASSISTANT = Resource(ResourceKind.VAPI_ASSISTANT, "assistant-1", "inbound")
EXAMPLES = Path(__file__).parents[3] / "clients/python/examples"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook, ready to be posted."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Sender:
    """One provider: its credential made of a key and a webhook secret, what it signs, and what it is asked then."""

    provider: Provider
    old: Credential
    new: Credential
    sign: Callable[[Credential, str], Delivery]
    place: str
    shown: str


def vapi_hook(credential: Credential, org: str) -> Delivery:
    assert isinstance(credential, VapiCredential)
    message = {"type": "end-of-call-report", "call": {"id": "call-1", "assistantId": ASSISTANT.resource_id}}
    headers = {"x-vapi-secret": credential.webhook_secret.reveal()}
    return Delivery(f"/webhooks/vapi/{org}", headers, json.dumps({"message": message}).encode())


def twilio_hook(credential: Credential, org: str) -> Delivery:
    assert isinstance(credential, TwilioCredential)
    path = f"/webhooks/twilio/{org}"
    form = {"MessageSid": "SM1", "MessageStatus": "delivered", "From": credential.phone_number}
    validator = RequestValidator(credential.auth_token.reveal())
    signature = validator.compute_signature(PUBLIC_URL + path, form)
    headers = {"x-twilio-signature": signature, "content-type": "application/x-www-form-urlencoded"}
    return Delivery(path, headers, urlencode(form).encode())


def resend_hook(credential: Credential, org: str) -> Delivery:
    assert isinstance(credential, ResendCredential)
    body, now = json.dumps({"type": "email.bounced", "data": {"email_id": "mail-1"}}), datetime.now(UTC)
    signature = Webhook(credential.webhook_secret.reveal()).sign("msg_1", now, body)
    headers = {"svix-id": "msg_1", "svix-timestamp": str(int(now.timestamp())), "svix-signature": signature}
    return Delivery(f"/webhooks/resend/{org}", headers, body.encode())


def elevenlabs_hook(credential: Credential, org: str) -> Delivery:
    assert isinstance(credential, ElevenLabsCredential)
    at = int(time.time())
    data = {"conversation_id": "conv-1"}
    body = json.dumps({"type": "post_call_transcription", "event_timestamp": at, "data": data}).encode()
    # The vendor's library verifies and does not sign; tests/unit/clients holds the two against each other.
    key = credential.webhook_secret.reveal().encode()
    digest = hmac.new(key, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return Delivery(f"/webhooks/elevenlabs/{org}", {"elevenlabs-signature": f"t={at},v0={digest}"}, body)


def twilio(token: str) -> TwilioCredential:
    return TwilioCredential(account_sid="AC" + "0" * 32, auth_token=Secret(token), phone_number="+15005550006")


def whsec(letter: str) -> Secret:
    return Secret("whsec_" + letter * 32)


SENDERS = [
    Sender(
        Provider.VAPI,
        VapiCredential(api_key=Secret("canary-vapi-1"), webhook_secret=Secret("canary-hook-1")),
        VapiCredential(api_key=Secret("canary-vapi-2"), webhook_secret=Secret("canary-hook-2")),
        vapi_hook,
        "/call/call-1",
        "Bearer canary-vapi-2",
    ),
    Sender(
        Provider.TWILIO,
        twilio("canary-token-1"),
        twilio("canary-token-2"),
        twilio_hook,
        f"/2010-04-01/Accounts/AC{'0' * 32}/Messages/SM1.json",
        "Basic " + base64.b64encode(f"AC{'0' * 32}:canary-token-2".encode()).decode(),
    ),
    Sender(
        Provider.RESEND,
        ResendCredential(api_key=Secret("canary-re-1"), webhook_secret=whsec("a")),
        ResendCredential(api_key=Secret("canary-re-2"), webhook_secret=whsec("b")),
        resend_hook,
        "/emails/mail-1",
        "Bearer canary-re-2",
    ),
    Sender(
        Provider.ELEVENLABS,
        ElevenLabsCredential(api_key=Secret("canary-sk-1"), webhook_secret=Secret("canary-wsec-1")),
        ElevenLabsCredential(api_key=Secret("canary-sk-2"), webhook_secret=Secret("canary-wsec-2")),
        elevenlabs_hook,
        "/v1/convai/conversations/conv-1",
        "canary-sk-2",
    ),
]
senders = pytest.mark.parametrize("sender", SENDERS, ids=[sender.provider for sender in SENDERS])


@dataclass(slots=True)
class Vendor:
    """The interface of every vendor: it notes what it is asked, and answers when it may."""

    status: int = 200
    body: bytes = b"{}"
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    drips: bool = False
    url: str = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            self.asked.append((first.split()[1], dict(line.split(": ", 1) for line in lines)))
            self.arrived.set()
            await self.may_answer.wait()
            while self.drips:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
            head = f"HTTP/1.1 {self.status} -\r\ncontent-length: {len(self.body)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + self.body)
            await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            # The service had enough of waiting, or of reading; or the test is over.
            pass
        finally:
            writer.close()

    @property
    def hosts(self) -> Hosts:
        return Hosts(vapi={"us": self.url}, twilio=self.url, resend=self.url, elevenlabs={"global": self.url})


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    vendor = Vendor()
    vendor.may_answer.set()
    async with await asyncio.start_server(vendor.take, "127.0.0.1", 0) as server:
        vendor.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield vendor
        vendor.may_answer.set()


@pytest.fixture
def vault() -> Iterator[FakeVault]:
    with FakeVault() as vault:
        yield vault


@asynccontextmanager
async def running(vault: FakeVault, vendor: Vendor, *, whole_seconds: float = 60) -> AsyncIterator[Starlette]:
    async with (
        vault.async_client(retries=False, deadline=60) as client,
        Outbound(whole_seconds=whole_seconds) as outbound,
    ):
        yield build(client, outbound, public_url=PUBLIC_URL, hosts=vendor.hosts)


@dataclass(slots=True)
class Service:
    """The application, as a sender meets it."""

    client: httpx.AsyncClient

    async def post(self, delivery: Delivery) -> httpx.Response:
        return await self.client.post(delivery.path, headers=delivery.headers, content=delivery.body)


def met(app: Starlette) -> Service:
    return Service(httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://10.0.0.1"))


@pytest.fixture
async def service(vault: FakeVault, vendor: Vendor) -> AsyncIterator[Service]:
    async with running(vault, vendor) as app:
        service = met(app)
        yield service
        await service.client.aclose()


@pytest.fixture
def journal() -> Iterator[io.StringIO]:
    """The log as the service writes it, at its most talkative."""
    root = logging.getLogger()
    names = ("httpx", "httpcore")
    handlers, levels = root.handlers[:], [root.level, *(logging.getLogger(name).level for name in names)]
    root.handlers = []
    stream = io.StringIO()
    logs.configure("debug", stream)
    yield stream
    root.handlers = handlers
    for logger, level in zip([root, *map(logging.getLogger, names)], levels, strict=True):
        logger.setLevel(level)


@senders
async def test_a_webhook_is_taken_once_and_worked_on_with_the_orgs_own_credential(
    sender: Sender, service: Service, vault: FakeVault, vendor: Vendor
) -> None:
    vault.connect("acme", sender.new)
    vault.connect("globex", sender.old)
    delivery = sender.sign(sender.new, "acme")

    answers = [await service.post(delivery), await service.post(delivery)]

    assert [200, 200] == [answer.status_code for answer in answers]
    [(place, headers)] = vendor.asked
    assert sender.place == place
    assert sender.shown in headers.values()


@senders
async def test_a_forged_webhook_and_one_of_an_unknown_org_are_refused_alike(
    sender: Sender, service: Service, vault: FakeVault, vendor: Vendor
) -> None:
    vault.connect("acme", sender.new)
    unsigned = Delivery(f"/webhooks/{sender.provider}/acme", {}, b"{}")
    refused = [sender.sign(sender.old, "acme"), sender.sign(sender.new, "nobody"), unsigned]

    answers = [await service.post(delivery) for delivery in refused]

    assert {401} == {answer.status_code for answer in answers}
    assert 1 == len({(answer.content, tuple(answer.headers.items())) for answer in answers})
    assert not vendor.asked


@senders
async def test_what_was_signed_before_a_rotation_is_worked_on_with_the_new_credential(
    sender: Sender, service: Service, vault: FakeVault, vendor: Vendor
) -> None:
    vault.connect("acme", sender.old)
    delivery = sender.sign(sender.old, "acme")
    vault.rotate("acme", sender.new)

    assert 200 == (await service.post(delivery)).status_code
    assert sender.shown in vendor.asked[0][1].values()
    vault.disconnect("acme", sender.provider)
    assert 401 == (await service.post(delivery)).status_code


async def test_without_an_org_in_the_path_the_assistant_leads_to_it(service: Service, vault: FakeVault) -> None:
    vapi = SENDERS[0]
    vault.connect("acme", vapi.new, [ASSISTANT])
    question = {"message": {"type": "assistant-request", "call": {"assistantId": ASSISTANT.resource_id}}}
    headers = vapi.sign(vapi.new, "").headers
    delivery = Delivery("/webhooks/vapi", headers, json.dumps(question).encode())

    answers = [await service.post(delivery) for _ in range(2)]

    assert [{"assistantId": "assistant-1"}] * 2 == [answer.json() for answer in answers]


async def test_a_credential_that_the_provider_refuses_is_reported(
    service: Service, vault: FakeVault, vendor: Vendor
) -> None:
    vendor.status = 401
    vault.connect("acme", SENDERS[0].new)

    assert 200 == (await service.post(SENDERS[0].sign(SENDERS[0].new, "acme"))).status_code
    assert ("ReportFailure", (("acme", "vapi"),)) == (vault.calls[-1].method, vault.calls[-1].keys)


@pytest.mark.parametrize(("name", "path"), [("", None), (".", None), ("..", None), ("../x", "/call/..%2Fx")])
def test_what_a_sender_calls_its_subject_stays_one_segment_of_the_path_or_is_not_looked_up(
    name: str, path: str | None
) -> None:
    payload = {"message": {"call": {"id": name}}}
    event = Event(provider=Provider.VAPI, event_id="e", type="hang", payload=payload)
    lookup = prepare(event, SENDERS[0].new, Hosts())

    assert path == (lookup and httpx.URL(lookup.url).raw_path.decode())


@pytest.mark.parametrize("trouble", ["no end", "too much", "nobody there"])
async def test_what_could_not_be_worked_on_is_delivered_again(
    trouble: str, vault: FakeVault, vendor: Vendor, journal: io.StringIO
) -> None:
    sender = SENDERS[0]
    vault.connect("acme", sender.new)
    # Each wait for a part of such an answer is short.
    vendor.drips = trouble == "no end"
    if trouble == "too much":
        vendor.body = bytes(LARGEST_ANSWER + 1)
    if trouble == "nobody there":
        vendor.url = "http://127.0.0.1:1"
    async with running(vault, vendor, whole_seconds=0.2 if vendor.drips else 60) as app:
        assert 500 == (await met(app).post(sender.sign(sender.new, "acme"))).status_code

    assert "NoAnswer" in journal.getvalue()
    assert "canary" not in journal.getvalue()


async def test_the_log_says_what_became_of_each_webhook_and_no_secret(
    service: Service, vault: FakeVault, journal: io.StringIO
) -> None:
    for sender in SENDERS:
        vault.connect("acme", sender.new)
        await service.post(sender.sign(sender.old, "acme"))
        await service.post(sender.sign(sender.new, "acme"))

    lines = [json.loads(line) for line in journal.getvalue().splitlines()]
    for sender in SENDERS:
        told = [(line["event"], line["org"]) for line in lines if line.get("provider") == sender.provider]
        assert [("webhook rejected", "acme"), ("looked up", "acme"), ("webhook taken", "acme")] == told
    assert not [secret for secret in ("canary", "whsec", "Bearer", "Basic") if secret in journal.getvalue()]


async def test_it_is_ready_while_the_vault_answers(service: Service, vault: FakeVault) -> None:
    ready = await service.client.get("/readyz")
    vault.fail(VaultUnavailable())
    unready = await service.client.get("/readyz")
    alive = await service.client.get("/healthz")

    assert [200, 503, 200] == [answer.status_code for answer in (ready, unready, alive)]
    assert "VAULT_UNAVAILABLE" == unready.json()["reason"]


async def until_refused(port: int) -> None:
    """Return when a server takes no connection any more."""
    with suppress(ConnectionError):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()


async def test_a_stop_lets_what_is_under_way_finish(vault: FakeVault, vendor: Vendor) -> None:
    sender = SENDERS[0]
    vault.connect("acme", sender.new)
    delivery = sender.sign(sender.new, "acme")
    vendor.may_answer.clear()
    async with running(vault, vendor) as app:
        server = new_server(app, host="127.0.0.1", port=0)
        listener = server.config.bind_socket()
        port = listener.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            under_way = asyncio.create_task(Service(client).post(delivery))
            await vendor.arrived.wait()
            server.should_exit = True
            await until_refused(port)
            vendor.may_answer.set()
            assert 200 == (await under_way).status_code
        await serving


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"TENANTVAULT_PUBLIC_URL": PUBLIC_URL, "TENANTVAULT_LISTEN": "8500"},
        {"TENANTVAULT_PUBLIC_URL": PUBLIC_URL, "TENANTVAULT_LISTEN": "127.0.0.1:65536"},
        {"TENANTVAULT_PUBLIC_URL": PUBLIC_URL, "TENANTVAULT_LOG_LEVEL": "loud"},
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_named(environ: dict[str, str]) -> None:
    wrong = next((name for name in environ if name != "TENANTVAULT_PUBLIC_URL"), "TENANTVAULT_PUBLIC_URL")
    with pytest.raises(ValueError, match=wrong):
        Settings.from_env(environ)


async def test_the_process_serves_until_it_is_told_to_stop(authority: DevelopmentAuthority) -> None:
    tls = authority.issue("webhook-processor", server=False)
    environ = os.environ | {
        "PYTHONPATH": str(EXAMPLES),
        "TENANTVAULT_PUBLIC_URL": PUBLIC_URL,
        "TENANTVAULT_LISTEN": "127.0.0.1:0",
        "TENANTVAULT_VAULT_TARGET": "127.0.0.1:1",
        "TENANTVAULT_TLS_CERT": str(tls.certificate),
        "TENANTVAULT_TLS_KEY": str(tls.key),
        "TENANTVAULT_TLS_CA": str(tls.authorities),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "webhook_processor", env=environ, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    event = ""
    while not event.startswith("Uvicorn running on "):
        event = json.loads(await process.stderr.readline())["event"]
    async with httpx.AsyncClient() as client:
        assert 200 == (await client.get(f"{event.split()[3]}/healthz")).status_code
    process.send_signal(signal.SIGTERM)

    assert 0 == await process.wait()
