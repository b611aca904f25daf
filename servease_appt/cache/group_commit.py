"""Group commit: loads that finish side by side are stored in L2 by one round trip.

The first thread to bring something takes all that has gathered with it; who comes while it is on its way leaves
its own for the next round and goes back to work.
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
    """Hands what many threads bring to `commit`, in batches, one batch at a time. Logs what `commit` raises."""

    def __init__(self, commit: Callable[[list[T]], None]) -> None:
        self._commit = commit
        self._lock = threading.Lock()
        self._waiting: list[T] = []
        self._committing = False

    def bring(self, item: T) -> None:
        """Have `item` committed soon, by this thread or by the one that is committing already."""
        with self._lock:
            self._waiting.append(item)
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
                # What waits behind this batch must not wait for ever.
                log.exception("A batch of loads could not be stored")
