"""Time slots, and the starts that are offered."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest

from servease_appt.appointments import free_starts, slots
from servease_appt.appointments.errors import FieldErrors, Forbidden, NotFound, RuleBroken
from servease_appt.appointments.records import ARRAY, FreeStart, NewSlot, Page, Slot, Window
from servease_appt.db.engine import Database
from servease_appt.scheduling.statuses import Action
from tests.appointments.workshop import (
    ADMIN,
    EMPLOYEE,
    NOW,
    SERVICE,
    TODAY,
    TUESDAY,
    Workshop,
    customer,
    new_id,
)

SATURDAY = date(2030, 5, 11)


def create(workshop: Workshop, *values: Any, **named: Any) -> Slot:
    return slots.create_slot(workshop.database, workshop.policy, EMPLOYEE, NewSlot(*values, **named))


def listed(
    workshop: Workshop, start: date | None = None, end: date | None = None, window: Window = ARRAY
) -> Page[Slot]:
    with workshop.database.reading() as connection:
        return slots.list_slots(
            connection, workshop.policy, ADMIN, start_date=start, end_date=end, window=window
        )


def free(
    workshop: Workshop, start: date, end: date, minutes: int | None = None, now: datetime = NOW
) -> list[FreeStart]:
    with workshop.database.reading() as connection:
        return free_starts.available_slots(
            connection,
            workshop.policy,
            customer(),
            start_date=start,
            end_date=end,
            duration_minutes=minutes,
            now=now,
        )


def test_a_slot_and_its_room(workshop: Workshop) -> None:
    """What is created is found again; open bookings take up its room while they overlap it."""
    slot = create(workshop, TUESDAY, time(9), time(10))
    assert (slot.is_available, slot.max_concurrent_appointments, slot.available_capacity) == (True, 3, 3)

    first = workshop.book(at=time(9, 30))
    workshop.book(at=time(10))
    with workshop.database.reading() as connection:
        found = slots.get_slot(connection, workshop.policy, customer(), slot.id)
    assert found == slot._replace(available_capacity=2)

    workshop.act(first, Action.CANCEL)
    assert listed(workshop).rows == [slot]


def test_the_list(workshop: Workshop) -> None:
    """By date and start, filtered by inclusive dates, in pages, each slot with its own room."""
    days = [TUESDAY, TUESDAY + timedelta(days=1), date(2031, 1, 1)]
    made = [create(workshop, day, time(hour), time(hour + 1)) for day in reversed(days) for hour in (10, 9)]
    workshop.book(day=days[2], at=time(9))

    rows = listed(workshop).rows
    assert [(row.date, row.start_time.hour) for row in rows] == [(d, h) for d in days for h in (9, 10)]
    assert [row.available_capacity for row in rows] == [3, 3, 3, 3, 2, 3]
    assert {row.id for row in rows} == {row.id for row in made}
    assert listed(workshop, days[1], days[1]).count == 2
    assert listed(workshop, start=days[2]).count == 2
    assert listed(workshop, end=days[0]).count == 2
    assert [row.id for row in listed(workshop, window=Window(2, 3)).rows] == [row.id for row in rows[3:5]]
    assert listed(workshop, window=Window(20, 2**64)) == Page(6, [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("date", date.max),
        ("end_time", time(8)),
        ("end_time", time(9)),
        ("max_concurrent_appointments", -1),
        ("max_concurrent_appointments", 2**31),
    ],
)
def test_a_slot_that_cannot_be(workshop: Workshop, field: str, value: Any) -> None:
    """On creation and on change, with the field's name; nothing is written."""
    right: dict[str, Any] = {"date": TUESDAY, "start_time": time(9), "end_time": time(10)}

    with pytest.raises(FieldErrors) as caught:
        create(workshop, **(right | {field: value}))
    assert list(caught.value.errors) == [field]

    slot = create(workshop, **right)
    with pytest.raises(FieldErrors) as caught:
        slots.update_slot(
            workshop.database, workshop.policy, ADMIN, slot.id, {"is_available": False, field: value}
        )
    assert list(caught.value.errors) == [field]
    assert listed(workshop).rows == [slot]


def test_a_slot_to_midnight(workshop: Workshop) -> None:
    """00:00 as its end is the end of the day."""
    slot = create(workshop, TUESDAY, time(22), time(0), max_concurrent_appointments=1)
    workshop.book(at=time(23, 30), duration_minutes=120)

    assert listed(workshop).rows == [slot._replace(available_capacity=0)]


def test_a_start_is_taken_once(workshop: Workshop) -> None:
    """A second slot with the same start is refused, created or moved there."""
    create(workshop, TUESDAY, time(9), time(10))
    other = create(workshop, TUESDAY, time(10), time(11))

    with pytest.raises(RuleBroken, match="starts at 2030-05-07 09:00:00 already"):
        create(workshop, TUESDAY, time(9), time(12))
    with pytest.raises(RuleBroken, match="already"):
        slots.update_slot(workshop.database, workshop.policy, ADMIN, other.id, {"start_time": time(9)})


def test_changing_a_slot(workshop: Workshop) -> None:
    """Every field but the id and the room; the change counts for what is booked next."""
    slot = create(workshop, TUESDAY, time(9), time(10))
    booked = workshop.book()
    changes = {
        "date": SATURDAY,
        "start_time": time(8),
        "end_time": time(12),
        "is_available": False,
        "max_concurrent_appointments": 7,
    }

    smaller = slots.update_slot(
        workshop.database, workshop.policy, ADMIN, slot.id, {"max_concurrent_appointments": 0}
    )
    changed = slots.update_slot(workshop.database, workshop.policy, EMPLOYEE, slot.id, changes)

    assert smaller.available_capacity == 0
    assert workshop.get(booked) == booked
    assert changed._asdict() == {"id": slot.id, "available_capacity": 0} | changes
    for name in ("id", "available_capacity", "made_up"):
        with pytest.raises(FieldErrors) as caught:
            slots.update_slot(workshop.database, workshop.policy, ADMIN, slot.id, {name: 1})
        assert list(caught.value.errors) == [name]


def test_who_may_change_slots(workshop: Workshop) -> None:
    """Staff; customers and services read at most."""
    slot = create(workshop, TUESDAY, time(9), time(10))
    where = (workshop.database, workshop.policy)
    commands: list[Callable[..., Any]] = [
        lambda actor: slots.create_slot(*where, actor, NewSlot(TUESDAY, time(10), time(11))),
        lambda actor: slots.update_slot(*where, actor, slot.id, {}),
        lambda actor: slots.delete_slot(workshop.database, actor, slot.id),
        lambda actor: slots.bulk_create(*where, actor, TODAY, TUESDAY),
    ]

    for command in commands:
        for actor in (customer(), SERVICE):
            with pytest.raises(Forbidden):
                command(actor)
    with workshop.database.reading() as connection, pytest.raises(Forbidden):
        slots.get_slot(connection, workshop.policy, SERVICE, slot.id)


def test_deleting_a_slot(workshop: Workshop) -> None:
    """Its time falls back to the default capacity."""
    slot = create(workshop, TUESDAY, time(9), time(10), is_available=False)

    slots.delete_slot(workshop.database, EMPLOYEE, slot.id)

    assert workshop.book().status == "pending"
    with workshop.database.reading() as connection, pytest.raises(NotFound):
        slots.get_slot(connection, workshop.policy, ADMIN, slot.id)
    with pytest.raises(NotFound):
        slots.delete_slot(workshop.database, EMPLOYEE, slot.id)
    with pytest.raises(NotFound):
        slots.update_slot(workshop.database, workshop.policy, EMPLOYEE, new_id(), {})


def test_bulk_creation(workshop: Workshop) -> None:
    """Hourly, 9 to 17, on weekdays; what is there stays; twice adds nothing."""
    kept = create(workshop, TUESDAY, time(9), time(12), max_concurrent_appointments=9)

    first = slots.bulk_create(workshop.database, workshop.policy, ADMIN, TODAY, SATURDAY)
    again = slots.bulk_create(workshop.database, workshop.policy, ADMIN, TODAY, SATURDAY)

    assert (first, again) == (5 * 8 - 1, 0)
    rows = listed(workshop).rows
    assert kept.id in {row.id for row in rows}
    monday = [row for row in rows if row.date == TODAY]
    assert [(row.start_time.hour, row.end_time.hour) for row in monday] == [(h, h + 1) for h in range(9, 17)]
    assert {row.max_concurrent_appointments for row in monday} == {3}


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        (TUESDAY, TODAY, "end_date"),
        (TODAY, TODAY + timedelta(days=366), "end_date"),
        (date.min, date.max, "end_date"),
        (date.max, date.max, "start_date"),
    ],
)
def test_bulk_creation_over_too_much(workshop: Workshop, start: date, end: date, field: str) -> None:
    """At most 366 days, in order, within the calendar."""
    with pytest.raises(FieldErrors) as caught:
        slots.bulk_create(workshop.database, workshop.policy, ADMIN, start, end)
    assert field in caught.value.errors


def test_bulk_creation_over_a_whole_year(workshop: Workshop) -> None:
    """366 days are one command, also in the first year of the calendar."""
    year = timedelta(days=365)

    assert slots.bulk_create(workshop.database, workshop.policy, ADMIN, TODAY, TODAY + year) == 262 * 8
    assert slots.bulk_create(workshop.database, workshop.policy, ADMIN, date.min, date.min) == 8
    assert listed(workshop, end=date.min).count == 8


def test_seeding(workshop: Workshop) -> None:
    """From today on, weekends left out, with the given hours up to midnight."""
    seed = {"days": 7, "start_hour": 22, "end_hour": 24, "now": NOW}

    added = slots.seed_slots(workshop.database, workshop.policy, **seed)  # type: ignore[arg-type]
    again = slots.seed_slots(workshop.database, workshop.policy, **seed)  # type: ignore[arg-type]

    assert (added, again) == (10, 0)
    rows = listed(workshop).rows
    assert rows[0].date == TODAY
    assert [(row.start_time, row.end_time) for row in rows[:2]] == [(time(22), time(23)), (time(23), time(0))]


@pytest.mark.parametrize(
    ("days", "start", "end", "field"),
    [
        (0, 9, 17, "days"),
        (367, 9, 17, "days"),
        (1, -1, 17, "start_hour"),
        (1, 9, 25, "end_hour"),
        (1, 9, 9, "end_hour"),
    ],
)
def test_seeding_nonsense(workshop: Workshop, days: int, start: int, end: int, field: str) -> None:
    """Named by the argument."""
    with pytest.raises(FieldErrors) as caught:
        slots.seed_slots(
            workshop.database, workshop.policy, days=days, start_hour=start, end_hour=end, now=NOW
        )
    assert list(caught.value.errors) == [field]


def test_free_starts_without_slots(workshop: Workshop) -> None:
    """Hourly from 9 to 17 on weekdays, only those ahead, with the room that is left."""
    workshop.book(day=TODAY, at=time(15, 30))

    found = free(workshop, TODAY - timedelta(days=7), SATURDAY, now=NOW + timedelta(hours=5))

    monday = [start for start in found if start.date == TODAY]
    assert monday == [
        FreeStart(TODAY, time(14), time(15), 3),
        FreeStart(TODAY, time(15), time(16), 2),
        FreeStart(TODAY, time(16), time(17), 2),
    ]
    assert len(found) == 3 + 4 * 8
    assert SATURDAY not in {start.date for start in found}


def test_free_starts_of_defined_slots(workshop: Workshop) -> None:
    """A day with slots has theirs alone; a closed or full one is not offered."""
    create(workshop, TUESDAY, time(8, 15), time(9), max_concurrent_appointments=5)
    create(workshop, TUESDAY, time(10), time(11), is_available=False)
    create(workshop, TUESDAY, time(12), time(13), max_concurrent_appointments=1)
    workshop.book(at=time(12, 15))

    assert free(workshop, TUESDAY, TUESDAY, 30) == [FreeStart(TUESDAY, time(8, 15), time(9), 5)]


@pytest.mark.parametrize("minutes", [1, 30, 60, 90, 240, 24 * 60, 7 * 24 * 60])
def test_what_is_offered_can_be_booked_and_nothing_else(workshop: Workshop, minutes: int) -> None:
    """For every hour of the day: offered exactly when a booking of that length gets in, as often as it says."""
    create(workshop, TUESDAY, time(10), time(11), is_available=False)
    for hour in range(24):
        if hour != 10:
            create(
                workshop, TUESDAY, time(hour), time((hour + 1) % 24), max_concurrent_appointments=1 + hour % 3
            )
    workshop.book(at=time(13, 30), duration_minutes=120)
    offered = {
        start.start_time.hour: start.available_capacity for start in free(workshop, TUESDAY, TUESDAY, minutes)
    }

    fits = {}
    for hour in range(24):
        booked = []
        while True:
            try:
                booked.append(workshop.book(at=time(hour), duration_minutes=minutes))
            except RuleBroken:
                break
        for appointment in booked:
            workshop.act(appointment, Action.CANCEL)
        fits[hour] = len(booked)

    assert offered == {hour: count for hour, count in fits.items() if count}


def test_a_start_that_the_clock_skips_is_not_offered(database: Database) -> None:
    """Nobody is asked to come at 02:00 on the night of the change."""
    berlin = Workshop(database, timezone="Europe/Berlin")
    night = date(2030, 3, 31)
    create(berlin, night, time(2), time(3))
    create(berlin, night, time(3), time(4))

    found = free(berlin, night, night, now=datetime(2030, 3, 1, tzinfo=UTC))

    assert [start.start_time for start in found] == [time(3)]


@pytest.mark.parametrize(
    ("start", "end", "minutes", "field"),
    [
        (TUESDAY, TODAY, 60, "end_date"),
        (TODAY, TODAY + timedelta(days=92), 60, "end_date"),
        (TODAY, TODAY, 0, "duration_minutes"),
        (TODAY, TODAY, 10**12, "duration_minutes"),
    ],
)
def test_free_starts_over_too_much(
    workshop: Workshop, start: date, end: date, minutes: int, field: str
) -> None:
    """At most 92 days, in order, and a length that can be booked."""
    with pytest.raises(FieldErrors) as caught:
        free(workshop, start, end, minutes)
    assert list(caught.value.errors) == [field]


def test_free_starts_at_the_edges(workshop: Workshop) -> None:
    """92 days are allowed; the past and what lies beyond the calendar have none; the default length counts."""
    workshop.policy = replace(workshop.policy, default_duration_minutes=7 * 24 * 60)

    assert free(workshop, TODAY, TODAY + timedelta(days=91))
    assert free(workshop, date.min, date.min + timedelta(days=91)) == []
    assert free(workshop, date.max, date.max) == []
    assert {start.date.year for start in free(workshop, date(9998, 12, 28), date(9999, 1, 5))} == {9998}
