"""Answers with the names of the customers, vehicles and employees that they refer to.

The names are looked up for the whole answer at once. Two headers say where they came from and how long it took.
"""

from collections.abc import Collection, Mapping
from operator import attrgetter

from flask import Response, request
from marshmallow import Schema
from marshmallow.experimental.context import Context

from servease_appt.api.context import container, now
from servease_appt.api.responses import json_response
from servease_appt.api.schemas.appointments import AnswerContext
from servease_appt.api.tokens import Caller
from servease_appt.appointments.records import Appointment, AppointmentRow

NAME_HEADERS = ("X-Cache", "Server-Timing")
"""The headers that every answer with names has."""

_customer_id = attrgetter("customer_id")
_vehicle_id = attrgetter("vehicle_id")
_employee_id = attrgetter("assigned_employee_id")


def named_response(
    schema: Schema,
    answer: object,
    rows: Collection[Appointment | AppointmentRow],
    caller: Caller,
    *,
    database_s: float,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return `answer`, dumped by `schema`. Names that can't be had are placeholders.

    Args:
        schema: a schema whose fields may need an `AnswerContext`.
        answer: what it dumps.
        rows: all appointments in `answer`.
        caller: whose token the other services are asked with.
        database_s: seconds spent on the database, for `Server-Timing`.
        status: the HTTP status.
        headers: headers beside `X-Cache` and `Server-Timing`.
    """
    parts = container()
    names = parts.lookups.page_names(
        map(_customer_id, rows),
        map(_vehicle_id, rows),
        map(_employee_id, rows),
        caller.token,
        endpoint=(request.endpoint or "").rpartition(".")[2],
    )
    context = AnswerContext(names.customers, names.vehicles, names.employees, now, parts.policy.timezone)
    with Context(context):
        body = schema.dump(answer)
    named = {
        "X-Cache": names.x_cache,
        "Server-Timing": server_timing(database_s, names.cache_ms, names.upstream_ms),
    }
    return json_response(body, status, {**named, **headers} if headers else named)


def server_timing(database_s: float, cache_ms: float = 0.0, upstream_ms: float = 0.0) -> str:
    """Return the value of `Server-Timing`, in milliseconds."""
    return f"db;dur={database_s * 1000:.2f}, cache;dur={cache_ms:.2f}, upstream;dur={upstream_ms:.2f}"
