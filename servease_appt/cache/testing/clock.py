"""A clock that a test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable


class HandClock:
    """Seconds that pass only when `move` is called. Thread-safe.

    Example:
        >>> clock = HandClock()
        >>> before = clock()
        >>> clock.move(2.5)
        >>> clock() - before
        2.5
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now_s = 1_000_000.0
        self._watchers: list[Callable[[], None]] = []

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._now_s

    def move(self, seconds: float) -> None:
        """Let `seconds` pass, which must not be negative. Returns before anything has reacted to it."""
        if seconds < 0:
            raise ValueError(f"time does not go back by {-seconds} s")
        with self._lock:
            self._now_s += seconds
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` after each move."""
        with self._lock:
            self._watchers.append(watcher)
