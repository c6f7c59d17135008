import httpx
import pytest

from services.provider.integration import State
from services.provider.lifecycle import Lifecycle
from services.provider.outbound import Outbound, new_client
from services.provider.providers.vapi import Vapi
from tenantvault.credentials import Provider, Resource, ResourceKind, VapiCredential
from tenantvault.errors import (
    CredentialNotFound,
    InvalidRequest,
    ProviderUnavailable,
    ProviderUnreachable,
    RateLimited,
    VersionConflict,
)
from tenantvault.secret import Secret
from tests.unit.services.provider.fake_vapi import BASE, KEY
from tests.unit.services.provider.fake_vault import FakeVault, connected

ORG = ("acme", Provider.VAPI)
CREDENTIAL = VapiCredential(api_key=Secret(KEY), webhook_secret=Secret("hook-secret-1"))


async def no_sleep(seconds: float) -> None:
    del seconds


class Desk:
    """The verbs on a connected integration, with a Vapi that always gives the same answer."""

    def __init__(self, answer: httpx.Response | Exception) -> None:
        self.vault = FakeVault()
        connected(self.vault, *ORG, CREDENTIAL, Resource(ResourceKind.VAPI_ASSISTANT, "a-1", "inbound"))
        self.before = self.vault.integrations[ORG]
        self.answer = answer
        outbound = Outbound(new_client(httpx.MockTransport(self._handle)), sleep=no_sleep)
        vapi = Vapi(outbound, urls={"us": BASE}, webhook_url="https://hooks.test/vapi")
        self.lifecycle = Lifecycle(self.vault, (vapi,))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


YES = httpx.Response(200, json=[])
NO = httpx.Response(401, json={"message": "Invalid Key."})
NO_ANSWERS = [
    (httpx.ConnectError("away"), ProviderUnavailable),
    (httpx.ReadTimeout("slow"), ProviderUnavailable),
    (httpx.Response(500, json={}), ProviderUnavailable),
    (httpx.Response(429, json={}), RateLimited),
    (httpx.Response(401, html="<html>Proxy</html>"), ProviderUnavailable),
]


async def test_a_yes_is_recorded() -> None:
    desk = Desk(YES)
    report = await desk.lifecycle.verify(*ORG, on_behalf_of="ada")
    assert report.integration.state is State.CONNECTED
    assert not report.warnings
    assert ["ada"] == desk.vault.origins


async def test_a_no_is_recorded_with_its_sentence_and_is_no_error() -> None:
    desk = Desk(NO)
    report = await desk.lifecycle.verify(*ORG)
    assert report.integration.state is State.REFUSED
    assert "does not recognise" in report.integration.verification_error


@pytest.mark.parametrize(("answer", "error"), NO_ANSWERS)
async def test_no_answer_is_an_error_and_records_nothing(
    answer: httpx.Response | Exception, error: type[ProviderUnreachable]
) -> None:
    desk = Desk(answer)
    with pytest.raises(error) as caught:
        await desk.lifecycle.verify(*ORG)
    assert caught.value.retryable
    assert ["credential"] == desk.vault.calls
    assert desk.before == desk.vault.integrations[ORG]


async def test_a_no_that_was_mended_becomes_a_yes() -> None:
    desk = Desk(NO)
    await desk.lifecycle.verify(*ORG)
    desk.answer = YES
    report = await desk.lifecycle.verify(*ORG)
    assert (State.CONNECTED, "") == (report.integration.state, report.integration.verification_error)


async def test_what_is_not_connected_cannot_be_verified() -> None:
    desk = Desk(YES)
    with pytest.raises(CredentialNotFound):
        await desk.lifecycle.verify("globex", Provider.VAPI)


async def test_a_version_that_changed_meanwhile_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(NO)
    read = desk.vault.credential

    async def older(org_id: str, provider: Provider) -> object:
        active = await read(org_id, provider)
        desk.vault.integrations[ORG] = type(desk.before)(provider=Provider.VAPI, state=State.CONNECTED, version=2)
        return active

    monkeypatch.setattr(desk.vault, "credential", older)
    with pytest.raises(VersionConflict):
        await desk.lifecycle.verify(*ORG)
    assert desk.vault.integrations[ORG].state is State.CONNECTED


async def test_a_disconnect_asks_nobody() -> None:
    desk = Desk(AssertionError())
    report = await desk.lifecycle.disconnect(*ORG, on_behalf_of="ada")
    assert report.integration.state is State.DISCONNECTED
    assert ["ada"] == desk.vault.origins
    with pytest.raises(CredentialNotFound):
        await desk.lifecycle.verify(*ORG)


async def test_a_reconnect_verifies() -> None:
    desk = Desk(NO)
    await desk.lifecycle.disconnect(*ORG)
    report = await desk.lifecycle.reconnect(*ORG, on_behalf_of="ada")
    assert report.integration.state is State.REFUSED
    assert ["", "ada", "ada"] == desk.vault.origins


@pytest.mark.parametrize(("answer", "error"), NO_ANSWERS)
async def test_a_reconnect_stands_when_the_provider_is_away(
    answer: httpx.Response | Exception, error: type[ProviderUnreachable]
) -> None:
    desk = Desk(answer)
    await desk.lifecycle.disconnect(*ORG)
    report = await desk.lifecycle.reconnect(*ORG)
    assert report.integration.state is State.CONNECTED
    assert 1 == len(report.warnings)


async def test_what_was_never_connected_cannot_be_reconnected() -> None:
    with pytest.raises(CredentialNotFound):
        await Desk(YES).lifecycle.reconnect("globex", Provider.VAPI)


@pytest.mark.parametrize("verb", ["verify", "disconnect", "reconnect"])
async def test_a_provider_that_is_not_there_yet_is_refused(verb: str) -> None:
    desk = Desk(YES)
    with pytest.raises(InvalidRequest) as caught:
        await getattr(desk.lifecycle, verb)("acme", Provider.RESEND)
    assert {"provider"} == set(caught.value.fields)
    assert not desk.vault.calls
