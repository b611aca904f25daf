"""Find the times at which a booking may be offered."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

from servease_appt.scheduling.capacity import Calendar, CapacityWindow
from servease_appt.scheduling.intervals import Interval

OPENING_HOUR: Final = 9
CLOSING_HOUR: Final = 17

_ONE_DAY: Final = timedelta(days=1)
_FRIDAY: Final = 4


class Offer(NamedTuple):
    """A start at which a booking fits.

    Attributes:
        end_time: the end of the slot that begins then, not of the booking.
        room: how many such bookings fit.
    """

    day: date
    start_time: time
    end_time: time
    room: int


def days_between(first: date, last: date) -> Iterator[date]:
    """Yield every day from first to last, both inclusive."""
    for number in range((last - first).days + 1):
        yield first + _ONE_DAY * number


def is_weekday(day: date) -> bool:
    """Return whether it is a day from Monday to Friday."""
    return day.weekday() <= _FRIDAY


def hourly(day: date, opening_hour: int = OPENING_HOUR, closing_hour: int = CLOSING_HOUR) -> list[Interval]:
    """Return one interval for each hour from opening to closing, which may be 24; none on a weekend."""
    if not is_weekday(day):
        return []
    midnight = datetime.combine(day, time.min)
    return [
        Interval(midnight + timedelta(hours=hour), midnight + timedelta(hours=hour + 1))
        for hour in range(opening_hour, closing_hour)
    ]


def offers(
    days: Sequence[date],
    windows: Mapping[date, Sequence[CapacityWindow]],
    calendar: Calendar,
    duration_minutes: int,
    is_open: Callable[[datetime], bool],
) -> list[Offer]:
    """Return the starts, in order, at which a booking of that length fits.

    Args:
        days: in ascending order.
        windows: the slots of each day that has any; a day without has the hourly ones.
        calendar: must hold all that runs from the first of the days to the end of the last booking.
        duration_minutes: more than 0.
        is_open: whether a start may be offered at all (still ahead, not skipped by the clock).
    """
    candidates: list[Interval] = []
    for day in days:
        defined = windows.get(day)
        slots = sorted(window.interval for window in defined) if defined else hourly(day)
        candidates += [slot for slot in slots if slot.start < slot.end and is_open(slot.start)]
    rooms = calendar.rooms([slot.start for slot in candidates], timedelta(minutes=duration_minutes))
    return [
        Offer(start.date(), start.time(), end.time(), room)
        for (start, end), room in zip(candidates, rooms, strict=True)
        if room > 0
    ]
