"""Offer starts at which a booking of a given length still fits."""

from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from servease_appt.appointments import checks
from servease_appt.appointments.actors import Actor, only_customer
from servease_appt.appointments.limits import FieldChecks
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import FreeStart
from servease_appt.scheduling import clock
from servease_appt.scheduling.availability import days_between, offers
from servease_appt.scheduling.capacity import Calendar, CapacityWindow
from servease_appt.scheduling.intervals import LAST_DATE, Interval, midnight_after

MAX_DAYS_OFFERED: Final = 92
_ONE_DAY: Final = timedelta(days=1)


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
    """Return the starts after `now` at which a booking of that length fits, in order; both dates inclusive.

    Raises:
        FieldErrors: the range is backwards or of more than 92 days, or no booking may be that long.
    """
    only_customer(actor)
    minutes = policy.default_duration_minutes if duration_minutes is None else duration_minutes
    limits = FieldChecks()
    limits.span(start_date, end_date, MAX_DAYS_OFFERED)
    limits.duration("duration_minutes", minutes)
    limits.raise_if_invalid()
    first = max(start_date, clock.today(now, policy.timezone))
    last = min(end_date, LAST_DATE)
    if first > last:
        return []
    asked = Interval(datetime.combine(first, time.min), midnight_after(last) + timedelta(minutes=minutes))
    windows = checks.load_windows(connection, first, asked.end.date())
    defined: defaultdict[date, list[CapacityWindow]] = defaultdict(list)
    for window in windows:
        defined[window.interval.start.date()].append(window)
    running = checks.load_running(connection, asked)
    days = list(days_between(first, last))
    calendar = Calendar(running, windows, policy.default_capacity)
    found = offers(days, defined, calendar, minutes, _is_open(days, now, policy.timezone))
    return [FreeStart(offer.day, offer.start_time, offer.end_time, offer.room) for offer in found]


def _is_open(days: list[date], now: datetime, timezone: ZoneInfo) -> Callable[[datetime], bool]:
    """Return what says whether a start is still ahead and not skipped by the clock.

    Only starts of today, of tomorrow and of days of a clock change have to be looked at closely.
    """
    ahead_from = clock.wall_clock(now, timezone) + _ONE_DAY
    with_clock_change = {day for day in days if clock.changes_on(day, timezone)}

    def is_open(start: datetime) -> bool:
        if start > ahead_from and start.date() not in with_clock_change:
            return True
        return clock.is_ahead(start, now, timezone) and clock.exists(start, timezone)

    return is_open
