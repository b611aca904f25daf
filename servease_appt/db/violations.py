"""Find rows that break a rule: rows of an adopted database that are older than the rules.

The service shows such rows unchanged and can update them; this lists them so that staff can correct them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import time
from itertools import pairwise
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, not_, or_, select

from servease_appt.db.models import Appointment, TimeSlot
from servease_appt.scheduling.capacity import CapacityWindow, overfull
from servease_appt.scheduling.intervals import (
    CUSTOMER_GAP,
    MAX_DURATION_MINUTES,
    MIN_DURATION_MINUTES,
    Interval,
)
from servease_appt.scheduling.statuses import EMPLOYEE_BUSY, OPEN, AppointmentType, Status

CAPACITY: Final = "capacity"
CUSTOMER_GAP_RULE: Final = "customer's 30 minutes"


class Violation(NamedTuple):
    """One row and one rule that it breaks."""

    table: str
    id: str
    rule: str


class _Running(NamedTuple):
    id: str
    customer_id: str
    employee_id: str | None
    status: str
    interval: Interval


def violations(connection: Connection, default_capacity: int) -> list[Violation]:
    """Return every row that breaks a rule, once for each rule, sorted by table, rule and id."""
    running = _running(connection)
    found = [
        *_single_rows(connection),
        *(Violation("appointments", i, CAPACITY) for i in _overfull(connection, running, default_capacity)),
        *(Violation("appointments", i, "employee overlap") for i in _double_booked(running)),
        *(Violation("appointments", i, CUSTOMER_GAP_RULE) for i in _too_near(running)),
    ]
    return sorted(found, key=lambda violation: (violation.table, violation.rule, violation.id))


_APPOINTMENT_RULES: Final[dict[str, ColumnElement[bool]]] = {
    "known status": Appointment.status.in_(list(Status)),
    "known type": Appointment.appointment_type.in_(list(AppointmentType)),
    "duration": Appointment.duration_minutes.between(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES),
    "work time not negative": Appointment.duration_seconds >= 0,
    "cost not negative": or_(Appointment.estimated_cost.is_(None), Appointment.estimated_cost >= 0),
}
_SLOT_RULES: Final[dict[str, ColumnElement[bool]]] = {
    "end after start": or_(TimeSlot.end_time > TimeSlot.start_time, TimeSlot.end_time == time.min),
    "capacity not negative": TimeSlot.max_concurrent_appointments >= 0,
}


def _single_rows(connection: Connection) -> Iterator[Violation]:
    for rule, holds in _APPOINTMENT_RULES.items():
        for (row_id,) in connection.execute(select(Appointment.id).where(not_(holds))):
            yield Violation("appointments", row_id, rule)
    for rule, holds in _SLOT_RULES.items():
        for (row_id,) in connection.execute(select(TimeSlot.id).where(not_(holds))):
            yield Violation("time_slots", row_id, rule)


def _running(connection: Connection) -> list[_Running]:
    """Return the open appointments, sorted by start."""
    rows = connection.execute(
        select(
            Appointment.id,
            Appointment.customer_id,
            Appointment.assigned_employee_id,
            Appointment.status,
            Appointment.scheduled_date,
            Appointment.scheduled_time,
            Appointment.duration_minutes,
        )
        .where(Appointment.status.in_(list(OPEN)))
        .order_by(Appointment.scheduled_date, Appointment.scheduled_time)
    )
    return [
        _Running(row_id, customer, employee, status, Interval.of(day, at, minutes))
        for row_id, customer, employee, status, day, at, minutes in rows
    ]


def _overfull(connection: Connection, running: Sequence[_Running], default_capacity: int) -> Iterator[str]:
    slots = connection.execute(
        select(
            TimeSlot.date,
            TimeSlot.start_time,
            TimeSlot.end_time,
            func.coalesce(TimeSlot.is_available, False),
            func.coalesce(TimeSlot.max_concurrent_appointments, 0),
        )
    )
    windows = [
        CapacityWindow.of(day, start, end, available=available, capacity=capacity)
        for day, start, end, available, capacity in slots
    ]
    too_many = set(overfull([row.interval for row in running], windows, default_capacity))
    return (row.id for row in running if row.interval in too_many)


def _double_booked(running: Iterable[_Running]) -> Iterator[str]:
    by_employee: defaultdict[str, list[_Running]] = defaultdict(list)
    for row in running:
        if row.employee_id is not None and row.status in EMPLOYEE_BUSY and row.interval.days:
            by_employee[row.employee_id].append(row)
    for rows in by_employee.values():
        yield from _overlapping(rows)


def _overlapping(rows: Sequence[_Running]) -> set[str]:
    """Return the ids of rows that overlap another one; the rows are sorted by start."""
    found: set[str] = set()
    longest = rows[0]
    for row in rows[1:]:
        if longest.interval.overlaps(row.interval):
            found |= {longest.id, row.id}
        if row.interval.end > longest.interval.end:
            longest = row
    return found


def _too_near(running: Iterable[_Running]) -> set[str]:
    by_customer: defaultdict[str, list[_Running]] = defaultdict(list)
    for row in running:
        by_customer[row.customer_id].append(row)
    return {
        row_id
        for rows in by_customer.values()
        for earlier, later in pairwise(rows)
        if later.interval.start - earlier.interval.start < CUSTOMER_GAP
        for row_id in (earlier.id, later.id)
    }
