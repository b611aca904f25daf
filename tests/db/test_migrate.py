"""Making the tables in a database that has none of them yet."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, NullPool, create_engine, inspect, text

from servease_appt.db.connections import psycopg2_url
from servease_appt.db.errors import DatabaseUnavailable
from servease_appt.db.migrate import current, upgrade
from servease_appt.db.models import Base
from servease_appt.db.versions import VERSION_TABLE, VERSIONS
from servease_appt.testing.servers import free_port


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    engine = create_engine(psycopg2_url(postgres_url), poolclass=NullPool)
    yield engine
    engine.dispose()


def test_an_empty_database(engine: Engine, postgres_url: str) -> None:
    """Gets the four tables, the counts and a version; a second time there is nothing to do."""
    before, head = current(postgres_url)
    first = upgrade(postgres_url)
    second = upgrade(postgres_url)

    assert before is None
    assert (first.before, first.after) == (None, head)
    assert (second.before, second.after) == (head, head)
    assert current(postgres_url) == (head, head)
    assert head == VERSIONS[-1]
    tables = {"appointments", "time_slots", "appointment_history", "idempotency_keys", VERSION_TABLE}
    tables |= {"appointment_counts", "appointment_count_changes", "appointment_employee_times"}
    tables |= {"appointment_events", "appointment_events_state"}
    assert set(inspect(engine).get_table_names()) == tables


def test_the_models_describe_the_tables(engine: Engine, postgres_url: str) -> None:
    """Columns, their types and whether they may be empty are the same in both."""
    upgrade(postgres_url)

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_object": lambda _thing, name, kind, *_: (
                    kind in {"table", "column"} and name != VERSION_TABLE
                ),
            },
        )
        differences = compare_metadata(context, Base.metadata)
    assert differences == []


def test_eight_at_once(postgres_url: str) -> None:
    """One upgrades, the others wait and find it done."""
    with ThreadPoolExecutor(8) as threads:
        reports = [t.result() for t in [threads.submit(upgrade, postgres_url) for _ in range(8)]]

    assert sorted(report.before is None for report in reports) == [False] * 7 + [True]


def test_beside_the_migrations_of_a_host(engine: Engine, postgres_url: str) -> None:
    """A host application's own tables and alembic version are left alone."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('the hosts')"))
        connection.execute(text("CREATE TABLE customers (id int)"))

    upgrade(postgres_url)

    with engine.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [
            "the hosts"
        ]
        assert connection.execute(text("SELECT count(*) FROM customers")).scalar() == 0


def test_no_extension_and_no_superuser_is_needed(engine: Engine, postgres_url: str) -> None:
    """The owner of an otherwise plain database can upgrade it."""
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS plain"))
        connection.execute(text("CREATE ROLE plain LOGIN PASSWORD 'plain'"))
        connection.execute(text("GRANT CREATE ON SCHEMA public TO plain"))
    url = psycopg2_url(postgres_url).set(username="plain", password="plain")

    report = upgrade(url.render_as_string(hide_password=False))

    assert report.before is None
    with engine.begin() as connection:
        extensions = connection.execute(text("SELECT extname FROM pg_extension")).scalars().all()
        connection.execute(text("DROP OWNED BY plain; DROP ROLE plain"))
    assert extensions == ["plpgsql"]


def test_a_database_that_is_away() -> None:
    """Said as such."""
    with pytest.raises(DatabaseUnavailable):
        upgrade(f"postgresql://postgres@127.0.0.1:{free_port()}/x")
