"""Metrics: counts and durations by method, peer and status. No label holds an org, an id or a value."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

# Seconds. An empty call takes 0.3 ms of CPU; a connect may take half a minute.
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The metrics of one process; `count` adds what the process itself counts."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    calls: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    # By what `record` is told, as far as it is a label: to look a label up costs more than to count.
    _called: dict[tuple[str, str, str], tuple[Counter, Histogram]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        counter = Counter(
            "tenantvault_rpc_calls", "Calls, by outcome.", ("method", "peer", "code"), registry=self.registry
        )
        histogram = Histogram(
            "tenantvault_rpc_seconds", "How long calls took.", ("method",), registry=self.registry, buckets=_BUCKETS
        )
        object.__setattr__(self, "calls", counter)
        object.__setattr__(self, "seconds", histogram)

    def record(self, *, method: str, peer: str, code: str, seconds: float) -> None:
        """Count one call."""
        if (called := self._called.get((method, peer, code))) is None:
            called = self.calls.labels(method, peer, code), self.seconds.labels(method)
            self._called[method, peer, code] = called
        calls, durations = called
        calls.inc()
        durations.observe(seconds)

    def count(self, name: str, help_text: str, read: Callable[[], Mapping[str, int]]) -> None:
        """Also show numbers that only grow, read when somebody looks: one for each outcome."""
        self.registry.register(_Counts(name, help_text, read))

    def expose(self, listen: str) -> Callable[[], None]:
        """Serve the metrics as Prometheus text over HTTP on `host:port`, from a thread of its own.

        Returns what ends it. Raises OSError when the address is taken.
        """
        host, _, port = listen.rpartition(":")
        server, thread = start_http_server(int(port), host.strip("[]"), registry=self.registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return close


@dataclass(frozen=True, slots=True, eq=False)
class _Counts(Collector):
    name: str
    help_text: str
    read: Callable[[], Mapping[str, int]]

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self.name, self.help_text, labels=["outcome"])
        for outcome, number in self.read().items():
            family.add_metric([outcome], number)
        yield family
