"""Run all checks in parallel. Each check works while everything else is down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Final

from redis.exceptions import RedisError

from servease_appt.cache import CacheError
from servease_appt.doctor import (
    database_checks,
    redis_checks,
    service_checks,
    settings_checks,
    worker_checks,
)
from servease_appt.doctor.findings import Area, Finding, Level, Report
from servease_appt.inspection.session import OperatorSession
from servease_appt.references.entities import ENTITIES

Check = Callable[[], Iterator[Finding]]
WAKE_S: Final = 0.1
"""How often `while_waiting` is called."""


def examine(
    session: OperatorSession,
    within_s: float | None = None,
    while_waiting: Callable[[], None] = lambda: None,
) -> Report:
    """Run every check. Takes as long as the slowest: a few seconds where everything is down.

    Args:
        session: what the checks need.
        within_s: seconds after which a check that still runs is reported as a problem, and left to end by itself;
            None waits for all.
        while_waiting: called every 0.1 s until all have ended.
    """
    container = session.container
    checks: list[tuple[str, Check]] = [
        ("redis", partial(_redis_and_workers, session)),
        *((f"{name} service", partial(service_checks.check_service, container, name)) for name in ENTITIES),
        ("database", partial(database_checks.check_database, container)),
        ("settings", partial(settings_checks.check, container.settings)),
    ]
    running = {name: _start(name, check) for name, check in checks}
    _wait(running.values(), within_s, while_waiting)
    found = [
        future.result() if future.done() else [_unfinished(name, within_s)]
        for name, future in running.items()
    ]
    return Report([finding for findings in found for finding in findings])


def _start(name: str, check: Check) -> Future[list[Finding]]:
    """Run a check on a daemon thread: the process can end while it waits for a server, as after Ctrl-C.

    An executor's threads are joined at exit.
    """
    future: Future[list[Finding]] = Future()
    threading.Thread(
        target=lambda: future.set_result(_run(name, check)), name=f"servease-doctor-{name}", daemon=True
    ).start()
    return future


def _wait(
    running: Iterable[Future[list[Finding]]], within_s: float | None, while_waiting: Callable[[], None]
) -> None:
    pending = set(running)
    until_s = float("inf") if within_s is None else time.monotonic() + within_s
    while pending and time.monotonic() < until_s:
        while_waiting()
        _, pending = wait(pending, min(WAKE_S, until_s - time.monotonic()), FIRST_COMPLETED)


def _unfinished(name: str, within_s: float | None) -> Finding:
    return Area(name).problem(
        f"The check of {name} has not ended within {within_s:g} s.",
        "What it asks is very slow or does not answer. The other findings are complete.",
        "Run `flask cache doctor` in a shell, which waits longer.",
    )


def _run(name: str, check: Check) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:  # noqa: BLE001 - a failed check is one more finding and must not hide the others
        says = f"The check of {name} failed: {str(error).strip() or 'without a message'}."
        found.append(Area(name).problem(says, "The other findings are complete.", "Run the doctor again."))
    return found


def _redis_and_workers(session: OperatorSession) -> Iterator[Finding]:
    try:
        has_problem = False
        for finding in redis_checks.check(session):
            has_problem = has_problem or finding.level is Level.PROBLEM
            yield finding
        yield from worker_checks.check(session, redis_has_problem=has_problem)
    except (RedisError, CacheError) as error:
        yield redis_checks.unreachable(session, error)
