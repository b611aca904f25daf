"""The history: read only. It is written by the actions alone."""

from typing import Any

from flask import Response, request

from servease_appt.api.context import container
from servease_appt.api.paging import page_body
from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.requests import HistoryQuery
from servease_appt.api.schemas.shapes import array_of, page_of, ref
from servease_appt.api.tokens import Caller
from servease_appt.appointments import reading
from servease_appt.appointments.records import ARRAY, Window

resource = Resource("history", "/history/", "History")
of_appointment = Resource("appointment_history", "/appointments/", "History")


@resource.declare(
    "GET",
    "/history/",
    role=RequiredRole.USERS,
    summary="List accepted changes, newest first. Customers see those of their own appointments.",
    query=HistoryQuery(),
    answer=page_of(ref("HistoryRow")),
    errors=[404],
)
def list_history(caller: Caller, query: dict[str, Any]) -> Response:
    """Return one page of changes."""
    number, size = query["page"], query["page_size"]
    with container().database.reading() as connection:
        page = reading.list_history(
            connection, caller.actor, query.get("appointment_id"), Window.of_page(number, size)
        )
    results = [row._asdict() for row in page.rows]
    return json_response(page_body(request, results, count=page.count, page=number, page_size=size))


@resource.declare(
    "GET",
    "/history/<history_id>/",
    role=RequiredRole.USERS,
    summary="Read one change.",
    answer=ref("HistoryRow"),
)
def get_history_row(caller: Caller, history_id: str) -> Response:
    """Return one change."""
    with container().database.reading() as connection:
        row = reading.get_history_row(connection, caller.actor, history_id)
    return json_response(row._asdict())


@of_appointment.declare(
    "GET",
    "/appointments/<appointment_id>/history/",
    role=RequiredRole.USERS,
    summary="The changes of one appointment, newest first.",
    answer=array_of(ref("HistoryRow")),
)
def appointment_history(caller: Caller, appointment_id: str) -> Response:
    """Return the changes of one appointment."""
    with container().database.reading() as connection:
        page = reading.appointment_history(connection, caller.actor, appointment_id, ARRAY)
    return json_response([row._asdict() for row in page.rows], headers={"X-Total-Count": str(page.count)})
