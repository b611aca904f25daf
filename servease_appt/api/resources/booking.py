"""Booking, once for each Idempotency-Key."""

import hashlib
import logging
from contextlib import suppress
from time import perf_counter
from typing import Any

from flask import Response, request, url_for

from servease_appt.api.context import API_NAME, container, now
from servease_appt.api.details import DETAIL, DETAIL_HEADERS, detail_response
from servease_appt.api.enrichment import server_timing
from servease_appt.api.errors import answer_to
from servease_appt.api.responses import raw_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.appointment_requests import STAFF_ONLY_ON_CREATE, AppointmentCreate
from servease_appt.api.tokens import Caller
from servease_appt.appointments import commands, idempotency, reading
from servease_appt.appointments.errors import BookingError, Forbidden
from servease_appt.appointments.idempotency import Claim, StoredAnswer
from servease_appt.appointments.records import Appointment, NewAppointment
from servease_appt.appointments.references import check_references
from servease_appt.db.errors import DatabaseUnavailable

_log = logging.getLogger(__name__)
_KEY_HEADER = "Idempotency-Key"
_KEPT_HEADERS = ("ETag", "Location", "X-Cache")

resource = Resource("booking", "/appointments/", "Appointments")


@resource.declare(
    "POST",
    "/appointments/",
    role=RequiredRole.USERS,
    summary="Book. Customers book for themselves, staff for anyone.",
    body=AppointmentCreate(),
    customer_body=AppointmentCreate(exclude=STAFF_ONLY_ON_CREATE),
    answer=DETAIL,
    status=201,
    headers=[_KEY_HEADER],
    errors=[409, 422],
    answer_headers=["Location", *DETAIL_HEADERS],
)
def book_appointment(caller: Caller, body: dict[str, Any]) -> Response:
    """Book; with a key, answer the same request the same way for a day."""
    wanted = NewAppointment(**body)
    key = request.headers.get(_KEY_HEADER)
    if key is None:
        return _book(caller, wanted, None)
    return _book_once(caller, wanted, key)


def _book_once(caller: Caller, wanted: NewAppointment, key: str) -> Response:
    database = container().database
    began_s = perf_counter()
    claim = idempotency.claim(database, caller.actor, key, _fingerprint(), now())
    if isinstance(claim, StoredAnswer):
        headers = {**claim.headers, "Server-Timing": server_timing(perf_counter() - began_s)}
        return raw_response(claim.body.encode(), claim.status, headers)
    try:
        response = _answer(caller, wanted, claim)
    except BookingError as error:
        response = answer_to(error)
    except BaseException:
        _settle(claim, None)
        raise
    _settle(claim, response)
    return response


def _settle(claim: Claim, response: Response | None) -> None:
    """Keep a final answer for those who ask again; give the key back where there is none.

    PostgreSQL may be gone by now. The key then frees itself, and knows of the booking if there was one.
    """
    database = container().database
    with suppress(DatabaseUnavailable):
        if response is None or response.status_code >= 500:
            idempotency.release(database, claim)
        else:
            idempotency.finish(database, claim, _stored(response))


def _answer(caller: Caller, wanted: NewAppointment, claim: Claim) -> Response:
    if claim.appointment_id is None:
        return _book(caller, wanted, claim)
    # An earlier request had booked and died before it could answer.
    began_s = perf_counter()
    with container().database.reading() as connection:
        appointment = reading.get_appointment(connection, caller.actor, claim.appointment_id)
    return _created(appointment, caller, perf_counter() - began_s)


def _book(caller: Caller, wanted: NewAppointment, claim: Claim | None) -> Response:
    parts = container()
    actor = caller.actor
    if not actor.is_staff and wanted.customer_id != actor.user_id:
        raise Forbidden("Customers book for themselves only.")
    check_references(
        parts.upstreams,
        actor,
        wanted.customer_id,
        wanted.vehicle_id,
        caller.token,
        timeout_s=parts.settings.upstream_timeout_s,
        on_unchecked=_unchecked,
    )
    began_s = perf_counter()
    appointment = commands.book(parts.database, parts.policy, actor, wanted, now=now(), claim=claim)
    return _created(appointment, caller, perf_counter() - began_s)


def _created(appointment: Appointment, caller: Caller, database_s: float) -> Response:
    location = url_for(f"{API_NAME}.appointments.get_appointment", appointment_id=appointment.id)
    return detail_response(appointment, caller, database_s, status=201, headers={"Location": location})


def _unchecked(entity: str, error: Exception) -> None:
    _log.warning("Booked without asking: the %s service could not answer (%s)", entity, type(error).__name__)
    container().metrics.unchecked_booking(entity)


def _fingerprint() -> str:
    """Stand for method, path and body. Paths with and without the slash are the same."""
    path = request.path.rstrip("/")
    return hashlib.sha256(
        b"\n".join((request.method.encode(), path.encode(), request.get_data()))
    ).hexdigest()


def _stored(response: Response) -> StoredAnswer:
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    return StoredAnswer(response.status_code, response.get_data(as_text=True), headers)
