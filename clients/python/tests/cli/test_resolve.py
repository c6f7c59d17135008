"""`tenantvault resolve`: whose a resource is."""

from typing import Any

import pytest

from tenantvault.errors import ResourceNotFound
from tenantvault.v1.credential_pb2 import ResourceKind
from tenantvault.v1.directory_service_pb2 import ResolveOrgResponse

pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket

RESOLVE = ("resolve", "Phone_Number", "+15005550006")


@pytest.fixture(autouse=True)
def answers(vault: Any) -> None:
    vault.answers["ResolveOrg"] = ResolveOrgResponse(org_id="acme", role="sms", generation=7, served_stale=True)


def test_the_org_and_the_role_are_shown(run: Any, vault: Any) -> None:
    ran = run(*RESOLVE)

    (request,) = vault.requests
    assert (0, ["acme", "sms", "7"]) == (ran.status, ran.lines[1].split())
    assert (ResourceKind.RESOURCE_KIND_PHONE_NUMBER, "+15005550006") == (request.kind, request.resource_id)
    assert "could not be asked" in ran.lines[-1]
    assert {
        "kind": "phone_number",
        "resource_id": "+15005550006",
        "org_id": "acme",
        "role": "sms",
        "generation": 7,
        "served_stale": True,
    } == run(*RESOLVE, "--json").data


def test_what_is_nobodys_is_refused(run: Any, vault: Any) -> None:
    vault.answers["ResolveOrg"] = vault.refuse(ResourceNotFound())

    assert (3, ResourceNotFound.reason) == ((ran := run(*RESOLVE, "--json")).status, ran.error["reason"])


@pytest.mark.parametrize(
    ("kind", "resource", "said"),
    [
        ("assistant", "x", "give one of vapi_assistant, phone_number, twilio_account."),
        ("phone_number", "", "at most 256 bytes"),
        ("phone_number", "1" * 257, "at most 256 bytes"),
    ],
)
def test_what_is_no_resource_is_not_asked_for(run: Any, vault: Any, kind: str, resource: str, said: str) -> None:
    ran = run("resolve", kind, resource)

    assert (2, []) == (ran.status, vault.calls)
    assert said in ran.err
