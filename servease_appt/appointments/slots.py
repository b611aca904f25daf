"""Time slots: the commands, and beside them the views of `slot_views`.

Each command is one transaction and takes the locks of a booking on the days that it touches. Less capacity than is
booked already may be set: what is booked stays, and nothing new gets in.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, text, update
from sqlalchemy.exc import IntegrityError

from servease_appt.appointments import locks
from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import NotFound, RuleBroken
from servease_appt.appointments.permissions import require_staff
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import NewSlot, Slot
from servease_appt.appointments.slot_views import (
    AS_READ,
    COLUMNS,
    SELECT_SLOTS,
    available_slots,
    get_slot,
    list_slots,
    with_room,
)
from servease_appt.appointments.values import MAX_INTEGER, Fields
from servease_appt.db.engine import Database
from servease_appt.db.errors import sqlstate
from servease_appt.db.models import TimeSlot
from servease_appt.scheduling import clock
from servease_appt.scheduling.availability import CLOSING_HOUR, OPENING_HOUR, days_between, hourly
from servease_appt.scheduling.capacity import CapacityWindow

__all__ = [
    "available_slots",
    "bulk_create",
    "create_slot",
    "delete_slot",
    "get_slot",
    "list_slots",
    "seed_slots",
    "update_slot",
]

MAX_DAYS_CREATED: Final = 366

_CHANGEABLE: Final = COLUMNS[1:]
_UNIQUE_VIOLATED: Final = "23505"
_ADD_MISSING: Final = text("""
    INSERT INTO time_slots (id, date, start_time, end_time, is_available, max_concurrent_appointments)
    SELECT gen_random_uuid(), wanted.day, wanted.begins, wanted.ends, true, :capacity
    FROM unnest(CAST(:days AS date[]), CAST(:begins AS time[]), CAST(:ends AS time[]))
        AS wanted (day, begins, ends)
    WHERE NOT EXISTS (SELECT FROM time_slots AS s WHERE s.date = wanted.day AND s.start_time = wanted.begins)
    ON CONFLICT DO NOTHING
""")


def create_slot(database: Database, policy: BookingPolicy, actor: Actor, request: NewSlot) -> Slot:
    """Add one slot.

    Raises `Forbidden` for customers, `FieldErrors` for wrong values, `RuleBroken` when that start is taken.
    """
    require_staff(actor)
    values = asdict(request)
    if request.max_concurrent_appointments is None:
        values["max_concurrent_appointments"] = policy.default_capacity
    _judge(values, values)
    with database.transaction() as connection:
        locks.take(connection, [locks.day(request.date)])
        return _write(connection, policy, insert(TimeSlot).values(id=str(uuid.uuid4()), **values), values)


def update_slot(
    database: Database, policy: BookingPolicy, actor: Actor, slot_id: str, changes: Mapping[str, Any]
) -> Slot:
    """Change fields, all or nothing; unknown names in `changes` are refused here, as in `commands.edit`.

    Raises as `create_slot`, and `NotFound`.
    """
    require_staff(actor)
    with database.transaction() as connection:
        before = _find_locked(connection, slot_id)
        wanted = {**before, **changes}
        _judge(wanted if "date" in changes else changes, wanted)
        locks.take(connection, {locks.day(before["date"]), locks.day(wanted["date"])})
        statement = update(TimeSlot).where(TimeSlot.id == slot_id)
        return _write(connection, policy, statement.values({**before, **changes}), wanted)


def delete_slot(database: Database, actor: Actor, slot_id: str) -> None:
    """Remove one slot; its time falls back to the default capacity. Raises `Forbidden`, `NotFound`."""
    require_staff(actor)
    with database.transaction() as connection:
        before = _find_locked(connection, slot_id)
        locks.take(connection, [locks.day(before["date"])])
        connection.execute(delete(TimeSlot).where(TimeSlot.id == slot_id))


def bulk_create(
    database: Database, policy: BookingPolicy, actor: Actor, start_date: date, end_date: date
) -> int:
    """Hourly slots, 9 to 17, on the weekdays from start to end inclusive; returns how many are new.

    Raises `Forbidden` for customers, `FieldErrors` when the range is backwards or above 366 days.
    """
    require_staff(actor)
    fields = Fields()
    fields.day("start_date", start_date)
    fields.day("end_date", end_date)
    fields.span(start_date, end_date, MAX_DAYS_CREATED)
    fields.settle()
    return _add_hours(database, policy, days_between(start_date, end_date), OPENING_HOUR, CLOSING_HOUR)


def seed_slots(
    database: Database, policy: BookingPolicy, *, days: int, start_hour: int, end_hour: int, now: datetime
) -> int:
    """Hourly slots on the weekdays of the next `days` days, today included; returns how many are new.

    Raises `FieldErrors` named as the arguments.
    """
    fields = Fields()
    fields.integer("days", days, 1, MAX_DAYS_CREATED)
    fields.integer("start_hour", start_hour, 0, 23)
    fields.integer("end_hour", end_hour, 1, 24)
    fields.settle()
    if start_hour >= end_hour:
        fields.refuse("end_hour", f"Must be later than start_hour ({start_hour}).")
    fields.settle()
    first = clock.today(now, policy.timezone)
    last = first + timedelta(days=days - 1)
    return _add_hours(database, policy, days_between(first, last), start_hour, end_hour)


def _add_hours(
    database: Database, policy: BookingPolicy, days: Iterable[date], opening_hour: int, closing_hour: int
) -> int:
    hours = [hour for day in days for hour in hourly(day, opening_hour, closing_hour)]
    wanted = {
        "days": [hour.start.date() for hour in hours],
        "begins": [hour.start.time() for hour in hours],
        "ends": [hour.end.time() for hour in hours],
        "capacity": policy.default_capacity,
    }
    with database.transaction() as connection:
        locks.take_bulk(connection, {locks.day(hour.start.date()) for hour in hours})
        return connection.execute(_ADD_MISSING, wanted).rowcount


def _find_locked(connection: Connection, slot_id: str) -> dict[str, Any]:
    """What may change of a slot, with its row held until the end of the transaction."""
    row = connection.execute(SELECT_SLOTS.where(TimeSlot.id == slot_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("No such time slot.")
    return dict(zip(_CHANGEABLE, row[1:], strict=True))


def _judge(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse what is wrong with the given values, and with the times that they lead to.

    An old slot that breaks a rule stays workable: what is not given is not judged, unless it moves to another day.
    """
    fields = Fields()
    for name, value in given.items():
        if name not in _CHANGEABLE:
            fields.refuse(name, f"Can't be changed. What can: {', '.join(_CHANGEABLE)}.")
        elif name == "date":
            fields.day(name, value)
        elif name == "is_available":
            fields.flag(name, value)
        elif name == "max_concurrent_appointments":
            fields.integer(name, value, 0, MAX_INTEGER)
        else:
            fields.time_of_day(name, value)
    fields.settle()
    if given.keys() & {"date", "start_time", "end_time"} and not _covers(wanted):
        fields.refuse("end_time", "Must be later than start_time, or 00:00 for midnight.")
        fields.settle()


def _covers(slot: Mapping[str, Any]) -> bool:
    capacity_window = CapacityWindow.of(
        slot["date"], slot["start_time"], slot["end_time"], available=True, capacity=0
    )
    return capacity_window.interval.start < capacity_window.interval.end


def _write(connection: Connection, policy: BookingPolicy, statement: Any, wanted: Mapping[str, Any]) -> Slot:
    try:
        row = connection.execute(statement.returning(*AS_READ)).one()
    except IntegrityError as error:
        if sqlstate(error) == _UNIQUE_VIOLATED:
            taken = f"{wanted['date']} {wanted['start_time']}"
            raise RuleBroken([f"There is a time slot that starts at {taken} already."]) from error
        raise
    return with_room(connection, policy, [row])[0]
