"""`tenantvault audit`: the list, the export, and the proof that the command makes itself."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenantvault.audit import Export, check_signature, prove, to_lines
from tenantvault.errors import OrgShredded, VaultUnavailable
from tenantvault.v1.admin_service_pb2 import AuditHead, ExportAuditResponse, VerifyAuditResponse
from tenantvault.v1.credential_pb2 import Provider
from tenantvault.v1.status_service_pb2 import AuditEvent, ListAuditEventsResponse

pytest.importorskip("click")
pytestmark = pytest.mark.enable_socket


@pytest.fixture
def whole(vault: Any, acme: Any) -> Any:
    """A vault whose chain of acme is whole."""
    vault.answers["ExportAudit"] = lambda *_: acme.parts()
    vault.answers["VerifyAudit"] = lambda *_: VerifyAuditResponse(events=len(acme.links), head=acme.links[-1].hash)
    return acme


@pytest.fixture
def exported(acme: Any, tmp_path: Path) -> Path:
    path = tmp_path / "acme.jsonl"
    path.write_text("".join(f"{line}\n" for line in to_lines(acme.links, acme.head)))
    return path


class Log:
    """A vault's answer to ListAuditEvents, as the contract says it. It looks through so many events at once."""

    def __init__(self, chain: Any, *, searched: int = 10_000) -> None:
        self.messages = list(reversed(chain.messages()))
        self.pages: list[int] = []
        self._searched = searched

    def __call__(self, request: Any, _: Any) -> ListAuditEventsResponse:
        before = request.before_sequence or 2**63
        events: list[AuditEvent] = []
        last = 0
        for event in [event for event in self.messages if event.sequence < before][: self._searched]:
            last = event.sequence
            if request.peer in ("", event.peer):
                events.append(event)
            if len(events) == request.page_size:
                break
        self.pages.append(len(events))
        return ListAuditEventsResponse(events=events, next_before_sequence=last if last > 1 else 0)


def test_events_are_listed_newest_first(run: Any, vault: Any, acme: Any) -> None:
    vault.answers["ListAuditEvents"] = Log(acme)

    ran = run("audit", "list", "acme")

    assert 0 == ran.status
    header, newest, *_, oldest = ran.lines
    columns = ["EVENT", "TIME", "ACTION", "PROVIDER", "VERSION", "OUTCOME", "PEER", "ON BEHALF OF", "REQUEST"]
    assert columns == [each for each in columns if each in header]
    assert newest.split()[:3] == ["5", "2026-11-24", "12:00:05"]
    assert oldest.split() == [
        *("1", "2026-11-24", "12:00:01", "UTC", "credential.get", "vapi", "1", "ok", "voice-agent", "ada", "request-1")
    ]


def test_events_for_programs_are_those_of_an_export(run: Any, vault: Any, acme: Any) -> None:
    vault.answers["ListAuditEvents"] = Log(acme)

    events = run("audit", "list", "acme", "--json").data["events"]

    assert [json.loads(line) for line in to_lines(reversed(acme.links), None)] == events


def test_what_is_asked_for_is_what_the_vault_is_asked(run: Any, vault: Any) -> None:
    vault.answers["ListAuditEvents"] = ListAuditEventsResponse()

    options = ("--provider", "googlecalendar", "--action", "credential.put", "--limit", "7", "--before", "40")
    ran = run("audit", "list", "_vault", *options, "--service", "voice-agent", "--failed")

    (request,) = vault.requests
    assert (0, 1) == (ran.status, len(ran.lines))
    assert ("_vault", Provider.PROVIDER_GOOGLE_CALENDAR) == (request.org_id, request.provider)
    assert ("credential.put", 7, 40) == (request.action, request.page_size, request.before_sequence)
    assert ("voice-agent", True) == (request.peer, request.failed)


def test_without_filters_nothing_is_filtered(run: Any, vault: Any) -> None:
    vault.answers["ListAuditEvents"] = ListAuditEventsResponse()
    run("audit", "list", "acme")

    (request,) = vault.requests
    assert (0, "", 100, 0) == (request.provider, request.action, request.page_size, request.before_sequence)
    assert ("", False) == (request.peer, request.failed)


@pytest.mark.parametrize(
    ("limit", "pages"), [(1, [1]), (500, [500]), (501, [500, 1]), (1200, [500, 500, 200]), (2000, [500, 500, 201])]
)
def test_more_than_a_page_is_fetched_page_by_page(
    run: Any, vault: Any, acme: Any, limit: int, pages: list[int]
) -> None:
    log = vault.answers["ListAuditEvents"] = Log(acme.grow(1196))

    events = run("audit", "list", "acme", "--limit", str(limit), "--json").data["events"]

    assert pages == log.pages
    assert list(range(1201, max(1201 - limit, 0), -1)) == [event["sequence"] for event in events]


@pytest.mark.parametrize(("limit", "pages"), [(2, [0, 0, 1, 1]), (3, [0, 0, 1, 2]), (100, [0, 0, 1, 2, 0])])
def test_a_page_with_less_than_was_asked_for_is_not_taken_for_the_end(
    run: Any, vault: Any, acme: Any, limit: int, pages: list[int]
) -> None:
    log = vault.answers["ListAuditEvents"] = Log(acme.grow(95), searched=20)
    for event in log.messages:
        event.peer = "provider" if event.sequence in (21, 40, 41) else "voice-agent"

    ran = run("audit", "list", "acme", "--service", "provider", "--limit", str(limit), "--json")

    assert pages == log.pages
    assert [41, 40, 21][:limit] == [event["sequence"] for event in ran.data["events"]]


def test_a_list_without_an_end_ends(run: Any, vault: Any, acme: Any) -> None:
    page = list(reversed(acme.grow(500).messages()))[:500]
    vault.answers["ListAuditEvents"] = ListAuditEventsResponse(events=page, next_before_sequence=page[-1].sequence)

    ran = run("audit", "list", "acme", "--limit", "100000")

    assert (3, 2) == (ran.status, len(vault.calls))


def test_an_event_cannot_steer_the_terminal(run: Any, vault: Any, acme: Any) -> None:
    log = Log(acme)
    log.messages[0].on_behalf_of = "\x1b]0;title\x07\u202eada"
    vault.answers["ListAuditEvents"] = log

    out = run("audit", "list", "acme").out

    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "\\x1b]0;title\\x07\\u202eada" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("Acme",),
        ("-x",),
        ("_other",),
        ("acme", "--provider", "nexmo"),
        ("acme", "--action", "Put\x1b"),
        ("acme", "--service", "Voice agent"),
        ("acme", "--limit", "0"),
        ("acme", "--before", "0"),
    ],
)
def test_a_list_of_nothing_sensible_is_not_asked_for(run: Any, vault: Any, arguments: tuple[str, ...]) -> None:
    assert (2, []) == (run("audit", "list", *arguments).status, vault.calls)


def test_an_export_can_be_read_and_proved(run: Any, whole: Any) -> None:
    ran = run("audit", "export", "acme")

    export = Export.parse(ran.lines)
    assert (0, "") == (ran.status, ran.err)
    assert (tuple(whole.links), whole.head) == (export.links, export.head)
    assert 5 == prove(export.links, export.head, check_signature)


def test_an_export_to_a_file_is_the_same_and_only_its_owners(run: Any, whole: Any, tmp_path: Path) -> None:
    path = tmp_path / "acme.jsonl"
    printed = run("audit", "export", "acme").out

    umask = os.umask(0)
    ran = run("audit", "export", "acme", "--output", str(path))
    os.umask(umask)

    assert 0 == ran.status, ran.err
    assert f"{path} holds 5 events of acme.\n" == ran.out
    assert printed == path.read_text()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == list(tmp_path.iterdir())


def test_what_an_export_says_to_programs(run: Any, whole: Any, tmp_path: Path) -> None:
    path = tmp_path / "acme.jsonl"

    assert {
        "org_id": "acme",
        "file": str(path),
        "events": 5,
        "head": whole.head.hash.hex(),
        "public_key": whole.public_key.hex(),
    } == run("audit", "export", "acme", "--output", str(path), "--json").data


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_a_file_that_is_there_is_not_written_over(run: Any, vault: Any, whole: Any, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "acme.jsonl"
    match kind:
        case "file":
            path.write_text("mine")
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to(tmp_path / "nowhere")

    ran = run("audit", "export", "acme", "--output", str(path))

    assert (2, []) == (ran.status, vault.calls)
    assert "--force" in ran.err
    assert "file" != kind or "mine" == path.read_text()


def test_a_file_that_comes_meanwhile_is_not_written_over(run: Any, vault: Any, acme: Any, tmp_path: Path) -> None:
    path = tmp_path / "acme.jsonl"

    def answer(*_: Any) -> Any:
        path.write_text("mine")
        return acme.parts()

    vault.answers["ExportAudit"] = answer
    ran = run("audit", "export", "acme", "--output", str(path))

    assert (2, "mine") == (ran.status, path.read_text())
    assert [path] == list(tmp_path.iterdir())


def test_force_writes_over(run: Any, whole: Any, tmp_path: Path) -> None:
    path = tmp_path / "acme.jsonl"
    path.write_text("old")
    path.chmod(0o644)

    assert 0 == run("audit", "export", "acme", "--output", str(path), "--force").status
    assert 6 == len(path.read_text().splitlines())
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_an_export_that_breaks_off_leaves_nothing(
    run: Any, vault: Any, acme: Any, force: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "acme.jsonl"
    if force:
        path.write_text("old")

    def broken(request: Any, context: Any) -> Any:
        yield from acme.parts()[:3]
        vault.refuse(VaultUnavailable())(request, context)

    vault.answers["ExportAudit"] = broken
    ran = run("audit", "export", "acme", "--output", str(path), *force)

    assert 4 == ran.status
    assert ([path] if force else []) == list(tmp_path.iterdir())
    assert not force or "old" == path.read_text()


@pytest.mark.parametrize(
    "parts",
    [
        lambda parts: parts[:-1],
        lambda parts: [ExportAuditResponse()],
        lambda parts: [*parts, parts[0]],
        lambda parts: [*parts, parts[-1]],
        lambda parts: [ExportAuditResponse(head=AuditHead(org_id="acme", sequence=-1))],
    ],
    ids=["no head", "no part", "event behind head", "two heads", "negative"],
)
def test_what_no_vault_can_have_exported_is_no_export(
    run: Any, vault: Any, acme: Any, parts: Any, tmp_path: Path
) -> None:
    vault.answers["ExportAudit"] = lambda *_: parts(acme.parts())

    ran = run("audit", "export", "acme", "--output", str(tmp_path / "acme.jsonl"))

    assert (3, []) == (ran.status, list(tmp_path.iterdir()))


@pytest.mark.parametrize(("field", "value"), [("version", -1), ("generation", -1), ("sequence", -1), ("time", 2**40)])
def test_an_event_that_no_vault_can_have_written_is_none(
    run: Any, vault: Any, whole: Any, field: str, value: int
) -> None:
    parts = whole.parts()
    if field == "time":
        parts[2].event.occurred_at.seconds = value
    else:
        setattr(parts[2].event, field, value)
    vault.answers["ExportAudit"] = lambda *_: parts

    assert 3 == run("audit", "verify", "acme").status


def test_a_folder_that_is_not_there_is_said(run: Any, whole: Any, tmp_path: Path) -> None:
    ran = run("audit", "export", "acme", "--output", str(tmp_path / "gone" / "acme.jsonl"))

    assert 2 == ran.status
    assert "Cannot write" in ran.err


def test_a_whole_chain_is_proved_here_and_by_the_vault(run: Any, vault: Any, whole: Any) -> None:
    ran = run("audit", "verify", "acme")

    assert 0 == ran.status
    assert "acme is whole: 5 events, as they were written." == ran.lines[0]
    assert whole.head.hash.hex() in ran.out
    assert whole.public_key.hex() in ran.out
    assert "against the key in the export only" in ran.out
    assert ["VerifyAudit", "ExportAudit"] == [method for method, _ in vault.calls]
    assert {"acme"} == {request.org_id for request in vault.requests}


def test_a_whole_chain_for_programs(run: Any, whole: Any) -> None:
    assert {
        "org_id": "acme",
        "intact": True,
        "events": 5,
        "head": whole.head.hash.hex(),
        "public_key": whole.public_key.hex(),
        "public_key_given": False,
    } == run("audit", "verify", "acme", "--json").data


def test_the_vaults_key_may_be_given(run: Any, whole: Any, acme: Any) -> None:
    ran = run("audit", "verify", "acme", "--public-key", whole.public_key.hex().upper())

    assert 0 == ran.status
    assert "signed with the key that you gave" in ran.out


def test_a_chain_that_somebody_else_signed_is_found_with_the_vaults_key(run: Any, vault: Any, acme: Any) -> None:
    forged = type(acme)("acme").grow(5)
    vault.answers["ExportAudit"] = lambda *_: forged.parts()
    vault.answers["VerifyAudit"] = VerifyAuditResponse(events=5, head=forged.links[-1].hash)

    assert 0 == run("audit", "verify", "acme").status
    ran = run("audit", "verify", "acme", "--public-key", acme.public_key.hex())
    assert 1 == ran.status
    assert "BROKEN at event 5: the head is not signed by the vault's key.\n" == ran.out


@pytest.mark.parametrize("index", range(5))
def test_an_event_that_was_changed_is_found_here(run: Any, vault: Any, whole: Any, index: int) -> None:
    parts = whole.parts()
    parts[index].event.outcome = "refused"
    vault.answers["ExportAudit"] = lambda *_: parts

    ran = run("audit", "verify", "acme")
    data = run("audit", "verify", "acme", "--json").data

    assert 1 == ran.status
    assert ran.out.startswith(f"BROKEN at event {index + 1}: event {index + 1} was changed")
    assert ("acme", False, index + 1) == (data["org_id"], data["intact"], data["broken_sequence"])
    assert "was changed" in data["problem"]


@pytest.mark.parametrize("index", range(5))
def test_an_event_that_was_left_out_is_found_here(run: Any, vault: Any, whole: Any, index: int) -> None:
    parts = whole.parts()
    del parts[index]
    vault.answers["ExportAudit"] = lambda *_: parts

    ran = run("audit", "verify", "acme", "--json")

    assert (1, index + 1) == (ran.status, ran.data["broken_sequence"])


def test_another_orgs_chain_proves_nothing(run: Any, vault: Any, whole: Any) -> None:
    other = type(whole)("globex").grow(5)
    vault.answers["ExportAudit"] = lambda *_: other.parts()

    ran = run("audit", "verify", "acme")

    assert 1 == ran.status
    assert "BROKEN at event 1: event 1 is of another org.\n" == ran.out


@pytest.mark.parametrize(
    ("answer", "sequence", "said"),
    [
        (VerifyAuditResponse(broken_sequence=3, problem="event 3 is gone"), 3, "the vault says: event 3 is gone"),
        (VerifyAuditResponse(events=4, head=b"h" * 32), 5, "the vault counts 4 events now, and exported 5"),
        (VerifyAuditResponse(events=5, head=b"h" * 32), 5, "event 5 is another one in the vault's database"),
    ],
)
def test_what_only_the_vault_finds_is_broken_too(
    run: Any, vault: Any, whole: Any, answer: VerifyAuditResponse, sequence: int, said: str
) -> None:
    vault.answers["VerifyAudit"] = answer

    ran = run("audit", "verify", "acme")

    assert (1, f"BROKEN at event {sequence}: {said}.\n") == (ran.status, ran.out)


@pytest.mark.parametrize("before", [0, 4])
@pytest.mark.parametrize("after", [5, 9])
def test_a_chain_that_grows_meanwhile_is_whole(run: Any, vault: Any, whole: Any, before: int, after: int) -> None:
    head = whole.links[-1].hash if after == 5 else b"h" * 32
    counts = iter([VerifyAuditResponse(events=before), VerifyAuditResponse(events=after, head=head)])
    vault.answers["VerifyAudit"] = lambda *_: next(counts)

    ran = run("audit", "verify", "acme", "--json")

    assert (0, True, 5) == (ran.status, ran.data["intact"], ran.data["events"])
    assert ["VerifyAudit", "ExportAudit", "VerifyAudit"] == [method for method, _ in vault.calls]


@pytest.mark.parametrize(
    ("answer", "sequence", "said"),
    [
        (VerifyAuditResponse(events=4), 5, "the vault counts 4 events now, and exported 5"),
        (VerifyAuditResponse(events=5, head=b"h" * 32), 5, "event 5 is another one in the vault's database"),
        (VerifyAuditResponse(broken_sequence=5, problem="event 5 is gone"), 5, "the vault says: event 5 is gone"),
    ],
)
def test_what_came_meanwhile_is_held_against_the_vaults_database_too(
    run: Any, vault: Any, whole: Any, answer: VerifyAuditResponse, sequence: int, said: str
) -> None:
    answers = iter([VerifyAuditResponse(events=4), answer])
    vault.answers["VerifyAudit"] = lambda *_: next(answers)

    ran = run("audit", "verify", "acme")

    assert (1, f"BROKEN at event {sequence}: {said}.\n") == (ran.status, ran.out)


@pytest.mark.parametrize(
    ("exported", "counted", "said"),
    [
        (0, 1, "the vault counts 1 event and exported none"),
        (0, 5, "the vault counts 5 events and exported none"),
        (3, 5, "the vault counts 5 events and exported 3"),
    ],
)
@pytest.mark.parametrize("key", [(), ("--public-key", "{}")])
def test_an_export_that_leaves_off_the_end_is_broken(
    run: Any, vault: Any, acme: Any, exported: int, counted: int, said: str, key: tuple[str, ...]
) -> None:
    del acme.links[counted:]
    vault.answers["VerifyAudit"] = VerifyAuditResponse(events=counted, head=acme.links[-1].hash)
    del acme.links[exported:]
    # Of an end that was left off, an old head may be at hand.
    vault.answers["ExportAudit"] = lambda *_: acme.parts() if exported else []
    command = ("audit", "verify", "acme", *(each.format(acme.public_key.hex()) for each in key))

    ran = run(*command)
    data = run(*command, "--json").data

    assert (1, f"BROKEN at event {exported + 1}: {said}.\n") == (ran.status, ran.out)
    assert (False, exported + 1, said) == (data["intact"], data["broken_sequence"], data["problem"])


def test_an_org_without_events(run: Any, vault: Any) -> None:
    vault.answers["ExportAudit"] = lambda *_: []
    vault.answers["VerifyAudit"] = VerifyAuditResponse()

    ran = run("audit", "verify", "acme")

    assert (0, "acme has no events.\n") == (ran.status, ran.out)
    assert run("audit", "verify", "acme", "--json").data["head"] is None


def test_an_empty_chain_of_another_org_proves_nothing(run: Any, vault: Any, acme: Any) -> None:
    head = acme.parts()[-1]
    head.head.sequence = 0
    vault.answers["ExportAudit"] = lambda *_: [head]
    vault.answers["VerifyAudit"] = VerifyAuditResponse()

    assert 1 == run("audit", "verify", "globex").status


def test_a_refusal_is_no_broken_chain(run: Any, vault: Any, whole: Any) -> None:
    vault.answers["VerifyAudit"] = vault.refuse(OrgShredded())

    assert 3 == run("audit", "verify", "acme").status


def test_an_export_is_proved_without_a_vault(offline: Any, acme: Any, exported: Path) -> None:
    ran = offline("audit", "verify", "--file", str(exported))

    assert 0 == ran.status, ran.err
    assert "acme is whole: 5 events, as they were written." == ran.lines[0]
    assert "against the key in the export only" in ran.out
    assert "acme" == offline("audit", "verify", "--file", str(exported), "--json").data["org_id"]


def test_an_export_and_the_vaults_key(offline: Any, acme: Any, exported: Path) -> None:
    ran = offline("audit", "verify", "--file", str(exported), "--public-key", acme.public_key.hex())
    assert (0, True) == (ran.status, "signed with the key that you gave" in ran.out)

    other = type(acme)("acme").public_key.hex()
    ran = offline("audit", "verify", "--file", str(exported), "--public-key", other)
    assert (1, True) == (ran.status, "not signed by the vault's key" in ran.out)


@pytest.mark.parametrize(
    ("edit", "sequence"),
    [
        (lambda lines: [lines[0].replace('"ok"', '"no"'), *lines[1:]], 1),
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: [*lines[:4], lines[5]], 5),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: [lines[0], *lines], 2),
        (lambda lines: lines[:5], 5),
        (lambda lines: [], 1),
        (lambda lines: [*lines[:5], lines[5].replace('"signature": "', '"signature": "00')], 5),
    ],
    ids=["changed", "left out", "the last left out", "moved", "added", "no head", "nothing", "signature"],
)
def test_an_export_that_was_tampered_with(offline: Any, exported: Path, edit: Any, sequence: int) -> None:
    exported.write_text("".join(f"{line}\n" for line in edit(exported.read_text().splitlines())))

    ran = offline("audit", "verify", "--file", str(exported), "--json")

    assert (1, False, sequence) == (ran.status, ran.data["intact"], ran.data["broken_sequence"])


@pytest.mark.parametrize(
    ("edit", "number"),
    [
        (lambda lines: [*lines[:2], "{", *lines[2:]], 3),
        (lambda lines: [*lines[:2], "[" * 100_000, *lines[2:]], 3),
        (lambda lines: [lines[0].replace("2026-11-24T", "1926-11-24T"), *lines[1:]], 1),
        (lambda lines: [lines[0], lines[1].replace('"ada"', '"\\ud800"'), *lines[2:]], 2),
        (lambda lines: [lines[0], lines[1].replace('"ada"', '"\udcff"'), *lines[2:]], 2),
        (lambda lines: [lines[0], lines[1].replace('"ada"', '"ada", "note": "x"'), *lines[2:]], 2),
        (lambda lines: [lines[0], lines[1].replace('"ada"', '"eve", "on_behalf_of": "ada"'), *lines[2:]], 2),
        (lambda lines: [*lines[:5], lines[5].replace("}}", '}, "note": "x"}')], 6),
        (lambda lines: [lines[5], *lines], 2),
        (lambda lines: [*lines, lines[0]], 7),
        (lambda lines: [*lines, "{"], 7),
    ],
    ids=[
        *("no JSON", "deep", "before 1970", "half a character", "no UTF-8", "a field more", "a field twice"),
        *("a field more behind the head", "two heads", "behind the head", "no JSON at the end"),
    ],
)
def test_a_line_that_is_none_of_an_exports_is_named(offline: Any, exported: Path, edit: Any, number: int) -> None:
    lines = edit(exported.read_text().splitlines())
    exported.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))

    ran = offline("audit", "verify", "--file", str(exported))

    assert (2, "") == (ran.status, ran.out)
    assert f"Line {number} " in ran.err


def test_an_export_may_come_through_a_pipe(acme: Any, exported: Path) -> None:
    with exported.open() as file:
        done = subprocess.run(
            [sys.executable, "-m", "tenantvault.cli", "audit", "verify", "--file", "/dev/stdin"],
            input=file.read(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert 0 == done.returncode, done.stderr


def test_empty_lines_are_nothing(offline: Any, exported: Path) -> None:
    exported.write_text(exported.read_text().replace("\n", "\n\n") + "\n")

    assert 0 == offline("audit", "verify", "--file", str(exported)).status


def test_a_chain_whose_name_would_steer_the_terminal(offline: Any, acme: Any, tmp_path: Path) -> None:
    acme.links[0] = replace(acme.links[0], event=replace(acme.links[0].event, org_id="\x1b[2J"))
    path = tmp_path / "export"
    path.write_text("\n".join(to_lines(acme.links, replace(acme.head, org_id="\x1b[2J"))))

    ran = offline("audit", "verify", "--file", str(path))

    assert (1, False) == (ran.status, "\x1b" in ran.out)


@pytest.mark.parametrize("arguments", [(), ("acme", "--file", "{}"), ("--file", "gone"), ("--file", ".")])
def test_an_org_or_an_export(offline: Any, exported: Path, arguments: tuple[str, ...]) -> None:
    assert 2 == offline("audit", "verify", *(each.format(exported) for each in arguments)).status


@pytest.mark.parametrize("key", ["", "00", "zz" * 32, "00" * 33])
def test_a_key_that_is_none_is_refused(offline: Any, exported: Path, key: str) -> None:
    ran = offline("audit", "verify", "--file", str(exported), "--public-key", key)

    assert 2 == ran.status
    assert "64 hexadecimal digits" in ran.err
