"""Who changed what and when: readable for those who may see the appointment.

A customer's view ends with the appointment: the history of a deleted one can't be told to be theirs any more, and
is for staff. Each function takes a connection from `Database.reading()`.
"""

from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from servease_appt.appointments import store
from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import NotFound
from servease_appt.appointments.permissions import only_customer
from servease_appt.appointments.records import MAX_OFFSET, HistoryRow, Page, Window
from servease_appt.db.models import Appointment, AppointmentHistory

_ROWS: Final = select(*(getattr(AppointmentHistory, name) for name in HistoryRow._fields))
_NEWEST_FIRST: Final = (AppointmentHistory.changed_at.desc(), AppointmentHistory.id)


def appointment_history(
    connection: Connection, actor: Actor, appointment_id: str, window: Window
) -> Page[HistoryRow]:
    """The changes of one appointment, newest first; `NotFound` as for the appointment itself."""
    store.find(connection, actor, appointment_id)
    return list_history(connection, actor, appointment_id, window)


def list_history(
    connection: Connection, actor: Actor, appointment_id: str | None, window: Window
) -> Page[HistoryRow]:
    """Changes, newest first: all for staff, those of their own existing appointments for a customer."""
    statement = _visible(_ROWS, actor)
    if appointment_id is not None:
        statement = statement.where(AppointmentHistory.appointment_id == appointment_id)
    count = connection.execute(select(func.count()).select_from(statement.subquery())).scalar_one()
    if window.offset > MAX_OFFSET:
        return Page(count, [])
    page = statement.order_by(*_NEWEST_FIRST).limit(window.limit).offset(window.offset)
    return Page(count, [HistoryRow(*row) for row in connection.execute(page)])


def get_history_row(connection: Connection, actor: Actor, history_id: str) -> HistoryRow:
    """One change. Raises `NotFound`, also for a customer who asks for someone else's."""
    row = connection.execute(_visible(_ROWS, actor).where(AppointmentHistory.id == history_id)).one_or_none()
    if row is None:
        raise NotFound("No such history row.")
    return HistoryRow(*row)


def _visible(statement: Select[Any], actor: Actor) -> Select[Any]:
    owner = only_customer(actor)
    if owner is None:
        return statement
    return statement.join(Appointment, Appointment.id == AppointmentHistory.appointment_id).where(
        Appointment.customer_id == owner
    )
