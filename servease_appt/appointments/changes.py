"""The changes of appointments in the order in which they became visible, for clients that keep a copy.

When PostgreSQL is down, every function raises `servease_appt.db.errors.DatabaseUnavailable`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text

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
_AFTER: Final = """
    SELECT last_number, dropped_number, event.* FROM appointment_events_state LEFT JOIN LATERAL (
        SELECT number, event, appointment_id::text, customer_id::text, status, occurred_at FROM appointment_events
        WHERE number > coalesce(:after, dropped_number) AND {whose} ORDER BY number LIMIT :limit
    ) AS event ON true ORDER BY event.number
"""
_OF_ALL: Final = text(_AFTER.format(whose="true"))
_OF_ONE: Final = text(_AFTER.format(whose="customer_id = CAST(:owner AS uuid)"))


@dataclass(frozen=True, slots=True)
class Changes:
    """Some changes, oldest first.

    Attributes:
        events: the changes.
        last_number: continue after this one. Every change up to it has been seen, or may not be.
        has_more: whether there are more already.
    """

    events: Sequence[BookingEvent]
    last_number: int
    has_more: bool


def list_changes(
    database: Database, actor: Actor, *, after: int | None, since: datetime | None, limit: int
) -> Changes:
    """Return changes that the actor may see: all for staff, those of their own appointments for a customer.

    What was committed before this call is among them or among those that follow. No change appears later with a
    smaller number.

    Args:
        after: the number of the last change seen; None to begin with the oldest that is kept.
        since: if `after` is None, begin with the changes that became visible at this aware moment or later.
        limit: how many changes at most.

    Raises:
        ChangesDropped: some of the changes asked for are no longer kept, or `after` is of another database.
        Forbidden: the actor is another service.
    """
    owner = only_customer(actor)
    more_unpublished = events.publish(database)
    with database.reading() as connection:
        if after is None and since is not None:
            last, is_dropped, first = connection.execute(_SINCE, {"since": since}).one()
            if is_dropped:
                raise ChangesDropped
            after = last if first is None else first - 1
        parameters = {"after": after, "owner": owner, "limit": limit + 1}
        if owner is None:
            del parameters["owner"]
        found = connection.execute(_OF_ALL if owner is None else _OF_ONE, parameters).all()
    last, dropped = found[0][:2]
    if after is not None and not dropped <= after <= last:
        raise ChangesDropped
    listed = [BookingEvent(*row[2:]) for row in found if row[2] is not None]
    if len(listed) > limit:
        listed = listed[:limit]
        return Changes(listed, listed[-1].number, has_more=True)
    return Changes(listed, last, has_more=more_unpublished)
