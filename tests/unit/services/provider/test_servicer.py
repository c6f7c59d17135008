from typing import Any, cast

import pytest

from services.provider.connect import Connect
from services.provider.integration import Integration, Report, State
from services.provider.lifecycle import Lifecycle
from services.provider.servicer import IntegrationServicer
from services.rpc.middleware import Context
from tenantvault.credentials import Provider, VapiCredential
from tenantvault.errors import InvalidRequest
from tenantvault.secret import Secret
from tenantvault.v1 import credential_pb2 as cpb
from tenantvault.v1 import integration_service_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store

REPORT = Report(Integration(provider=Provider.VAPI, state=State.CONNECTED, version=1), ("Mind the gap.",))
CREDENTIAL = cpb.Credential(vapi=cpb.VapiCredential(api_key="key-0123456789-0123456789"))
ADA = store.Origin(on_behalf_of="ada@example.com")


class FakeVerbs:
    """The saga and the lifecycle in one, noting what they are asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    async def __call__(self, org_id: str, credential: object, *, on_behalf_of: str, patience: float) -> Report:
        self.asked.append(("connect", org_id, credential, on_behalf_of, patience))
        return REPORT

    async def verify(self, org_id: str, name: Provider, *, on_behalf_of: str) -> Report:
        self.asked.append(("verify", org_id, name, on_behalf_of))
        return REPORT

    async def disconnect(self, org_id: str, name: Provider, *, on_behalf_of: str) -> Report:
        self.asked.append(("disconnect", org_id, name, on_behalf_of))
        return REPORT

    async def reconnect(self, org_id: str, name: Provider, *, on_behalf_of: str) -> Report:
        self.asked.append(("reconnect", org_id, name, on_behalf_of))
        return REPORT


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
    return IntegrationServicer(cast("Connect", verbs), cast("Lifecycle", verbs))


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
    assert 1 == (await servicer.Disconnect(request, context())).integration.version
    assert [("disconnect", "acme", Provider.VAPI, "")] == verbs.asked


async def test_reconnect(servicer: IntegrationServicer, verbs: FakeVerbs) -> None:
    request = pb.IntegrationServiceReconnectRequest(org_id="acme", provider=cpb.PROVIDER_TWILIO)
    answer = await servicer.Reconnect(request, context())
    assert (1, list(REPORT.warnings)) == (answer.integration.version, list(answer.warnings))
    assert [("reconnect", "acme", Provider.TWILIO, "")] == verbs.asked


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
