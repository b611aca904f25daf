"""What the workers together cost Redis: the point at which one server becomes too small."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from servease_appt.cache import Event, Tier
from servease_appt.cache.worker_queries import WorkerQueries
from servease_appt.doctor.findings import Area, Finding
from servease_appt.inspection.workers import WorkerStatus, query_statuses

FILL_US: Final = 3.5
"""Processor time of Redis for one tracking message, in µs; a fill sends one to each worker (docs/scaling.md)."""
LARGEST_SHARE: Final = 0.1
FEW_WORKERS: Final = 20
"""So few workers cannot reach the share: they would have to fill 1,400 values a second."""
SAMPLE_S: Final = 1.0

_area = Area("workers")


def check(
    queries: WorkerQueries, statuses: Sequence[WorkerStatus], asked_at_s: float, few: int = FEW_WORKERS
) -> Iterator[Finding]:
    """Check the cost of tracking messages. Waits until a second has passed since `statuses` were asked for.

    Args:
        queries: asks all workers.
        statuses: what the workers answered.
        asked_at_s: when they were asked, on the monotonic clock.
        few: with fewer workers nothing is checked and nothing is waited for.
    """
    if len(statuses) < few or not any(status.tracking for status in statuses):
        return
    time.sleep(max(0.0, asked_at_s + SAMPLE_S - time.monotonic()))
    again_at_s = time.monotonic()
    again = query_statuses(queries).readable
    rate = fills_per_s(statuses, again, again_at_s - asked_at_s)
    yield tracking_cost(sum(status.tracking for status in again), rate)


def fills_per_s(before: Sequence[WorkerStatus], after: Sequence[WorkerStatus], elapsed_s: float) -> float:
    """Return the fills of Redis a second, of the workers that answered both times."""
    earlier = {status.worker: _fills(status) for status in before}
    grown = [_fills(status) - earlier[status.worker] for status in after if status.worker in earlier]
    return max(0, sum(grown)) / elapsed_s


def tracking_cost(workers: int, rate: float) -> Finding:
    """Return the finding for so many workers with tracking on, and so many fills a second."""
    share = workers * rate * FILL_US / 1e6
    says = (
        f"Tracking messages take {share:.1%} of one core of Redis: {workers:,} workers, {rate:,.0f} fills a"
        f" second, {FILL_US:g} µs for each."
    )
    if share <= LARGEST_SHARE:
        return _area.ok(says)
    return _area.warning(
        says,
        "The cost grows with workers times fills. Redis runs commands on one core, so every answer gets slower.",
        "Set CACHE_TRACKING=0 in the workers: invalidations are handled as before. Or run fewer workers with more"
        " threads. docs/scaling.md says what is lost, and what comes next.",
    )


def _fills(status: WorkerStatus) -> int:
    return sum(events.get(Event.FILL.value, 0) for events in status.tiers.get(Tier.L2.value, {}).values())
