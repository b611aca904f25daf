"""Counters by tier, event and entity, for one process."""

from __future__ import annotations

import threading
from collections import Counter
from enum import StrEnum
from typing import Protocol

from servease_appt.cache.breaker import BreakerState
from servease_appt.cache.forks import after_fork


class Tier(StrEnum):
    """The tier or part of the cache in which an event happened."""

    L1 = "l1"
    L2 = "l2"
    UPSTREAM = "upstream"
    CHANNEL = "channel"


class Event(StrEnum):
    """The kind of an event."""

    HIT = "hit"
    MISS = "miss"
    FILL = "fill"
    REFUSED_FILL = "refused_fill"
    EVICTION = "eviction"
    EXPIRY = "expiry"
    INVALIDATION = "invalidation"
    FAILED_INVALIDATION = "failed_invalidation"
    FLUSH = "flush"
    GAP = "gap"
    UNREADABLE = "unreadable"
    CORRUPT = "corrupt"
    ERROR = "error"
    NOT_FOUND = "not_found"
    DENIED = "denied"
    STALE = "stale"
    REFRESH = "refresh"
    JOINED = "joined"
    TAKEOVER = "takeover"
    OVERDUE = "overdue"
    RECONNECT = "reconnect"
    OVERWRITTEN = "overwritten"


class Recorder(Protocol):
    """Receives the cache's events. Called from any thread; must not raise and must be quick."""

    def count(self, tier: Tier, event: Event, entity: str, n: int = 1) -> None:
        """Add `n` to a counter. `entity` is a codec's name, or `-` if the event has none."""


class Observer(Protocol):
    """Receives durations and breaker states of L2. Called from any thread; must not raise and must be quick."""

    def redis_operation(self, operation: str, seconds: float, outcome: str) -> None:
        """Record a round trip of `seconds` seconds; `outcome` is `ok`, `refused` or `error`."""

    def breaker_changed(self, breaker: str, state: BreakerState) -> None:
        """Record that a breaker opened or closed; the cache's own breaker is called `redis`."""


class Stats:
    """A Recorder that keeps its counts in memory. Thread-safe; a forked child begins at zero.

    L1 hits of `TwoTierCache.get` are added in batches: at the next read that misses, at each heartbeat of the
    listener (twice a second), at `describe` and at `close`.

    Example:
        >>> stats = Stats()
        >>> stats.count(Tier.L1, Event.HIT, "customer", 3)
        >>> stats.get(Tier.L1, Event.HIT)
        3
    """

    def __init__(self) -> None:
        self._set_up()
        after_fork(self, Stats._set_up)

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[Tier, Event, str]] = Counter()

    def count(self, tier: Tier, event: Event, entity: str, n: int = 1) -> None:
        """Add `n` to one counter."""
        with self._lock:
            self._counts[tier, event, entity] += n

    def get(self, tier: Tier, event: Event, entity: str | None = None) -> int:
        """Return one counter, or its sum over all entities where `entity` is None."""
        with self._lock:
            if entity is not None:
                return self._counts[tier, event, entity]
            return sum(n for (t, e, _), n in self._counts.items() if (t, e) == (tier, event))

    def snapshot(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return a copy as `{tier: {entity: {event: n}}}`."""
        nested: dict[str, dict[str, dict[str, int]]] = {}
        with self._lock:
            for (tier, event, entity), n in self._counts.items():
                nested.setdefault(tier.value, {}).setdefault(entity, {})[event.value] = n
        return nested
