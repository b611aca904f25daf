"""Book an appointment, once for each idempotency key."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from servease_appt.appointments import checks, idempotency, locks, store
from servease_appt.appointments.actors import Actor, only_customer
from servease_appt.appointments.checks import BookingRequest
from servease_appt.appointments.errors import Forbidden, RuleBroken
from servease_appt.appointments.idempotency import Claim, KeptAnswer, RequestKey
from servease_appt.appointments.limits import FieldChecks
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import Appointment, NewAppointment
from servease_appt.appointments.reference_checks import ReferenceChecks
from servease_appt.db.engine import Database
from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.scheduling.intervals import Interval
from servease_appt.scheduling.statuses import Status


def book(
    database: Database,
    policy: BookingPolicy,
    references: ReferenceChecks,
    actor: Actor,
    asked: NewAppointment,
    *,
    now: datetime,
    render: Callable[[Appointment], KeptAnswer],
    once: RequestKey | None = None,
) -> KeptAnswer:
    """Book, and return the answer. With a key that has booked before, return the first answer again.

    Args:
        now: aware; the moment for which the rules are checked.
        render: makes the answer for the appointment. Called outside of any transaction.
        once: the idempotency key, with the request that it stands for.

    Raises:
        KeyReused, KeyBusy: as `idempotency.claim`.
        Every error of `create`.
    """
    if once is None:
        return render(create(database, policy, references, actor, asked, now=now))
    claim = idempotency.claim(database, actor, once, now)
    if isinstance(claim, KeptAnswer):
        return claim
    if claim.appointment_id is not None:
        with database.reading() as connection:
            appointment = store.find(connection, actor, claim.appointment_id)
    else:
        try:
            appointment = create(database, policy, references, actor, asked, now=now, claim=claim)
        except BaseException:
            # PostgreSQL may be down by now: then the key becomes free when its lease runs out.
            with suppress(DatabaseUnavailable):
                idempotency.release(database, claim)
            raise
    answer = render(appointment)
    with suppress(DatabaseUnavailable):
        answer = idempotency.keep_answer(database, claim, appointment.id, answer)
    return answer


def create(
    database: Database,
    policy: BookingPolicy,
    references: ReferenceChecks,
    actor: Actor,
    asked: NewAppointment,
    *,
    now: datetime,
    claim: Claim | None = None,
) -> Appointment:
    """Check the references, then the rules, and insert the appointment in the transaction that checked the rules.

    With a claim, the same transaction notes the booking with its key.

    Raises:
        Forbidden: a customer books for someone else.
        FieldErrors: a value is beyond its limit, or a reference is wrong.
        ReferencesUnavailable: as `ReferenceChecks.check_booking`.
        RuleBroken: in the past, no room, the employee is busy, or the customer has another one too near.
        KeyBusy: the claim ran out and another request took it over; nothing is booked.
        DatabaseUnavailable: PostgreSQL is down. If it went down during the commit, the booking may have been made;
            the same key finds out.
    """
    asked = _as_allowed(actor, asked)
    values = _new_row(policy, actor, asked, now)
    other_ids = references.check_booking(
        actor,
        customer_id=asked.customer_id,
        vehicle_id=asked.vehicle_id,
        employee_id=asked.assigned_employee_id,
    )
    request = BookingRequest(
        Interval.of(asked.scheduled_date, asked.scheduled_time, values["duration_minutes"]),
        [asked.customer_id, *other_ids],
        asked.assigned_employee_id,
    )
    with database.transaction() as connection:
        locks.take(connection, request.locks)
        if broken := checks.broken_rules(connection, policy, request, now):
            raise RuleBroken(broken)
        booked = store.add(connection, values)
        if claim is not None:
            idempotency.note_booking(connection, claim, booked.id)
        return booked


def _as_allowed(actor: Actor, asked: NewAppointment) -> NewAppointment:
    """Return the request without what is for staff alone. Raise `Forbidden` where it is for someone else."""
    owner = only_customer(actor)
    if owner is None:
        return asked
    if asked.customer_id != owner:
        raise Forbidden("Customers book for themselves only.")
    return replace(asked, assigned_employee_id=None, internal_notes="", estimated_cost=None)


def _new_row(policy: BookingPolicy, actor: Actor, asked: NewAppointment, now: datetime) -> dict[str, Any]:
    """Return the columns of the new row but for its id. Raise `FieldErrors` for values beyond their limits."""
    duration = policy.default_duration_minutes if asked.duration_minutes is None else asked.duration_minutes
    limits = FieldChecks()
    limits.day("scheduled_date", asked.scheduled_date)
    limits.duration("duration_minutes", duration)
    limits.raise_if_invalid()
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
        "estimated_cost": asked.estimated_cost,
        "duration_seconds": 0,
        "created_by_user_id": actor.user_id,
        "created_at": now,
        "updated_at": now,
    }
