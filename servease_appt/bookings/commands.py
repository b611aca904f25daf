"""What changes appointments. Each function is one transaction, right under any concurrency.

All take `now` as an aware datetime. When PostgreSQL is away they raise
`servease_appt.db.errors.DatabaseUnavailable`, with nothing written (or, if it went away during the commit, with
everything or nothing).
"""

from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from servease_appt.bookings.actors import Actor
from servease_appt.bookings.idempotency import Claim
from servease_appt.bookings.policy import BookingPolicy
from servease_appt.bookings.records import Appointment, NewAppointment
from servease_appt.db.engine import Database
from servease_appt.scheduling.statuses import Action


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
    raise NotImplementedError


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
    raise NotImplementedError


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

    Raises `NotFound`, `FieldErrors` (named new_date, new_time, reason) and `RuleBroken`.
    """
    raise NotImplementedError


def assign(
    database: Database, actor: Actor, appointment_id: str, employee_id: str, now: datetime
) -> Appointment:
    """Assign an employee; the same one again changes nothing.

    Raises `Forbidden` for customers, `NotFound`, and `RuleBroken` when the employee is busy or the appointment
    has ended.
    """
    raise NotImplementedError


def edit(
    database: Database,
    policy: BookingPolicy,
    actor: Actor,
    appointment_id: str,
    changes: Mapping[str, Any],
    *,
    now: datetime,
    patch: bool = True,
    if_match: str | None = None,
) -> Appointment:
    """Change fields, all or nothing. What `changes` does not name stays, for PUT as for PATCH.

    Args:
        changes: the body, its values of the right Python types: str, int, Decimal or None. Every name is judged
            here, so unknown and read-only ones must be handed on, not dropped.
        patch: False for PUT, which may not carry `status` and `duration_seconds`.
        if_match: the header as it came.

    Raises:
        NotFound: as for reading.
        PreconditionFailed: `if_match` names none that is current.
        FieldErrors: a field that this actor may not change, is unknown, or has a wrong value.
        RuleBroken: as the action of that status, or as a reschedule for `duration_minutes`.
    """
    raise NotImplementedError


def delete(database: Database, actor: Actor, appointment_id: str) -> None:
    """Delete for good; the history stays. Raises `Forbidden` for all but admins, `NotFound`."""
    raise NotImplementedError
