"""Metrics of the gateway: how many requests, how long they took, how many listen.

No label holds an org, an id or a value.
"""

from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response

# Seconds. The status of an org takes milliseconds, a connect up to a minute.
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of one process. `registry` also takes what others count."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    requests: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    streams: Gauge = field(init=False)

    def __post_init__(self) -> None:
        labels = ("route", "method")
        counter = Counter(
            "tenantvault_http_requests", "Requests, by outcome.", (*labels, "status"), registry=self.registry
        )
        histogram = Histogram(
            "tenantvault_http_seconds", "How long requests took.", labels, registry=self.registry, buckets=_BUCKETS
        )
        object.__setattr__(self, "requests", counter)
        object.__setattr__(self, "seconds", histogram)
        gauge = Gauge("tenantvault_http_streams", "Open streams of events.", registry=self.registry)
        object.__setattr__(self, "streams", gauge)

    def record(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request. `route` is a template, never a path that somebody chose."""
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route, method).observe(seconds)

    async def expose(self, request: Request) -> Response:  # noqa: ARG002 - an endpoint's signature
        """GET /metrics: Prometheus text."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)
