"""Rows of appointments and of their history. Each function is one statement in the caller's transaction."""

import uuid
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Insert, Update, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from servease_appt.appointments.actors import Actor, only_customer
from servease_appt.appointments.errors import NotFound, RuleBroken
from servease_appt.appointments.records import Appointment
from servease_appt.db import models
from servease_appt.db.errors import sqlstate

_TABLE: Final = models.Appointment
_BEGINNING: Final = datetime.fromtimestamp(0, UTC)
_READ_AS: Final[dict[str, Any]] = {
    "service_description": func.coalesce(_TABLE.service_description, ""),
    "customer_notes": func.coalesce(_TABLE.customer_notes, ""),
    "internal_notes": func.coalesce(_TABLE.internal_notes, ""),
    "duration_seconds": func.coalesce(_TABLE.duration_seconds, 0),
    "updated_at": func.coalesce(_TABLE.updated_at, _TABLE.created_at, _BEGINNING),
}
"""An adopted table may hold NULL where ours can't."""
_COLUMNS: Final = [_READ_AS.get(field.name, getattr(_TABLE, field.name)) for field in fields(Appointment)]
_BY_ID: Final = select(*_COLUMNS)
_EXCLUSION_VIOLATED: Final = "23P01"
_TICK: Final = timedelta.resolution


def find(connection: Connection, actor: Actor, appointment_id: str, *, lock: bool = False) -> Appointment:
    """Return the appointment.

    Args:
        lock: hold its row until the end of the transaction, so that no other command changes it meanwhile.

    Raises:
        NotFound: there is none, or it is another customer's.
        Forbidden: the actor is another service.
    """
    statement = _BY_ID.where(models.Appointment.id == appointment_id)
    owner = only_customer(actor)
    if owner is not None:
        statement = statement.where(models.Appointment.customer_id == owner)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    if row is None:
        raise NotFound("No such appointment.")
    return Appointment(*row)


def add(connection: Connection, values: dict[str, Any]) -> Appointment:
    """Insert a row with the given columns and a new id; return it."""
    return _write(connection, insert(models.Appointment).values(id=str(uuid.uuid4()), **values))


def change(connection: Connection, appointment: Appointment, values: dict[str, Any]) -> Appointment:
    """Update a row that the caller has locked; return it.

    Raises:
        RuleBroken: a writer that does not take our locks has just given the employee another appointment.
    """
    statement = update(models.Appointment).where(models.Appointment.id == appointment.id).values(**values)
    try:
        return _write(connection, statement)
    except IntegrityError as error:
        if sqlstate(error) == _EXCLUSION_VIOLATED:
            raise RuleBroken(["The employee has another appointment at that time."]) from error
        raise


def remove(connection: Connection, appointment: Appointment) -> None:
    """Delete the row; its history stays."""
    connection.execute(delete(models.Appointment).where(models.Appointment.id == appointment.id))


def record(
    connection: Connection, actor: Actor, before: Appointment, after: Appointment, reason: str
) -> None:
    """Write the one history row of an accepted change, at the moment of the change."""
    connection.execute(
        insert(models.AppointmentHistory).values(
            id=str(uuid.uuid4()),
            appointment_id=after.id,
            changed_by_user_id=actor.user_id,
            previous_status=before.status,
            new_status=after.status,
            change_reason=reason,
            changed_at=after.updated_at,
        )
    )


def moment_of_change(appointment: Appointment, now: datetime) -> datetime:
    """Return `now`, or the moment just after the last change where that is later.

    So the changes of one appointment have timestamps in the order in which they took place.
    """
    latest = datetime.max.replace(tzinfo=UTC) - _TICK
    return max(now, min(appointment.updated_at, latest) + _TICK)


def _write(connection: Connection, statement: Insert | Update) -> Appointment:
    row: Any = connection.execute(statement.returning(*_COLUMNS)).one()
    return Appointment(*row)
