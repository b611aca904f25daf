"""The last quarter of an hour of all workers' counters, as each worker remembers it."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Final

from servease_appt.observability.metrics import EVENTS, HTTP, REDIS, UPSTREAM, Metrics
from servease_appt.observability.worker_sums import Totals
from servease_appt.references.entities import ENTITIES

EVERY_S: Final = 5.0
KEPT_S: Final = 15 * 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What all workers together had counted at one moment; buckets are in the order of their ends.

    Attributes:
        at_s: the wall clock's.
        events: of the cache, as `tier.event.entity`.
        http, redis, upstream: observations a bucket; upstream by entity.
        errors: answers with a status of 500 and above.
    """

    at_s: float
    events: dict[str, int]
    http: list[int]
    redis: list[int]
    upstream: dict[str, list[int]]
    errors: int

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def sample(totals: Totals, at_s: float) -> Sample:
    """What the lines of the dashboard are drawn from."""
    events = totals.by(f"{EVENTS}_total", "tier", "event", "entity")
    answers = totals.by(f"{HTTP}_bucket", "status")
    return Sample(
        at_s=round(at_s, 3),
        events={".".join(labels): int(n) for labels, n in events.items()},
        http=_counts(totals.buckets(HTTP)),
        redis=_counts(totals.buckets(REDIS)),
        upstream={entity: _counts(totals.buckets(UPSTREAM, entity=entity)) for entity in ENTITIES},
        errors=int(sum(n for (status,), n in answers.items() if status >= "5")),
    )


def _counts(buckets: list[tuple[float, int]]) -> list[int]:
    return [n for _, n in buckets]


class History:
    """A ring of samples, one every `EVERY_S` seconds. One thread adds, any may read."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._samples: deque[Sample] = deque(maxlen=int(KEPT_S / EVERY_S) + 1)

    def step(self, now_s: float) -> None:
        """Take a sample if it is time."""
        if not self._samples or now_s - self._samples[-1].at_s >= EVERY_S:
            self._samples.append(sample(self._metrics.totals(), now_s))

    def since(self, at_s: float) -> list[Sample]:
        """The samples taken after `at_s`, oldest first."""
        return [sample for sample in list(self._samples) if sample.at_s > at_s]
