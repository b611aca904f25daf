"""`flask --app wsgi db …`"""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask import current_app
from flask.cli import with_appcontext

from servease_appt.cli.failures import database_failure, log_silenced
from servease_appt.db.errors import DatabaseUnavailable, LockNotAvailable, UpgradeRefused
from servease_appt.db.versions import VERSIONS


@click.group("db", context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """The tables of the appointment service."""


@commands.command("upgrade", short_help="Bring the database to this version.")
@click.option("--dry-run", is_flag=True, help="Print what would be sent to PostgreSQL, and change nothing.")
@with_appcontext
def upgrade_command(dry_run: bool) -> None:
    """Bring the database to this version, adopting the platform's tables; names the rows that break a rule.

    Other services may read and write meanwhile. The next upgrade continues one that was interrupted.
    """
    from servease_appt.db.migrate import plan, upgrade

    settings = current_app.extensions["servease"].settings
    if dry_run:
        with _one_line_errors():
            statements = plan(settings.database_url)
        for statement in statements:
            click.echo(statement)
        click.echo(f"{len(statements)} statements; nothing was changed.")
        return
    with _one_line_errors():
        report = upgrade(settings.database_url, settings.max_concurrent_appointments, _show_progress)
    if report.before == report.after:
        click.echo(f"Already at {report.after}, nothing to do.")
    else:
        click.echo(f"Upgraded from {report.before or 'none'} to {report.after}.")
    if report.repaired:
        click.echo(f"{report.repaired} kept counts were wrong and have been put right.")
    for constraint, note in report.exemptions:
        click.echo(f"constraint {constraint} {note}")
    for table, row_id, rule in report.violations:
        click.echo(f"{table} {row_id} breaks the rule: {rule}")
    if report.violations:
        click.echo(f"{len(report.violations)} found. These rows stay as they are and can be worked on.")


@commands.command("current", short_help="Show the version of the database.")
@with_appcontext
def current_command() -> None:
    """Show the database's version; exits with 1 when it is not the one that this code needs."""
    from servease_appt.db.migrate import current

    with _one_line_errors():
        found, needed = current(current_app.extensions["servease"].settings.database_url)
    click.echo(f"{found or 'none'} (needed: {needed})")
    if found != needed:
        raise click.exceptions.Exit(1)


@commands.command("check", short_help="Compare the database with what it should be.")
@click.option("--repair", is_flag=True, help="Put wrong counts right, while others write.")
@with_appcontext
def check_command(repair: bool) -> None:
    """Compare tables, triggers and kept counts with what they should be; exits with 1 when something differs."""
    from servease_appt.db.migrate import check, repair_counts

    url = current_app.extensions["servease"].settings.database_url
    with _one_line_errors():
        report = check(url)
        repaired = repair_counts(url) if repair and report.wrong_counts else 0
    is_newer = report.found is not None and report.found not in VERSIONS
    missing = () if is_newer else report.missing
    click.echo(f"version: {report.found or 'none'} (needed: {report.needed})")
    for statement in missing:
        click.echo(f"missing: {statement}")
    if report.wrong_counts is not None:
        click.echo(
            f"kept counts: {report.wrong_counts} wrong" + (f", {repaired} repaired" if repaired else "")
        )
    if missing:
        click.echo("Run `flask --app wsgi db upgrade`.")
    elif report.wrong_counts and not repaired:
        click.echo("Run `flask --app wsgi db check --repair`.")
    if missing or (report.wrong_counts and not repaired):
        raise click.exceptions.Exit(1)


@commands.command("downgrade", short_help="Drop all that upgrades have made.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_appcontext
def downgrade_command(yes: bool) -> None:
    """Drop all that upgrades have made and leave the platform's own tables, with every row.

    Stop this service first. Other services may read and write meanwhile.
    """
    from servease_appt.db.migrate import downgrade

    if not yes:
        click.confirm("Drop the service's own tables, triggers and indexes from this database?", abort=True)
    with _one_line_errors():
        downgrade(current_app.extensions["servease"].settings.database_url, _show_progress)
    click.echo("The platform's own tables are left, with every row.")


@commands.command("rules", short_help="Show or set the rules for other writers.")
@click.option(
    "--enforce", is_flag=True, help="Hold every writer to them, PostgreSQL's other clients included."
)
@click.option("--release", is_flag=True, help="Hold this service alone to them.")
@with_appcontext
def rules_command(enforce: bool, release: bool) -> None:
    """Show, or set, whether other writers are held to capacity and the customer's 30 minutes as this service is.

    They are not, unless it is turned on: then PostgreSQL refuses what breaks these rules. It can't be turned on
    while appointments break them already.
    """
    from servease_appt.appointments.locks import day
    from servease_appt.db import writer_rules

    if enforce and release:
        raise click.UsageError("--enforce and --release contradict each other.")
    settings = current_app.extensions["servease"].settings
    with _one_line_errors():
        if enforce:
            locks = {each: day(each) for each in writer_rules.DAYS}
            writer_rules.enforce(settings.database_url, settings.max_concurrent_appointments, locks)
        elif release:
            writer_rules.release(settings.database_url)
        capacity = writer_rules.capacity_in_force(settings.database_url)
    if capacity is None:
        click.echo("Other writers are not held to capacity and the customer's 30 minutes.")
    else:
        click.echo(f"Every writer is held to a capacity of {capacity} and to the customer's 30 minutes.")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    with log_silenced():
        try:
            yield
        except DatabaseUnavailable as error:
            settings = current_app.extensions["servease"].settings
            raise click.ClickException(database_failure(settings, error)) from error
        except (UpgradeRefused, LockNotAvailable) as error:
            raise click.ClickException(str(error)) from error


def _show_progress(line: str) -> None:
    click.echo(line, err=True)
