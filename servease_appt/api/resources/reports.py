"""Appointments seen from one side: a customer's, an employee's, a vehicle's; room that is left; numbers."""

from collections.abc import Callable
from typing import Any

from flask import Response, request
from marshmallow import Schema
from sqlalchemy import Connection

from servease_appt.api.context import container, now
from servease_appt.api.enrichment import Stopwatch, name_headers, names_for
from servease_appt.api.paging import PageQuery, page_body
from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource, View
from servease_appt.api.schemas.appointment_json import row_json
from servease_appt.api.schemas.requests import (
    AvailableSlotsQuery,
    CustomerAppointmentsQuery,
    EmployeeScheduleQuery,
    VehicleHistoryQuery,
)
from servease_appt.api.schemas.shapes import array_or_page_of, page_of, ref
from servease_appt.api.tokens import Caller
from servease_appt.appointments import free_starts, reading, statistics
from servease_appt.appointments.actors import Actor
from servease_appt.appointments.records import ARRAY, AppointmentFilters, AppointmentRow, Page, Window

resource = Resource("reports", "/appointments/", "Appointment views")

Find = Callable[[Connection, Actor, str, AppointmentFilters, Window], Page[AppointmentRow]]


def _declare_array(path: str, role: RequiredRole, summary: str, query: Schema) -> Callable[[View], View]:
    return resource.declare(
        "GET",
        f"/appointments/{path}/",
        role=role,
        summary=summary,
        query=query,
        answer=array_or_page_of(ref("AppointmentRow")),
        errors=[404],
        named=True,
    )


@_declare_array(
    "customer_appointments",
    RequiredRole.USERS,
    "A customer's appointments; customers ask for their own.",
    CustomerAppointmentsQuery(),
)
def customer_appointments(caller: Caller, query: dict[str, Any]) -> Response:
    """Return a customer's appointments."""
    return _array_or_page(reading.customer_appointments, "customer_id", caller, query)


@_declare_array(
    "employee_schedule", RequiredRole.STAFF, "What is assigned to an employee.", EmployeeScheduleQuery()
)
def employee_schedule(caller: Caller, query: dict[str, Any]) -> Response:
    """Return an employee's appointments."""
    return _array_or_page(reading.employee_schedule, "employee_id", caller, query)


@_declare_array(
    "vehicle_history",
    RequiredRole.USERS,
    "A vehicle's appointments; customers see their own rows.",
    VehicleHistoryQuery(),
)
def vehicle_history(caller: Caller, query: dict[str, Any]) -> Response:
    """Return a vehicle's appointments."""
    return _array_or_page(reading.vehicle_history, "vehicle_id", caller, query)


@resource.declare(
    "GET",
    "/appointments/employee/<employee_id>/",
    role=RequiredRole.STAFF,
    summary="What is assigned to an employee, in pages.",
    query=PageQuery(),
    answer=page_of(ref("AppointmentRow")),
    named=True,
)
def employee_page(caller: Caller, employee_id: str, query: dict[str, Any]) -> Response:
    """Return a page of an employee's appointments."""
    return _page(reading.employee_schedule, employee_id, AppointmentFilters(), caller, query)


def _array_or_page(find: Find, subject: str, caller: Caller, query: dict[str, Any]) -> Response:
    """Return rows as an array of at most 500 with their full number beside it; with `page`, as a page."""
    number, size = query.pop("page", None), query.pop("page_size")
    subject_id = query.pop(subject)
    filters = AppointmentFilters(**query)
    if number is not None:
        return _page(find, subject_id, filters, caller, {"page": number, "page_size": size})
    database = Stopwatch()
    with database, container().database.reading() as connection:
        page = find(connection, caller.actor, subject_id, filters, ARRAY)
    names = names_for(page.rows, caller)
    headers = {**name_headers(names, database.ms), "X-Total-Count": str(page.count)}
    return json_response([row_json(row, names) for row in page.rows], headers=headers)


def _page(
    find: Find, subject_id: str, filters: AppointmentFilters, caller: Caller, query: dict[str, Any]
) -> Response:
    number, size = query["page"], query["page_size"]
    database = Stopwatch()
    with database, container().database.reading() as connection:
        page = find(connection, caller.actor, subject_id, filters, Window.of_page(number, size))
    names = names_for(page.rows, caller)
    results = [row_json(row, names) for row in page.rows]
    body = page_body(request, results, count=page.count, page=number, page_size=size)
    return json_response(body, headers=name_headers(names, database.ms))


@resource.declare(
    "GET",
    "/appointments/available_slots/",
    role=RequiredRole.USERS,
    summary="The starts still ahead at which a booking of that length fits.",
    query=AvailableSlotsQuery(),
    answer=ref("AvailableSlots"),
)
def available_slots(caller: Caller, query: dict[str, Any]) -> Response:
    """Return free starts."""
    parts = container()
    with parts.database.reading() as connection:
        free = free_starts.available_slots(
            connection,
            parts.policy,
            caller.actor,
            start_date=query["start_date"],
            end_date=query["end_date"],
            duration_minutes=query.get("duration_minutes"),
            now=now(),
        )
    return json_response({"count": len(free), "slots": [start._asdict() for start in free]})


@resource.declare(
    "GET",
    "/appointments/stats/",
    role=RequiredRole.USERS,
    summary="Numbers over what the caller may see.",
    answer=ref("Stats"),
)
def stats(caller: Caller) -> Response:
    """Return counts."""
    parts = container()
    with parts.database.reading() as connection:
        counted = statistics.stats(connection, parts.policy, caller.actor, now())
    return json_response(
        {
            "total_appointments": counted.total_appointments,
            **counted.by_status,
            "today": counted.today,
            "completed_today": counted.completed_today,
            "upcoming": counted.upcoming,
            "by_type": counted.by_type,
        }
    )
