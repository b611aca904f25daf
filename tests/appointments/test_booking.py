"""Creating an appointment: every rule on its own."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from servease_appt.appointments import slots
from servease_appt.appointments.errors import FieldErrors, Forbidden, RuleBroken
from servease_appt.appointments.records import NewSlot
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


def slot(workshop: Workshop, start: time, end: time, capacity: int, *, available: bool = True) -> None:
    slots.create_slot(
        workshop.database, workshop.policy, ADMIN, NewSlot(TUESDAY, start, end, available, capacity)
    )


def test_a_booking_is_kept_as_asked(workshop: Workshop) -> None:
    """All that staff may give is stored; the rest begins as it must, and history begins with the first change."""
    given: dict[str, Any] = {
        "customer_id": new_id(),
        "vehicle_id": new_id(),
        "appointment_type": "diagnostic",
        "duration_minutes": 45,
        "service_description": "Rattles – at 80 km/h 🚗",
        "customer_notes": "",
        "assigned_employee_id": new_id(),
        "internal_notes": "again",
        "estimated_cost": Decimal(120),
    }

    booked = workshop.book(EMPLOYEE, **given)

    assert {name: getattr(booked, name) for name in given} == given
    assert (booked.scheduled_date, booked.scheduled_time) == (TUESDAY, time(9))
    assert (booked.status, booked.created_by_user_id) == ("pending", EMPLOYEE.user_id)
    assert (booked.created_at, booked.updated_at) == (NOW, NOW)
    assert (booked.cancelled_at, booked.completed_at, booked.duration_seconds) == (None, None, 0)
    assert str(booked.estimated_cost) == "120.00"
    assert workshop.get(booked) == booked
    assert workshop.history(booked) == []


def test_without_a_length_it_is_the_default_one(workshop: Workshop) -> None:
    """DEFAULT_APPOINTMENT_DURATION, not a number in the code."""
    workshop.policy = replace(workshop.policy, default_duration_minutes=25)

    assert workshop.book().duration_minutes == 25


def test_what_a_customer_gives_that_is_for_staff_is_ignored(workshop: Workshop) -> None:
    """Internal notes, cost and employee."""
    booked = workshop.book(
        customer(), internal_notes="mine", estimated_cost=Decimal(-1), assigned_employee_id=new_id()
    )

    assert (booked.internal_notes, booked.estimated_cost, booked.assigned_employee_id) == ("", None, None)


def test_a_customer_books_for_themselves_only(workshop: Workshop) -> None:
    """For another customer: forbidden; a service has no business here."""
    with pytest.raises(Forbidden):
        workshop.book(customer(), customer_id=new_id())
    with pytest.raises(Forbidden):
        workshop.book(SERVICE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("duration_minutes", 0),
        ("duration_minutes", -60),
        ("duration_minutes", 10_081),
        ("duration_minutes", 2**63),
        ("scheduled_date", date(9999, 12, 31)),
    ],
)
def test_a_value_beyond_its_limit_is_the_fields_mistake(workshop: Workshop, field: str, value: Any) -> None:
    """It never reaches PostgreSQL, and the message says what is allowed."""
    with pytest.raises(FieldErrors) as caught:
        workshop.book(**{"day" if field == "scheduled_date" else field: value})

    assert list(caught.value.errors) == [field]


def test_all_mistakes_are_named_at_once(workshop: Workshop) -> None:
    """Not one after the other."""
    with pytest.raises(FieldErrors) as caught:
        workshop.book(day=date.max, duration_minutes=0)

    assert caught.value.errors == {
        "scheduled_date": ["Must not be later than 9998-12-31."],
        "duration_minutes": ["Must be a whole number of minutes from 1 to 10080."],
    }


@pytest.mark.parametrize("at", [time(7, 59), time(8, 0)])
def test_now_is_not_the_future(workshop: Workshop, at: time) -> None:
    """The message has both times and the zone in which they are read."""
    with pytest.raises(RuleBroken, match=r"is not in the future: it is 2030-05-06 08:00 \(UTC\)"):
        workshop.book(day=TODAY, at=at)

    assert workshop.book(day=TODAY, at=time(8, 1)).status == "pending"


def test_the_future_is_judged_in_the_business_time_zone(database: Database) -> None:
    """At 08:00 UTC it is 17:00 in Tokyo."""
    tokyo = Workshop(database, timezone="Asia/Tokyo")

    with pytest.raises(RuleBroken, match="not in the future"):
        tokyo.book(day=TODAY, at=time(17))
    assert tokyo.book(day=TODAY, at=time(17, 1)).scheduled_time == time(17, 1)


def test_a_time_that_the_clock_skips(database: Database) -> None:
    """Nobody can come at 02:30 on the night of the change."""
    berlin = Workshop(database, timezone="Europe/Berlin")
    spring = datetime(2030, 3, 1, tzinfo=UTC)

    with pytest.raises(RuleBroken, match="the clock is put forward"):
        berlin.book(day=date(2030, 3, 31), at=time(2, 30), now=spring)


def test_the_default_capacity(workshop: Workshop) -> None:
    """Three at once where no slot is defined, the fourth is told so, and beside them there is room."""
    for _ in range(3):
        workshop.book()

    with pytest.raises(
        RuleBroken, match="No room from 2030-05-07 09:59 to 2030-05-07 10:59: at most 3 at once"
    ):
        workshop.book(at=time(9, 59))
    assert workshop.book(at=time(10)).status == "pending"
    assert workshop.book(at=time(8), duration_minutes=60).status == "pending"


def test_a_slot_with_a_capacity_of_its_own(workshop: Workshop) -> None:
    """It counts where it covers, also for a booking that only reaches into it."""
    slot(workshop, time(9), time(10), 1)
    workshop.book(at=time(9, 30))

    with pytest.raises(RuleBroken, match="at most 1 at once"):
        workshop.book(at=time(8, 31))
    assert workshop.book(at=time(8, 30)).status == "pending"


def test_a_slot_that_is_not_available(workshop: Workshop) -> None:
    """Nothing may run in it, however empty it is."""
    slot(workshop, time(12), time(13), 5, available=False)

    with pytest.raises(RuleBroken, match="not available"):
        workshop.book(at=time(11, 30))
    assert workshop.book(at=time(11)).status == "pending"
    assert workshop.book(at=time(13)).status == "pending"


def test_over_midnight_both_days_count(workshop: Workshop) -> None:
    """The morning's slot refuses what began the evening before."""
    wednesday = TUESDAY + timedelta(days=1)
    slots.create_slot(
        workshop.database, workshop.policy, ADMIN, NewSlot(wednesday, time(0), time(1), True, 0)
    )

    with pytest.raises(RuleBroken, match="not available"):
        workshop.book(at=time(23, 30), duration_minutes=31)
    assert workshop.book(at=time(23, 30), duration_minutes=30).status == "pending"


def test_the_evening_before_counts(workshop: Workshop) -> None:
    """What began before midnight takes up room after it."""
    workshop.policy = replace(workshop.policy, default_capacity=1)
    workshop.book(at=time(23, 30))

    with pytest.raises(RuleBroken, match="No room"):
        workshop.book(day=TUESDAY + timedelta(days=1), at=time(0, 29))
    assert workshop.book(day=TUESDAY + timedelta(days=1), at=time(0, 30)).status == "pending"


def test_what_takes_days_is_seen_from_every_one_of_them(workshop: Workshop) -> None:
    """A booking of a week takes up its place on its last day too."""
    workshop.policy = replace(workshop.policy, default_capacity=1)
    workshop.book(duration_minutes=7 * 24 * 60)

    with pytest.raises(RuleBroken, match="No room"):
        workshop.book(day=TUESDAY + timedelta(days=7), at=time(8, 59))
    assert workshop.book(day=TUESDAY + timedelta(days=7), at=time(9)).status == "pending"


@pytest.mark.parametrize(
    ("actions", "free"),
    [
        ([], False),
        ([Action.CONFIRM], False),
        ([Action.CONFIRM, Action.START], False),
        ([Action.CONFIRM, Action.START, Action.COMPLETE], True),
        ([Action.CANCEL], True),
        ([Action.CONFIRM, Action.NO_SHOW], True),
    ],
)
def test_only_open_appointments_take_up_room(workshop: Workshop, actions: list[Action], free: bool) -> None:
    """Pending, confirmed and in progress do; what has ended gives its place back."""
    workshop.policy = replace(workshop.policy, default_capacity=1)
    workshop.act(workshop.book(), *actions)

    if free:
        assert workshop.book().status == "pending"
    else:
        with pytest.raises(RuleBroken, match="No room"):
            workshop.book()


def test_an_employee_who_is_busy(workshop: Workshop) -> None:
    """Confirmed and running appointments count, pending ones do not, and the end is not part of one."""
    employee = new_id()
    pending = workshop.book(assigned_employee_id=employee)
    second = workshop.book(at=time(9, 30), assigned_employee_id=employee)
    workshop.act(pending, Action.CONFIRM)

    with pytest.raises(RuleBroken, match="has another appointment from 2030-05-07 09:00 to 2030-05-07 10:00"):
        workshop.book(at=time(9, 59), assigned_employee_id=employee)
    assert workshop.book(at=time(10), assigned_employee_id=employee).status == "pending"
    assert second.status == "pending"


@pytest.mark.parametrize("minutes", [-30, -29, 0, 29, 30])
def test_the_customers_thirty_minutes(workshop: Workshop, minutes: int) -> None:
    """Another open appointment of theirs, however short, must be 30 minutes away, start to start."""
    owner = customer()
    first = workshop.book(owner, at=time(12), duration_minutes=5)
    at = (datetime(2030, 5, 7, 12) + timedelta(minutes=minutes)).time()

    if abs(minutes) == 30:
        assert workshop.book(owner, at=at).status == "pending"
    else:
        with pytest.raises(RuleBroken, match="another appointment at 2030-05-07 12:00"):
            workshop.book(owner, at=at)
        workshop.act(first, Action.CANCEL)
        assert workshop.book(owner, at=at).status == "pending"


def test_every_broken_rule_is_named(workshop: Workshop) -> None:
    """Room, employee and customer at once."""
    employee, owner = new_id(), new_id()
    workshop.policy = replace(workshop.policy, default_capacity=1)
    first = workshop.book(customer_id=owner, assigned_employee_id=employee)
    workshop.act(first, Action.CONFIRM)

    with pytest.raises(RuleBroken) as caught:
        workshop.book(customer_id=owner, assigned_employee_id=employee)

    assert [message.split()[0:2] for message in caught.value.messages] == [
        ["No", "room"],
        ["The", "employee"],
        ["The", "customer"],
    ]


def test_what_is_refused_leaves_nothing(workshop: Workshop) -> None:
    """No row, no history."""
    with pytest.raises(RuleBroken):
        workshop.book(day=TODAY - timedelta(days=1))

    assert workshop.sql("SELECT count(*) FROM appointments") == [(0,)]
    assert workshop.sql("SELECT count(*) FROM appointment_history") == [(0,)]
