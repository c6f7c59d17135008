"""What looks at an error's frames, as a log that shows local variables does, sees no secret."""

import base64
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tenantvault import (
    CacheSettings,
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    Provider,
    ResendCredential,
    ResourceKind,
    Secret,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.errors import InternalError, InvalidRequest, TenantVaultError
from tenantvault.messages import PROVIDER_NUMBER, credential_to_message
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.webhooks import Request, WebhookRejected
from tenantvault.webhooks.sender import SENDERS

NOW = 1795428000
THEN = datetime(2026, 1, 1, tzinfo=UTC)
CANARY = "canary-0123456789abcdef"
WHSEC = "whsec_" + base64.b64encode(CANARY.encode()).decode()
EMPTY = Secret("")
BODY = b"no JSON"


def shown(error: BaseException) -> str:
    """All that the frames of an error, and of what led to it, hold in local variables outside of the tests."""
    texts, chain = [], [error]
    for each in chain:
        trace = each.__traceback__
        while trace is not None:
            if not trace.tb_frame.f_code.co_filename.endswith(("test_tracebacks.py", "conftest.py")):
                texts += [f"{name}={value!r}" for name, value in trace.tb_frame.f_locals.items()]
            trace = trace.tb_next
        chain += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
    return "\n".join(texts)


def signature(algorithm: str, text: bytes) -> bytes:
    return hmac.new(CANARY.encode(), text, algorithm).digest()


def vapi(scheme: str) -> VapiCredential:
    return VapiCredential(api_key=EMPTY, webhook_secret=Secret(CANARY), webhook_scheme=scheme)


# Of each: its credential, the headers of a request that proves itself and of one that does not, and what the former
# is proven by, which nobody else may learn either.
WAYS: dict[str, tuple[Provider, Credential, dict[bytes, bytes], bytes]] = {
    "resend": (
        Provider.RESEND,
        ResendCredential(api_key=EMPTY, webhook_secret=Secret(WHSEC)),
        {b"svix-id": b"m", b"svix-timestamp": str(NOW).encode(), b"svix-signature": b"v1,%s"},
        base64.b64encode(signature("sha256", b"m.%d.%s" % (NOW, BODY))),
    ),
    "elevenlabs": (
        Provider.ELEVENLABS,
        ElevenLabsCredential(api_key=EMPTY, webhook_secret=Secret(CANARY)),
        {b"elevenlabs-signature": b"t=%d,v0=" % NOW + b"%s"},
        signature("sha256", b"%d.%s" % (NOW, BODY)).hex().encode(),
    ),
    "google": (
        Provider.GOOGLE_CALENDAR,
        GoogleCalendarCredential(
            refresh_token=EMPTY, access_token=EMPTY, expires_at=THEN, scopes=(), channel_token=Secret(CANARY)
        ),
        {b"x-goog-channel-token": b"%s", b"x-goog-message-number": b"1"},
        CANARY.encode(),
    ),
    "vapi header": (Provider.VAPI, vapi("header"), {b"x-vapi-secret": b"%s"}, CANARY.encode()),
    "vapi bearer": (Provider.VAPI, vapi("bearer"), {b"authorization": b"Bearer %s"}, CANARY.encode()),
    "vapi hmac": (
        Provider.VAPI,
        vapi("hmac-sha256"),
        {b"x-timestamp": str(NOW).encode(), b"x-signature": b"%s"},
        signature("sha256", b"%d.%s" % (NOW, BODY)).hex().encode(),
    ),
    "twilio": (
        Provider.TWILIO,
        TwilioCredential(account_sid="AC", phone_number="+15550100", auth_token=Secret(CANARY)),
        {b"x-twilio-signature": b"%s"},
        base64.b64encode(signature("sha1", b"https://hooks.example.com/x")),
    ),
}


@pytest.mark.parametrize("proof", [b"wrong", b"", None])
@pytest.mark.parametrize("way", WAYS)
def test_a_webhook_that_is_not_accepted_shows_neither_key_nor_proof(way: str, proof: bytes | None) -> None:
    provider, credential, headers, right = WAYS[way]
    given = right if proof is None else proof
    request = Request(
        method="POST",
        url="https://hooks.example.com/x",
        headers=tuple((name, value.replace(b"%s", given)) for name, value in headers.items()),
        body=BODY,
    )

    with pytest.raises(WebhookRejected) as rejected:
        SENDERS[provider].verify(request, [credential, credential], now=NOW)

    seen = shown(rejected.value)
    assert "request=" in seen
    for secret in (CANARY, WHSEC, WHSEC.removeprefix("whsec_")):
        assert secret not in seen
    # What was presented is the sender's own, but where it is the secret itself.
    assert proof is None or right.decode() not in seen


Answering = Callable[[pb.ActiveCredential], None]


def of_another(active: pb.ActiveCredential) -> None:
    active.org_id = "globex"
    active.provider = pb.PROVIDER_TWILIO


def of_no_time(active: pb.ActiveCredential) -> None:
    active.last_verified_at.nanos = -1


def of_another_kind(active: pb.ActiveCredential) -> None:
    active.credential.twilio.auth_token = CANARY


READS: dict[str, Callable[[Any], Any]] = {
    "get": lambda client: client.get("acme", Provider.VAPI),
    "get with an age": lambda client: client.vapi("acme", max_staleness=9),
    "google_calendar": lambda client: client.google_calendar("acme"),
    "resolve_credential": lambda client: client.resolve_credential(ResourceKind.PHONE_NUMBER, "+1", Provider.VAPI),
}


def answer(spoil: Answering) -> Callable[[Any], Any]:
    def active(request: Any) -> pb.ActiveCredential:
        credential = VapiCredential(api_key=Secret(CANARY))
        org_id = getattr(request, "org_id", "acme")
        found = pb.ActiveCredential(
            org_id=org_id,
            provider=request.provider or PROVIDER_NUMBER[Provider.VAPI],
            version=1,
            credential=credential_to_message(credential),
            generation=7,
        )
        spoil(found)
        return found

    def answered(call: Any) -> Any:
        match call.request:
            case access.ResolveCredentialRequest():
                return access.ResolveCredentialResponse(credential=active(call.request))
            case access.BatchGetCredentialsRequest(keys=keys):
                outcomes = [access.CredentialOutcome(credential=active(key)) for key in keys]
                return access.BatchGetCredentialsResponse(outcomes=outcomes)
            case _:
                return access.GetCredentialResponse(credential=active(call.request))

    return answered


@pytest.fixture(params=[CacheSettings(), None], ids=["remembering", "forgetting"])
def either(remember: Any, request: pytest.FixtureRequest) -> Any:
    """A client that remembers, and one that does not."""
    client = remember(cache=request.param)
    if client.memory is not None:
        client.memory.heard()
    return client


@pytest.mark.parametrize("spoil", [of_another, of_no_time, of_another_kind])
@pytest.mark.parametrize("read", READS)
async def test_an_answer_that_is_refused_is_in_no_frame_of_the_error(
    either: Any, wire: Any, read: str, spoil: Answering
) -> None:
    wire.answer = answer(spoil)

    with pytest.raises(InternalError) as refused:
        await READS[read](either)

    seen = shown(refused.value)
    assert "acme" in seen or "+1" in seen
    assert CANARY not in seen


async def test_nor_is_it_in_a_frame_of_a_batchs_errors(either: Any, wire: Any) -> None:
    wire.answer = answer(of_another)
    key = ("acme", Provider.VAPI)
    found = await either.get_many([key])

    error = found[key]
    assert isinstance(error, InternalError)
    with pytest.raises(InternalError) as raised:
        found.value(key)
    assert CANARY not in shown(error) + shown(raised.value)


async def test_nor_is_what_came_before_a_batchs_last_call_was_refused(either: Any, wire: Any) -> None:
    good = answer(lambda _: None)

    def one_thousand(call: Any) -> Any:
        return good(call) if len(wire.calls) == 1 else either.refused(InvalidRequest())

    wire.answer = one_thousand
    with pytest.raises(TenantVaultError) as refused:
        await either.get_many([(f"a{number}", Provider.VAPI) for number in range(1001)])

    assert 2 == len(wire.calls)
    assert CANARY not in shown(refused.value)
