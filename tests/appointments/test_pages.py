"""Pages by their number, over years and under every kind of filter, against the same list cut up in Python."""

from datetime import date

import pytest

from servease_appt.appointments import reading
from servease_appt.appointments.records import AppointmentFilters, AppointmentRow, Page, Window
from tests.appointments.workshop import ADMIN, Workshop, new_id

OWNER = new_id()
SIZE = 7
MANY = """
    INSERT INTO appointments SELECT gen_random_uuid(),
        CASE WHEN i % 5 = 0 THEN CAST(:owner AS uuid) ELSE gen_random_uuid() END, gen_random_uuid(), NULL,
        (ARRAY['repair', 'inspection', 'emergency'])[1 + i % 3],
        date '1999-11-20' + i * i % 4001, time '09:00' + (i % 3) * interval '1 hour', 60,
        (ARRAY['completed', 'pending', 'cancelled', 'completed'])[1 + i % 4],
        '', '', '', NULL, gen_random_uuid(), now(), now(), NULL, NULL, 0 FROM generate_series(1, 300) AS i
"""


@pytest.mark.parametrize(
    "filters",
    [
        AppointmentFilters(),
        AppointmentFilters(status="completed"),
        AppointmentFilters(appointment_type="repair"),
        AppointmentFilters(status="pending", appointment_type="emergency"),
        AppointmentFilters(start_date=date(2003, 2, 1)),
        AppointmentFilters(end_date=date(2003, 2, 1)),
        AppointmentFilters(status="cancelled", start_date=date(2000, 1, 1), end_date=date(2008, 6, 30)),
        AppointmentFilters(start_date=date(2030, 1, 1)),
        AppointmentFilters(customer_id=OWNER),
        AppointmentFilters(customer_id=OWNER, status="completed", end_date=date(2006, 1, 1)),
    ],
    ids=str,
)
def test_every_page_is_where_its_number_says(workshop: Workshop, filters: AppointmentFilters) -> None:
    """The pages put together are the list in its order, and each of them knows the number of all rows."""
    workshop.sql(MANY, owner=OWNER)
    rows = [row for row in _listed(workshop, AppointmentFilters(), Window(500)).rows if _fits(row, filters)]

    pages = [
        _listed(workshop, filters, Window.of_page(number, SIZE))
        for number in range(1, -(-len(rows) // SIZE) + 2)
    ]

    assert [row for page in pages for row in page.rows] == rows
    assert {page.count for page in pages} == {len(rows)}


def _listed(workshop: Workshop, filters: AppointmentFilters, window: Window) -> Page[AppointmentRow]:
    with workshop.database.reading() as connection:
        return reading.list_appointments(connection, ADMIN, filters, window)


def _fits(row: AppointmentRow, filters: AppointmentFilters) -> bool:
    return (
        filters.status in {None, row.status}
        and filters.appointment_type in {None, row.appointment_type}
        and filters.customer_id in {None, row.customer_id}
        and (filters.start_date is None or row.scheduled_date >= filters.start_date.isoformat())
        and (filters.end_date is None or row.scheduled_date <= filters.end_date.isoformat())
    )
