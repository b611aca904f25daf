"""All checks, side by side, each of them ready for the rest to be down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from redis.exceptions import RedisError

from servease_appt.cache import CacheError
from servease_appt.cli.cache.session import Access
from servease_appt.doctor import redis_checks, service_checks, settings_checks, worker_checks
from servease_appt.doctor.findings import Area, Finding, Report
from servease_appt.references.entities import ENTITIES

Check = Callable[[], Iterator[Finding]]


def examine(access: Access) -> Report:
    """Run every check; takes as long as the slowest of them: a few seconds where everything is down."""
    container = access.container
    checks: list[tuple[str, Check]] = [
        ("redis", partial(_redis_and_workers, access)),
        *((f"{name} service", partial(service_checks.check_service, container, name)) for name in ENTITIES),
        ("database", partial(service_checks.check_database, container)),
        ("settings", partial(settings_checks.check, container.settings)),
    ]
    with ThreadPoolExecutor(len(checks)) as executor:
        found = list(executor.map(_run, checks))
    return Report([finding for findings in found for finding in findings])


def _run(named: tuple[str, Check]) -> list[Finding]:
    name, check = named
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:  # noqa: BLE001 - a check that breaks is one more finding, and hides no other
        says = f"The check of {name} could not be finished: {type(error).__name__}: {error}"
        found.append(Area(name).problem(says, "The rest of this report holds.", "Run it again."))
    return found


def _redis_and_workers(access: Access) -> Iterator[Finding]:
    try:
        yield from redis_checks.check(access)
        yield from worker_checks.check(access)
    except (RedisError, CacheError) as error:
        yield redis_checks.unreachable(access, error)
