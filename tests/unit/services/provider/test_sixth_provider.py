"""A sixth provider is a small thing, and the page that leads to it speaks of what is there."""

import re
from pathlib import Path

import httpx
import pytest

from services.provider import provider
from services.provider.connect import Connect
from services.provider.integration import State
from services.provider.lease import Leases
from services.provider.outbound import Outbound, new_client
from services.provider.work import Timetable
from tenantvault.credentials import Provider, ResendCredential
from tenantvault.errors import AccountSuspended, InvalidCredentials, TenantVaultError
from tenantvault.secret import Secret
from tests.suites.provider_exam import *  # noqa: F403 - the exam is the test
from tests.suites.provider_exam import Case, Handler
from tests.unit.services.provider import sixth
from tests.unit.services.provider.fake_vault import FakeVault
from tests.unit.services.provider.sixth import ExampleMail

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs/adding-a-provider.md"
CREDENTIAL = ResendCredential(api_key=Secret("em_a-key-of-acme"), webhook_secret=Secret("a-webhook-secret-of-acme"))
MOST_LINES = 150


def vendor(**account: str) -> Handler:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.headers["Authorization"] != "Bearer em_a-key-of-acme":
            return httpx.Response(401, json={"error": "unknown key"})
        return httpx.Response(200, json={"name": "Acme", "state": "active"} | account)

    return handle


@pytest.fixture
def case() -> Case:
    return Case(
        provider=lambda outbound: ExampleMail(outbound, url="https://api.mail.example"),
        credential=CREDENTIAL,
        vendor=vendor,
        knows_no_key=lambda _: httpx.Response(401, json={"error": "unknown key"}),
    )


def connect(vault: FakeVault, handler: Handler) -> Connect:
    outbound = Outbound(new_client(httpx.MockTransport(handler)))
    sixth_provider = ExampleMail(outbound, url="https://api.mail.example")
    return Connect(vault, (sixth_provider,), Leases(vault, seconds=15.0), Timetable())


async def test_it_can_be_connected() -> None:
    vault = FakeVault()
    report = await connect(vault, vendor())("acme", CREDENTIAL)
    assert (State.CONNECTED, 1, "Acme") == (
        report.integration.state,
        report.integration.version,
        report.integration.account,
    )
    assert [CREDENTIAL] == vault.versions["acme", Provider.RESEND]
    assert () == report.warnings


async def test_a_webhook_secret_that_is_left_open_stays() -> None:
    vault = FakeVault()
    await connect(vault, vendor())("acme", CREDENTIAL)
    await connect(vault, vendor())("acme", ResendCredential(api_key=CREDENTIAL.api_key))
    assert [CREDENTIAL] == vault.versions["acme", Provider.RESEND]


@pytest.mark.parametrize(
    ("handler", "key", "error"),
    [(vendor(), "another-key", InvalidCredentials), (vendor(state="suspended"), "em_a-key-of-acme", AccountSuspended)],
)
async def test_what_is_refused_is_not_stored(handler: Handler, key: str, error: type[TenantVaultError]) -> None:
    vault = FakeVault()
    with pytest.raises(error) as caught:
        await connect(vault, handler)("acme", ResendCredential(api_key=Secret(key)))
    assert {"apiKey"} == set(caught.value.fields)
    assert not vault.versions


def test_it_takes_as_few_lines_as_the_page_says() -> None:
    lines = Path(sixth.__file__).read_text("utf-8").splitlines()
    assert len(lines) < MOST_LINES
    assert f"under {MOST_LINES} lines" in PAGE.read_text("utf-8")


def places() -> set[str]:
    """The files in the page's table."""
    return set(re.findall(r"^\| `([\w.-]+/[\w./-]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))


def named() -> set[str]:
    """The files of the product that name ElevenLabs, without its own: those that have to be touched for a provider."""
    tops = ("proto", "clients/python/src", "services", "gateway", "deploy")
    files = [path for top in tops for path in (ROOT / top).rglob("*") if path.suffix in _CODE]
    found = {
        path.relative_to(ROOT) for path in files if re.search("eleven_?labs", path.read_text("utf-8"), re.IGNORECASE)
    }
    return {str(path) for path in found if not (_OWN.search(str(path)) or str(path) in _PASSING)}


_CODE = {".py", ".proto", ".toml", ".html", ".js", ".css", ".json"}
_OWN = re.compile(r"/v1/\w+_pb2|/elevenlabs")
# They recognise its keys in their own fields.
_PASSING = {"services/provider/providers/vapi/account.py", "services/provider/providers/resend/form.py"}


def test_every_place_that_the_page_names_is_one() -> None:
    assert {place for place in places() if not (ROOT / place).exists()} == set()
    assert places() - named() <= {
        "tests/unit/services/provider/test_exam.py",
        "tests/unit/services/provider/fake_vault.py",
    }


def test_the_page_names_every_place() -> None:
    assert named() - places() == set()


def test_the_page_shows_no_method_that_the_port_does_not_have() -> None:
    shown = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))
    of_the_port = {name for name in vars(provider.Provider) if not name.startswith("_")}
    assert of_the_port == shown
