"""Each checker finds what it is for, in a state that was broken by hand, and nothing in one that holds."""

import pytest
from sqlalchemy import Connection

from servease_appt.scheduling.statuses import Action
from tests.appointments import invariants
from tests.appointments.workshop import Workshop, new_id


def plant(workshop: Workshop, **values: str) -> str:
    """Insert an appointment past all rules."""
    row = {
        "id": new_id(),
        "customer_id": new_id(),
        "employee": None,
        "at": "09:00",
        "day": "2030-05-07",
        "minutes": "60",
        "status": "confirmed",
    } | values
    workshop.sql(
        """
        INSERT INTO appointments VALUES (:id, :customer_id, gen_random_uuid(), CAST(:employee AS uuid), 'repair',
            CAST(:day AS date), CAST(:at AS time), CAST(:minutes AS int), :status, '', '', '', NULL,
            gen_random_uuid(), now(), now(), NULL, NULL, 0)
        """,
        **row,
    )
    return str(row["id"])


def check(workshop: Workshop, capacity: int = 3) -> list[str]:
    """The names of the checkers that find something."""
    with workshop.database.reading() as connection:
        return _found(connection, capacity)


def _found(connection: Connection, capacity: int) -> list[str]:
    checkers = {
        "oversold": invariants.oversold(connection, capacity),
        "double_booked": invariants.double_booked(connection),
        "too_near": invariants.too_near(connection),
        "broken_paths": invariants.broken_paths(connection),
    }
    return [name for name, found in checkers.items() if found]


def test_a_state_that_holds(workshop: Workshop) -> None:
    """What the service itself has made is found to be right."""
    workshop.act(workshop.book(), Action.CONFIRM, Action.START, Action.COMPLETE)
    workshop.act(workshop.book(), Action.CANCEL)
    workshop.assign(workshop.book(), new_id())

    assert check(workshop, capacity=1) == []


def test_oversold_at_one_moment(lawless: Workshop) -> None:
    """Two of three overlap in pairs only; a capacity of two holds, one of one does not."""
    for at in ("09:00", "09:45", "10:30"):
        plant(lawless, at=at, status="pending")

    assert check(lawless, capacity=2) == []
    assert check(lawless, capacity=1) == ["oversold"]


def test_oversold_in_a_closed_slot_that_begins_within(lawless: Workshop) -> None:
    """The capacity shrinks while an appointment runs."""
    plant(lawless, status="pending")
    lawless.sql("INSERT INTO time_slots VALUES (gen_random_uuid(), '2030-05-07', '09:30', '00:00', false, 5)")

    assert check(lawless) == ["oversold"]


def test_oversold_after_a_generous_slot(lawless: Workshop) -> None:
    """The capacity falls back to the default when a slot ends."""
    lawless.sql("INSERT INTO time_slots VALUES (gen_random_uuid(), '2030-05-07', '09:00', '09:30', true, 5)")
    for _ in range(2):
        plant(lawless, status="pending")

    assert check(lawless, capacity=1) == ["oversold"]


def test_an_employee_with_two_at_once(lawless: Workshop) -> None:
    """One minute of overlap is enough."""
    employee = new_id()
    plant(lawless, employee=employee)
    plant(lawless, employee=employee, at="09:59", status="in_progress")

    assert "double_booked" in check(lawless)


def test_a_customer_with_two_near_starts(lawless: Workshop) -> None:
    """29 minutes apart, over midnight."""
    owner = new_id()
    plant(lawless, customer_id=owner, at="23:45", status="pending")
    plant(lawless, customer_id=owner, day="2030-05-08", at="00:14", status="pending")

    assert check(lawless) == ["too_near"]


def test_a_status_that_no_history_leads_to(lawless: Workshop) -> None:
    """Confirmed, but nobody confirmed it."""
    plant(lawless)

    assert check(lawless) == ["broken_paths"]


@pytest.mark.parametrize(
    "steps",
    [
        [("pending", "confirmed"), ("pending", "cancelled")],
        [("pending", "confirmed"), ("pending", "confirmed")],
        [("pending", "completed"), ("completed", "cancelled")],
    ],
    ids=["does not continue", "twice", "no such edges"],
)
def test_a_history_that_is_no_path(lawless: Workshop, steps: list[tuple[str, str]]) -> None:
    """A transition that was accepted twice, out of order, or where there is no edge."""
    appointment = plant(lawless, status=steps[-1][1])
    for number, (before, after) in enumerate(steps):
        lawless.sql(
            "INSERT INTO appointment_history VALUES"
            " (gen_random_uuid(), :id, gen_random_uuid(), :before, :after, '', now() + :n * interval '1 s')",
            id=appointment,
            before=before,
            after=after,
            n=number,
        )

    assert check(lawless) == ["broken_paths"]
