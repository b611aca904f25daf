"""Any rows and any kind of the platform's tables, and any writer: it works, or one line says why not."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from servease_appt.appointments import reading
from servease_appt.appointments.actors import Actor, Role
from servease_appt.appointments.records import AppointmentFilters, Window
from servease_appt.db import kept_counts
from servease_appt.db.connections import psycopg2_url
from servease_appt.db.engine import Database
from servease_appt.db.errors import UpgradeRefused
from servease_appt.db.migrate import check, upgrade
from servease_appt.db.versions import VERSION_TABLE
from servease_appt.testing.servers import free_port
from tests.db.platform import SECOND_MIGRATION, TABLES, appointment, known
from tests.db.test_adoption import run

ADMIN = Actor(known(700), Role.ADMIN)
FIRST_MIGRATION_ONLY = TABLES.replace(
    ",\n    ('appointments', '0002_appointment_duration_seconds', now())", ""
).replace(", now()), ('appointments', '0002_appointment_duration_seconds', now());", ", now());")
INSERT_OF_THE_FIRST = (
    "INSERT INTO appointments (id, customer_id, vehicle_id, assigned_employee_id, appointment_type,"  # noqa: S608
    " scheduled_date, scheduled_time, duration_minutes, status, service_description, customer_notes, internal_notes,"  # noqa: E501
    " estimated_cost, created_by_user_id, created_at, updated_at, cancelled_at, completed_at)"
    f" VALUES (gen_random_uuid(), '{known(1)}', '{known(2)}', NULL, 'repair', '2031-01-01', '10:00', 60,"
    f" 'pending', '', '', '', NULL, '{known(3)}', now(), now(), NULL, NULL)"
)
"""What Django sends that does not know `duration_seconds`."""
ODD_ROWS = [
    appointment(1, status="*", kind="*"),
    appointment(2, status="**", kind="*x"),
    appointment(3, status="", kind=""),
    appointment(4, day="10000-01-01", employee=60),
    appointment(5, day="infinity", employee=60),
    appointment(6, day="-infinity", employee=60),
    appointment(7, day="0044-03-15 BC", employee=60),
    appointment(8, day="294276-12-31", employee=60),
    appointment(9, day="4713-01-01 BC", employee=60),
    appointment(10, day="0001-01-01"),
    appointment(11, day="9999-12-31", at="23:59:59"),
    appointment(12, minutes=2**31 - 1, employee=61),
]


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


def counted(database: Database) -> int:
    with database.reading() as connection:
        return reading.list_appointments(connection, ADMIN, AppointmentFilters(), Window(5)).count


@pytest.mark.parametrize("adopted", [True, False], ids=["adopted", "written afterwards"])
def test_odd_rows(engine: Engine, postgres_url: str, database: Database, adopted: bool) -> None:
    """Stars, dates that no calendar here has, and lengths of thousands of years are counted, listed and shown."""
    run(engine, TABLES, SECOND_MIGRATION, *(ODD_ROWS if adopted else ODD_ROWS[:1]))
    upgrade(postgres_url)
    if not adopted:
        # What the constraints refuse now is refused by them alone, and not by a trigger that stumbles.
        run(engine, *(row for row in ODD_ROWS[3:] if "2147483647" not in row))
    with engine.begin() as connection:
        connection.execute(text("SELECT appointment_counts_fold()"))
    number = len(ODD_ROWS) if adopted else len(ODD_ROWS) - 3

    assert counted(database) == number
    assert check(postgres_url).wrong_counts == 0
    with database.reading() as connection:
        pages = [
            reading.list_appointments(connection, ADMIN, AppointmentFilters(), Window(1, offset)).rows
            for offset in range(number)
        ]
        assert len({row.id for page in pages for row in page}) == number
        dates = {
            row: reading.get_appointment(connection, ADMIN, known(row)).scheduled_date for row in (4, 5, 6, 7)
        }
    assert dates == {4: date.max, 5: date.max, 6: date.min, 7: date.min}


def test_moments_that_python_can_not_hold(engine: Engine, postgres_url: str, database: Database) -> None:
    """A year beyond 9999 is shown as the last moment, as infinity is."""
    run(engine, TABLES, SECOND_MIGRATION, appointment(1), appointment(2), appointment(3))
    upgrade(postgres_url)
    for number, moment in ((1, "10000-06-01 10:00+00"), (2, "infinity"), (3, "0044-03-15 10:00+00 BC")):
        run(engine, f"UPDATE appointments SET updated_at = '{moment}' WHERE id = '{known(number)}'")  # noqa: S608

    with database.reading() as connection:
        seen = [reading.get_appointment(connection, ADMIN, known(n)).updated_at for n in (1, 2, 3)]

    last = datetime.max.replace(tzinfo=UTC)
    assert seen == [last, last, datetime.min.replace(tzinfo=UTC)]


def test_a_platform_at_its_first_migration_goes_on(
    engine: Engine, postgres_url: str, database: Database
) -> None:
    """Its INSERT, which does not know the new column, works; and it does not add the column a second time."""
    assert "0002" not in FIRST_MIGRATION_ONLY
    run(engine, FIRST_MIGRATION_ONLY)
    upgrade(postgres_url)

    run(engine, INSERT_OF_THE_FIRST)

    assert counted(database) == 1
    with engine.begin() as connection:
        applied = connection.execute(
            text("SELECT name FROM django_migrations WHERE app = 'appointments' ORDER BY name")
        )
        assert applied.scalars().all() == ["0001_initial", "0002_appointment_duration_seconds"]
        assert connection.execute(text("SELECT duration_seconds FROM appointments")).scalar() == 0


def test_the_second_migration_as_plain_sql_changes_nothing(
    engine: Engine, postgres_url: str, database: Database
) -> None:
    """PostgreSQL refuses the column that is there already, and writers of both versions go on."""
    run(engine, FIRST_MIGRATION_ONLY)
    upgrade(postgres_url)

    with pytest.raises(ProgrammingError, match="already exists"):
        run(engine, SECOND_MIGRATION)

    run(engine, INSERT_OF_THE_FIRST, appointment(2))
    assert counted(database) == 2
    assert check(postgres_url).missing == ()


def test_an_older_platform_goes_on_beside_tables_of_the_newer_one(engine: Engine, postgres_url: str) -> None:
    """While the platform's workers are replaced one by one, the INSERT of the older ones works, too."""
    run(engine, TABLES, SECOND_MIGRATION)
    upgrade(postgres_url)

    run(engine, INSERT_OF_THE_FIRST)


def test_a_lost_version(engine: Engine, postgres_url: str, database: Database) -> None:
    """Somebody dropped the table of the version: the upgrade writes it anew and leaves the rest as it is."""
    run(engine, TABLES, SECOND_MIGRATION, appointment(1))
    upgrade(postgres_url)
    run(engine, f"DROP TABLE {VERSION_TABLE}")

    report = upgrade(postgres_url)

    assert (report.before, report.after) == (None, check(postgres_url).needed)
    database.ping()


def test_a_newer_version_is_left_alone(engine: Engine, postgres_url: str) -> None:
    """The upgrade of an older release does nothing to it."""
    upgrade(postgres_url)
    run(
        engine,
        f"UPDATE {VERSION_TABLE} SET version_num = 'v999'",  # noqa: S608
        "DROP TRIGGER appointment_counts_updated ON appointments",
    )

    report = upgrade(postgres_url)

    assert (report.before, report.after) == ("v999", "v999")


def test_upgrades_at_once_where_serializable_is_the_default(engine: Engine, postgres_url: str) -> None:
    """One does it, the others find it done."""
    name = make_url(postgres_url).database
    run(
        engine,
        f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'",
        f"ALTER DATABASE \"{name}\" SET statement_timeout = '2s'",
        TABLES,
    )

    with ThreadPoolExecutor(4) as threads:
        reports = list(threads.map(lambda _: upgrade(postgres_url), range(4)))

    assert sorted(report.before is None for report in reports) == [False] * 3 + [True]


def test_a_databases_own_statement_timeout(engine: Engine, postgres_url: str) -> None:
    """It is meant for requests: the upgrade takes the time that it needs."""
    name = make_url(postgres_url).database
    run(
        engine,
        TABLES,
        SECOND_MIGRATION,
        *(appointment(n, day="2020-01-01", status="completed") for n in range(20)),
        f'ALTER DATABASE "{name}" SET statement_timeout = 1',
    )

    upgrade(postgres_url)


@pytest.mark.parametrize("kind", ["RANGE (scheduled_date)", "HASH (id)"])
def test_a_partitioned_table_is_refused_in_one_line(engine: Engine, postgres_url: str, kind: str) -> None:
    """Neither indexes beside writers nor the triggers of partitions are the same there."""
    key = "id, scheduled_date" if "RANGE" in kind else "id"
    tables = TABLES.replace(
        "CREATE TABLE appointments (\n    id uuid NOT NULL PRIMARY KEY",
        "CREATE TABLE appointments (\n    id uuid NOT NULL",
    )
    tables = tables.replace(
        "    completed_at timestamptz NULL\n);",
        f"    completed_at timestamptz NULL, PRIMARY KEY ({key})\n) PARTITION BY {kind};",
    )
    run(engine, tables)

    with pytest.raises(UpgradeRefused) as caught:
        upgrade(postgres_url)

    assert str(caught.value) == (
        "appointments is a partitioned table; the upgrade can adopt ordinary tables only"
    )


def test_a_list_of_hosts(migrated_postgres_url: str) -> None:
    """As libpq takes it: the first that answers is used."""
    url = make_url(migrated_postgres_url)
    address = f"{url.username}:{url.password}@127.0.0.1:{free_port()},127.0.0.1:{url.port}/{url.database}"
    for scheme in ("postgresql", "postgresql+psycopg2"):
        database = Database(f"{scheme}://{address}?target_session_attrs=read-write")
        database.ping()
        database.close()
        assert check(f"{scheme}://{address}").missing == ()


class TestKeptCounts:
    """Numbers that triggers could not keep."""

    @pytest.fixture(autouse=True)
    def upgraded(self, engine: Engine, postgres_url: str) -> None:
        run(engine, TABLES, SECOND_MIGRATION, *(appointment(n) for n in range(1, 6)))
        upgrade(postgres_url)

    def sampled(self, engine: Engine) -> int:
        with engine.begin() as connection:
            return kept_counts.sampled_differences(connection)

    def test_rows_that_came_past_the_triggers(
        self, engine: Engine, postgres_url: str, database: Database
    ) -> None:
        """A restore with triggers turned off is seen by a sample and by the check; an upgrade puts it right."""
        assert self.sampled(engine) == 0
        run(
            engine,
            "ALTER TABLE appointments DISABLE TRIGGER USER",
            *(appointment(n, day="2031-01-01") for n in range(10, 15)),
            "ALTER TABLE appointments ENABLE TRIGGER USER",
        )
        assert counted(database) == 5
        assert self.sampled(engine) == 1
        assert check(postgres_url).wrong_counts

        assert upgrade(postgres_url).repaired > 0

        assert counted(database) == 10
        assert self.sampled(engine) == 0
        assert upgrade(postgres_url).repaired == 0

    def test_counts_that_were_restored_beside_the_rows(
        self, engine: Engine, postgres_url: str, database: Database
    ) -> None:
        """The triggers counted the rows a second time."""
        run(engine, "SELECT appointment_counts_fold()", "UPDATE appointment_counts SET number = 2 * number")
        assert counted(database) == 10
        assert self.sampled(engine) > 0

        assert upgrade(postgres_url).repaired > 0
        assert counted(database) == 5

    def test_counts_without_a_row(self, engine: Engine, postgres_url: str, database: Database) -> None:
        """Rows that were taken away past the triggers leave numbers for days that have none."""
        run(
            engine,
            "ALTER TABLE appointments DISABLE TRIGGER USER",
            "DELETE FROM appointments",
            "ALTER TABLE appointments ENABLE TRIGGER USER",
        )
        with engine.begin() as connection:
            connection.execute(text("SELECT appointment_counts_fold()"))
        assert self.sampled(engine) > 0
        assert upgrade(postgres_url).repaired > 0
        assert counted(database) == 0

    def test_what_replication_applies_is_counted(self, engine: Engine, postgres_url: str) -> None:
        """It fires the triggers of rows alone, in a role in which ordinary ones do not fire; and only once."""
        for statement in (
            appointment(20, day="2031-02-01"),
            f"UPDATE appointments SET status = 'cancelled' WHERE id = '{known(20)}'",  # noqa: S608
            f"DELETE FROM appointments WHERE id = '{known(1)}'",  # noqa: S608
        ):
            run(engine, "SET session_replication_role = replica", statement)
            assert check(postgres_url).wrong_counts == 0
        run(engine, appointment(21, day="2031-02-01"))
        assert check(postgres_url).wrong_counts == 0
        run(engine, "SET session_replication_role = replica", "TRUNCATE appointments")
        assert check(postgres_url).wrong_counts == 0

    def test_triggers_that_a_restore_turned_off_and_on(self, engine: Engine, postgres_url: str) -> None:
        """All of them fire for every session then: nothing is counted twice, and an upgrade sets them right."""
        off_and_on = ("DISABLE TRIGGER ALL", "ENABLE TRIGGER ALL")
        run(engine, *(f"ALTER TABLE appointments {what}" for what in off_and_on), appointment(30))
        found = check(postgres_url)
        assert found.wrong_counts == 0
        assert "ENABLE REPLICA TRIGGER appointment_counts_replicated" in " ".join(found.missing)
        run(engine, "ALTER TABLE appointments DISABLE TRIGGER appointment_counts_inserted")

        upgrade(postgres_url)

        assert check(postgres_url).missing == ()
        run(engine, appointment(31))
        assert check(postgres_url).wrong_counts == 0

    def test_employees_times_that_came_past_the_trigger(self, engine: Engine, postgres_url: str) -> None:
        """Times that are missing and times that are left over are found by the check, and set right."""
        run(engine, appointment(40, employee=70, day="2031-06-01"))
        run(
            engine,
            "ALTER TABLE appointments DISABLE TRIGGER appointment_employee_times_changed",
            f"DELETE FROM appointments WHERE id = '{known(40)}'",  # noqa: S608
            appointment(41, employee=71, day="2031-06-01"),
            "ALTER TABLE appointments ENABLE TRIGGER appointment_employee_times_changed",
        )
        assert check(postgres_url).missing != ()

        upgrade(postgres_url)

        assert check(postgres_url).missing == ()
        run(engine, appointment(42, employee=70, day="2031-06-01"))
        with pytest.raises(IntegrityError):
            run(engine, appointment(43, employee=71, day="2031-06-01"))

    def test_a_writer_that_never_folds(self, engine: Engine, database: Database) -> None:
        """REPEATABLE READ alone leaves its changes to others: a fold from outside adds them up."""
        old = create_engine(engine.url, poolclass=NullPool, isolation_level="REPEATABLE READ")
        for number in range(100, 240):
            run(old, appointment(number, day="2031-03-01", status="pending"))
        waiting = text("SELECT count(*) FROM appointment_count_changes")
        with engine.begin() as connection:
            assert connection.execute(waiting).scalar_one() > 64

        kept_counts.fold(database)

        with engine.begin() as connection:
            assert connection.execute(waiting).scalar_one() == 0
        assert counted(database) == 145
