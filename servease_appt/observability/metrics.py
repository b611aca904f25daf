"""What is measured, in Prometheus' terms; right across all workers where `PROMETHEUS_MULTIPROC_DIR` is set.

No id, token or path of a person is ever a label: labels are tiers, events, entities, routes, operations, states
and statuses, each from a list that ends.
"""

from __future__ import annotations

import platform
from collections import Counter as Tally
from collections.abc import Callable, Mapping
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

import servease_appt
from servease_appt.cache import Event, Lookup, Mode, Stats, Tier
from servease_appt.cache.breaker import BreakerState
from servease_appt.observability import metric_files
from servease_appt.observability.access_log import METHODS
from servease_appt.observability.worker_sums import AllWorkers, Totals, read_totals
from servease_appt.references.entities import ENTITIES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

EVENTS = "servease_cache_events"
REFERENCES = "servease_cache_references"
HTTP = "servease_http_request_duration_seconds"
UPSTREAM = "servease_upstream_call_duration_seconds"
REDIS = "servease_redis_operation_duration_seconds"
MODE = "servease_cache_mode"
BREAKER = "servease_breaker_state"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
REDIS_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)

COMPARED = ("l1_l2", "l2_source")
ALARMING = (
    (Tier.CHANNEL, Event.GAP),
    (Tier.CHANNEL, Event.RECONNECT),
    (Tier.CHANNEL, Event.UNREADABLE),
    (Tier.L2, Event.ERROR),
    (Tier.L2, Event.FAILED_INVALIDATION),
)


class Metrics:
    """Counters, histograms and gauges of one application. Thread-safe; costs a few microseconds a call."""

    def __init__(self) -> None:
        self.worker = Stats()
        self._registry = CollectorRegistry()
        self._events = self._counter(
            EVENTS,
            "What happened in the cache",
            "tier",
            "event",
            "entity",
        )
        self._references = self._counter(
            REFERENCES, "References shown, by where they came from", "endpoint", "source"
        )
        self._unchecked = self._counter(
            "servease_unchecked_bookings",
            "Bookings and assignments by staff whose customer, vehicle or employee could not be checked",
            "reference",
        )
        self._transitions = self._counter(
            "servease_breaker_transitions", "Breakers that went into a state", "breaker", "state"
        )
        self._compared = self._counter(
            "servease_cache_coherence_checks",
            "Cached values that were compared with the tier behind",
            "tiers",
        )
        self._mismatches = self._counter(
            "servease_cache_coherence_mismatches",
            "Compared values that differed from the tier behind at two looks",
            "tiers",
        )
        self._requests = self._histogram(
            HTTP, "Requests by route, method and status", SECONDS, "endpoint", "method", "status"
        )
        self._upstream = self._histogram(
            UPSTREAM,
            "Calls to the services that own customers, vehicles and employees",
            SECONDS,
            "entity",
            "outcome",
        )
        self._refused = self._counter(
            "servease_requests_refused", "Requests that ended before the application saw them", "reason"
        )
        self._operations = self._histogram(
            REDIS, "Round trips of the cache to Redis", REDIS_SECONDS, "operation", "outcome"
        )
        self._modes = self._gauge(MODE, "Workers whose cache is in this mode", "livesum", "mode")
        self._breakers = self._gauge(
            BREAKER, "Workers whose breaker is in this state", "livesum", "breaker", "state"
        )
        self._entries = self._gauge("servease_cache_l1_entries", "Entries in L1 of all workers", "livesum")
        self._heard_at = self._gauge(
            "servease_cache_channel_last_answer_timestamp_seconds",
            "When Redis last answered on a channel of the worker that has waited longest",
            "livemin",
            "channel",  # without a label the library begins at 0, and a starting worker waits since 1970
        )
        self._build = self._gauge(
            "servease_build_info", "1, with what is running", "livemax", "version", "python_version"
        )
        self._wrong_days = self._gauge(
            "servease_kept_counts_wrong_days", "Days of the last sample whose kept count was wrong", "livemax"
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Let the series that alerts are about exist from the start: an increase from nothing is not seen."""
        for tiers in COMPARED:
            self._compared(tiers).inc(0)
            self._mismatches(tiers).inc(0)
        for tier, event in ALARMING:
            self._events(tier, event, "-").inc(0)
        for reference in ENTITIES:
            self._unchecked(reference).inc(0)

    def _counter(self, name: str, about: str, *labels: str) -> _Children:
        return _Children(Counter(name, about, labels, registry=self._registry))

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...], *labels: str) -> _Children:
        return _Children(Histogram(name, about, labels, buckets=buckets, registry=self._registry))

    def _gauge(
        self, name: str, about: str, over_workers: Literal["livesum", "livemin", "livemax"], *labels: str
    ) -> _Children:
        gauge = Gauge(name, about, labels, registry=self._registry, multiprocess_mode=over_workers)
        return _Children(gauge)

    # What happens

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

    def redis_operation(self, operation: str, seconds: float, outcome: str) -> None:
        """A round trip of the cache ended: `ok`, `refused` or `error`."""
        self._operations(operation, outcome).observe(seconds)

    def request(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """A request was answered. `endpoint` is a route's name, never a path."""
        self._requests(endpoint, method if method in METHODS else "other", str(status)).observe(seconds)

    def request_refused(self, reason: str) -> None:
        """A request ended before the application saw it: the `reason` is one of `serving.worker.Refusal`."""
        self._refused(reason).inc()

    def unchecked_booking(self, reference: str) -> None:
        """Staff booked or assigned although `customer`, `vehicle` or `employee` could not be checked."""
        self._unchecked(reference).inc()

    def breaker_changed(self, breaker: str, state: BreakerState) -> None:
        """A breaker went into `state`."""
        self._transitions(breaker, state).inc()

    def compared(self, tiers: str, n: int, mismatches: int) -> None:
        """`n` values were compared over `tiers`, of which `mismatches` differed at two looks."""
        self._compared(tiers).inc(n)
        if mismatches:
            self._mismatches(tiers).inc(mismatches)

    # How things stand

    def worker_stands(
        self,
        *,
        mode: Mode,
        breakers: Mapping[str, BreakerState],
        l1_entries: int,
        heard_at_s: float,
    ) -> None:
        """The state of this worker now; `heard_at_s` is the wall clock's."""
        for known_mode in Mode:
            self._modes(known_mode).set(known_mode is mode)
        for breaker, state in breakers.items():
            for known_state in BreakerState:
                self._breakers(breaker, known_state).set(known_state is state)
            for change in (BreakerState.OPEN, BreakerState.CLOSED):
                self._transitions(breaker, change).inc(0)
        self._entries().set(l1_entries)
        self._heard_at("invalidations").set(heard_at_s)
        self._build(servease_appt.__version__, platform.python_version()).set(1)

    def kept_counts_sampled(self, wrong_days: int) -> None:
        """How many days of a sample have a kept count that is not the number of their rows."""
        self._wrong_days().set(wrong_days)

    # Reading it back

    def text(self) -> bytes:
        """All metrics of all workers as Prometheus reads them."""
        where = metric_files.directory()
        if where is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        registry.register(AllWorkers(where))
        return generate_latest(registry)

    def totals(self) -> Totals:
        """What all workers have counted together, those that are gone included."""
        return read_totals(self._registry)


class _Children:
    """The labelled children of one metric: looking one up here costs a tenth of `labels()`."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._by_values: dict[tuple[str, ...], Any] = {}

    def __call__(self, *values: str) -> Any:
        child = self._by_values.get(values)
        if child is None:
            make: Callable[..., Any] = self._metric.labels
            child = self._by_values[values] = make(*values) if values else self._metric
        return child
