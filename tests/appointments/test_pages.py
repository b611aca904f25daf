"""Pages by number and by position, in both orders and under every filter, against the same list in Python."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Connection

from servease_appt.appointments import reading
from servease_appt.appointments.actors import Actor, Role
from servease_appt.appointments.records import (
    AppointmentFilters,
    AppointmentRow,
    Order,
    Page,
    Position,
    Stretch,
    StretchOfRows,
    Window,
)
from tests.appointments.workshop import ADMIN, Workshop

OWNER = "42f45027-12f9-426a-9b81-fa7cbccef1e3"
SIZE = 7
NONE = AppointmentFilters()
SEVERAL = AppointmentFilters(status=["pending", "cancelled", "no_show"])
OWN = AppointmentFilters(customer_id=OWNER)
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
        AppointmentFilters(status=["completed"]),
        AppointmentFilters(appointment_type="repair"),
        AppointmentFilters(status=["pending"], appointment_type="emergency"),
        AppointmentFilters(start_date=date(2003, 2, 1)),
        AppointmentFilters(end_date=date(2003, 2, 1)),
        AppointmentFilters(status=["cancelled"], start_date=date(2000, 1, 1), end_date=date(2008, 6, 30)),
        AppointmentFilters(start_date=date(2030, 1, 1)),
        AppointmentFilters(status=["pending", "cancelled", "no_show"]),
        AppointmentFilters(
            status=["completed", "pending"], appointment_type="repair", end_date=date(2006, 1, 1)
        ),
        AppointmentFilters(customer_id=OWNER, status=["pending", "cancelled"]),
        AppointmentFilters(customer_id=OWNER),
        AppointmentFilters(customer_id=OWNER, status=["completed"], end_date=date(2006, 1, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", Order)
def test_every_page_is_where_its_number_says(
    workshop: Workshop, filters: AppointmentFilters, order: Order
) -> None:
    """The pages put together are the list in its order, and each of them knows the number of all rows."""
    workshop.sql(MANY, owner=OWNER)
    rows = _expected(workshop, filters, order)

    pages = [
        _listed(workshop, filters, Window.of_page(number, SIZE, order))
        for number in range(1, -(-len(rows) // SIZE) + 2)
    ]

    assert [row for page in pages for row in page.rows] == rows
    assert {page.count for page in pages} == {len(rows)}


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("filters", [NONE, SEVERAL, OWN], ids=["all", "several statuses", "one customer"])
def test_stretches_are_the_list_in_both_directions(
    workshop: Workshop, filters: AppointmentFilters, order: Order
) -> None:
    """Following each other forwards and then back again, they give every row once, each time."""
    workshop.sql(MANY, owner=OWNER)
    rows = _expected(workshop, filters, order)

    forwards = list(_follow(workshop, filters, Stretch(SIZE, order)))
    last = forwards[-1]
    backwards = list(_follow(workshop, filters, Stretch(SIZE, order, last.before, backwards=True)))

    assert [row for part in forwards for row in part.rows] == rows
    assert [row for part in reversed(backwards) for row in part.rows] == rows[: -len(last.rows)]
    assert {part.count for part in forwards + backwards} == {len(rows)}
    assert (forwards[0].before, last.after, backwards[-1].before) == (None, None, None)


def test_stretches_are_stable_under_writers(workshop: Workshop) -> None:
    """Others delete what was read, even the row at the position, and insert everywhere: nothing else moves."""
    workshop.sql(MANY, owner=OWNER)
    rows = _expected(workshop, NONE, Order.LATEST_FIRST)
    seen: list[AppointmentRow] = []
    stretch = Stretch(40)
    while True:
        part = _stretch(workshop, NONE, stretch)
        seen += part.rows
        if part.after is None:
            break
        workshop.sql("DELETE FROM appointments WHERE id = :id", id=part.rows[-1].id)
        workshop.sql(MANY.replace("generate_series(1, 300)", "generate_series(1, 9)"), owner=OWNER)
        stretch = Stretch(40, position=part.after)

    ids = [row.id for row in seen]
    assert len(ids) == len(set(ids))
    known = {row.id for row in rows}
    assert [row for row in seen if row.id in known] == rows


def test_a_position_is_exact(workshop: Workshop) -> None:
    """Times with fractions of a second, which the list does not show, and dates without end."""
    day = "date '2030-05-07'"
    for number in range(6):
        workshop.book(day=date(2030, 6, 1 + number))
    workshop.sql(
        f"UPDATE appointments SET scheduled_date = {day}, scheduled_time = time '09:00:00'"  # noqa: S608
        " + (extract(day FROM scheduled_date) - 1) * interval '0.1 s' WHERE scheduled_date < '2030-06-05'"
    )
    workshop.sql("UPDATE appointments SET scheduled_date = 'infinity' WHERE scheduled_date = '2030-06-05'")
    workshop.sql(
        "UPDATE appointments SET scheduled_date = '0044-03-15 BC' WHERE scheduled_date = '2030-06-06'"
    )
    for order in Order:
        rows = _listed(workshop, NONE, Window(6, order=order)).rows
        assert len(rows) == 6
        assert [row for part in _follow(workshop, NONE, Stretch(1, order)) for row in part.rows] == rows


def test_a_customers_stretch_holds_their_own(workshop: Workshop) -> None:
    """In rows and in numbers."""
    workshop.sql(MANY, owner=OWNER)

    with workshop.database.reading() as connection:
        mine = reading.list_stretch(connection, Actor(OWNER, Role.CUSTOMER), NONE, Stretch(100))

    assert mine.count == len(mine.rows) == 60
    assert {row.customer_id for row in mine.rows} == {OWNER}


def test_no_page_reads_the_whole_list(workshop: Workshop) -> None:
    """Whichever it is, in both orders: PostgreSQL reads some hundred entries of an index, not five thousand."""
    workshop.sql(MANY.replace("generate_series(1, 300)", "generate_series(1, 5000)"), owner=OWNER)
    workshop.sql("ANALYZE appointments")
    kind = AppointmentFilters(appointment_type="repair")
    with workshop.database.reading() as connection:
        explained = _Explained(connection)
        for filters in (NONE, SEVERAL, kind, AppointmentFilters(status=["completed", "pending"])):
            for order in Order:
                for number in (1, 40, 60):
                    reading.list_appointments(explained, ADMIN, filters, Window.of_page(number, 20, order))  # type: ignore[arg-type]
                    assert explained.most_rows < 500, (filters, order, number)
                for position in (None, Position("2005-01-01", "09:00:00", OWNER)):
                    reading.list_stretch(explained, ADMIN, filters, Stretch(20, order, position))  # type: ignore[arg-type]
                    assert explained.most_rows < 500, (filters, order, position)


class _Explained:
    """A connection that notes the most rows of any step of a statement, before it executes it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.most_rows = 0.0

    def exec_driver_sql(self, statement: str, parameters: dict[str, Any]) -> Any:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        (plan,) = self._connection.exec_driver_sql(explain, parameters).scalar_one()
        self.most_rows = max(_rows_of_steps(plan["Plan"]))
        return self._connection.exec_driver_sql(statement, parameters)


def _rows_of_steps(step: dict[str, Any]) -> Iterator[float]:
    yield step["Actual Rows"] * step["Actual Loops"] + step.get("Rows Removed by Filter", 0)
    for below in step.get("Plans", ()):
        yield from _rows_of_steps(below)


def _expected(workshop: Workshop, filters: AppointmentFilters, order: Order) -> list[AppointmentRow]:
    rows = [row for row in _listed(workshop, NONE, Window(500)).rows if _fits(row, filters)]
    by_start = sorted(rows, key=lambda row: row.id)
    by_start.sort(key=lambda row: (row.scheduled_date, row.scheduled_time), reverse=True)
    assert rows == by_start
    return rows if order is Order.LATEST_FIRST else rows[::-1]


def _follow(workshop: Workshop, filters: AppointmentFilters, stretch: Stretch) -> Iterator[StretchOfRows]:
    while True:
        part = _stretch(workshop, filters, stretch)
        yield part
        position = part.before if stretch.backwards else part.after
        if position is None:
            return
        stretch = replace(stretch, position=position)


def _stretch(workshop: Workshop, filters: AppointmentFilters, stretch: Stretch) -> StretchOfRows:
    with workshop.database.reading() as connection:
        return reading.list_stretch(connection, ADMIN, filters, stretch)


def _listed(workshop: Workshop, filters: AppointmentFilters, window: Window) -> Page[AppointmentRow]:
    with workshop.database.reading() as connection:
        return reading.list_appointments(connection, ADMIN, filters, window)


def _fits(row: AppointmentRow, filters: AppointmentFilters) -> bool:
    return (
        (filters.status is None or row.status in filters.status)
        and filters.appointment_type in {None, row.appointment_type}
        and filters.customer_id in {None, row.customer_id}
        and (filters.start_date is None or row.scheduled_date >= filters.start_date.isoformat())
        and (filters.end_date is None or row.scheduled_date <= filters.end_date.isoformat())
    )
