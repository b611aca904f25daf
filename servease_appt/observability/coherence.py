"""Compare samples of cached values with their source, outside of requests.

A value counts as a mismatch only if it differs twice: it may change between the two reads of one comparison, and
an invalidation takes a moment to arrive. L1 is compared with L2 at a few keys per second. L2 is compared with the
owning service once a minute in each worker, which needs `UPSTREAM_AUTH=service`: otherwise it has no token.

A mismatch of L1 and L2 is a defect of this cache. A mismatch of L2 and a service is a change without invalidation.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from servease_appt.cache import Mode, TwoTierCache
from servease_appt.cache.errors import CacheError, L2Unavailable
from servease_appt.observability.metrics import Metrics
from servease_appt.references.enrichment import Lookups

L1_EVERY_S: Final = 1.0
L1_KEYS: Final = 3
SOURCE_EVERY_S: Final = 60.0
COMPARE_AGAIN_AFTER_S: Final = 1.0
L1_L2: Final = "l1_l2"
L2_SOURCE: Final = "l2_source"

Pairs = dict[str, tuple[Any, Any]]
"""By key: the cached value, and the value in its source."""
Read = Callable[[list[str]], Pairs]


@dataclass(frozen=True, slots=True)
class _Difference:
    """Two values of a key that differed when they were compared first."""

    key: str
    cached: Any
    behind: Any
    seen_at_s: float


class Coherence:
    """Runs the comparisons of one worker. `step` is called a few times per second, by one thread at a time."""

    def __init__(self, lookups: Lookups, metrics: Metrics) -> None:
        self._lookups = lookups
        self._cache: TwoTierCache[Any] = lookups.cache
        self._metrics = metrics
        self._l1_due_at_s = 0.0
        self._source_due_at_s = 0.0
        self._unsure: dict[str, list[_Difference]] = {L1_L2: [], L2_SOURCE: []}

    def step(self, now_s: float) -> None:
        """Repeat the comparisons that are due, then make new ones. `now_s` is the monotonic clock.

        While Redis or a service does not answer, nothing is compared or counted, and nothing is raised.
        """
        self._compare_again(L1_L2, self._l1_and_l2, now_s)
        self._compare_again(L2_SOURCE, self._l2_and_source, now_s)
        if now_s >= self._l1_due_at_s:
            self._l1_due_at_s = now_s + L1_EVERY_S
            self._compare(L1_L2, self._l1_and_l2, self._some_keys(L1_KEYS), now_s)
        if now_s >= self._source_due_at_s:
            has_begun, self._source_due_at_s = self._source_due_at_s > 0, now_s + SOURCE_EVERY_S
            if has_begun:  # not while the worker starts
                self._compare(L2_SOURCE, self._l2_and_source, self._some_keys(1), now_s)

    def _some_keys(self, n: int) -> list[str]:
        keys = self._cache.l1.keys()
        return random.sample(keys, min(n, len(keys)))

    def _compare(self, tiers: str, read: Read, keys: list[str], now_s: float) -> None:
        pairs = read(keys)
        unsure = [_Difference(key, *pair, now_s) for key, pair in pairs.items() if pair[0] != pair[1]]
        self._unsure[tiers] += unsure
        self._metrics.compared(tiers, len(pairs) - len(unsure), mismatches=0)

    def _compare_again(self, tiers: str, read: Read, now_s: float) -> None:
        unsure = self._unsure[tiers]
        due = [it for it in unsure if now_s - it.seen_at_s >= COMPARE_AGAIN_AFTER_S]
        if not due:
            return
        self._unsure[tiers] = [it for it in unsure if it not in due]
        pairs = read([it.key for it in due])
        still = [it for it in due if it.key in pairs and pairs[it.key] == (it.cached, it.behind)]
        self._metrics.compared(tiers, len(pairs), mismatches=len(still))

    def _l1_and_l2(self, keys: list[str]) -> Pairs:
        """Return both values of the keys that both tiers hold: a missing value is no mismatch.

        An L1 that is not trusted serves almost nothing and is not compared.
        """
        if not keys or self._cache.mode is not Mode.BOTH:
            return {}
        held = self._cache.l1.held(keys)
        stored = self._stored(keys)
        return {
            key: (entry.value, stored[key]) for key, entry in held.items() if entry.value and key in stored
        }

    def _l2_and_source(self, keys: list[str]) -> Pairs:
        pairs = {}
        for key, value in self._stored(keys).items():
            try:
                pairs[key] = (value, self._lookups.ask_source(key))
            except CacheError:
                continue
        return pairs

    def _stored(self, keys: list[str]) -> dict[str, Any]:
        if not keys:
            return {}
        try:
            payloads, _sequence = self._cache.l2.read(keys)
        except L2Unavailable:
            return {}
        values = {
            key: self._cache.codecs.decode(key, payload)
            for key, payload in zip(keys, payloads, strict=True)
            if payload
        }
        return {key: value for key, value in values.items() if value is not None}
