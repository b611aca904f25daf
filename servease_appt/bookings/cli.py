"""`flask --app wsgi slots …`"""

from datetime import UTC, datetime

import click
from flask import current_app
from flask.cli import with_appcontext

from servease_appt.bookings.errors import FieldErrors
from servease_appt.bookings.slots import seed_slots
from servease_appt.db.errors import DatabaseUnavailable


@click.group("slots")
def commands() -> None:
    """Time slots."""


@commands.command("seed")
@click.option(
    "--days", default=30, show_default=True, help="How many days, today included; weekends stay empty."
)
@click.option("--start-hour", default=9, show_default=True, help="The hour at which the first slot starts.")
@click.option("--end-hour", default=17, show_default=True, help="The hour at which the last slot ends.")
@with_appcontext
def seed(days: int, start_hour: int, end_hour: int) -> None:
    """Add hourly time slots from today on. Running it twice adds nothing."""
    services = current_app.extensions["servease"]
    try:
        count = seed_slots(
            services.database,
            services.policy,
            days=days,
            start_hour=start_hour,
            end_hour=end_hour,
            now=datetime.now(UTC),
        )
    except FieldErrors as error:
        options = [f"--{name.replace('_', '-')}: {' '.join(texts)}" for name, texts in error.errors.items()]
        raise click.UsageError("\n".join(options)) from error
    except DatabaseUnavailable as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Created {count} time slots.")
