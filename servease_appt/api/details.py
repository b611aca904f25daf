"""Answers that hold one whole appointment, with its names and its entity tag."""

from collections.abc import Mapping

from flask import Response

from servease_appt.api.context import container, now
from servease_appt.api.enrichment import Stopwatch, name_headers, names_for
from servease_appt.api.responses import json_response
from servease_appt.api.schemas.appointment_json import detail_json
from servease_appt.api.tokens import Caller
from servease_appt.appointments.records import Appointment


def detail_response(
    appointment: Appointment,
    caller: Caller,
    database: Stopwatch,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the detail of `appointment` as `caller` may see it."""
    detail, name_head = _named(appointment, caller, database)
    return json_response(detail, status, {**name_head, "ETag": appointment.etag, **(headers or {})})


def action_response(
    appointment: Appointment, caller: Caller, database: Stopwatch, *, done: str, message: str
) -> Response:
    """Return what an action answers: the word for what was done, a sentence, and the detail."""
    detail, name_head = _named(appointment, caller, database)
    return json_response({"status": done, "message": message, "appointment": detail}, 200, name_head)


def _named(
    appointment: Appointment, caller: Caller, database: Stopwatch
) -> tuple[dict[str, object], dict[str, str]]:
    names = names_for([appointment], caller)
    detail = detail_json(
        appointment,
        names,
        for_staff=caller.actor.is_staff,
        now=now(),
        timezone=container().policy.timezone,
    )
    return detail, name_headers(names, database.ms)
