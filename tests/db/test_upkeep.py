"""What each worker does for the kept counts now and then."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from servease_appt.db.engine import Database
from servease_appt.db.upkeep import FOLD_EVERY_S, SAMPLE_EVERY_S, Upkeep
from servease_appt.testing.servers import free_port
from tests.db.platform import appointment

WAITING = text("SELECT count(*) FROM appointment_count_changes")


@pytest.fixture
def database(migrated_postgres_url: str) -> Iterator[Database]:
    database = Database(migrated_postgres_url)
    yield database
    database.close()


def run(database: Database, *statements: str) -> None:
    with database.transaction() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def waiting(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(WAITING).scalar_one())


def test_it_folds_now_and_then(database: Database) -> None:
    """Not on the first heartbeat, and not before its time."""
    run(database, appointment(1))
    upkeep = Upkeep(database)
    for now_s in (100.0, 101.0):
        upkeep.step(now_s)
        upkeep.wait()
        assert waiting(database) == 1

    upkeep.step(100.0 + FOLD_EVERY_S)
    upkeep.wait()

    assert waiting(database) == 0


def test_it_tells_what_a_sample_shows(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """In a metric and in the log, at the first fold and every ten minutes."""
    told: list[int] = []
    upkeep = Upkeep(database, told.append)

    def step(now_s: float) -> None:
        upkeep.step(now_s)
        upkeep.wait()

    run(database, appointment(1))
    step(100.0)
    step(200.0)
    assert told == [0]
    run(database, "UPDATE appointment_counts SET number = 7")
    step(300.0)
    assert told == [0]
    step(200.0 + SAMPLE_EVERY_S)

    assert told == [0, 1]
    assert "db check --repair" in caplog.text


def test_it_keeps_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """The heartbeat goes on at once, and a PostgreSQL that is away is the requests' to report."""
    upkeep = Upkeep(Database(f"postgresql://postgres@127.0.0.1:{free_port()}/x"))
    upkeep.step(100.0)
    began_s = time.monotonic()
    upkeep.step(200.0)
    upkeep.wait()

    assert time.monotonic() - began_s < 10
    assert "The upkeep" not in caplog.text
