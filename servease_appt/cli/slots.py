"""`flask --app wsgi slots …`"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import click
from flask import current_app
from flask.cli import with_appcontext

from servease_appt.appointments.errors import FieldErrors
from servease_appt.appointments.slots import seed_slots
from servease_appt.cli.failures import database_failure, log_silenced
from servease_appt.container import Container
from servease_appt.db.errors import DatabaseUnavailable


@click.group("slots", context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Manage the time slots that appointments are booked in."""


@commands.command("seed")
@click.option(
    "--days", default=30, show_default=True, type=click.IntRange(1, 366), help="Number of days from today."
)
@click.option(
    "--start-hour", default=9, show_default=True, type=click.IntRange(0, 23), help="Hour of the first start."
)
@click.option(
    "--end-hour", default=17, show_default=True, type=click.IntRange(1, 24), help="Hour of the last end."
)
@with_appcontext
def seed_command(days: int, start_hour: int, end_hour: int) -> None:
    """Add hourly slots on weekdays; existing slots are not changed.

    Example: flask --app wsgi slots seed --days 30 --start-hour 9 --end-hour 17
    """
    container = cast("Container", current_app.extensions["servease"])
    try:
        with log_silenced():
            added = seed_slots(
                container.database,
                container.policy,
                days=days,
                start_hour=start_hour,
                end_hour=end_hour,
                now=datetime.now(UTC),
            )
    except FieldErrors as error:
        field, (text, *_) = next(iter(error.errors.items()))
        raise click.BadParameter(text, param_hint=f"--{field.replace('_', '-')}") from error
    except DatabaseUnavailable as error:
        raise click.ClickException(database_failure(container.settings, error)) from error
    click.echo(f"{added} slots added.")
