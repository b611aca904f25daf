"""The clock that ages are told by."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial


def _elapsed_clock() -> Callable[[], float]:
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if boottime is None else partial(time.clock_gettime, boottime)


elapsed_s: Callable[[], float] = _elapsed_clock()
"""Seconds that only grow. They grow while the host is suspended, too, where the system has such a clock (Linux):
`time.monotonic` stands still then, and what L1 holds would look hours younger than it is."""
