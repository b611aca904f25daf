"""Run one fault, from the control phase to the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from faults import checkers, history
from faults.history import BOOK, INVALIDATE, L2, NO_ANSWER, PAGE, PROBE, READS, STATS, History, Operation
from faults.load import Load
from faults.testbed import Testbed
from faults.writers import run_writer

WARM_UP_S = 1.0
PINNED_LIMIT_S = 10.0
CONTROL_S = 2.5
SETTLE_S = 1.5
RECOVERY_LIMIT_S = 30.0
HEALTHY_BOUND_MS = 250.0
LOST_MESSAGE_BOUND_MS = 2000.0
REDIS_BUDGET_MS = 500.0
STALL_MS = 50.0
"""A look straight into Redis that took longer: the machine let the server itself stand still."""


@dataclass(slots=True)
class Context:
    """What a fault's steps may use.

    `remarks` and promises found `broken` end up in the report; `keep` holds what one step leaves for a later
    one.
    """

    testbed: Testbed
    load: Load
    remarks: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    keep: dict[str, Any] = field(default_factory=dict)


Step = Callable[[Context], None]


def nothing(_: Context) -> None:
    """Do nothing: a step that a fault does not need."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to break something.

    Attributes:
        promise: what holds during the fault, in words.
        inject, heal: begin and end the fault.
        hold_s: seconds that it lasts.
        bound_ms: milliseconds after an acknowledged invalidation during which an older value may be shown.
        l2_bound_ms: the same for values in Redis.
        freezes: entities whose fake service can't be controlled during the fault.
        present: entities whose names may be missing on no page.
        failing: operations (`page`, `probe`, `invalidate`, `book`) that may be answered with 503 during the fault.
        lost: number of requests that may get no answer.
        recovers_ms: milliseconds after the fault's end until everything works as before, at most.
        budget_ms: milliseconds that a page may wait for Redis, at most; None if its worker stands still.
        page_limit_ms: milliseconds that a page may take, at most.
    """

    name: str
    group: str
    promise: str
    inject: Step = nothing
    heal: Step = nothing
    hold_s: float = 3.0
    bound_ms: float = LOST_MESSAGE_BOUND_MS
    l2_bound_ms: float = 0.0
    freezes: frozenset[str] = frozenset()
    present: frozenset[str] = frozenset()
    failing: frozenset[str] = frozenset()
    lost: int = 0
    recovers_ms: float = 5000.0
    budget_ms: float | None = REDIS_BUDGET_MS
    page_limit_ms: float | None = None


class Phases(NamedTuple):
    """The begin of the control phase, begin and end of the fault, in nanoseconds; the workers before the fault."""

    began: int
    injected: int
    ended: int
    workers: frozenset[int]


@dataclass(slots=True)
class Result:
    """The measurements; counts cover the whole run of one fault, with its recovery."""

    fault: str
    group: str
    promise: str
    invalidations: int = 0
    reads: int = 0
    control_stale_max_ms: float = 0.0
    stale_beyond: int = 0
    server_stall_ms: float = 0.0
    stale_p50_ms: float = 0.0
    stale_p99_ms: float = 0.0
    stale_max_ms: float = 0.0
    stale_in_own_worker: int = 0
    stale_after_resubscribing: int = 0
    versions_going_back: int = 0
    resurrected: int = 0
    placeholders_in_l2: int = 0
    wrong_identities: int = 0
    recovery_ms: float = 0.0
    control_p99_ms: float = 0.0
    added_p99_ms: float = 0.0
    page_max_ms: float = 0.0
    redis_wait_max_ms: float = 0.0
    redis_waits_over_20ms: int = 0
    placeholder_pages: int = 0
    missing_names: int = 0
    statuses: dict[str, dict[str, int]] = field(default_factory=dict)
    unexpected_failures: int = 0
    bookings_wrong: int = 0
    resent: int = 0
    broken: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Return whether every promise was kept."""
        return not self.broken

    def as_json(self) -> dict[str, Any]:
        """Return every field."""
        return asdict(self)


def run(testbed: Testbed, fault: Fault, keep_history: Path | None = None) -> Result:
    """Run one fault under load and judge it."""
    recorder = History()
    with Load(testbed, recorder, run_writer) as load:
        context = Context(testbed, load)
        load.pinned.wait(PINNED_LIMIT_S)
        load.stopping.wait(WARM_UP_S)
        began = time.monotonic_ns()
        load.stopping.wait(CONTROL_S)
        load.frozen |= fault.freezes
        there = frozenset(testbed.worker_pids())
        injected = time.monotonic_ns()
        try:
            fault.inject(context)
            done = time.monotonic_ns()
            load.stopping.wait(fault.hold_s)
        finally:
            ended = time.monotonic_ns()
            fault.heal(context)
        if fault.heal is nothing:
            ended = done
        load.as_usual()
        if not testbed.wait_for_mode(timeout_s=RECOVERY_LIMIT_S):
            context.remarks.append(f"not all workers were back after {RECOVERY_LIMIT_S:g} s")
        load.stopping.wait(SETTLE_S)
    operations = _with_workers(testbed, recorder.take())
    if keep_history is not None:
        history.write(operations, keep_history)
    result = judge(fault, operations, Phases(began, injected, max(ended, injected), there))
    result.resent = load.resent
    result.remarks += context.remarks
    asked = {
        op.worker for op in checkers.reads(operations) if op.op == PROBE and began <= op.t_call < injected
    }
    if len(asked - {0}) < testbed.workers:
        result.broken.append(
            f"only {len(asked - {0})} of {testbed.workers} workers were probed before the fault"
        )
    result.broken += context.broken
    _check_bookings(testbed, load, result)
    return result


def _with_workers(testbed: Testbed, operations: list[Operation]) -> list[Operation]:
    """Add to every request the process id of its worker, from the access log."""
    for operation in operations:
        if operation.request:
            operation.worker = testbed.access_log.worker_of(operation.request) or max(operation.worker, 0)
    return operations


def judge(fault: Fault, operations: list[Operation], phases: Phases) -> Result:
    """Measure a history and find the promises that it breaks."""
    began, injected, ended, there = phases
    result = Result(fault.name, fault.group, fault.promise)
    control = [op for op in checkers.during(operations, began, injected) if op.t_return < injected]
    afterwards = [op for op in operations if op.t_call >= injected]
    _measure_staleness(result, fault, operations, injected)
    _measure_pages(result, control, afterwards)
    _count_failures(result, fault, control, afterwards)
    result.missing_names = len(checkers.missing_names(afterwards, fault.present))
    result.recovery_ms = _recovery_ms(operations, ended, injected, there)
    _find_broken(result, fault)
    return result


def _measure_staleness(result: Result, fault: Fault, operations: list[Operation], injected: int) -> None:
    looked = checkers.reads(operations)
    stale = checkers.stale_reads(operations, looked)
    healthy = [one for one in stale if one.read.t_call < injected]
    last = checkers.last_stale_ms(operations, stale)
    result.invalidations = len(last)
    result.reads = len(looked)
    result.control_stale_max_ms = max((one.lag_ns / checkers.MS for one in healthy), default=0.0)
    result.stale_p50_ms, result.stale_p99_ms = (checkers.percentile(last, p) for p in (50, 99))
    result.stale_max_ms = max(last, default=0.0)
    late = [one for one in stale if one.read.t_call >= injected]
    before = _stall_ms(op for op in operations if op.t_call < injected)
    after = 0.0 if fault.bound_ms > HEALTHY_BOUND_MS else _stall_ms(operations)
    result.server_stall_ms = max(before, after)
    result.stale_beyond = len(checkers.beyond(healthy, HEALTHY_BOUND_MS + before)) + len(
        checkers.beyond(late, fault.bound_ms + after)
    )
    result.stale_in_own_worker = len(checkers.stale_in_own_worker(stale))
    result.stale_after_resubscribing = len(checkers.stale_after_resubscribing(operations, stale))
    result.versions_going_back = len(checkers.versions_going_back(operations))
    result.resurrected = len(checkers.beyond(checkers.resurrected(operations), fault.l2_bound_ms))
    result.placeholders_in_l2 = len(checkers.placeholders_in_l2(operations))
    result.wrong_identities = len(checkers.wrong_identities(operations))


def _stall_ms(operations: Iterable[Operation]) -> float:
    """Return how long Redis stood still, by the reads that bypass the proxy; bounds are extended by it."""
    return max((op.took_ms for op in operations if op.op == L2 and op.took_ms > STALL_MS), default=0.0)


def _measure_pages(result: Result, control: list[Operation], afterwards: list[Operation]) -> None:
    pages = {
        name: [op for op in ops if op.op == PAGE]
        for name, ops in (("before", control), ("after", afterwards))
    }
    before, after = (
        checkers.percentile([op.took_ms for op in pages[name]], 99) for name in ("before", "after")
    )
    result.control_p99_ms = before
    result.added_p99_ms = max(0.0, after - before)
    result.page_max_ms = max((op.took_ms for op in afterwards if op.op in READS), default=0.0)
    waits = [op.facts["cache_ms"] for op in checkers.reads(afterwards)]
    result.redis_wait_max_ms = max(waits, default=0.0)
    result.redis_waits_over_20ms = sum(wait > 20 for wait in waits)
    result.placeholder_pages = len(checkers.showing_placeholders(afterwards))


def _count_failures(
    result: Result, fault: Fault, control: list[Operation], afterwards: list[Operation]
) -> None:
    for op in afterwards:
        if op.op in (*READS, INVALIDATE, BOOK) and op.status not in (200, 201):
            name = str(op.status) if op.status != NO_ANSWER else "no answer"
            of_kind = result.statuses.setdefault(op.op, {})
            of_kind[name] = of_kind.get(name, 0) + 1
    everything = (*READS, INVALIDATE, BOOK)
    unexpected = checkers.failures(control, everything)
    lost = [op for op in checkers.failures(afterwards, everything) if op.status == NO_ANSWER]
    refused = [op for op in checkers.failures(afterwards, everything) if op.status != NO_ANSWER]
    unexpected += [op for op in refused if op.status != 503 or op.op not in fault.failing]
    unexpected += lost[fault.lost :]
    result.unexpected_failures = len(unexpected)


def _recovery_ms(operations: list[Operation], ended: int, injected: int, there: frozenset[int]) -> float:
    """Return the time from the end of the fault to its last sign: a mode, a failure, a missing name."""

    known = {0, *there}

    def bad(op: Operation) -> bool:
        if op.t_return < ended or op.t_call < injected:
            return False
        if op.op == STATS:
            new = op.worker not in known
            known.add(op.worker)
            return new or op.status != 200 or op.facts["mode"] != "both"
        if op.op not in (PAGE, PROBE, INVALIDATE, BOOK):
            return False
        return op.status >= 500 or op.status == NO_ANSWER or bool(checkers.showing_placeholders([op]))

    last = max((op.t_return for op in operations if bad(op)), default=ended)
    return (last - ended) / checkers.MS


def _check_bookings(testbed: Testbed, load: Load, result: Result) -> None:
    """Check that each booking that was answered with 201 is in the database once, under the answered id."""
    booked = testbed.dataset.booked(testbed.database_url)
    wrong = [text for text, id_ in load.booked.items() if booked.get(text) != [id_]]
    wrong += [text for text, ids in booked.items() if len(ids) > 1 and text not in wrong]
    result.bookings_wrong = len(wrong)
    if wrong:
        result.broken.append(f"{len(wrong)} bookings lost or doubled")


def _find_broken(result: Result, fault: Fault) -> None:
    counts = {
        f"reads stale beyond {fault.bound_ms:g} ms": result.stale_beyond,
        "stale reads in the invalidating worker": result.stale_in_own_worker,
        "stale reads after the new subscription": result.stale_after_resubscribing,
        "old values back in L2": result.resurrected,
        "placeholders in L2": result.placeholders_in_l2,
        "values under another's key": result.wrong_identities,
        "versions going back": result.versions_going_back,
        "failed requests": result.unexpected_failures,
        "missing names of services that answer": result.missing_names,
    }
    result.broken += [f"{count} {what}" for what, count in counts.items() if count]
    if result.recovery_ms > fault.recovers_ms:
        result.broken.append(f"recovery took {result.recovery_ms:.0f} ms, more than {fault.recovers_ms:g} ms")
    if fault.budget_ms is not None and result.redis_wait_max_ms > fault.budget_ms:
        result.broken.append(f"a page waited {result.redis_wait_max_ms:.0f} ms for Redis")
    if fault.page_limit_ms is not None and result.page_max_ms > fault.page_limit_ms:
        result.broken.append(f"a page took {result.page_max_ms:.0f} ms")
