"""What can be read of appointments and of their history.

Each function takes a connection from `Database.reading()`, and raises `Forbidden` for the role SERVICE. When
PostgreSQL is down, the context manager that gave the connection raises
`servease_appt.db.errors.DatabaseUnavailable`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from servease_appt.appointments import list_statements, store
from servease_appt.appointments.actors import Actor, only_customer, require_staff
from servease_appt.appointments.errors import Forbidden, NotFound
from servease_appt.appointments.records import (
    MAX_OFFSET,
    Appointment,
    AppointmentFilters,
    AppointmentRow,
    HistoryRow,
    Order,
    Page,
    Position,
    Stretch,
    StretchOfRows,
    Window,
)
from servease_appt.db import models

SubjectReader = Callable[[Connection, Actor, str, AppointmentFilters, Window], Page[AppointmentRow]]
"""Reads the appointments of one customer, employee or vehicle, by its id."""

_HISTORY: Final = select(*(getattr(models.AppointmentHistory, name) for name in HistoryRow._fields))
_NEWEST_FIRST: Final = (models.AppointmentHistory.changed_at.desc(), models.AppointmentHistory.id)


def get_appointment(connection: Connection, actor: Actor, appointment_id: str) -> Appointment:
    """Return one appointment. Raise `NotFound`, also for a customer who asks for someone else's."""
    return store.find(connection, actor, appointment_id)


def list_appointments(
    connection: Connection, actor: Actor, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """Return what the actor may see of the appointments, ordered by their start; ids break ties."""
    names, parameters = _filtered(actor, filters)
    latest_first = window.order is Order.LATEST_FIRST
    statement = list_statements.numbered_page(names, latest_first=latest_first)
    parameters |= {"limit": window.limit, "offset": min(window.offset, MAX_OFFSET)}
    found = connection.exec_driver_sql(statement, parameters).all()
    rows = [AppointmentRow(*row) for _, *row in found if row[0] is not None]
    count = found[0][0]
    return Page(count, rows if latest_first else rows[: max(0, count - window.offset)][::-1])


def list_stretch(
    connection: Connection, actor: Actor, filters: AppointmentFilters, stretch: Stretch
) -> StretchOfRows:
    """Return what the actor may see of the appointments next to a position.

    A row that was there when the first stretch was read, and has stayed where it is, is in exactly one of the
    stretches that follow each other, whatever others insert, move or delete meanwhile.
    """
    names, parameters = _filtered(actor, filters)
    down = (stretch.order is Order.LATEST_FIRST) is not stretch.backwards
    position = stretch.position
    statement = list_statements.stretch(names, down=down, from_position=position is not None)
    # One row more than wanted says whether there are more.
    parameters["limit"] = stretch.limit + 1
    if position is not None:
        parameters |= {
            "at_date": position.scheduled_date,
            "at_time": position.scheduled_time,
            "at_id": position.id,
        }
    found = connection.exec_driver_sql(statement, parameters).all()
    read = [row for _, *row in found if row[0] is not None]
    if not down:
        read.reverse()
    more = len(read) > stretch.limit
    read = read[: stretch.limit]
    if stretch.backwards:
        read.reverse()
    first, last = (_position(read[0]), _position(read[-1])) if read else (None, None)
    has_before, has_after = (more, True) if stretch.backwards else (position is not None, more)
    return StretchOfRows(
        count=found[0][0],
        rows=[AppointmentRow(*row[:-2]) for row in read],
        before=first if has_before else None,
        after=last if has_after else None,
    )


def _filtered(actor: Actor, filters: AppointmentFilters) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names of the filters in force, and the parameters of all."""
    parameters: dict[str, Any] = {"owner": only_customer(actor)}
    for name in AppointmentFilters.__slots__:
        parameters[name] = getattr(filters, name)
    several = None if filters.status is None else list(filters.status)
    is_one = several is not None and len(several) == 1
    parameters |= {
        "any_status": several,
        "status": several[0] if several and is_one else None,
        "statuses": None if is_one else several,
        "ids": None if filters.ids is None else list(filters.ids),
    }
    return tuple(name for name in list_statements.CONDITIONS if parameters[name] is not None), parameters


def _position(row: Sequence[str]) -> Position:
    return Position(row[-2], row[-1], row[0])


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
