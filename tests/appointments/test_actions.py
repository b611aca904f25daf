"""Status, time and employee change through their actions, and every change is told by one history row."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from servease_appt.appointments import commands, reading
from servease_appt.appointments.errors import FieldErrors, Forbidden, NotFound, RuleBroken
from servease_appt.appointments.records import ARRAY, Appointment
from servease_appt.scheduling.statuses import Action, Status, allowed_actions
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

PATHS = {
    Status.PENDING: (),
    Status.CONFIRMED: (Action.CONFIRM,),
    Status.IN_PROGRESS: (Action.CONFIRM, Action.START),
    Status.COMPLETED: (Action.CONFIRM, Action.START, Action.COMPLETE),
    Status.CANCELLED: (Action.CANCEL,),
    Status.NO_SHOW: (Action.CONFIRM, Action.NO_SHOW),
}


def at(workshop: Workshop, status: Status, **values: object) -> Appointment:
    return workshop.act(workshop.book(**values), *PATHS[status])  # type: ignore[arg-type]


@pytest.mark.parametrize(("status", "action"), list(itertools.product(Status, Action)))
def test_every_action_in_every_status(workshop: Workshop, status: Status, action: Action) -> None:
    """Where the table allows it, the status changes with one history row; elsewhere nothing does."""
    before = at(workshop, status)
    told = len(workshop.history(before))

    if action in allowed_actions(status):
        after = workshop.act(before, action, actor=EMPLOYEE, reason="because")
        row = workshop.history(after)[-1]

        assert after.status == action.leads_to
        assert (row.previous_status, row.new_status, row.change_reason, row.changed_by_user_id) == (
            status,
            action.leads_to,
            "because",
            EMPLOYEE.user_id,
        )
        assert len(workshop.history(after)) == told + 1
        assert (after.completed_at is not None) == (after.status == "completed")
        assert (after.cancelled_at is not None) == (after.status == "cancelled")
    else:
        with pytest.raises(RuleBroken):
            workshop.act(before, action)
        assert workshop.get(before) == before
        assert len(workshop.history(before)) == told


def test_a_customer_cancels_their_own_and_does_nothing_else(workshop: Workshop) -> None:
    """The other actions are for staff; someone else's appointment does not exist for them."""
    owner = customer()
    mine = workshop.book(owner)

    for action in set(Action) - {Action.CANCEL}:
        with pytest.raises(Forbidden):
            workshop.act(mine, action, actor=owner)
    with pytest.raises(NotFound):
        workshop.act(mine, Action.CANCEL, actor=customer())
    with pytest.raises(Forbidden):
        workshop.act(mine, Action.CANCEL, actor=SERVICE)
    assert workshop.act(mine, Action.CANCEL, actor=owner).status == "cancelled"


def test_changes_have_moments_in_their_order(workshop: Workshop) -> None:
    """Also when the clock stands still or goes back between two of them."""
    appointment = workshop.act(workshop.book(), Action.CONFIRM, now=NOW + timedelta(hours=1))
    appointment = workshop.act(appointment, Action.START, Action.COMPLETE, now=NOW)

    moments = [row.changed_at for row in workshop.history(appointment)]

    assert moments == sorted(set(moments))
    assert appointment.updated_at == moments[-1] == appointment.completed_at


def test_a_moment_at_the_end_of_time(workshop: Workshop) -> None:
    """A row that was last changed in the year 9999 can still be changed."""
    appointment = workshop.book()
    end = datetime.max.replace(tzinfo=UTC)
    workshop.sql("UPDATE appointments SET updated_at = :end", end=end)

    assert workshop.act(appointment, Action.CANCEL).status == "cancelled"


def test_confirming_needs_an_employee_who_is_free(workshop: Workshop) -> None:
    """Two pending ones may overlap; only one of them can be confirmed."""
    employee = new_id()
    first, second = (workshop.book(assigned_employee_id=employee) for _ in range(2))
    workshop.act(first, Action.CONFIRM)

    with pytest.raises(RuleBroken, match="has another appointment from"):
        workshop.act(second, Action.CONFIRM)
    workshop.act(first, Action.CANCEL)
    assert workshop.act(second, Action.CONFIRM).status == "confirmed"


def test_rescheduling(workshop: Workshop) -> None:
    """Date and time change, the status does not, and the history tells from when to when and why."""
    before = workshop.act(workshop.book(), Action.CONFIRM)

    after = workshop.reschedule(before, TUESDAY + timedelta(days=1), time(14, 30), reason="ill")

    assert (after.scheduled_date.day, after.scheduled_time, after.status) == (8, time(14, 30), "confirmed")
    row = workshop.history(after)[-1]
    assert (row.previous_status, row.new_status) == ("confirmed", "confirmed")
    assert row.change_reason == "Rescheduled from 2030-05-07 09:00:00 to 2030-05-08 14:30:00: ill"
    assert replace(after, updated_at=before.updated_at) == replace(
        before, scheduled_date=after.scheduled_date, scheduled_time=after.scheduled_time
    )


@pytest.mark.parametrize("status", Status)
def test_only_pending_and_confirmed_can_be_moved(workshop: Workshop, status: Status) -> None:
    """Anything else is refused with what would be allowed."""
    appointment = at(workshop, status)

    if status in {"pending", "confirmed"}:
        assert workshop.reschedule(appointment, TUESDAY, time(15)).scheduled_time == time(15)
    else:
        with pytest.raises(RuleBroken, match="allowed while it is pending or confirmed"):
            workshop.reschedule(appointment, TUESDAY, time(15))


def test_a_move_is_not_in_its_own_way(workshop: Workshop) -> None:
    """Half an hour later in a full workshop, with a busy employee and a customer who has only this one."""
    workshop.policy = replace(workshop.policy, default_capacity=1)
    appointment = workshop.act(workshop.book(assigned_employee_id=new_id()), Action.CONFIRM)

    assert workshop.reschedule(appointment, TUESDAY, time(9, 15)).scheduled_time == time(9, 15)


def test_a_move_is_checked_like_a_booking(workshop: Workshop) -> None:
    """The past, the room, the employee and the customer; a refused one stays where it was."""
    workshop.policy = replace(workshop.policy, default_capacity=1)
    owner, employee = new_id(), new_id()
    other = workshop.book(at=time(12), customer_id=owner, assigned_employee_id=employee)
    workshop.act(other, Action.CONFIRM)
    appointment = workshop.book(customer_id=owner, assigned_employee_id=employee)

    with pytest.raises(RuleBroken, match="not in the future"):
        workshop.reschedule(appointment, TODAY, time(7))
    with pytest.raises(RuleBroken) as caught:
        workshop.reschedule(appointment, TUESDAY, time(12, 15))

    assert len(caught.value.messages) == 3
    assert workshop.get(appointment) == appointment
    assert workshop.history(appointment) == []


def test_a_move_to_where_it_is_changes_nothing(workshop: Workshop) -> None:
    """No new version, no history."""
    appointment = workshop.book()

    assert workshop.reschedule(appointment, TUESDAY, time(9)) == appointment
    assert workshop.history(appointment) == []


def test_an_owner_moves_their_own(workshop: Workshop) -> None:
    """Others do not find it."""
    owner = customer()
    appointment = workshop.book(owner)

    assert workshop.reschedule(appointment, TUESDAY, time(10), actor=owner).scheduled_time == time(10)
    with pytest.raises(NotFound):
        workshop.reschedule(appointment, TUESDAY, time(11), actor=customer())


def test_a_move_to_the_end_of_the_calendar(workshop: Workshop) -> None:
    """Is the field's mistake, not an overflow."""
    appointment = workshop.book()

    with pytest.raises(FieldErrors) as caught:
        workshop.reschedule(appointment, TUESDAY.replace(year=9999), time(9))
    assert list(caught.value.errors) == ["new_date"]
    last = workshop.reschedule(appointment, TUESDAY.replace(year=9998, month=12, day=31), time(23, 59))
    assert last.scheduled_date.year == 9998


def test_assigning(workshop: Workshop) -> None:
    """One history row with both employees; the same one again writes none; customers may not."""
    owner, first, second = customer(), new_id(), new_id()
    appointment = workshop.book(owner)

    appointment = workshop.assign(appointment, first)
    assert workshop.assign(appointment, first) == appointment
    appointment = workshop.assign(appointment, second, actor=EMPLOYEE)

    assert appointment.assigned_employee_id == second
    rows = workshop.history(appointment)
    assert [(row.previous_status, row.new_status) for row in rows] == [("pending", "pending")] * 2
    assert rows[1].change_reason == f"Assigned to employee {second} (before: {first})"
    with pytest.raises(Forbidden):
        workshop.assign(appointment, first, actor=owner)


def test_assigning_needs_an_employee_who_is_free(workshop: Workshop) -> None:
    """A pending appointment too; its own time is not in its way."""
    employee = new_id()
    workshop.act(workshop.book(assigned_employee_id=employee), Action.CONFIRM)
    pending = workshop.book(at=time(9, 30))
    later = workshop.book(at=time(10))

    with pytest.raises(RuleBroken, match="has another appointment from"):
        workshop.assign(pending, employee)
    assert workshop.assign(later, employee).assigned_employee_id == employee


@pytest.mark.parametrize("status", Status)
def test_what_has_ended_is_assigned_to_nobody(workshop: Workshop, status: Status) -> None:
    """Only open appointments have work left."""
    appointment = at(workshop, status)

    if status in {"pending", "confirmed", "in_progress"}:
        assert workshop.assign(appointment, new_id()).assigned_employee_id
    else:
        with pytest.raises(RuleBroken, match="Cannot assign"):
            workshop.assign(appointment, new_id())


def test_deleting(workshop: Workshop) -> None:
    """Admins only; the history outlives the appointment, and its place is free."""
    owner = customer()
    appointment = workshop.act(workshop.book(owner), Action.CONFIRM)

    for actor in (owner, EMPLOYEE, SERVICE):
        with pytest.raises(Forbidden):
            commands.delete(workshop.database, actor, appointment.id)
    commands.delete(workshop.database, ADMIN, appointment.id)

    with pytest.raises(NotFound):
        workshop.get(appointment)
    with pytest.raises(NotFound):
        commands.delete(workshop.database, ADMIN, appointment.id)
    (row,) = workshop.history(appointment)
    with workshop.database.reading() as connection:
        assert reading.get_history_row(connection, ADMIN, row.id) == row
        assert reading.list_history(connection, owner, None, ARRAY).count == 0
