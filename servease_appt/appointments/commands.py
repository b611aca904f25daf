"""What changes appointments. Each function is one transaction, right under any concurrency.

All take `now` as an aware datetime. When PostgreSQL is away they raise
`servease_appt.db.errors.DatabaseUnavailable`, with nothing written (or, if it went away during the commit, with
everything or nothing).
"""

from dataclasses import replace
from datetime import date, datetime, time
from typing import Any

from servease_appt.appointments import checks, idempotency, locks, store
from servease_appt.appointments.actors import Actor
from servease_appt.appointments.changes import moved, occupied, status_changed
from servease_appt.appointments.editing import edit
from servease_appt.appointments.errors import Forbidden, RuleBroken
from servease_appt.appointments.idempotency import Claim
from servease_appt.appointments.permissions import only_customer, require_admin, require_staff
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import Appointment, NewAppointment
from servease_appt.appointments.values import Fields
from servease_appt.db.engine import Database
from servease_appt.scheduling.intervals import Interval
from servease_appt.scheduling.statuses import OPEN, Action, AppointmentType, Status

__all__ = ["act", "assign", "book", "delete", "edit", "reschedule"]


def book(
    database: Database,
    policy: BookingPolicy,
    actor: Actor,
    request: NewAppointment,
    *,
    now: datetime,
    claim: Claim | None = None,
) -> Appointment:
    """Book. Ask `references.check_references` first.

    With a claim, the idempotency key learns of the booking in the same transaction.

    Raises:
        Forbidden: a customer books for someone else.
        FieldErrors: a value is wrong.
        RuleBroken: in the past, no room, the employee is busy, or the customer has another one too near.
        KeyBusy: the claim ran out and another request took it over; nothing is booked.
    """
    asked = _as_allowed(actor, request)
    values = _new_row(policy, asked)
    request = checks.BookingRequest(
        Interval.of(asked.scheduled_date, asked.scheduled_time, values["duration_minutes"]),
        asked.customer_id,
        asked.assigned_employee_id,
    )
    values |= {"created_by_user_id": actor.user_id, "created_at": now, "updated_at": now}
    with database.transaction() as connection:
        locks.take(connection, request.locks)
        if broken := checks.broken_rules(connection, policy, request, now):
            raise RuleBroken(broken)
        booked = store.add(connection, values)
        if claim is not None:
            idempotency.note_booking(connection, claim, booked.id)
        return booked


def act(
    database: Database, actor: Actor, appointment_id: str, *, action: Action, reason: str, now: datetime
) -> Appointment:
    """Change the status by `action`.

    Raises:
        NotFound: as for reading.
        Forbidden: a customer does anything but cancel.
        FieldErrors: the reason is no text that can be stored.
        RuleBroken: the status does not allow it, or (confirm) the employee is busy.
    """
    only_customer(actor)
    if action is not Action.CANCEL:
        require_staff(actor)
    _check_reason(reason)
    with database.transaction() as connection:
        before = store.find(connection, actor, appointment_id, lock=True)
        if action is Action.CONFIRM and before.assigned_employee_id is not None:
            locks.take(connection, [locks.employee(before.assigned_employee_id)])
        values = status_changed(connection, before, action, store.moment_of_change(before, now))
        after = store.change(connection, before, values)
        store.record(connection, actor, before, after, reason)
        return after


def reschedule(
    database: Database,
    policy: BookingPolicy,
    actor: Actor,
    appointment_id: str,
    *,
    new_date: date,
    new_time: time,
    reason: str,
    now: datetime,
) -> Appointment:
    """Move to another time; the old and the new schedule appear in the history's reason.

    The time that it has already is checked like any other, and changes nothing.
    Raises `NotFound`, `FieldErrors` (named new_date, new_time, reason) and `RuleBroken`.
    """
    fields = Fields()
    fields.day("new_date", new_date)
    fields.time_of_day("new_time", new_time)
    fields.text("reason", reason)
    fields.settle()
    with database.transaction() as connection:
        before = store.find(connection, actor, appointment_id, lock=True)
        wanted = replace(before, scheduled_date=new_date, scheduled_time=new_time)
        request = moved(before, wanted)
        locks.take(connection, request.locks)
        if broken := checks.broken_rules(connection, policy, request, now):
            raise RuleBroken(broken)
        if wanted == before:
            return before
        values = {
            "scheduled_date": new_date,
            "scheduled_time": new_time,
            "updated_at": store.moment_of_change(before, now),
        }
        after = store.change(connection, before, values)
        told = f"Rescheduled from {_when(before)} to {_when(after)}" + (f": {reason}" if reason else "")
        store.record(connection, actor, before, after, told)
        return after


def assign(
    database: Database, actor: Actor, appointment_id: str, employee_id: str, now: datetime
) -> Appointment:
    """Assign an employee; the same one again changes nothing.

    Raises `Forbidden` for customers, `NotFound`, and `RuleBroken` when the employee is busy or the appointment
    has ended.
    """
    require_staff(actor)
    with database.transaction() as connection:
        before = store.find(connection, actor, appointment_id, lock=True)
        if before.assigned_employee_id == employee_id:
            return before
        if before.status not in OPEN:
            raise RuleBroken(
                [
                    f'Cannot assign: the appointment is "{before.status}";'
                    f" allowed while it is {', '.join(sorted(OPEN))}."
                ]
            )
        locks.take(connection, [locks.employee(employee_id)])
        if broken := checks.employee_conflicts(connection, employee_id, occupied(before), before.id):
            raise RuleBroken(broken)
        values = {
            "assigned_employee_id": employee_id,
            "updated_at": store.moment_of_change(before, now),
        }
        after = store.change(connection, before, values)
        told = f"Assigned to employee {employee_id} (before: {before.assigned_employee_id or 'nobody'})"
        store.record(connection, actor, before, after, told)
        return after


def delete(database: Database, actor: Actor, appointment_id: str) -> None:
    """Delete for good; the history stays. Raises `Forbidden` for all but admins, `NotFound`."""
    require_admin(actor)
    with database.transaction() as connection:
        store.remove(connection, store.find(connection, actor, appointment_id, lock=True))


def _as_allowed(actor: Actor, request: NewAppointment) -> NewAppointment:
    owner = only_customer(actor)
    if owner is None:
        return request
    if request.customer_id != owner:
        raise Forbidden("Customers may book for themselves only.")
    return replace(request, assigned_employee_id=None, internal_notes="", estimated_cost=None)


def _new_row(policy: BookingPolicy, asked: NewAppointment) -> dict[str, Any]:
    """The columns that the request decides; raises `FieldErrors`."""
    duration = policy.default_duration_minutes if asked.duration_minutes is None else asked.duration_minutes
    fields = Fields()
    fields.one_of("appointment_type", asked.appointment_type, list(AppointmentType))
    fields.day("scheduled_date", asked.scheduled_date)
    fields.time_of_day("scheduled_time", asked.scheduled_time)
    fields.duration("duration_minutes", duration)
    fields.text("service_description", asked.service_description)
    fields.text("customer_notes", asked.customer_notes)
    fields.text("internal_notes", asked.internal_notes)
    cost = fields.cost("estimated_cost", asked.estimated_cost)
    fields.settle()
    return {
        "customer_id": asked.customer_id,
        "vehicle_id": asked.vehicle_id,
        "assigned_employee_id": asked.assigned_employee_id,
        "appointment_type": asked.appointment_type,
        "scheduled_date": asked.scheduled_date,
        "scheduled_time": asked.scheduled_time,
        "duration_minutes": duration,
        "status": Status.PENDING.value,
        "service_description": asked.service_description,
        "customer_notes": asked.customer_notes,
        "internal_notes": asked.internal_notes,
        "estimated_cost": cost,
        "duration_seconds": 0,
    }


def _check_reason(reason: str) -> None:
    fields = Fields()
    fields.text("reason", reason)
    fields.settle()


def _when(appointment: Appointment) -> str:
    return f"{appointment.scheduled_date} {appointment.scheduled_time}"
