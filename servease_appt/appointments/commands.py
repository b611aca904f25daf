"""What changes an appointment after it was booked. Each function is one transaction, right under any concurrency.

All take `now` as an aware datetime. When PostgreSQL is down they raise
`servease_appt.db.errors.DatabaseUnavailable`, with nothing written (or, if it went down during the commit, with
everything or nothing).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any, Final

from sqlalchemy import Connection

from servease_appt.appointments import checks, locks, store
from servease_appt.appointments.actors import Actor, only_customer, require_admin, require_staff
from servease_appt.appointments.checks import BookingRequest
from servease_appt.appointments.errors import PreconditionFailed, RuleBroken
from servease_appt.appointments.limits import FieldChecks
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import Appointment
from servease_appt.appointments.reference_checks import ReferenceChecks
from servease_appt.db.engine import Database
from servease_appt.scheduling.intervals import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Interval
from servease_appt.scheduling.statuses import (
    OPEN,
    RESCHEDULABLE,
    Action,
    Status,
    action_towards,
    transition_error,
)

_TIMESTAMP_OF: Final = {Action.COMPLETE: "completed_at", Action.CANCEL: "cancelled_at"}
_CUSTOMER: Final = ("service_description", "customer_notes")
_STAFF: Final = (*_CUSTOMER, "appointment_type", "duration_minutes", "internal_notes", "estimated_cost")
_STAFF_PATCH: Final = (*_STAFF, "duration_seconds", "status")
_CHANGES_ELSEWHERE: Final = {
    "status": "Changes through confirm/, start/, complete/, cancel/ and no_show/.",
    "scheduled_date": "Changes through reschedule/.",
    "scheduled_time": "Changes through reschedule/.",
    "assigned_employee_id": "Changes through assign/.",
}


def act(
    database: Database, actor: Actor, appointment_id: str, *, action: Action, reason: str, now: datetime
) -> Appointment:
    """Change the status by `action`.

    Raises:
        NotFound: as for reading.
        Forbidden: a customer does anything but cancel.
        RuleBroken: the status does not allow it, or (confirm) the employee is busy.
    """
    only_customer(actor)
    if action is not Action.CANCEL:
        require_staff(actor)
    with database.transaction() as connection:
        before = store.find(connection, actor, appointment_id, lock=True)
        if action is Action.CONFIRM and before.assigned_employee_id is not None:
            locks.take(connection, [locks.employee(before.assigned_employee_id)])
        values = _status_values(connection, before, action, store.moment_of_change(before, now))
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
    """Move to another time; the history's reason names the old and the new one.

    The time that it has already is checked like any other, and changes nothing.

    Raises:
        NotFound: as for reading.
        FieldErrors: new_date is too late.
        RuleBroken: the status does not allow it, or a rule is against the new time.
    """
    limits = FieldChecks()
    limits.day("new_date", new_date)
    limits.raise_if_invalid()
    with database.transaction() as connection:
        before = store.find(connection, actor, appointment_id, lock=True)
        wanted = replace(before, scheduled_date=new_date, scheduled_time=new_time)
        request = _request_to_move(before, wanted)
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
        history_note = f"Rescheduled from {_when(before)} to {_when(after)}"
        store.record(
            connection, actor, before, after, f"{history_note}: {reason}" if reason else history_note
        )
        return after


def assign(
    database: Database,
    references: ReferenceChecks,
    actor: Actor,
    appointment_id: str,
    *,
    employee_id: str,
    now: datetime,
) -> Appointment:
    """Assign an employee; the same one again changes nothing.

    Raises:
        NotFound: as for reading.
        Forbidden: the actor is a customer.
        FieldErrors: there is no such employee.
        RuleBroken: the employee is busy, or the appointment has ended.
    """
    require_staff(actor)
    with database.reading() as connection:
        assigned = store.find(connection, actor, appointment_id).assigned_employee_id
    if assigned != employee_id:
        references.check_employee(actor, employee_id)
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
        if broken := checks.employee_conflicts(connection, employee_id, _occupied(before), before.id):
            raise RuleBroken(broken)
        values = {
            "assigned_employee_id": employee_id,
            "updated_at": store.moment_of_change(before, now),
        }
        after = store.change(connection, before, values)
        history_note = (
            f"Assigned to employee {employee_id} (before: {before.assigned_employee_id or 'nobody'})"
        )
        store.record(connection, actor, before, after, history_note)
        return after


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

    A PATCH of `status` is the action of that name, after all other fields have got their new values.

    Args:
        changes: the body. What the actor may change has its right Python type; every other name is refused here,
            so unknown and read-only ones must be handed on, not dropped.
        patch: False for PUT, which may not carry `status` and `duration_seconds`.
        if_match: the header as it came.

    Raises:
        NotFound: as for reading.
        PreconditionFailed: `if_match` names none that is current.
        FieldErrors: a field that this actor may not change or that is unknown, or a value beyond its limit.
        RuleBroken: as the action of that status, or as a reschedule for `duration_minutes`.
    """
    limits = _check_changes(
        actor, changes, patch=patch
    )  # before the row is locked: a body may have many fields
    with database.transaction() as connection:
        before = store.find(connection, actor, appointment_id, lock=True)
        if if_match is not None and not _names(if_match, before.version):
            raise PreconditionFailed("The appointment has changed since; get it again.")
        limits.raise_if_invalid()
        action = action_towards(changes.get("status", ""))
        values = {
            name: value
            for name, value in changes.items()
            if name != "status" and getattr(before, name) != value
        }
        wanted = replace(before, **values)
        request = _request_to_move(before, wanted) if "duration_minutes" in values else None
        _take_locks(connection, before, request, action)
        if request is not None and (broken := checks.broken_rules(connection, policy, request, now)):
            raise RuleBroken(broken)
        moment = store.moment_of_change(before, now)
        if action is not None:
            values |= _status_values(connection, wanted, action, moment)
        if not values:
            return before
        after = store.change(connection, before, values | {"updated_at": moment})
        if action is not None:
            store.record(connection, actor, before, after, "")
        return after


def delete(database: Database, actor: Actor, appointment_id: str) -> None:
    """Delete for good; the history stays. Raise `Forbidden` for all but admins, `NotFound`."""
    require_admin(actor)
    with database.transaction() as connection:
        store.remove(connection, store.find(connection, actor, appointment_id, lock=True))


def _check_changes(actor: Actor, changes: Mapping[str, Any], *, patch: bool) -> FieldChecks:
    """Return what is wrong with changes that the actor asks for."""
    allowed = _CUSTOMER if not actor.is_staff else _STAFF_PATCH if patch else _STAFF
    limits = FieldChecks()
    for name, value in changes.items():
        if name not in allowed:
            where = _CHANGES_ELSEWHERE.get(name, "Can't be changed by you.")
            limits.refuse(name, f"{where} What you may change here: {', '.join(allowed)}.")
        elif name == "duration_minutes":
            limits.duration(name, value)
        elif name == "status" and action_towards(value) is None:
            reachable = [status for status in Status if action_towards(status)]
            limits.refuse(name, f"Must be one of: {', '.join(reachable)}.")
    return limits


def _names(if_match: str, version: str) -> bool:
    """Return whether an If-Match header names the version; a weak entity tag never does.

    A tag may go on after the version: it covers what the API adds to a row, such as names, and an edit does not
    depend on that.
    """
    named = re.compile(rf'"{version}(?:-[0-9a-f]+)?"')
    return if_match.strip() == "*" or any(named.fullmatch(tag.strip()) for tag in if_match.split(","))


def _take_locks(
    connection: Connection, before: Appointment, request: BookingRequest | None, action: Action | None
) -> None:
    """Take all locks that the checks of one edit need, in one statement."""
    needed = set(request.locks) if request is not None else set()
    if action is Action.CONFIRM and before.assigned_employee_id is not None:
        needed.add(locks.employee(before.assigned_employee_id))
    locks.take(connection, needed)


def _status_values(
    connection: Connection, appointment: Appointment, action: Action, moment: datetime
) -> dict[str, Any]:
    """Return the columns that the action changes. For CONFIRM the assigned employee's lock must be held.

    Raises:
        RuleBroken: the status does not allow it, or the employee is busy.
    """
    if (reason := transition_error(appointment.status, action)) is not None:
        raise RuleBroken([reason])
    if action is Action.CONFIRM and appointment.assigned_employee_id is not None:
        broken = checks.employee_conflicts(
            connection, appointment.assigned_employee_id, _occupied(appointment), appointment.id
        )
        if broken:
            raise RuleBroken(broken)
    values: dict[str, Any] = {"status": action.leads_to.value, "updated_at": moment}
    if action in _TIMESTAMP_OF:
        values[_TIMESTAMP_OF[action]] = moment
    return values


def _request_to_move(before: Appointment, wanted: Appointment) -> BookingRequest:
    """Return what has to be checked before the appointment may have another time or another length.

    Raises:
        RuleBroken: it is not pending or confirmed, or (an old row) has a length that can't be booked.
    """
    if before.status not in RESCHEDULABLE:
        raise RuleBroken(
            [
                f'Cannot change time or length: the appointment is "{before.status}";'
                f" allowed while it is {' or '.join(sorted(RESCHEDULABLE, reverse=True))}."
            ]
        )
    if not MIN_DURATION_MINUTES <= wanted.duration_minutes <= MAX_DURATION_MINUTES:
        raise RuleBroken(
            [
                f"Cannot be moved: it has a length of {wanted.duration_minutes} minutes, allowed are"
                f" {MIN_DURATION_MINUTES} to {MAX_DURATION_MINUTES}. Change duration_minutes first."
            ]
        )
    return BookingRequest(
        _occupied(wanted), [wanted.customer_id], wanted.assigned_employee_id, appointment_id=before.id
    )


def _occupied(appointment: Appointment) -> Interval:
    """Return the time that the appointment takes up."""
    return Interval.of(appointment.scheduled_date, appointment.scheduled_time, appointment.duration_minutes)


def _when(appointment: Appointment) -> str:
    return f"{appointment.scheduled_date} {appointment.scheduled_time}"
