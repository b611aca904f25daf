"""Publish, deliver and drop booking events (see `servease_appt.db.migrations.events`)."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, text

from servease_appt.db.engine import Database

KEPT: Final = timedelta(days=30)
"""A reader that was away for longer has to read everything again."""

_BATCH: Final = 2000
"""Events in one transaction: a statement that changes a million appointments makes a million."""

_PUBLISH: Final = text("SELECT appointment_events_publish(:most)")
_DROP: Final = text("SELECT appointment_events_drop(:most)")
_ONE_AT_A_TIME: Final = text(
    "SELECT pg_try_advisory_xact_lock(hashtextextended('appointment_events delivery', 0))"
)
# A statement of its own: one that also takes the lock would not see what its last holder has noted.
_DELIVERED_SO_FAR: Final = text("SELECT delivered_number FROM appointment_events_state")
_UNDELIVERED: Final = text(
    "SELECT number, event, appointment_id::text, customer_id::text, status, occurred_at FROM appointment_events"
    " WHERE number > :after ORDER BY number LIMIT :most"
)
_DELIVERED: Final = text("UPDATE appointment_events_state SET delivered_number = :number")
_BACKLOG: Final = text("""
    SELECT greatest(last_number - greatest(delivered_number, dropped_number), 0)
            + (SELECT count(*) FROM (SELECT FROM appointment_events WHERE number IS NULL LIMIT 100000) AS waiting),
        coalesce(extract(epoch FROM clock_timestamp() - coalesce(
            (SELECT occurred_at FROM appointment_events WHERE number > delivered_number ORDER BY number LIMIT 1),
            (SELECT occurred_at FROM appointment_events WHERE number IS NULL ORDER BY id LIMIT 1)
        )), 0)::float
    FROM appointment_events_state
""")


class BookingEvent(NamedTuple):
    """A change of an appointment; `number` increases by one from each event to the next.

    `event` is `booked`, `edited`, `rescheduled`, `assigned`, `deleted`, or the new status.
    """

    number: int
    event: str
    appointment_id: str
    customer_id: str | None
    status: str | None
    occurred_at: datetime


class Backlog(NamedTuple):
    """The events that are not delivered yet, and the age of the oldest; 0 seconds if there are none."""

    events: int
    oldest_s: float


def publish(database: Database) -> bool:
    """Number the events that have been committed, oldest first, up to some thousand. Writers do not wait for it.

    Returns:
        True if more may be left.

    Raises:
        DatabaseUnavailable: PostgreSQL can't be used, or has not been upgraded.
    """
    with database.transaction() as connection:
        return bool(connection.execute(_PUBLISH, {"most": _BATCH}).scalar_one() >= _BATCH)


def drop_old(database: Database) -> None:
    """Delete published events that are older than `KEPT`, up to some thousand. Raises `DatabaseUnavailable`."""
    with database.transaction() as connection:
        connection.execute(_DROP, {"most": _BATCH})


def deliver(database: Database, send: Callable[[Sequence[BookingEvent]], None], most: int = 500) -> int:
    """Pass on the events after the last one delivered, and note that they are delivered once `send` has returned.

    One caller at a time; others return at once. If `send` fails, or this process ends before the note is
    committed, the same events are passed on again: each at least once, in their order.

    Returns:
        The number of events passed on. 0: there are none, or another caller is at it.

    Raises:
        DatabaseUnavailable: PostgreSQL can't be used; whether the note was made is unknown.
    """
    with database.transaction() as connection:
        if not connection.execute(_ONE_AT_A_TIME).scalar_one():
            return 0
        delivered = connection.execute(_DELIVERED_SO_FAR).scalar_one()
        found = connection.execute(_UNDELIVERED, {"after": delivered, "most": most})
        events = [BookingEvent(*row) for row in found]
        if events:
            send(events)
            connection.execute(_DELIVERED, {"number": events[-1].number})
        return len(events)


def backlog(connection: Connection) -> Backlog:
    """Return what is not delivered yet; unpublished events are counted up to 100,000."""
    row: Any = connection.execute(_BACKLOG).one()
    return Backlog(int(row[0]), float(row[1]))
