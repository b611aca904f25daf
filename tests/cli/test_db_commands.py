"""`flask db …`, in an application that has nothing but what the commands need."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import NullPool, create_engine

from servease_appt.cli import db as cli
from servease_appt.db.connections import psycopg2_url
from servease_appt.testing.servers import free_port
from tests.db.platform import SECOND_MIGRATION, TABLES, appointment, known

GUIDE = Path(__file__).parents[2] / "docs" / "database.md"


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

    assert (before.exit_code, before.output) == (1, "none (needed: v7)\n")
    assert (upgraded.exit_code, upgraded.output) == (0, "Upgraded from none to v7.\n")
    assert (again.exit_code, again.output) == (0, "Already at v7, nothing to do.\n")
    assert (after.exit_code, after.output) == (0, "v7 (needed: v7)\n")


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
        "Upgraded from none to v7.",
        "constraint appointments_duration_in_range does not bind rows with created_at up to"
        " '2025-01-04 00:00:00+00'",
        f"appointments {known(1)} breaks the rule: capacity",
        f"appointments {known(2)} breaks the rule: capacity",
        f"appointments {known(3)} breaks the rule: duration",
        "3 found. These rows stay as they are and can be worked on.",
    ]


@pytest.mark.parametrize(
    "command", [["upgrade"], ["upgrade", "--dry-run"], ["current"], ["check"], ["downgrade", "--yes"]]
)
def test_a_database_that_is_away(command: list[str]) -> None:
    """One line with the reason and the address, and exit code 1."""
    port = free_port()
    result = run(f"postgresql://postgres:hunter2@127.0.0.1:{port}/x", *command)

    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: PostgreSQL can't be reached: connection to server")
    assert f"@127.0.0.1:{port}/x. `cache doctor`" in line
    assert "Connection refused" in line
    assert "hunter2" not in line


def test_tables_of_somebody_else(postgres_url: str) -> None:
    """The refusal says what differs."""
    engine = create_engine(psycopg2_url(postgres_url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE appointments (id text)")

    result = run(postgres_url, "upgrade")

    assert result.exit_code == 1
    assert "appointments.id is text, needed is uuid" in result.output


def test_every_command_of_the_guide(postgres_url: str) -> None:
    """In the order in which docs/database.md has them, on the platform's database."""
    with create_engine(psycopg2_url(postgres_url), poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql(TABLES)
    commands = re.findall(r"^flask --app wsgi db (.*)$", GUIDE.read_text(), re.MULTILINE)

    results = [run(postgres_url, *command.split()) for command in commands]

    assert commands == [
        *("upgrade --dry-run", "upgrade", "current", "check", "check --repair"),
        *("rules", "rules --enforce", "rules --release", "downgrade --yes"),
    ]
    assert [result.exit_code for result in results] == [0] * len(commands)
    assert "ALTER TABLE appointments ADD COLUMN duration_seconds" in results[0].output
    assert results[0].output.endswith("nothing was changed.\n")
    assert results[3].output == "version: v7 (needed: v7)\nkept counts: 0 wrong\n"


def test_check_names_what_differs_and_repairs_counts(postgres_url: str) -> None:
    """Exit code 1 until it is made good; an upgrade says what it has repaired."""
    assert run(postgres_url, "check").exit_code == 1
    run(postgres_url, "upgrade")
    with create_engine(psycopg2_url(postgres_url), poolclass=NullPool).begin() as connection:
        for statement in (appointment(1), "UPDATE appointment_count_changes SET number = 3"):
            connection.exec_driver_sql(statement)

    found = run(postgres_url, "check")
    repaired = run(postgres_url, "check", "--repair")
    with create_engine(psycopg2_url(postgres_url), poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql("DROP INDEX appointments_listed_idx")
        connection.exec_driver_sql("UPDATE appointment_counts SET number = 9")
    missing = run(postgres_url, "check")
    upgraded = run(postgres_url, "upgrade")

    assert (found.exit_code, found.output.splitlines()[1:]) == (
        1,
        ["kept counts: 12 wrong", "Run `flask --app wsgi db check --repair`."],
    )
    assert (repaired.exit_code, repaired.output.splitlines()[-1]) == (0, "kept counts: 12 wrong, 12 repaired")
    assert missing.exit_code == 1
    assert "missing: CREATE INDEX CONCURRENTLY appointments_listed_idx" in missing.output
    assert upgraded.output.splitlines()[1] == "12 kept counts were wrong and have been put right."


def test_the_rules_of_other_writers(postgres_url: str) -> None:
    """Shown, turned on with the capacity of the settings, and not while rows break them."""
    run(postgres_url, "upgrade")
    shown = run(postgres_url, "rules")
    enforced = run(postgres_url, "rules", "--enforce")
    released = run(postgres_url, "rules", "--release")
    with create_engine(psycopg2_url(postgres_url), poolclass=NullPool).begin() as connection:
        for number in (1, 2):
            connection.exec_driver_sql(appointment(number))
    refused = run(postgres_url, "rules", "--enforce")
    both = run(postgres_url, "rules", "--enforce", "--release")

    free = "Other writers are not held to capacity and the customer's 30 minutes.\n"
    assert (shown.output, released.output) == (free, free)
    assert enforced.output == "Every writer is held to a capacity of 1 and to the customer's 30 minutes.\n"
    assert (refused.exit_code, both.exit_code) == (1, 2)
    assert refused.output.startswith("Error: 2 appointments break these rules already")


def test_downgrade_asks_first(postgres_url: str) -> None:
    """Without an answer nothing is taken off."""
    run(postgres_url, "upgrade")

    result = run(postgres_url, "downgrade")

    assert result.exit_code == 1
    assert run(postgres_url, "check").exit_code == 0


def test_what_nobody_foresaw_is_one_line(postgres_url: str) -> None:
    """PostgreSQL's own first line, without a trace and without the values of a row."""
    with create_engine(psycopg2_url(postgres_url), poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql("CREATE TYPE appointment_uuid_range AS (x int)")

    result = run(postgres_url, "upgrade")

    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
    assert result.output.startswith("Error: PostgreSQL refuses a step: ")
