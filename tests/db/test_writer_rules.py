"""Other writers, held to the rules about many rows when an operator says so."""

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, inspect, text
from sqlalchemy.exc import IntegrityError

from servease_appt.appointments import booking, locks
from servease_appt.appointments.errors import RuleBroken
from servease_appt.appointments.records import NewAppointment
from servease_appt.db import writer_rules
from servease_appt.db.alembic_filter import OUR_TABLES
from servease_appt.db.connections import psycopg2_url
from servease_appt.db.engine import Database
from servease_appt.db.errors import UpgradeRefused
from servease_appt.db.migrate import check
from servease_appt.scheduling.capacity import Calendar, CapacityWindow, Running
from servease_appt.scheduling.intervals import Interval
from servease_appt.testing.processes import wait_until
from tests.appointments.workshop import REFERENCES
from tests.db.platform import appointment, known, slot
from tests.db.test_adoption import ADMIN, NOW, POLICY, run

CAPACITY = POLICY.default_capacity
DAY_LOCKS = {day: locks.day(day) for day in writer_rules.DAYS if day.year in {2030, 2031}}
WAITING = text(
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted"
    " AND locktype = 'advisory' AND datname = current_database()"
)


@pytest.fixture
def engine(migrated_postgres_url: str) -> Iterator[Engine]:
    """The platform's own connections."""
    engine = create_engine(psycopg2_url(migrated_postgres_url), poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def database(migrated_postgres_url: str) -> Iterator[Database]:
    database = Database(migrated_postgres_url)
    yield database
    database.close()


@pytest.fixture
def enforced(engine: Engine, migrated_postgres_url: str) -> Engine:
    writer_rules.enforce(migrated_postgres_url, CAPACITY, DAY_LOCKS)
    return engine


def pending(number: int, **given: object) -> str:
    return appointment(number, **{"status": "pending", **given})  # type: ignore[arg-type]


def watching(engine: Engine) -> Connection:
    """A connection that looks anew each time: within a transaction, PostgreSQL shows the sessions of its begin."""
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()


def is_refused(engine: Engine, statement: str) -> bool:
    try:
        run(engine, statement)
    except IntegrityError:
        return True
    return False


def test_off_until_it_is_turned_on(engine: Engine, migrated_postgres_url: str) -> None:
    """And off again when it is released; the tables are as before."""
    assert writer_rules.capacity_in_force(migrated_postgres_url) is None
    writer_rules.enforce(migrated_postgres_url, 2, DAY_LOCKS)
    writer_rules.enforce(migrated_postgres_url, 3, DAY_LOCKS)
    assert writer_rules.capacity_in_force(migrated_postgres_url) == 3
    assert check(migrated_postgres_url).missing == ()
    assert set(inspect(engine).get_table_names()) <= OUR_TABLES

    writer_rules.release(migrated_postgres_url)

    assert writer_rules.capacity_in_force(migrated_postgres_url) is None
    run(engine, *(pending(n) for n in range(1, 9)))


def test_not_while_rows_break_the_rules(engine: Engine, migrated_postgres_url: str) -> None:
    """They are named, and nobody is held to anything."""
    run(engine, *(pending(n) for n in range(1, CAPACITY + 2)))

    with pytest.raises(UpgradeRefused, match=rf"4 appointments .*{known(1)}"):
        writer_rules.enforce(migrated_postgres_url, CAPACITY, DAY_LOCKS)

    assert writer_rules.capacity_in_force(migrated_postgres_url) is None


def test_what_is_refused(enforced: Engine) -> None:
    """One more than may run at a moment, and two starts of one customer that are too near; and nothing else."""
    run(enforced, *(pending(n) for n in range(1, CAPACITY + 1)))
    run(
        enforced,
        slot(100, "2030-05-08", "09:00", "10:00", capacity=1),
        pending(20, day="2030-05-08", customer=7),
    )
    run(enforced, slot(101, "2030-05-09", "23:00", "00:00", available=False))

    with pytest.raises(IntegrityError, match="no room"):
        run(enforced, pending(4, at="09:59"))
    assert is_refused(enforced, pending(21, day="2030-05-08", at="09:59"))
    assert is_refused(enforced, pending(22, day="2030-05-09", at="22:30"))
    with pytest.raises(IntegrityError, match="less than 30 minutes"):
        run(enforced, pending(23, day="2030-05-08", at="08:31", minutes=5, customer=7))

    for number, statement in enumerate(
        (
            pending(30, at="10:00"),
            pending(31, at="08:00"),
            pending(32, status="cancelled"),
            pending(33, day="2030-05-08", at="08:30", minutes=30, customer=7),
            pending(34, day="2030-05-09", at="22:00"),
            pending(35, day="2150-05-09"),
        )
    ):
        assert not is_refused(enforced, statement), number


def changed(number: int, what: str) -> str:
    return f"UPDATE appointments SET {what} WHERE id = '{known(number)}'"  # noqa: S608


def test_changes_are_held_to_them_as_well(enforced: Engine) -> None:
    """A move, a length, a status that opens again; what leaves the time alone is free."""
    run(enforced, *(pending(n) for n in range(1, CAPACITY + 1)))
    run(enforced, pending(9, at="11:00"), pending(10, status="cancelled"))

    assert is_refused(enforced, changed(9, "scheduled_time = '09:30'"))
    assert is_refused(enforced, changed(9, "scheduled_time = '08:30'"))
    assert is_refused(enforced, changed(10, "status = 'pending'"))
    assert not is_refused(enforced, changed(9, "duration_minutes = 90, status = 'confirmed'"))
    assert not is_refused(enforced, changed(1, "customer_notes = 'x', status = 'confirmed'"))


def test_a_writer_waits_for_another_and_sees_its_row(enforced: Engine) -> None:
    """Count, then insert, as the platform does: what was free at the count is checked again under the lock."""
    run(enforced, *(pending(n) for n in range(1, CAPACITY)))
    outcome: list[bool] = []
    with enforced.connect() as first, watching(enforced) as watcher:
        first.execute(text(pending(50)))
        second = threading.Thread(target=lambda: outcome.append(is_refused(enforced, pending(51))))
        second.start()
        assert wait_until(lambda: watcher.execute(WAITING).scalar_one() == 1, timeout_s=20)
        first.commit()
        second.join(20)

    assert outcome == [True]


@pytest.mark.parametrize("service_first", [True, False], ids=["service first", "platform first"])
def test_the_service_and_another_writer(enforced: Engine, database: Database, service_first: bool) -> None:
    """Whichever comes first, the other waits for it and is refused, over midnight too."""
    run(enforced, *(pending(n, day="2030-05-07", at="23:30") for n in range(1, CAPACITY)))
    theirs = pending(60, day="2030-05-07", at="23:45")
    wanted = NewAppointment(known(900), known(901), "repair", date(2030, 5, 8), time(0, 15))
    outcome: list[bool] = []

    def service() -> None:
        try:
            booking.create(database, POLICY, REFERENCES, ADMIN, wanted, now=NOW)
            outcome.append(False)
        except RuleBroken:
            outcome.append(True)

    with watching(enforced) as watcher:
        if service_first:
            with database.transaction() as held:
                locks.take(held, [locks.day(date(2030, 5, 8))])
                held.execute(text(pending(61, day="2030-05-08", at="00:15")))
                other = threading.Thread(target=lambda: outcome.append(is_refused(enforced, theirs)))
                other.start()
                assert wait_until(lambda: watcher.execute(WAITING).scalar_one() == 1, timeout_s=20)
        else:
            with enforced.connect() as platform:
                platform.execute(text(theirs))
                other = threading.Thread(target=service)
                other.start()
                assert wait_until(lambda: watcher.execute(WAITING).scalar_one() == 1, timeout_s=20)
                platform.commit()
        other.join(20)

    assert outcome == [True]


def test_it_judges_as_the_service_does(enforced: Engine) -> None:
    """Whatever slots there are and whatever runs, the trigger and the service's calendar agree."""
    chance = random.Random(11)
    first = datetime(2030, 7, 1)
    for round_ in range(12):
        run(enforced, "TRUNCATE appointments", "TRUNCATE time_slots")
        windows: list[CapacityWindow] = []
        for number in range(chance.randrange(5)):
            start, length = chance.randrange(0, 23), chance.randrange(1, 3)
            end = time((start + length) % 24) if start + length <= 24 else time(0)
            day, available, capacity = chance.choice((1, 2)), chance.random() < 0.8, chance.randrange(3)
            statement = slot(
                number,
                f"2030-07-{day:02}",
                f"{start}:{number:02}",
                str(end),
                available=available,
                capacity=capacity,
            )
            run(enforced, statement)
            begin = time(start, number)
            windows.append(
                CapacityWindow.of(date(2030, 7, day), begin, end, available=available, capacity=capacity)
            )
        running: list[Interval] = []
        for number in range(20):
            starts = first + timedelta(minutes=15 * chance.randrange(4 * 48))
            minutes = chance.choice((15, 60, 180, 1500))
            interval = Interval.of(starts.date(), starts.time(), minutes)
            room = Calendar(Running.of(running), windows, CAPACITY).room(interval)
            wanted = pending(
                1000 * round_ + number, day=str(starts.date()), at=str(starts.time()), minutes=minutes
            )
            assert is_refused(enforced, wanted) is (room < 1), (windows, running, interval)
            if room >= 1:
                running.append(interval)


def test_the_service_keeps_to_its_own_setting(enforced: Engine, database: Database) -> None:
    """It has checked already: a capacity that was raised since is no unknown error of its bookings."""
    run(enforced, *(pending(n) for n in range(1, CAPACITY + 1)))
    raised = replace(POLICY, default_capacity=CAPACITY + 1)
    wanted = NewAppointment(known(900), known(901), "repair", date(2030, 5, 7), time(9))

    booking.create(database, raised, REFERENCES, ADMIN, wanted, now=NOW)
