"""A database with the service's tables, and a workshop to book in."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from servease_appt.db.engine import Database
from tests.appointments.racing import CONNECTIONS
from tests.appointments.workshop import Workshop

PATIENCE_S = 30.0
"""Seconds for a transaction. The service's own 3.5 s are tried elsewhere; a busy machine may need more."""


@pytest.fixture(scope="session")
def shared_database(new_database: Callable[[str], str], migrated_template: str) -> Iterator[Database]:
    """One for all tests here: making one takes a hundred times as long as emptying it."""
    database = Database(new_database(migrated_template), pool_size=CONNECTIONS, deadline_s=PATIENCE_S)
    yield database
    database.close()


@pytest.fixture
def database(shared_database: Database) -> Database:
    """Empty tables."""
    with shared_database.transaction() as connection:
        for table in ("appointments", "time_slots", "appointment_history", "idempotency_keys"):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608
    return shared_database


@pytest.fixture
def workshop(database: Database) -> Workshop:
    """Empty tables, and short words for what tests do with them."""
    return Workshop(database)


@pytest.fixture
def lawless(migrated_postgres_url: str) -> Iterator[Workshop]:
    """A workshop whose tables let an employee be in two places."""
    database = Database(migrated_postgres_url, pool_size=CONNECTIONS, deadline_s=PATIENCE_S)
    workshop = Workshop(database)
    workshop.sql(
        "ALTER TABLE appointment_employee_times DROP CONSTRAINT appointments_employee_not_double_booked"
    )
    yield workshop
    database.close()
