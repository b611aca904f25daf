"""Answers that hold one whole appointment."""

from collections.abc import Mapping

from flask import Response

from servease_appt.api.enrichment import NAME_HEADERS, named_response
from servease_appt.api.schemas.appointments import ActionSchema, AppointmentDetailSchema
from servease_appt.api.tokens import Caller
from servease_appt.appointments.records import Appointment
from servease_appt.signals import announce, appointment_changed

DETAIL_HEADERS = ("ETag", *NAME_HEADERS)
"""The headers that every detail has."""

DETAIL = AppointmentDetailSchema()
ACTION = ActionSchema()
_CUSTOMER_DETAIL = AppointmentDetailSchema(exclude=["internal_notes"])
_CUSTOMER_ACTION = ActionSchema(exclude=["appointment.internal_notes"])


def detail_response(
    appointment: Appointment,
    caller: Caller,
    database_s: float,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the detail of `appointment` as `caller` may see it, with its entity tag.

    Args:
        appointment: what to show.
        caller: who gets it; customers get no `internal_notes`.
        database_s: seconds spent on the database.
        status: the HTTP status.
        headers: more headers.
    """
    schema = DETAIL if caller.actor.is_staff else _CUSTOMER_DETAIL
    tagged = {"ETag": appointment.etag, **(headers or {})}
    return named_response(
        schema, appointment, [appointment], caller, database_s=database_s, status=status, headers=tagged
    )


def action_response(
    appointment: Appointment, caller: Caller, database_s: float, *, done: str, message: str
) -> Response:
    """Announce what an action has done, and return its answer: the word for it, a sentence, and the detail."""
    announce(appointment_changed, appointment_id=appointment.id, change=done)
    schema = ACTION if caller.actor.is_staff else _CUSTOMER_ACTION
    answer = {"status": done, "message": message, "appointment": appointment}
    return named_response(schema, answer, [appointment], caller, database_s=database_s)
