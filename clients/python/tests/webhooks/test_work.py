"""An org that nobody knows costs what a known one costs: the keyed hashes and the comparisons are counted."""

import hmac
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from tenantvault.credentials import (
    Credential,
    ElevenLabsCredential,
    GoogleCalendarCredential,
    Provider,
    ResendCredential,
    TwilioCredential,
    VapiCredential,
)
from tenantvault.secret import Secret
from tenantvault.webhooks import Request, WebhookRejected
from tenantvault.webhooks.sender import SENDERS

NOW = 1795428000


def resend(secret: str) -> Credential:
    return ResendCredential(api_key=Secret("k"), webhook_secret=Secret(secret))


def elevenlabs(secret: str) -> Credential:
    return ElevenLabsCredential(api_key=Secret("k"), webhook_secret=Secret(secret))


def twilio(secret: str) -> Credential:
    return TwilioCredential(account_sid="AC", phone_number="+15550100", auth_token=Secret(secret))


def twilio_shared(secret: str) -> Credential:
    return TwilioCredential(account_sid="AC", phone_number="+15550100", webhook_shared_key=Secret(secret))


def google(secret: str) -> Credential:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    empty = Secret("")
    return GoogleCalendarCredential(
        refresh_token=empty, access_token=empty, expires_at=then, scopes=(), channel_token=Secret(secret)
    )


def vapi(scheme: str) -> Callable[[str], Credential]:
    return lambda secret: VapiCredential(api_key=Secret("k"), webhook_secret=Secret(secret), webhook_scheme=scheme)


SIGNATURES: dict[Provider, list[list[tuple[bytes, bytes]]]] = {
    Provider.RESEND: [[], [(b"svix-id", b"m"), (b"svix-timestamp", b"1795428000"), (b"svix-signature", b"v1,AAAA")]],
    Provider.ELEVENLABS: [
        [],
        [(b"elevenlabs-signature", b"t=1795428000,v0=00")],
        [(b"elevenlabs-signature", b"v0=00")],
    ],
    Provider.TWILIO: [[], [(b"x-twilio-signature", b"AAAA")]],
    Provider.GOOGLE_CALENDAR: [[], [(b"x-goog-channel-token", b"AAAA")], [(b"x-goog-channel-token", b"MfKQ9r8G")]],
    Provider.VAPI: [
        [],
        [(b"x-vapi-secret", b"AAAA")],
        [(b"x-vapi-secret", b"MfKQ9r8G")],
        [(b"authorization", b"Bearer AAAA")],
        [(b"x-signature", b"00"), (b"x-timestamp", b"1795428000")],
    ],
}
CASES = [
    (Provider.RESEND, [resend]),
    (Provider.ELEVENLABS, [elevenlabs]),
    (Provider.TWILIO, [twilio, twilio_shared]),
    (Provider.GOOGLE_CALENDAR, [google]),
    (Provider.VAPI, [vapi(scheme) for scheme in ("header", "bearer", "hmac-sha256", "hmac-sha512", "hmac-sha1", "?")]),
]


@pytest.mark.parametrize(("provider", "makers"), CASES, ids=[case[0] for case in CASES])
def test_known_or_not_configured_or_not_rotated_or_not_the_work_is_the_same(
    provider: Provider, makers: Sequence[Callable[[str], Credential]], monkeypatch: pytest.MonkeyPatch
) -> None:
    work: Counter[str] = Counter()

    def counted(name: str) -> None:
        function = getattr(hmac, name)

        def run(*arguments: Any) -> Any:
            work[name] += 1
            return function(*arguments)

        monkeypatch.setattr(hmac, name, run)

    counted("new")
    counted("compare_digest")
    for headers in SIGNATURES[provider]:
        sent = Request(method="POST", url="https://hooks.example.com/x", headers=tuple(headers), body=b"{}")
        amounts = set()
        for make in makers:
            for secrets in ([], [""], ["MfKQ9r8G"], ["MfKQ9r8G", "b3RoZXI="], ["", "b3RoZXI="], ["%"]):
                work.clear()
                with pytest.raises(WebhookRejected):
                    SENDERS[provider].verify(sent, [make(secret) for secret in secrets], now=NOW)
                amounts.add(tuple(sorted(work.items())))
        assert len(amounts) == 1
        assert sum(work.values()) > 0


@pytest.mark.parametrize("provider", list(Provider))
def test_a_credential_of_another_kind_counts_for_nothing(provider: Provider) -> None:
    other = resend("MfKQ9r8G") if provider is not Provider.RESEND else elevenlabs("MfKQ9r8G")
    sent = Request(method="POST", url="https://hooks.example.com/x", headers=(), body=b"")
    with pytest.raises(WebhookRejected) as rejected:
        SENDERS[provider].verify(sent, [other], now=NOW)
    assert rejected.value.cause == "unknown_org"
