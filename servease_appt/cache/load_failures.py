"""Checks of loaders, and the log of failed loads."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from types import CodeType
from typing import Any

log = logging.getLogger(__name__)

AGAIN_AFTER_S = 60.0
MAX_LINES = 20
"""Failures logged within `AGAIN_AFTER_S`, of all keys together: a source that is down fails for thousands."""

_usable: set[tuple[CodeType | None, int]] = set()
"""Code that was checked, with how many arguments a `partial` gives it."""


def check_loader(load: Callable[..., Any]) -> None:
    """Raise TypeError for a loader that can't be called as `load(key, timeout_s)`, or returns a coroutine.

    The check runs once for each function, so it costs later reads almost nothing.
    """
    bound, function = 0, load
    if isinstance(load, partial):
        bound, function = len(load.args), load.func
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if (code, bound) in _usable:
        return
    if not callable(load):
        raise TypeError(f"a loader is a function, load(key, timeout_s), not {load!r}")
    if inspect.iscoroutinefunction(load) or inspect.iscoroutinefunction(getattr(load, "__call__", None)):  # noqa: B004
        raise TypeError(f"a loader runs on a thread and returns a value, so it can't be async: {load!r}")
    try:
        inspect.signature(load).bind("kind_id", 1.0)
    except TypeError as error:
        raise TypeError(
            f"a loader is called as load(key, timeout_s), which {load!r} does not take: {error}"
        ) from None
    except ValueError:
        return  # a built-in without a signature
    if code is not None:
        _usable.add((code, bound))


class FailureLog:
    """Logs failed loads at WARNING with their tracebacks, each key once a minute. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged_at_s: dict[str, float] = {}
        self._passed_over = 0

    def note(self, key: str, error: BaseException) -> None:
        """Log that the load of a key failed, unless it was logged within the last `AGAIN_AFTER_S`."""
        with self._lock:
            now = self._clock()
            for old in [k for k, at_s in self._logged_at_s.items() if now - at_s >= AGAIN_AFTER_S]:
                del self._logged_at_s[old]
            if key in self._logged_at_s:
                return
            if len(self._logged_at_s) >= MAX_LINES:
                self._passed_over += 1
                return
            self._logged_at_s[key] = now
            passed_over, self._passed_over = self._passed_over, 0
        if passed_over:
            log.warning("%s other loads failed since, too", passed_over)
        log.warning("The load of %r failed", key, exc_info=error)
