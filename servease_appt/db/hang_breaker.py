"""A circuit breaker for a PostgreSQL that hangs, so that threads do not wait for it."""

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

COOL_DOWN_S: Final = 1.0
TRIAL_S: Final = 1.0


class Admission(Enum):
    """The result of `HangBreaker.admit`."""

    NORMAL = "normal"
    TRIAL = "trial"
    REFUSED = "refused"


class HangBreaker:
    """A breaker that opens when PostgreSQL does not answer in time, and then allows single trials. Thread-safe.

    It differs from the cache's breaker in two points. The first trial may start at once, because often only one
    connection is dead and not the server. And it ignores the failure of a use that began before the last
    successful trial. A server that refuses needs no breaker, since it answers at once.
    """

    def __init__(
        self,
        on_change: Callable[[bool], None] = lambda _opened: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change` is called with True on opening and with False on closing, by the thread that caused it."""
        self._on_change = on_change
        self._clock = clock
        self._lock = threading.Lock()
        self._open = False
        self._trial_at_s = 0.0
        self._closed_at_s = 0.0

    @property
    def is_open(self) -> bool:
        """True while all uses except trials are refused."""
        return self._open

    def admit(self) -> Admission:
        """Return how PostgreSQL may be used now. After TRIAL, report `succeeded()` or `failed()`."""
        if not self._open:
            return Admission.NORMAL
        with self._lock:
            now_s = self._clock()
            if not self._open:
                return Admission.NORMAL
            if now_s < self._trial_at_s:
                return Admission.REFUSED
            # The time limit also ends a trial that never reports.
            self._trial_at_s = now_s + TRIAL_S + COOL_DOWN_S
            return Admission.TRIAL

    def succeeded(self) -> None:
        """Close the breaker after a trial that PostgreSQL answered."""
        with self._lock:
            was_open, self._open = self._open, False
            self._closed_at_s = self._clock()
        if was_open:
            self._on_change(False)

    def failed(self, began_at_s: float, admission: Admission) -> None:
        """Open the breaker, or keep it open for a cool-down after a failed trial.

        Args:
            began_at_s: start of the use without an answer, on the clock of `time.monotonic`.
            admission: the result of `admit` for that use.
        """
        with self._lock:
            if self._open:
                if admission is Admission.TRIAL:
                    self._trial_at_s = self._clock() + COOL_DOWN_S
                return
            if began_at_s < self._closed_at_s:
                return
            self._open = True
            self._trial_at_s = self._clock()
        self._on_change(True)
