"""`flask --app wsgi db …`"""

import click
from flask import current_app
from flask.cli import with_appcontext

from servease_appt.db.errors import DatabaseUnavailable, UpgradeRefused


@click.group("db")
def commands() -> None:
    """The tables of the appointment service."""


@commands.command("upgrade")
@with_appcontext
def upgrade_command() -> None:
    """Bring the database to this version, adopting the platform's tables; names the rows that break a rule."""
    from servease_appt.db.migrate import upgrade

    container = current_app.extensions["servease"]
    try:
        report = upgrade(container.settings.database_url, container.settings.max_concurrent_appointments)
    except (DatabaseUnavailable, UpgradeRefused) as error:
        raise click.ClickException(str(error)) from error
    if report.before == report.after:
        click.echo(f"Already at {report.after}, nothing to do.")
    else:
        click.echo(f"Upgraded from {report.before or 'none'} to {report.after}.")
    for constraint, note in report.exemptions:
        click.echo(f"constraint {constraint} {note}")
    for table, row_id, rule in report.violations:
        click.echo(f"{table} {row_id} breaks the rule: {rule}")
    if report.violations:
        click.echo(f"{len(report.violations)} found. These rows stay as they are and can be worked on.")


@commands.command("current")
@with_appcontext
def current_command() -> None:
    """Show the database's version; exits with 1 when it is not the one that this code needs."""
    from servease_appt.db.migrate import current

    try:
        found, needed = current(current_app.extensions["servease"].settings.database_url)
    except DatabaseUnavailable as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{found or 'none'} (needed: {needed})")
    if found != needed:
        raise click.exceptions.Exit(1)
