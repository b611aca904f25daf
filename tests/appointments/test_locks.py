"""The numbers of the locks."""

import datetime as dt
import time
from collections.abc import Callable
from datetime import date
from threading import Thread

import pytest

from servease_appt.appointments import checks, locks, slots
from servease_appt.appointments.records import NewSlot
from servease_appt.scheduling.intervals import Interval
from tests.appointments.workshop import ADMIN, TUESDAY, Workshop, new_id

ID = "00000000-0000-4000-8000-000000000001"


def test_the_numbers_never_change() -> None:
    """Two versions of the service that run side by side must lock the same."""
    assert locks.day(date(2030, 5, 7)) == -2676352270055994943
    assert locks.employee(ID) == 7446316782677155690
    assert locks.customer(ID) == 8200771363218648044


def test_a_wish_locks_all_that_its_checks_look_at() -> None:
    """Every day that it touches, each id of the customer, and the employee if there is one."""

    interval = Interval.of(TUESDAY, dt.time(23), 25 * 60 + 1)
    request = checks.BookingRequest(interval, [new_id(), new_id()], new_id())

    days = {locks.day(date(2030, 5, day)) for day in (7, 8, 9)}
    assert set(request.locks) == days | {
        *map(locks.customer, request.customer_ids),
        locks.employee(str(request.employee_id)),
    }
    assert set(checks.BookingRequest(interval, request.customer_ids, None).locks) == days | set(
        map(locks.customer, request.customer_ids)
    )


def granted(workshop: Workshop, *, waiting: bool) -> int:
    """How many advisory locks those hold that are waiting for one, or that are not."""
    (row,) = workshop.sql(
        """
        WITH lock AS (
            SELECT pid, granted, bool_and(granted) OVER (PARTITION BY pid) AS content FROM pg_locks
            WHERE locktype = 'advisory'
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        )
        SELECT count(*) FILTER (WHERE granted AND content <> :waiting),
            count(*) FILTER (WHERE NOT granted) FROM lock
        """,
        waiting=waiting,
    )
    return int(row[0]) if bool(row[1]) is waiting else -1


def test_locks_are_held_to_the_end_of_the_transaction(workshop: Workshop) -> None:
    """Each once, and none is left behind."""
    with workshop.database.transaction() as connection:
        locks.take(connection, [5, -7, 3, 2**62, -(2**63), 5])
        assert granted(workshop, waiting=False) == 5
    assert granted(workshop, waiting=False) == 0


@pytest.mark.parametrize("command", ["create", "move from", "move to", "delete", "bulk"])
def test_a_slot_waits_for_the_bookings_of_its_day(workshop: Workshop, command: str) -> None:
    """Whoever has checked a day's capacity writes before the capacity changes."""
    wednesday = TUESDAY + dt.timedelta(days=1)
    busy, free = (wednesday, TUESDAY) if command == "move to" else (TUESDAY, wednesday)
    where = (workshop.database, workshop.policy, ADMIN)
    hour = (dt.time(9), dt.time(10))
    slot = slots.create_slot(*where, NewSlot(free if command == "move to" else busy, *hour))
    run: dict[str, Callable[[], object]] = {
        "create": lambda: slots.create_slot(*where, NewSlot(busy, dt.time(11), dt.time(12))),
        "move from": lambda: slots.update_slot(*where, slot.id, {"date": free}),
        "move to": lambda: slots.update_slot(*where, slot.id, {"date": busy}),
        "delete": lambda: slots.delete_slot(workshop.database, ADMIN, slot.id),
        "bulk": lambda: slots.bulk_create(*where, busy, busy),
    }

    waiting = Thread(target=run[command])
    with workshop.database.transaction() as connection:
        locks.take(connection, [locks.day(busy)])
        before = workshop.sql("SELECT * FROM time_slots")
        waiting.start()
        held = _wait_for_the_waiting(workshop, waiting)
        assert workshop.sql("SELECT * FROM time_slots") == before
    waiting.join(10)

    assert held >= 0
    assert workshop.sql("SELECT * FROM time_slots") != before


def _wait_for_the_waiting(workshop: Workshop, waiting: Thread) -> int:
    """How many locks the thread holds while it waits for one; -1 when it does not wait."""
    deadline = time.monotonic() + 10
    while (
        (found := granted(workshop, waiting=True)) < 0 and time.monotonic() < deadline and waiting.is_alive()
    ):
        waiting.join(0.01)
    return found


def test_locks_are_taken_in_the_order_of_their_numbers(workshop: Workshop) -> None:
    """Whatever order they are asked for in: whoever waits for one holds only lower ones."""

    def take_all() -> None:
        with workshop.database.transaction() as connection:
            locks.take(connection, [5, -7, 3, -5])

    waiting = Thread(target=take_all)
    with workshop.database.transaction() as connection:
        locks.take(connection, [3])
        waiting.start()
        held = _wait_for_the_waiting(workshop, waiting)
    waiting.join(10)

    assert held == 2
