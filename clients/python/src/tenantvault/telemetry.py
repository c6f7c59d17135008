"""A client's calls and memory, told to OpenTelemetry. The package `opentelemetry-api` comes with the extra `otel`.

    from tenantvault.telemetry import OpenTelemetry

    vault = AsyncClient.from_env(telemetry=OpenTelemetry())

Each call over the wire is a client span, with the attributes of
https://opentelemetry.io/docs/specs/semconv/rpc/grpc/ and carries the trace to the vault. What is read is no part of it,
nor for whom: an org's id is only there with `org_ids`. A read from memory makes no span; it is counted:

- `tenantvault.client.reads`: how reads were answered, by `outcome`: `hits`, `misses`, `joined` and `stale`, as
  `CacheStatistics` has them.
- `tenantvault.client.remembered`: the answers that are in memory.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from opentelemetry import metrics, propagate, trace

from tenantvault._cache_settings import CacheStatistics
from tenantvault._forks import tell_in_children

_NAME: Final = "tenantvault"
# Two for each that comes: then there are never many more of those that are gone than of those that are there.
_LOOKED_AT: Final = 2
_OUTCOMES: Final = ("hits", "misses", "joined", "stale")


class OpenTelemetry:
    """Tells OpenTelemetry of the clients that are given it. Without providers, those of the process are told.

    Args:
        tracer_provider: whom spans are told.
        meter_provider: whom counts are told.
        org_ids: put the org of a request into its span, as `tenantvault.org_id`.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        org_ids: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        self._org_ids = org_ids
        self._latest: dict[Callable[[], CacheStatistics | None], CacheStatistics] = {}
        self._gone: Counter[str] = Counter()
        self._lock = threading.Lock()
        tell_in_children(self)
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        meter.create_observable_counter("tenantvault.client.reads", [self._reads], "{read}", "How reads were answered.")
        meter.create_observable_gauge(
            "tenantvault.client.remembered", [self._remembered], "{answer}", "Answers that are in memory."
        )

    def begin(self, method: str, target: str, request: Any) -> "ClientSpan":
        """A call of a method, by its full name, at a `host:port` begins."""
        address, _, port = target.rpartition("/")[2].rpartition(":")
        attributes: dict[str, str | int] = {
            "rpc.system.name": "grpc",
            "rpc.method": method,
            "server.address": address.strip("[]"),
        }
        if port.isdecimal():
            attributes["server.port"] = int(port)
        if self._org_ids and (org_id := getattr(request, "org_id", "")):
            attributes["tenantvault.org_id"] = org_id
        return ClientSpan(self._tracer.start_span(method, kind=trace.SpanKind.CLIENT, attributes=attributes))

    def observe(self, statistics: Callable[[], CacheStatistics | None]) -> None:
        """Count a client's memory too, until that is None."""
        with self._lock:
            self._look(_LOOKED_AT)
            self._latest[statistics] = CacheStatistics()

    def forked(self) -> None:
        """This process is a child of the one that made it: who holds the lock is in the parent."""
        self._lock = threading.Lock()

    def _reads(self, _: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        latest = self._all()
        for outcome in _OUTCOMES:
            number = self._gone[outcome] + sum(getattr(each, outcome) for each in latest)
            yield metrics.Observation(number, {"outcome": outcome})

    def _remembered(self, _: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        yield metrics.Observation(sum(each.entries for each in self._all()))

    def _all(self) -> list[CacheStatistics]:
        with self._lock:
            self._look(len(self._latest))
            return list(self._latest.values())

    def _look(self, most: int) -> None:
        """Look at those that were not looked at for the longest."""
        for statistics in list(islice(self._latest, most)):
            counts = statistics()
            last = self._latest.pop(statistics)
            if counts is not None:
                self._latest[statistics] = counts
            else:
                # What a client has read stays read when there is no client any more.
                self._gone.update({outcome: getattr(last, outcome) for outcome in _OUTCOMES})


class ClientSpan:
    """The span of one call."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What carries the trace to the server."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(self._span))
        return tuple((name.lower(), value) for name, value in carrier.items())

    def end(self, code: str, reason: str = "") -> None:
        """The call is over."""
        self._span.set_attribute("rpc.response.status_code", code)
        if reason:
            self._span.set_attribute("error.type", reason)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()
