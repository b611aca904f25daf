"""Taking over the platform's database: every row stays as it is and can be worked on."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import IntegrityError

from servease_appt.appointments import booking, commands, free_starts, reading, slots, statistics
from servease_appt.appointments.actors import Actor, Role
from servease_appt.appointments.errors import FieldErrors, RuleBroken
from servease_appt.appointments.policy import BookingPolicy
from servease_appt.appointments.records import AppointmentFilters, NewAppointment, Window
from servease_appt.db.connections import psycopg2_url
from servease_appt.db.engine import Database
from servease_appt.db.errors import UpgradeRefused
from servease_appt.db.migrate import upgrade
from servease_appt.scheduling.statuses import Action
from tests.appointments.workshop import REFERENCES
from tests.db.platform import SECOND_MIGRATION, TABLES, appointment, change, known, slot

NOW = datetime(2030, 5, 6, 8, tzinfo=UTC)
ADMIN = Actor(known(700), Role.ADMIN)
POLICY = BookingPolicy(default_capacity=3, default_duration_minutes=60, timezone=ZoneInfo("UTC"))

CLEAN = [
    appointment(1, employee=50, cost="12.50"),
    appointment(2, employee=50, at="10:00", status="pending"),
    appointment(3, status="completed", day="2024-05-07", seconds=3600),
    slot(100, "2030-05-07", "09:00", "10:00"),
    change(200, of=1),
    change(201, of=999),
]
OFFENDERS = [
    # Employee 51 is in three places at once, and the first to start was made last but one; 14 is beside them.
    appointment(12, day="2030-06-03", employee=51, minutes=180),
    appointment(11, day="2030-06-03", employee=51, at="09:30", minutes=15),
    appointment(13, day="2030-06-03", employee=51, at="11:59", status="in_progress"),
    appointment(14, day="2030-06-03", employee=51, at="12:59"),
    # Four run at once where three may, and two where the slot takes one.
    *(appointment(n, day="2030-06-04", at=f"09:{n}", status="pending") for n in (21, 22, 23, 24)),
    slot(101, "2030-06-05", "09:00", "10:00", capacity=1),
    appointment(25, day="2030-06-05", status="pending"),
    appointment(26, day="2030-06-05", at="09:30"),
    # One customer, 29 minutes apart, over midnight.
    appointment(31, day="2030-06-06", at="23:45", customer=800),
    appointment(32, day="2030-06-07", at="00:14", customer=800, status="pending"),
    appointment(41, day="2030-06-10", minutes=0, employee=52),
    appointment(42, day="2030-06-10", at="10:00", minutes=-30, employee=52),
    appointment(43, day="2030-06-10", at="11:00", minutes=2**31 - 1, status="completed"),
    appointment(44, day="2030-06-11", status="on hold"),
    appointment(45, day="2030-06-11", kind="car wash"),
    appointment(46, day="2030-06-11", at="12:00", cost="-1.00", seconds=-5),
    slot(102, "2030-06-12", "12:00", "09:00"),
    slot(103, "2030-06-12", "13:00", "14:00", capacity=-1),
    slot(104, "2030-06-13", "23:00", "00:00"),
]
EXPECTED = {
    ("appointments", "employee overlap", (11, 12, 13)),
    ("appointments", "capacity", (21, 22, 23, 24, 25, 26)),
    ("appointments", "customer's 30 minutes", (31, 32)),
    ("appointments", "duration", (41, 42, 43)),
    ("appointments", "known status", (44,)),
    ("appointments", "known type", (45,)),
    ("appointments", "cost not negative", (46,)),
    ("appointments", "work time not negative", (46,)),
    ("time_slots", "end after start", (102,)),
    ("time_slots", "capacity not negative", (103,)),
}


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    engine = create_engine(psycopg2_url(postgres_url), poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    yield database
    database.close()


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def everything(connection: Connection) -> dict[str, list[Any]]:
    """All rows of all tables but our own, as text, with the names of their columns."""
    tables = connection.execute(
        text(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND relname NOT IN ('idempotency_keys', 'appointment_service_alembic_version',"
            " 'appointment_employee_times', 'appointment_events', 'appointment_events_state')"
            " AND NOT starts_with(relname, 'appointment_count')"
        )
    ).scalars()
    return {
        table: sorted(connection.execute(text(f"SELECT to_jsonb(t)::text FROM {table} AS t")).scalars())  # noqa: S608
        for table in tables.all()
    }


def schema(connection: Connection) -> list[Any]:
    """Every table, column, index, constraint and comment."""
    return [
        connection.execute(text(statement)).all()
        for statement in (
            "SELECT attrelid::regclass::text, attname, atttypid::regtype::text, attnotnull FROM pg_attribute"
            " JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2",
            "SELECT conname, pg_get_constraintdef(oid), obj_description(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
        )
    ]


def test_no_row_is_lost_or_changed(engine: Engine, postgres_url: str) -> None:
    """Byte for byte, whatever rule a row breaks, and Django's own tables, indexes and constraints too."""
    run(engine, TABLES, SECOND_MIGRATION, *CLEAN, *OFFENDERS)
    with engine.begin() as connection:
        rows, (columns, constraints, indexes) = everything(connection), schema(connection)

    upgrade(postgres_url)

    with engine.begin() as connection:
        assert everything(connection) == rows
        now_columns, now_constraints, now_indexes = schema(connection)
    assert set(columns) <= set(now_columns)
    assert set(constraints) <= set(now_constraints)
    assert set(indexes) <= set(now_indexes)


def test_rows_that_break_a_rule_are_reported_by_name(engine: Engine, postgres_url: str) -> None:
    """Each with its table, id and rule, and none that breaks none."""
    run(engine, TABLES, SECOND_MIGRATION, *CLEAN, *OFFENDERS)

    report = upgrade(postgres_url, default_capacity=3)

    expected = {(table, known(n), rule) for table, rule, numbers in EXPECTED for n in numbers}
    assert {tuple(violation) for violation in report.violations} == expected
    assert len(report.violations) == len(expected)
    assert "appointments_employee_not_double_booked" in dict(report.exemptions)


def test_a_second_upgrade_changes_nothing(engine: Engine, postgres_url: str) -> None:
    """Neither rows nor schema; and it reports the same."""
    run(engine, TABLES, SECOND_MIGRATION, *CLEAN, *OFFENDERS)
    first = upgrade(postgres_url)
    with engine.begin() as connection:
        before = everything(connection), schema(connection)

    second = upgrade(postgres_url)

    with engine.begin() as connection:
        assert (everything(connection), schema(connection)) == before
    assert (first.before, second.before) == (None, second.after)
    assert (second.violations, second.exemptions) == (first.violations, first.exemptions)


def test_clean_rows_get_the_rules_in_full(engine: Engine, postgres_url: str) -> None:
    """Without offenders nothing is exempt: the constraints hold for the old rows too."""
    run(engine, TABLES, SECOND_MIGRATION, *CLEAN)

    report = upgrade(postgres_url)

    assert report.violations == ()
    assert report.exemptions == ()
    with pytest.raises(IntegrityError, match="not_double_booked"):
        run(
            engine,
            "UPDATE appointments SET scheduled_time = '09:30', status = 'confirmed' WHERE status = 'pending'",
        )
    with pytest.raises(IntegrityError, match="duration_in_range"):
        run(engine, "UPDATE appointments SET duration_minutes = 0")


def test_rows_made_after_the_offenders_are_bound(engine: Engine, postgres_url: str) -> None:
    """The exemption ends with the last offender: what is made now can't break a rule."""
    run(engine, TABLES, SECOND_MIGRATION, *CLEAN, *OFFENDERS)
    upgrade(postgres_url)
    run(engine, appointment(301, day="2031-01-01", employee=53))

    for wrong in (
        appointment(302, day="2031-01-01", at="09:59", employee=53),
        appointment(303, day="2031-01-02", minutes=0),
        appointment(304, day="2031-01-02", minutes=10081),
        appointment(305, day="2031-01-02", status="on hold"),
        appointment(306, day="2031-01-02", kind="car wash"),
        slot(307, "2031-01-02", "12:00", "09:00"),
        slot(308, "2031-01-02", "12:00", "13:00", capacity=-1),
    ):
        with pytest.raises(IntegrityError):
            run(engine, wrong)


def test_every_offender_can_be_read(engine: Engine, postgres_url: str, database: Database) -> None:
    """In the list, in detail, among the slots and in the numbers."""
    run(engine, TABLES, SECOND_MIGRATION, *CLEAN, *OFFENDERS)
    upgrade(postgres_url)

    with database.reading() as connection:
        page = reading.list_appointments(connection, ADMIN, AppointmentFilters(), Window(100))
        for row in page.rows:
            reading.get_appointment(connection, ADMIN, row.id)
        listed = slots.list_slots(
            connection, POLICY, ADMIN, start_date=None, end_date=None, window=Window(100)
        )
        numbers = statistics.stats(connection, POLICY, ADMIN, NOW)
        free = free_starts.available_slots(
            connection,
            POLICY,
            ADMIN,
            start_date=date(2030, 6, 3),
            end_date=date(2030, 6, 14),
            duration_minutes=60,
            now=NOW,
        )
    assert page.count == numbers.total_appointments == 21
    assert {slot.id: slot.available_capacity for slot in listed.rows}[known(102)] == 0
    assert free


def test_every_offender_can_be_worked_on(engine: Engine, postgres_url: str, database: Database) -> None:
    """Each can be edited, moved along its statuses where its status is known, cancelled, and deleted."""
    run(engine, TABLES, SECOND_MIGRATION, *CLEAN, *OFFENDERS)
    upgrade(postgres_url)
    offenders = [known(n) for table, _, numbers in EXPECTED if table == "appointments" for n in numbers]

    for number in sorted(set(offenders)):
        commands.edit(database, POLICY, ADMIN, number, {"internal_notes": "seen"}, now=NOW)
        for action in (Action.START, Action.CANCEL):
            try:
                changed = commands.act(database, ADMIN, number, action=action, reason="", now=NOW)
            except RuleBroken:
                continue
            assert changed.status == action.leads_to
    with database.reading() as connection:
        left = reading.list_appointments(connection, ADMIN, AppointmentFilters(), Window(100)).rows
    statuses = {row.id: row.status for row in left if row.id in offenders}
    assert set(statuses.values()) == {"cancelled", "completed", "on hold"}
    for number in statuses:
        commands.delete(database, ADMIN, number)


def test_an_employee_in_two_places_can_be_given_to_somebody_else(
    engine: Engine, postgres_url: str, database: Database
) -> None:
    """Putting an old double booking right works, and is checked like any assignment."""
    run(engine, TABLES, SECOND_MIGRATION, *OFFENDERS)
    upgrade(postgres_url)

    assert commands.assign(
        database, REFERENCES, ADMIN, known(11), employee_id=known(54), now=NOW
    ).assigned_employee_id == known(54)
    with pytest.raises(RuleBroken, match="has another appointment from"):
        commands.assign(database, REFERENCES, ADMIN, known(11), employee_id=known(51), now=NOW)


def test_an_old_length_has_to_be_put_right_before_a_new_time(
    engine: Engine, postgres_url: str, database: Database
) -> None:
    """0 minutes can't be moved; with a length that can be booked they can."""
    run(engine, TABLES, SECOND_MIGRATION, *OFFENDERS)
    upgrade(postgres_url)
    move = {"new_date": date(2030, 6, 11), "new_time": time(16), "reason": "", "now": NOW}

    with pytest.raises(RuleBroken, match="Change duration_minutes first"):
        commands.reschedule(database, POLICY, ADMIN, known(41), **move)  # type: ignore[arg-type]
    commands.edit(database, POLICY, ADMIN, known(41), {"duration_minutes": 30}, now=NOW)

    moved = commands.reschedule(database, POLICY, ADMIN, known(41), **move)  # type: ignore[arg-type]
    assert moved.scheduled_time == time(16)


def test_old_slots_can_be_worked_on(engine: Engine, postgres_url: str, database: Database) -> None:
    """They can be closed as they are; moved to another day they must be right."""
    run(engine, TABLES, SECOND_MIGRATION, *OFFENDERS)
    upgrade(postgres_url)

    for number in (102, 103):
        closed = slots.update_slot(database, POLICY, ADMIN, known(number), {"is_available": False})
        assert not closed.is_available
        with pytest.raises(FieldErrors):
            slots.update_slot(database, POLICY, ADMIN, known(number), {"date": date(2031, 6, 12)})
    right = {"date": date(2031, 6, 12), "start_time": time(9), "end_time": time(12)}
    assert slots.update_slot(database, POLICY, ADMIN, known(102), right).end_time == time(12)


def test_new_bookings_respect_the_old_ones(engine: Engine, postgres_url: str, database: Database) -> None:
    """An old appointment takes up room and the employee's time like any other."""
    run(engine, TABLES, SECOND_MIGRATION, *OFFENDERS)
    upgrade(postgres_url)
    request = NewAppointment(
        known(900), known(901), "repair", date(2030, 6, 3), time(10), assigned_employee_id=known(51)
    )

    with pytest.raises(RuleBroken, match="has another appointment"):
        booking.create(database, POLICY, REFERENCES, ADMIN, request, now=NOW)


def test_history_outlives_its_appointment(engine: Engine, postgres_url: str, database: Database) -> None:
    """A foreign key that would take the history along is taken off; every row of it stays."""
    run(engine, TABLES, SECOND_MIGRATION, CLEAN[0], change(200, of=1))
    run(
        engine,
        "ALTER TABLE appointment_history ADD CONSTRAINT history_fk FOREIGN KEY (appointment_id)"
        " REFERENCES appointments (id) ON DELETE CASCADE",
    )
    upgrade(postgres_url)

    commands.delete(database, ADMIN, known(1))

    with database.reading() as connection:
        assert reading.list_history(connection, ADMIN, known(1), Window(10)).count == 1


def test_the_database_of_an_older_platform(engine: Engine, postgres_url: str, database: Database) -> None:
    """Without `duration_seconds`, which came with its second migration, the column is added with 0."""
    clean = [statement.replace(", duration_seconds)", ")") for statement in CLEAN]
    clean = [statement.replace(", 0);", ");").replace(", 3600);", ");") for statement in clean]
    run(engine, TABLES, *clean)

    upgrade(postgres_url)

    with database.reading() as connection:
        assert reading.get_appointment(connection, ADMIN, known(3)).duration_seconds == 0


def test_empty_columns_are_read_as_what_they_stand_for(
    engine: Engine, postgres_url: str, database: Database
) -> None:
    """Tables made by another hand may allow NULL: such rows can be read and worked on, too."""
    empty = ("service_description", "customer_notes", "internal_notes", "duration_seconds", "updated_at")
    nullable = ", ".join(f"ALTER {column} DROP NOT NULL" for column in empty)
    nothing = ", ".join(f"{column} = NULL" for column in empty)
    loosened = f"ALTER TABLE appointments {nullable}; UPDATE appointments SET {nothing}"  # noqa: S608
    run(engine, TABLES, SECOND_MIGRATION, *CLEAN, loosened)

    upgrade(postgres_url)

    with database.reading() as connection:
        found = reading.get_appointment(connection, ADMIN, known(1))
    assert [getattr(found, column) for column in empty] == ["", "", "", 0, found.created_at]
    done = commands.act(database, ADMIN, known(1), action=Action.START, reason="", now=NOW)
    assert (done.status, done.updated_at) == ("in_progress", NOW)


def test_a_slot_without_a_capacity_is_closed(engine: Engine, postgres_url: str, database: Database) -> None:
    """NULL opens nothing: the slot can be seen, booked around, and opened."""
    run(
        engine,
        TABLES,
        SECOND_MIGRATION,
        *CLEAN,
        "ALTER TABLE time_slots ALTER is_available DROP NOT NULL, ALTER max_concurrent_appointments DROP NOT NULL",
        slot(105, "2030-06-03", "09:00", "10:00"),
        slot(106, "2030-06-03", "10:00", "11:00"),
        "UPDATE time_slots SET is_available = NULL WHERE start_time = '09:00'",
        "UPDATE time_slots SET max_concurrent_appointments = NULL WHERE start_time = '10:00'",
    )

    upgrade(postgres_url)

    day = date(2030, 6, 3)
    with database.reading() as connection:
        window = Window(offset=0, limit=10)
        seen = slots.list_slots(connection, POLICY, ADMIN, start_date=day, end_date=day, window=window).rows
        free = free_starts.available_slots(
            connection, POLICY, ADMIN, start_date=day, end_date=day, duration_minutes=60, now=NOW
        )
    assert [(row.is_available, row.max_concurrent_appointments) for row in seen] == [(False, 3), (True, 0)]
    assert not {start.start_time for start in free} & {time(9), time(10)}
    for number, changes in ((105, {"end_time": time(9, 30)}), (106, {"is_available": True})):
        changed = slots.update_slot(database, POLICY, ADMIN, known(number), changes)
        assert changed.available_capacity == 0
    opened = slots.update_slot(database, POLICY, ADMIN, known(106), {"max_concurrent_appointments": 2})
    assert opened.available_capacity == 2


def test_a_column_that_the_service_would_have_to_fill_is_refused(engine: Engine, postgres_url: str) -> None:
    """It could read such a table, but not add to it; columns that may be empty or fill themselves do no harm."""
    run(
        engine,
        TABLES,
        SECOND_MIGRATION,
        "ALTER TABLE appointments ADD COLUMN bay text NOT NULL, ADD COLUMN note text,"
        " ADD COLUMN floor int NOT NULL DEFAULT 0",
    )

    with pytest.raises(UpgradeRefused) as caught:
        upgrade(postgres_url)

    assert str(caught.value) == "appointments.bay is unknown here and must not be empty"


def test_tables_of_somebody_else_are_refused(engine: Engine, postgres_url: str) -> None:
    """A table of the same name with other columns is named with what differs, and nothing is made or changed."""
    run(engine, "CREATE TABLE time_slots (id integer PRIMARY KEY, date date NOT NULL)")
    with engine.begin() as connection:
        before = schema(connection)

    with pytest.raises(
        UpgradeRefused, match=r"time_slots\.id is integer, needed is uuid.*start_time is missing"
    ):
        upgrade(postgres_url)

    with engine.begin() as connection:
        assert schema(connection) == before
