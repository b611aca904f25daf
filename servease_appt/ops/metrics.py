"""What is measured, in Prometheus' terms; right across all workers where `PROMETHEUS_MULTIPROC_DIR` is set.

No id, token or path of a person is ever a label: labels are tiers, events, entities, endpoints and statuses.
"""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from servease_appt.cache import Event, Lookup, Stats, Tier

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

_EVENTS = "servease_cache_events"
_REFERENCES = "servease_cache_references"


class Metrics:
    """Counters and histograms of one application. Thread-safe; costs a few microseconds a call."""

    def __init__(self) -> None:
        self.worker = Stats()
        self._registry = CollectorRegistry()
        self._events = _Children(
            Counter(
                _EVENTS,
                "What happened in the cache",
                ["tier", "event", "entity"],
                registry=self._registry,
            ).labels
        )
        self._references = _Children(
            Counter(
                _REFERENCES,
                "References shown, by where they came from",
                ["endpoint", "source"],
                registry=self._registry,
            ).labels
        )
        self._upstream = _Children(
            Histogram(
                "servease_upstream_call_seconds",
                "Calls to the services that own customers, vehicles and employees",
                ["entity", "outcome"],
                buckets=SECONDS,
                registry=self._registry,
            ).labels
        )
        self._requests = _Children(
            Histogram(
                "servease_http_request_seconds",
                "Requests by endpoint and status",
                ["endpoint", "method", "status"],
                buckets=SECONDS,
                registry=self._registry,
            ).labels
        )
        self._unchecked = _Children(
            Counter(
                "servease_unchecked_bookings",
                "Bookings by staff whose customer or vehicle could not be checked",
                ["reference"],
                registry=self._registry,
            ).labels
        )

    def count(self, tier: Tier, event: Event, entity: str, n: int = 1) -> None:
        """An event of the cache (`servease_appt.cache.Recorder`)."""
        self.worker.count(tier, event, entity, n)
        self._events(tier, event, entity).inc(n)

    def page(self, endpoint: str, asked: int, lookup: Lookup[Any]) -> None:
        """An answer was given its names."""
        if asked > len(lookup.sources):
            self._references(endpoint, "l1").inc(asked - len(lookup.sources))
        for source, n in Tally(lookup.sources.values()).items():
            self._references(endpoint, source).inc(n)

    def upstream_call(self, entity: str, seconds: float, outcome: str) -> None:
        """A call to another service ended."""
        self._upstream(entity, outcome).observe(seconds)

    def request(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests(endpoint, method, str(status)).observe(seconds)

    def unchecked_booking(self, reference: str) -> None:
        """Staff booked although `customer` or `vehicle` could not be checked."""
        self._unchecked(reference).inc()

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self._collected())

    def _collected(self) -> CollectorRegistry:
        if DIRECTORY_VARIABLE not in os.environ:
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry

    def event_totals(self) -> dict[str, dict[str, dict[str, int]]]:
        """The cache's events of all workers together, as `{tier: {entity: {event: n}}}`."""
        totals: dict[str, dict[str, dict[str, int]]] = {}
        for labels, n in self._samples(_EVENTS):
            by_entity = totals.setdefault(labels["tier"], {})
            by_entity.setdefault(labels["entity"], {})[labels["event"]] = n
        return totals

    def reference_totals(self) -> dict[str, dict[str, int]]:
        """References shown by all workers together, as `{endpoint: {source: n}}`."""
        totals: dict[str, dict[str, int]] = {}
        for labels, n in self._samples(_REFERENCES):
            totals.setdefault(labels["endpoint"], {})[labels["source"]] = n
        return totals

    def _samples(self, name: str) -> Iterable[tuple[dict[str, str], int]]:
        metrics: Iterable[Metric] = self._collected().collect()
        for metric in metrics:
            if metric.name == name:
                for sample in metric.samples:
                    if sample.name == f"{name}_total":
                        yield sample.labels, int(sample.value)


class _Children:
    """The labelled children of one metric: looking one up here costs a tenth of `labels()`."""

    def __init__(self, labels: Callable[..., Any]) -> None:
        self._labels = labels
        self._by_values: dict[tuple[str, ...], Any] = {}

    def __call__(self, *values: str) -> Any:
        child = self._by_values.get(values)
        if child is None:
            child = self._by_values[values] = self._labels(*values)
        return child
