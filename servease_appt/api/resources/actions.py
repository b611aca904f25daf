"""What changes an appointment's status, schedule or employee."""

from collections.abc import Callable
from typing import Any

from flask import Response
from marshmallow import Schema

from servease_appt.api.context import container, now
from servease_appt.api.details import action_response
from servease_appt.api.enrichment import Stopwatch
from servease_appt.api.reference_checks import checks_for
from servease_appt.api.routing import RequiredRole, Resource, View
from servease_appt.api.schemas.requests import Assign, Reason, Reschedule
from servease_appt.api.schemas.shapes import ref
from servease_appt.api.tokens import Caller
from servease_appt.appointments import commands
from servease_appt.scheduling.statuses import Action

resource = Resource("actions", "/appointments/", "Appointment actions")

_MESSAGES = {
    Action.CONFIRM: "The appointment is confirmed.",
    Action.START: "The work has begun.",
    Action.COMPLETE: "The work is completed.",
    Action.CANCEL: "The appointment is cancelled.",
    Action.NO_SHOW: "The customer did not come.",
}


def _declare(path: str, role: RequiredRole, summary: str, body: Schema) -> Callable[[View], View]:
    return resource.declare(
        "POST",
        f"/appointments/<appointment_id>/{path}/",
        role=role,
        summary=summary,
        body=body,
        answer=ref("ActionDone"),
        named=True,
    )


@_declare("confirm", RequiredRole.STAFF, "Confirm a pending appointment.", Reason())
def confirm(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Confirm."""
    return _act(Action.CONFIRM, caller, appointment_id, body)


@_declare("start", RequiredRole.STAFF, "Begin the work on a confirmed appointment.", Reason())
def start(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Start."""
    return _act(Action.START, caller, appointment_id, body)


@_declare("complete", RequiredRole.STAFF, "Complete the work.", Reason())
def complete(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Complete."""
    return _act(Action.COMPLETE, caller, appointment_id, body)


@_declare("no_show", RequiredRole.STAFF, "Note that the customer did not come.", Reason())
def no_show(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Mark as no-show."""
    return _act(Action.NO_SHOW, caller, appointment_id, body)


@_declare("cancel", RequiredRole.USERS, "Cancel an appointment that has not ended.", Reason())
def cancel(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Cancel."""
    return _act(Action.CANCEL, caller, appointment_id, body)


def _act(action: Action, caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    database = Stopwatch()
    with database:
        appointment = commands.act(
            container().database,
            caller.actor,
            appointment_id,
            action=action,
            reason=body["reason"],
            now=now(),
        )
    return action_response(
        appointment, caller, database, done=action.leads_to.value, message=_MESSAGES[action]
    )


@_declare(
    "reschedule", RequiredRole.USERS, "Move a pending or confirmed appointment to another time.", Reschedule()
)
def reschedule(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Reschedule."""
    parts = container()
    database = Stopwatch()
    with database:
        appointment = commands.reschedule(
            parts.database, parts.policy, caller.actor, appointment_id, now=now(), **body
        )
    return action_response(
        appointment, caller, database, done="rescheduled", message="The appointment has a new time."
    )


@_declare("assign", RequiredRole.STAFF, "Assign an employee.", Assign())
def assign(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Assign."""
    database = Stopwatch()
    with database:
        appointment = commands.assign(
            container().database,
            checks_for(caller),
            caller.actor,
            appointment_id,
            employee_id=body["employee_id"],
            now=now(),
        )
    return action_response(
        appointment, caller, database, done="assigned", message="The employee is assigned."
    )
