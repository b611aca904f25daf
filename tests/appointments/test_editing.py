"""Who may change which field, and that an edit happens as a whole or not at all."""

from dataclasses import replace
from datetime import time
from decimal import Decimal
from typing import Any

import pytest

from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import (
    FieldErrors,
    Forbidden,
    NotFound,
    PreconditionFailed,
    RuleBroken,
)
from servease_appt.scheduling.statuses import Action
from tests.appointments.workshop import ADMIN, EMPLOYEE, NOW, SERVICE, TODAY, Workshop, customer, new_id

CUSTOMER_FIELDS: dict[str, Any] = {"service_description": "new", "customer_notes": "new"}
STAFF_FIELDS: dict[str, Any] = CUSTOMER_FIELDS | {
    "appointment_type": "inspection",
    "duration_minutes": 30,
    "internal_notes": "new",
    "estimated_cost": Decimal("9.90"),
}
PATCH_ONLY: dict[str, Any] = {"duration_seconds": 3600, "status": "confirmed"}
NOBODYS: dict[str, Any] = {
    "id": new_id(),
    "customer_id": new_id(),
    "vehicle_id": new_id(),
    "assigned_employee_id": new_id(),
    "scheduled_date": "2031-01-01",
    "scheduled_time": "10:00:00",
    "created_by_user_id": new_id(),
    "created_at": "2031-01-01T00:00:00Z",
    "updated_at": "2031-01-01T00:00:00Z",
    "cancelled_at": None,
    "completed_at": None,
    "customer_name": "x",
    "duration": "00:00:00",
    "made_up": 1,
}
EVERYTHING = STAFF_FIELDS | PATCH_ONLY | NOBODYS
OWNER = customer()


@pytest.mark.parametrize("patch", [True, False], ids=["PATCH", "PUT"])
@pytest.mark.parametrize("actor", [OWNER, EMPLOYEE, ADMIN], ids=["owner", "employee", "admin"])
@pytest.mark.parametrize("field", EVERYTHING)
def test_every_field_for_every_role(workshop: Workshop, field: str, actor: Actor, patch: bool) -> None:
    """What one may change is changed, everything else is refused by its name and nothing is written."""
    before = workshop.book(OWNER)
    allowed = CUSTOMER_FIELDS if actor is OWNER else STAFF_FIELDS | PATCH_ONLY if patch else STAFF_FIELDS
    change = {field: EVERYTHING[field]}

    if field in allowed:
        after = workshop.edit(before, change, actor=actor, patch=patch)
        assert getattr(after, field) == change[field]
        assert workshop.get(before) == after
        assert after.version != before.version
        assert after.updated_at > before.updated_at
    else:
        with pytest.raises(FieldErrors) as caught:
            workshop.edit(before, change | {"customer_notes": "with it"}, actor=actor, patch=patch)
        assert list(caught.value.errors) == [field]
        assert "customer_notes" in caught.value.errors[field][0]
        assert workshop.get(before) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("duration_minutes", 0),
        ("duration_minutes", 10_081),
        ("status", "pending"),
    ],
)
def test_a_value_beyond_its_limit_is_the_fields_mistake(workshop: Workshop, field: str, value: Any) -> None:
    """As on creation; and whatever else came with it is not written."""
    before = workshop.book()

    with pytest.raises(FieldErrors) as caught:
        workshop.edit(before, {"customer_notes": "with it", field: value})

    assert list(caught.value.errors)[-1] == field
    assert workshop.get(before) == before


def test_a_cost_can_be_taken_back(workshop: Workshop) -> None:
    """Null is no cost."""
    before = workshop.book(estimated_cost=Decimal(5))

    assert workshop.edit(before, {"estimated_cost": None}).estimated_cost is None


def test_what_is_not_there_cannot_be_edited(workshop: Workshop) -> None:
    """Someone else's is not there either, and that comes before any word on the fields."""
    mine = workshop.book(OWNER)

    with pytest.raises(NotFound):
        workshop.edit(mine, {"made_up": 1}, actor=customer())
    with pytest.raises(NotFound):
        workshop.edit(replace(mine, id=new_id()), {"customer_notes": ""})
    with pytest.raises(Forbidden):
        workshop.edit(mine, {}, actor=SERVICE)


@pytest.mark.parametrize("changes", [{}, {"customer_notes": "", "duration_minutes": 60}])
def test_an_edit_that_changes_nothing(workshop: Workshop, changes: dict[str, Any]) -> None:
    """Leaves the version as it is, and asks no rule: it may be long past."""
    before = workshop.book()
    workshop.sql("UPDATE appointments SET scheduled_date = '2020-01-01'")

    assert workshop.edit(before, changes).updated_at == before.updated_at


def test_a_status_is_the_action_of_that_name(workshop: Workshop) -> None:
    """With one history row each, and only for staff."""
    appointment = workshop.book()

    for status in ("confirmed", "in_progress", "completed"):
        appointment = workshop.edit(appointment, {"status": status}, actor=EMPLOYEE)
    assert [row.new_status for row in workshop.history(appointment)] == [
        "confirmed",
        "in_progress",
        "completed",
    ]
    assert appointment.completed_at is not None

    with pytest.raises(RuleBroken, match="which is final"):
        workshop.edit(appointment, {"status": "cancelled"})


def test_a_status_and_fields_are_one(workshop: Workshop) -> None:
    """Both or none: a refused status takes the fields with it, and a refused field the status."""
    before = workshop.book()

    with pytest.raises(RuleBroken):
        workshop.edit(before, {"status": "completed", "internal_notes": "done", "duration_seconds": 5})
    with pytest.raises(FieldErrors):
        workshop.edit(before, {"status": "confirmed", "duration_minutes": 0})
    assert workshop.get(before) == before
    assert workshop.history(before) == []

    after = workshop.edit(before, {"status": "confirmed", "internal_notes": "done", "duration_seconds": 5})
    assert (after.status, after.internal_notes, after.duration_seconds) == ("confirmed", "done", 5)
    assert len(workshop.history(before)) == 1


def test_a_confirmation_by_status_checks_the_employee(workshop: Workshop) -> None:
    """With the length that comes with it: it would fit now, but not any more."""
    employee = new_id()
    workshop.act(workshop.book(at=time(10), assigned_employee_id=employee), Action.CONFIRM)
    appointment = workshop.book(at=time(9), assigned_employee_id=employee)

    with pytest.raises(RuleBroken, match="employee has another appointment from"):
        workshop.edit(appointment, {"status": "confirmed", "duration_minutes": 61})
    assert workshop.edit(appointment, {"status": "confirmed"}).status == "confirmed"


def test_a_new_length_is_checked_like_a_move(workshop: Workshop) -> None:
    """Room, employee, status and future; not against itself; and it writes no history."""
    workshop.policy = replace(workshop.policy, default_capacity=1)
    workshop.book(at=time(10))
    appointment = workshop.book(at=time(9))

    with pytest.raises(RuleBroken, match="No room"):
        workshop.edit(appointment, {"duration_minutes": 61})
    assert workshop.edit(appointment, {"duration_minutes": 59}).duration_minutes == 59
    assert workshop.history(appointment) == []

    workshop.act(appointment, Action.CONFIRM, Action.START)
    with pytest.raises(RuleBroken, match='the appointment is "in_progress"'):
        workshop.edit(appointment, {"duration_minutes": 30})


def test_a_new_length_for_what_has_begun(workshop: Workshop) -> None:
    """Like a move to a time that is past."""
    appointment = workshop.book(day=TODAY, at=time(8, 30))
    workshop.sql("UPDATE appointments SET scheduled_time = '07:30'")

    with pytest.raises(RuleBroken, match="not in the future"):
        workshop.edit(appointment, {"duration_minutes": 90})


def test_the_condition_on_the_version(workshop: Workshop) -> None:
    """If-Match lets an edit through while the version is one of those named."""
    first = workshop.book()
    second = workshop.edit(first, {"customer_notes": "2"}, if_match=f'"{first.version}"')

    for stale in (f'"{first.version}"', "", '"x"', f'W/"{second.version}"', second.version):
        with pytest.raises(PreconditionFailed):
            workshop.edit(first, {"customer_notes": "3"}, if_match=stale)
    third = workshop.edit(first, {"customer_notes": "3"}, if_match=f'"x", "{second.version}-0a"')
    fourth = workshop.edit(first, {"customer_notes": "4"}, if_match=" * ")

    assert len({first.version, second.version, third.version, fourth.version}) == 4
    assert workshop.get(first).version == fourth.version


def test_every_column_is_part_of_the_version(workshop: Workshop) -> None:
    """Also what others change past this service, without a new time stamp."""
    appointment = workshop.book()

    workshop.sql("UPDATE appointments SET duration_seconds = 1")

    assert workshop.get(appointment).version != appointment.version
    assert workshop.get(appointment).updated_at == NOW
