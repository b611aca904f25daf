"""What can be read of appointments and of their history.

Each function takes a connection from `Database.reading()`, and raises `Forbidden` for the role SERVICE. When
PostgreSQL is down, the context manager that gave the connection raises
`servease_appt.db.errors.DatabaseUnavailable`.

The list is the most used read: plain SQL, written once for each set of filters. One statement gives the rows and
the count, so both are of the same moment. Where no person and no vehicle narrows the list down, both come from the
numbers that the database keeps (migration v4), and a page costs the same whichever it is and however many
appointments there are. One person or vehicle has few: those are counted and skipped in the index. The driver
returns plain tuples whose ids, dates and times are text already, as JSON wants them.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from servease_appt.appointments import store
from servease_appt.appointments.actors import Actor, only_customer, require_staff
from servease_appt.appointments.errors import Forbidden, NotFound
from servease_appt.appointments.records import (
    MAX_OFFSET,
    Appointment,
    AppointmentFilters,
    AppointmentRow,
    HistoryRow,
    Page,
    Window,
)
from servease_appt.db import models

SubjectReader = Callable[[Connection, Actor, str, AppointmentFilters, Window], Page[AppointmentRow]]
"""Reads the appointments of one customer, employee or vehicle, by its id."""

_BY_ONE_SUBJECT: Final = {
    "owner": "customer_id = %(owner)s::uuid",
    "customer_id": "customer_id = %(customer_id)s::uuid",
    "employee_id": "assigned_employee_id = %(employee_id)s::uuid",
    "vehicle_id": "vehicle_id = %(vehicle_id)s::uuid",
}
_BY_KEPT_COUNTS: Final = {
    "status": "status = %(status)s",
    "appointment_type": "appointment_type = %(appointment_type)s",
    "start_date": "scheduled_date >= %(start_date)s",
    "end_date": "scheduled_date <= %(end_date)s",
}
_CONDITIONS: Final = _BY_ONE_SUBJECT | _BY_KEPT_COUNTS

_KEPT: Final = (
    "appointments_place("
    "%(status)s, %(appointment_type)s, %(start_date)s::date, %(end_date)s::date, %(offset)s)"
)
_COUNTED: Final = (
    "(SELECT count(*) AS total, DATE 'infinity' AS up_to, %(offset)s::bigint AS skipped_of_day"
    " FROM appointments WHERE {where})"
)
_PAGE: Final = (
    "SELECT total, page.* FROM {place} AS place LEFT JOIN LATERAL ("
    "SELECT a.id::text, customer_id::text, vehicle_id::text, assigned_employee_id::text, appointment_type,"
    " to_char(scheduled_date, 'YYYY-MM-DD'), to_char(scheduled_time, 'HH24:MI:SS'), status FROM ("
    # Only what an index holds: rows that are skipped are not fetched, and only the index of the filter will do.
    "SELECT id FROM appointments WHERE {where} AND scheduled_date <= up_to"
    " ORDER BY scheduled_date DESC, scheduled_time DESC, id LIMIT %(limit)s OFFSET skipped_of_day"
    ") AS ids JOIN appointments AS a USING (id)"
    " ORDER BY a.scheduled_date DESC, a.scheduled_time DESC, a.id) AS page ON true"
)
_HISTORY: Final = select(*(getattr(models.AppointmentHistory, name) for name in HistoryRow._fields))
_NEWEST_FIRST: Final = (models.AppointmentHistory.changed_at.desc(), models.AppointmentHistory.id)


def get_appointment(connection: Connection, actor: Actor, appointment_id: str) -> Appointment:
    """Return one appointment. Raise `NotFound`, also for a customer who asks for someone else's."""
    return store.find(connection, actor, appointment_id)


def list_appointments(
    connection: Connection, actor: Actor, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """Return what the actor may see of the appointments: latest scheduled first, ids break ties."""
    parameters: dict[str, Any] = {"owner": only_customer(actor)}
    for name in AppointmentFilters.__slots__:
        parameters[name] = getattr(filters, name)
    statement = _list_statement(tuple(name for name in _CONDITIONS if parameters[name] is not None))
    parameters |= {"limit": window.limit, "offset": min(window.offset, MAX_OFFSET)}
    found = connection.exec_driver_sql(statement, parameters).all()
    rows = [AppointmentRow(*row) for _, *row in found if row[0] is not None]
    return Page(found[0][0], rows)


@cache
def _list_statement(names: tuple[str, ...]) -> str:
    """Return the SQL for these filters: it gives at least one row, whose id is NULL where the page is empty."""
    where = " AND ".join(_CONDITIONS[name] for name in names) or "true"
    place = _COUNTED.format(where=where) if _BY_ONE_SUBJECT.keys() & set(names) else _KEPT
    return _PAGE.format(place=place, where=where)


def customer_appointments(
    connection: Connection, actor: Actor, customer_id: str, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """Return a customer's appointments. Raise `Forbidden` for a customer who asks for another's."""
    if only_customer(actor) not in {None, customer_id}:
        raise Forbidden("Customers may see their own appointments only.")
    return list_appointments(connection, actor, replace(filters, customer_id=customer_id), window)


def employee_schedule(
    connection: Connection, actor: Actor, employee_id: str, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """Return what is assigned to an employee. Raise `Forbidden` for all but staff."""
    require_staff(actor)
    return list_appointments(connection, actor, replace(filters, employee_id=employee_id), window)


def vehicle_history(
    connection: Connection, actor: Actor, vehicle_id: str, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """Return a vehicle's appointments; a customer sees their own rows of it."""
    return list_appointments(connection, actor, replace(filters, vehicle_id=vehicle_id), window)


def appointment_history(
    connection: Connection, actor: Actor, appointment_id: str, window: Window
) -> Page[HistoryRow]:
    """Return the changes of one appointment, newest first. Raise `NotFound` as for the appointment itself."""
    store.find(connection, actor, appointment_id)
    return list_history(connection, actor, appointment_id, window)


def list_history(
    connection: Connection, actor: Actor, appointment_id: str | None, window: Window
) -> Page[HistoryRow]:
    """Return changes, newest first: all for staff, those of their own existing appointments for a customer.

    The history of a deleted appointment no longer says whose it was, so customers do not see it.
    """
    statement = _visible_history(actor)
    if appointment_id is not None:
        statement = statement.where(models.AppointmentHistory.appointment_id == appointment_id)
    count = connection.execute(select(func.count()).select_from(statement.subquery())).scalar_one()
    if window.offset > MAX_OFFSET:
        return Page(count, [])
    page = statement.order_by(*_NEWEST_FIRST).limit(window.limit).offset(window.offset)
    return Page(count, [HistoryRow(*row) for row in connection.execute(page)])


def get_history_row(connection: Connection, actor: Actor, history_id: str) -> HistoryRow:
    """Return one change. Raise `NotFound`, also for a customer who asks for someone else's."""
    statement = _visible_history(actor).where(models.AppointmentHistory.id == history_id)
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise NotFound("No such history row.")
    return HistoryRow(*row)


def _visible_history(actor: Actor) -> Select[Any]:
    owner = only_customer(actor)
    if owner is None:
        return _HISTORY
    return _HISTORY.join(
        models.Appointment, models.Appointment.id == models.AppointmentHistory.appointment_id
    ).where(models.Appointment.customer_id == owner)
