"""A database with the service's tables, and a workshop to book in."""

from collections.abc import Iterator

import pytest

from servease_appt.db.engine import Database

from .workshop import Workshop


@pytest.fixture
def database(migrated_postgres_url: str) -> Iterator[Database]:
    """Empty tables."""
    database = Database(migrated_postgres_url, pool_size=40)
    yield database
    database.close()


@pytest.fixture
def workshop(database: Database) -> Workshop:
    """Empty tables, and short words for what tests do with them."""
    return Workshop(database)
