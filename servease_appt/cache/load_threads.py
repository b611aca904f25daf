"""The threads on which loads run.

Each codec has its own limit of parallel loads, so that a source that hangs delays only its own loads.

Handing a load to a thread costs more than a quick load itself. So loads whose source was quick the last times are
handed out together to one thread, which runs them one after the other. A source that was quick may hang now. So
while the caller waits, it looks again every `LOOK_AGAIN_S`, and calls 1, 2, 4 … more threads for those that have
not begun.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

QUICK_S: Final = 0.0005
"""A load that takes less counts as quick."""
LOOK_AGAIN_S: Final = 0.002
"""Seconds after which a caller calls `hand_out`."""


class _Lane(Generic[T]):
    """The loads of one codec: those that wait, and the number of those that run."""

    __slots__ = ("_last_was_quick", "quick", "running", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[T] = deque()
        self.running = 0
        self.quick = self._last_was_quick = False

    def note(self, seconds: float) -> None:
        """Note how long a load took. One of the last two must be quick: a busy machine delays single ones."""
        quick = seconds < QUICK_S
        self.quick, self._last_was_quick = quick or self._last_was_quick, quick


class LoadThreads(Generic[T]):
    """Runs loads on threads, at most `limit` of each codec at once. Thread-safe.

    Args:
        names: the names of the codecs.
        limit: the maximum number of parallel loads of one codec.
        run: runs one load, and keeps its result for `finish`.
        finish: stores all results kept. Called when a thread has no more quick load to run.
    """

    def __init__(
        self, names: Iterable[str], limit: int, *, run: Callable[[T], None], finish: Callable[[], None]
    ) -> None:
        self._lanes: dict[str, _Lane[T]] = {name: _Lane() for name in names}
        self._limit = limit
        self._run_load = run
        self._finish = finish
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        # For each idle thread a lock that wakes it. The last one is woken first: its data is still in the
        # processor's caches.
        self._idle: list[threading.Lock] = []
        self._called = 0
        """Threads that were woken or started, and have not looked for a load yet."""
        self._closed = False

    def start(self, loads: Sequence[tuple[str, T]]) -> bool:
        """Start loads, given with the names of their codecs.

        Returns:
            True if the caller has to call `hand_out` every `LOOK_AGAIN_S`, until that returns False or its loads
            are done.

        Raises:
            RuntimeError: the cache is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the cache is closed")
            slow = 0
            for name, load in loads:
                lane = self._lanes[name]
                lane.waiting.append(load)
                slow += not lane.quick
            held_back = slow < len(loads)
            self._call(min(slow + held_back, self._startable() - self._called))
            return held_back

    def hand_out(self, threads: int | None = None) -> bool:
        """Call more threads for loads that have not begun, and have the results kept so far stored.

        Args:
            threads: the maximum number of threads to call; None: one for each load.

        Returns:
            True if loads still wait for a thread.
        """
        with self._lock:
            # One more stores the results of the loads that ran before one that hangs.
            missing = self._startable() + 1 - self._called
            self._call(missing if threads is None else min(threads, missing))
            return threads is not None and threads < missing

    def close(self) -> None:
        """Wait for running loads; loads that have not begun are dropped."""
        with self._lock:
            self._closed = True
            for lane in self._lanes.values():
                lane.waiting.clear()
            threads = list(self._threads)
            for bell in self._idle:
                bell.release()
            self._idle.clear()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    def _startable(self) -> int:
        return sum(min(len(lane.waiting), self._limit - lane.running) for lane in self._lanes.values())

    def _call(self, wanted: int) -> None:
        """Wake or start threads. Call it with the lock held."""
        for _ in range(wanted):
            if self._idle:
                self._idle.pop().release()
            else:
                name = f"servease-cache-load-{len(self._threads) + 1}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                thread.start()
                self._threads.append(thread)
            self._called += 1

    def _work(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        while True:
            with self._lock:
                self._called -= 1
            self._finish()
            self._run_waiting()
            with self._lock:
                if self._closed:
                    return
                self._idle.append(bell)
            bell.acquire()

    def _run_waiting(self) -> None:
        """Run loads until none can begin. Results of quick loads are stored together, those of others at once."""
        lane: _Lane[T] | None = None
        kept_since_s: float | None = None
        while True:
            lane, load = self._take(lane)
            began_s = time.monotonic()
            if kept_since_s is not None and (
                lane is None or not lane.quick or began_s - kept_since_s > LOOK_AGAIN_S
            ):
                self._finish()
                kept_since_s = None
            if lane is None or load is None:
                return
            try:
                self._run_load(load)
            except BaseException:
                log.exception("A load ended with an error of the cache")
            if kept_since_s is None:
                kept_since_s = began_s
            lane.note(time.monotonic() - began_s)

    def _take(self, done: _Lane[T] | None) -> tuple[_Lane[T], T] | tuple[None, None]:
        """Return the next load with its lane, after one of the lane `done` has ended; its lane comes first."""
        with self._lock:
            if done is not None:
                done.running -= 1
                if done.waiting:
                    done.running += 1
                    return done, done.waiting.popleft()
            for lane in self._lanes.values():
                if lane.waiting and lane.running < self._limit:
                    lane.running += 1
                    return lane, lane.waiting.popleft()
        return None, None
