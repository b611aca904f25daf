"""What the cache fills itself from, the three services, and PostgreSQL, which the service can't do without."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import text

from servease_appt.clients import Denied, NotFound, UpstreamError
from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.entities import CUSTOMER, EMPLOYEE, VEHICLE
from servease_appt.ops.doctor.findings import Area, Finding
from servease_appt.service_token import ServiceToken
from servease_appt.services import Services

SLOW_SHARE: Final = 0.5
CLOCK_SLACK_S: Final = 1.0

_services = Area("services")
_database = Area("database")


def check_service(services: Services, entity: str) -> Iterator[Finding]:
    """Ask one service for an id that nobody has."""
    settings, upstreams = services.settings, services.upstreams
    ask: dict[str, tuple[str, str, Callable[[str, str, float], object]]] = {
        CUSTOMER: ("CUSTOMER_SERVICE_URL", settings.customer_service_url, upstreams.customers.get),
        EMPLOYEE: ("EMPLOYEE_SERVICE_URL", settings.employee_service_url, upstreams.employees.get),
        VEHICLE: ("VEHICLE_SERVICE_URL", settings.vehicle_service_url, upstreams.vehicles.get),
    }
    variable, url, get = ask[entity]
    token = ServiceToken(settings.secret_key).get()
    started_s = time.perf_counter()
    try:
        get(str(uuid.uuid4()), token, settings.upstream_timeout_s)
        denied = False
    except NotFound:
        denied = False
    except Denied:
        denied = True
    except UpstreamError as error:
        yield _services.problem(
            f"The {error} (asked at {url} for {settings.upstream_timeout_s:g} s at most).",
            f"What neither tier holds of a {entity} is shown as its last known copy, or as a placeholder.",
            f"Look at that service, or correct {variable}.",
        )
        return
    yield _speed(entity, url, (time.perf_counter() - started_s) * 1000, settings.upstream_timeout_s)
    if denied:
        yield _denied(entity, settings.upstream_auth)


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


def check_database(services: Services) -> Iterator[Finding]:
    """Does PostgreSQL answer, with the tables of this version?"""
    from servease_appt.db.migrate import current

    try:
        started_s = time.perf_counter()
        with services.database.reading() as connection:
            before = datetime.now(UTC)
            their_now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        took_ms = (time.perf_counter() - started_s) * 1000
        found, needed = current(services.settings.database_url)
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
    off_s = abs((their_now - before).total_seconds())
    if off_s > CLOCK_SLACK_S:
        yield _database.warning(
            f"Its clock and this host's are {off_s:.1f} s apart.",
            "Idempotency keys expire at other times than meant.",
            "Have both hosts follow the same time server (NTP).",
        )
