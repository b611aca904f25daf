"""Run all checks in parallel. Each check works while everything else is down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

from redis.exceptions import RedisError

from servease_appt.cache import CacheError
from servease_appt.doctor import (
    database_checks,
    redis_checks,
    service_checks,
    settings_checks,
    worker_checks,
)
from servease_appt.doctor.findings import Area, Finding, Report
from servease_appt.inspection.session import OperatorSession
from servease_appt.references.entities import ENTITIES

Check = Callable[[], Iterator[Finding]]


def examine(session: OperatorSession, within_s: float | None = None) -> Report:
    """Run every check. Takes as long as the slowest: a few seconds where everything is down.

    Args:
        session: what the checks need.
        within_s: seconds after which a check that still runs is reported as a problem, and left to end by itself;
            None waits for all.
    """
    container = session.container
    checks: list[tuple[str, Check]] = [
        ("redis", partial(_redis_and_workers, session)),
        *((f"{name} service", partial(service_checks.check_service, container, name)) for name in ENTITIES),
        ("database", partial(database_checks.check_database, container)),
        ("settings", partial(settings_checks.check, container.settings)),
    ]
    executor = ThreadPoolExecutor(len(checks))
    try:
        running = {name: executor.submit(_run, (name, check)) for name, check in checks}
        done, _ = wait(running.values(), timeout=within_s)
        found = [
            future.result() if future in done else [_unfinished(name, within_s)]
            for name, future in running.items()
        ]
    finally:
        executor.shutdown(wait=False)
    return Report([finding for findings in found for finding in findings])


def _unfinished(name: str, within_s: float | None) -> Finding:
    return Area(name).problem(
        f"The check of {name} has not ended within {within_s:g} s.",
        "What it asks is very slow or does not answer. The other findings are complete.",
        "Run `flask cache doctor` in a shell, which waits longer.",
    )


def _run(named: tuple[str, Check]) -> list[Finding]:
    name, check = named
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:  # noqa: BLE001 - a failed check is one more finding and must not hide the others
        says = f"The check of {name} failed: {str(error).strip() or 'without a message'}."
        found.append(Area(name).problem(says, "The other findings are complete.", "Run the doctor again."))
    return found


def _redis_and_workers(session: OperatorSession) -> Iterator[Finding]:
    try:
        yield from redis_checks.check(session)
        yield from worker_checks.check(session)
    except (RedisError, CacheError) as error:
        yield redis_checks.unreachable(session, error)
