"""The cache's counters as JSON, computed from the totals of one worker or of all workers."""

from __future__ import annotations

import hmac
import resource
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import servease_appt
from servease_appt.observability.metrics import (
    BREAKER,
    EVENTS,
    HTTP,
    MODE,
    REDIS,
    REFERENCES,
    UPSTREAM,
    Metrics,
)
from servease_appt.observability.worker_sums import Series, Totals
from servease_appt.references.enrichment import Lookups

SERVED_WITHOUT_UPSTREAM = ("l1", "l2")
TIMED = {"http": HTTP, "redis": REDIS, "upstream": UPSTREAM}
Tiers = Mapping[str, Mapping[str, Mapping[str, int]]]
Endpoints = Mapping[str, Mapping[str, int]]

QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95}


def cache_report(lookups: Lookups, metrics: Metrics) -> dict[str, Any]:
    """Return the answer of `GET /cache/stats/`: this worker's counters, and all workers'."""
    cache = lookups.cache
    channel = cache.channel
    own, totals = metrics.worker_totals(), metrics.totals()
    return {
        "mode": cache.mode.value,
        "worker": {
            "id": cache.identity,
            "l1_entries": cache.l1.size(),
            "l1_evictions": cache.l1.evictions,
            "channel_confirmed": channel is not None and channel.confirmed,
            "tracking": channel is not None and channel.tracking,
            "sequence": channel.sequence if channel is not None else None,
            "breakers": {
                "redis": cache.breaker.state.value,
                **{entity: state.value for entity, state in lookups.breaker_states().items()},
            },
            "tiers": events_by_tier(own),
            "endpoints": with_hit_rates(references_by_endpoint(own)),
        },
        "all_workers": {
            "modes": workers_by_mode(totals),
            "breakers": workers_by_breaker_state(totals),
            "tiers": events_by_tier(totals),
            "endpoints": with_hit_rates(references_by_endpoint(totals)),
            "times": {name: _times(totals, histogram) for name, histogram in TIMED.items()},
        },
    }


def workers_by_mode(totals: Totals) -> dict[str, int]:
    """Return how many workers are in each mode."""
    return {mode: int(n) for (mode,), n in totals.by(MODE, "mode").items()}


def workers_by_breaker_state(totals: Totals) -> dict[str, dict[str, int]]:
    """Return how many workers' breakers are in each state, as `{breaker: {state: n}}`."""
    states: dict[str, dict[str, int]] = {}
    for (breaker, state), n in totals.by(BREAKER, "breaker", "state").items():
        states.setdefault(breaker, {})[state] = int(n)
    return states


def events_by_tier(totals: Totals) -> dict[str, dict[str, dict[str, int]]]:
    """Return the cache's events as `{tier: {entity: {event: n}}}`."""
    tiers: dict[str, dict[str, dict[str, int]]] = {}
    for (tier, entity, event), n in totals.by(f"{EVENTS}_total", "tier", "entity", "event").items():
        tiers.setdefault(tier, {}).setdefault(entity, {})[event] = int(n)
    return tiers


def references_by_endpoint(totals: Totals) -> dict[str, dict[str, int]]:
    """Return the references shown as `{endpoint: {source: n}}`."""
    endpoints: dict[str, dict[str, int]] = {}
    for (endpoint, source), n in totals.by(f"{REFERENCES}_total", "endpoint", "source").items():
        endpoints.setdefault(endpoint, {})[source] = int(n)
    return endpoints


def with_hit_rates(endpoints: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Any]]:
    """Add each endpoint's `hit_rate`, from 0 to 1; None where no reference was looked up."""
    return {
        endpoint: {**counts, "hit_rate": _hit_rate(counts)} for endpoint, counts in sorted(endpoints.items())
    }


def _hit_rate(counts: Mapping[str, int]) -> float | None:
    """Return the share of references that were found in L1 or L2."""
    asked = sum(counts.values())
    return (
        round(sum(counts.get(source, 0) for source in SERVED_WITHOUT_UPSTREAM) / asked, 4) if asked else None
    )


def worker_status(lookups: Lookups, metrics: Metrics, secret_key: str) -> dict[str, Any]:
    """Return the counters and states that a worker adds to its cache's state in answers to the query `status`.

    Cheap enough for the listener's thread: it reads only this process's series.
    """
    own = metrics.worker_totals()
    return {
        "version": servease_appt.__version__,
        "secret_key_id": secret_key_id(secret_key),
        "resident_bytes": resident_bytes(),
        "breakers": {entity: state.value for entity, state in lookups.breaker_states().items()},
        "tiers": events_by_tier(own),
        "endpoints": references_by_endpoint(own),
    }


def resident_bytes() -> int | None:
    """Return the memory of this process that is in RAM; None where the system has no `/proc`."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return None


def secret_key_id(secret_key: str) -> str:
    """Return a short hash to compare secret keys. It signs nothing, and 32 bits reveal no key."""
    return hmac.new(secret_key.encode(), b"servease secret key id", "sha256").hexdigest()[:8]


def sum_of_workers(statuses: Iterable[tuple[Tiers, Endpoints]]) -> Totals:
    """Return the sum of workers' answers to `status`, for a command whose host may not have the workers' files."""
    return Totals(
        sample
        for tiers, endpoints in statuses
        for sample in (*_event_samples(tiers), *_reference_samples(endpoints))
    )


def _event_samples(tiers: Tiers) -> Iterator[tuple[Series, float]]:
    for tier, entities in tiers.items():
        for entity, events in entities.items():
            for event, n in events.items():
                yield Series(f"{EVENTS}_total", {"tier": tier, "entity": entity, "event": event}), n


def _reference_samples(endpoints: Endpoints) -> Iterator[tuple[Series, float]]:
    for endpoint, sources in endpoints.items():
        for source, n in sources.items():
            yield Series(f"{REFERENCES}_total", {"endpoint": endpoint, "source": source}), n


def lookups_summary(tiers: Tiers) -> dict[str, Any]:
    """Return the number of references looked up, the hits of each tier, and the hit rate (0 to 1, None: none)."""

    def count(tier: str, event: str) -> int:
        return sum(events.get(event, 0) for events in tiers.get(tier, {}).values())

    l1, l2 = count("l1", "hit"), count("l2", "hit")
    asked = l1 + count("l1", "miss")
    return {"asked": asked, "l1": l1, "l2": l2, "hit_rate": round((l1 + l2) / asked, 4) if asked else None}


def _times(totals: Totals, histogram: str) -> dict[str, float | int | None]:
    """Return the count and quantiles since the start; above the last bucket's bound a quantile is that bound."""
    quantiles = {name: totals.quantile(histogram, share) for name, share in QUANTILES.items()}
    return {
        "count": totals.count(histogram),
        **{name: None if value is None else round(value * 1000, 3) for name, value in quantiles.items()},
    }
