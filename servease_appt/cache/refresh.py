"""The schedule of background refreshes, which reload values in use before they expire.

MGET returns no TTLs, and reading them would double the commands. But every worker knows when it filled a key
itself, and tracking messages report the fills of other workers. Only for keys that are older than the worker, and
that are read a second time, is the TTL read from L2, off the request path.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable

from servease_appt.cache.lifetimes import Policies


class RefreshSchedule:
    """The time from which the next hit refreshes a key, for each key known to this process. Thread-safe."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._maxsize = policies.default.l1_maxsize
        self._lock = threading.Lock()
        self._due_at_s: dict[str, float | None] = {}

    def filled(self, keys: Iterable[str], now: float, ttl_s: float | None = None) -> None:
        """Schedule keys that this process has just stored; `ttl_s` None: with the TTL of their policy."""
        with self._lock:
            for key in keys:
                self._put(key, self._draw(key, now, ttl_s))

    def changed(self, keys: Iterable[str], now: float) -> None:
        """Reschedule known keys after a tracking message: they were set (or deleted, as the next read shows)."""
        with self._lock:
            for key in keys:
                if key in self._due_at_s:
                    self._put(key, self._draw(key, now))

    def learned(self, key: str, now: float, left_s: float) -> None:
        """Schedule a key by its remaining TTL in L2, in seconds."""
        with self._lock:
            self._put(key, now + max(0.0, left_s - self._policies.of(key).refresh_below_s))

    def hit(self, keys: Iterable[str], now: float) -> tuple[list[str], list[str]]:
        """Handle hits in L2. Returns the keys due for a refresh, and those whose TTL should be read."""
        due: list[str] = []
        unknown: list[str] = []
        with self._lock:
            for key in keys:
                due_at_s = self._due_at_s.get(key)
                if due_at_s is not None and now < due_at_s:
                    continue
                if key not in self._due_at_s:
                    self._put(key, None)
                    continue
                (unknown if due_at_s is None else due).append(key)
                self._due_at_s[key] = now + self._policies.of(key).ttl_s * 0.05
        return due, unknown

    def l1_until_s(self, keys: Iterable[str], now: float, longest_s: float) -> list[float]:
        """Return the time until which L1 may hold each key, so that reads reach L2 in time for the refresh."""
        if not self._policies.same_for_all:
            return [self._l1_until_s(key, now, longest_s) for key in keys]
        latest_s = now + min(longest_s, self._policies.default.l1_ttl_s)
        return [
            due_at_s if due_at_s is not None and now < due_at_s < latest_s else latest_s
            for due_at_s in map(self._due_at_s.get, keys)
        ]

    def _l1_until_s(self, key: str, now: float, longest_s: float) -> float:
        latest_s = now + min(longest_s, self._policies.of(key).l1_ttl_s)
        due_at_s = self._due_at_s.get(key)
        return due_at_s if due_at_s is not None and now < due_at_s < latest_s else latest_s

    def _draw(self, key: str, filled_at_s: float, ttl_s: float | None = None) -> float:
        """Return a random time between `refresh_at` and half-way from there to the earliest expiry with jitter."""
        policy = self._policies.of(key)
        spread = (1 - policy.jitter - policy.refresh_at) / 2
        return filled_at_s + (ttl_s or policy.ttl_s) * (policy.refresh_at + spread * random.random())

    def _put(self, key: str, due_at_s: float | None) -> None:
        if key not in self._due_at_s and len(self._due_at_s) >= self._maxsize:
            del self._due_at_s[next(iter(self._due_at_s))]
        self._due_at_s[key] = due_at_s
