"""The application: whose a webhook is, that it is handed on once, and what its sender learns."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlencode

import pytest

from tenantvault import AsyncClient
from tenantvault.credentials import (
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    Provider,
    ResendCredential,
    Resource,
    ResourceKind,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.errors import (
    CredentialUnreadable,
    InvalidRequest,
    OrgFrozen,
    OrgShredded,
    PermissionDenied,
    TenantVaultError,
    VaultUnavailable,
)
from tenantvault.secret import Secret
from tenantvault.webhooks import Event, Reply, Vault, Webhooks
from tenantvault.webhooks.name import Name
from tenantvault.webhooks.org import find_owner, names_another

NOW = 1795428000.0
PUBLIC = "https://hooks.example.com"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_b2xkLXNlY3JldC1vZi1hY21lLTEyMw=="
ACCOUNT = "AC" + "0" * 32
FORM = (b"content-type", b"application/x-www-form-urlencoded")
Headers = list[tuple[bytes, bytes]]


class Response(Protocol):
    status: int
    headers: dict[str, str]
    body: bytes


class Send(Protocol):
    received: int

    async def __call__(
        self,
        app: Any,
        target: str,
        *,
        method: str = "POST",
        headers: Iterable[tuple[bytes, bytes]] = (),
        chunks: Iterable[bytes] = (b"",),
        root_path: str = "",
        raw: bool = True,
        cut_off: bool = False,
    ) -> Response: ...


class Held(Protocol):
    previous: Any


class MemoryVault(Vault, Protocol):
    asked: list[str]
    memory: dict[tuple[str, Provider], Any]
    held: dict[tuple[str, Provider], Any]
    failure: TenantVaultError | None
    failures: dict[str, TenantVaultError]
    owners: dict[tuple[ResourceKind, str], str]

    def put(self, org_id: str, provider: Provider, credential: Credential, *resources: Resource) -> Held: ...


@dataclass(slots=True)
class Taken:
    """A handler that keeps what it was given, and answers or fails as it is told to."""

    events: list[Event] = field(default_factory=list)
    reply: Reply = None
    error: BaseException | None = None

    async def __call__(self, event: Event) -> Reply:
        self.events.append(event)
        if self.error:
            raise self.error
        return self.reply


@dataclass(frozen=True, slots=True)
class Sample:
    """A true webhook of each provider."""

    path: str
    headers: Headers
    body: bytes


def svix(body: bytes = b'{"type":"email.sent"}', *, secret: str = SECRET, event_id: str = "msg_1") -> Sample:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{event_id}.{int(NOW)}.".encode() + body
    signature = b"v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest())
    headers = [(b"svix-id", event_id.encode()), (b"svix-timestamp", b"1795428000"), (b"svix-signature", signature)]
    return Sample("/resend/acme", headers, body)


def elevenlabs() -> Sample:
    body = b'{"type":"post_call_transcription","event_timestamp":1,"data":{"conversation_id":"c"}}'
    digest = hmac.new(b"wsec_acme", b"1795428000." + body, hashlib.sha256).hexdigest()
    return Sample("/elevenlabs/acme", [(b"ElevenLabs-Signature", f"t=1795428000,v0={digest}".encode())], body)


def vapi(message: dict[str, Any], *, path: str = "/vapi/acme", secret: str = "vapi-acme") -> Sample:
    return Sample(path, [(b"x-vapi-secret", secret.encode())], json.dumps({"message": message}).encode())


def twilio(parameters: dict[str, str], *, path: str = "/twilio/acme", token: str = "token-acme") -> Sample:
    text = PUBLIC + path + "".join(name + parameters[name] for name in sorted(parameters))
    signature = base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest())
    return Sample(path, [FORM, (b"x-twilio-signature", signature)], urlencode(parameters).encode())


def google(number: int = 2, state: str = "exists") -> Sample:
    headers = {
        "X-Goog-Channel-ID": "ch",
        "X-Goog-Channel-Token": "channel-acme",
        "X-Goog-Resource-State": state,
        "X-Goog-Message-Number": str(number),
    }
    return Sample("/googleCalendar/acme", [(name.encode(), value.encode()) for name, value in headers.items()], b"")


STATUS = {"type": "status-update", "status": "ended", "call": {"id": "c1"}}
MESSAGE = {"MessageSid": "SM1", "MessageStatus": "sent", "AccountSid": ACCOUNT, "To": "+14155550199"}
SAMPLES = {
    Provider.RESEND: svix(),
    Provider.ELEVENLABS: elevenlabs(),
    Provider.VAPI: vapi(STATUS),
    Provider.TWILIO: twilio(MESSAGE),
    Provider.GOOGLE_CALENDAR: google(),
}


def credentials(org_id: str) -> dict[Provider, Credential]:
    secret = Secret(SECRET if org_id == "acme" else "whsec_Z2xvYmV4LWdsb2JleC1nbG9iZXg=")
    return {
        Provider.RESEND: ResendCredential(api_key=Secret("k"), webhook_secret=secret),
        Provider.ELEVENLABS: ElevenLabsCredential(api_key=Secret("k"), webhook_secret=Secret(f"wsec_{org_id}")),
        Provider.VAPI: VapiCredential(api_key=Secret("k"), webhook_secret=Secret(f"vapi-{org_id}")),
        Provider.TWILIO: TwilioCredential(
            account_sid=ACCOUNT, auth_token=Secret(f"token-{org_id}"), phone_number="+14155550100"
        ),
        Provider.GOOGLE_CALENDAR: GoogleCalendarCredential(
            refresh_token=Secret("r"),
            access_token=Secret("a"),
            expires_at=datetime(2026, 11, 24, tzinfo=UTC),
            scopes=(),
            channel_token=Secret(f"channel-{org_id}"),
        ),
    }


RESOURCES = {
    Provider.VAPI: (Resource(ResourceKind.VAPI_ASSISTANT, "asst-acme", "inbound"),),
    Provider.TWILIO: (
        Resource(ResourceKind.TWILIO_ACCOUNT, ACCOUNT, "account"),
        Resource(ResourceKind.PHONE_NUMBER, "+14155550100", "voice"),
    ),
}


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def acme(vault: MemoryVault) -> MemoryVault:
    """The vault, in which acme has connected everything."""
    for provider, credential in credentials("acme").items():
        vault.put("acme", provider, credential, *RESOURCES.get(provider, ()))
    return vault


@pytest.fixture
def hooks(acme: MemoryVault, taken: Taken) -> Webhooks:
    return make(acme, taken)


def make(vault: Vault, handler: Callable[[Event], Awaitable[Reply]], **options: Any) -> Webhooks:
    app = Webhooks(vault, public_url=PUBLIC, clock=lambda: NOW, **options)
    for provider in Provider:
        app.on(provider)(handler)
    return app


@pytest.mark.parametrize("provider", list(Provider))
async def test_a_true_webhook_is_handed_on_once_with_its_org(
    provider: Provider, hooks: Webhooks, send: Send, taken: Taken
) -> None:
    sample = SAMPLES[provider]
    answers = [await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body]) for _ in range(3)]

    assert [(answer.status, answer.body) for answer in answers] == [
        (200, b"<Response/>" if provider is Provider.TWILIO else b"")
    ] * 3
    (event,) = taken.events
    assert (event.provider, event.org_id) == (provider, "acme")


@pytest.mark.parametrize("provider", list(Provider))
async def test_unknown_org_no_proof_and_false_proof_get_one_answer(
    provider: Provider, hooks: Webhooks, send: Send, taken: Taken, acme: MemoryVault
) -> None:
    sample = SAMPLES[provider]
    acme.put("globex", provider, credentials("globex")[provider])
    acme.put("bare", provider, _without_secrets(provider))
    unknown = sample.path.replace("acme", "nobody")
    answers = [
        await send(hooks, unknown, headers=sample.headers, chunks=[sample.body]),
        await send(hooks, unknown, chunks=[sample.body]),
        await send(hooks, sample.path, chunks=[sample.body]),
        await send(hooks, sample.path.replace("acme", "globex"), headers=sample.headers, chunks=[sample.body]),
        await send(hooks, sample.path.replace("acme", "bare"), headers=sample.headers, chunks=[sample.body]),
        await send(hooks, sample.path.replace("/acme", ""), chunks=[sample.body]),
    ]

    assert {answer.status for answer in answers} == {401}
    assert len({(answer.body, *answer.headers.items()) for answer in answers}) == 1
    assert taken.events == []


def _without_secrets(provider: Provider) -> Credential:
    if provider is Provider.TWILIO:
        return TwilioCredential(account_sid=ACCOUNT, phone_number="+14155550100")
    if provider is Provider.GOOGLE_CALENDAR:
        now = datetime(2026, 11, 24, tzinfo=UTC)
        return GoogleCalendarCredential(refresh_token=Secret("r"), access_token=Secret("a"), expires_at=now, scopes=())
    if provider is Provider.VAPI:
        return VapiCredential(api_key=Secret("k"))
    if provider is Provider.RESEND:
        return ResendCredential(api_key=Secret("k"))
    return ElevenLabsCredential(api_key=Secret("k"))


@pytest.mark.parametrize(
    "error",
    [OrgFrozen(), OrgShredded(), InvalidRequest(fields={"org_id": "bad"})],
)
async def test_an_org_of_which_nothing_is_handed_out_is_unknown(
    error: TenantVaultError, hooks: Webhooks, send: Send, acme: MemoryVault
) -> None:
    acme.failure = error
    assert (await send(hooks, "/resend/acme", headers=svix().headers, chunks=[svix().body])).status == 401


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (VaultUnavailable(), "5"),
        (VaultUnavailable(retry_after=0.2), "1"),
        (VaultUnavailable(retry_after=7.1), "8"),
        (PermissionDenied(), "5"),
        (CredentialUnreadable(), "5"),
        (InvalidRequest("This client is closed: open a new one."), "5"),
    ],
)
@pytest.mark.parametrize("path", ["/vapi/acme", "/vapi"])
async def test_while_the_vault_gives_no_answer_the_provider_is_asked_to_come_back(
    error: TenantVaultError, seconds: str, path: str, hooks: Webhooks, send: Send, acme: MemoryVault, taken: Taken
) -> None:
    acme.failure = error
    sample = vapi({**STATUS, "assistant": {"id": "asst-acme"}})
    answer = await send(hooks, path, headers=sample.headers, chunks=[sample.body])

    assert (answer.status, answer.headers["retry-after"]) == (503, seconds)
    acme.failure = None
    assert (await send(hooks, path, headers=sample.headers, chunks=[sample.body])).status == 200
    assert len(taken.events) == 1


async def test_the_secret_before_a_rotation_is_good_until_its_end(send: Send, acme: MemoryVault, taken: Taken) -> None:
    held = acme.put("acme", Provider.RESEND, credentials("acme")[Provider.RESEND])
    old = ResendCredential(api_key=Secret("k"), webhook_secret=Secret(OLD_SECRET))
    sample = svix(secret=OLD_SECRET)
    statuses = []
    for left in (1, 0):
        until = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=left)
        held.previous = type("Overlap", (), {"credential": old, "readable_until": until})()
        hooks = make(acme, taken)
        statuses.append((await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body])).status)

    assert statuses == [200, 401]


@pytest.mark.parametrize(
    "named",
    [
        {"call": {"id": "c1", "assistantId": "asst-acme"}},
        {"assistant": {"id": "asst-acme"}},
        {"assistant": {"id": "unheard-of"}, "phoneNumber": {"number": "+14155550100"}},
        {"call": {"assistantId": "asst-acme"}, "phoneNumber": {"number": "+14155550100"}},
    ],
)
async def test_without_an_org_in_the_path_the_body_names_it(
    named: dict[str, Any], hooks: Webhooks, send: Send, taken: Taken
) -> None:
    sample = vapi({"type": "hang", **named})
    assert (await send(hooks, "/vapi", headers=sample.headers, chunks=[sample.body])).status == 200
    assert [event.org_id for event in taken.events] == ["acme"]


@pytest.mark.parametrize("parameters", [MESSAGE, {**MESSAGE, "AccountSid": "AC1", "To": "whatsapp:+14155550100"}])
async def test_twilios_account_or_number_names_the_org(
    parameters: dict[str, str], hooks: Webhooks, send: Send, taken: Taken
) -> None:
    sample = twilio(parameters, path="/twilio")
    assert (await send(hooks, "/twilio", headers=sample.headers, chunks=[sample.body])).status == 200
    assert [event.org_id for event in taken.events] == ["acme"]


async def test_what_is_signed_by_one_org_and_names_another_is_refused(
    hooks: Webhooks, send: Send, acme: MemoryVault, taken: Taken
) -> None:
    assistant = Resource(ResourceKind.VAPI_ASSISTANT, "asst-globex", "inbound")
    acme.put("globex", Provider.VAPI, credentials("globex")[Provider.VAPI], assistant)
    by_path = vapi({**STATUS, "assistant": {"id": "asst-globex"}})
    by_body = vapi({**STATUS, "call": {"assistantId": "asst-acme"}, "assistant": {"id": "asst-globex"}})
    acme.owners[ResourceKind.TWILIO_ACCOUNT, "AC2"] = "globex"
    by_account = twilio({**MESSAGE, "AccountSid": "AC2"})

    assert (await send(hooks, "/vapi/acme", headers=by_path.headers, chunks=[by_path.body])).status == 401
    assert (await send(hooks, "/vapi", headers=by_body.headers, chunks=[by_body.body])).status == 401
    assert (await send(hooks, "/twilio/acme", headers=by_account.headers, chunks=[by_account.body])).status == 401
    assert taken.events == []


async def test_what_names_an_org_of_which_nothing_is_handed_out_is_refused(
    hooks: Webhooks, send: Send, acme: MemoryVault, taken: Taken
) -> None:
    sample = vapi({**STATUS, "assistant": {"id": "asst-of-a-frozen-org"}})
    statuses = []
    for error in (OrgFrozen(), OrgShredded(), VaultUnavailable(), InvalidRequest(fields={"resource_id": "bad"})):
        acme.failures["resolve_org"] = error
        statuses.append((await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body])).status)

    assert statuses == [401, 401, 503, 200]
    assert len(taken.events) == 1


async def test_the_other_end_of_a_message_may_be_another_orgs_number(
    hooks: Webhooks, send: Send, acme: MemoryVault, taken: Taken
) -> None:
    acme.owners[ResourceKind.PHONE_NUMBER, "+14155550177"] = "globex"
    sample = twilio({**MESSAGE, "To": "+14155550177"})
    assert (await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body])).status == 200
    assert len(taken.events) == 1


async def test_a_sender_without_a_proof_makes_one_question_to_the_vault_and_no_more(
    hooks: Webhooks, send: Send, acme: MemoryVault
) -> None:
    acme.owners[ResourceKind.PHONE_NUMBER, "+14155550177"] = "globex"
    sample = vapi({**STATUS, "phoneNumber": {"number": "+14155550177"}}, secret="guess")
    for org_id in ("acme", "nobody"):
        acme.asked.clear()
        await send(hooks, f"/vapi/{org_id}", headers=sample.headers, chunks=[sample.body])
        assert acme.asked == ["get"]


async def test_also_of_an_org_that_is_remembered_so_that_no_time_tells_it_apart(
    hooks: Webhooks, send: Send, acme: MemoryVault, taken: Taken
) -> None:
    acme.memory["acme", Provider.VAPI] = acme.put("acme", Provider.VAPI, credentials("acme")[Provider.VAPI])
    wrong, right = vapi(STATUS, secret="guess"), vapi(STATUS)
    assert (await send(hooks, "/vapi/acme", headers=wrong.headers, chunks=[wrong.body])).status == 401
    assert acme.asked == ["get"]

    acme.asked.clear()
    assert (await send(hooks, "/vapi/acme", headers=right.headers, chunks=[right.body])).status == 200
    assert acme.asked == []


async def test_what_is_remembered_and_old_rejects_nothing(
    hooks: Webhooks, send: Send, acme: MemoryVault, taken: Taken
) -> None:
    old = VapiCredential(api_key=Secret("k"), webhook_secret=Secret("from-before"))
    acme.memory["acme", Provider.VAPI] = acme.put("acme", Provider.VAPI, old)
    acme.put("acme", Provider.VAPI, credentials("acme")[Provider.VAPI])
    sample = vapi(STATUS)
    assert (await send(hooks, "/vapi/acme", headers=sample.headers, chunks=[sample.body])).status == 200

    # An org whose credential is gone meanwhile is as one that never was.
    del acme.held["acme", Provider.VAPI]
    assert (await send(hooks, "/vapi/acme", headers=sample.headers, chunks=[sample.body])).status == 401


async def test_what_was_nobodys_is_asked_about_again_so_that_it_is_refused_once_it_is_anothers(
    hooks: Webhooks, send: Send, acme: MemoryVault, taken: Taken
) -> None:
    acme.memory["acme", Provider.VAPI] = acme.put("acme", Provider.VAPI, credentials("acme")[Provider.VAPI])
    sample = vapi({**STATUS, "assistant": {"id": "asst-new"}})
    statuses = []
    for owner in ("", "globex"):
        acme.asked.clear()
        if owner:
            acme.owners[ResourceKind.VAPI_ASSISTANT, "asst-new"] = owner
        statuses.append((await send(hooks, "/vapi/acme", headers=sample.headers, chunks=[sample.body])).status)
        assert acme.asked[0] == "resolve_org"

    assert statuses == [200, 401]


ACCOUNTS = [("AccountSid", f"AC{number:032x}") for number in range(999)]


@pytest.mark.parametrize(
    "sample",
    [
        Sample("/twilio", [FORM], urlencode(ACCOUNTS).encode()),
        Sample("/twilio", [FORM], urlencode([*ACCOUNTS[:1], ("To", "1")]).encode()),
        vapi(
            {"call": {"assistantId": "a"}, "assistant": {"id": "b"}, "phoneNumber": {"number": "1"}},
            path="/vapi",
            secret="guess",
        ),
    ],
)
async def test_a_sender_without_a_proof_makes_three_questions_to_the_vault_at_most(
    sample: Sample, hooks: Webhooks, send: Send, acme: MemoryVault
) -> None:
    assert (await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body])).status == 401
    assert len(acme.asked) <= 3


@pytest.mark.parametrize("org_id", ["", "acme"])
async def test_of_any_number_of_names_three_are_asked_about(org_id: str, acme: MemoryVault) -> None:
    names = [Name(ResourceKind.VAPI_ASSISTANT, f"a{number}") for number in range(10)]
    owner = await find_owner(acme, Provider.VAPI, org_id, names)
    if owner:
        assert not await names_another(acme, owner, names)
    assert len(acme.asked) == (4 if org_id else 3)


async def test_what_is_known_to_be_the_orgs_own_is_not_asked_for_again(
    hooks: Webhooks, send: Send, acme: MemoryVault, taken: Taken
) -> None:
    acme.put("acme", Provider.VAPI, credentials("acme")[Provider.VAPI])
    found = vapi({**STATUS, "assistant": {"id": "asst-acme"}})
    assert (await send(hooks, "/vapi", headers=found.headers, chunks=[found.body])).status == 200
    assert acme.asked == ["resolve_credential"]

    acme.asked.clear()
    own = twilio(MESSAGE)
    assert (await send(hooks, own.path, headers=own.headers, chunks=[own.body])).status == 200
    assert acme.asked == ["get"]


async def test_one_id_of_two_orgs_is_two_events(hooks: Webhooks, send: Send, acme: MemoryVault, taken: Taken) -> None:
    acme.put("globex", Provider.RESEND, credentials("acme")[Provider.RESEND])
    for org_id in ("acme", "globex"):
        await send(hooks, f"/resend/{org_id}", headers=svix().headers, chunks=[svix().body])
    assert [event.org_id for event in taken.events] == ["acme", "globex"]


async def test_a_false_webhook_does_not_keep_the_true_one_out(hooks: Webhooks, send: Send, taken: Taken) -> None:
    forged = svix(secret=OLD_SECRET)
    assert (await send(hooks, forged.path, headers=forged.headers, chunks=[forged.body])).status == 401
    assert (await send(hooks, forged.path, headers=svix().headers, chunks=[svix().body])).status == 200
    assert len(taken.events) == 1


async def test_what_a_handler_could_not_take_comes_again(hooks: Webhooks, send: Send, taken: Taken) -> None:
    sample = svix()
    taken.error = RuntimeError("database is away")
    answer = await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body])
    assert (answer.status, answer.body) == (500, b"")
    taken.error = None
    assert (await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body])).status == 200
    assert len(taken.events) == 2


async def test_what_was_cut_off_while_it_was_taken_comes_again(hooks: Webhooks, send: Send, taken: Taken) -> None:
    sample = svix()
    taken.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body])
    taken.error = None
    assert (await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body])).status == 200
    assert len(taken.events) == 2


async def test_a_question_gets_its_answer_every_time(hooks: Webhooks, send: Send, taken: Taken) -> None:
    taken.reply = {"assistantId": "asst-acme"}
    sample = vapi({"type": "assistant-request", "phoneNumber": {"number": "+14155550100"}})
    for _ in range(2):
        answer = await send(hooks, "/vapi", headers=sample.headers, chunks=[sample.body])
        assert (answer.status, json.loads(answer.body)) == (200, {"assistantId": "asst-acme"})
        assert answer.headers["content-type"] == "application/json"


async def test_a_ready_body_goes_out_as_it_is(hooks: Webhooks, send: Send, taken: Taken) -> None:
    taken.reply = b"<Response><Say>Hi</Say></Response>"
    call = twilio({"CallSid": "CA1", "CallStatus": "ringing", "AccountSid": ACCOUNT})
    answer = await send(hooks, call.path, headers=call.headers, chunks=[call.body])
    assert (answer.body, answer.headers["content-type"]) == (taken.reply, "text/xml")

    taken.reply = b'{"results":[]}'
    tools = vapi({"type": "tool-calls"})
    answer = await send(hooks, tools.path, headers=tools.headers, chunks=[tools.body])
    assert (answer.body, answer.headers["content-type"]) == (taken.reply, "application/json")


async def test_an_answer_that_is_no_json_is_the_handlers_failure(hooks: Webhooks, send: Send, taken: Taken) -> None:
    taken.reply = {"when": datetime(2026, 11, 24, tzinfo=UTC)}
    sample = svix()
    assert (await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body])).status == 500


async def test_a_channel_that_only_says_it_is_open_is_acknowledged(hooks: Webhooks, send: Send, taken: Taken) -> None:
    sample = google(1, "sync")
    assert (await send(hooks, sample.path, headers=sample.headers)).status == 200
    assert taken.events == []


@pytest.mark.parametrize("announced", [True, False])
async def test_no_more_of_a_body_is_read_than_allowed(
    announced: bool,  # noqa: FBT001 - a case
    acme: MemoryVault,
    send: Send,
    taken: Taken,
) -> None:
    hooks = Webhooks(acme, public_url=PUBLIC)
    hooks.on(Provider.ELEVENLABS, max_bytes=100)(taken)
    headers = [(b"Content-Length", b"1000000")] if announced else []
    answer = await send(hooks, "/elevenlabs/acme", headers=headers, chunks=[bytes(60)] * 1000)

    assert answer.status == 413
    assert send.received == (0 if announced else 120)
    assert acme.asked == []


async def test_a_body_may_come_in_parts_and_be_as_large_as_allowed(acme: MemoryVault, send: Send, taken: Taken) -> None:
    sample = svix()
    hooks = Webhooks(acme, public_url=PUBLIC, clock=lambda: NOW)
    hooks.on(Provider.RESEND, max_bytes=len(sample.body))(taken)
    parts = [sample.body[index : index + 1] for index in range(len(sample.body))]
    assert (await send(hooks, sample.path, headers=sample.headers, chunks=parts)).status == 200


async def test_bodies_that_are_read_at_the_same_time_have_a_bound_together(acme: MemoryVault, send: Send) -> None:
    hooks = Webhooks(acme, public_url=PUBLIC, clock=lambda: NOW, max_buffered_bytes=100)
    hooks.on(Provider.RESEND, max_bytes=100)(Taken())
    half_read, may_end = asyncio.Event(), asyncio.Event()
    parts = [bytes(90), bytes(1)]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if len(parts) == 1:
            half_read.set()
            await may_end.wait()
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def keep(message: Any) -> None:
        statuses.append(message.get("status", 0))

    scope = {"type": "http", "method": "POST", "path": "/resend/acme", "headers": []}
    first = asyncio.create_task(hooks(scope, receive, keep))
    await half_read.wait()
    announced = await send(
        hooks, "/resend/acme", headers=[*svix().headers, (b"Content-Length", b"21")], chunks=[svix().body]
    )
    assert (announced.status, announced.headers["retry-after"], send.received) == (503, "5", 0)
    silent = await send(hooks, "/resend/acme", headers=svix().headers, chunks=[svix().body])
    assert (silent.status, silent.headers["retry-after"]) == (503, "5")
    may_end.set()
    await first

    assert statuses[0] == 401
    assert (await send(hooks, "/resend/acme", headers=svix().headers, chunks=[svix().body])).status == 200


async def test_what_failed_while_it_was_read_leaves_its_room(acme: MemoryVault, send: Send, taken: Taken) -> None:
    hooks = Webhooks(acme, public_url=PUBLIC, clock=lambda: NOW, max_buffered_bytes=100)
    hooks.on(Provider.RESEND, max_bytes=100)(taken)
    for _ in range(3):
        assert (await send(hooks, "/resend/acme", chunks=[bytes(90), bytes(11)])).status == 413
        assert await cast("Any", send(hooks, "/resend/acme", chunks=[bytes(90)], cut_off=True)) is None
        acme.failure = VaultUnavailable()
        assert (await send(hooks, "/resend/acme", chunks=[bytes(90)])).status == 503
        acme.failure = None
    assert (await send(hooks, "/resend/acme", headers=svix().headers, chunks=[svix().body])).status == 200


async def test_a_handler_that_takes_its_time_holds_no_room(acme: MemoryVault, send: Send) -> None:
    hooks = Webhooks(acme, public_url=PUBLIC, clock=lambda: NOW, max_buffered_bytes=30)
    inner: list[int] = []

    @hooks.on(Provider.RESEND, max_bytes=30)
    async def mail(event: Event) -> None:
        if event.event_id == "msg_1":
            other = svix(event_id="msg_2")
            inner.append((await send(hooks, other.path, headers=other.headers, chunks=[other.body])).status)

    assert (await send(hooks, "/resend/acme", headers=svix().headers, chunks=[svix().body])).status == 200
    assert inner == [200]


def test_a_body_that_never_fits_is_a_mistake_of_who_registers_its_handler(vault: MemoryVault, taken: Taken) -> None:
    with pytest.raises(ValueError, match="max_buffered_bytes"):
        Webhooks(vault, public_url=PUBLIC, max_buffered_bytes=0)
    with pytest.raises(ValueError, match="max_buffered_bytes"):
        Webhooks(vault, public_url=PUBLIC, max_buffered_bytes=99).on(Provider.RESEND, max_bytes=100)(taken)


async def test_a_sender_that_goes_away_gets_no_answer(hooks: Webhooks, send: Send, taken: Taken) -> None:
    sample = svix()
    sent = send(hooks, sample.path, headers=sample.headers, chunks=[sample.body], cut_off=True)
    assert await sent is None
    assert taken.events == []


async def test_a_body_that_does_not_come_is_not_waited_for(hooks: Webhooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantvault.webhooks.asgi.PATIENCE", 0.0)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def keep(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/resend/acme", "headers": []}
    await hooks(scope, receive, keep)
    assert sent[0]["status"] == 408


@pytest.mark.parametrize("path", ["/", "/resend/acme/x", "/unheard-of", "/webhooks/resend", "/Resend/acme"])
async def test_elsewhere_there_is_nothing(path: str, hooks: Webhooks, send: Send) -> None:
    assert (await send(hooks, path)).status == 404


async def test_a_provider_without_a_handler_has_no_place(acme: MemoryVault, send: Send) -> None:
    assert (await send(Webhooks(acme, public_url=PUBLIC), "/resend/acme")).status == 404


async def test_only_twilio_comes_by_get(hooks: Webhooks, send: Send, taken: Taken) -> None:
    answer = await send(hooks, "/resend/acme", method="GET")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")

    path = f"/twilio/acme?AccountSid={ACCOUNT}&CallSid=CA1&CallStatus=ringing&Note=a%20b"
    signature = base64.b64encode(hmac.new(b"token-acme", (PUBLIC + path).encode(), hashlib.sha1).digest())
    answer = await send(hooks, path, method="GET", headers=[(b"x-twilio-signature", signature)])
    assert answer.status == 200
    assert taken.events[0].payload["Note"] == "a b"


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("public_url", [PUBLIC, PUBLIC + "/", PUBLIC + ":443"])
async def test_the_url_is_the_public_one_and_not_the_hosts_that_was_sent(
    raw: bool,  # noqa: FBT001 - a case
    public_url: str,
    acme: MemoryVault,
    send: Send,
    taken: Taken,
) -> None:
    hooks = Webhooks(acme, public_url=public_url)
    hooks.on(Provider.TWILIO)(taken)
    sample = twilio(MESSAGE, path="/in/twilio/acme")
    headers = [*sample.headers, (b"host", b"evil.example"), (b"x-forwarded-host", b"evil.example")]
    answer = await send(hooks, sample.path, headers=headers, chunks=[sample.body], root_path="/in", raw=raw)
    assert answer.status == 200


async def test_a_server_that_leaves_the_mount_out_of_the_path_is_understood(hooks: Webhooks, send: Send) -> None:
    sample = svix()
    answer = await send(hooks, sample.path, headers=sample.headers, chunks=[sample.body], root_path="/in")
    assert answer.status == 200


@pytest.mark.parametrize(
    "public_url",
    ["", "hooks.example.com", "ftp://x", "https://u:p@x.example", "https://x/?a=1", "https://x/#a", "https://x/a b"],
)
def test_a_public_url_is_scheme_host_and_path(public_url: str, vault: MemoryVault) -> None:
    with pytest.raises(ValueError, match="public_url"):
        Webhooks(vault, public_url=public_url)


def test_a_provider_has_one_handler(hooks: Webhooks, taken: Taken) -> None:
    with pytest.raises(ValueError, match="one for each provider"):
        hooks.on(Provider.VAPI)(taken)


async def test_that_there_is_no_lifespan_a_server_learns_by_an_exception(hooks: Webhooks) -> None:
    with pytest.raises(NotImplementedError):
        await hooks({"type": "lifespan"}, cast("Any", None), cast("Any", None))


async def test_a_web_socket_is_closed(hooks: Webhooks) -> None:
    sent: list[Any] = []

    async def keep(message: Any) -> None:
        sent.append(message)

    await hooks({"type": "websocket", "path": "/vapi/acme"}, cast("Any", None), keep)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_the_log_tells_the_cause_and_nothing_that_was_sent(
    hooks: Webhooks, send: Send, acme: MemoryVault, caplog: pytest.LogCaptureFixture
) -> None:
    acme.put("bare", Provider.VAPI, VapiCredential(api_key=Secret("k")))
    canary = "canary-of-the-sender"
    with caplog.at_level(logging.INFO, "tenantvault.webhooks"):
        for org_id in ("acme", "bare", canary):
            sample = vapi({"type": canary, "call": {"id": canary}}, secret=canary)
            await send(hooks, f"/vapi/{org_id}", headers=sample.headers, chunks=[sample.body])
        sample = vapi(STATUS)
        await send(hooks, "/vapi/acme", headers=sample.headers, chunks=[sample.body])

    told = [(record.levelname, record.__dict__.get("org"), record.__dict__.get("cause")) for record in caplog.records]
    assert told == [
        ("WARNING", "acme", "bad_signature"),
        ("ERROR", "bare", "not_configured"),
        ("WARNING", "", "unknown_org"),
        ("INFO", "acme", None),
    ]
    everything = "".join(str(record.__dict__) for record in caplog.records)
    assert canary not in everything
    assert "vapi-acme" not in everything


if TYPE_CHECKING:

    def the_client_is_a_vault(client: AsyncClient) -> Vault:
        """Checked by mypy."""
        return client
