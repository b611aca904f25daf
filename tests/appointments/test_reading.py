"""Lists, numbers and histories: what is in them, in which order, and for whose eyes."""

from datetime import UTC, date, datetime, time, timedelta

import pytest

from servease_appt.appointments import reading, statistics
from servease_appt.appointments.actors import Actor
from servease_appt.appointments.errors import Forbidden, NotFound
from servease_appt.appointments.records import ARRAY, AppointmentFilters, AppointmentRow, Page, Window
from servease_appt.db.engine import Database
from servease_appt.scheduling.statuses import Action
from tests.appointments.workshop import (
    ADMIN,
    EMPLOYEE,
    NOW,
    SERVICE,
    TODAY,
    TUESDAY,
    Workshop,
    customer,
    new_id,
)

NONE = AppointmentFilters()


def listed(
    workshop: Workshop,
    filters: AppointmentFilters = NONE,
    window: Window = ARRAY,
    actor: Actor = ADMIN,
) -> Page[AppointmentRow]:
    with workshop.database.reading() as connection:
        return reading.list_appointments(connection, actor, filters, window)


def plant(workshop: Workshop, count: int, **columns: str) -> None:
    """Many appointments past all rules, over some days and times so that many are equal."""
    values = {
        "customer_id": "gen_random_uuid()",
        "day": "date '2030-05-07' + (i % 7)",
        "status": "'completed'",
    } | columns
    workshop.sql(
        f"""
        INSERT INTO appointments SELECT gen_random_uuid(), {values["customer_id"]}, gen_random_uuid(), NULL,
            'repair', {values["day"]}, time '09:00' + (i % 3) * interval '1 hour', 60, {values["status"]},
            '', '', '', NULL, gen_random_uuid(), now(), now(), NULL, NULL, 0 FROM generate_series(1, {count}) AS i
        """  # noqa: S608
    )


def test_the_order_and_the_pages(workshop: Workshop) -> None:
    """Latest scheduled first, ids break ties; pages neither overlap nor leave out."""
    plant(workshop, 100)

    rows = listed(workshop).rows
    pages = [listed(workshop, window=Window.of_page(number, 30)) for number in range(1, 6)]

    expected = sorted(rows, key=lambda row: row.id)
    expected.sort(key=lambda row: (row.scheduled_date, row.scheduled_time), reverse=True)
    assert rows == expected
    assert [row for page in pages for row in page.rows] == rows
    assert [(page.count, len(page.rows)) for page in pages] == [(100, 30)] * 3 + [(100, 10), (100, 0)]


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 10**400])
def test_a_window_beyond_everything(workshop: Workshop, offset: int) -> None:
    """Is empty, however far away."""
    workshop.book()

    page = listed(workshop, window=Window(20, offset))
    with workshop.database.reading() as connection:
        history = reading.list_history(connection, ADMIN, None, Window(20, offset))

    assert (page.count, list(page.rows)) == (1, [])
    assert list(history.rows) == []


def test_an_array_stops_at_500_and_knows_the_total(workshop: Workshop) -> None:
    """For the endpoints without pages."""
    plant(workshop, 501)

    page = listed(workshop)

    assert (len(page.rows), page.count) == (500, 501)


def test_a_row_is_ready_for_json(workshop: Workshop) -> None:
    """All text, dates and times as the contract writes them, also where an old time has fractions."""
    employee = new_id()
    booked = workshop.book(at=time(9, 5), assigned_employee_id=employee)
    workshop.sql("UPDATE appointments SET scheduled_time = '09:05:00.5'")

    (row,) = listed(workshop).rows

    assert row == AppointmentRow(
        id=booked.id,
        customer_id=booked.customer_id,
        vehicle_id=booked.vehicle_id,
        assigned_employee_id=employee,
        appointment_type="repair",
        scheduled_date="2030-05-07",
        scheduled_time="09:05:00",
        status="pending",
    )


def test_each_filter_and_all_of_them(workshop: Workshop) -> None:
    """Each narrows down to what it says; dates are inclusive."""
    employee = new_id()
    wanted = workshop.act(workshop.book(assigned_employee_id=employee), Action.CONFIRM)
    workshop.book(day=date(2030, 5, 8), appointment_type="emergency")
    filters = {
        "status": ["confirmed"],
        "appointment_type": "repair",
        "end_date": TUESDAY,
        "customer_id": wanted.customer_id,
        "employee_id": employee,
        "vehicle_id": wanted.vehicle_id,
    }

    assert listed(workshop).count == 2
    for name, value in filters.items():
        page = listed(workshop, AppointmentFilters(**{name: value}))  # type: ignore[arg-type]
        assert ([row.id for row in page.rows], page.count) == ([wanted.id], 1), name
    assert listed(workshop, AppointmentFilters(start_date=TUESDAY, **filters)).count == 1  # type: ignore[arg-type]
    assert listed(workshop, AppointmentFilters(start_date=date(2030, 5, 8))).count == 1
    assert listed(workshop, AppointmentFilters(start_date=date.min, end_date=date.max)).count == 2


def test_a_customer_sees_their_own_alone(workshop: Workshop) -> None:
    """In rows and in totals, whatever they filter for, and for staff it is everything."""
    me, other, vehicle = customer(), customer(), new_id()
    mine = workshop.book(me, vehicle_id=vehicle)
    theirs = workshop.book(other, vehicle_id=vehicle)
    with workshop.database.reading() as connection:
        for filters in (NONE, AppointmentFilters(vehicle_id=vehicle), AppointmentFilters(status=["pending"])):
            page = reading.list_appointments(connection, me, filters, ARRAY)
            assert ([row.id for row in page.rows], page.count) == ([mine.id], 1)
        foreign = AppointmentFilters(customer_id=other.user_id)
        assert reading.list_appointments(connection, me, foreign, ARRAY) == Page(0, [])
        assert reading.vehicle_history(connection, me, vehicle, NONE, ARRAY).count == 1
        assert reading.vehicle_history(connection, EMPLOYEE, vehicle, NONE, ARRAY).count == 2
        assert reading.customer_appointments(connection, me, me.user_id, NONE, ARRAY).count == 1
        assert reading.customer_appointments(connection, EMPLOYEE, me.user_id, NONE, ARRAY).count == 1
        assert statistics.stats(connection, workshop.policy, me, NOW).total_appointments == 1
        with pytest.raises(Forbidden):
            reading.customer_appointments(connection, me, other.user_id, NONE, ARRAY)
        with pytest.raises(Forbidden):
            reading.employee_schedule(connection, me, new_id(), NONE, ARRAY)
        with pytest.raises(NotFound):
            reading.get_appointment(connection, me, theirs.id)
        assert reading.get_appointment(connection, me, mine.id) == mine


def test_an_employees_schedule(workshop: Workshop) -> None:
    """What is assigned to them, for staff; the other filters narrow it down."""
    employee = new_id()
    first = workshop.book(assigned_employee_id=employee)
    workshop.book(day=TUESDAY + timedelta(days=1), assigned_employee_id=employee)
    workshop.book()

    with workshop.database.reading() as connection:
        schedule = reading.employee_schedule(connection, EMPLOYEE, employee, NONE, ARRAY)
        tuesday = reading.employee_schedule(
            connection, EMPLOYEE, employee, AppointmentFilters(end_date=TUESDAY), ARRAY
        )

    assert schedule.count == 2
    assert [row.id for row in tuesday.rows] == [first.id]


def test_a_service_reads_nothing(workshop: Workshop) -> None:
    """Its token is for the cache."""
    booked = workshop.book()
    with workshop.database.reading() as connection:
        for read in (
            lambda: reading.list_appointments(connection, SERVICE, NONE, ARRAY),
            lambda: reading.get_appointment(connection, SERVICE, booked.id),
            lambda: reading.vehicle_history(connection, SERVICE, booked.vehicle_id, NONE, ARRAY),
            lambda: reading.customer_appointments(connection, SERVICE, booked.customer_id, NONE, ARRAY),
            lambda: reading.employee_schedule(connection, SERVICE, new_id(), NONE, ARRAY),
            lambda: reading.list_history(connection, SERVICE, None, ARRAY),
            lambda: reading.appointment_history(connection, SERVICE, booked.id, ARRAY),
            lambda: statistics.stats(connection, workshop.policy, SERVICE, NOW),
        ):
            with pytest.raises(Forbidden):
                read()


def test_the_numbers(workshop: Workshop) -> None:
    """Every known status, today's, what was finished today, what is still ahead, and the types that occur."""
    workshop.act(workshop.book(day=TODAY, at=time(9)), Action.CONFIRM, Action.START, Action.COMPLETE)
    workshop.act(workshop.book(day=TODAY, at=time(10)), Action.CONFIRM)
    workshop.act(workshop.book(appointment_type="emergency"), Action.CANCEL)
    workshop.book()
    plant(workshop, 1, day="date '2020-01-01'", status="'pending'")

    with workshop.database.reading() as connection:
        numbers = statistics.stats(connection, workshop.policy, ADMIN, NOW)
        later = statistics.stats(connection, workshop.policy, ADMIN, NOW + timedelta(hours=2))
        tomorrow = statistics.stats(connection, workshop.policy, ADMIN, NOW + timedelta(days=1))

    assert numbers.total_appointments == 5
    assert numbers.by_status == {
        "pending": 2,
        "confirmed": 1,
        "in_progress": 0,
        "completed": 1,
        "cancelled": 1,
        "no_show": 0,
    }
    assert (numbers.today, numbers.completed_today, numbers.upcoming) == (2, 1, 2)
    assert numbers.by_type == {"emergency": 1, "repair": 4}
    assert (later.today, later.completed_today, later.upcoming) == (2, 1, 1)
    assert (tomorrow.today, tomorrow.completed_today, tomorrow.upcoming) == (2, 0, 1)


def test_today_is_a_day_of_the_business_time_zone(database: Database) -> None:
    """At 20:00 UTC it is Tuesday in Tokyo, and what was completed at 14:00 UTC was on Monday there."""
    tokyo = Workshop(database, timezone="Asia/Tokyo")
    done = tokyo.book(day=TUESDAY, at=time(1))
    tokyo.act(done, Action.CONFIRM, Action.START, Action.COMPLETE, now=datetime(2030, 5, 6, 14, tzinfo=UTC))

    with database.reading() as connection:
        monday = statistics.stats(connection, tokyo.policy, ADMIN, datetime(2030, 5, 6, 14, 59, tzinfo=UTC))
        tuesday = statistics.stats(connection, tokyo.policy, ADMIN, datetime(2030, 5, 6, 15, tzinfo=UTC))

    assert (monday.today, monday.completed_today) == (0, 1)
    assert (tuesday.today, tuesday.completed_today) == (1, 0)


def test_histories(workshop: Workshop) -> None:
    """Newest first; a customer's is that of their own appointments."""
    me = customer()
    mine = workshop.act(workshop.book(me), Action.CONFIRM, Action.START)
    theirs = workshop.act(workshop.book(customer()), Action.CANCEL)
    (foreign,) = workshop.history(theirs)

    with workshop.database.reading() as connection:
        rows = reading.appointment_history(connection, me, mine.id, ARRAY).rows
        assert [row.new_status for row in rows] == ["in_progress", "confirmed"]
        assert reading.list_history(connection, me, None, ARRAY).rows == rows
        assert reading.list_history(connection, me, theirs.id, ARRAY).count == 0
        assert reading.list_history(connection, ADMIN, None, Window(1, 1)).count == 3
        assert reading.get_history_row(connection, me, rows[0].id) == rows[0]
        with pytest.raises(NotFound):
            reading.get_history_row(connection, me, foreign.id)
        with pytest.raises(NotFound):
            reading.appointment_history(connection, me, theirs.id, ARRAY)
        assert reading.get_history_row(connection, EMPLOYEE, foreign.id) == foreign
