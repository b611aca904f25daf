"""`flask db …`, in an application that has nothing but what the commands need."""

from types import SimpleNamespace

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import NullPool, create_engine

from servease_appt.cli import db as cli
from servease_appt.db.connections import psycopg2_url
from servease_appt.testing.servers import free_port
from tests.db.platform import SECOND_MIGRATION, TABLES, appointment, known


def run(url: str, *words: str) -> Result:
    app = Flask("test")
    app.cli.add_command(cli.commands)
    settings = SimpleNamespace(database_url=url, max_concurrent_appointments=1)
    app.extensions["servease"] = SimpleNamespace(settings=settings)
    return app.test_cli_runner().invoke(args=["db", *words])


def test_upgrade_and_current(postgres_url: str) -> None:
    """Current exits with 1 until the database is what the code needs."""
    before = run(postgres_url, "current")
    upgraded = run(postgres_url, "upgrade")
    again = run(postgres_url, "upgrade")
    after = run(postgres_url, "current")

    assert (before.exit_code, before.output) == (1, "none (needed: v6)\n")
    assert (upgraded.exit_code, upgraded.output) == (0, "Upgraded from none to v6.\n")
    assert (again.exit_code, again.output) == (0, "Already at v6, nothing to do.\n")
    assert (after.exit_code, after.output) == (0, "v6 (needed: v6)\n")


def test_adopting_names_the_rows_that_break_a_rule(postgres_url: str) -> None:
    """With the capacity of the settings, one line for each row and rule."""
    engine = create_engine(psycopg2_url(postgres_url), poolclass=NullPool)
    with engine.begin() as connection:
        for statement in (
            TABLES,
            SECOND_MIGRATION,
            appointment(1),
            appointment(2),
            appointment(3, minutes=0),
        ):
            connection.exec_driver_sql(statement)

    result = run(postgres_url, "upgrade")

    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "Upgraded from none to v6.",
        "constraint appointments_duration_in_range does not bind rows with created_at up to"
        " '2025-01-04 00:00:00+00'",
        f"appointments {known(1)} breaks the rule: capacity",
        f"appointments {known(2)} breaks the rule: capacity",
        f"appointments {known(3)} breaks the rule: duration",
        "3 found. These rows stay as they are and can be worked on.",
    ]


@pytest.mark.parametrize("command", ["upgrade", "current"])
def test_a_database_that_is_away(command: str) -> None:
    """One line and exit code 1."""
    result = run(f"postgresql://postgres:hunter2@127.0.0.1:{free_port()}/x", command)

    assert (result.exit_code, result.output) == (1, "Error: PostgreSQL can't be reached\n")


def test_tables_of_somebody_else(postgres_url: str) -> None:
    """The refusal says what differs."""
    engine = create_engine(psycopg2_url(postgres_url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE appointments (id text)")

    result = run(postgres_url, "upgrade")

    assert result.exit_code == 1
    assert "appointments.id is text, needed is uuid" in result.output
