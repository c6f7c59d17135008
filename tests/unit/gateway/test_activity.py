import csv
import io
import json
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from gateway import sheet
from tenantvault.errors import VaultUnavailable
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tests.unit.gateway.fakes import VERIFIED, Gateway, MakeGateway, bearer, event
from tests.unit.gateway.streaming import Caller

API = "/api/integrations"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def test_an_event_shows_who_did_what_when_and_from_where(gateway: Gateway) -> None:
    gateway.services.events = [
        event(1, action="org.freeze", provider="", version=0, peer="operator"),
        event(2, on_behalf_of="ada@acme.example", outcome="CREDENTIAL_NOT_FOUND", provider="googleCalendar"),
        event(3, org_id="globex"),
    ]
    answer = await gateway.client.get(f"{API}/audit", headers=bearer(role="viewer"))
    assert answer.status_code == 200
    assert answer.json() == {
        "events": [
            {
                "id": "00000000-0000-4000-8000-000000000002",
                "sequence": 2,
                "at": "2026-11-23T10:00:00.000Z",
                "service": "voice-agent",
                "person": "ada@acme.example",
                "action": "credential.get",
                "provider": "googleCalendar",
                "version": 1,
                "outcome": "CREDENTIAL_NOT_FOUND",
                "requestId": "request-0002",
            },
            {
                "id": "00000000-0000-4000-8000-000000000001",
                "sequence": 1,
                "at": "2026-11-23T10:00:00.000Z",
                "service": "operator",
                "action": "org.freeze",
                "outcome": "ok",
                "requestId": "request-0001",
            },
        ],
        "next": None,
        "since": None,
    }


async def test_page_after_page_shows_everything_once(gateway: Gateway) -> None:
    gateway.services.events = [event(sequence) for sequence in range(1, 7)]
    seen: list[list[int]] = []
    query = "limit=2"
    while query:
        page = (await gateway.client.get(f"{API}/audit?{query}", headers=bearer())).json()
        seen.append([shown["sequence"] for shown in page["events"]])
        query = page["next"] and f"limit=2&before={page['next']}"
    assert seen == [[6, 5], [4, 3], [2, 1]]


async def test_a_page_that_is_empty_is_not_the_last_when_older_events_were_not_looked_at(gateway: Gateway) -> None:
    gateway.services.searched = 10
    wanted = (3, 4, 24)
    gateway.services.events = [
        event(
            sequence,
            peer="provider" if sequence in wanted else "voice-agent",
            occurred_at=Timestamp(seconds=VERIFIED.seconds + sequence),
        )
        for sequence in range(1, 36)
    ]
    seen: list[tuple[list[int], int | None, str | None]] = []
    before: int | None = 36
    while before:
        query = f"service=provider&limit=1&before={before}"
        page = (await gateway.client.get(f"{API}/audit?{query}", headers=bearer())).json()
        before = page["next"]
        seen.append(([shown["sequence"] for shown in page["events"]], before, page["since"]))
    assert seen == [
        ([], 26, "2026-11-23T10:00:26.000Z"),
        ([24], 16, "2026-11-23T10:00:16.000Z"),
        ([], 6, "2026-11-23T10:00:06.000Z"),
        ([4], 4, "2026-11-23T10:00:04.000Z"),
        ([3], None, None),
    ]


@pytest.mark.parametrize("most_rows", [2, 3])
async def test_a_download_goes_on_where_a_page_is_empty(make_gateway: MakeGateway, most_rows: int) -> None:
    gateway = await make_gateway(most_rows=most_rows)
    gateway.services.searched = 3
    gateway.services.events = [
        event(sequence, peer="provider" if sequence in (2, 14, 15) else "voice-agent") for sequence in range(1, 31)
    ]
    answer = await gateway.client.get(f"{API}/audit.csv?service=provider", headers=bearer())
    sequences = [row["sequence"] for row in rows(answer.text)]
    cut = ["15", "14", "Cut after 2 rows: there is more. Choose filters to see less at a time."]
    assert sequences == (["15", "14", "2"] if most_rows == 3 else cut)


async def test_filters_and_the_page_reach_the_vault(gateway: Gateway) -> None:
    wanted = "provider=googleCalendar&action=credential.get&service=voice-agent&failed=true"
    await gateway.client.get(f"{API}/audit?{wanted}&before=7&limit=3", headers=bearer())
    await gateway.client.get(f"{API}/audit.csv?{wanted}", headers=bearer())
    await gateway.client.get(f"{API}/audit?failed=false", headers=bearer())
    filters: dict[str, Any] = {
        "org_id": "acme",
        "provider": pb.PROVIDER_GOOGLE_CALENDAR,
        "action": "credential.get",
        "peer": "voice-agent",
        "failed": True,
    }
    assert gateway.services.asked == [
        status_pb.ListAuditEventsRequest(**filters, before_sequence=7, page_size=4),
        status_pb.ListAuditEventsRequest(**filters, page_size=1000),
        status_pb.ListAuditEventsRequest(org_id="acme", page_size=51),
    ]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("audit?before=0", {"before"}),
        ("audit?before=-1", {"before"}),
        ("audit?before=٣", {"before"}),
        ("audit?before=9007199254740992", {"before"}),
        ("audit?before=" + "9" * 5000, {"before"}),
        ("audit?limit=201&limit=7", {"limit"}),
        ("audit?limit=7&limit=7", {"limit"}),
        ("audit?limit=0&provider=slack&action=Credential&service=Voice%20agent&failed=yes", None),
        ("audit?provider=", {"provider"}),
        ("audit?provider=google_calendar", {"provider"}),
        ("audit?action=credential.get%0A", {"action"}),
        ("audit?failed", {"failed"}),
        ("audit?orgId=globex&org_id=globex", {"orgId"}),
        ("audit?re_a1b2c3d4-canary=1", {"query"}),
        ("audit.csv?limit=7", {"limit"}),
        ("audit.csv?before=7", {"before"}),
        ("audit.csv?org=", {"org"}),
        ("audit.csv?org=Acme", {"org"}),
        ("audit?org=acme", {"org"}),
        ("access?days=0", {"days"}),
        ("access?days=366", {"days"}),
        ("access?days=30&since=2026", {"since"}),
    ],
)
async def test_a_wrong_parameter_is_named_and_nothing_is_asked(
    gateway: Gateway, query: str, fields: set[str] | None
) -> None:
    answer = await gateway.client.get(f"{API}/{query}", headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_REQUEST")
    assert set(answer.json()["fields"]) == (fields or {"limit", "provider", "action", "service", "failed"})
    assert "canary" not in answer.text
    assert gateway.services.asked == []


async def test_a_download_holds_what_the_pages_show(gateway: Gateway) -> None:
    gateway.services.events = [event(1, provider="", version=0), event(2, on_behalf_of='Ada, "the" first'), event(3)]
    shown = (await gateway.client.get(f"{API}/audit", headers=bearer())).json()["events"]
    answer = await gateway.client.get(f"{API}/audit.csv", headers=bearer())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert answer.headers["content-disposition"] == 'attachment; filename="tenantvault-audit-acme.csv"'
    assert [{name: str(each[name]) if name in each else "" for name in sheet.COLUMNS} for each in shown] == rows(
        answer.text
    )
    assert answer.text.count("\r\n") == answer.text.count("\n") == 4


@pytest.mark.parametrize(("there_are", "is_cut"), [(0, False), (3, False), (4, True), (2500, True)])
async def test_a_download_says_when_it_was_cut(make_gateway: MakeGateway, there_are: int, is_cut: bool) -> None:
    gateway = await make_gateway(most_rows=3 if there_are < 5 else 2000)
    gateway.services.events = [event(sequence) for sequence in range(1, there_are + 1)]
    got = rows((await gateway.client.get(f"{API}/audit.csv", headers=bearer())).text)
    sequences = [row["sequence"] for row in got]
    if is_cut:
        assert (
            sequences.pop() == f"Cut after {len(sequences)} rows: there is more. Choose filters to see less at a time."
        )
        assert len(sequences) == there_are - (1 if there_are < 5 else 500)
    assert sequences == [str(there_are - place) for place in range(len(sequences))]
    assert is_cut or len(sequences) == there_are


async def test_a_download_that_cannot_be_finished_breaks_off(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    gateway.services.events = [event(2)]
    asked = []
    first = gateway.services.ListAuditEvents

    async def list_events(request: Any, **how: Any) -> status_pb.ListAuditEventsResponse:
        asked.append(request)
        if len(asked) > 1:
            raise VaultUnavailable
        return await first(request, **how)

    monkeypatch.setattr(gateway.services, "ListAuditEvents", list_events)
    async with Caller(gateway.app, f"{API}/audit.csv", bearer()) as download:
        assert [row["sequence"] for row in rows(await download.rest())] == ["2"]
        assert (download.status, download.is_complete) == (200, False)
    (line,) = [json.loads(line) for line in log.getvalue().splitlines() if '"warning"' in line]
    assert (line["event"], line["reason"]) == ("an answer broke off", "VAULT_UNAVAILABLE")


async def test_a_download_that_cannot_begin_is_a_problem(gateway: Gateway) -> None:
    gateway.services.failure = VaultUnavailable()
    answer = await gateway.client.get(f"{API}/audit.csv", headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (503, "VAULT_UNAVAILABLE")
    assert "content-disposition" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_page_of_another_org_downloads_nothing(gateway: Gateway, method: str) -> None:
    await gateway.sign_in(org_id="globex")
    gateway.services.events = [event(1, org_id="globex")]
    answer = await gateway.client.request(method, f"{API}/audit.csv?failed=false&org=acme")
    assert (answer.status_code, "content-disposition" in answer.headers) == (409, False)
    assert method == "HEAD" or answer.json()["code"] == "OTHER_ORG"
    assert gateway.services.asked == []
    answer = await gateway.client.request(method, f"{API}/audit.csv?failed=false&org=globex")
    assert (answer.status_code, len(rows(answer.text))) == (200, int(method == "GET"))


async def test_a_look_at_the_headers_downloads_nothing(gateway: Gateway) -> None:
    answer = await gateway.client.head(f"{API}/audit.csv", headers=bearer())
    assert "tenantvault-audit-acme.csv" in answer.headers["content-disposition"]
    assert gateway.services.asked == []


async def test_access_is_counted_by_service_and_provider(gateway: Gateway) -> None:
    gateway.services.counts = [
        status_pb.ReadCount(peer="voice-agent", provider=pb.PROVIDER_VAPI, reads=7, last_read_at=VERIFIED),
        # A newer vault may know more providers.
        status_pb.ReadCount(peer="voice-agent", provider=99, reads=1, last_read_at=VERIFIED),  # type: ignore[arg-type]
    ]
    shown = [
        (await gateway.client.get(f"{API}/access{query}", headers=bearer(role="viewer"))).json()
        for query in ("", "?days=1")
    ]
    counted = {"service": "voice-agent", "provider": "vapi", "reads": 7, "lastReadAt": "2026-11-23T10:00:00.000Z"}
    assert [answer["counts"] for answer in shown] == [[counted], [counted]]
    assert [request.org_id for request in gateway.services.asked] == ["acme", "acme"]
    month, day = (request.since.ToDatetime() for request in gateway.services.asked)
    assert (day - month).days == 29
    assert shown[0]["since"].startswith(month.isoformat(timespec="seconds"))
