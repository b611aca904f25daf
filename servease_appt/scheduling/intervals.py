"""Intervals of wall-clock time, and which of them collide.

Moments are naive datetimes in the business time zone: an appointment of 60 minutes at 09:00 ends at 10:00 also
on the day of a clock change.
"""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

MIN_DURATION_MINUTES: Final = 1
MAX_DURATION_MINUTES: Final = 7 * 24 * 60
"""A week. It also limits how many days one booking touches."""

LAST_DATE: Final = date(9998, 12, 31)
"""The last day that may be booked: no sum of such a date and a length is beyond what Python can hold."""

CUSTOMER_GAP: Final = timedelta(minutes=30)
"""The starts of one customer's open appointments are at least this far apart."""

_ONE_DAY: Final = timedelta(days=1)
_ONE_MINUTE: Final = timedelta(minutes=1)
TICK: Final = timedelta.resolution
"""A microsecond, the step of every clock here."""


def ticks(moment: datetime) -> int:
    """Return the microseconds from 0001-01-01 to `moment`. Numbers are compared faster than datetimes."""
    passed = moment - datetime.min
    return passed.days * 86_400_000_000 + passed.seconds * 1_000_000 + passed.microseconds


class Interval(NamedTuple):
    """The moments from `start` up to, not including, `end`."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, day: date, at: time, duration_minutes: int) -> "Interval":
        """Return what an appointment takes up.

        Old rows may hold any length: one below 0 takes up nothing, one beyond the calendar ends with it.
        """
        start = datetime.combine(day, at)
        longest = (datetime.max - start) // _ONE_MINUTE
        return cls(start, start + _ONE_MINUTE * min(max(duration_minutes, 0), longest))

    def overlaps(self, other: "Interval") -> bool:
        """Return whether the two share a moment; an empty interval has none."""
        return max(self.start, other.start) < min(self.end, other.end)

    @property
    def days(self) -> tuple[date, ...]:
        """Return every day that holds a moment of the interval."""
        if self.start >= self.end:
            return ()
        first, last = self.start.date(), (self.end - TICK).date()
        return tuple(first + _ONE_DAY * n for n in range((last - first).days + 1))


def first_overlap(interval: Interval, others: Iterable[Interval]) -> Interval | None:
    """Return the first of `others` that shares a moment with `interval`; None where there is none."""
    return next((other for other in others if interval.overlaps(other)), None)


def first_too_near(start: datetime, others: Iterable[datetime]) -> datetime | None:
    """Return the first of a customer's other starts that is less than the gap away; None where there is none."""
    return next((other for other in others if abs(other - start) < CUSTOMER_GAP), None)


def midnight_after(day: date) -> datetime:
    """Return the end of a day; for the last day that Python knows, its last moment."""
    return datetime.max if day == date.max else datetime.combine(day + _ONE_DAY, time.min)
