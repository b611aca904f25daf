"""Booking, once for each Idempotency-Key."""

from time import perf_counter
from typing import Any

from flask import Response, request, url_for

from servease_appt.api.context import api_endpoint, container, now
from servease_appt.api.details import DETAIL, DETAIL_HEADERS, detail_response
from servease_appt.api.enrichment import server_timing
from servease_appt.api.reference_checks import checks_for
from servease_appt.api.responses import raw_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.appointment_requests import STAFF_ONLY_ON_CREATE, AppointmentCreate
from servease_appt.api.tokens import Caller
from servease_appt.appointments import booking
from servease_appt.appointments.idempotency import FIELD as KEY_HEADER
from servease_appt.appointments.idempotency import KeptAnswer, RequestKey
from servease_appt.appointments.records import Appointment, NewAppointment
from servease_appt.rate_limits import Cost
from servease_appt.signals import announce, appointment_changed

_KEPT_HEADERS = ("ETag", "Location", "X-Cache")

resource = Resource("booking", "/appointments/", "Appointments")


@resource.declare(
    "POST",
    "/appointments/",
    role=RequiredRole.USERS,
    cost=Cost.COSTLY,
    summary="Book. Customers book for themselves, staff for anyone.",
    body=AppointmentCreate(),
    customer_body=AppointmentCreate(exclude=STAFF_ONLY_ON_CREATE),
    answer=DETAIL,
    status=201,
    headers=[KEY_HEADER],
    errors=[409, 422],
    answer_headers=["Location", *DETAIL_HEADERS],
)
def book_appointment(caller: Caller, body: dict[str, Any]) -> Response:
    """Book; with a key, answer the same request the same way for a day."""
    parts, references = container(), checks_for(caller)
    key = request.headers.get(KEY_HEADER)
    began_s = perf_counter()
    timing = ""

    def render(appointment: Appointment) -> KeptAnswer:
        nonlocal timing
        database_s = perf_counter() - began_s - references.asked_s
        announce(appointment_changed, appointment_id=appointment.id, change="booked")
        location = url_for(api_endpoint("appointments.get_appointment"), appointment_id=appointment.id)
        response = detail_response(
            appointment, caller, database_s, status=201, headers={"Location": location}
        )
        timing = response.headers["Server-Timing"]
        headers = {name: response.headers[name] for name in _KEPT_HEADERS}
        return KeptAnswer(response.get_data(as_text=True), headers)

    answer = booking.book(
        parts.database,
        parts.policy,
        references,
        caller.actor,
        NewAppointment(**body),
        now=now(),
        render=render,
        once=None if key is None else RequestKey(key, request.get_data()),
    )
    timing = timing or server_timing(perf_counter() - began_s)
    return raw_response(answer.body.encode(), 201, {**answer.headers, "Server-Timing": timing})
