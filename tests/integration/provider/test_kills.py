"""A worker that is killed at each step of a rotation or a refresh: real processes, the stand-ins for the providers.

After each kill, what consumers are given is tried at the provider. In the end everything is rotated and refreshed, and
nothing is left over there.
"""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration

from deploy.local.authority import DevelopmentAuthority
from services.provider import replacement
from services.provider.config import Config
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Accepted, Provider
from services.provider.registry import providers
from tenantvault.channel import call
from tenantvault.credentials import (
    ActiveCredential,
    Credential,
    GoogleCalendarCredential,
    ResendCredential,
    TwilioCredential,
)
from tenantvault.credentials import Provider as Name
from tenantvault.messages import PROVIDER_NUMBER, active_from_message, credential_to_message
from tenantvault.secret import Secret
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceStub
from tests.chaos.harness import Ground, Vault, eventually, vaults
from tests.chaos.workers import Worker
from tests.integration.conftest import Database

ORG = "acme"
DIGITS = "0123456789abcdef012345" + "4155550100"
TWILIO = TwilioCredential(account_sid=f"AC{DIGITS}", auth_token=Secret(DIGITS[::-1]), phone_number="+14155550100")
RESEND = ResendCredential(api_key=Secret("re_AbCdEfGh_AbCdEfGhJkMnPqRsTuVwXyZ2"))
REFRESH_STEPS = ("refreshed", "written")


@contextlib.asynccontextmanager
async def sandbox() -> AsyncIterator[str]:
    """The stand-ins, as a process; gives their URL."""
    with subprocess.Popen(  # noqa: ASYNC220 - it begins at once
        [sys.executable, "-m", "deploy.sandbox"],
        env={"TENANTVAULT_SANDBOX_LISTEN": "127.0.0.1:0", "TENANTVAULT_LOG_LEVEL": "warning", "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            line = await asyncio.to_thread(process.stdout.readline)
            yield line.removeprefix("sandbox: ").strip()
        finally:
            process.terminate()


def settings(url: str) -> dict[str, str]:
    """Of a worker between the stand-ins, in which every pause is short."""
    return {
        "TENANTVAULT_PROFILE": "local",
        "TENANTVAULT_VAPI_WEBHOOK_URL": "https://hooks.tenantvault.invalid/vapi",
        "TENANTVAULT_TWILIO_URL": f"{url}/twilio",
        "TENANTVAULT_TWILIO_ACCOUNTS_URL": f"{url}/twilio",
        "TENANTVAULT_RESEND_URL": f"{url}/resend",
        "TENANTVAULT_GOOGLE_URL": f"{url}/google",
        "TENANTVAULT_GOOGLE_CLIENT_ID": "test.apps.sandbox",
        "TENANTVAULT_GOOGLE_CLIENT_SECRET": "sandbox-secret",
        "TENANTVAULT_GOOGLE_REDIRECT_URL": "http://localhost:8400/oauth/google-calendar",
        "TENANTVAULT_WORK_LEASE_SECONDS": "1.5",
        "TENANTVAULT_CONNECT_LEASE_SECONDS": "1",
        "TENANTVAULT_ROTATION_OVERLAP_SECONDS": "0",
    }


class World:
    """An org that is connected with three providers, and whose rotations and refresh are due."""

    def __init__(self, vault: Vault, known: dict[Name, Provider[Credential]]) -> None:
        self._vault = vault
        self._known = known

    async def connect(self, credential: Credential, task: "store_pb.Task.ValueType") -> None:
        stub = IntegrationStoreServiceStub(self._vault.channel("provider"))
        request = store_pb.PutCredentialRequest(org_id=ORG, credential=credential_to_message(credential))
        version = (await call(stub.PutCredential, request)).version
        due = store_pb.ScheduledWork(task=task, due_in=Duration())
        (name,) = (name for name, provider in self._known.items() if isinstance(credential, provider.credential))
        activate = store_pb.RegisterResourcesRequest(
            org_id=ORG, provider=PROVIDER_NUMBER[name], version=version, schedule=store_pb.Schedule(work=[due])
        )
        await call(stub.RegisterResources, activate)

    async def active(self, name: Name) -> ActiveCredential[Credential]:
        """What a consumer is given now."""
        stub = CredentialAccessServiceStub(self._vault.channel("voice-agent"))
        request = access_pb.GetCredentialRequest(org_id=ORG, provider=PROVIDER_NUMBER[name])
        return active_from_message((await call(stub.GetCredential, request)).credential)

    async def assert_all_work(self) -> None:
        for name in (Name.TWILIO, Name.RESEND, Name.GOOGLE_CALENDAR):
            verdict = await self._known[name].test((await self.active(name)).credential)
            assert isinstance(verdict, Accepted), (name, verdict)


async def google_credential(known: dict[Name, Provider[Credential]], client: httpx.AsyncClient) -> Credential:
    """A consent that is given at once, to an account whose tokens last for a minute."""
    consent = known[Name.GOOGLE_CALENDAR].consent
    assert consent is not None
    url = consent.authorization_url(state="state-1") + "&sandbox_consent=allow&login_hint=short@acme.example"
    answer = await client.get(url)
    (code,) = parse_qs(urlsplit(answer.headers["location"]).query)["code"]
    credential = await consent.redeem(code=code, state="state-1")
    assert isinstance(credential, GoogleCalendarCredential)
    return credential


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("chaos")
async def test_killed_at_each_step_what_is_active_works_and_the_work_is_finished(
    fresh_database: Database, authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    ground = Ground(fresh_database, authority, tmp_path)
    async with sandbox() as url, vaults(ground, 1) as (vault,), new_client() as client:
        known = {each.name: each for each in providers(Outbound(client), Config.from_env(settings(url)))}
        world = World(vault, known)
        await world.connect(TWILIO, store_pb.TASK_ROTATE)
        await world.connect(RESEND, store_pb.TASK_ROTATE)
        await world.connect(await google_credential(known, client), store_pb.TASK_REFRESH)
        for step in (*replacement.STEPS, *REFRESH_STEPS):
            # A refresh is through in one life; the rotations take as many as there are steps.
            await fresh_database.admin("UPDATE tasks SET due_at = now() WHERE task = 'refresh'")
            own = settings(url) | {"TENANTVAULT_CHECKPOINT_KILL": step}
            async with _running(Worker(ground, step, vault=vault, settings=own)) as worker:
                assert await worker.gone(within=30) == -signal.SIGKILL, step
            await world.assert_all_work()
        async with _running(Worker(ground, "last", vault=vault, settings=settings(url))) as last:
            assert await eventually(lambda: _is_through(fresh_database))
            await world.assert_all_work()
            assert not last.failures()
        await _assert_rotated(world)


@contextlib.asynccontextmanager
async def _running(worker: Worker) -> AsyncIterator[Worker]:
    worker.start()
    try:
        yield worker
    finally:
        await worker.end(signal.SIGTERM)


async def _is_through(database: Database) -> bool:
    [row] = await database.admin(
        "SELECT count(*) AS left FROM tasks WHERE due_at <= now() + interval '10 s' OR owner <> ''"
    )
    await asyncio.sleep(0.1)
    return bool(row["left"] == 0)


async def _assert_rotated(world: World) -> None:
    twilio = (await world.active(Name.TWILIO)).credential
    resend = (await world.active(Name.RESEND)).credential
    google = (await world.active(Name.GOOGLE_CALENDAR)).credential
    assert isinstance(twilio, TwilioCredential)
    assert twilio.auth_token != TWILIO.auth_token
    assert isinstance(resend, ResendCredential)
    assert resend.api_key != RESEND.api_key
    assert isinstance(google, GoogleCalendarCredential)
