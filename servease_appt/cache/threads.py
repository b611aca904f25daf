"""Threads that begin with the first work given to them, so that a cache which is only made starts none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Threads:
    """A pool of at most `count` threads. Thread-safe; not to be used on the other side of a fork."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._lock = threading.Lock()
        self._closed = False
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[..., None], *args: object) -> None:
        """Run `work(*args)` soon. Raises RuntimeError once closed, and while the interpreter ends."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads are closed")
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
        self._executor.submit(work, *args)

    def close(self) -> None:
        """Wait for the work under way; what has not begun is dropped. Idempotent."""
        with self._lock:
            self._closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
