"""The numbers that triggers keep, compared with what is in the table."""

import random
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import product

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from servease_appt.db import kept_counts
from servease_appt.db.connections import psycopg2_url
from servease_appt.testing.processes import wait_until

STATUSES = ("pending", "confirmed", "cancelled")
TYPES = ("repair", "inspection")
FIRST_DAY = date(1999, 6, 1)

PLACED = text(
    "SELECT total, up_to, skipped_of_day FROM appointments_place(:status, :type, :start, :end, :skipped)"
)
COUNTED = text(
    "SELECT count(*) FROM appointments WHERE (CAST(:status AS text) IS NULL OR status = :status)"
    " AND (CAST(:type AS text) IS NULL OR appointment_type = :type)"
    " AND scheduled_date BETWEEN coalesce(:start, '-infinity'::date) AND coalesce(:end, 'infinity'::date)"
)
ADD = text(
    "INSERT INTO appointments SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), NULL, :type, :day,"
    " '09:00', 60, :status, '', '', '', NULL, gen_random_uuid(), now(), now(), NULL, NULL, 0"
    " FROM generate_series(1, :number)"
)
RENAME = text(
    "UPDATE appointments SET status = :status WHERE appointment_type = :type AND scheduled_date <> :day"
)
MOVE = text(
    "UPDATE appointments SET scheduled_date = :day WHERE status = :status AND appointment_type = :type"
)
REMOVE = text("DELETE FROM appointments WHERE scheduled_date = :day AND status = :status")
BOTH_COUNTS = text(
    "SELECT total, (SELECT count(*) FROM appointments)"
    " FROM appointments_place(NULL, NULL, NULL, DATE '9999-12-31', 1)"
)
PENDING_CHANGES = text("SELECT count(*) FROM appointment_count_changes")


@pytest.fixture
def engine(migrated_postgres_url: str) -> Iterator[Engine]:
    engine = create_engine(psycopg2_url(migrated_postgres_url), poolclass=NullPool)
    yield engine
    engine.dispose()


def random_day(chance: random.Random) -> date:
    """A day in one of some stretches that lie in different buckets of every level, before 2000 too."""
    return FIRST_DAY + timedelta(days=chance.choice((0, 31, 400, 3000, 9000)) + chance.randrange(3))


def change_something(connection: Connection, chance: random.Random) -> None:
    """One statement as anybody might send it: of one row, of many, or of none."""
    wanted = {"day": random_day(chance), "status": chance.choice(STATUSES), "type": chance.choice(TYPES)}
    match chance.randrange(5):
        case 0 | 1:
            connection.execute(ADD, {**wanted, "number": chance.randrange(1, 4)})
        case 2:
            connection.execute(RENAME, wanted)
        case 3:
            connection.execute(MOVE, wanted)
        case 4:
            connection.execute(REMOVE, wanted)


def check(connection: Connection, chance: random.Random, combinations: int = 12) -> None:
    """Combinations of filters, all by default, count right and find the day of some rows by their number."""
    for status, kind in chance.sample([*product((None, *STATUSES), (None, *TYPES))], combinations):
        for start, end in ((None, None), (random_day(chance), None), (None, random_day(chance))):
            filters = {"status": status, "type": kind, "start": start, "end": end}
            count = connection.execute(COUNTED, filters).scalar_one()
            for skipped in {0, count // 2, count - 1, count} - {-1}:
                placed = connection.execute(PLACED, {**filters, "skipped": skipped}).one()
                assert placed.total == count
                if skipped >= count:
                    assert placed.up_to is None
                elif skipped:
                    later = {**filters, "start": placed.up_to + timedelta(days=1)}
                    before_that_day = connection.execute(COUNTED, later).scalar_one()
                    assert before_that_day + placed.skipped_of_day == skipped
                    that_day = {**filters, "start": placed.up_to, "end": placed.up_to}
                    assert placed.skipped_of_day < connection.execute(COUNTED, that_day).scalar_one()


def test_any_statements_in_any_order(engine: Engine) -> None:
    """After whatever was inserted, updated and deleted, committed or rolled back, the numbers are true."""
    chance = random.Random(7)
    for _ in range(25):
        with engine.connect() as connection:
            for _ in range(chance.randrange(1, 8)):
                change_something(connection, chance)
            check(connection, chance)
            if chance.random() < 0.3:
                connection.rollback()
            else:
                connection.commit()
        with engine.connect() as connection:
            check(connection, chance)


def test_truncate(engine: Engine) -> None:
    """An emptied table has a count of 0, and counts on from there."""
    chance = random.Random(1)
    with engine.begin() as connection:
        connection.execute(ADD, {"day": FIRST_DAY, "status": "pending", "type": "repair", "number": 5})
        connection.execute(text("SELECT appointment_counts_fold()"))
        connection.execute(ADD, {"day": FIRST_DAY, "status": "pending", "type": "repair", "number": 5})
        connection.execute(text("TRUNCATE appointments"))
        check(connection, chance)
        connection.execute(ADD, {"day": FIRST_DAY, "status": "pending", "type": "repair", "number": 2})
        check(connection, chance)


def test_changes_are_folded_now_and_then(engine: Engine) -> None:
    """However many statements there were, few changes wait to be added up by every reader."""
    for _ in range(200):
        with engine.begin() as connection:
            connection.execute(ADD, {"day": FIRST_DAY, "status": "pending", "type": "repair", "number": 1})
    with engine.connect() as connection:
        assert connection.execute(PENDING_CHANGES).scalar_one() < 64
        check(connection, random.Random(2))


def test_writers_do_not_wait_for_each_other(engine: Engine) -> None:
    """Two open transactions change the same day, also while one of them holds a fold; both numbers come in."""
    row = {"day": FIRST_DAY, "status": "pending", "type": "repair", "number": 1}
    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            connection.execute(text("SET LOCAL lock_timeout = '2s'"))
            connection.execute(ADD, row)
            connection.execute(text("SELECT appointment_counts_fold()"))
            connection.execute(ADD, row)
        second.commit()
        first.commit()
    with engine.connect() as connection:
        assert (
            connection.execute(
                PLACED, {**dict.fromkeys(("status", "type", "start", "end")), "skipped": 0}
            ).one()[0]
            == 4
        )
        check(connection, random.Random(3))


def test_a_transaction_with_an_old_view_folds_nothing(engine: Engine) -> None:
    """REPEATABLE READ would fail on changes that another writer has folded meanwhile; it leaves them to others."""
    row = {"day": FIRST_DAY, "status": "pending", "type": "repair", "number": 1}
    with engine.begin() as connection:
        connection.execute(ADD, row)
    with (
        engine.connect().execution_options(isolation_level="REPEATABLE READ") as old,
        engine.connect() as other,
    ):
        old.execute(text("SELECT 1 FROM appointments"))
        other.execute(text("SELECT appointment_counts_fold()"))
        other.commit()
        old.execute(ADD, row)
        old.execute(text("SELECT appointment_counts_fold()"))
        check(old, random.Random(4))
        old.commit()
    with engine.connect() as connection:
        check(connection, random.Random(4))


def test_true_in_the_middle_of_writing(engine: Engine) -> None:
    """Whoever looks while four others write and fold sees numbers that fit the rows of the same moment, in one
    statement as well as in one REPEATABLE READ transaction."""
    over = threading.Event()
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        try:
            with engine.connect() as connection:
                while not over.is_set():
                    row = {"day": random_day(chance), "status": chance.choice(STATUSES), "type": "repair"}
                    connection.execute(ADD, {**row, "number": chance.randrange(1, 3)})
                    connection.commit()
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    try:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            for seed in range(12):
                check(connection, random.Random(seed), combinations=2)
                connection.rollback()
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for _ in range(300):
                placed, counted = connection.execute(BOTH_COUNTS).one()
                assert placed == counted
    finally:
        over.set()
        for writer in writers:
            writer.join()
    assert failures == []


def test_rebuilding(engine: Engine) -> None:
    """Whatever the counts have come to, a rebuild puts them right."""
    with engine.begin() as connection:
        connection.execute(ADD, {"day": FIRST_DAY, "status": "pending", "type": "repair", "number": 5})
        connection.execute(text("SELECT appointment_counts_fold()"))
        connection.execute(text("UPDATE appointment_counts SET number = 77"))
        assert kept_counts.differences(connection) > 0
        kept_counts.repair(connection)
        assert kept_counts.differences(connection) == 0
        check(connection, random.Random(5))


def test_repairing_beside_a_fold(engine: Engine) -> None:
    """What another transaction is folding at the moment is not overwritten with a number from before it."""
    row = {"day": FIRST_DAY, "status": "pending", "type": "repair", "number": 5}
    with engine.begin() as connection:
        connection.execute(ADD, row)
        connection.execute(text("SELECT appointment_counts_fold()"))
        connection.execute(text("UPDATE appointment_counts SET number = 77"))
        connection.execute(ADD, row)

    def repair() -> None:
        with engine.begin() as connection:
            kept_counts.repair(connection)

    watching = engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as folding, watching.connect() as watcher:
        folding.execute(text("SELECT appointment_counts_fold()"))
        thread = threading.Thread(target=repair)
        thread.start()
        waits = text(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database())"
        )
        assert wait_until(lambda: watcher.execute(waits).scalar_one() > 0, timeout_s=20)
        folding.commit()
        thread.join(20)
    with engine.connect() as connection:
        assert kept_counts.differences(connection) == 0
        check(connection, random.Random(6))
