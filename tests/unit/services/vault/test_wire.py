from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from services.rpc import middleware
from services.vault import wire
from services.vault.credential import Facts, Origin, Resource, State
from tenantvault.credentials import Provider, ResourceKind
from tenantvault.errors import InvalidRequest
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import store_service_pb2 as store_pb

API_KEY = "5f2c1e9a-0000-4000-8000-0000canary01"
VAPI = pb.Credential(vapi=pb.VapiCredential(api_key=API_KEY, webhook_secret="whsec"))

GOOGLE = pb.GoogleCalendarCredential(
    refresh_token="1//0e-canary07", access_token="ya29.another-every-hour", scopes=["calendar.events"]
)

texts = st.text(st.characters(codec="utf-8"))
numbers = st.integers(-(2**31), 2**31 - 1)


@pytest.fixture(autouse=True)
def call() -> Iterator[middleware.Call]:
    call = middleware.Call("/a/b", "request-0001", "provider")
    token = middleware._current.set(call)
    yield call
    middleware._current.reset(token)


def refused(check: Callable[[], Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check()
    return caught.value


@pytest.mark.parametrize("org_id", ["a", "0", "acme", "acme-2", "acme_2", "a" * 63, "a--b", "0-", "a_"])
def test_an_org_id_is_taken_as_it_is(org_id: str) -> None:
    assert org_id == wire.org_from(org_id)


@pytest.mark.parametrize(
    "org_id",
    [
        "",
        "-a",
        "_a",
        "A",
        "acmE",
        "a" * 64,
        "a b",
        "a\n",
        "\na",
        "a.b",
        "a/b",
        "ä",
        "a\u0661",
        "acme\0",
        "%",
        "a\u200b",
        "ª",
    ],
)
def test_anything_else_is_no_org_id(org_id: str) -> None:
    error = refused(lambda: wire.org_from(org_id))
    assert ["org_id"] == list(error.fields)


def test_the_names_of_providers_and_kinds_are_those_that_clients_use() -> None:
    assert {f"PROVIDER_{provider.name}": provider.value for provider in Provider} == {
        pb.Provider.Name(number): name  # type: ignore[arg-type]  # an enum's number
        for number, name in wire.PROVIDERS.items()
    }
    assert {f"RESOURCE_KIND_{kind.name}": kind.value for kind in ResourceKind} == {
        pb.ResourceKind.Name(number): name  # type: ignore[arg-type]  # an enum's number
        for number, name in wire.KINDS.items()
    }


def test_the_contract_names_no_provider_kind_or_state_that_is_unknown_here() -> None:
    assert set(pb.Provider.values()) - {pb.PROVIDER_UNSPECIFIED} == set(wire.PROVIDERS)
    assert set(pb.ResourceKind.values()) - {pb.RESOURCE_KIND_UNSPECIFIED} == set(wire.KINDS)
    assert {f"INTEGRATION_STATE_{state.name}" for state in State} == set(pb.IntegrationState.keys()) - {
        "INTEGRATION_STATE_UNSPECIFIED"
    }


def test_every_kind_of_credential_of_the_contract_can_be_stored() -> None:
    assert set(wire._SHAPES) == {field.name for field in pb.Credential.DESCRIPTOR.oneofs_by_name["kind"].fields}


@pytest.mark.parametrize("number", [0, 6, -1, 2**31 - 1])
def test_an_unknown_provider_or_kind_is_refused(number: int) -> None:
    assert ["provider"] == list(refused(lambda: wire.provider_from(number)).fields)
    assert ["kind"] == list(refused(lambda: wire.resource_key_from(number, "r")).fields)


@pytest.mark.parametrize("resource_id", ["", "x" * 257, "ä" * 129, "a\nb", "a\0", "\x7f", "\u2028"])
def test_a_resource_id_is_short_printable_text(resource_id: str) -> None:
    assert ["resource_id"] == list(refused(lambda: wire.resource_key_from(1, resource_id)).fields)


@pytest.mark.parametrize("resource_id", ["x", "x" * 256, "ä" * 128, "+15005550006", "with space"])
def test_a_resource_id_is_taken_as_it_is(resource_id: str) -> None:
    assert ("vapi_assistant", resource_id) == wire.resource_key_from(1, resource_id)


@pytest.mark.parametrize("role", ["Inbound", "in bound", "x" * 33, "a\n", "ä"])
def test_a_role_is_a_short_word(role: str) -> None:
    message = pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id="r", role=role)
    assert ["role"] == list(refused(lambda: wire.resource_from(message)).fields)


def test_resources_are_taken_in_their_order() -> None:
    messages = [pb.Resource(kind=pb.RESOURCE_KIND_PHONE_NUMBER, resource_id=f"+{n}", role="voice") for n in (3, 1, 2)]
    assert [Resource("phone_number", f"+{n}", "voice") for n in (3, 1, 2)] == wire.resources_from(messages)
    assert [] == wire.resources_from([])


def test_a_resource_twice_or_too_many_are_refused() -> None:
    resource = pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id="r", role="inbound")
    again = pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id="r", role="outbound")
    many = [pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id=f"r{n}") for n in range(101)]
    assert 100 == len(wire.resources_from(many[:100]))
    for messages in ([resource, again], many):
        assert ["resources"] == list(refused(lambda messages=messages: wire.resources_from(messages)).fields)  # type: ignore[misc]  # bound at once


def test_a_credential_is_sealed_as_it_came_with_a_hint() -> None:
    provider, payload, hint = wire.payload_from(VAPI)
    assert ("vapi", VAPI, "••••ry01") == (provider, pb.Credential.FromString(payload), hint)


@pytest.mark.parametrize(
    ("twilio", "hint"),
    [
        (pb.TwilioCredential(auth_token="t" * 28 + "1234", api_key_secret="s" * 28 + "5678"), "••••1234"),
        (pb.TwilioCredential(api_key_secret="s" * 28 + "5678"), "••••5678"),
        (pb.TwilioCredential(auth_token="short"), "••••"),
    ],
)
def test_the_hint_is_the_end_of_the_secret_that_tells_two_apart(twilio: pb.TwilioCredential, hint: str) -> None:
    provider, _, found = wire.payload_from(pb.Credential(twilio=twilio))
    assert ("twilio", hint) == (provider, found)


@pytest.mark.parametrize(
    ("credential", "provider", "hint"),
    [
        (pb.Credential(google_calendar=GOOGLE), "googleCalendar", "••••ry07"),
        (
            pb.Credential(resend=pb.ResendCredential(api_key="re_0000000000000canary1", webhook_secret="whsec_2")),
            "resend",
            "••••ary1",
        ),
        (
            pb.Credential(elevenlabs=pb.ElevenLabsCredential(api_key="sk_000000000000canary2", webhook_secret="w")),
            "elevenlabs",
            "••••ary2",
        ),
    ],
)
def test_a_credential_of_each_other_provider_is_sealed_as_it_came(
    credential: pb.Credential, provider: str, hint: str
) -> None:
    assert (provider, credential.SerializeToString(deterministic=True), hint) == wire.payload_from(credential)


@pytest.mark.parametrize(
    "credential",
    [
        pb.Credential(),
        pb.Credential(google_calendar=pb.GoogleCalendarCredential(access_token="only", channel_token="only")),
        pb.Credential(resend=pb.ResendCredential(webhook_secret="only")),
        pb.Credential(elevenlabs=pb.ElevenLabsCredential(webhook_secret="only")),
        pb.Credential(vapi=pb.VapiCredential()),
        pb.Credential(vapi=pb.VapiCredential(webhook_secret="only")),
        pb.Credential(twilio=pb.TwilioCredential(account_sid="AC" + "0" * 32)),
        pb.Credential(vapi=pb.VapiCredential(api_key="x" * 17_000)),
        pb.Credential(vapi=pb.VapiCredential(api_key="x", webhook_secret="x" * 17_000)),
        pb.Credential(vapi=pb.VapiCredential(api_key="canary-0123456789\0")),
        pb.Credential(vapi=pb.VapiCredential(api_key="canary-0123456789\n")),
        pb.Credential(vapi=pb.VapiCredential(api_key="canary\x1b[31m-0123456789")),
    ],
    ids=lambda credential: f"{str(credential)[:30]!r}",
)
def test_a_credential_without_its_secret_or_too_long_is_refused(credential: pb.Credential) -> None:
    error = refused(lambda: wire.payload_from(credential))
    assert ["credential"] == list(error.fields)
    assert "canary" not in f"{error} {error.fields}"


def test_the_same_credential_is_always_the_same_bytes() -> None:
    again = pb.Credential.FromString(VAPI.SerializeToString())
    assert wire.payload_from(VAPI)[1] == wire.payload_from(again)[1]


def test_a_change_is_the_calling_peers_on_behalf_of_whom_it_says(call: middleware.Call) -> None:
    origin = wire.origin_from(store_pb.Origin(on_behalf_of="ada@example.com"))
    assert Origin("provider", "ada@example.com", "request-0001") == origin
    assert Origin("provider", "", "request-0001") == wire.origin_from(store_pb.Origin())
    assert ["origin.on_behalf_of"] == list(
        refused(lambda: wire.origin_from(store_pb.Origin(on_behalf_of="x" * 257))).fields
    )


@pytest.mark.parametrize(("version", "at_least"), [(0, 1), (-1, 0), (-(2**63), 0), (2**53, 0), (2**63 - 1, 1)])
def test_a_version_out_of_bounds_is_refused(version: int, at_least: int) -> None:
    assert ["version"] == list(refused(lambda: wire.version_from(version, at_least=at_least)).fields)


def test_a_version_is_taken_as_it_is() -> None:
    assert (0, 1, 2**53 - 1) == (wire.version_from(0, at_least=0), wire.version_from(1), wire.version_from(2**53 - 1))


@pytest.mark.parametrize(
    "duration",
    [
        Duration(),
        Duration(seconds=-1),
        Duration(nanos=-1),
        Duration(seconds=300, nanos=1),
        Duration(seconds=301),
        Duration(seconds=2**63 - 1),
        Duration(seconds=-(2**63)),
    ],
    ids=str,
)
def test_a_lease_has_a_length_within_bounds(duration: Duration) -> None:
    assert ["duration"] == list(refused(lambda: wire.lease_seconds_from(duration)).fields)


def test_a_lease_is_as_long_as_it_says() -> None:
    assert (300.0, 0.5) == (
        wire.lease_seconds_from(Duration(seconds=300)),
        wire.lease_seconds_from(Duration(nanos=500_000_000)),
    )


@pytest.mark.parametrize("owner", ["", "x" * 65, "a\nb"])
def test_an_owner_is_short_text(owner: str) -> None:
    assert ["owner"] == list(refused(lambda: wire.owner_from(owner)).fields)


def verification(**fields: Any) -> store_pb.RecordVerificationRequest:
    return store_pb.RecordVerificationRequest(**fields)


def test_what_the_provider_said_is_taken_as_it_is() -> None:
    warnings = ["x" * 500] * 20
    said = wire.facts_from(
        verification(error="x" * 1000, reason="INVALID_CREDENTIALS", warnings=warnings, account="é" * 128)
    )
    assert Facts(error="x" * 1000, reason="INVALID_CREDENTIALS", warnings=tuple(warnings), account="é" * 128) == said
    registered = wire.facts_from(store_pb.RegisterResourcesRequest(warnings=["Soon over."], account="ada@example.com"))
    assert Facts(warnings=("Soon over.",), account="ada@example.com") == registered
    assert Facts(account="") == wire.facts_from(verification())


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("error", verification(error="x" * 1001)),
        ("error", verification(error="two\nlines")),
        ("error", verification(reason="INVALID_CREDENTIALS")),
        ("reason", verification(error="No.", reason="invalid")),
        ("reason", verification(error="No.", reason="X" * 65)),
        ("reason", verification(error="No.", reason="X\n")),
        ("warnings", verification(warnings=["w"] * 21)),
        ("warnings", verification(warnings=["w", "x" * 501])),
        ("warnings", verification(warnings=["a\0"])),
        ("account", verification(account="é" * 129)),
        ("account", verification(account="a\tb")),
        ("warnings", store_pb.RegisterResourcesRequest(warnings=["w"] * 21)),
        ("account", store_pb.RegisterResourcesRequest(account="x" * 257)),
    ],
)
def test_what_the_provider_said_is_of_bounded_length(field: str, message: Any) -> None:
    assert [field] == list(refused(lambda: wire.facts_from(message)).fields)


CHECKS: dict[str, Callable[..., Any]] = {
    "org": wire.org_from,
    "owner": wire.owner_from,
    "error": lambda text: wire.facts_from(verification(error=text)).error,
    "warning": lambda text: wire.facts_from(verification(warnings=[text])).warnings[0],
}


@given(text=texts, number=numbers, big=st.integers(-(2**63), 2**63 - 1))
@example(text="\0", number=0, big=2**63 - 1)
def test_no_text_and_no_number_gives_anything_but_itself_or_a_refusal(text: str, number: int, big: int) -> None:
    for check in CHECKS.values():
        outcome = tried(check, text)
        assert outcome in {text, None}
    outcome = tried(wire.version_from, big)
    assert outcome in {big, None}
    outcome = tried(wire.provider_from, number)
    assert outcome is None or number in wire.PROVIDERS
    outcome = tried(wire.resource_key_from, number, text)
    assert outcome is None or (outcome[1] == text and "\0" not in text)


@given(data=st.binary(max_size=64) | st.builds(lambda b: VAPI.SerializeToString() + b, st.binary(max_size=16)))
def test_no_message_gives_anything_but_nouns_or_a_refusal(data: bytes) -> None:
    checks: dict[Any, Callable[[Any], Any]] = {
        pb.Credential: wire.payload_from,
        pb.Resource: wire.resource_from,
        store_pb.Origin: wire.origin_from,
        Duration: wire.lease_seconds_from,
        store_pb.RegisterResourcesRequest: lambda request: (
            wire.resources_from(request.resources),
            wire.facts_from(request),
        ),
        store_pb.RecordVerificationRequest: wire.facts_from,
    }
    for kind, check in checks.items():
        try:
            message = kind.FromString(data)
        except Exception:  # noqa: BLE001 - these bytes are no such message
            continue
        tried(check, message)


def tried(check: Callable[..., Any], *given: Any) -> Any:
    try:
        return check(*given)
    except InvalidRequest as refusal:
        error = refusal
    assert error.fields
    return None


def test_a_read_is_on_behalf_of_whom_the_request_says(call: middleware.Call) -> None:
    assert Origin("provider", "", "request-0001") == wire.reader_from()
    assert Origin("provider", "ada@example.com", "request-0001") == wire.reader_from("ada@example.com")
    assert ["on_behalf_of"] == list(refused(lambda: wire.reader_from("a" * 257)).fields)
    assert ["on_behalf_of"] == list(refused(lambda: wire.reader_from("a\0")).fields)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(None, None), (Duration(), 0.0), (Duration(seconds=5), 5.0), (Duration(seconds=1, nanos=500_000_000), 1.5)],
)
def test_how_old_an_answer_may_be_is_said_or_left_to_the_vault(
    duration: Duration | None, seconds: float | None
) -> None:
    assert seconds == wire.max_staleness_from(access_pb.GetCredentialRequest(max_staleness=duration))


def test_an_answer_from_the_future_cannot_be_asked_for() -> None:
    request = access_pb.ResolveCredentialRequest(max_staleness=Duration(seconds=-1))
    assert ["max_staleness"] == list(refused(lambda: wire.max_staleness_from(request)).fields)


@pytest.mark.parametrize("number", [0, 1001])
def test_a_batch_has_a_thousand_keys_at_the_most_and_one_at_the_least(number: int) -> None:
    credentials = [access_pb.CredentialKey(org_id="acme", provider=pb.PROVIDER_VAPI)] * number
    resources = [directory_pb.ResourceKey(kind=pb.RESOURCE_KIND_PHONE_NUMBER, resource_id="+1")] * number
    assert ["keys"] == list(refused(lambda: wire.credential_keys_from(credentials)).fields)
    assert ["keys"] == list(refused(lambda: wire.resource_keys_from(resources)).fields)


def test_a_batch_is_taken_in_its_order_and_refused_for_one_bad_key() -> None:
    keys = [
        access_pb.CredentialKey(org_id="b", provider=pb.PROVIDER_VAPI),
        access_pb.CredentialKey(org_id="a", provider=pb.PROVIDER_TWILIO),
    ]
    assert [("b", "vapi"), ("a", "twilio")] == wire.credential_keys_from(keys)
    assert ["org_id"] == list(
        refused(lambda: wire.credential_keys_from([*keys, access_pb.CredentialKey(org_id="A")])).fields
    )
    resources = [directory_pb.ResourceKey(kind=pb.RESOURCE_KIND_PHONE_NUMBER, resource_id="+1")]
    assert [("phone_number", "+1")] == wire.resource_keys_from(resources)
    assert ["kind"] == list(refused(lambda: wire.resource_keys_from([directory_pb.ResourceKey()])).fields)


def test_what_a_watcher_knows_is_bounded() -> None:
    assert {"acme": 3} == wire.known_orgs_from([access_pb.KnownOrg(org_id="acme", generation=3)])
    assert {} == wire.known_orgs_from([])
    assert ["known"] == list(refused(lambda: wire.known_orgs_from([access_pb.KnownOrg(org_id="a")] * 10_001)).fields)
    assert ["org_id"] == list(refused(lambda: wire.known_orgs_from([access_pb.KnownOrg(org_id="")])).fields)


def test_a_chain_is_an_orgs_or_the_vaults_own() -> None:
    assert ("acme", "_vault") == (wire.chain_from("acme"), wire.chain_from("_vault"))
    assert ["org_id"] == list(refused(lambda: wire.chain_from("_other")).fields)


def test_pages_are_bounded() -> None:
    assert (100, 1, 1000) == tuple(map(wire.page_size_from, (0, 1, 1000)))
    for size in (-1, 1001):
        assert ["page_size"] == list(refused(lambda size=size: wire.page_size_from(size)).fields)  # type: ignore[misc]
    assert (0, 7) == (wire.sequence_from(0), wire.sequence_from(7))
    for sequence in (-1, 2**53):
        assert ["before_sequence"] == list(refused(lambda it=sequence: wire.sequence_from(it)).fields)  # type: ignore[misc]
    assert ("", "credential.get") == (wire.action_from(""), wire.action_from("credential.get"))
    for action in ("Get", "a b", "a" * 65):
        assert ["action"] == list(refused(lambda it=action: wire.action_from(it)).fields)  # type: ignore[misc]
    assert ("", "voice-agent") == (wire.peer_from(""), wire.peer_from("voice-agent"))
    for peer in ("Agent", "voice agent", "a" * 64):
        assert ["peer"] == list(refused(lambda it=peer: wire.peer_from(it)).fields)  # type: ignore[misc]


def test_reads_are_counted_since_a_moment_or_for_thirty_days() -> None:
    now = datetime(2026, 12, 1, 12, tzinfo=UTC)
    assert datetime(2026, 11, 1, 12, tzinfo=UTC) == wire.since_from(status_pb.CountReadsRequest(), now=lambda: now)
    for seconds, year in ((0, 1970), (-62_135_596_800, 1), (253_402_300_799, 9999)):
        request = status_pb.CountReadsRequest(since=Timestamp(seconds=seconds))
        assert (UTC, year) == (wire.since_from(request).tzinfo, wire.since_from(request).year)
    for since in (
        Timestamp(seconds=-62_135_596_801),
        Timestamp(seconds=253_402_300_800),
        Timestamp(seconds=2**63 - 1),
        Timestamp(nanos=-1),
        Timestamp(nanos=10**9),
    ):
        request = status_pb.CountReadsRequest(since=since)
        assert ["since"] == list(refused(lambda it=request: wire.since_from(it)).fields)  # type: ignore[misc]
