"""Count all appointments, or one customer's, with one statement, so that the numbers fit together.

Over all of them, the numbers that the database keeps (migration v4) are added up, and only the rows of one day are
counted. One customer's few rows are counted. Either statement returns a row for each status and type that occurs,
and repeats in each row the three totals: scheduled today, completed today, still ahead.
"""

from collections import Counter
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from servease_appt.appointments.actors import Actor, only_customer
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import Stats
from servease_appt.scheduling.clock import wall_clock
from servease_appt.scheduling.statuses import Status

_OF_ALL: Final = text("""
    SELECT status, appointment_type, sum(number),
        (SELECT count(*) FROM appointments WHERE scheduled_date = :today),
        (SELECT count(*) FROM appointments WHERE completed_at >= :day_begins AND completed_at < :day_ends),
        appointments_later_than_any(ARRAY['pending', 'confirmed'], NULL, :today)
            + (SELECT count(*) FROM appointments WHERE status IN ('pending', 'confirmed')
                AND scheduled_date = :today AND scheduled_time > :at)
    FROM (
        SELECT status, appointment_type, number FROM appointment_counts
        WHERE level = 2 AND status <> '*' AND appointment_type <> '*'
        UNION ALL SELECT status, appointment_type, number FROM appointment_count_changes
    ) AS kept
    GROUP BY 1, 2 HAVING sum(number) <> 0
""")
_OF_ONE: Final = text("""
    SELECT status, appointment_type, count(*),
        sum(count(*) FILTER (WHERE scheduled_date = :today)) OVER (),
        sum(count(*) FILTER (WHERE completed_at >= :day_begins AND completed_at < :day_ends)) OVER (),
        sum(count(*) FILTER (WHERE status IN ('pending', 'confirmed')
            AND (scheduled_date, scheduled_time) > (:today, :at))) OVER ()
    FROM appointments WHERE customer_id = CAST(:owner AS uuid) GROUP BY 1, 2
""")


def stats(connection: Connection, policy: BookingPolicy, actor: Actor, now: datetime) -> Stats:
    """Return counts over what the actor may see. `now` is an aware datetime."""
    owner = only_customer(actor)
    wall = wall_clock(now, policy.timezone)
    midnight = datetime.combine(wall.date(), time.min, tzinfo=policy.timezone)
    parameters: dict[str, Any] = {
        "today": wall.date(),
        "at": wall.time(),
        "day_begins": midnight.astimezone(UTC),
        "day_ends": (midnight + timedelta(days=1)).astimezone(UTC),
    }
    if owner is None:
        rows = connection.execute(_OF_ALL, parameters).all()
    else:
        rows = connection.execute(_OF_ONE, parameters | {"owner": owner}).all()
    by_status: Counter[str] = Counter()
    by_type: Counter[str] = Counter()
    for status, appointment_type, count, *_ in rows:
        by_status[status] += int(count)
        by_type[appointment_type] += int(count)
    today, completed_today, upcoming = map(int, rows[0][3:]) if rows else (0, 0, 0)
    return Stats(
        total_appointments=by_status.total(),
        by_status={status.value: by_status[status] for status in Status},
        today=today,
        completed_today=completed_today,
        upcoming=upcoming,
        by_type=dict(sorted(by_type.items())),
    )
