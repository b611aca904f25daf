"""Answers that hold one whole appointment."""

import hashlib
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

    The tag is strong: it changes with every byte of the answer. It begins with the version of the row.

    Args:
        appointment: what to show.
        caller: who gets it; customers get no `internal_notes`.
        database_s: seconds spent on the database.
        status: the HTTP status.
        headers: more headers.
    """
    schema = DETAIL if caller.actor.is_staff else _CUSTOMER_DETAIL
    response = named_response(
        schema, appointment, [appointment], caller, database_s=database_s, status=status, headers=headers
    )
    of_body = hashlib.sha256(response.get_data()).hexdigest()[:16]
    response.headers["ETag"] = f'"{appointment.version}-{of_body}"'
    return response


def unless_known(response: Response, if_none_match: str | None) -> Response:
    """Return the detail, or 304 without a body if the caller has it already.

    Args:
        response: what `detail_response` returned.
        if_none_match: the request's header; None if there is none.
    """
    if if_none_match is None:
        return response
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    if tags == ["*"] or response.headers["ETag"] in tags:
        response.status_code = 304
        response.set_data(b"")
        del response.headers["Content-Type"]
        del response.headers["Content-Length"]
    return response


def action_response(
    appointment: Appointment, caller: Caller, database_s: float, *, done: str, message: str
) -> Response:
    """Announce what an action has done, and return its answer: the word for it, a sentence, and the detail."""
    announce(appointment_changed, appointment_id=appointment.id, change=done)
    schema = ACTION if caller.actor.is_staff else _CUSTOMER_ACTION
    answer = {"status": done, "message": message, "appointment": appointment}
    return named_response(schema, answer, [appointment], caller, database_s=database_s)
