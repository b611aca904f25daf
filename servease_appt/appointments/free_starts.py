"""Offer starts at which a booking of a given length still fits."""

from collections import defaultdict
from datetime import date, datetime, time, timedelta
from typing import Final

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

    def is_open(start: datetime) -> bool:
        return clock.is_ahead(start, now, policy.timezone) and clock.exists(start, policy.timezone)

    calendar = Calendar(running, windows, policy.default_capacity)
    found = offers(list(days_between(first, last)), defined, calendar, minutes, is_open)
    return [FreeStart(offer.day, offer.start_time, offer.end_time, offer.room) for offer in found]
