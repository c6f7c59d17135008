"""`tenantvault org`: freeze, unfreeze, shred."""

from typing import Any

import pytest

from tenantvault.errors import OrgShredded
from tenantvault.v1.admin_service_pb2 import FreezeOrgResponse, ShredOrgResponse, UnfreezeOrgResponse

pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket

SHRED = ("org", "shred", "acme")


@pytest.fixture(autouse=True)
def answers(vault: Any) -> None:
    vault.answers |= {
        "FreezeOrg": FreezeOrgResponse(generation=12),
        "UnfreezeOrg": UnfreezeOrgResponse(generation=13),
        "ShredOrg": ShredOrgResponse(generation=14),
    }


@pytest.mark.parametrize(
    ("command", "method", "said", "data"),
    [
        ("freeze", "FreezeOrg", "acme is frozen", {"frozen": True, "generation": 12}),
        ("unfreeze", "UnfreezeOrg", "acme is not frozen any more", {"frozen": False, "generation": 13}),
    ],
)
def test_a_freeze_and_its_end(run: Any, vault: Any, command: str, method: str, said: str, data: Any) -> None:
    ran = run("org", command, "acme")

    ((called, request),) = vault.calls
    assert 0 == ran.status
    assert ran.out.startswith(said)
    assert (method, "acme", "grace") == (called, request.org_id, request.origin.on_behalf_of)
    assert {"org_id": "acme", **data} == run("org", command, "acme", "--json").data


def test_shredding_wants_the_orgs_id_typed(run: Any, vault: Any) -> None:
    ran = run(*SHRED, typed="acme\n")

    (request,) = vault.requests
    assert (0, "The keys of acme are destroyed. Its audit is kept.\n") == (ran.status, ran.out)
    assert ran.err.startswith("This destroys the keys of acme. Nothing of it can be read again")
    assert ("acme", "acme", "grace") == (request.org_id, request.confirm_org_id, request.origin.on_behalf_of)


@pytest.mark.parametrize("typed", ["\n", "y\n", "yes\n", "ACME\n", "acme2\n", "globex\n"])
def test_anything_else_that_is_typed_shreds_nothing(run: Any, vault: Any, typed: str) -> None:
    ran = run(*SHRED, typed=typed)

    assert (1, "", []) == (ran.status, ran.out, vault.calls)
    assert ran.err.endswith("tenantvault: That is not acme: nothing was shredded. (DECLINED)\n")


def test_where_nobody_can_type_the_option_is_named(run: Any, vault: Any) -> None:
    ran = run(*SHRED, typed="")

    assert (2, []) == (ran.status, vault.calls)
    assert "--confirm acme" in ran.err


def test_confirm_takes_the_place_of_typing(run: Any, vault: Any) -> None:
    ran = run(*SHRED, "--confirm", "acme", "--json")

    assert (0, "") == (ran.status, ran.err)
    assert {"org_id": "acme", "shredded": True, "generation": 14} == ran.data
    assert "acme" == vault.requests[0].confirm_org_id


@pytest.mark.parametrize("confirm", ["globex", "", "ACME"])
def test_confirm_of_another_org_shreds_nothing(run: Any, vault: Any, confirm: str) -> None:
    assert (2, []) == (run(*SHRED, "--confirm", confirm, typed="acme\n").status, vault.calls)


def test_a_shredded_org_stays_so(run: Any, vault: Any) -> None:
    vault.answers["UnfreezeOrg"] = vault.refuse(OrgShredded())

    assert 3 == run("org", "unfreeze", "acme").status


@pytest.mark.parametrize("org", ["", "Acme", "_vault", "a" * 64, "acme/x"])
@pytest.mark.parametrize("command", ["freeze", "unfreeze", "shred"])
def test_an_org_that_is_none_is_refused(run: Any, vault: Any, command: str, org: str) -> None:
    assert (2, []) == (run("org", command, org).status, vault.calls)
