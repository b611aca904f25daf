"""A worker's periodic work: gauges, metric history, coherence check. Runs on the cache's threads."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from servease_appt.cache import Event, Tier
from servease_appt.cache.forks import after_fork
from servease_appt.db.upkeep import Upkeep
from servease_appt.observability.coherence import Coherence
from servease_appt.observability.metric_history import MetricHistory
from servease_appt.observability.metrics import Metrics
from servease_appt.references.enrichment import Lookups

log = logging.getLogger(__name__)

AT_MOST_EVERY_S: Final = 0.25


class Heartbeat:
    """The companion of the cache: works about twice a second, also if Redis does not answer. Never blocks."""

    def __init__(
        self,
        lookups: Lookups,
        metrics: Metrics,
        metric_history: MetricHistory,
        upkeep: Upkeep,
        describe: Callable[[], dict[str, Any]],
    ) -> None:
        self.describe = describe
        self._lookups = lookups
        self._upkeep = upkeep
        self._metrics = metrics
        self._metric_history = metric_history
        self._set_up()
        after_fork(self, Heartbeat._set_up)

    def _set_up(self) -> None:
        self._coherence = Coherence(self._lookups, self._metrics)
        self._evicted: Counter[str] = Counter()
        self._busy = False
        self._next_at_s = 0.0
        self._began_at_s = time.time()

    def pulse(self) -> None:
        """Start the work on a thread of the cache, unless it ran just now or still runs."""
        now_s = time.monotonic()
        if self._busy or now_s < self._next_at_s:
            return
        self._busy = True
        self._next_at_s = now_s + AT_MOST_EVERY_S
        try:
            self._lookups.cache.in_background(self._work)
        except RuntimeError:
            log.debug("The cache is closed: no more periodic work")

    def _work(self) -> None:
        try:
            self.set_gauges()
            self._metric_history.step(time.time())
            self._upkeep.step(time.monotonic())
            self._coherence.step(time.monotonic())
        except Exception:
            log.exception("The periodic work of this worker failed")
        finally:
            self._busy = False

    def set_gauges(self) -> None:
        """Set the gauges of this worker."""
        cache = self._lookups.cache
        channel = cache.channel
        for kind, n in cache.l1.evicted().items():
            self._metrics.count(Tier.L1, Event.EVICTION, kind, n - self._evicted[kind])
            self._evicted[kind] = n
        self._metrics.set_worker_state(
            mode=cache.mode,
            breakers={"redis": cache.breaker.state, **self._lookups.breaker_states()},
            l1_entries=cache.l1.size(),
            heard_at_s=self._began_at_s if channel is None else time.time() - channel.silent_s,
        )
