"""The saga: what it does, and what a failure, a cancellation or a kill at any point of it leaves behind."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest

from services.provider.connect import STEPS, Connect
from services.provider.integration import State
from services.provider.lease import Leases
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Accepted, Checkpoint, Refused, pass_by
from services.provider.providers.twilio import Twilio
from services.provider.providers.vapi import Vapi
from services.provider.work import Task, Timetable
from tenantvault.credentials import Provider, Resource, ResourceKind, TwilioCredential, VapiCredential
from tenantvault.errors import (
    InvalidCredentials,
    InvalidRequest,
    LeaseHeld,
    ProviderUnavailable,
    ProviderUnreachable,
    RateLimited,
    ResourceConflict,
    TenantVaultError,
    Unavailable,
    VaultUnavailable,
    VersionConflict,
    WrongCredentialType,
)
from tenantvault.secret import Secret
from tests.unit.services.provider.fake_vapi import BASE, KEY, FakeVapi, lost_after
from tests.unit.services.provider.fake_vault import FakeVault

ORG = ("acme", Provider.VAPI)
TYPED = VapiCredential(api_key=Secret(f" Bearer {KEY} "))
ALL_STEPS = ["leased", "tested", "stored", "assistant_inbound", "assistant_outbound", "provisioned", "registered"]


async def brief_sleep(seconds: float) -> None:
    """Short pauses take no time; a lease's keeper sleeps for as long as the test runs."""
    if seconds >= 1:
        await asyncio.Event().wait()
    await asyncio.sleep(0)


async def no_sleep(seconds: float) -> None:
    del seconds


class World:
    """The saga between a fake vault and a fake Vapi."""

    def __init__(self, vault: FakeVault | None = None, vapi: FakeVapi | None = None) -> None:
        self.vault = vault or FakeVault()
        self.vapi = vapi or FakeVapi()
        self.steps: list[str] = []

    def connect(self, checkpoint: Checkpoint | None = None) -> Connect:
        outbound = Outbound(new_client(self.vapi.client()), sleep=no_sleep)
        provider = Vapi(outbound, urls={"us": BASE}, webhook_url="https://hooks.test/vapi", sleep=no_sleep)
        leases = Leases(self.vault, seconds=15.0, sleep=brief_sleep)
        providers = (provider, Twilio(outbound, url=BASE, accounts_url=BASE))
        timetable = Timetable(now=self.vault.moment, jitter=lambda: 0.5)
        return Connect(self.vault, providers, leases, timetable, checkpoint=checkpoint or self._note)

    async def attempt(self, credential: VapiCredential) -> None:
        """One attempt, as of a process that has just started."""
        await self.connect()("acme", credential)

    async def _note(self, step: str) -> None:
        self.steps.append(step)

    def assert_proves_by(self, version: int) -> None:
        stored = self.vault.stored(*ORG, version)
        assert isinstance(stored, VapiCredential)
        secrets = {each["server"]["headers"]["X-Vapi-Secret"] for each in self.vapi.assistants}
        assert {stored.webhook_secret.reveal()} == secrets

    def pulse_both(self, pulse: Callable[[str], None]) -> None:
        self.vault.pulse = self.vapi.pulse = pulse

    def assert_connected_once(self) -> None:
        found = self.vapi.of("acme")
        assert {"inbound": 1, "outbound": 1} == {role: len(each) for role, each in found.items()}
        integration = self.vault.integrations[ORG]
        assert integration.state is State.CONNECTED
        assert (1, 1) == (integration.version, integration.latest_version)
        assert (
            tuple(Resource(ResourceKind.VAPI_ASSISTANT, found[role][0]["id"], role) for role in ("inbound", "outbound"))
            == integration.resources
        )
        (stored,) = self.vault.versions[ORG]
        assert isinstance(stored, VapiCredential)
        secret = stored.webhook_secret.reveal()
        assert secret
        for assistants in found.values():
            assert {"X-Vapi-Secret": secret} == assistants[0]["server"]["headers"]


@pytest.fixture
def world() -> World:
    return World()


async def test_a_connect_ends_with_everything_in_place(world: World) -> None:
    report = await world.connect()("acme", TYPED, on_behalf_of="ada")
    world.assert_connected_once()
    assert await world.vault.integration(*ORG) == report.integration
    assert ALL_STEPS == world.steps
    assert ["ada", "ada"] == world.vault.origins
    assert not world.vault.leases


def test_the_steps_are_named() -> None:
    assert {step for step in ALL_STEPS if not step.startswith("assistant")} == set(STEPS)


async def test_what_is_stored_is_what_was_meant(world: World) -> None:
    await world.connect()("acme", TYPED)
    (stored,) = world.vault.versions[ORG]
    assert isinstance(stored, VapiCredential)
    assert Secret(KEY) == stored.api_key


async def test_connecting_again_changes_nothing(world: World) -> None:
    connect = world.connect()
    first = await connect("acme", TYPED)
    world.vapi.requests.clear()
    assert first.integration == (await connect("acme", TYPED)).integration
    world.assert_connected_once()
    asked = [(request.method, request.url.path) for request in world.vapi.requests]
    ids = [resource.resource_id for resource in first.integration.resources]
    assert [("GET", "/assistant"), *(("GET", f"/assistant/{assistant_id}") for assistant_id in ids)] == asked


async def test_another_webhook_secret_is_another_version_and_the_same_assistants(world: World) -> None:
    connect = world.connect()
    first = await connect("acme", TYPED)
    second = await connect("acme", replace(TYPED, webhook_secret=Secret("customers-own")))
    assert 2 == second.integration.version
    assert first.integration.resources == second.integration.resources
    assert {"customers-own"} == {each["server"]["headers"]["X-Vapi-Secret"] for each in world.vapi.assistants}


async def test_malformed_fields_stop_before_anything_is_asked(world: World) -> None:
    with pytest.raises(InvalidRequest):
        await world.connect()("acme", VapiCredential(api_key=Secret("short")))
    assert not world.vault.calls
    assert not world.vapi.requests


async def test_a_credential_that_nobody_takes_is_refused(world: World) -> None:
    connect = Connect(world.vault, (), Leases(world.vault, seconds=15.0), Timetable())
    with pytest.raises(InvalidRequest):
        await connect("acme", TYPED)


async def test_a_credential_of_another_provider_goes_to_its_own(world: World) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await world.connect()("acme", TwilioCredential(account_sid="x", phone_number="y"))
    assert "accountSid" in caught.value.fields


async def test_a_refused_key_stores_nothing_and_names_the_field(world: World) -> None:
    world.vapi.faults["GET"] = deque([lambda *_: httpx.Response(401, json={"message": "Invalid Key."})])
    with pytest.raises(InvalidCredentials) as caught:
        await world.connect()("acme", TYPED)
    assert {"apiKey"} == set(caught.value.fields)
    assert not world.vault.versions
    assert not world.vault.leases
    assert ["leased"] == world.steps


async def test_a_key_of_the_wrong_kind_stores_nothing(world: World) -> None:
    with pytest.raises(WrongCredentialType):
        await world.connect()("acme", VapiCredential(api_key=Secret("sk_" + "0" * 48)))
    assert not world.vault.versions


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(429, json={}, headers={"Retry-After": "60"}), RateLimited),
        (httpx.Response(503, json={}), ProviderUnavailable),
        (httpx.Response(502, html="<html>"), ProviderUnavailable),
    ],
)
async def test_a_provider_without_an_answer_leaves_a_connection_as_it_was(
    world: World, answer: httpx.Response, error: type[TenantVaultError]
) -> None:
    connect = world.connect()
    await connect("acme", TYPED)
    before = dict(world.vault.integrations)
    world.vapi.faults["GET"] = deque([lambda *_: answer] * 3)
    with pytest.raises(error) as caught:
        await connect("acme", VapiCredential(api_key=Secret("another-key-0123456789")))
    assert caught.value.retryable
    assert before == world.vault.integrations
    assert 1 == len(world.vault.versions[ORG])
    assert not world.vault.leases


async def test_a_resource_of_another_org_is_said_and_what_was_made_is_released(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(*_: object, **__: object) -> None:
        raise ResourceConflict

    monkeypatch.setattr(world.vault, "register", taken)
    with pytest.raises(ResourceConflict):
        await world.connect()("acme", TYPED)
    assert 0 == world.vault.integrations[ORG].version
    assert not world.vault.leases
    assert not world.vapi.assistants


async def test_a_connection_that_is_there_keeps_what_it_has_when_its_change_conflicts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.connect()("acme", TYPED)

    async def taken(*_: object, **__: object) -> None:
        raise ResourceConflict

    monkeypatch.setattr(world.vault, "register", taken)
    with pytest.raises(ResourceConflict):
        await world.connect()("acme", TYPED)
    assert 2 == len(world.vapi.assistants)


async def test_a_disconnect_in_the_middle_of_a_connect_stands(world: World) -> None:
    await world.connect()("acme", TYPED)

    async def disconnected(step: str) -> None:
        if step == "tested":
            await world.vault.disconnect(*ORG, on_behalf_of="ada")

    with pytest.raises(VersionConflict):
        await world.connect(disconnected)("acme", replace(TYPED, webhook_secret=Secret("customers-own")))
    assert State.DISCONNECTED is world.vault.integrations[ORG].state


class Stop:
    """Ends what is under way at the n-th point, counted over the vault and the provider."""

    def __init__(self, point: int, *, kill: bool) -> None:
        self.left = point
        self.kill = kill

    def __call__(self, where: str) -> None:
        self.left -= 1
        if self.left == -1:
            if self.kill:
                raise asyncio.CancelledError
            if where == "vault":
                raise VaultUnavailable
            raise httpx.ReadTimeout("lost")

    @property
    def happened(self) -> bool:
        return self.left < 0


async def until_done(attempt: Callable[[], Coroutine[Any, Any, Any]], vault: FakeVault) -> int:
    """Try until it works, as a customer would; returns how often. Leases of the dead run out in between."""
    for count in range(1, 5):
        try:
            await attempt()
        except (Unavailable, ProviderUnreachable, asyncio.CancelledError):
            vault.time += 15.0
        else:
            return count
    raise AssertionError("it never worked")


@pytest.mark.parametrize("ending", ["killed", "failed"])
async def test_stopped_at_any_point_a_retry_finishes_it_without_a_duplicate(ending: str) -> None:
    retried = 0
    for point in itertools.count():
        world = World()
        stop = Stop(point, kill=ending == "killed")
        world.pulse_both(stop)
        retried += await until_done(partial(world.attempt, TYPED), world.vault) > 1
        world.assert_connected_once()
        if not stop.happened:
            break
    assert point >= 20
    assert retried > point / 2


@pytest.mark.parametrize("ending", ["killed", "failed"])
async def test_stopped_at_any_point_a_reconfiguration_is_never_half_visible(ending: str) -> None:
    for point in itertools.count():
        world = World()
        await world.connect()("acme", TYPED)
        before = world.vault.integrations[ORG]
        stop = Stop(point, kill=ending == "killed")
        world.pulse_both(stop)
        changed = replace(TYPED, webhook_secret=Secret("customers-own"))
        try:
            await world.connect()("acme", changed)
        except (TenantVaultError, asyncio.CancelledError):
            after = world.vault.integrations[ORG]
            assert replace(after, latest_version=1) == before or after.version == 2
            if after.version == 1:
                world.assert_proves_by(1)
        world.vault.time += 15.0
        await until_done(partial(world.attempt, changed), world.vault)
        assert 2 == world.vault.integrations[ORG].version
        assert before.resources == world.vault.integrations[ORG].resources
        assert 2 == len(world.vapi.assistants)
        world.assert_proves_by(2)
        if not stop.happened:
            break


@pytest.mark.parametrize("step", ALL_STEPS)
async def test_killed_after_a_step_a_retry_finishes_it(world: World, step: str) -> None:
    async def die(at: str) -> None:
        if at == step:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await world.connect(die)("acme", TYPED)
    if step != "registered":
        assert world.vault.integrations.get(ORG) is None or world.vault.integrations[ORG].version == 0
    assert world.vault.leases
    world.vault.time += 15.0
    await world.connect(pass_by)("acme", TYPED)
    world.assert_connected_once()


async def test_a_retry_waits_until_the_lease_of_the_dead_has_run_out(world: World) -> None:
    world.vault.leases[ORG] = ("the dead", 15.0)
    with pytest.raises(LeaseHeld):
        await world.connect()("acme", TYPED, patience=0.01)
    assert not world.vapi.requests
    world.vault.time = 15.0
    await world.connect()("acme", TYPED, patience=0.01)
    world.assert_connected_once()


async def test_fifty_at_once_end_as_one(world: World) -> None:
    connect = world.connect()
    reports = await asyncio.gather(*(connect("acme", TYPED) for _ in range(50)))
    world.assert_connected_once()
    assert {1} == {report.integration.version for report in reports}
    assert (2, 0) == (world.vapi.count("POST"), world.vapi.count("PATCH"))


async def test_fifty_at_once_over_several_processes_end_as_one(world: World) -> None:
    processes = [world.connect() for _ in range(5)]
    await asyncio.gather(*(process("acme", TYPED) for process in processes for _ in range(10)))
    world.assert_connected_once()
    assert 2 == world.vapi.count("POST")


async def test_fifty_at_once_with_answers_getting_lost_end_as_one(world: World) -> None:
    world.vapi.faults["POST"] = deque([lost_after, lost_after])
    connect = world.connect()
    await asyncio.gather(*(connect("acme", TYPED) for _ in range(50)))
    world.assert_connected_once()


async def test_orgs_do_not_wait_for_each_other(world: World) -> None:
    connect = world.connect()
    world.vault.leases["globex", Provider.VAPI] = ("other", 15.0)
    await connect("acme", TYPED, patience=0.01)
    world.assert_connected_once()


async def test_a_lease_lost_in_the_middle_stops_the_work(world: World) -> None:
    woken = asyncio.Event()

    async def keeper_sleep(seconds: float) -> None:
        del seconds
        await woken.wait()
        woken.clear()

    async def lose(step: str) -> None:
        if step == "assistant_inbound":
            world.vault.leases[ORG] = ("other", 100.0)
            woken.set()
            await asyncio.Event().wait()

    connect = world.connect(lose)
    connect._leases._sleep = keeper_sleep
    with pytest.raises(LeaseHeld) as caught:
        await asyncio.wait_for(connect("acme", TYPED), timeout=5)
    assert caught.value.retryable
    assert 0 == world.vault.integrations[ORG].version
    assert {"inbound"} == set(world.vapi.of("acme"))
    assert ("other", 100.0) == world.vault.leases[ORG]
    world.vault.time = 100.0
    await world.connect()("acme", TYPED)
    world.assert_connected_once()


async def test_a_worker_that_slept_through_the_loss_registers_nothing(world: World) -> None:
    async def lose(step: str) -> None:
        if step == "provisioned":
            world.vault.leases[ORG] = ("other", 100.0)

    with pytest.raises(LeaseHeld):
        await world.connect(lose)("acme", TYPED)
    assert 0 == world.vault.integrations[ORG].version


async def test_a_twilio_account_is_connected_with_its_warnings() -> None:
    numbers = {"incoming_phone_numbers": [{"phone_number": "+14155550100", "capabilities": {"voice": True}}]}

    def answer(request: httpx.Request) -> httpx.Response:
        body = numbers if "Numbers" in request.url.path else {"status": "active", "type": "Trial"}
        return httpx.Response(200, json=body)

    vault = FakeVault()
    twilio = Twilio(Outbound(new_client(httpx.MockTransport(answer))), url=BASE, accounts_url=BASE)
    connect = Connect(vault, (twilio,), Leases(vault, seconds=15.0), Timetable())
    credential = TwilioCredential(
        account_sid="AC" + "0" * 32, auth_token=Secret("1" * 32), phone_number="+1 415 555 0100"
    )
    report = await connect("acme", credential)
    assert report.integration.state is State.CONNECTED
    assert ["account", "voice"] == [resource.role for resource in report.integration.resources]
    assert 1 == len(report.warnings)
    assert report.warnings == report.integration.warnings


async def test_a_connect_schedules_the_work_that_comes_after_it(world: World) -> None:
    report = await world.connect()("acme", TYPED)
    due = {task: (row.due_at, row.by_hand) for (_, _, task), row in world.vault.tasks.items()}
    assert {Task.VERIFY: (86_400.0, False), Task.ROTATE: (90 * 86_400.0, True)} == due
    assert not report.integration.rotates_by_itself


async def test_a_credential_is_tested_without_a_trace(world: World) -> None:
    assert isinstance(await world.connect().test(TYPED), Accepted)
    world.vapi.faults["GET"] = deque([lambda *_: httpx.Response(401, json={"message": "Invalid Key."})])
    verdict = await world.connect().test(TYPED)
    assert isinstance(verdict, Refused)
    assert verdict.kind is InvalidCredentials
    with pytest.raises(InvalidRequest):
        await world.connect().test(VapiCredential(api_key=Secret("short")))
    assert not world.vault.calls
    assert {"GET"} == {request.method for request in world.vapi.requests}
