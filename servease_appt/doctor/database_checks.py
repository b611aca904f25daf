"""PostgreSQL, without which the service cannot serve: does it answer, with the right tables and clock?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import text

from servease_appt.container import Container
from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.db.replica import ReplicaState
from servease_appt.doctor.findings import Area, Finding
from servease_appt.doctor.texts import duration
from servease_appt.masking import mask_url
from servease_appt.settings import Settings

CLOCK_SLACK_S: Final = 1.0
OLDEST_EVENT_S: Final = 60.0

_SETTING: Final = "DATABASE_URL (or DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, APPOINTMENT_DB_NAME)"
_CURES: Final = (
    ("password authentication failed", f"Correct the user and password in {_SETTING}."),
    ("no password supplied", f"Add the password to {_SETTING}."),
    ('role "', f"Correct the user in {_SETTING}, or create the role."),
    ("pg_hba.conf", "Let this host and user in (pg_hba.conf), or correct the user and host in DATABASE_URL."),
    ('database "', f"Correct the database name in {_SETTING}, or create the database."),
    ("could not translate host name", f"Correct the host in {_SETTING}."),
    ("invalid response to SSL", f"Another program answers there: correct host and port in {_SETTING}."),
    ("refused", f"Start PostgreSQL, or correct host and port in {_SETTING}."),
    ("did not answer in time", "Look for a frozen PostgreSQL, a firewall, or a wrong host in DATABASE_URL."),
    ("closed the connection unexpectedly", "PostgreSQL froze or restarted: look at its log and its host."),
    ("too many", "Raise max_connections, or find out who holds the connections (pg_stat_activity)."),
)
"""Part of PostgreSQL's message, and what to do about it; the first that matches counts."""

_area = Area("database")


def check_database(container: Container) -> Iterator[Finding]:
    """Check that PostgreSQL answers, has the tables of this version, and has the right time."""
    from servease_appt.db.migrate import current

    try:
        started_s = time.perf_counter()
        with container.database.reading() as connection:
            before = datetime.now(UTC)
            their_now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        took_ms = (time.perf_counter() - started_s) * 1000
        found, needed = current(container.settings.database_url)
    except DatabaseUnavailable as error:
        yield _unavailable(container.settings, error)
        return
    yield _area.ok(f"PostgreSQL answers in {took_ms:.0f} ms, including the connect.")
    if found != needed:
        yield _area.problem(
            f"Its tables are of version {found or 'none'}, this code needs {needed}.",
            "Requests fail, or break rules that the newer tables enforce.",
            "Run `flask --app wsgi db upgrade`.",
        )
    else:
        yield _area.ok(f"Its tables are of version {found}, as needed.")
        yield from _kept_counts(container)
        if container.settings.event_stream_maxlen:
            yield from _undelivered_events(container)
        yield from check_replica(container)
    ahead_s = (their_now - before).total_seconds()
    if abs(ahead_s) > CLOCK_SLACK_S:
        yield _area.warning(
            f"Its clock is {duration(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} this host's.",
            "Idempotency keys expire too early or too late.",
            "Synchronise both hosts with NTP (`timedatectl`, `chronyc tracking`).",
        )


def _kept_counts(container: Container) -> Iterator[Finding]:
    """Compare a sample of the numbers that triggers keep with the rows. The work does not grow with the table."""
    from servease_appt.db import kept_counts

    try:
        with container.database.reading() as connection:
            wrong = kept_counts.sampled_differences(connection)
    except DatabaseUnavailable as error:
        yield _unavailable(container.settings, error)
        return
    if wrong:
        yield _area.problem(
            f"The kept counts are wrong for {wrong} of the days sampled.",
            "Lists and statistics show wrong numbers, and pages start at the wrong row.",
            "Run `flask --app wsgi db check --repair`.",
        )
    else:
        yield _area.ok("The kept counts of the sampled days are right.")


def _undelivered_events(container: Container) -> Iterator[Finding]:
    """Check that booking events reach the Redis stream."""
    from servease_appt.db import events

    try:
        with container.database.reading() as connection:
            left = events.backlog(connection)
    except DatabaseUnavailable as error:
        yield _unavailable(container.settings, error)
        return
    if left.oldest_s > OLDEST_EVENT_S:
        yield _area.problem(
            f"{left.events} booking events are not in the Redis stream, the oldest for {duration(left.oldest_s)}.",
            "Services that read the stream miss changes; after 30 days they are lost to it.",
            "Start a worker, and look at its log and at the findings about Redis."
            " EVENT_STREAM_MAXLEN=0 turns the stream off.",
        )
    else:
        yield _area.ok("Booking events reach the Redis stream.")


def check_replica(container: Container) -> Iterator[Finding]:
    """Check that the replica for lists is one, and how long it takes to have what is committed now."""
    replica, url = container.list_reads.replica, container.settings.database_replica_url
    if replica is None or url is None:
        return
    means = "All lists are read from the primary."
    try:
        state, took_s = replica.examine()
    except DatabaseUnavailable as error:
        says = (
            f"The read replica at {mask_url(url)} can't be used: {(error.detail or str(error)).rstrip('.')}."
        )
        yield _area.warning(says, means, "Start it, or correct DATABASE_REPLICA_URL.")
        return
    if state is ReplicaState.WRONG:
        yield _area.warning(
            f"The server at {mask_url(url)} is no streaming replica of the primary, or not of this database.",
            means,
            "Correct DATABASE_REPLICA_URL. After a failover, let the replica follow the new primary.",
        )
    elif state is ReplicaState.BEHIND:
        yield _area.warning(
            f"The read replica is more than {duration(replica.max_lag_s)} behind the primary.",
            means,
            "Look at pg_stat_replication on the primary: is it connected, and does replay_lsn move?"
            " A long query on the replica may hold it up. DATABASE_REPLICA_MAX_LAG permits more.",
        )
    else:
        yield _area.ok(f"The read replica had what the primary has after {took_s * 1000:.0f} ms.")


def _unavailable(settings: Settings, error: DatabaseUnavailable) -> Finding:
    reason = error.detail.partition(" Is the server running")[0] or str(error)
    cure = next((do for sign, do in _CURES if sign in reason), f"Start PostgreSQL, or correct {_SETTING}.")
    return _area.problem(
        f"PostgreSQL at {mask_url(settings.database_url)} can't be used: {reason.rstrip('.')}.",
        "Every request for appointments is answered with 503. The cache itself goes on.",
        cure,
    )
