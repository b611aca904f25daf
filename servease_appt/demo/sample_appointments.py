"""The demo's appointments: 2,000 over ten weeks around today, none of which breaks a rule of scheduling.

Five start in every hour of a working day, and each hour has a capacity of ten, so with at most two hours each
the capacity is never exceeded. Customers and employees take turns, so none has two appointments at once, and
the newest page of 20 shows 20 customers, 20 vehicles and 20 employees. Some older appointments have no
employee, and some refer to customers, employees and vehicles that the other services no longer have.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from servease_appt.demo.sample_entities import Entry, People, new_id

APPOINTMENTS = 2000
_HOURS = range(9, 17)
_STARTS_PER_HOUR = 5
_ROOM_PER_HOUR = 10
_DAYS_BEFORE, _DAYS_AFTER = 30, 20
# The newest appointments, which the first pages show: all their references exist, and all have an employee.
_WELL_KNOWN = 100

_WORK = {
    "maintenance": (
        ("Oil and filter change", 60, 89),
        ("Full service, 30,000 km", 120, 310),
        ("Tyre change", 45, 60),
    ),
    "repair": (("Front brake pads worn", 90, 240), ("Air conditioning blows warm", 120, 280)),
    "inspection": (("Annual inspection", 60, 75), ("Check before buying", 45, 95)),
    "diagnostic": (("Engine warning light is on", 60, 90), ("Battery drains overnight", 90, 110)),
    "emergency": (("Does not start", 60, 150), ("Coolant leak", 90, 190)),
}
_TYPES = ("maintenance",) * 5 + ("repair",) * 3 + ("inspection",) * 3 + ("diagnostic",) * 2 + ("emergency",)
_PATHS = {
    "pending": (),
    "confirmed": ("confirmed",),
    "in_progress": ("confirmed", "in_progress"),
    "completed": ("confirmed", "in_progress", "completed"),
    "no_show": ("confirmed", "no_show"),
    "cancelled": ("cancelled",),
}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rows for the tables `appointments`, `appointment_history` and `time_slots`."""

    appointments: list[Row]
    history: list[Row]
    slots: list[Row]


def make_schedule(rng: random.Random, people: People, now: datetime, timezone: ZoneInfo) -> Schedule:
    """Return all rows, as they would be at `now` (aware)."""
    local_now = now.astimezone(timezone).replace(tzinfo=None)
    days = _working_days(local_now.date())
    starts = list(_starts(days))[-APPOINTMENTS:]
    strangers = [new_id(rng) for _ in range(6)]
    appointments: list[Row] = []
    history: list[Row] = []
    for number, start in enumerate(starts):
        from_the_end = len(starts) - 1 - number
        row = _appointment(rng, people, from_the_end, start, local_now)
        if from_the_end >= _WELL_KNOWN:
            _leave_gaps(rng, row, strangers)
        _date_it(row, start, timezone, now)
        appointments.append(row)
        history.extend(_history(rng, row, now))
    return Schedule(appointments, history, list(_slots(rng, days)))


def _working_days(today: date) -> list[date]:
    """Return weekdays around today, and today even if it is none."""
    before = [today - timedelta(days=n) for n in range(1, 2 * _DAYS_BEFORE)]
    after = [today + timedelta(days=n) for n in range(1, 2 * _DAYS_AFTER)]
    past = [day for day in before if day.weekday() < 5][:_DAYS_BEFORE]
    ahead = [day for day in after if day.weekday() < 5][:_DAYS_AFTER]
    return [*reversed(past), today, *ahead]


def _starts(days: list[date]) -> Iterator[datetime]:
    for day in days:
        for hour in _HOURS:
            for quarter in range(_STARTS_PER_HOUR):
                yield datetime.combine(day, time(hour, (0, 0, 15, 30, 30)[quarter]))


def _appointment(
    rng: random.Random, people: People, from_the_end: int, start: datetime, local_now: datetime
) -> Row:
    customer = people.customers[from_the_end % len(people.customers)]
    employee = people.employees[from_the_end % len(people.employees)]
    kind = rng.choice(_TYPES)
    description, minutes, cost = rng.choice(_WORK[kind])
    minutes = min(minutes, (datetime.combine(start.date(), time(_HOURS.stop)) - start).seconds // 60)
    status = _status(rng, start, minutes, local_now)
    return {
        "id": new_id(rng),
        "customer_id": customer["id"],
        "vehicle_id": rng.choice(people.vehicles_of(customer["id"]))["id"],
        "assigned_employee_id": employee["id"],
        "appointment_type": kind,
        "scheduled_date": start.date(),
        "scheduled_time": start.time(),
        "duration_minutes": minutes,
        "status": status,
        "service_description": description,
        "customer_notes": rng.choice(
            ("", "", "", "Please call before any extra work.", "I will wait there.")
        ),
        "internal_notes": rng.choice(("", "", "", "Parts ordered.", "Second visit for this.")),
        "estimated_cost": Decimal(cost) + Decimal(rng.randrange(0, 40)),
        "duration_seconds": minutes * 60 + rng.randrange(-600, 900) if status == "completed" else 0,
        "created_by_user_id": customer["id"],
    }


def _status(rng: random.Random, start: datetime, minutes: int, local_now: datetime) -> str:
    if start > local_now:
        return rng.choices(("confirmed", "pending", "cancelled"), (58, 34, 8))[0]
    if start + timedelta(minutes=minutes) > local_now:
        return "in_progress"
    return rng.choices(("completed", "cancelled", "no_show", "confirmed", "pending"), (80, 9, 6, 3, 2))[0]


def _leave_gaps(rng: random.Random, row: Row, strangers: list[str]) -> None:
    """Remove the employee of some rows, and give others an id that no service knows."""
    if row["status"] in ("pending", "cancelled") and rng.random() < 0.5:
        row["assigned_employee_id"] = None
    chance = rng.random()
    if chance < 0.004:
        row["customer_id"] = row["created_by_user_id"] = rng.choice(strangers[:3])
    elif chance < 0.008:
        row["vehicle_id"] = rng.choice(strangers[3:5])
    elif chance < 0.010 and row["status"] not in ("confirmed", "in_progress"):
        row["assigned_employee_id"] = strangers[5]


def _date_it(row: Row, start: datetime, timezone: ZoneInfo, now: datetime) -> None:
    begins = start.replace(tzinfo=timezone).astimezone(UTC)
    row["created_at"] = min(begins, now) - timedelta(days=9, minutes=row["duration_minutes"])
    changes = len(_PATHS[row["status"]])
    row["updated_at"] = _moment(row, changes, now)
    row["cancelled_at"] = row["updated_at"] if row["status"] == "cancelled" else None
    row["completed_at"] = row["updated_at"] if row["status"] == "completed" else None


def _moment(row: Row, change: int, now: datetime) -> datetime:
    """Return the moment of the change of this number: after the creation, before now."""
    created: datetime = row["created_at"]
    return min(created + timedelta(days=2 * change), now)


def _history(rng: random.Random, row: Row, now: datetime) -> Iterator[Row]:
    previous = "pending"
    for number, status in enumerate(_PATHS[row["status"]], start=1):
        yield {
            "id": new_id(rng),
            "appointment_id": row["id"],
            "changed_by_user_id": row["assigned_employee_id"] or row["created_by_user_id"],
            "previous_status": previous,
            "new_status": status,
            "change_reason": "The customer is away that week." if status == "cancelled" else "",
            "changed_at": _moment(row, number, now),
        }
        previous = status


def _slots(rng: random.Random, days: list[date]) -> Iterator[Entry]:
    for day in days:
        for hour in _HOURS:
            yield {
                "id": new_id(rng),
                "date": day,
                "start_time": time(hour),
                "end_time": time(hour + 1),
                "is_available": True,
                "max_concurrent_appointments": _ROOM_PER_HOUR,
            }
