"""Time slots with the room that is left in them, and the starts that can be offered.

What is shown may be out of date a moment later; whether a booking gets in is decided under its locks alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, func, select

from servease_appt.appointments import checks
from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import NotFound
from servease_appt.appointments.permissions import only_customer
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import MAX_OFFSET, FreeStart, Page, Slot, Window
from servease_appt.appointments.values import Fields
from servease_appt.db.models import TimeSlot
from servease_appt.scheduling import clock
from servease_appt.scheduling.availability import days_between, offers
from servease_appt.scheduling.capacity import Calendar, CapacityWindow
from servease_appt.scheduling.intervals import LAST_DATE, Interval, midnight_after

MAX_DAYS_OFFERED: Final = 92

COLUMNS: Final = ("id", "date", "start_time", "end_time", "is_available", "max_concurrent_appointments")
_READ_AS: Final[dict[str, Any]] = {
    "is_available": func.coalesce(TimeSlot.is_available, False),
    "max_concurrent_appointments": func.coalesce(TimeSlot.max_concurrent_appointments, 0),
}
"""An adopted table may hold NULL where ours can't: what nobody has opened is closed."""
AS_READ: Final = [_READ_AS.get(name, getattr(TimeSlot, name)) for name in COLUMNS]
SELECT_SLOTS: Final = select(*AS_READ)
_ONE_DAY: Final = timedelta(days=1)


class _Row(NamedTuple):
    id: str
    date: date
    start_time: time
    end_time: time
    is_available: bool
    max_concurrent_appointments: int

    @property
    def capacity_window(self) -> CapacityWindow:
        return CapacityWindow.of(
            self.date,
            self.start_time,
            self.end_time,
            available=self.is_available,
            capacity=self.max_concurrent_appointments,
        )


def list_slots(
    connection: Connection,
    policy: BookingPolicy,
    actor: Actor,
    *,
    start_date: date | None,
    end_date: date | None,
    window: Window,
) -> Page[Slot]:
    """Slots by date and start; both dates inclusive. Raises `FieldErrors` when the start is after the end."""
    only_customer(actor)
    statement = SELECT_SLOTS
    if start_date is not None:
        statement = statement.where(TimeSlot.date >= start_date)
    if end_date is not None:
        statement = statement.where(TimeSlot.date <= end_date)
    if start_date is not None and end_date is not None:
        fields = Fields()
        fields.in_order(start_date, end_date)
        fields.settle()
    count = connection.execute(select(func.count()).select_from(statement.subquery())).scalar_one()
    if window.offset > MAX_OFFSET:
        return Page(count, [])
    page = statement.order_by(TimeSlot.date, TimeSlot.start_time, TimeSlot.id)
    rows = connection.execute(page.limit(window.limit).offset(window.offset)).all()
    return Page(count, with_room(connection, policy, rows))


def get_slot(connection: Connection, policy: BookingPolicy, actor: Actor, slot_id: str) -> Slot:
    """One slot. Raises `NotFound`."""
    only_customer(actor)
    row = connection.execute(SELECT_SLOTS.where(TimeSlot.id == slot_id)).one_or_none()
    if row is None:
        raise NotFound("No such time slot.")
    return with_room(connection, policy, [row])[0]


def with_room(connection: Connection, policy: BookingPolicy, rows: Sequence[Any]) -> list[Slot]:
    """The slots, given as rows of `COLUMNS` by date, each with the room left in it."""
    found: list[Slot] = []
    for stretch in _stretches([_Row(*row) for row in rows]):
        calendar = _calendar(
            connection,
            policy,
            Interval(datetime.combine(stretch[0].date, time.min), midnight_after(stretch[-1].date)),
        )
        for row in stretch:
            interval = row.capacity_window.interval
            room = calendar.room(interval) if interval.start < interval.end else 0
            found.append(Slot(*row, available_capacity=max(room, 0)))
    return found


def available_slots(
    connection: Connection,
    policy: BookingPolicy,
    actor: Actor,
    *,
    start_date: date,
    end_date: date,
    duration_minutes: int | None,
    now: datetime,
) -> list[FreeStart]:
    """The starts after `now` at which a booking of that length fits, in order; both dates inclusive.

    Raises `FieldErrors` when the range is backwards or above 92 days, or the length is out of range.
    """
    only_customer(actor)
    minutes = policy.default_duration_minutes if duration_minutes is None else duration_minutes
    fields = Fields()
    fields.span(start_date, end_date, MAX_DAYS_OFFERED)
    fields.duration("duration_minutes", minutes)
    fields.settle()
    first = max(start_date, clock.today(now, policy.timezone))
    last = min(end_date, LAST_DATE)
    if first > last:
        return []
    asked = Interval(datetime.combine(first, time.min), midnight_after(last) + timedelta(minutes=minutes))
    windows = checks.load_windows(connection, first, asked.end.date())
    defined: defaultdict[date, list[CapacityWindow]] = defaultdict(list)
    for capacity_window in windows:
        defined[capacity_window.interval.start.date()].append(capacity_window)
    running = checks.load_running(connection, asked)

    def is_open(start: datetime) -> bool:
        return clock.is_ahead(start, now, policy.timezone) and clock.exists(start, policy.timezone)

    calendar = Calendar(running, windows, policy.default_capacity)
    found = offers(list(days_between(first, last)), defined, calendar, minutes, is_open)
    return [FreeStart(offer.day, offer.start_time, offer.end_time, offer.room) for offer in found]


def _calendar(connection: Connection, policy: BookingPolicy, interval: Interval) -> Calendar:
    return Calendar(
        checks.load_running(connection, interval),
        checks.load_windows(connection, interval.start.date(), interval.end.date()),
        policy.default_capacity,
    )


def _stretches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """The rows of days that follow on each other, so that sparse slots do not load the years between them."""
    stretch: list[_Row] = []
    for row in rows:
        if stretch and row.date - stretch[-1].date > _ONE_DAY:
            yield stretch
            stretch = []
        stretch.append(row)
    if stretch:
        yield stretch
