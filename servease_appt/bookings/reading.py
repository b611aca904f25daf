"""What can be read of appointments. Each function takes a connection from `Database.reading()`.

All raise `Forbidden` for the role SERVICE. When PostgreSQL is away, the context manager that gave the connection
raises `servease_appt.db.errors.DatabaseUnavailable`.
"""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from servease_appt.bookings import store
from servease_appt.bookings.access import only_customer, require_staff
from servease_appt.bookings.actors import Actor
from servease_appt.bookings.errors import Forbidden
from servease_appt.bookings.histories import appointment_history, get_history_row, list_history
from servease_appt.bookings.listing import list_appointments
from servease_appt.bookings.policy import BookingPolicy
from servease_appt.bookings.records import (
    Appointment,
    AppointmentFilters,
    AppointmentRow,
    Page,
    Stats,
    Window,
)
from servease_appt.scheduling.clock import wall_clock
from servease_appt.scheduling.statuses import Status

__all__ = [
    "appointment_history",
    "customer_appointments",
    "employee_schedule",
    "get_appointment",
    "get_history_row",
    "list_appointments",
    "list_history",
    "stats",
    "vehicle_history",
]

_STATS: Final = """
    SELECT status, appointment_type, count(*),
        count(*) FILTER (WHERE scheduled_date = :today),
        count(*) FILTER (WHERE completed_at >= :day_begins AND completed_at < :day_ends),
        count(*) FILTER (WHERE status IN ('pending', 'confirmed')
            AND (scheduled_date, scheduled_time) > (:today, :at))
    FROM appointments
"""
_STATS_OF_ALL: Final = text(f"{_STATS} GROUP BY 1, 2")
_STATS_OF_ONE: Final = text(f"{_STATS} WHERE customer_id = CAST(:owner AS uuid) GROUP BY 1, 2")


def get_appointment(connection: Connection, actor: Actor, appointment_id: str) -> Appointment:
    """One appointment. Raises `NotFound`, also for a customer who asks for someone else's."""
    return store.find(connection, actor, appointment_id)


def customer_appointments(
    connection: Connection, actor: Actor, customer_id: str, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """A customer's appointments; another customer's are `Forbidden`."""
    if only_customer(actor) not in {None, customer_id}:
        raise Forbidden("Customers may see their own appointments only.")
    return list_appointments(connection, actor, replace(filters, customer_id=customer_id), window)


def employee_schedule(
    connection: Connection, actor: Actor, employee_id: str, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """What is assigned to an employee; staff only, else `Forbidden`."""
    require_staff(actor)
    return list_appointments(connection, actor, replace(filters, employee_id=employee_id), window)


def vehicle_history(
    connection: Connection, actor: Actor, vehicle_id: str, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """A vehicle's appointments; a customer sees their own rows of it."""
    return list_appointments(connection, actor, replace(filters, vehicle_id=vehicle_id), window)


def stats(connection: Connection, policy: BookingPolicy, actor: Actor, now: datetime) -> Stats:
    """Counts over what the actor may see. `now` is aware."""
    owner = only_customer(actor)
    wall = wall_clock(now, policy.timezone)
    midnight = datetime.combine(wall.date(), time.min, tzinfo=policy.timezone)
    parameters: dict[str, Any] = {
        "owner": owner,
        "today": wall.date(),
        "at": wall.time(),
        "day_begins": midnight.astimezone(UTC),
        "day_ends": (midnight + timedelta(days=1)).astimezone(UTC),
    }
    statement = _STATS_OF_ALL if owner is None else _STATS_OF_ONE
    by_status: Counter[str] = Counter()
    by_type: Counter[str] = Counter()
    today = completed_today = upcoming = 0
    for status, kind, count, *special in connection.execute(statement, parameters):
        by_status[status] += count
        by_type[kind] += count
        today += special[0]
        completed_today += special[1]
        upcoming += special[2]
    return Stats(
        total_appointments=by_status.total(),
        by_status={status.value: by_status[status] for status in Status},
        today=today,
        completed_today=completed_today,
        upcoming=upcoming,
        by_type=dict(sorted(by_type.items())),
    )
