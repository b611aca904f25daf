"""The actions: they change an appointment's status, schedule or employee."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from flask import Response
from marshmallow import Schema

from servease_appt.api.context import container, now
from servease_appt.api.details import ACTION, action_response
from servease_appt.api.enrichment import NAME_HEADERS
from servease_appt.api.reference_checks import checks_for
from servease_appt.api.routing import RequiredRole, Resource, View
from servease_appt.api.schemas.appointment_requests import Assign, Reason, Reschedule
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
        answer=ACTION,
        answer_headers=NAME_HEADERS,
    )


@_declare("confirm", RequiredRole.STAFF, "Confirm a pending appointment.", Reason())
def confirm_appointment(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Confirm one appointment."""
    return _act(Action.CONFIRM, caller, appointment_id, body)


@_declare("start", RequiredRole.STAFF, "Begin the work on a confirmed appointment.", Reason())
def start_appointment(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Start the work."""
    return _act(Action.START, caller, appointment_id, body)


@_declare("complete", RequiredRole.STAFF, "Complete the work.", Reason())
def complete_appointment(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Complete the work."""
    return _act(Action.COMPLETE, caller, appointment_id, body)


@_declare("no_show", RequiredRole.STAFF, "Note that the customer did not come.", Reason())
def mark_as_no_show(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Note that the customer did not come."""
    return _act(Action.NO_SHOW, caller, appointment_id, body)


@_declare("cancel", RequiredRole.USERS, "Cancel an appointment that has not ended.", Reason())
def cancel_appointment(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Cancel one appointment."""
    return _act(Action.CANCEL, caller, appointment_id, body)


def _act(action: Action, caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    began_s = perf_counter()
    appointment = commands.act(
        container().database,
        caller.actor,
        appointment_id,
        action=action,
        reason=body["reason"],
        now=now(),
    )
    database_s = perf_counter() - began_s
    return action_response(
        appointment, caller, database_s, done=action.leads_to.value, message=_MESSAGES[action]
    )


@_declare(
    "reschedule", RequiredRole.USERS, "Move a pending or confirmed appointment to another time.", Reschedule()
)
def reschedule_appointment(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Give one appointment a new start."""
    parts = container()
    began_s = perf_counter()
    appointment = commands.reschedule(
        parts.database, parts.policy, caller.actor, appointment_id, now=now(), **body
    )
    database_s = perf_counter() - began_s
    return action_response(
        appointment, caller, database_s, done="rescheduled", message="The appointment has a new time."
    )


@_declare("assign", RequiredRole.STAFF, "Assign an employee.", Assign())
def assign_appointment(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Assign an employee to one appointment."""
    references = checks_for(caller)
    began_s = perf_counter()
    appointment = commands.assign(
        container().database,
        references,
        caller.actor,
        appointment_id,
        employee_id=body["employee_id"],
        now=now(),
    )
    database_s = perf_counter() - began_s - references.asked_s
    return action_response(
        appointment, caller, database_s, done="assigned", message="The employee is assigned."
    )
