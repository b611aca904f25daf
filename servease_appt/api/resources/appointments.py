"""Appointments: list, read, change, delete. Booking stands in `booking`, status changes in `actions`."""

from typing import Any

from flask import Response, request

from servease_appt.api.context import container, now
from servease_appt.api.details import detail_response
from servease_appt.api.enrichment import Stopwatch, name_headers, names_for
from servease_appt.api.paging import page_body
from servease_appt.api.responses import empty_response, json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.appointment_json import row_json
from servease_appt.api.schemas.requests import (
    CUSTOMER_EDITABLE,
    AppointmentFilterQuery,
    AppointmentPatch,
    AppointmentUpdate,
)
from servease_appt.api.schemas.shapes import page_of, ref
from servease_appt.api.tokens import Caller
from servease_appt.appointments import commands, reading
from servease_appt.appointments.records import AppointmentFilters, Window

resource = Resource("appointments", "/appointments/", "Appointments")


@resource.declare(
    "GET",
    "/appointments/",
    role=RequiredRole.USERS,
    summary="List appointments, the latest scheduled first. Customers see their own.",
    query=AppointmentFilterQuery(),
    answer=page_of(ref("AppointmentRow")),
    errors=[404],
    named=True,
)
def list_appointments(caller: Caller, query: dict[str, Any]) -> Response:
    """Return one page of what the caller may see."""
    number, size = query.pop("page"), query.pop("page_size")
    database = Stopwatch()
    with database, container().database.reading() as connection:
        page = reading.list_appointments(
            connection, caller.actor, AppointmentFilters(**query), Window.of_page(number, size)
        )
    names = names_for(page.rows, caller)
    results = [row_json(row, names) for row in page.rows]
    body = page_body(request, results, count=page.count, page=number, page_size=size)
    return json_response(body, headers=name_headers(names, database.ms))


@resource.declare(
    "GET",
    "/appointments/<appointment_id>/",
    role=RequiredRole.USERS,
    summary="Read one appointment.",
    answer=ref("Appointment"),
    named=True,
)
def get_appointment(caller: Caller, appointment_id: str) -> Response:
    """Return the detail of one appointment."""
    database = Stopwatch()
    with database, container().database.reading() as connection:
        appointment = reading.get_appointment(connection, caller.actor, appointment_id)
    return detail_response(appointment, caller, database)


@resource.declare(
    "PUT",
    "/appointments/<appointment_id>/",
    role=RequiredRole.USERS,
    summary="Change an appointment. What is left out stays as it is.",
    body=AppointmentUpdate(),
    customer_body=AppointmentUpdate(only=CUSTOMER_EDITABLE),
    answer=ref("Appointment"),
    headers=["If-Match"],
    named=True,
)
def replace_appointment(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Change fields of one appointment, all or nothing."""
    return _edit(caller, appointment_id, body, patch=False)


@resource.declare(
    "PATCH",
    "/appointments/<appointment_id>/",
    role=RequiredRole.USERS,
    summary="Change some fields of an appointment, all or nothing.",
    body=AppointmentPatch(),
    customer_body=AppointmentPatch(only=CUSTOMER_EDITABLE),
    answer=ref("Appointment"),
    headers=["If-Match"],
    named=True,
)
def change_appointment(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Change fields of one appointment, all or nothing; for staff `status` is the action of that name."""
    return _edit(caller, appointment_id, body, patch=True)


def _edit(caller: Caller, appointment_id: str, changes: dict[str, Any], *, patch: bool) -> Response:
    parts = container()
    database = Stopwatch()
    with database:
        appointment = commands.edit(
            parts.database,
            parts.policy,
            caller.actor,
            appointment_id,
            changes,
            now=now(),
            patch=patch,
            if_match=request.headers.get("If-Match"),
        )
    return detail_response(appointment, caller, database)


@resource.declare(
    "DELETE",
    "/appointments/<appointment_id>/",
    role=RequiredRole.ADMIN,
    summary="Delete an appointment for good. Its history stays.",
    status=204,
)
def delete_appointment(caller: Caller, appointment_id: str) -> Response:
    """Delete one appointment."""
    commands.delete(container().database, caller.actor, appointment_id)
    return empty_response()
