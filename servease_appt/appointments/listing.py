"""The list of appointments, the most asked-for read: plain SQL, written once for each set of filters.

One statement gives the rows and the count, so both are of the same moment. Where no person and no vehicle narrows
the list down, both come from the numbers that the database keeps (migration v4), and a page costs the same
whichever it is and however many appointments there are. What one person or vehicle has is few: that is counted
and passed by in the index.

The driver gives plain tuples whose ids, dates and times are text already, as JSON wants them.
"""

from functools import cache
from typing import Any, Final

from sqlalchemy import Connection

from servease_appt.appointments.actors import Actor
from servease_appt.appointments.permissions import only_customer
from servease_appt.appointments.records import MAX_OFFSET, AppointmentFilters, AppointmentRow, Page, Window
from servease_appt.appointments.values import Fields
from servease_appt.scheduling.statuses import AppointmentType, Status

_OF_SOMEBODY: Final = {
    "owner": "customer_id = %(owner)s::uuid",
    "customer_id": "customer_id = %(customer_id)s::uuid",
    "employee_id": "assigned_employee_id = %(employee_id)s::uuid",
    "vehicle_id": "vehicle_id = %(vehicle_id)s::uuid",
}
_OF_MANY: Final = {
    "status": "status = %(status)s",
    "appointment_type": "appointment_type = %(appointment_type)s",
    "start_date": "scheduled_date >= %(start_date)s",
    "end_date": "scheduled_date <= %(end_date)s",
}
_CONDITIONS: Final = _OF_SOMEBODY | _OF_MANY

_KEPT: Final = (
    "appointments_place("
    "%(status)s, %(appointment_type)s, %(start_date)s::date, %(end_date)s::date, %(offset)s)"
)
_COUNTED: Final = (
    "(SELECT count(*) AS total, DATE 'infinity' AS up_to, %(offset)s::bigint AS skipped_of_day"
    " FROM appointments WHERE {where})"
)
_PAGE: Final = (
    "SELECT total, page.* FROM {place} AS place LEFT JOIN LATERAL ("
    "SELECT a.id::text, customer_id::text, vehicle_id::text, assigned_employee_id::text, appointment_type,"
    " to_char(scheduled_date, 'YYYY-MM-DD'), to_char(scheduled_time, 'HH24:MI:SS'), status FROM ("
    # Only what an index holds: rows that are passed by are not fetched, and only the index of the filter will do.
    "SELECT id FROM appointments WHERE {where} AND scheduled_date <= up_to"
    " ORDER BY scheduled_date DESC, scheduled_time DESC, id LIMIT %(limit)s OFFSET skipped_of_day"
    ") AS ids JOIN appointments AS a USING (id)"
    " ORDER BY a.scheduled_date DESC, a.scheduled_time DESC, a.id) AS page ON true"
)


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
    statement = _statement(tuple(name for name in _CONDITIONS if parameters[name] is not None))
    parameters |= {"limit": window.limit, "offset": min(window.offset, MAX_OFFSET)}
    found = connection.exec_driver_sql(statement, parameters).all()
    rows = [AppointmentRow(*row) for _, *row in found if row[0] is not None]
    return Page(found[0][0], rows)


@cache
def _statement(names: tuple[str, ...]) -> str:
    """The SQL for these filters: one row at least, whose id is NULL where the page is empty."""
    where = " AND ".join(_CONDITIONS[name] for name in names) or "true"
    place = _COUNTED.format(where=where) if _OF_SOMEBODY.keys() & set(names) else _KEPT
    return _PAGE.format(place=place, where=where)


def _check(filters: AppointmentFilters) -> None:
    fields = Fields()
    if filters.status is not None:
        fields.one_of("status", filters.status, list(Status))
    if filters.appointment_type is not None:
        fields.one_of("appointment_type", filters.appointment_type, list(AppointmentType))
    if filters.start_date is not None and filters.end_date is not None:
        fields.in_order(filters.start_date, filters.end_date)
    fields.settle()
