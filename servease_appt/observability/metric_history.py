"""The last 15 minutes of all workers' counters, kept by each worker in memory."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Final

from servease_appt.cache import Tier
from servease_appt.observability.metrics import EVENTS, HTTP, READS, REDIS, UPSTREAM, Metrics
from servease_appt.observability.worker_sums import Totals
from servease_appt.references.entities import ENTITIES

EVERY_S: Final = 5.0
KEPT_S: Final = 15 * 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The sums over all workers at one moment; buckets are in ascending order.

    Attributes:
        at_s: Wall clock, in seconds since 1970.
        events: Events of the cache, as `tier.event.entity`.
        http: Requests per bucket.
        redis: Redis operations per bucket.
        upstream: Calls to each entity's service per bucket.
        reads: Sampled lookups of L1 and L2 per bucket, by `tier.entity`.
        errors: Answers with a status of 500 and above.
    """

    at_s: float
    events: dict[str, int]
    http: list[int]
    redis: list[int]
    upstream: dict[str, list[int]]
    reads: dict[str, list[int]]
    errors: int

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def sample(totals: Totals, at_s: float) -> Sample:
    """Return the part of the totals that the dashboard draws."""
    events = totals.by(f"{EVENTS}_total", "tier", "event", "entity")
    answers = totals.by(f"{HTTP}_bucket", "status")
    return Sample(
        at_s=round(at_s, 3),
        events={".".join(labels): int(n) for labels, n in events.items()},
        http=_counts(totals.buckets(HTTP)),
        redis=_counts(totals.buckets(REDIS)),
        upstream={entity: _counts(totals.buckets(UPSTREAM, entity=entity)) for entity in ENTITIES},
        reads={
            f"{tier}.{entity}": _counts(totals.buckets(READS, tier=tier, entity=entity))
            for tier in (Tier.L1, Tier.L2)
            for entity in ENTITIES
        },
        errors=int(sum(n for (status,), n in answers.items() if status >= "5")),
    )


def _counts(buckets: list[tuple[float, int]]) -> list[int]:
    return [n for _, n in buckets]


class MetricHistory:
    """A ring of samples, one every `EVERY_S` seconds. One thread adds; any thread may read."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._samples: deque[Sample] = deque(maxlen=int(KEPT_S / EVERY_S) + 1)

    def step(self, now_s: float) -> None:
        """Take a sample if `EVERY_S` have passed since the last; `now_s` is the wall clock."""
        if not self._samples or now_s - self._samples[-1].at_s >= EVERY_S:
            self._samples.append(sample(self._metrics.totals(), now_s))

    def since(self, at_s: float) -> list[Sample]:
        """Return the samples taken after `at_s`, oldest first."""
        return [sample for sample in list(self._samples) if sample.at_s > at_s]
