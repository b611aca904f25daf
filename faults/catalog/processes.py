"""Faults of the workers, of gunicorn and of PostgreSQL."""

from __future__ import annotations

import os
import signal

from faults.experiment import Context, Fault

_GROUP = "processes"
THREADS = 8
_ONE_WORKER_MS = 5_000
_ALL_WORKERS_MS = 20_000
"""A worker imports the application first: 1 s of a core's time."""


def _kill_a_worker(context: Context) -> None:
    os.kill(context.testbed.worker_pids()[0], signal.SIGKILL)


def _freeze_a_worker(context: Context) -> None:
    context.keep["pid"] = context.testbed.worker_pids()[0]
    os.kill(context.keep["pid"], signal.SIGSTOP)


def _thaw_it(context: Context) -> None:
    os.kill(context.keep["pid"], signal.SIGCONT)


def _frozen(seconds: float) -> Fault:
    return Fault(
        name=f"worker-frozen-{seconds:g}s",
        group=_GROUP,
        promise="what it is asked meanwhile it answers late; no old value later than 2 s after its invalidation",
        inject=_freeze_a_worker,
        heal=_thaw_it,
        hold_s=seconds,
        budget_ms=None,
    )


FAULTS = (
    Fault(
        name="worker-killed",
        group=_GROUP,
        promise="at most its 8 threads' requests are lost, and no booking that was answered",
        inject=_kill_a_worker,
        hold_s=2.0,
        lost=THREADS,
        recovers_ms=_ONE_WORKER_MS,
    ),
    _frozen(1.0),
    _frozen(3.0),
    Fault(
        name="reload-by-sighup",
        group=_GROUP,
        promise="no request is lost; those that come before the new workers are up wait for them",
        inject=lambda context: context.testbed.gunicorn.send(signal.SIGHUP),
        hold_s=4.0,
        recovers_ms=_ALL_WORKERS_MS,
    ),
    Fault(
        name="postgresql-restarted",
        group=_GROUP,
        promise="503 while it is down, normal answers afterwards; no answered booking is lost",
        inject=lambda context: context.testbed.postgres.kill(),
        heal=lambda context: context.testbed.postgres.restart(),
        hold_s=2.0,
        failing=frozenset({"page", "probe", "book"}),
    ),
)
