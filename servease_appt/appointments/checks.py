"""The rules of the calendar, asked of what PostgreSQL holds. To be called under the locks (see `locks`).

SQL only narrows down; whether two things collide is for `servease_appt.scheduling` to say.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from sqlalchemy import Connection, TextClause, text

from servease_appt.appointments import locks
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.scheduling import clock
from servease_appt.scheduling.capacity import Calendar, CapacityWindow
from servease_appt.scheduling.intervals import (
    CUSTOMER_GAP,
    Interval,
    first_overlap,
    first_too_near,
)

_ONE_DAY: Final = timedelta(days=1)
_SECOND_DAY: Final = datetime.combine(date.min + _ONE_DAY, time.min)


def _overlapping(condition: str) -> TextClause:
    """What overlaps a stretch of time.

    What takes a day at most is looked for from the day before on; the few that take longer have an index of
    their own. The statuses stand in the text because only then does PostgreSQL use its partial indexes.
    """
    starts = "scheduled_date + scheduled_time"
    overlaps = (
        f"{condition} AND id <> :ignoring AND {starts} < :ends"
        f" AND {starts} + duration_minutes * INTERVAL '1 minute' > :starts"
    )
    columns = "scheduled_date, scheduled_time, duration_minutes"
    return text(  # the conditions are constants of this file
        f"SELECT {columns} FROM appointments"  # noqa: S608
        f" WHERE {overlaps} AND scheduled_date BETWEEN :day_before AND :last_day AND duration_minutes <= 1440"
        f" UNION ALL SELECT {columns} FROM appointments"
        f" WHERE {overlaps} AND scheduled_date <= :last_day AND duration_minutes > 1440"
        " AND status IN ('pending', 'confirmed', 'in_progress')"
        " ORDER BY 1, 2"
    )


_OPEN: Final = _overlapping("status IN ('pending', 'confirmed', 'in_progress')")
_BUSY: Final = _overlapping(
    "status IN ('confirmed', 'in_progress') AND assigned_employee_id = CAST(:employee AS uuid)"
)
_CUSTOMERS_STARTS: Final = text(
    "SELECT scheduled_date, scheduled_time FROM appointments"
    " WHERE customer_id = CAST(:customer AS uuid) AND status IN ('pending', 'confirmed', 'in_progress')"
    " AND id <> :ignoring AND scheduled_date BETWEEN :first_day AND :last_day"
)
_SLOTS: Final = text(
    "SELECT date, start_time, end_time, COALESCE(is_available, false), COALESCE(max_concurrent_appointments, 0)"
    " FROM time_slots WHERE date BETWEEN :first_day AND :last_day"
)
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class BookingRequest:
    """A time that somebody wants.

    Attributes:
        appointment_id: which appointment is moved, so that it is not in its own way; None for a new one.
        employee_id: whose time it takes; None where nobody is assigned.
    """

    interval: Interval
    customer_id: str
    employee_id: str | None
    appointment_id: str | None = None

    @property
    def locks(self) -> Iterator[int]:
        """What must be held from before `broken_rules` to the end of the transaction."""
        yield from (locks.day(day) for day in self.interval.days)
        yield locks.customer(self.customer_id)
        if self.employee_id is not None:
            yield locks.employee(self.employee_id)


def broken_rules(
    connection: Connection, policy: BookingPolicy, request: BookingRequest, now: datetime
) -> list[str]:
    """Every rule that is against the request, one sentence each; none when it may be granted."""
    start, end = request.interval
    if not clock.is_ahead(start, now, policy.timezone):
        wall = clock.wall_clock(now, policy.timezone)
        return [
            f"{start:%Y-%m-%d %H:%M} is not in the future: it is {wall:%Y-%m-%d %H:%M} ({policy.timezone})."
        ]
    if not clock.exists(start, policy.timezone):
        return [f"{start:%Y-%m-%d %H:%M} does not exist in {policy.timezone}: the clock is put forward then."]
    broken: list[str] = []
    windows = load_windows(connection, start.date(), end.date())
    running = load_running(connection, request.interval, ignoring=request.appointment_id)
    if Calendar(running, windows, policy.default_capacity).room(request.interval) < 1:
        allowed = Calendar((), windows, policy.default_capacity).room(request.interval)
        reason = f"at most {allowed} at once, all taken" if allowed > 0 else "not available"
        broken.append(f"No room from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}: {reason}.")
    if request.employee_id is not None:
        broken += employee_conflicts(
            connection, request.employee_id, request.interval, request.appointment_id
        )
    return broken + _customer_conflicts(connection, request)


def employee_conflicts(
    connection: Connection, employee_id: str, interval: Interval, ignoring: str | None
) -> list[str]:
    """A sentence if the employee has a confirmed or running appointment that overlaps."""
    parameters = _stretch(interval, ignoring) | {"employee": employee_id}
    busy = first_overlap(interval, _intervals(connection, _BUSY, parameters))
    if busy is None:
        return []
    return [
        f"The employee has another appointment from {busy.start:%Y-%m-%d %H:%M} to {busy.end:%Y-%m-%d %H:%M}."
    ]


def load_running(
    connection: Connection, interval: Interval, *, ignoring: str | None = None
) -> list[Interval]:
    """What the open appointments take up that overlap the interval."""
    return _intervals(connection, _OPEN, _stretch(interval, ignoring))


def load_windows(connection: Connection, first_day: date, last_day: date) -> list[CapacityWindow]:
    """The slots of these days, both inclusive."""
    rows = connection.execute(_SLOTS, {"first_day": first_day, "last_day": last_day})
    return [
        CapacityWindow.of(day, start, end, available=available, capacity=capacity)
        for day, start, end, available, capacity in rows
    ]


def _customer_conflicts(connection: Connection, request: BookingRequest) -> list[str]:
    start = request.interval.start
    rows = connection.execute(
        _CUSTOMERS_STARTS,
        {
            "customer": request.customer_id,
            "ignoring": request.appointment_id or _NOBODY,
            "first_day": (start - CUSTOMER_GAP).date(),
            "last_day": (start + CUSTOMER_GAP).date(),
        },
    )
    near = first_too_near(start, sorted(datetime.combine(day, at) for day, at in rows))
    if near is None:
        return []
    return [
        f"The customer has another appointment at {near:%Y-%m-%d %H:%M}:"
        f" starts must be {CUSTOMER_GAP.seconds // 60} minutes apart."
    ]


def _stretch(interval: Interval, ignoring: str | None) -> dict[str, Any]:
    return {
        "starts": interval.start,
        "ends": interval.end,
        "day_before": max(interval.start, _SECOND_DAY).date() - _ONE_DAY,
        "last_day": interval.end.date(),
        "ignoring": ignoring or _NOBODY,
    }


def _intervals(connection: Connection, statement: TextClause, parameters: dict[str, Any]) -> list[Interval]:
    rows = connection.execute(statement, parameters)
    return [Interval.of(day, at, minutes) for day, at, minutes in rows]
