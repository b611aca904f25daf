"""The cache's counters as one JSON object: this worker's, and those of all workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from servease_appt.observability.worker_sums import Totals
from servease_appt.references.enrichment import Lookups

SERVED_WITHOUT_UPSTREAM = ("l1", "l2")
TIMED = {"http": HTTP, "redis": REDIS, "upstream": UPSTREAM}
QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95}


def cache_report(lookups: Lookups, metrics: Metrics) -> dict[str, Any]:
    """Counts by tier, entity and event; references and hit rate by endpoint; modes, breakers and times."""
    cache = lookups.cache
    listener = cache.listener
    totals = metrics.totals()
    return {
        "mode": cache.mode.value,
        "worker": {
            "id": cache.identity,
            "l1_entries": cache.l1.size(),
            "l1_evictions": cache.l1.evictions,
            "channel_confirmed": listener is not None and listener.confirmed,
            "tracking": listener is not None and listener.tracking,
            "sequence": listener.sequence if listener is not None else None,
            "breakers": {
                "redis": cache.breaker.state.value,
                **{entity: state.value for entity, state in lookups.breaker_states().items()},
            },
            "tiers": metrics.worker.snapshot(),
            "endpoints": with_hit_rates(lookups.endpoint_counts()),
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
    """How many workers are in each mode."""
    return {mode: int(n) for (mode,), n in totals.by(MODE, "mode").items()}


def workers_by_breaker_state(totals: Totals) -> dict[str, dict[str, int]]:
    """How many workers' breakers are in each state, as `{breaker: {state: n}}`."""
    states: dict[str, dict[str, int]] = {}
    for (breaker, state), n in totals.by(BREAKER, "breaker", "state").items():
        states.setdefault(breaker, {})[state] = int(n)
    return states


def events_by_tier(totals: Totals) -> dict[str, dict[str, dict[str, int]]]:
    """The cache's events, as `{tier: {entity: {event: n}}}`."""
    tiers: dict[str, dict[str, dict[str, int]]] = {}
    for (tier, entity, event), n in totals.by(f"{EVENTS}_total", "tier", "entity", "event").items():
        tiers.setdefault(tier, {}).setdefault(entity, {})[event] = int(n)
    return tiers


def references_by_endpoint(totals: Totals) -> dict[str, dict[str, int]]:
    """References shown, as `{endpoint: {source: n}}`."""
    endpoints: dict[str, dict[str, int]] = {}
    for (endpoint, source), n in totals.by(f"{REFERENCES}_total", "endpoint", "source").items():
        endpoints.setdefault(endpoint, {})[source] = int(n)
    return endpoints


def with_hit_rates(endpoints: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Any]]:
    """The same with the `hit_rate` of each endpoint, from 0 to 1; None where nothing was asked for."""
    return {
        endpoint: {**counts, "hit_rate": _hit_rate(counts)} for endpoint, counts in sorted(endpoints.items())
    }


def _hit_rate(counts: Mapping[str, int]) -> float | None:
    """The share of references that no service had to be asked for."""
    asked = sum(counts.values())
    return (
        round(sum(counts.get(source, 0) for source in SERVED_WITHOUT_UPSTREAM) / asked, 4) if asked else None
    )


def _times(totals: Totals, histogram: str) -> dict[str, float | int | None]:
    """Count and quantiles since the start; a quantile past the last bucket is that bucket's end."""
    quantiles = {name: totals.quantile(histogram, share) for name, share in QUANTILES.items()}
    return {
        "count": totals.count(histogram),
        **{name: None if value is None else round(value * 1000, 3) for name, value in quantiles.items()},
    }
