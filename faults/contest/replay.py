"""Carry out a log of changes again, one by one, and judge each state. Shares no code with the service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from faults.contest.audit import Change, Row

NEAR = timedelta(minutes=30)
_OPEN = frozenset({"pending", "confirmed", "in_progress"})
_BUSY = frozenset({"confirmed", "in_progress"})
_EDGES = frozenset(
    {
        ("pending", "confirmed"),
        ("pending", "cancelled"),
        ("confirmed", "in_progress"),
        ("confirmed", "cancelled"),
        ("confirmed", "no_show"),
        ("in_progress", "completed"),
        ("in_progress", "cancelled"),
    }
)


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of a day with a capacity of its own; 0 where it is closed."""

    start: datetime
    end: datetime
    capacity: int


class Replay:
    """The appointments after each change, and the rules that the changes have broken.

    Args:
        rows: the appointments before the first change, by id.
        slots: defined before the first change, and never changed.
        default_capacity: where no slot is defined.
    """

    def __init__(self, rows: Mapping[str, Row], slots: Iterable[Slot], default_capacity: int) -> None:
        self.rows = dict(rows)
        self._slots = list(slots)
        self._default_capacity = default_capacity

    def run(self, changes: Iterable[Change]) -> Iterator[str]:
        """Carry the changes out. Yields each violation, by the name of its rule and what broke it."""
        for change in changes:
            yield from self._step(change)

    def _step(self, change: Change) -> Iterator[str]:
        before, after = change.before, change.after
        row = before if after is None else after
        assert row is not None
        known = self.rows.pop(row["id"], None)
        if known != before:
            yield f"lost update: {row['id']} was changed from a state that it was not in"
        if after is None:
            return
        came_from, status = "pending" if before is None else before["status"], after["status"]
        if status != came_from and (came_from, status) not in _EDGES:
            yield f"no such edge: {row['id']} went from {came_from} to {status}"
        # Only what takes up more than before can break a rule; what stays as it was is judged already.
        if status in _OPEN and _place(known, _OPEN) != _place(after, _OPEN):
            yield from self._oversold(after)
            yield from self._too_near(after)
        if status in _BUSY and _place(known, _BUSY) != _place(after, _BUSY):
            yield from self._double_booked(after)
        self.rows[after["id"]] = after

    def _oversold(self, new: Row) -> Iterator[str]:
        start, end = _interval(new)
        others = [_interval(row) for row in self.rows.values() if row["status"] in _OPEN]
        moments = {start, *(s for s, _ in others), *(slot.start for slot in self._slots)}
        moments |= {slot.end for slot in self._slots}
        for moment in sorted(at for at in moments if start <= at < end):
            running = 1 + sum(s <= moment < e for s, e in others)
            if running > self._capacity(moment):
                yield f"oversold: {running} at {moment}, with {new['id']}"

    def _capacity(self, moment: datetime) -> int:
        covering = [slot.capacity for slot in self._slots if slot.start <= moment < slot.end]
        return min(covering, default=self._default_capacity)

    def _too_near(self, new: Row) -> Iterator[str]:
        start, _ = _interval(new)
        for row in self.rows.values():
            if row["status"] in _OPEN and row["customer_id"] == new["customer_id"]:
                other, _ = _interval(row)
                if abs(other - start) < NEAR:
                    yield f"too near: {new['id']} and {row['id']} of one customer"

    def _double_booked(self, new: Row) -> Iterator[str]:
        if new["assigned_employee_id"] is None:
            return
        start, end = _interval(new)
        for row in self.rows.values():
            if row["status"] in _BUSY and row["assigned_employee_id"] == new["assigned_employee_id"]:
                other_start, other_end = _interval(row)
                if start < other_end and other_start < end:
                    yield f"double booked: {new['id']} and {row['id']} of one employee"


def _interval(row: Row) -> tuple[datetime, datetime]:
    start = datetime.fromisoformat(f"{row['scheduled_date']}T{row['scheduled_time']}")
    return start, start + timedelta(minutes=row["duration_minutes"])


def _place(row: Row | None, statuses: frozenset[str]) -> tuple[object, ...] | None:
    """Return what a row takes up while its status is one of these; None while it takes up nothing."""
    if row is None or row["status"] not in statuses:
        return None
    employee = row["assigned_employee_id"] if statuses is _BUSY else None
    return (
        row["scheduled_date"],
        row["scheduled_time"],
        row["duration_minutes"],
        row["customer_id"],
        employee,
    )
