"""How much room is left at each moment.

At every moment a capacity is in force: that of the slot which covers it, 0 where that slot is not available, the
default one where no slot does. Slots may overlap; then the strictest of those that cover a moment counts, since
closing an hour must not depend on which other slots reach into it. The load of a moment is the number of open
appointments that run then. Room is capacity minus load; below 0 where more runs than may.
"""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from typing import NamedTuple

from servease_appt.scheduling.intervals import Interval, midnight_after


class CapacityWindow(NamedTuple):
    """The time that a slot covers, and how many appointments may run in it (0: not available)."""

    interval: Interval
    capacity: int

    @classmethod
    def of(cls, day: date, start: time, end: time, *, available: bool, capacity: int) -> "CapacityWindow":
        """The window of a slot. An end of 00:00 is midnight; any other end before the start covers nothing."""
        begins = datetime.combine(day, start)
        ends = midnight_after(day) if end == time.min else datetime.combine(day, end)
        return cls(Interval(begins, ends), capacity if available else 0)


class Calendar:
    """The room at each moment, as steps. Immutable once made, so any number of threads may ask it."""

    def __init__(
        self, running: Iterable[Interval], windows: Iterable[CapacityWindow], default_capacity: int
    ) -> None:
        """
        Args:
            running: what the open appointments take up.
            windows: the slots; those that cover nothing are passed over.
            default_capacity: in force where no slot covers.
        """
        self._default = default_capacity
        load_changes: defaultdict[datetime, int] = defaultdict(int)
        for start, end in running:
            if start < end:
                load_changes[start] += 1
                load_changes[end] -= 1
        opened: defaultdict[datetime, list[int]] = defaultdict(list)
        closed: defaultdict[datetime, list[int]] = defaultdict(list)
        for (start, end), capacity in windows:
            if start < end:
                opened[start].append(capacity)
                closed[end].append(capacity)
        self._moments: list[datetime] = sorted({*load_changes, *opened, *closed})
        self._room: list[int] = []
        load, in_force = 0, list[int]()
        for moment in self._moments:
            load += load_changes.get(moment, 0)
            for capacity in closed.get(moment, ()):
                in_force.remove(capacity)
            for capacity in opened.get(moment, ()):
                insort(in_force, capacity)
            self._room.append((in_force[0] if in_force else default_capacity) - load)

    def room(self, interval: Interval) -> int:
        """The least room at any moment of the interval, which must have one."""
        first = bisect_right(self._moments, interval.start) - 1
        least = self._room[first] if first >= 0 else self._default
        for step in range(first + 1, len(self._moments)):
            if self._moments[step] >= interval.end:
                break
            least = min(least, self._room[step])
        return least


def overfull(
    running: Sequence[Interval], windows: Iterable[CapacityWindow], default_capacity: int
) -> list[Interval]:
    """Those of `running` at a moment of which more runs than may."""
    calendar = Calendar(running, windows, default_capacity)
    return [interval for interval in running if interval.start < interval.end and calendar.room(interval) < 0]
