"""Compute how much room is left at each moment.

At every moment a capacity is in force: that of the slot which covers it, 0 where that slot is not available, the
default one where no slot does. Slots may overlap; then the strictest of those that cover a moment counts, since
closing an hour must not depend on which other slots reach into it. The load of a moment is the number of open
appointments that run then. Room is capacity minus load; below 0 where more runs than may.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

from servease_appt.scheduling.intervals import TICK, Interval, midnight_after, ticks

_BEFORE_ALL: Final = -(2**63)


class CapacityWindow(NamedTuple):
    """The time that a slot covers, and how many appointments may run in it (0: not available)."""

    interval: Interval
    capacity: int

    @classmethod
    def of(cls, day: date, start: time, end: time, *, available: bool, capacity: int) -> "CapacityWindow":
        """Return the window of a slot. An end of 00:00 is midnight; an end before the start covers nothing."""
        begins = datetime.combine(day, start)
        ends = midnight_after(day) if end == time.min else datetime.combine(day, end)
        return cls(Interval(begins, ends), capacity if available else 0)


class Running(NamedTuple):
    """The starts and the ends of open appointments, as `ticks`, in the same order."""

    starts: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def of(cls, intervals: Iterable[Interval]) -> "Running":
        """Return the starts and the ends of the intervals."""
        pairs = [(ticks(start), ticks(end)) for start, end in intervals]
        return cls([start for start, _ in pairs], [end for _, end in pairs])


class Calendar:
    """The room at each moment, as steps. Immutable once made, so any number of threads may use it."""

    def __init__(self, running: Running, windows: Iterable[CapacityWindow], default_capacity: int) -> None:
        """Add up the load and the capacity of each moment.

        Args:
            running: what the open appointments take up.
            windows: the slots; those that cover nothing are passed over.
            default_capacity: in force where no slot covers.
        """
        begun = Counter(running.starts)
        ended = Counter(map(max, running.starts, running.ends))  # what ends before it starts takes up nothing
        opened: defaultdict[int, list[int]] = defaultdict(list)
        closed: defaultdict[int, list[int]] = defaultdict(list)
        for (start, end), capacity in windows:
            if start < end:
                opened[ticks(start)].append(capacity)
                closed[ticks(end)].append(capacity)
        self._moments = [_BEFORE_ALL, *sorted({*begun, *ended, *opened, *closed})]
        self._room = [default_capacity]
        load, capacity, open_slots = 0, default_capacity, list[int]()
        for moment in self._moments[1:]:
            load += begun.get(moment, 0) - ended.get(moment, 0)
            if moment in opened or moment in closed:
                for slot in closed.get(moment, ()):
                    open_slots.remove(slot)
                for slot in opened.get(moment, ()):
                    insort(open_slots, slot)
                capacity = open_slots[0] if open_slots else default_capacity
            self._room.append(capacity - load)

    def room(self, interval: Interval) -> int:
        """Return the least room at any moment of the interval, which must have one."""
        first = bisect_right(self._moments, ticks(interval.start)) - 1
        beyond = bisect_left(self._moments, ticks(interval.end))
        return min(self._room[first:beyond])

    def rooms(self, starts: Sequence[datetime], length: timedelta) -> list[int]:
        """Return the least room at any moment from each start to `length` after it.

        Passes over the steps once, however long the intervals are and however much they overlap. `waiting` holds
        the steps of the interval that are less than all later ones of it: the first of them is the least of all.

        Args:
            starts: in ascending order.
            length: more than 0.
        """
        moments, room, count = self._moments, self._room, len(self._moments)
        found: list[int] = []
        waiting: deque[int] = deque()
        added = in_force = 0
        length_ticks = length // TICK
        for start in map(ticks, starts):
            while added < count and moments[added] < start + length_ticks:
                while waiting and room[waiting[-1]] >= room[added]:
                    waiting.pop()
                waiting.append(added)
                added += 1
            while in_force + 1 < count and moments[in_force + 1] <= start:
                in_force += 1
            while waiting[0] < in_force:
                waiting.popleft()
            found.append(room[waiting[0]])
        return found


def overfull(
    running: Sequence[Interval], windows: Iterable[CapacityWindow], default_capacity: int
) -> list[Interval]:
    """Return the intervals of `running` that hold a moment at which more runs than may."""
    calendar = Calendar(Running.of(running), windows, default_capacity)
    return [interval for interval in running if interval.start < interval.end and calendar.room(interval) < 0]
