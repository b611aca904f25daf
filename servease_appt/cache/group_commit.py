"""Group commit: loads that finish at about the same time are stored in L2 by one round trip.

One thread drains the queue; the others enqueue and return.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_BATCH = 200


class GroupCommit(Generic[T]):
    """Passes items of many threads to `commit`, one batch at a time. Logs exceptions of `commit`. Thread-safe."""

    def __init__(self, commit: Callable[[list[T]], None]) -> None:
        self._commit = commit
        self._lock = threading.Lock()
        self._waiting: list[T] = []
        self._committing = False

    def add(self, item: T) -> None:
        """Enqueue `item` for the next `drain`."""
        with self._lock:
            self._waiting.append(item)

    def drain(self) -> None:
        """Commit the queue on this thread, unless another thread is already doing so."""
        if not self._waiting:
            return
        with self._lock:
            if self._committing:
                return
            self._committing = True
        while True:
            with self._lock:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                if not batch:
                    self._committing = False
                    return
            try:
                self._commit(batch)
            except BaseException:
                # The loop goes on, or the items queued behind this batch would never be committed.
                log.exception("A batch of loads could not be stored")
