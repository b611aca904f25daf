"""The changes of appointments in the order in which they became visible, for clients that keep a copy.

When PostgreSQL is down, every function raises `servease_appt.db.errors.DatabaseUnavailable`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from servease_appt.appointments.actors import Actor, only_customer
from servease_appt.appointments.errors import ChangesDropped
from servease_appt.db import events
from servease_appt.db.engine import Database
from servease_appt.db.events import BookingEvent

_SINCE: Final = text("""
    SELECT last_number, dropped_published_at >= :since,
        (SELECT number FROM appointment_events WHERE published_at >= :since ORDER BY published_at, number LIMIT 1)
    FROM appointment_events_state
""")
_MICROSECONDS: Final = (
    "CASE WHEN isfinite({moment}) THEN extract(epoch FROM {moment}) * 1000000 ELSE 0 END::bigint"
)
_AFTER: Final = """
    SELECT last_number, dropped_number, {last_published_us},
        (SELECT {published_us} FROM appointment_events WHERE number = :after LIMIT 1), event.*
    FROM appointment_events_state LEFT JOIN LATERAL (
        SELECT {published_us}, number, event, appointment_id::text, customer_id::text, status, occurred_at
        FROM appointment_events
        WHERE number > coalesce(:after, dropped_number) AND {whose} ORDER BY number LIMIT :limit
    ) AS event ON true ORDER BY event.number
"""
_MOMENTS: Final = {
    "last_published_us": _MICROSECONDS.format(moment="last_published_at"),
    "published_us": _MICROSECONDS.format(moment="published_at"),
}
_OF_ALL: Final = text(_AFTER.format(whose="true", **_MOMENTS))
_OF_ONE: Final = text(_AFTER.format(whose="customer_id = CAST(:owner AS uuid)", **_MOMENTS))


class Position(NamedTuple):
    """A place in the feed: the number of the last change seen, and when it was published.

    A database that was restored to an earlier state gives the same numbers to other changes, but not at the same
    moments. So a position that the restore lost can be distinguished from one that it kept.

    Attributes:
        number: 0 before the first change.
        published_us: microseconds since 1970; 0 before the first change.
    """

    number: int
    published_us: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Some changes, oldest first.

    Attributes:
        events: the changes.
        position: continue after it. Every change up to it has been seen, or may not be.
        has_more: whether there are more already.
    """

    events: Sequence[BookingEvent]
    position: Position
    has_more: bool


def list_changes(
    database: Database, actor: Actor, *, after: Position | None, since: datetime | None, limit: int
) -> Changes:
    """Return changes that the actor may see: all for staff, those of their own appointments for a customer.

    What was committed before this call is among them or among those that follow. No change appears later with a
    smaller number.

    Args:
        after: the last change seen; None to begin with the oldest that is kept.
        since: if `after` is None, begin with the changes that became visible at this aware moment or later.
        limit: how many changes at most.

    Raises:
        ChangesDropped: some of the changes asked for are no longer kept, or `after` is of another database, or of
            a state that was lost when this one was restored.
        Forbidden: the actor is another service.
    """
    owner = only_customer(actor)
    more_unpublished = events.publish(database)
    with database.reading() as connection:
        number = _since(connection, since) if after is None else after.number
        parameters = {"after": number, "owner": owner, "limit": limit + 1}
        if owner is None:
            del parameters["owner"]
        found = connection.execute(_OF_ALL if owner is None else _OF_ONE, parameters).all()
    last, dropped, last_published_us, published_us = found[0][:4]
    if number is not None and not dropped <= number <= last:
        raise ChangesDropped
    # What is dropped was kept for 30 days: nobody at the first change kept comes from a lost state.
    if after is not None and after.published_us != published_us and after.number > dropped:
        raise ChangesDropped
    rows = [row[4:] for row in found if row[5] is not None]
    listed = [BookingEvent(*row[1:]) for row in rows[:limit]]
    if len(rows) > limit:
        return Changes(listed, Position(listed[-1].number, rows[limit - 1][0]), has_more=True)
    return Changes(listed, Position(last, last_published_us), has_more=more_unpublished)


def _since(connection: Connection, since: datetime | None) -> int | None:
    """Return the number before the first change since a moment; None if no moment is given."""
    if since is None:
        return None
    last, is_dropped, first = connection.execute(_SINCE, {"since": since}).one()
    if is_dropped:
        raise ChangesDropped
    return int(last if first is None else first - 1)
