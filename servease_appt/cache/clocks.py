"""The clock that measures ages."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial


def _elapsed_clock() -> Callable[[], float]:
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if boottime is None else partial(time.clock_gettime, boottime)


elapsed_s: Callable[[], float] = _elapsed_clock()
"""Return monotonic seconds, which include the time of a suspended host if the system has such a clock (Linux).
`time.monotonic` stops during a suspension, and L1 entries would look hours younger than they are."""
