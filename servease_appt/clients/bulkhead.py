"""A bulkhead: a service that hangs may hold up some of its callers, and not all of the process's threads."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class BulkheadFull(Exception):
    """All places are taken by callers that have waited for long."""


class Bulkhead:
    """Limits how many callers are inside at a time. Thread-safe; not to be used on the other side of a fork.

    A caller who finds all places taken waits for one, as long as those inside are not held up: services that
    answer make room quickly, however many ask at once. Once the oldest has been inside for `slow_s`, callers are
    refused at once instead.

    Args:
        places: how many may be inside.
        slow_s: seconds after which a caller inside counts as held up.
        longest_wait_s: seconds that a caller waits for a place at most.
    """

    def __init__(
        self,
        places: int,
        *,
        slow_s: float,
        longest_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = places
        self._slow_s = slow_s
        self._longest_wait_s = longest_wait_s
        self._clock = clock
        self._changed = threading.Condition()
        self._entered_at_s: dict[object, float] = {}

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place while the context lasts. Raise BulkheadFull where none is to be had."""
        caller = object()
        self._enter(caller)
        try:
            yield
        finally:
            with self._changed:
                del self._entered_at_s[caller]
                self._changed.notify()

    def _enter(self, caller: object) -> None:
        with self._changed:
            give_up_at_s = self._clock() + self._longest_wait_s
            while len(self._entered_at_s) >= self._places:
                oldest_s = next(iter(self._entered_at_s.values()))
                left_s = min(give_up_at_s, oldest_s + self._slow_s) - self._clock()
                if left_s <= 0:
                    raise BulkheadFull
                self._changed.wait(left_s)
            self._entered_at_s[caller] = self._clock()
