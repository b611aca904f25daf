"""When a value that is being read should be loaded anew, so that it does not expire under its readers.

L2 answers an MGET without lifetimes, and asking for them would double the commands. But every worker knows when
it filled a key itself, and the server tells it of everybody else's fills; only for keys that were there before
the worker was, and that are read a second time, the lifetime has to be asked for, off the request path.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable

from servease_appt.cache.policy import CachePolicy


class RefreshSchedule:
    """For each key known to this process, the moment from which the next reader has it refreshed. Thread-safe."""

    def __init__(self, policy: CachePolicy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._due_at_s: dict[str, float | None] = {}

    def filled(self, keys: Iterable[str], now: float) -> None:
        """These keys were stored by this process just now."""
        with self._lock:
            for key in keys:
                self._put(key, self._draw(now))

    def changed(self, keys: Iterable[str], now: float) -> None:
        """The server says that these were set (or deleted, which the next reader finds out)."""
        with self._lock:
            for key in keys:
                if key in self._due_at_s:
                    self._put(key, self._draw(now))

    def learned(self, key: str, now: float, left_s: float) -> None:
        """What the server said is left of a key's life."""
        with self._lock:
            self._put(key, now + max(0.0, left_s - self._policy.ttl_s * (1 - self._policy.refresh_at)))

    def hit(self, keys: Iterable[str], now: float) -> tuple[list[str], list[str]]:
        """Keys were found in L2: return which are due, and of which the lifetime is worth asking for."""
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
                self._due_at_s[key] = now + self._policy.ttl_s * 0.05
        return due, unknown

    def l1_until_s(self, keys: Iterable[str], now: float, longest_s: float) -> list[float]:
        """Until when L1 may hold each key, so that its readers come to L2 in time to have it refreshed."""
        latest_s = now + min(longest_s, self._policy.l1_ttl_s)
        return [
            due_at_s if due_at_s is not None and now < due_at_s < latest_s else latest_s
            for due_at_s in map(self._due_at_s.get, keys)
        ]

    def _draw(self, filled_at_s: float) -> float:
        """Between `refresh_at` and half-way from there to the earliest expiry that jitter allows."""
        policy = self._policy
        spread = (1 - policy.jitter - policy.refresh_at) / 2
        return filled_at_s + policy.ttl_s * (policy.refresh_at + spread * random.random())

    def _put(self, key: str, due_at_s: float | None) -> None:
        if key not in self._due_at_s and len(self._due_at_s) >= self._policy.l1_maxsize:
            del self._due_at_s[next(iter(self._due_at_s))]
        self._due_at_s[key] = due_at_s
