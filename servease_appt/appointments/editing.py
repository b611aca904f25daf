"""Changing the fields of an appointment: who may change which, all or nothing."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from servease_appt.appointments import checks, locks, store
from servease_appt.appointments.actors import Actor
from servease_appt.appointments.changes import moved, status_changed
from servease_appt.appointments.errors import PreconditionFailed, RuleBroken
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import Appointment
from servease_appt.appointments.values import MAX_INTEGER, Fields
from servease_appt.db.engine import Database
from servease_appt.scheduling.statuses import Action, AppointmentType, Status, action_towards

_CUSTOMER: Final = ("service_description", "customer_notes")
_STAFF: Final = (*_CUSTOMER, "appointment_type", "duration_minutes", "internal_notes", "estimated_cost")
_STAFF_PATCH: Final = (*_STAFF, "duration_seconds", "status")
_ELSEWHERE: Final = {
    "status": "Changes through confirm/, start/, complete/, cancel/ and no_show/.",
    "scheduled_date": "Changes through reschedule/.",
    "scheduled_time": "Changes through reschedule/.",
    "assigned_employee_id": "Changes through assign/.",
}


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
    with database.transaction() as connection:
        before = store.find(connection, actor, appointment_id, lock=True)
        if if_match is not None and not _names(if_match, before.etag):
            raise PreconditionFailed("The appointment has changed since; get it again.")
        asked = _judge(actor, changes, patch=patch)
        action = action_towards(asked.pop("status", ""))
        values = {name: value for name, value in asked.items() if getattr(before, name) != value}
        wanted = replace(before, **values)
        request = moved(before, wanted) if "duration_minutes" in values else None
        _take_locks(connection, before, request, action)
        if request is not None and (broken := checks.broken_rules(connection, policy, request, now)):
            raise RuleBroken(broken)
        moment = store.moment_of_change(before, now)
        if action is not None:
            values |= status_changed(connection, wanted, action, moment)
        if not values:
            return before
        after = store.change(connection, before, values | {"updated_at": moment})
        if action is not None:
            store.record(connection, actor, before, after, "")
        return after


def _take_locks(
    connection: Connection, before: Appointment, request: checks.BookingRequest | None, action: Action | None
) -> None:
    """All that the checks of this edit need, at once."""
    needed = set(request.locks) if request is not None else set()
    if action is Action.CONFIRM and before.assigned_employee_id is not None:
        needed.add(locks.employee(before.assigned_employee_id))
    locks.take(connection, needed)


def _judge(actor: Actor, changes: Mapping[str, Any], *, patch: bool) -> dict[str, Any]:
    """The changes, if the actor may make each of them and each has a value that can be stored."""
    allowed = _CUSTOMER if not actor.is_staff else _STAFF_PATCH if patch else _STAFF
    asked = dict(changes)
    fields = Fields()
    for name, value in changes.items():
        if name not in allowed:
            where = _ELSEWHERE.get(name, "Can't be changed by you.")
            fields.refuse(name, f"{where} What you may change here: {', '.join(allowed)}.")
        elif name == "appointment_type":
            fields.one_of(name, value, list(AppointmentType))
        elif name == "duration_minutes":
            fields.duration(name, value)
        elif name == "duration_seconds":
            fields.integer(name, value, 0, MAX_INTEGER)
        elif name == "estimated_cost":
            asked[name] = fields.cost(name, value)
        elif name == "status":
            fields.one_of(name, value, [status for status in Status if action_towards(status)])
        else:
            fields.text(name, value)
    fields.settle()
    return asked


def _names(if_match: str, etag: str) -> bool:
    """Whether an If-Match header names the entity tag; a weak one never does."""
    return if_match.strip() == "*" or etag in (tag.strip() for tag in if_match.split(","))
