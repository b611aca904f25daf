"""Stretches of wall-clock time, and what may not stand too near to what.

Moments are naive datetimes in the business time zone, as the calendar on the wall shows them: an appointment of 60
minutes at 09:00 ends at 10:00 also on the day of a clock change.
"""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

MIN_DURATION_MINUTES: Final = 1
MAX_DURATION_MINUTES: Final = 7 * 24 * 60
"""A week: what one appointment may take, and so how many days one booking touches."""

LAST_DATE: Final = date(9998, 12, 31)
"""The last day of this calendar: a margin, so that no sum of a date and a length leaves what Python can hold."""

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
    """From `start` up to, not including, `end`."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, day: date, at: time, duration_minutes: int) -> "Interval":
        """What an appointment takes up.

        Old rows may hold any length: one below 0 takes up nothing, one beyond the calendar ends with it.
        """
        start = datetime.combine(day, at)
        longest = (datetime.max - start) // _ONE_MINUTE
        return cls(start, start + _ONE_MINUTE * min(max(duration_minutes, 0), longest))

    def overlaps(self, other: "Interval") -> bool:
        """Whether the two share a moment; an empty interval has none to share."""
        return max(self.start, other.start) < min(self.end, other.end)

    @property
    def days(self) -> tuple[date, ...]:
        """Every day that holds a moment of it."""
        if self.start >= self.end:
            return ()
        first, last = self.start.date(), (self.end - TICK).date()
        return tuple(first + _ONE_DAY * n for n in range((last - first).days + 1))


def first_overlap(interval: Interval, others: Iterable[Interval]) -> Interval | None:
    """The first of `others` that shares a moment with `interval`."""
    return next((other for other in others if interval.overlaps(other)), None)


def first_too_near(start: datetime, others: Iterable[datetime]) -> datetime | None:
    """The first of a customer's other starts that is less than the gap away."""
    return next((other for other in others if abs(other - start) < CUSTOMER_GAP), None)


def midnight_after(day: date) -> datetime:
    """The end of a day; that of the last day Python knows is its last moment."""
    return datetime.max if day == date.max else datetime.combine(day + _ONE_DAY, time.min)
