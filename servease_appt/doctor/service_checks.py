"""What the cache fills itself from, the three services, and PostgreSQL, which the service can't do without."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final

from sqlalchemy import text

from servease_appt.cli.cache.tables import counted
from servease_appt.clients import Denied, NotFound, UpstreamError
from servease_appt.clients.service_token import ServiceToken
from servease_appt.container import Container
from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.doctor.findings import Area, Finding
from servease_appt.references.entities import CUSTOMER, EMPLOYEE, PLACEHOLDERS, VEHICLE
from servease_appt.scheduling.clock import today

SLOW_SHARE: Final = 0.5
CLOCK_SLACK_S: Final = 1.0
MAX_ASKED: Final = 3

Get = Callable[[str, str, float], object]

_services = Area("services")
_database = Area("database")


class _Answer(Enum):
    KNOWN = auto()
    UNKNOWN = auto()
    DENIED = auto()


def check_service(container: Container, entity: str) -> Iterator[Finding]:
    """Ask one service for what coming appointments need, or else for an id that nobody has.

    Any web server answers 404: only of an id that the service should know does that tell something.
    """
    settings, upstreams = container.settings, container.upstreams
    ask: dict[str, tuple[str, str, Get]] = {
        CUSTOMER: ("CUSTOMER_SERVICE_URL", settings.customer_service_url, upstreams.customers.get),
        EMPLOYEE: ("EMPLOYEE_SERVICE_URL", settings.employee_service_url, upstreams.employees.get),
        VEHICLE: ("VEHICLE_SERVICE_URL", settings.vehicle_service_url, upstreams.vehicles.get),
    }
    variable, url, get = ask[entity]
    token = ServiceToken(settings.secret_key).get()
    needed = _needed_ids(container, entity)
    try:
        for id_ in needed or [str(uuid.uuid4())]:
            started_s = time.perf_counter()
            answer = _ask(get, id_, token, settings.upstream_timeout_s)
            took_ms = (time.perf_counter() - started_s) * 1000
            if answer is not _Answer.UNKNOWN:
                break
    except UpstreamError as error:
        yield _services.problem(
            f"The {error} (asked at {url} for {settings.upstream_timeout_s:g} s at most).",
            "Each name that neither tier holds is shown as its last known copy, or as a placeholder.",
            f"Look at that service, or correct {variable}.",
        )
        return
    yield _speed(entity, url, took_ms, settings.upstream_timeout_s)
    if answer is _Answer.DENIED:
        yield _denied(entity, settings.upstream_auth)
    elif needed and answer is _Answer.UNKNOWN:
        yield _knows_none(entity, len(needed), variable)


def _needed_ids(container: Container, entity: str) -> list[str]:
    """Those that most coming appointments need; none where there are none, or PostgreSQL is away."""
    from servease_appt.cli.cache.warm_candidates import keys_needed

    day = today(datetime.now(UTC), container.settings.business_timezone)
    with suppress(DatabaseUnavailable):
        keys = keys_needed(container.database, [entity], day, MAX_ASKED)
        return [key.partition("_")[2] for key in keys]
    return []


def _ask(get: Get, id_: str, token: str, timeout_s: float) -> _Answer:
    try:
        get(id_, token, timeout_s)
    except NotFound:
        return _Answer.UNKNOWN
    except Denied:
        return _Answer.DENIED
    return _Answer.KNOWN


def _knows_none(entity: str, asked: int, variable: str) -> Finding:
    return _services.warning(
        f"It says 404 to the {counted(asked, entity)} that most coming appointments need.",
        "Something else answers at that address, or the service has lost them, or hides them from this service's"
        f" own token. Who reads them sees {PLACEHOLDERS[entity]!r}.",
        f"Compare {variable} with where the {entity} service is, and ask it for one of them.",
    )


def _speed(entity: str, url: str, took_ms: float, timeout_s: float) -> Finding:
    says = f"The {entity} service at {url} answers in {took_ms:.0f} ms."
    if took_ms > SLOW_SHARE * timeout_s * 1000:
        return _services.warning(
            says,
            f"Close to UPSTREAM_TIMEOUT={timeout_s:g}: first reads are slow, and some fail.",
            "Look at that service.",
        )
    return _services.ok(says)


def _denied(entity: str, upstream_auth: str) -> Finding:
    says = f"The {entity} service refuses this service's own token (401 or 403)."
    do = "Let that service accept the role `service`, and compare SECRET_KEY on both sides."
    if upstream_auth == "service":
        return _services.problem(
            says, f"UPSTREAM_AUTH=service needs it: every {entity} is shown as a placeholder.", do
        )
    return _services.note(says, "`cache warm` needs it; pages send their reader's token instead.", do)


def check_database(container: Container) -> Iterator[Finding]:
    """Does PostgreSQL answer, with the tables of this version?"""
    from servease_appt.db.migrate import current

    try:
        started_s = time.perf_counter()
        with container.database.reading() as connection:
            before = datetime.now(UTC)
            their_now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        took_ms = (time.perf_counter() - started_s) * 1000
        found, needed = current(container.settings.database_url)
    except DatabaseUnavailable as error:
        yield _database.problem(
            f"{error}.",
            "Without PostgreSQL every request for appointments is answered with 503. The cache itself goes on.",
            "Start PostgreSQL, or correct DATABASE_URL, or DB_HOST and what belongs to it.",
        )
        return
    yield _database.ok(f"PostgreSQL answers, connecting included, in {took_ms:.0f} ms.")
    if found != needed:
        yield _database.problem(
            f"Its tables are of version {found or 'none'}, this code needs {needed}.",
            "Requests fail, or break rules that newer tables hold up.",
            "Run `flask --app wsgi db upgrade`.",
        )
    else:
        yield _database.ok(f"Its tables are of version {found}, as needed.")
        yield from _kept_counts(container)
    off_s = abs((their_now - before).total_seconds())
    if off_s > CLOCK_SLACK_S:
        yield _database.warning(
            f"Its clock and this host's are {off_s:.1f} s apart.",
            "Idempotency keys expire at other times than meant.",
            "Have both hosts follow the same time server (NTP).",
        )


def _kept_counts(container: Container) -> Iterator[Finding]:
    """Are the numbers that triggers keep those of the rows? A sample tells, whatever the table's size."""
    from servease_appt.db import kept_counts

    try:
        with container.database.reading() as connection:
            wrong = kept_counts.sampled_differences(connection)
    except DatabaseUnavailable as error:
        yield _database.problem(f"{error}.", "The kept counts could not be looked at.", "Ask again.")
        return
    if wrong:
        yield _database.problem(
            f"The kept counts are wrong for {wrong} of the days sampled.",
            "Lists and statistics show wrong numbers, and pages begin at the wrong row.",
            "Run `flask --app wsgi db check --repair`.",
        )
    else:
        yield _database.ok("The kept counts of the days sampled are right.")
