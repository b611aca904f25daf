"""What can be read. Each function takes a connection from `Database.reading()`.

All raise `Forbidden` for the role SERVICE. When PostgreSQL is away, the context manager that gave the connection
raises `servease_appt.db.errors.DatabaseUnavailable`.
"""

from datetime import datetime

from sqlalchemy import Connection

from servease_appt.bookings.actors import Actor
from servease_appt.bookings.policy import BookingPolicy
from servease_appt.bookings.records import (
    Appointment,
    AppointmentFilters,
    AppointmentRow,
    HistoryRow,
    Page,
    Stats,
    Window,
)


def list_appointments(
    connection: Connection, actor: Actor, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """What the actor may see of the appointments: latest scheduled first, ids break ties.

    Raises:
        FieldErrors: a status or type that does not exist, a start after the end.
    """
    raise NotImplementedError


def get_appointment(connection: Connection, actor: Actor, appointment_id: str) -> Appointment:
    """One appointment. Raises `NotFound`, also for a customer who asks for someone else's."""
    raise NotImplementedError


def appointment_history(
    connection: Connection, actor: Actor, appointment_id: str, window: Window
) -> Page[HistoryRow]:
    """The changes of one appointment, newest first; `NotFound` as in `get_appointment`."""
    raise NotImplementedError


def list_history(
    connection: Connection, actor: Actor, appointment_id: str | None, window: Window
) -> Page[HistoryRow]:
    """Changes, newest first: all for staff, those of their own existing appointments for a customer."""
    raise NotImplementedError


def get_history_row(connection: Connection, actor: Actor, history_id: str) -> HistoryRow:
    """One change. Raises `NotFound`, also for a customer who asks for someone else's."""
    raise NotImplementedError


def customer_appointments(
    connection: Connection, actor: Actor, customer_id: str, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """A customer's appointments; another customer's are `Forbidden`."""
    raise NotImplementedError


def employee_schedule(
    connection: Connection, actor: Actor, employee_id: str, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """What is assigned to an employee; staff only, else `Forbidden`."""
    raise NotImplementedError


def vehicle_history(
    connection: Connection, actor: Actor, vehicle_id: str, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """A vehicle's appointments; a customer sees their own rows of it."""
    raise NotImplementedError


def stats(connection: Connection, policy: BookingPolicy, actor: Actor, now: datetime) -> Stats:
    """Counts over what the actor may see. `now` is aware."""
    raise NotImplementedError
