"""The SQL of the list of appointments, the most used read: plain text, written once for each set of filters.

One statement gives the rows and their number, so both are of the same moment. Where no person, vehicle or id
narrows the list down, the number and the place of a page come from the counts that the database keeps (see
`servease_appt.db.kept_counts`), and a page costs the same whichever it is and however many appointments there are.
One person or vehicle has few: those are counted and skipped in the index.

Rows are found by their ids first, from an index alone, so that rows that are skipped are not fetched. Only within
one status does an index have the order of the list: several are merged from one index scan each.

Each statement returns the total and the columns of a row, in any case the latest scheduled first. There is at
least one row; its id is NULL where the page is empty.
"""

from functools import cache
from typing import Final

_BY_ONE_SUBJECT: Final = {
    "owner": "customer_id = %(owner)s::uuid",
    "customer_id": "customer_id = %(customer_id)s::uuid",
    "employee_id": "assigned_employee_id = %(employee_id)s::uuid",
    "vehicle_id": "vehicle_id = %(vehicle_id)s::uuid",
    "ids": "id = ANY (%(ids)s::uuid[])",
}
_BY_KEPT_COUNTS: Final = {
    "status": "status = %(status)s",
    "statuses": "status = ANY (%(statuses)s)",
    "appointment_type": "appointment_type = %(appointment_type)s",
    "start_date": "scheduled_date >= %(start_date)s",
    "end_date": "scheduled_date <= %(end_date)s",
}
CONDITIONS: Final = _BY_ONE_SUBJECT | _BY_KEPT_COUNTS
"""The SQL of each filter, by its name. `status` is for one status, `statuses` for several."""

_PLACE: Final = (
    "appointments_place_any(%(any_status)s::text[], %(appointment_type)s, %(start_date)s::date,"
    " %(end_date)s::date, {skipped})"
)
_NUMBER_KEPT: Final = f"(SELECT total FROM {_PLACE.format(skipped=0)}) AS counted"  # noqa: S608 - constants
_NUMBER_COUNTED: Final = "(SELECT count(*) AS total FROM appointments WHERE {where}) AS counted"

# A page of the earliest rows is one of the latest, counted from the other end.
_SKIPPED_OF_EARLIEST: Final = "greatest(total - %(offset)s - %(limit)s, 0)"

_DOWN: Final = "scheduled_date DESC, scheduled_time DESC, id"
_UP: Final = "scheduled_date, scheduled_time, id DESC"
_START: Final = "(scheduled_date, scheduled_time)"
_HERE: Final = "(%(at_date)s::date, %(at_time)s::time)"
# Not `OR`: the first comparison is where the index scan begins.
_BELOW: Final = f"{_START} <= {_HERE} AND NOT ({_START} = {_HERE} AND id <= %(at_id)s::uuid)"
_ABOVE: Final = f"{_START} >= {_HERE} AND NOT ({_START} = {_HERE} AND id >= %(at_id)s::uuid)"

_IDS: Final = "SELECT id FROM appointments WHERE {where} ORDER BY {order} LIMIT {limit} OFFSET {skipped}"
_MERGED_IDS: Final = (
    "SELECT id FROM unnest(%(statuses)s) AS of_status CROSS JOIN LATERAL ("
    "SELECT id, scheduled_date, scheduled_time FROM appointments WHERE status = of_status AND {where}"
    " ORDER BY {order} LIMIT {limit} + {skipped}"
    ") AS of_one ORDER BY {order} LIMIT {limit} OFFSET {skipped}"
)
_PAGE: Final = (
    "SELECT total, page.* FROM {place} LEFT JOIN LATERAL ("
    "SELECT a.id::text, customer_id::text, vehicle_id::text, assigned_employee_id::text, appointment_type,"
    " to_char(scheduled_date, 'YYYY-MM-DD'), to_char(scheduled_time, 'HH24:MI:SS'), status{more} FROM ({ids})"
    " AS ids JOIN appointments AS a USING (id)"
    " ORDER BY a.scheduled_date DESC, a.scheduled_time DESC, a.id) AS page ON true"
)
_EXACT_START: Final = ", scheduled_date::text, scheduled_time::text"


@cache
def numbered_page(filters: tuple[str, ...], *, latest_first: bool) -> str:
    """Return the SQL for `limit` rows after `offset` rows, counted in this order.

    The last page of the earliest rows is filled up with rows of the page before, at its end: with a limit that it
    does not know, PostgreSQL would sort the whole table.
    """
    columns = "up_to, skipped_of_day"
    if _by_one_subject(filters):
        source = _NUMBER_COUNTED.format(where=_where(filters))
        skipped = "%(offset)s::bigint" if latest_first else _SKIPPED_OF_EARLIEST
        columns = f"DATE 'infinity' AS up_to, {skipped} AS skipped_of_day"
    elif latest_first:
        source = _PLACE.format(skipped="%(offset)s")
    else:
        place = _PLACE.format(skipped=_SKIPPED_OF_EARLIEST)
        source = f"{_NUMBER_KEPT} CROSS JOIN LATERAL {place} AS place (again, up_to, skipped_of_day)"
    ids = _ids(filters, "scheduled_date <= up_to", order=_DOWN, limit="%(limit)s", skipped="skipped_of_day")
    place = f"(SELECT total, {columns} FROM {source}) AS place"  # noqa: S608 - constants
    return _PAGE.format(place=place, ids=ids, more="")


@cache
def stretch(filters: tuple[str, ...], *, down: bool, from_position: bool) -> str:
    """Return the SQL for `limit` rows from a position or from the end of the list, downwards or upwards.

    Its rows have two more columns, the exact date and time.
    """
    number = _NUMBER_COUNTED.format(where=_where(filters)) if _by_one_subject(filters) else _NUMBER_KEPT
    bound = (_BELOW if down else _ABOVE) if from_position else "true"
    ids = _ids(filters, bound, order=_DOWN if down else _UP, limit="%(limit)s", skipped="0")
    return _PAGE.format(place=number, ids=ids, more=_EXACT_START)


def _ids(filters: tuple[str, ...], bound: str, *, order: str, limit: str, skipped: str) -> str:
    """Return the SQL for the ids of rows within `bound`."""
    form = _IDS
    if "statuses" in filters and not _by_one_subject(filters):
        form = _MERGED_IDS
        filters = tuple(name for name in filters if name != "statuses")
    return form.format(where=f"{_where(filters)} AND {bound}", order=order, limit=limit, skipped=skipped)


def _where(filters: tuple[str, ...]) -> str:
    return " AND ".join(CONDITIONS[name] for name in filters) or "true"


def _by_one_subject(filters: tuple[str, ...]) -> bool:
    return not _BY_ONE_SUBJECT.keys().isdisjoint(filters)
