"""The distribution of staleness on a healthy service: for each invalidation the last stale read after it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from faults import checkers
from faults.experiment import HEALTHY_BOUND_MS, PINNED_LIMIT_S, WARM_UP_S
from faults.history import INVALIDATE, READS, History
from faults.load import Load
from faults.testbed import Testbed
from faults.writers import run_writer

_SLOWEST_RATE = 10
"""Invalidations a second below which the run is given up."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Milliseconds from an invalidation's return to the call of the last stale read after it; 0 without one."""

    workers: int
    invalidations: int
    reads: int
    with_a_stale_read: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    beyond_250_ms: int
    in_own_worker: int
    versions_going_back: int
    resurrected: int
    failed: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return every field."""
        return asdict(self)

    def text(self) -> str:
        """Return the distribution as a paragraph."""
        return (
            f"{self.invalidations:,} invalidations on {self.workers} workers in {self.seconds:.0f} s, with"
            f" {self.reads:,} reads. From the invalidation's return to the call of the last stale read after it:"
            f" p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, p99.9 {self.p999_ms:.1f} ms, longest"
            f" {self.max_ms:.1f} ms; {self.with_a_stale_read:,} had a stale read at all."
            f" {self.beyond_250_ms} of {self.reads:,} reads were stale beyond 250 ms, {self.in_own_worker} in the"
            f" invalidating worker; {self.resurrected} looks found an older value in Redis."
        )

    @property
    def kept(self) -> bool:
        """Return whether no promise was broken."""
        broken = (
            self.beyond_250_ms,
            self.in_own_worker,
            self.versions_going_back,
            self.resurrected,
            self.failed,
        )
        return not any(broken)


def measure(testbed: Testbed, wanted: int) -> Distribution:
    """Announce `wanted` versions, each followed at once by reads on all workers, and check the history."""
    recorder = History()
    with Load(testbed, recorder, run_writer) as load:
        load.pinned.wait(PINNED_LIMIT_S)
        load.stopping.wait(WARM_UP_S)
        load.writer_pause_s = 0.0
        began_s = time.monotonic()
        limit_s = began_s + 30 + wanted / _SLOWEST_RATE
        while recorder.count(INVALIDATE) < wanted and time.monotonic() < limit_s:
            if load.stopping.wait(0.1):
                break
        took_s = time.monotonic() - began_s
    operations = recorder.take()
    for operation in operations:
        if operation.request:
            operation.worker = testbed.access_log.worker_of(operation.request)
    stale = checkers.stale_reads(operations, checkers.reads(operations))
    last = checkers.last_stale_ms(operations, stale)
    p50, p99, p999 = (checkers.percentile(last, percent) for percent in (50, 99, 99.9))
    return Distribution(
        workers=testbed.workers,
        invalidations=len(last),
        reads=len(checkers.reads(operations)),
        with_a_stale_read=sum(ms > 0 for ms in last),
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=max(last, default=0.0),
        beyond_250_ms=len(checkers.beyond(stale, HEALTHY_BOUND_MS)),
        in_own_worker=len(checkers.stale_in_own_worker(stale)),
        versions_going_back=len(checkers.versions_going_back(operations)),
        resurrected=len(checkers.resurrected(operations)),
        failed=len(checkers.failures(operations, (*READS, INVALIDATE))),
        seconds=took_s,
    )
