"""An upgrade beside services that write: they do not wait for it, and none of their transactions fails."""

import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Engine, NullPool, create_engine, event, text

from servease_appt.db import kept_counts, online
from servease_appt.db.connections import psycopg2_url
from servease_appt.db.errors import LockNotAvailable
from servease_appt.db.migrate import check, downgrade, plan, upgrade
from servease_appt.db.online import OnlineSteps
from tests.db.platform import SECOND_MIGRATION, TABLES, appointment, change, known, slot
from tests.db.test_adoption import CLEAN, OFFENDERS, everything, run, schema

STRONG = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
"""Locks of a table that keep writers out, or readers as well."""

MOMENTARY = re.compile(
    r"\s*(ALTER TABLE \w+ (ADD CONSTRAINT .*NOT VALID|ADD COLUMN .*DEFAULT 0|ALTER COLUMN duration_seconds SET"
    r"|DROP CONSTRAINT|ENABLE (REPLICA |ALWAYS )?TRIGGER)|CREATE TRIGGER|DROP TRIGGER|COMMENT ON CONSTRAINT"
    r"|INSERT INTO django_migrations)",
    re.DOTALL,
)
"""What takes no longer for a million rows than for one."""


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    engine = create_engine(psycopg2_url(postgres_url), poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def platform(engine: Engine) -> Engine:
    """The platform's database with rows, some of which break rules."""
    run(engine, TABLES, SECOND_MIGRATION, *CLEAN, *OFFENDERS)
    return engine


def strong_locks(watcher: Any, pid: int) -> set[str]:
    cursor = watcher.cursor()
    cursor.execute(
        "SELECT DISTINCT mode FROM pg_locks WHERE pid = %s AND granted AND mode = ANY(%s)"
        " AND relation IN (to_regclass('appointments'), to_regclass('time_slots'))",
        (pid, list(STRONG)),
    )
    return {mode for (mode,) in cursor.fetchall()}


@contextmanager
def watched(url: str) -> Iterator[list[tuple[str, set[str]]]]:
    """Each statement of upgrades, with the strong locks that its transaction holds after it."""
    seen: list[tuple[str, set[str]]] = []
    watcher = psycopg2.connect(url.replace("+psycopg2", ""))
    watcher.autocommit = True

    def look(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append((statement, strong_locks(watcher, cursor.connection.info.backend_pid)))

    event.listen(Engine, "after_cursor_execute", look)
    try:
        yield seen
    finally:
        event.remove(Engine, "after_cursor_execute", look)
        watcher.close()


@pytest.mark.parametrize("at_second", [False, True], ids=["platform at 0001", "platform at 0002"])
def test_no_lock_that_stops_writers_is_held_over_a_scan(
    engine: Engine, postgres_url: str, at_second: bool
) -> None:
    """With one there are only statements that take a moment, and one kind of it in a transaction."""
    run(engine, TABLES, *([SECOND_MIGRATION, *CLEAN, *OFFENDERS] if at_second else []))

    with watched(postgres_url) as up:
        upgrade(postgres_url)
    with watched(postgres_url) as down:
        downgrade(postgres_url)

    for seen in (up, down):
        with_lock = [(statement, modes) for statement, modes in seen if modes]
        assert with_lock
        assert [statement for statement, _ in with_lock if not MOMENTARY.match(statement)] == []
        assert max(len(modes) for _, modes in with_lock) == 1


def test_it_waits_for_others_without_stopping_anybody(
    platform: Engine, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a backup it gives each lock up again, names who was in the way, and goes on another time."""
    monkeypatch.setattr(online, "PATIENCE_S", 1.0)
    waiting = threading.Event()
    with platform.connect() as backup, platform.connect() as writer:
        backup.execute(text("SET application_name = 'pg_dump'"))
        backup.execute(text("SELECT count(*) FROM appointments")).scalar()
        backup.execute(text("SELECT pg_sleep(1.1)"))
        failures: list[BaseException] = []

        def run_upgrade() -> None:
            try:
                upgrade(postgres_url, progress=lambda _line: waiting.set())
            except LockNotAvailable as error:
                failures.append(error)

        thread = threading.Thread(target=run_upgrade)
        thread.start()
        assert waiting.wait(20)
        writer.execute(text("SET statement_timeout = '250ms'"))
        for number in range(900, 920):
            writer.execute(text(appointment(number, day="2031-01-01", status="pending")))
            writer.commit()
        thread.join(30)
    [failure] = failures
    assert "pg_dump" in str(failure)
    assert "ALTER TABLE appointments" in str(failure)

    assert upgrade(postgres_url).after is not None
    assert check(postgres_url).wrong_counts == 0


def test_beside_four_transactional_writers(engine: Engine, postgres_url: str) -> None:
    """None of them fails, and what they changed meanwhile is in the kept numbers and in the employees' times."""
    rows = [
        appointment(n, day=f"2031-01-{n % 27 + 1:02}", at=f"{n % 14:02}:00", employee=n)
        for n in range(1, 301)
    ]
    run(engine, TABLES, SECOND_MIGRATION, *rows)
    over = threading.Event()
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        fresh = 10_000 * (seed + 1)
        with (
            psycopg2.connect(postgres_url.replace("+psycopg2", "")) as connection,
            connection.cursor() as cursor,
        ):
            while not over.is_set():
                first, second = sorted(chance.sample(range(1, 301), 2))
                fresh += 1
                status = chance.choice(("cancelled", "confirmed", "pending"))
                try:
                    cursor.execute("SELECT count(*) FROM appointments")
                    for number in (first, second):
                        cursor.execute(
                            "UPDATE appointments SET status = %s WHERE id = %s", (status, known(number))
                        )
                    cursor.execute(appointment(fresh, day="2031-02-01", status="pending"))
                    cursor.execute(change(fresh, of=first))
                    connection.commit()
                except psycopg2.Error as error:
                    connection.rollback()
                    failures.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(2):
            upgrade(postgres_url)
            downgrade(postgres_url)
        upgrade(postgres_url)
    finally:
        over.set()
        for writer in writers:
            writer.join()

    assert failures == []
    assert check(postgres_url).wrong_counts == 0
    with engine.begin() as connection:
        busy = "SELECT id FROM appointments WHERE status = 'confirmed' AND assigned_employee_id IS NOT NULL"
        kept = "SELECT appointment_id FROM appointment_employee_times"
        for missing in (f"{busy} EXCEPT {kept}", f"{kept} EXCEPT {busy}"):
            assert connection.execute(text(missing)).all() == []


def test_a_row_that_breaks_a_rule_while_its_constraint_is_made(
    platform: Engine, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came after the look for such rows and before the constraint: it is exempt like those from before."""
    original = OnlineSteps.scan
    late = [appointment(1500, day="2031-03-01", minutes=0)]

    def scan(self: OnlineSteps, *statements: str) -> None:
        if late and "appointments_duration_in_range" in statements[0]:
            run(
                platform,
                "ALTER TABLE appointments DROP CONSTRAINT appointments_duration_in_range",
                late.pop(),
                "ALTER TABLE appointments ADD CONSTRAINT appointments_duration_in_range"
                " CHECK (duration_minutes BETWEEN 1 AND 10080) NOT VALID",
            )
        original(self, *statements)

    monkeypatch.setattr(OnlineSteps, "scan", scan)
    report = upgrade(postgres_url)

    assert late == []
    assert known(1500) in {violation.id for violation in report.violations}
    run(platform, f"UPDATE appointments SET status = 'cancelled' WHERE id = '{known(1500)}'")  # noqa: S608


def test_an_upgrade_that_was_broken_off_is_gone_on_with(platform: Engine, postgres_url: str) -> None:
    """A half-made index, a version that is not written down, a dropped trigger: the next upgrade makes it good."""
    upgrade(postgres_url)
    with platform.begin() as connection:
        complete = schema(connection)
    run(
        platform,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'appointments_listed_idx'::regclass",
        "DROP INDEX appointments_completed_idx",
        "DROP TRIGGER appointment_counts_inserted ON appointments",
        "DROP FUNCTION appointments_later_than(text, text, date)",
        "ALTER TABLE time_slots DROP CONSTRAINT time_slots_capacity_not_negative",
        "DROP TABLE appointment_service_alembic_version",
        appointment(1600, day="2031-04-01"),
    )
    found = check(postgres_url)
    assert found.found is None
    assert {"appointments_listed_idx", "appointments_completed_idx", "appointment_counts_inserted"} <= set(
        re.findall(r"\w+", " ".join(found.missing))
    )

    upgrade(postgres_url)

    after = check(postgres_url)
    assert (after.missing, after.wrong_counts, after.found) == ((), 0, after.needed)
    with platform.begin() as connection:
        assert schema(connection) == complete


def test_a_dry_run_changes_nothing(platform: Engine, postgres_url: str) -> None:
    """It names every statement; for tables that are as needed there are none."""
    with platform.begin() as connection:
        before = everything(connection), schema(connection)

    planned = plan(postgres_url)

    with platform.begin() as connection:
        assert (everything(connection), schema(connection)) == before
    assert "CREATE INDEX CONCURRENTLY appointments_listed_idx" in " ".join(planned)
    upgrade(postgres_url)
    assert plan(postgres_url) == []


def test_the_way_back(platform: Engine, postgres_url: str) -> None:
    """All that was made goes, every row and column of the platform's stays, and the way forth works again."""
    with platform.begin() as connection:
        before = everything(connection), schema(connection)
    upgrade(postgres_url)
    run(platform, appointment(1700, day="2031-05-01"), slot(1701, "2031-05-01", "9:00", "10:00"))

    downgrade(postgres_url)

    with platform.begin() as connection:
        rows, now = everything(connection), schema(connection)
        left = connection.execute(
            text(
                "SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace UNION ALL"
                " SELECT tgname FROM pg_trigger WHERE tgrelid = 'appointments'::regclass UNION ALL"
                " SELECT typname FROM pg_type WHERE typname LIKE 'appointment_uuid%'"
            )
        ).all()
    assert now == before[1]
    assert left == []
    assert {table: len(found) for table, found in rows.items()} == {
        table: len(found) + (table in {"appointments", "time_slots"}) for table, found in before[0].items()
    }
    downgrade(postgres_url)
    upgrade(postgres_url)
    assert check(postgres_url).missing == ()


def test_the_constraint_of_an_older_version_moves(engine: Engine, postgres_url: str) -> None:
    """Version 5 had the employee's constraint on the table of appointments itself, and narrower counts."""
    run(engine, TABLES, SECOND_MIGRATION, *CLEAN)
    upgrade(postgres_url)
    run(
        engine,
        "DROP TRIGGER appointment_employee_times_changed ON appointments",
        "DROP TRIGGER appointment_employee_times_truncated ON appointments",
        "DROP TABLE appointment_employee_times",
        "ALTER TABLE appointments ADD CONSTRAINT appointments_employee_not_double_booked EXCLUDE USING gist ("
        " appointment_uuid_range(assigned_employee_id, assigned_employee_id, '[]') WITH &&,"
        " tsrange(scheduled_date + scheduled_time, scheduled_date + scheduled_time"
        " + duration_minutes * INTERVAL '1 minute') WITH &&) WHERE (status = 'confirmed')",
        "ALTER TABLE appointment_counts ALTER status TYPE varchar(20), ALTER appointment_type TYPE varchar(50)",
        "ALTER TABLE appointments ALTER duration_seconds DROP DEFAULT",
        "UPDATE appointment_service_alembic_version SET version_num = 'v5'",
    )

    planned = plan(postgres_url)
    assert len(planned) == len(set(planned))
    assert upgrade(postgres_url).before == "v5"

    with engine.begin() as connection:
        where = connection.execute(
            text(
                "SELECT conrelid::regclass::text FROM pg_constraint"
                " WHERE conname = 'appointments_employee_not_double_booked'"
            )
        ).all()
        assert where == [("appointment_employee_times",)]
        assert kept_counts.differences(connection) == 0
    assert check(postgres_url).missing == ()
