"""A circuit breaker: after enough failures in a row, callers stop trying until a trial call succeeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum


class BreakerState(StrEnum):
    """What `Breaker.state` can say."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Counts consecutive failures; open for `cool_down_s`, then lets one caller try. Thread-safe.

    Every call that `allows()` let in reports `succeeded()` or `failed()`; one that never does costs the
    half-open place until another `cool_down_s` has passed.
    """

    def __init__(
        self, *, threshold: int, cool_down_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = threshold
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed = True
        self._try_again_at_s = 0.0

    def allows(self) -> bool:
        """Say whether to make the call: always while closed, once a cool-down while open."""
        if self._closed:
            return True
        with self._lock:
            now = self._clock()
            if now < self._try_again_at_s:
                return False
            self._try_again_at_s = now + self._cool_down_s
            return True

    def succeeded(self) -> None:
        """Report a call that went well: closes the breaker."""
        if self._closed and self._failures == 0:
            return
        with self._lock:
            self._failures = 0
            self._closed = True

    def failed(self) -> None:
        """Report a call that failed: opens the breaker at the threshold; a failed trial keeps it open."""
        with self._lock:
            self._failures += 1
            if not self._closed or self._failures >= self._threshold:
                self._closed = False
                self._try_again_at_s = self._clock() + self._cool_down_s

    @property
    def state(self) -> BreakerState:
        """The state right now; half open means that the next caller may try."""
        if self._closed:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._clock() >= self._try_again_at_s else BreakerState.OPEN
