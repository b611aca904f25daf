"""Check the rules of the calendar against what PostgreSQL holds, under the locks of the request (see `locks`).

SQL only narrows down; `servease_appt.scheduling` decides whether two things collide.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from servease_appt.appointments import locks
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.scheduling import clock
from servease_appt.scheduling.capacity import Calendar, CapacityWindow, Running
from servease_appt.scheduling.intervals import (
    CUSTOMER_GAP,
    Interval,
    first_overlap,
    first_too_near,
)

_ONE_DAY: Final = timedelta(days=1)
_SECOND_DAY: Final = datetime.combine(date.min + _ONE_DAY, time.min)


def _near(condition: str, columns: str) -> str:
    """Return the statement that finds all appointments which overlap an interval, and some that are only near it.

    Those of a day at most are looked for from the day before on; the few longer ones have an index of their own.
    The statuses are part of the text because only then does PostgreSQL use its partial indexes.
    """
    found = f"SELECT {columns} FROM appointments WHERE {condition} AND id <> :ignoring"  # noqa: S608 - constants
    return (
        f"{found} AND scheduled_date BETWEEN :day_before AND :last_day AND duration_minutes <= 1440"
        f" UNION ALL {found} AND scheduled_date <= :last_day AND duration_minutes > 1440"
        " AND status IN ('pending', 'confirmed', 'in_progress')"
        " AND scheduled_date + scheduled_time + duration_minutes * INTERVAL '1 minute' > :starts"
    )


_TICKS: Final = (
    "CAST(scheduled_date - DATE '0001-01-01' AS bigint) * 86400000000"
    " + CAST(date_part('epoch', scheduled_time) * 1000000 AS bigint)"
)
"""The start as `intervals.ticks` has it."""
_RUNNING: Final = text(
    "SELECT array_agg(starts), array_agg(starts + minutes * CAST(60000000 AS bigint)) FROM ("  # noqa: S608
    + _near(
        "status IN ('pending', 'confirmed', 'in_progress')",
        f"{_TICKS} AS starts, duration_minutes AS minutes",
    )
    + ") AS running"
)
"""As two arrays: thousands of appointments are read as one row, several times faster than row by row."""
_BUSY: Final = text(
    _near(
        "status IN ('confirmed', 'in_progress') AND assigned_employee_id = CAST(:employee AS uuid)",
        "scheduled_date, scheduled_time, duration_minutes",
    )
    + " ORDER BY 1, 2"
)
_CUSTOMERS_STARTS: Final = text(
    "SELECT scheduled_date, scheduled_time FROM appointments"
    " WHERE customer_id = ANY(CAST(:customers AS uuid[])) AND status IN ('pending', 'confirmed', 'in_progress')"
    " AND id <> :ignoring AND scheduled_date BETWEEN :first_day AND :last_day"
)
_SLOTS: Final = text(
    "SELECT date, start_time, end_time, COALESCE(is_available, false), COALESCE(max_concurrent_appointments, 0)"
    " FROM time_slots WHERE date BETWEEN :first_day AND :last_day"
)
_NO_APPOINTMENT: Final = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class BookingRequest:
    """A time that is asked for, by whom and with whom.

    Attributes:
        customer_ids: the customer's id, and other ids of the same customer where they are known.
        employee_id: whose time it takes; None where nobody is assigned.
        appointment_id: the appointment that is moved, so that it does not collide with itself; None for a new one.
    """

    interval: Interval
    customer_ids: Sequence[str]
    employee_id: str | None
    appointment_id: str | None = None

    @property
    def locks(self) -> Iterator[int]:
        """Yield the locks to hold from before `broken_rules` to the end of the transaction."""
        yield from (locks.day(day) for day in self.interval.days)
        yield from (locks.customer(customer_id) for customer_id in self.customer_ids)
        if self.employee_id is not None:
            yield locks.employee(self.employee_id)


def broken_rules(
    connection: Connection, policy: BookingPolicy, request: BookingRequest, now: datetime
) -> list[str]:
    """Return a sentence for each rule that is against the request; none when it may be granted."""
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
        allowed = Calendar(Running((), ()), windows, policy.default_capacity).room(request.interval)
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
    """Return a sentence if the employee has a confirmed or running appointment that overlaps."""
    parameters = _stretch(interval, ignoring) | {"employee": employee_id}
    taken = (Interval.of(day, at, minutes) for day, at, minutes in connection.execute(_BUSY, parameters))
    busy = first_overlap(interval, taken)
    if busy is None:
        return []
    return [
        f"The employee has another appointment from {busy.start:%Y-%m-%d %H:%M} to {busy.end:%Y-%m-%d %H:%M}."
    ]


def load_running(connection: Connection, interval: Interval, *, ignoring: str | None = None) -> Running:
    """Return what the open appointments take up that overlap the interval, or are near it."""
    starts, ends = connection.execute(_RUNNING, _stretch(interval, ignoring)).one()
    return Running(starts or (), ends or ())


def load_windows(connection: Connection, first_day: date, last_day: date) -> list[CapacityWindow]:
    """Return the slots of these days, both inclusive."""
    rows = connection.execute(_SLOTS, {"first_day": first_day, "last_day": last_day}).all()
    return [
        CapacityWindow.of(day, start, end, available=available, capacity=capacity)
        for day, start, end, available, capacity in rows
    ]


def _customer_conflicts(connection: Connection, request: BookingRequest) -> list[str]:
    start = request.interval.start
    rows = connection.execute(
        _CUSTOMERS_STARTS,
        {
            "customers": list(request.customer_ids),
            "ignoring": request.appointment_id or _NO_APPOINTMENT,
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
        "day_before": max(interval.start, _SECOND_DAY).date() - _ONE_DAY,
        "last_day": interval.end.date(),
        "ignoring": ignoring or _NO_APPOINTMENT,
    }
