"""Time slots: read them with the room that is left in them, and change them.

Each command is one transaction and takes the locks of a booking on the days that it touches. Less capacity than is
booked already may be set: what is booked stays, and nothing new gets in. What is shown may be out of date a moment
later; whether a booking gets in is decided under its locks alone.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, time, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from servease_appt.appointments import checks, locks
from servease_appt.appointments.actors import Actor, only_customer, require_staff
from servease_appt.appointments.errors import NotFound, RuleBroken
from servease_appt.appointments.limits import MAX_INTEGER, FieldChecks
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import MAX_OFFSET, NewSlot, Page, Slot, Window
from servease_appt.db.engine import Database
from servease_appt.db.errors import sqlstate
from servease_appt.db.models import TimeSlot
from servease_appt.scheduling import clock
from servease_appt.scheduling.availability import CLOSING_HOUR, OPENING_HOUR, days_between, hourly
from servease_appt.scheduling.capacity import Calendar, CapacityWindow
from servease_appt.scheduling.intervals import Interval, midnight_after

MAX_DAYS_CREATED: Final = 366

_COLUMNS: Final = ("id", "date", "start_time", "end_time", "is_available", "max_concurrent_appointments")
_CHANGEABLE: Final = _COLUMNS[1:]
_READ_AS: Final[dict[str, Any]] = {
    "is_available": func.coalesce(TimeSlot.is_available, False),
    "max_concurrent_appointments": func.coalesce(TimeSlot.max_concurrent_appointments, 0),
}
"""An adopted table may hold NULL where ours can't: such a slot is closed."""
_AS_READ: Final = [_READ_AS.get(name, getattr(TimeSlot, name)) for name in _COLUMNS]
_SELECT: Final = select(*_AS_READ)
_ONE_DAY: Final = timedelta(days=1)
_UNIQUE_VIOLATED: Final = "23505"
_ADD_MISSING: Final = text("""
    INSERT INTO time_slots (id, date, start_time, end_time, is_available, max_concurrent_appointments)
    SELECT gen_random_uuid(), wanted.day, wanted.begins, wanted.ends, true, :capacity
    FROM unnest(CAST(:days AS date[]), CAST(:begins AS time[]), CAST(:ends AS time[]))
        AS wanted (day, begins, ends)
    WHERE NOT EXISTS (SELECT FROM time_slots AS s WHERE s.date = wanted.day AND s.start_time = wanted.begins)
    ON CONFLICT DO NOTHING
""")


class _Row(NamedTuple):
    id: str
    date: date
    start_time: time
    end_time: time
    is_available: bool
    max_concurrent_appointments: int

    @property
    def interval(self) -> Interval:
        return _interval(self.date, self.start_time, self.end_time)


def list_slots(
    connection: Connection,
    policy: BookingPolicy,
    actor: Actor,
    *,
    start_date: date | None,
    end_date: date | None,
    window: Window,
) -> Page[Slot]:
    """Return slots by date and start; both dates are inclusive."""
    only_customer(actor)
    statement = _SELECT
    if start_date is not None:
        statement = statement.where(TimeSlot.date >= start_date)
    if end_date is not None:
        statement = statement.where(TimeSlot.date <= end_date)
    count = connection.execute(select(func.count()).select_from(statement.subquery())).scalar_one()
    if window.offset > MAX_OFFSET:
        return Page(count, [])
    page = statement.order_by(TimeSlot.date, TimeSlot.start_time, TimeSlot.id)
    rows = connection.execute(page.limit(window.limit).offset(window.offset)).all()
    return Page(count, _with_room(connection, policy, rows))


def get_slot(connection: Connection, policy: BookingPolicy, actor: Actor, slot_id: str) -> Slot:
    """Return one slot. Raise `NotFound`."""
    only_customer(actor)
    row = connection.execute(_SELECT.where(TimeSlot.id == slot_id)).one_or_none()
    if row is None:
        raise NotFound("No such time slot.")
    return _with_room(connection, policy, [row])[0]


def create_slot(database: Database, policy: BookingPolicy, actor: Actor, asked: NewSlot) -> Slot:
    """Add one slot.

    Raises:
        Forbidden: the actor is a customer.
        FieldErrors: a value is beyond its limit.
        RuleBroken: there is a slot with that start.
    """
    require_staff(actor)
    values = asdict(asked)
    if asked.max_concurrent_appointments is None:
        values["max_concurrent_appointments"] = policy.default_capacity
    _check(values, values)
    with database.transaction() as connection:
        locks.take(connection, [locks.day(asked.date)])
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
        _check(wanted if "date" in changes else changes, wanted)
        locks.take(connection, {locks.day(before["date"]), locks.day(wanted["date"])})
        statement = update(TimeSlot).where(TimeSlot.id == slot_id)
        return _write(connection, policy, statement.values({**before, **changes}), wanted)


def delete_slot(database: Database, actor: Actor, slot_id: str) -> None:
    """Remove one slot; its time falls back to the default capacity. Raise `Forbidden`, `NotFound`."""
    require_staff(actor)
    with database.transaction() as connection:
        before = _find_locked(connection, slot_id)
        locks.take(connection, [locks.day(before["date"])])
        connection.execute(delete(TimeSlot).where(TimeSlot.id == slot_id))


def bulk_create(
    database: Database, policy: BookingPolicy, actor: Actor, start_date: date, end_date: date
) -> int:
    """Add hourly slots, 9 to 17, on the weekdays from start to end inclusive; return how many are new.

    Raises:
        Forbidden: the actor is a customer.
        FieldErrors: the range is backwards, or of more than 366 days.
    """
    require_staff(actor)
    limits = FieldChecks()
    limits.day("start_date", start_date)
    limits.day("end_date", end_date)
    limits.span(start_date, end_date, MAX_DAYS_CREATED)
    limits.raise_if_invalid()
    return _add_hours(database, policy, days_between(start_date, end_date), OPENING_HOUR, CLOSING_HOUR)


def seed_slots(
    database: Database, policy: BookingPolicy, *, days: int, start_hour: int, end_hour: int, now: datetime
) -> int:
    """Add hourly slots on the weekdays of the next `days` days, today included; return how many are new.

    Raises:
        FieldErrors: named as the arguments.
    """
    limits = FieldChecks()
    limits.whole("days", days, 1, MAX_DAYS_CREATED)
    limits.whole("start_hour", start_hour, 0, 23)
    limits.whole("end_hour", end_hour, 1, 24)
    limits.raise_if_invalid()
    if start_hour >= end_hour:
        limits.refuse("end_hour", f"Must be later than start_hour ({start_hour}).")
    limits.raise_if_invalid()
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


def _with_room(connection: Connection, policy: BookingPolicy, rows: Sequence[Any]) -> list[Slot]:
    """Return the slots, given as rows of `_COLUMNS` by date, each with the room left in it."""
    found: list[Slot] = []
    for stretch in _consecutive_days([_Row(*row) for row in rows]):
        shown = Interval(datetime.combine(stretch[0].date, time.min), midnight_after(stretch[-1].date))
        calendar = Calendar(
            checks.load_running(connection, shown),
            checks.load_windows(connection, shown.start.date(), shown.end.date()),
            policy.default_capacity,
        )
        for row in stretch:
            interval = row.interval
            room = calendar.room(interval) if interval.start < interval.end else 0
            found.append(Slot(*row, available_capacity=max(room, 0)))
    return found


def _consecutive_days(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Group rows of days that follow on each other, so that sparse slots do not load the years between them."""
    stretch: list[_Row] = []
    for row in rows:
        if stretch and row.date - stretch[-1].date > _ONE_DAY:
            yield stretch
            stretch = []
        stretch.append(row)
    if stretch:
        yield stretch


def _find_locked(connection: Connection, slot_id: str) -> dict[str, Any]:
    """Return what may change of a slot, and hold its row until the end of the transaction."""
    row = connection.execute(_SELECT.where(TimeSlot.id == slot_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("No such time slot.")
    return dict(zip(_CHANGEABLE, row[1:], strict=True))


def _check(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `FieldErrors` for what is wrong with the given values, and with the times that they lead to.

    An old slot that breaks a rule can still be changed: only what is given is checked, unless it moves to another
    day.
    """
    limits = FieldChecks()
    for name, value in given.items():
        if name not in _CHANGEABLE:
            limits.refuse(name, f"Can't be changed. What can: {', '.join(_CHANGEABLE)}.")
        elif name == "date":
            limits.day(name, value)
        elif name == "max_concurrent_appointments":
            limits.whole(name, value, 0, MAX_INTEGER)
    limits.raise_if_invalid()
    if given.keys() & {"date", "start_time", "end_time"}:
        interval = _interval(wanted["date"], wanted["start_time"], wanted["end_time"])
        if interval.start >= interval.end:
            limits.refuse("end_time", "Must be later than start_time, or 00:00 for midnight.")
    limits.raise_if_invalid()


def _interval(day: date, start: time, end: time) -> Interval:
    return CapacityWindow.of(day, start, end, available=True, capacity=0).interval


def _write(connection: Connection, policy: BookingPolicy, statement: Any, wanted: Mapping[str, Any]) -> Slot:
    try:
        row = connection.execute(statement.returning(*_AS_READ)).one()
    except IntegrityError as error:
        if sqlstate(error) == _UNIQUE_VIOLATED:
            taken = f"{wanted['date']} {wanted['start_time']}"
            raise RuleBroken([f"There is a time slot that starts at {taken} already."]) from error
        raise
    return _with_room(connection, policy, [row])[0]
