"""What OpenTelemetry is told of a client: its calls, and how its memory does; no secret, and no org without leave."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tenantvault import Provider, ResourceKind, Secret, VapiCredential
from tenantvault.errors import CredentialNotFound, OrgFrozen
from tenantvault.messages import credential_to_message
from tenantvault.telemetry import OpenTelemetry
from tenantvault.v1 import access_service_pb2 as access
from tenantvault.v1 import credential_pb2 as pb

GET = "tenantvault.v1.CredentialAccessService/GetCredential"
CANARY = "canary-of-a-key"


def answer(call: Any) -> access.GetCredentialResponse:
    credential = credential_to_message(VapiCredential(api_key=Secret(CANARY)))
    return access.GetCredentialResponse(
        credential=pb.ActiveCredential(
            org_id=call.request.org_id, provider=pb.PROVIDER_VAPI, version=1, credential=credential, generation=7
        )
    )


class Told:
    """Everything that OpenTelemetry was told."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def telemetry(self, **options: Any) -> OpenTelemetry:
        return OpenTelemetry(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def counts(self) -> dict[str, Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return {
            str((point.attributes or {}).get("outcome", metric.name)): getattr(point, "value", None)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }


@pytest.fixture
def told() -> Told:
    return Told()


async def test_a_call_is_a_span_by_the_conventions_and_names_no_org_and_no_secret(
    remember: Any, wire: Any, told: Told
) -> None:
    wire.answer = answer
    client = remember(telemetry=told.telemetry(), target="vault.internal:7401")
    await client.vapi("acme")

    (span,) = told.spans
    assert (GET, trace.SpanKind.CLIENT) == (span.name, span.kind)
    assert {
        "rpc.system.name": "grpc",
        "rpc.method": GET,
        "server.address": "vault.internal",
        "server.port": 7401,
        "rpc.response.status_code": "OK",
    } == dict(span.attributes or {})
    assert trace.StatusCode.UNSET is span.status.status_code
    assert "acme" not in span.to_json()
    assert CANARY not in span.to_json()


@pytest.mark.parametrize(
    ("target", "address", "port"),
    [("[::1]:7401", "::1", 7401), ("dns:///vault:7401", "vault", 7401), ("unix:/run/vault", "", None)],
)
def test_an_address_is_told_as_it_is_written(told: Told, target: str, address: str, port: int | None) -> None:
    told.telemetry().begin(GET, target, None).end("OK")

    (span,) = told.spans
    assert (address, port) == ((span.attributes or {})["server.address"], (span.attributes or {}).get("server.port"))


async def test_the_trace_goes_along_with_the_call(remember: Any, wire: Any, told: Told) -> None:
    wire.answer = answer
    client = remember(telemetry=told.telemetry())
    with told.tracer_provider.get_tracer("test").start_as_current_span("request") as parent:
        await client.vapi("acme")

    span = told.spans[0]
    assert span.parent is not None
    assert parent.get_span_context().span_id == span.parent.span_id
    ((name, value),) = wire.calls[0].options["metadata"]
    assert "traceparent" == name
    assert f"{span.get_span_context().span_id:016x}" in value  # type: ignore[union-attr]  # it has ended


async def test_an_error_is_told_by_its_status_and_reason_and_not_by_its_text(
    remember: Any, wire: Any, told: Told
) -> None:
    client = remember(telemetry=told.telemetry())
    for error in (OrgFrozen("acme is frozen."), CredentialNotFound()):
        wire.answer = client.refused(error)
        with pytest.raises(type(error)):
            await client.vapi("acme")
    wire.answer = client.failed(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(Exception, match="cannot answer"):
        await client.report_failure("acme", Provider.VAPI, 1)

    assert [
        ("FAILED_PRECONDITION", "ORG_FROZEN"),
        ("NOT_FOUND", "CREDENTIAL_NOT_FOUND"),
        ("UNAVAILABLE", "VAULT_UNAVAILABLE"),
    ] == [
        ((span.attributes or {})["rpc.response.status_code"], (span.attributes or {})["error.type"])
        for span in told.spans
    ]
    assert {trace.StatusCode.ERROR} == {span.status.status_code for span in told.spans}
    assert not any("acme" in span.to_json() for span in told.spans)


async def test_without_a_cache_too_every_call_is_a_span(remember: Any, wire: Any, told: Told) -> None:
    wire.answer = answer
    client = remember(telemetry=told.telemetry(), cache=None)
    await client.vapi("acme")
    wire.answer = client.refused(CredentialNotFound())
    with pytest.raises(CredentialNotFound):
        await client.vapi("acme")

    assert ["OK", "NOT_FOUND"] == [(span.attributes or {})["rpc.response.status_code"] for span in told.spans]


@pytest.mark.usefixtures("unhurried")
async def test_a_call_that_nobody_waits_for_any_more_is_told_as_cancelled(
    remember: Any, wire: Any, told: Told, rpc_future: Any
) -> None:
    client = remember(telemetry=told.telemetry(), hedge_after=None)

    async def never(_: Any) -> None:
        await asyncio.get_running_loop().create_future()

    wire.answer = rpc_future if hasattr(client.client, "__enter__") else never
    with pytest.raises(Exception, match="deadline"):
        await client.vapi("acme", deadline=0.01)
    await asyncio.sleep(0)

    (span,) = told.spans
    assert "CANCELLED" == (span.attributes or {})["rpc.response.status_code"]


async def test_an_org_is_named_only_where_that_was_asked_for(remember: Any, wire: Any, told: Told) -> None:
    wire.answer = answer
    client = remember(telemetry=told.telemetry(org_ids=True))
    await client.vapi("acme")
    wire.answer = client.refused(CredentialNotFound())
    with pytest.raises(CredentialNotFound):
        await client.resolve_org(ResourceKind.PHONE_NUMBER, "+1")

    assert ["acme", None] == [(span.attributes or {}).get("tenantvault.org_id") for span in told.spans]


async def test_how_reads_were_answered_is_counted_also_when_a_client_is_gone(
    remember: Any, wire: Any, told: Told
) -> None:
    wire.answer = answer
    telemetry = told.telemetry()
    client = remember(telemetry=telemetry)
    client.memory.heard()
    for _ in range(3):
        await client.vapi("acme")

    expected = {"hits": 2, "misses": 1, "joined": 0, "stale": 0}
    assert {**expected, "tenantvault.client.remembered": 1} == told.counts()
    assert 1 == len(told.spans)

    telemetry.observe(lambda: None)
    assert {**expected, "tenantvault.client.remembered": 1} == told.counts()


def test_what_a_client_has_read_stays_read_when_it_is_gone(told: Told) -> None:
    from tenantvault import CacheStatistics

    telemetry = told.telemetry()
    there: list[CacheStatistics | None] = [CacheStatistics(hits=5, entries=2)]
    telemetry.observe(lambda: there[0])
    assert (5, 2) == (told.counts()["hits"], told.counts()["tenantvault.client.remembered"])
    there[0] = None

    assert (5, 0) == (told.counts()["hits"], told.counts()["tenantvault.client.remembered"])
    assert not telemetry._latest


def test_clients_that_come_and_go_are_let_go_of_though_nobody_asks_for_the_counts(told: Told) -> None:
    telemetry = told.telemetry()
    for _ in range(300):
        telemetry.observe(lambda: None)

    assert 3 > len(telemetry._latest)


def test_however_many_clients_there_are_another_one_looks_at_few_of_them_and_loses_none(told: Told) -> None:
    from tenantvault import CacheStatistics

    telemetry = told.telemetry()
    looked: list[int] = []

    def client(number: int) -> Callable[[], CacheStatistics]:
        def statistics() -> CacheStatistics:
            looked.append(number)
            return CacheStatistics(hits=1)

        return statistics

    for number in range(100):
        telemetry.observe(client(number))

    assert 200 > len(looked)
    # Each in its turn.
    assert set(range(50)) <= set(looked)
    assert 100 == told.counts()["hits"]


def test_a_thread_of_the_parent_that_asks_for_the_counts_holds_up_no_client_of_a_child(told: Told) -> None:
    telemetry = told.telemetry()
    telemetry._lock.acquire()
    telemetry.forked()
    telemetry.observe(lambda: None)

    assert 1 == len(telemetry._latest)


def test_nothing_of_it_is_imported_where_it_is_not_asked_for() -> None:
    script = "import sys, tenantvault; print(any(name.startswith('opentelemetry') for name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert "False\n" == ran.stdout
