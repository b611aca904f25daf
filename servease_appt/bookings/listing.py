"""The list of appointments, the most asked-for read: plain SQL, written once for each set of filters.

The driver gives plain tuples whose ids, dates and times are text already, as JSON wants them.
"""

from functools import cache
from typing import Any, Final

from sqlalchemy import Connection

from servease_appt.bookings.access import only_customer
from servease_appt.bookings.actors import Actor
from servease_appt.bookings.records import MAX_OFFSET, AppointmentFilters, AppointmentRow, Page, Window
from servease_appt.bookings.values import Fields
from servease_appt.scheduling.statuses import AppointmentType, Status

_CONDITIONS: Final = {
    "owner": "customer_id = %(owner)s::uuid",
    "status": "status = %(status)s",
    "appointment_type": "appointment_type = %(appointment_type)s",
    "start_date": "scheduled_date >= %(start_date)s",
    "end_date": "scheduled_date <= %(end_date)s",
    "customer_id": "customer_id = %(customer_id)s::uuid",
    "employee_id": "assigned_employee_id = %(employee_id)s::uuid",
    "vehicle_id": "vehicle_id = %(vehicle_id)s::uuid",
}


def list_appointments(
    connection: Connection, actor: Actor, filters: AppointmentFilters, window: Window
) -> Page[AppointmentRow]:
    """What the actor may see of the appointments: latest scheduled first, ids break ties.

    Raises:
        FieldErrors: a status or type that does not exist, a start after the end.
    """
    _check(filters)
    parameters: dict[str, Any] = {"owner": only_customer(actor)}
    for name in AppointmentFilters.__slots__:
        parameters[name] = getattr(filters, name)
    page, count = _statements(tuple(name for name in _CONDITIONS if parameters[name] is not None))
    rows: list[AppointmentRow] = []
    if window.offset <= MAX_OFFSET:
        parameters |= {"limit": window.limit, "offset": window.offset}
        rows = [AppointmentRow(*row) for row in connection.exec_driver_sql(page, parameters)]
    if len(rows) < window.limit and (rows or window.offset == 0):
        return Page(window.offset + len(rows), rows)
    return Page(connection.exec_driver_sql(count, parameters).scalar_one(), rows)


@cache
def _statements(names: tuple[str, ...]) -> tuple[str, str]:
    """The page's and the count's SQL for these filters."""
    where = " AND ".join(_CONDITIONS[name] for name in names) or "true"
    return (
        "SELECT id::text, customer_id::text, vehicle_id::text, assigned_employee_id::text, appointment_type,"  # noqa: S608 - constants of this file
        " to_char(scheduled_date, 'YYYY-MM-DD'), to_char(scheduled_time, 'HH24:MI:SS'), status"
        f" FROM appointments WHERE {where}"
        " ORDER BY appointments.scheduled_date DESC, appointments.scheduled_time DESC, appointments.id"
        " LIMIT %(limit)s OFFSET %(offset)s",
        f"SELECT count(*) FROM appointments WHERE {where}",  # noqa: S608 - constants of this file
    )


def _check(filters: AppointmentFilters) -> None:
    fields = Fields()
    if filters.status is not None:
        fields.one_of("status", filters.status, list(Status))
    if filters.appointment_type is not None:
        fields.one_of("appointment_type", filters.appointment_type, list(AppointmentType))
    if filters.start_date is not None and filters.end_date is not None:
        fields.in_order(filters.start_date, filters.end_date)
    fields.settle()
