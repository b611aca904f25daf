"""The metrics of the service: summed over all workers where `PROMETHEUS_MULTIPROC_DIR` is set.

All events are counted here. The counts of a single worker are read from its own series, and the sums over the
workers from the metrics library's files (`worker_sums.py`).

No id, token or path is ever a label: labels are tiers, events, entities, routes, operations, states and statuses,
each from a bounded list.
"""

from __future__ import annotations

import platform
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

import servease_appt
from servease_appt.cache import Event, Lookup, Mode, Tier
from servease_appt.cache.breaker import BreakerState
from servease_appt.db.events import Backlog
from servease_appt.observability import metric_files
from servease_appt.observability.access_log import METHODS
from servease_appt.observability.worker_sums import AllWorkers, Totals, own_totals, read_totals
from servease_appt.references.entities import ENTITIES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

EVENTS = "servease_cache_events"
REFERENCES = "servease_cache_references"
HTTP = "servease_http_request_duration_seconds"
UPSTREAM = "servease_upstream_call_duration_seconds"
REDIS = "servease_redis_operation_duration_seconds"
READS = "servease_cache_read_duration_seconds"
MODE = "servease_cache_mode"
BREAKER = "servease_breaker_state"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.04, 0.05, 0.06, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
REDIS_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
READ_SECONDS = (
    5e-6, 1e-5, 2e-5, 3e-5, 5e-5, 7.5e-5, 1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 7.5e-4,
    0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025, 0.1,
)  # fmt: skip

COMPARED = ("l1_l2", "l2_source")
ALARMING = (
    (Tier.CHANNEL, Event.GAP),
    (Tier.CHANNEL, Event.RECONNECT),
    (Tier.CHANNEL, Event.UNREADABLE),
    (Tier.L2, Event.ERROR),
    (Tier.L2, Event.FAILED_INVALIDATION),
)


class Metrics:
    """Counters, histograms and gauges of one application. Thread-safe; a call costs a few microseconds."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._events = self._counter(
            EVENTS,
            "Events of the cache",
            "tier",
            "event",
            "entity",
        )
        self._references = self._counter(
            REFERENCES, "References shown, by the source they came from", "endpoint", "source"
        )
        self._unchecked = self._counter(
            "servease_unchecked_bookings",
            "Bookings and assignments by staff whose customer, vehicle or employee could not be checked",
            "reference",
        )
        self._transitions = self._counter(
            "servease_breaker_transitions", "Changes of a breaker to a state", "breaker", "state"
        )
        self._compared = self._counter(
            "servease_cache_coherence_checks",
            "Cached values that were compared with their source",
            "tiers",
        )
        self._mismatches = self._counter(
            "servease_cache_coherence_mismatches",
            "Compared values that differed from their source twice, a second apart",
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
        self._lists = self._counter(
            "servease_list_reads",
            "Lists by where they were read: `replica`, or the reason why it was the primary",
            "outcome",
        )
        self._reads = self._histogram(
            READS,
            "Sampled lookups of an answer, by the tier that they waited for",
            READ_SECONDS,
            "tier",
            "entity",
        )
        self._make_gauges()
        self._begin_at_zero()

    def _make_gauges(self) -> None:
        self._modes = self._gauge(MODE, "Workers whose cache is in this mode", "livesum", "mode")
        self._breakers = self._gauge(
            BREAKER, "Workers whose breaker is in this state", "livesum", "breaker", "state"
        )
        self._entries = self._gauge("servease_cache_l1_entries", "Entries in L1 of all workers", "livesum")
        self._heard_at = self._gauge(
            "servease_cache_channel_last_answer_timestamp_seconds",
            "When Redis last answered on the channel of the worker that has waited longest",
            "livemin",
            "channel",  # without a label the library starts at 0, and a starting worker would wait since 1970
        )
        self._build = self._gauge(
            "servease_build_info",
            "Always 1; the labels name the running version",
            "livemax",
            "version",
            "python_version",
        )
        self._wrong_days = self._gauge(
            "servease_kept_counts_wrong_days", "Days of the last sample whose kept count was wrong", "livemax"
        )
        self._waiting_events = self._gauge(
            "servease_event_backlog_events",
            "Booking events that are not in the Redis stream yet",
            "livemax",
            "stream",
        )
        self._oldest_event = self._gauge(
            "servease_event_backlog_oldest_timestamp_seconds",
            "When the oldest booking event occurred that is not in the Redis stream yet; now if there is none",
            "livemin",
            "stream",
        )

    def _begin_at_zero(self) -> None:
        """Create the series that alerts use: Prometheus sees no increase when a series appears with a value."""
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

    # Record

    def count(self, tier: Tier, event: Event, entity: str, n: int = 1) -> None:
        """Count an event of the cache (`servease_appt.cache.Recorder`)."""
        self._events(tier, event, entity).inc(n)

    def page(self, endpoint: str, asked: int, lookup: Lookup[Any]) -> None:
        """Count the references that one answer showed."""
        if asked > len(lookup.sources):
            self._references(endpoint, "l1").inc(asked - len(lookup.sources))
        for source, n in Tally(lookup.sources.values()).items():
            self._references(endpoint, source).inc(n)

    def upstream_call(self, entity: str, seconds: float, outcome: str) -> None:
        """Record a call to another service."""
        self._upstream(entity, outcome).observe(seconds)

    def redis_operation(self, operation: str, seconds: float, outcome: str) -> None:
        """Record a round trip of the cache to Redis; the outcome is `ok`, `refused` or `error`."""
        self._operations(operation, outcome).observe(seconds)

    def tier_read(self, tier: Tier, entity: str, seconds: float) -> None:
        """Record how long a lookup waited for a tier; see `references.read_times.ReadTimes`."""
        self._reads(tier, entity).observe(seconds)

    def request(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """Record an answered request. `endpoint` is a route's name, never a path."""
        self._requests(endpoint, method if method in METHODS else "other", str(status)).observe(seconds)

    def request_refused(self, reason: str) -> None:
        """Count a request that ended before the application saw it; see `serving.worker.Refusal` for reasons."""
        self._refused(reason).inc()

    def unchecked_booking(self, reference: str) -> None:
        """Count a booking or assignment by staff whose `reference`, an entity, could not be checked."""
        self._unchecked(reference).inc()

    def begin_list_reads(self, outcomes: Iterable[str]) -> None:
        """Create the series of lists, where there is a replica to read them from."""
        for outcome in outcomes:
            self._lists(outcome).inc(0)

    def list_read(self, outcome: str) -> None:
        """Count a list, by `servease_appt.list_reads.lists.OUTCOMES`. Not called where there is no replica."""
        self._lists(outcome).inc()

    def breaker_changed(self, breaker: str, state: BreakerState) -> None:
        """Count a breaker's change to `state`."""
        self._transitions(breaker, state).inc()

    def compared(self, tiers: str, n: int, mismatches: int) -> None:
        """Count `n` compared values, of which `mismatches` differed twice."""
        self._compared(tiers).inc(n)
        if mismatches:
            self._mismatches(tiers).inc(mismatches)

    # State

    def set_worker_state(
        self,
        *,
        mode: Mode,
        breakers: Mapping[str, BreakerState],
        l1_entries: int,
        heard_at_s: float,
    ) -> None:
        """Set this worker's gauges. `heard_at_s` is when Redis last answered on its channel, on the wall clock."""
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
        """Set the number of sampled days whose kept count differs from the number of their rows."""
        self._wrong_days().set(wrong_days)

    def event_backlog(self, backlog: Backlog) -> None:
        """Set what is not delivered to the Redis stream yet. Not called while the stream is turned off."""
        self._waiting_events("events").set(backlog.events)
        self._oldest_event("events").set(time.time() - backlog.oldest_s)

    # Read

    def text(self) -> bytes:
        """Return all metrics of all workers in Prometheus' text format."""
        where = metric_files.directory()
        if where is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        registry.register(AllWorkers(where))
        return generate_latest(registry)

    def totals(self) -> Totals:
        """Return the sums over all workers of this instance, those that have ended included."""
        return read_totals(self._registry)

    def worker_totals(self) -> Totals:
        """Return the events and references that this worker alone has counted since it started."""
        return own_totals([*self._events.collect(), *self._references.collect()])


class _Children:
    """The labelled children of one metric. A lookup here costs a tenth of the library's `labels()`."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._by_values: dict[tuple[str, ...], Any] = {}

    def collect(self) -> Iterable[Metric]:
        """Return this process's own series, without those of other workers."""
        found: Iterable[Metric] = self._metric.collect()
        return found

    def __call__(self, *values: str) -> Any:
        child = self._by_values.get(values)
        if child is None:
            make: Callable[..., Any] = self._metric.labels
            child = self._by_values[values] = make(*values) if values else self._metric
        return child
