"""Appointments: list, read, change, delete. Booking is in `booking`, status changes are in `actions`."""

from time import perf_counter
from typing import Any

from flask import Response, request

from servease_appt.api.context import container, now
from servease_appt.api.cursors import START, read_cursor, write_cursor
from servease_appt.api.details import DETAIL, DETAIL_HEADERS, detail_response, unless_known
from servease_appt.api.enrichment import NAME_HEADERS, named_response
from servease_appt.api.paging import PageAnswer, link, page_answer
from servease_appt.api.responses import empty_response
from servease_appt.api.routing import RequiredRole, Resource
from servease_appt.api.schemas.appointment_requests import (
    CUSTOMER_EDITABLE,
    AppointmentListQuery,
    AppointmentPatch,
    AppointmentUpdate,
)
from servease_appt.api.schemas.appointments import AppointmentPageSchema
from servease_appt.api.tokens import Caller
from servease_appt.appointments import commands, reading
from servease_appt.appointments.records import (
    AppointmentFilters,
    Order,
    Position,
    Stretch,
    StretchOfRows,
    Window,
)
from servease_appt.signals import announce, appointment_changed

PAGE = AppointmentPageSchema()

resource = Resource("appointments", "/appointments/", "Appointments")


@resource.declare(
    "GET",
    "/appointments/",
    role=RequiredRole.USERS,
    summary="List appointments, the latest scheduled first. Customers see their own.",
    query=AppointmentListQuery(),
    answer=PAGE,
    errors=[404],
    answer_headers=NAME_HEADERS,
)
def list_appointments(caller: Caller, query: dict[str, Any]) -> Response:
    """Return one page of what the caller may see."""
    number, size = query.pop("page"), query.pop("page_size")
    order, cursor = Order(query.pop("sort")), query.pop("cursor", None)
    filters = AppointmentFilters(**query)
    if cursor is not None:
        return _list_from(cursor, caller, filters, size, order)
    began_s = perf_counter()
    window = Window.of_page(number, size, order)
    page = container().list_reads.read(
        caller.actor.user_id,
        lambda connection: reading.list_appointments(connection, caller.actor, filters, window),
    )
    database_s = perf_counter() - began_s
    answer = page_answer(request, page.rows, count=page.count, page=number, page_size=size)
    return named_response(PAGE, answer, page.rows, caller, database_s=database_s)


def _list_from(cursor: str, caller: Caller, filters: AppointmentFilters, size: int, order: Order) -> Response:
    """Return the page that a cursor names."""
    purpose = f"appointments {order.value}"
    stretch = Stretch(size, order)
    if cursor != START:
        *position, backwards = read_cursor(purpose, cursor)
        stretch = Stretch(size, order, Position(*position), backwards)
    began_s = perf_counter()
    page = _read_stretch(caller, filters, stretch)
    database_s = perf_counter() - began_s
    after = None if page.after is None else write_cursor(purpose, *page.after, False)
    if stretch.backwards and not page.rows:
        after = START
    before = None if page.before is None else write_cursor(purpose, *page.before, True)
    answer = PageAnswer(
        page.count,
        None if after is None else link(request, "cursor", after),
        None if before is None else link(request, "cursor", before),
        page.rows,
    )
    return named_response(PAGE, answer, page.rows, caller, database_s=database_s)


def _read_stretch(caller: Caller, filters: AppointmentFilters, stretch: Stretch) -> StretchOfRows:
    """Return the rows of a page with a cursor: the first may be a replica's, those that follow are the primary's.

    A row that was there when the first page was read must be on one of the pages. A replica that is behind the
    server of the page before might not have it yet.
    """
    parts = container()
    if stretch.position is None:
        return parts.list_reads.read(
            caller.actor.user_id,
            lambda connection: reading.list_stretch(connection, caller.actor, filters, stretch),
        )
    with parts.database.reading() as connection:
        return reading.list_stretch(connection, caller.actor, filters, stretch)


@resource.declare(
    "GET",
    "/appointments/<appointment_id>/",
    role=RequiredRole.USERS,
    summary="Read one appointment.",
    answer=DETAIL,
    headers=["If-None-Match"],
    answer_headers=DETAIL_HEADERS,
)
def get_appointment(caller: Caller, appointment_id: str) -> Response:
    """Return the detail of one appointment."""
    began_s = perf_counter()
    with container().database.reading() as connection:
        appointment = reading.get_appointment(connection, caller.actor, appointment_id)
    response = detail_response(appointment, caller, perf_counter() - began_s)
    return unless_known(response, request.headers.get("If-None-Match"))


@resource.declare(
    "PUT",
    "/appointments/<appointment_id>/",
    role=RequiredRole.USERS,
    summary="Change an appointment. What is left out stays as it is.",
    body=AppointmentUpdate(),
    customer_body=AppointmentUpdate(only=CUSTOMER_EDITABLE),
    answer=DETAIL,
    headers=["If-Match"],
    answer_headers=DETAIL_HEADERS,
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
    answer=DETAIL,
    headers=["If-Match"],
    answer_headers=DETAIL_HEADERS,
)
def change_appointment(caller: Caller, appointment_id: str, body: dict[str, Any]) -> Response:
    """Change fields of one appointment, all or nothing; for staff `status` is the action of that name."""
    return _edit(caller, appointment_id, body, patch=True)


def _edit(caller: Caller, appointment_id: str, changes: dict[str, Any], *, patch: bool) -> Response:
    parts = container()
    began_s = perf_counter()
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
    announce(appointment_changed, appointment_id=appointment.id, change="edited")
    return detail_response(appointment, caller, perf_counter() - began_s)


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
    announce(appointment_changed, appointment_id=appointment_id, change="deleted")
    return empty_response()
