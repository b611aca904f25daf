"""The rules under concurrency, on a real PostgreSQL, through up to 40 connections.

Every race that the advisory locks decide is run a second time with `locks.take` doing nothing, and must then break
its rule: so it is the locks that hold it, and the race is hard enough to notice.
"""

from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from functools import partial
from typing import Any

import pytest

from servease_appt.appointments import idempotency, locks, slots, store
from servease_appt.appointments.actors import Actor, Role
from servease_appt.appointments.errors import KeyBusy, RuleBroken
from servease_appt.appointments.idempotency import Claim, KeptAnswer, RequestKey
from servease_appt.appointments.records import Appointment, NewSlot
from servease_appt.scheduling.statuses import Action
from tests.appointments import invariants
from tests.appointments.racing import outcomes, race
from tests.appointments.workshop import ADMIN, NOW, TODAY, TUESDAY, Workshop, customer, new_id

REQUEST = RequestKey("the key", b"the body")
ATTEMPTS = 200
ROUNDS = 20
"""How often a race without locks is tried before it counts as harmless."""


def broken(workshop: Workshop) -> list[Any]:
    with workshop.database.reading() as connection:
        return invariants.all_broken(connection, workshop.policy.default_capacity)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "take", lambda *_: None)


@pytest.fixture
def no_row_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    find = store.find
    monkeypatch.setattr(store, "find", lambda *where, **_: find(*where))


@pytest.mark.parametrize("capacity", [1, 3, 10])
def test_a_defined_slot_is_sold_out_exactly(workshop: Workshop, capacity: int) -> None:
    """Of 200 bookings at once as many get in as the slot takes, none more, none less."""
    slots.create_slot(
        workshop.database, workshop.policy, ADMIN, NewSlot(TUESDAY, time(9), time(10), True, capacity)
    )

    results = race([workshop.book] * ATTEMPTS)

    assert outcomes(results) == {"Appointment": capacity, "RuleBroken": ATTEMPTS - capacity}
    assert broken(workshop) == []


def test_the_default_capacity_is_sold_out_exactly(workshop: Workshop) -> None:
    """Without any slot row there is nothing that a row lock could hold; it is exact all the same."""
    results = race([workshop.book] * ATTEMPTS)

    assert outcomes(results) == {"Appointment": 3, "RuleBroken": ATTEMPTS - 3}
    assert broken(workshop) == []


def test_bookings_of_many_shapes_fill_the_day_without_overselling(workshop: Workshop) -> None:
    """Starts and lengths that overlap in all ways, over midnight too, never exceed the capacity."""
    starts = [time(hour, minute) for hour in (21, 22, 23) for minute in (0, 20, 40)]
    shapes = [(at, minutes) for at in starts for minutes in (30, 60, 90, 150)]

    results = race([partial(workshop.book, at=at, duration_minutes=minutes) for at, minutes in shapes * 3])

    assert outcomes(results).keys() == {"Appointment", "RuleBroken"}
    assert broken(workshop) == []


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_slot_is_oversold(workshop: Workshop) -> None:
    """The proof that the races above can fail."""
    assert _breaks(workshop, lambda day: [partial(workshop.book, day=day)] * 20)


def test_closing_a_slot_and_booking_it_have_an_order(workshop: Workshop) -> None:
    """What gets in did so before the slot closed: afterwards nothing does, and nothing fails otherwise."""
    slot = slots.create_slot(
        workshop.database, workshop.policy, ADMIN, NewSlot(TUESDAY, time(9), time(10), True, 100)
    )

    def close() -> None:
        slots.update_slot(workshop.database, workshop.policy, ADMIN, slot.id, {"is_available": False})

    results = race([workshop.book] * 20 + [close] + [workshop.book] * 20)

    assert outcomes(results).keys() <= {"Appointment", "NoneType", "RuleBroken"}
    with pytest.raises(RuleBroken, match="not available"):
        workshop.book()


def test_crossing_reschedules_never_deadlock(workshop: Workshop) -> None:
    """Two appointments of one employee and one customer swap days, 100 times each way at once."""
    employee, owner = new_id(), new_id()
    wednesday = TUESDAY + timedelta(days=1)
    first = workshop.book(day=TUESDAY, customer_id=owner, assigned_employee_id=employee)
    second = workshop.book(day=wednesday, customer_id=owner, assigned_employee_id=employee)

    def swap(appointment: Appointment, number: int) -> Appointment:
        day = (TUESDAY, wednesday)[number % 2]
        return workshop.reschedule(appointment, day, time(8 + number % 8))

    results = race([partial(swap, (first, second)[n % 2], n // 2) for n in range(200)])

    assert outcomes(results).keys() <= {"Appointment", "RuleBroken"}
    assert broken(workshop) == []


def test_fifty_cancels_are_one(workshop: Workshop) -> None:
    """One is accepted, 49 are told that it is cancelled, one history row is written, one place is free."""
    workshop.policy = Workshop(workshop.database, capacity=1).policy
    appointment = workshop.book()

    results = race([partial(workshop.act, appointment, Action.CANCEL)] * 50)

    assert outcomes(results) == {"Appointment": 1, "RuleBroken": 49}
    assert [row.new_status for row in workshop.history(appointment)] == ["cancelled"]
    again = race([workshop.book] * 10)
    assert outcomes(again) == {"Appointment": 1, "RuleBroken": 9}
    assert broken(workshop) == []


@pytest.mark.usefixtures("no_row_lock")
def test_without_the_row_lock_a_cancellation_counts_often(workshop: Workshop) -> None:
    """The proof that the race of the cancels can fail."""
    for hour in range(8):
        appointment = workshop.book(at=time(9 + hour))
        race([partial(workshop.act, appointment, Action.CANCEL)] * 50)
        if len(workshop.history(appointment)) > 1:
            break

    assert broken(workshop) != []


def test_of_conflicting_transitions_one_wins(workshop: Workshop) -> None:
    """Start, cancel and no-show of one confirmed appointment: one is accepted each time, and later ones only
    where they follow on it."""
    for hour in range(8):
        appointment = workshop.act(workshop.book(at=time(9 + hour)), Action.CONFIRM)
        actions = [Action.START, Action.NO_SHOW] * 10

        results = race([partial(workshop.act, appointment, action) for action in actions])

        assert outcomes(results) == {"Appointment": 1, "RuleBroken": 19}
        assert len(workshop.history(appointment)) == 2
    assert broken(workshop) == []


def test_an_employee_is_confirmed_for_one_of_many(workshop: Workshop) -> None:
    """Of 20 overlapping appointments of one employee that are confirmed at once one is."""
    results = _confirm_race(workshop, new_id(), TUESDAY)

    assert outcomes(results) == {"Appointment": 1, "RuleBroken": 19}
    assert broken(workshop) == []


def test_an_employee_is_assigned_to_one_of_many(workshop: Workshop) -> None:
    """Of 20 overlapping confirmed appointments that get one employee at once one does."""
    results = _assign_race(workshop, new_id(), TUESDAY)

    assert outcomes(results) == {"Appointment": 1, "RuleBroken": 19}
    assert broken(workshop) == []


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("racing", ["confirm", "assign"])
def test_without_locks_the_table_itself_keeps_the_employee(workshop: Workshop, racing: str) -> None:
    """The exclusion constraint is the second line: one wins then too, and the others are refused politely."""
    run = {"confirm": _confirm_race, "assign": _assign_race}[racing]

    results = run(workshop, new_id(), TUESDAY)

    assert outcomes(results) == {"Appointment": 1, "RuleBroken": 19}


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("racing", ["confirm", "assign"])
def test_without_locks_and_constraint_the_employee_is_double_booked(lawless: Workshop, racing: str) -> None:
    """The proof that the two races for an employee can fail."""
    run = {"confirm": _confirm_race, "assign": _assign_race}[racing]

    assert any(
        run(lawless, new_id(), TUESDAY + timedelta(days=number)) and broken(lawless)
        for number in range(ROUNDS)
    )


def test_a_customer_gets_one_of_many_near_starts(workshop: Workshop) -> None:
    """Of 30 bookings of one customer within 29 minutes one gets in, however much room there is."""
    workshop.policy = Workshop(workshop.database, capacity=100).policy
    owner = customer()

    results = race([partial(workshop.book, owner, at=time(9, minute)) for minute in range(30)])

    assert outcomes(results) == {"Appointment": 1, "RuleBroken": 29}
    assert broken(workshop) == []


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_customer_gets_several(workshop: Workshop) -> None:
    """The proof that the race of the 30 minutes can fail."""
    workshop.policy = Workshop(workshop.database, capacity=100).policy
    owner = customer()

    assert _breaks(
        workshop, lambda day: [partial(workshop.book, owner, day=day, at=time(9, n)) for n in range(20)]
    )


def test_one_key_books_once(workshop: Workshop) -> None:
    """Of 50 requests with one key at once one books; the others get its answer, or hear that it is running."""
    user = Actor(new_id(), Role.CUSTOMER)

    results = race([partial(workshop.book_once, user, REQUEST)] * 50)

    assert set(outcomes(results)) <= {"KeptAnswer", "KeyBusy"}
    assert len({result.body for result in results if isinstance(result, KeptAnswer)}) == 1
    assert workshop.sql("SELECT count(*) FROM appointments") == [(1,)]


def test_a_holder_that_was_taken_over_books_nothing(workshop: Workshop) -> None:
    """The slow holder's booking is undone as a whole, and the later one's stands."""
    user = customer()
    slow = idempotency.claim(workshop.database, user, REQUEST, NOW)
    later = idempotency.claim(workshop.database, user, REQUEST, NOW + idempotency.LEASE)
    assert isinstance(slow, Claim)
    assert isinstance(later, Claim)

    results = race(
        [partial(workshop.book, user, claim=slow), partial(workshop.book, user, at=time(12), claim=later)]
    )

    assert isinstance(results[0], KeyBusy)
    assert isinstance(results[1], Appointment)
    assert workshop.sql("SELECT count(*) FROM appointments") == [(1,)]


def test_two_edits_of_one_version_are_one(workshop: Workshop) -> None:
    """Of 20 PATCHes that name the same version one is accepted: no update is lost."""
    appointment = workshop.book()

    results = race(
        [
            partial(
                workshop.edit, appointment, {"customer_notes": str(n)}, if_match=f'"{appointment.version}"'
            )
            for n in range(20)
        ]
    )

    assert outcomes(results) == {"Appointment": 1, "PreconditionFailed": 19}


@pytest.mark.usefixtures("no_row_lock")
def test_without_the_row_lock_updates_are_lost(workshop: Workshop) -> None:
    """The proof that the race of the edits can fail."""
    accepted = []
    for number in range(ROUNDS):
        appointment = workshop.book(day=TUESDAY + timedelta(days=number))
        note = partial(workshop.edit, appointment, if_match=f'"{appointment.version}"')
        results = race([partial(note, {"customer_notes": str(n)}) for n in range(20)])
        accepted.append(outcomes(results)["Appointment"])
        if accepted[-1] > 1:
            break

    assert max(accepted) > 1


def test_bulk_creation_at_once_adds_each_slot_once(workshop: Workshop) -> None:
    """Ten times the same month at once: together they add what one would have added."""
    end = TODAY + timedelta(days=27)

    results = race([partial(slots.bulk_create, workshop.database, workshop.policy, ADMIN, TODAY, end)] * 10)

    assert sorted(results, key=str) == [0] * 9 + [160]


def _breaks(workshop: Workshop, racers: Callable[[date], Sequence[Callable[[], Appointment]]]) -> bool:
    """Whether the race breaks a rule in one of some rounds, each on a day of its own."""
    for number in range(ROUNDS):
        race(racers(TUESDAY + timedelta(days=number)))
        if broken(workshop):
            return True
    return False


def _confirm_race(workshop: Workshop, employee: str, day: date) -> list[Appointment | Exception]:
    workshop.policy = Workshop(workshop.database, capacity=100).policy
    booked = [workshop.book(day=day, at=time(9, n), assigned_employee_id=employee) for n in range(20)]
    return race([partial(workshop.act, appointment, Action.CONFIRM) for appointment in booked])


def _assign_race(workshop: Workshop, employee: str, day: date) -> list[Appointment | Exception]:
    workshop.policy = Workshop(workshop.database, capacity=100).policy
    booked = [workshop.act(workshop.book(day=day, at=time(9, n)), Action.CONFIRM) for n in range(20)]
    return race([partial(workshop.assign, appointment, employee) for appointment in booked])
