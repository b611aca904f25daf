"""Appointments of one customer, employee or vehicle; free starts; statistics."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from flask import Response, request
from marshmallow import Schema

from servease_appt.api.context import container, now
from servease_appt.api.enrichment import NAME_HEADERS, named_response
from servease_appt.api.paging import page_answer
from servease_appt.api.responses import json_response
from servease_appt.api.routing import RequiredRole, Resource, View
from servease_appt.api.schemas.appointment_requests import (
    CustomerAppointmentsQuery,
    EmployeeScheduleQuery,
    VehicleHistoryQuery,
)
from servease_appt.api.schemas.appointments import AppointmentPageSchema, AppointmentSchema
from servease_appt.api.schemas.pages import PageQuery
from servease_appt.api.schemas.reports import AvailableSlotsQuery, AvailableSlotsSchema, StatsSchema
from servease_appt.api.tokens import Caller
from servease_appt.appointments import free_starts, reading, statistics
from servease_appt.appointments.reading import SubjectReader
from servease_appt.appointments.records import ARRAY_ROWS, AppointmentFilters, Order, Window
from servease_appt.rate_limits import Cost

resource = Resource("reports", "/appointments/", "Appointment views")
ROWS = AppointmentSchema(many=True)
PAGE = AppointmentPageSchema()
SLOTS = AvailableSlotsSchema()
STATS = StatsSchema()


def _declare_array(path: str, role: RequiredRole, summary: str, query: Schema) -> Callable[[View], View]:
    return resource.declare(
        "GET",
        f"/appointments/{path}/",
        role=role,
        summary=summary,
        query=query,
        answer=(ROWS, PAGE),
        errors=[404],
        answer_headers=["X-Total-Count", *NAME_HEADERS],
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
    answer=PAGE,
    answer_headers=NAME_HEADERS,
)
def employee_appointments(caller: Caller, employee_id: str, query: dict[str, Any]) -> Response:
    """Return a page of an employee's appointments."""
    return _page(
        reading.employee_schedule,
        employee_id,
        AppointmentFilters(),
        caller,
        Window.of_page(query["page"], query["page_size"]),
    )


def _array_or_page(find: SubjectReader, subject: str, caller: Caller, query: dict[str, Any]) -> Response:
    """Return an array of at most 500 rows, with their full number in a header; with `page`, a page."""
    number, size = query.pop("page", None), query.pop("page_size")
    subject_id, order = query.pop(subject), Order(query.pop("sort"))
    filters = AppointmentFilters(**query)
    if number is not None:
        return _page(find, subject_id, filters, caller, Window.of_page(number, size, order))
    began_s = perf_counter()
    page = container().list_reads.read(
        caller.actor.user_id,
        lambda connection: find(
            connection, caller.actor, subject_id, filters, Window(ARRAY_ROWS, order=order)
        ),
    )
    database_s = perf_counter() - began_s
    headers = {"X-Total-Count": str(page.count)}
    return named_response(ROWS, page.rows, page.rows, caller, database_s=database_s, headers=headers)


def _page(
    find: SubjectReader,
    subject_id: str,
    filters: AppointmentFilters,
    caller: Caller,
    window: Window,
) -> Response:
    began_s = perf_counter()
    page = container().list_reads.read(
        caller.actor.user_id,
        lambda connection: find(connection, caller.actor, subject_id, filters, window),
    )
    database_s = perf_counter() - began_s
    number = window.offset // window.limit + 1
    answer = page_answer(request, page.rows, count=page.count, page=number, page_size=window.limit)
    return named_response(PAGE, answer, page.rows, caller, database_s=database_s)


@resource.declare(
    "GET",
    "/appointments/available_slots/",
    role=RequiredRole.USERS,
    cost=Cost.COSTLY,
    summary="The starts still ahead at which a booking of that length fits.",
    query=AvailableSlotsQuery(),
    answer=SLOTS,
)
def available_slots(caller: Caller, query: dict[str, Any]) -> Response:
    """Return the free starts of some days."""
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
    return json_response(SLOTS.dump({"count": len(free), "slots": free}))


@resource.declare(
    "GET",
    "/appointments/stats/",
    role=RequiredRole.USERS,
    summary="Numbers over what the caller may see.",
    answer=STATS,
)
def appointment_stats(caller: Caller) -> Response:
    """Return the numbers of appointments."""
    parts = container()
    moment = now()
    counted = parts.list_reads.read(
        caller.actor.user_id,
        lambda connection: statistics.stats(connection, parts.policy, caller.actor, moment),
    )
    return json_response(STATS.dump(counted))
