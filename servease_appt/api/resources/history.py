"""The history of appointments: read only, because only accepted changes write it."""

from typing import Any

from flask import Response, request

from servease_appt.api.context import container
from servease_appt.api.paging import page_answer
from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.history import HistoryPageSchema, HistoryQuery, HistorySchema
from servease_appt.api.tokens import Caller
from servease_appt.appointments import reading
from servease_appt.appointments.records import ARRAY, Window
from servease_appt.rate_limits import Cost

resource = Resource("history", "/history/", "History")
of_appointment = Resource("appointment_history", "/appointments/", "History")
ROW = HistorySchema()
ROWS = HistorySchema(many=True)
PAGE = HistoryPageSchema()


@resource.declare(
    "GET",
    "/history/",
    role=RequiredRole.USERS,
    cost=Cost.COSTLY,
    summary="List accepted changes, newest first. Customers see those of their own appointments.",
    query=HistoryQuery(),
    answer=PAGE,
    errors=[404],
)
def list_history(caller: Caller, query: dict[str, Any]) -> Response:
    """Return one page of changes."""
    number, size = query["page"], query["page_size"]
    window = Window.of_page(number, size)
    with container().database.reading() as connection:
        page = reading.list_history(connection, caller.actor, query.get("appointment_id"), window)
    answer = page_answer(request, page.rows, count=page.count, page=number, page_size=size)
    return json_response(PAGE.dump(answer))


@resource.declare(
    "GET",
    "/history/<history_id>/",
    role=RequiredRole.USERS,
    summary="Read one change.",
    answer=ROW,
)
def get_history_row(caller: Caller, history_id: str) -> Response:
    """Return one change."""
    with container().database.reading() as connection:
        row = reading.get_history_row(connection, caller.actor, history_id)
    return json_response(ROW.dump(row))


@of_appointment.declare(
    "GET",
    "/appointments/<appointment_id>/history/",
    role=RequiredRole.USERS,
    cost=Cost.COSTLY,
    summary="The changes of one appointment, newest first.",
    answer=ROWS,
    answer_headers=["X-Total-Count"],
)
def appointment_history(caller: Caller, appointment_id: str) -> Response:
    """Return the changes of one appointment."""
    with container().database.reading() as connection:
        page = reading.appointment_history(connection, caller.actor, appointment_id, ARRAY)
    return json_response(ROWS.dump(page.rows), headers={"X-Total-Count": str(page.count)})
