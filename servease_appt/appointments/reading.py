"""What can be read of appointments. Each function takes a connection from `Database.reading()`.

All raise `Forbidden` for the role SERVICE. When PostgreSQL is away, the context manager that gave the connection
raises `servease_appt.db.errors.DatabaseUnavailable`.
"""

from dataclasses import replace

from sqlalchemy import Connection

from servease_appt.appointments import store
from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import Forbidden
from servease_appt.appointments.history import appointment_history, get_history_row, list_history
from servease_appt.appointments.listing import list_appointments
from servease_appt.appointments.permissions import only_customer, require_staff
from servease_appt.appointments.records import (
    Appointment,
    AppointmentFilters,
    AppointmentRow,
    Page,
    Window,
)
from servease_appt.appointments.statistics import stats

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
