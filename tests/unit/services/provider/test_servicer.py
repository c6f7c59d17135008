from datetime import datetime
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration

from services.provider.connect import Connect
from services.provider.integration import Integration, Report, State
from services.provider.lifecycle import Lifecycle
from services.provider.oauth import OAuth
from services.provider.provider import Accepted, Refused, Verdict
from services.provider.refresh import Refresh
from services.provider.rotate import Rotate
from services.provider.servicer import IntegrationServicer
from services.rpc.middleware import Context
from tenantvault.credentials import Provider, VapiCredential
from tenantvault.errors import InvalidCredentials, InvalidRequest
from tenantvault.secret import Secret
from tenantvault.v1 import credential_pb2 as cpb
from tenantvault.v1 import integration_service_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store
from tests.unit.services.provider.fake_provider import Consented, Keyed
from tests.unit.services.provider.fake_vault import NOW

REPORT = Report(
    Integration(provider=Provider.VAPI, state=State.CONNECTED, version=1), ("Mind the gap.",), ("It is still there.",)
)
CREDENTIAL = cpb.Credential(vapi=cpb.VapiCredential(api_key="key-0123456789-0123456789"))
ADA = store.Origin(on_behalf_of="ada@example.com")


class FakeVerbs:
    """The saga and the lifecycle in one, noting what they are asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.verdict: Verdict = Accepted(("Mind the gap.",), "the account")

    async def __call__(self, org_id: str, credential: object, *, on_behalf_of: str, patience: float) -> Report:
        self.asked.append(("connect", org_id, credential, on_behalf_of, patience))
        return REPORT

    async def verify(self, org_id: str, name: Provider, *, on_behalf_of: str) -> Report:
        self.asked.append(("verify", org_id, name, on_behalf_of))
        return REPORT

    async def disconnect(self, org_id: str, name: Provider, *, on_behalf_of: str) -> Report:
        self.asked.append(("disconnect", org_id, name, on_behalf_of))
        return REPORT

    async def reconnect(self, org_id: str, name: Provider, *, on_behalf_of: str, patience: float) -> Report:
        self.asked.append(("reconnect", org_id, name, on_behalf_of, patience))
        return REPORT

    async def test(self, credential: object) -> Verdict:
        self.asked.append(("test", credential))
        return self.verdict

    async def start(self, org_id: str, name: Provider, *, session: str, on_behalf_of: str) -> str:
        self.asked.append(("start", org_id, name, session, on_behalf_of))
        return "https://consent.test"

    async def finish(self, org_id: str, name: Provider, **rest: object) -> tuple[Report, tuple[str, ...]]:
        self.asked.append(("finish", org_id, name, rest))
        return REPORT, ("calendar",)

    async def ask_for(self, org_id: str, name: Provider, *, on_behalf_of: str, patience: float) -> Integration:
        self.asked.append(("rotate", org_id, name, on_behalf_of, patience))
        return REPORT.integration


class Vapi(Keyed):
    """A provider that takes Vapi's credential."""

    def __init__(self) -> None:
        super().__init__(name=Provider.VAPI)
        self.credential = VapiCredential  # type: ignore[assignment]  # only its kind is looked at


class FakeContext:
    """A call that has some time left."""

    def __init__(self, remaining: float) -> None:
        self._remaining = remaining

    def time_remaining(self) -> float:
        return self._remaining


def context(remaining: float = 60.0) -> Context:
    return cast("Context", FakeContext(remaining))


@pytest.fixture
def verbs() -> FakeVerbs:
    return FakeVerbs()


@pytest.fixture
def servicer(verbs: FakeVerbs) -> IntegrationServicer:
    async def refresh(org_id: str, name: Provider, *, min_life: float, patience: float) -> datetime:
        verbs.asked.append(("refresh", org_id, name, min_life, patience))
        return NOW

    return IntegrationServicer(
        (Vapi(), Keyed(), Consented(lambda: NOW)),
        connect=cast("Connect", verbs),
        lifecycle=cast("Lifecycle", verbs),
        oauth=cast("OAuth", verbs),
        refresh=cast("Refresh", refresh),
        rotate=cast("Rotate", verbs),
    )


@pytest.mark.parametrize(("remaining", "patience"), [(60.0, 30.0), (30.5, 1.0), (2.0, 1.0)])
async def test_connect(servicer: IntegrationServicer, verbs: FakeVerbs, remaining: float, patience: float) -> None:
    request = pb.ConnectRequest(org_id="acme", credential=CREDENTIAL, origin=ADA)
    response = await servicer.Connect(request, context(remaining))
    credential = VapiCredential(api_key=Secret("key-0123456789-0123456789"))
    assert [("connect", "acme", credential, "ada@example.com", patience)] == verbs.asked
    assert cpb.INTEGRATION_STATE_CONNECTED == response.integration.state
    assert ["Mind the gap."] == list(response.warnings)


async def test_verify(servicer: IntegrationServicer, verbs: FakeVerbs) -> None:
    request = pb.VerifyRequest(org_id="acme", provider=cpb.PROVIDER_VAPI, origin=ADA)
    response = await servicer.Verify(request, context())
    assert [("verify", "acme", Provider.VAPI, "ada@example.com")] == verbs.asked
    assert 1 == response.integration.version
    assert ["Mind the gap."] == list(response.warnings)


async def test_disconnect(servicer: IntegrationServicer, verbs: FakeVerbs) -> None:
    request = pb.IntegrationServiceDisconnectRequest(org_id="acme", provider=cpb.PROVIDER_VAPI)
    response = await servicer.Disconnect(request, context())
    assert (1, ["It is still there."]) == (response.integration.version, list(response.unreleased))
    assert [("disconnect", "acme", Provider.VAPI, "")] == verbs.asked


async def test_reconnect(servicer: IntegrationServicer, verbs: FakeVerbs) -> None:
    request = pb.IntegrationServiceReconnectRequest(org_id="acme", provider=cpb.PROVIDER_TWILIO)
    answer = await servicer.Reconnect(request, context())
    assert (1, list(REPORT.warnings)) == (answer.integration.version, list(answer.warnings))
    assert [("reconnect", "acme", Provider.TWILIO, "", 30.0)] == verbs.asked


@pytest.mark.parametrize("org_id", ["", "Acme", "-acme", "a" * 64, "acme\n", "a/b", "äcme", "٣"])
async def test_what_is_no_org(servicer: IntegrationServicer, verbs: FakeVerbs, org_id: str) -> None:
    for answer in (
        servicer.Connect(pb.ConnectRequest(org_id=org_id, credential=CREDENTIAL), context()),
        servicer.Verify(pb.VerifyRequest(org_id=org_id, provider=cpb.PROVIDER_VAPI), context()),
        servicer.Disconnect(
            pb.IntegrationServiceDisconnectRequest(org_id=org_id, provider=cpb.PROVIDER_VAPI), context()
        ),
        servicer.Reconnect(pb.IntegrationServiceReconnectRequest(org_id=org_id, provider=cpb.PROVIDER_VAPI), context()),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await answer
        assert {"org_id"} == set(caught.value.fields)
    assert not verbs.asked


@pytest.mark.parametrize("person", ["x" * 257, "ä" * 129, "a\nb", "a\x00b"])
async def test_what_is_no_person(servicer: IntegrationServicer, verbs: FakeVerbs, person: str) -> None:
    origin = store.Origin(on_behalf_of=person)
    with pytest.raises(InvalidRequest) as caught:
        await servicer.Verify(pb.VerifyRequest(org_id="acme", provider=cpb.PROVIDER_VAPI, origin=origin), context())
    assert {"origin"} == set(caught.value.fields)
    assert not verbs.asked


async def test_no_credential_and_no_provider_are_refused(servicer: IntegrationServicer, verbs: FakeVerbs) -> None:
    with pytest.raises(InvalidRequest):
        await servicer.Connect(pb.ConnectRequest(org_id="acme"), context())
    with pytest.raises(InvalidRequest):
        await servicer.Verify(pb.VerifyRequest(org_id="acme"), context())
    assert not verbs.asked


async def test_the_providers_are_described(servicer: IntegrationServicer) -> None:
    described = (await servicer.DescribeProviders(pb.DescribeProvidersRequest(), context())).providers
    assert [cpb.PROVIDER_VAPI, cpb.PROVIDER_RESEND, cpb.PROVIDER_GOOGLE_CALENDAR] == [
        each.provider for each in described
    ]
    assert [False, False, True] == [each.by_consent for each in described]
    assert ["api_key"] == [field.name for field in described[0].fields]


async def test_a_credential_is_tested(servicer: IntegrationServicer, verbs: FakeVerbs) -> None:
    request = pb.TestCredentialRequest(org_id="acme", credential=CREDENTIAL)
    answer = await servicer.TestCredential(request, context())
    assert answer == pb.TestCredentialResponse(accepted=True, warnings=["Mind the gap."], account="the account")
    verbs.verdict = Refused(InvalidCredentials, "No.", "apiKeySecret")
    answer = await servicer.TestCredential(request, context())
    assert answer == pb.TestCredentialResponse(reason="INVALID_CREDENTIALS", message="No.", field="api_key_secret")


@pytest.mark.parametrize(
    "credential",
    [
        cpb.Credential(vapi=cpb.VapiCredential(api_key="key-0123456789-0123456789", webhook_secret="mine")),
        cpb.Credential(resend=cpb.ResendCredential(api_key="re_1", api_key_id="of-another")),
    ],
)
async def test_what_is_not_for_the_customer_to_give_is_refused(
    servicer: IntegrationServicer, verbs: FakeVerbs, credential: cpb.Credential
) -> None:
    for answer in (
        servicer.Connect(pb.ConnectRequest(org_id="acme", credential=credential), context()),
        servicer.TestCredential(pb.TestCredentialRequest(org_id="acme", credential=credential), context()),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await answer
        assert set(caught.value.fields) <= {"webhook_secret", "api_key_id"}
        assert caught.value.fields
    assert not verbs.asked


async def test_what_only_a_consent_gives_cannot_be_typed_in(servicer: IntegrationServicer, verbs: FakeVerbs) -> None:
    credential = cpb.Credential(google_calendar=cpb.GoogleCalendarCredential(refresh_token="r"))
    with pytest.raises(InvalidRequest, match="consent"):
        await servicer.Connect(pb.ConnectRequest(org_id="acme", credential=credential), context())
    assert not verbs.asked


async def test_a_consent_is_begun_and_ended(servicer: IntegrationServicer, verbs: FakeVerbs) -> None:
    google = cpb.PROVIDER_GOOGLE_CALENDAR
    begun = await servicer.StartOAuth(
        pb.StartOAuthRequest(org_id="acme", provider=google, session="s-1", origin=ADA), context()
    )
    assert "https://consent.test" == begun.authorization_url
    ended = await servicer.FinishOAuth(
        pb.FinishOAuthRequest(org_id="acme", provider=google, session="s-1", state="st", code="co", origin=ADA),
        context(),
    )
    assert (["calendar"], ["Mind the gap."]) == (list(ended.scopes), list(ended.warnings))
    rest = {
        "session": "s-1",
        "state": "st",
        "code": "co",
        "error": "",
        "on_behalf_of": "ada@example.com",
        "patience": 30.0,
    }
    assert [
        ("start", "acme", Provider.GOOGLE_CALENDAR, "s-1", "ada@example.com"),
        ("finish", "acme", Provider.GOOGLE_CALENDAR, rest),
    ] == verbs.asked


@pytest.mark.parametrize("session", ["", "x" * 257, "a\nb"])
async def test_what_is_no_session(servicer: IntegrationServicer, verbs: FakeVerbs, session: str) -> None:
    request = pb.StartOAuthRequest(org_id="acme", provider=cpb.PROVIDER_GOOGLE_CALENDAR, session=session)
    with pytest.raises(InvalidRequest) as caught:
        await servicer.StartOAuth(request, context())
    assert {"session"} == set(caught.value.fields)
    assert not verbs.asked


@pytest.mark.parametrize("state", ["", "x" * 257])
async def test_what_is_no_state(servicer: IntegrationServicer, verbs: FakeVerbs, state: str) -> None:
    request = pb.FinishOAuthRequest(
        org_id="acme", provider=cpb.PROVIDER_GOOGLE_CALENDAR, session="s-1", state=state, code="co"
    )
    with pytest.raises(InvalidRequest) as caught:
        await servicer.FinishOAuth(request, context())
    assert {"state"} == set(caught.value.fields)
    assert not verbs.asked


@pytest.mark.parametrize(("asked", "life"), [(None, 60.0), (Duration(seconds=300), 300.0)])
async def test_a_token_is_refreshed(
    servicer: IntegrationServicer, verbs: FakeVerbs, asked: Duration | None, life: float
) -> None:
    request = pb.RefreshAccessTokenRequest(org_id="acme", provider=cpb.PROVIDER_GOOGLE_CALENDAR, min_life=asked)
    answer = await servicer.RefreshAccessToken(request, context(5.0))
    assert [("refresh", "acme", Provider.GOOGLE_CALENDAR, life, 3.0)] == verbs.asked
    assert NOW.timestamp() == answer.expires_at.seconds


@pytest.mark.parametrize("asked", [Duration(), Duration(seconds=-1), Duration(seconds=1801)])
async def test_what_is_no_life_of_a_token(servicer: IntegrationServicer, verbs: FakeVerbs, asked: Duration) -> None:
    request = pb.RefreshAccessTokenRequest(org_id="acme", provider=cpb.PROVIDER_GOOGLE_CALENDAR, min_life=asked)
    with pytest.raises(InvalidRequest) as caught:
        await servicer.RefreshAccessToken(request, context())
    assert {"min_life"} == set(caught.value.fields)
    assert not verbs.asked


async def test_a_rotation_is_asked_for(servicer: IntegrationServicer, verbs: FakeVerbs) -> None:
    request = pb.RotateCredentialRequest(org_id="acme", provider=cpb.PROVIDER_RESEND, origin=ADA)
    assert 1 == (await servicer.RotateCredential(request, context())).integration.version
    assert [("rotate", "acme", Provider.RESEND, "ada@example.com", 30.0)] == verbs.asked
