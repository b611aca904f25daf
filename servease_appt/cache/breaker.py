"""A circuit breaker: after consecutive failures, callers stop trying until a trial call succeeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum


class BreakerState(StrEnum):
    """The states of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """A circuit breaker that counts consecutive failures. Thread-safe.

    It is open for `cool_down_s` seconds, then allows one trial call. Every allowed call must report `succeeded()`
    or `failed()`; without a report, the next trial is allowed after another `cool_down_s`. If `callers_try` is
    False, `allows()` returns False while it is open: a probe tries without `allows()` and reports, so that no
    caller waits for the trial. `on_change` is called when it opens and when it closes, on the thread of the
    reporting call.
    """

    def __init__(
        self,
        *,
        threshold: int,
        cool_down_s: float,
        on_change: Callable[[BreakerState], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = threshold
        self._cool_down_s = cool_down_s
        self._on_change = on_change
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed = True
        self._try_again_at_s = 0.0
        self.callers_try = True

    def allows(self) -> bool:
        """Return True if the call may be made: always while closed, once for each cool-down while open."""
        if self._closed:
            return True
        if not self.callers_try:
            return False
        with self._lock:
            now = self._clock()
            if now < self._try_again_at_s:
                return False
            self._try_again_at_s = now + self._cool_down_s
            return True

    def succeeded(self) -> None:
        """Report a successful call: closes the breaker."""
        if self._closed and self._failures == 0:
            return
        with self._lock:
            self._failures = 0
            was_closed, self._closed = self._closed, True
        if not was_closed:
            self._report_change(BreakerState.CLOSED)

    def failed(self) -> None:
        """Report a failed call: opens the breaker at the threshold; a failed trial keeps it open."""
        with self._lock:
            self._failures += 1
            was_closed = self._closed
            if not was_closed or self._failures >= self._threshold:
                self._closed = False
                self._try_again_at_s = self._clock() + self._cool_down_s
            opened = was_closed and not self._closed
        if opened:
            self._report_change(BreakerState.OPEN)

    def _report_change(self, state: BreakerState) -> None:
        if self._on_change is not None:
            self._on_change(state)

    @property
    def state(self) -> BreakerState:
        """The current state; half open means that the next caller may try."""
        if self._closed:
            return BreakerState.CLOSED
        may_try = self.callers_try and self._clock() >= self._try_again_at_s
        return BreakerState.HALF_OPEN if may_try else BreakerState.OPEN
