"""The cache's counters as one JSON object: this worker's, and those of all workers."""

from __future__ import annotations

from typing import Any

from servease_appt.lookups import Lookups
from servease_appt.ops.metrics import Metrics

SERVED_WITHOUT_UPSTREAM = ("l1", "l2")


def cache_report(lookups: Lookups, metrics: Metrics) -> dict[str, Any]:
    """Counts by tier, entity and event; references and hit rate by endpoint; the mode and the breakers."""
    cache = lookups.cache
    listener = cache.listener
    return {
        "mode": cache.mode.value,
        "worker": {
            "id": cache.identity,
            "l1_entries": cache.memory.size(),
            "l1_evictions": cache.memory.evictions,
            "channel_confirmed": listener is not None and listener.confirmed,
            "tracking": listener is not None and listener.tracking,
            "sequence": listener.sequence if listener is not None else None,
            "breakers": {
                "redis": cache.breaker.state.value,
                **{entity: state.value for entity, state in lookups.breaker_states().items()},
            },
            "tiers": metrics.worker.snapshot(),
            "endpoints": _with_hit_rates(lookups.endpoint_counts()),
        },
        "all_workers": {
            "tiers": metrics.event_totals(),
            "endpoints": _with_hit_rates(metrics.reference_totals()),
        },
    }


def _with_hit_rates(endpoints: dict[str, dict[str, int]]) -> dict[str, dict[str, Any]]:
    return {
        endpoint: {**counts, "hit_rate": _hit_rate(counts)} for endpoint, counts in sorted(endpoints.items())
    }


def _hit_rate(counts: dict[str, int]) -> float | None:
    """The share of references that no service had to be asked for; None where there were none."""
    asked = sum(counts.values())
    return (
        round(sum(counts.get(source, 0) for source in SERVED_WITHOUT_UPSTREAM) / asked, 4) if asked else None
    )
