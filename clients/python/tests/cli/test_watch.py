"""`tenantvault watch`: changes as they come, and where some may have been missed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tenantvault.errors import DeadlineExceeded, VaultUnavailable
from tenantvault.v1.access_service_pb2 import Change, Heartbeat, Resync, WatchChangesResponse

pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket


def changed(org: str, generation: int) -> WatchChangesResponse:
    return WatchChangesResponse(change=Change(org_id=org, generation=generation))


@pytest.fixture
def watches(vault: Any) -> list[list[WatchChangesResponse | Exception]]:
    """What each watch says in its turn, perhaps an error at its end."""
    told: list[list[WatchChangesResponse | Exception]] = []

    def answer(request: Any, context: Any) -> Iterator[Any]:
        for word in told.pop(0):
            if isinstance(word, Exception):
                vault.refuse(word)(request, context)
            yield word

    vault.answers["WatchChanges"] = answer
    return told


def test_every_change_is_a_line(run: Any, watches: list[Any]) -> None:
    resync = WatchChangesResponse(resync=Resync())
    watches.append([WatchChangesResponse(heartbeat=Heartbeat()), changed("acme", 7), resync, VaultUnavailable("gone")])

    ran = run("watch")

    assert 4 == ran.status
    assert ["UTC  acme changed: its generation is 7 now.", "UTC  Changes may have been missed here."] == [
        line[20:] for line in ran.lines
    ]
    assert "tenantvault: gone (VAULT_UNAVAILABLE)\n" == ran.err


def test_changes_for_programs(run: Any, watches: list[Any]) -> None:
    watches.append([changed("acme", 7), WatchChangesResponse()])

    change, resync = map(json.loads, run("watch", "--json").lines)

    assert ("change", "acme", 7) == (change["event"], change["org_id"], change["generation"])
    assert ("resync", True) == (resync["event"], change["at"].endswith("+00:00"))


def test_a_watch_whose_time_is_over_is_followed_by_another_and_the_gap_is_shown(run: Any, watches: list[Any]) -> None:
    watches += [[changed("acme", 7), DeadlineExceeded()], [changed("acme", 9)]]

    lines = [json.loads(line) for line in run("watch", "--json").lines]

    assert [7, None, 9] == [line.get("generation") for line in lines]
    assert "resync" == lines[1]["event"]


def test_a_vault_that_ends_the_watch_is_said_to_stop(run: Any, vault: Any, watches: list[Any]) -> None:
    watches.append([changed("acme", 7)])

    ran = run("watch")

    assert (4, 1) == (ran.status, len(vault.calls))
    assert "ended the watch" in ran.err


def test_a_vault_that_says_nothing_in_time_is_given_up(run: Any, vault: Any, watches: list[Any]) -> None:
    watches.append([DeadlineExceeded("late")])

    assert (4, 1) == (run("watch").status, len(vault.calls))
