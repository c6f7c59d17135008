"""What happened to an org's credentials, and who was given them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gateway import query, sheet, views
from gateway.authentication import identity_of
from gateway.calls import ask
from gateway.identity import ORG_ID
from gateway.problems import Interrupted, Refusal
from gateway.query import Parameter
from tenantvault.credentials import Provider
from tenantvault.errors import TenantVaultError
from tenantvault.messages import PROVIDER_NUMBER
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import status_service_pb2 as status_pb

AUDIT_DEADLINE: Final = 10.0
COUNT_DEADLINE: Final = 10.0
"""Seconds."""

MOST_ROWS: Final = 100_000
"""Rows of one export."""

FILTERS: Final[Mapping[str, Parameter]] = {
    "provider": query.one_of(Provider),
    "action": query.matching("[a-z_.]{1,64}", hint="Give an action as it is in the events, e.g. credential.get."),
    "service": query.matching("[a-z0-9][a-z0-9-]{0,62}", hint="Give a service as it is in the events."),
    "failed": query.flag(),
}
"""Which events are wanted: without any of these, all."""

EXPORT: Final[Mapping[str, Parameter]] = {
    **FILTERS,
    "org": query.matching(ORG_ID.pattern, hint="Give the organisation that the page was shown for."),
}
"""The same, and whose they are thought to be: a link sends no header that could say so."""

PAGE: Final[Mapping[str, Parameter]] = {
    **FILTERS,
    "before": query.whole(1, 2**53 - 1),
    "limit": query.whole(1, 200, default=50),
}
"""The filters, and which page of them."""

DAYS: Final[Mapping[str, Parameter]] = {"days": query.whole(1, 365, default=30)}

_AT_ONCE: Final = 1000


class ActivityCalls(Protocol):
    """What is asked of the vault: the stub of IntegrationStatusService."""

    @property
    def ListAuditEvents(self) -> Callable[..., Awaitable[status_pb.ListAuditEventsResponse]]:  # noqa: N802 - the proto's name
        """What happened, newest first."""

    @property
    def CountReads(self) -> Callable[..., Awaitable[status_pb.CountReadsResponse]]:  # noqa: N802 - the proto's name
        """How often each service was given credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """The endpoints of the audit. `now` is the wall clock."""

    vault: ActivityCalls
    most_rows: int = MOST_ROWS
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def audit(self, request: Request) -> JSONResponse:
        """GET /api/integrations/audit: what happened, newest first, a page at a time.

        `next` is what to give as `before` for the next page; null at the end, and nowhere else: so many events are
        looked through for a page and no more, so it may be short, or empty, and still have a next one. `since` is when
        what was looked through began; null at the end.
        """
        asked = query.values(request, PAGE)
        limit = asked["limit"]
        # One more than is shown tells whether there is a next page.
        page = await self._page(request, asked, before=asked["before"], size=limit + 1)
        following, since = page.next_before_sequence, page.since
        if len(page.events) > limit:
            following, since = page.events[limit - 1].sequence, page.events[limit - 1].occurred_at
        return JSONResponse(
            {
                "events": [views.audit_event(event) for event in page.events[:limit]],
                "next": following or None,
                "since": views.iso(since) if following else None,
            }
        )

    async def export(self, request: Request) -> Response:
        """GET /api/integrations/audit.csv: all of it, newest first, as a download.

        After 100 000 rows it is cut, and its last line says so. A transfer that breaks off is not complete. What a
        spreadsheet might take for a formula stands behind an apostrophe. `org` chooses nothing: the download is refused
        when somebody of another organisation is signed in by now.
        """
        asked = query.values(request, EXPORT)
        org_id = identity_of(request).org_id
        if asked["org"] not in ("", org_id):
            raise Refusal("OTHER_ORG")
        headers = {"Content-Disposition": f'attachment; filename="tenantvault-audit-{org_id}.csv"'}
        if request.method == "HEAD":
            return Response(headers=headers, media_type="text/csv")
        # The first page is asked for before the answer begins, so that a failure is answered as one.
        first = await self._page(request, asked)
        return StreamingResponse(self._lines(request, asked, first), headers=headers, media_type="text/csv")

    async def access(self, request: Request) -> JSONResponse:
        """GET /api/integrations/access: how often each service was given each credential in the last `days`.

        `since` is when the counting began: later than was asked for when more happened than is looked through.
        """
        since = Timestamp()
        since.FromDatetime(self.now() - timedelta(days=query.values(request, DAYS)["days"]))
        wanted = status_pb.CountReadsRequest(org_id=identity_of(request).org_id, since=since)
        answer = await ask(request, self.vault.CountReads, wanted, COUNT_DEADLINE)
        return JSONResponse({"since": views.iso(answer.since), "counts": views.read_counts(answer.counts)})

    async def _lines(
        self, request: Request, asked: Mapping[str, Any], page: status_pb.ListAuditEventsResponse
    ) -> AsyncIterator[str]:
        yield sheet.head()
        left = self.most_rows
        while True:
            shown = page.events[:left]
            left -= len(shown)
            if shown:
                yield sheet.lines(map(views.audit_event, shown))
            if len(page.events) > len(shown):
                yield sheet.note(
                    f"Cut after {self.most_rows} rows: there is more. Choose filters to see less at a time."
                )
                return
            if not page.next_before_sequence:
                return
            try:
                page = await self._page(request, asked, before=page.next_before_sequence)
            except TenantVaultError as error:
                raise Interrupted(error.reason) from None

    async def _page(
        self, request: Request, asked: Mapping[str, Any], *, before: int = 0, size: int = _AT_ONCE
    ) -> status_pb.ListAuditEventsResponse:
        wanted = status_pb.ListAuditEventsRequest(
            org_id=identity_of(request).org_id,
            page_size=size,
            before_sequence=before,
            provider=PROVIDER_NUMBER.get(asked["provider"], pb.PROVIDER_UNSPECIFIED),
            action=asked["action"],
            peer=asked["service"],
            failed=asked["failed"],
        )
        return await ask(request, self.vault.ListAuditEvents, wanted, AUDIT_DEADLINE)
