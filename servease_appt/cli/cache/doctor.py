"""`cache doctor`: the findings of the doctor, and what to do about each."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, groupby
from typing import Final

import click
from flask.cli import with_appcontext

from servease_appt.cli.cache.session import open_session
from servease_appt.cli.cache.tables import counted, echo_json, json_option, printable
from servease_appt.doctor.findings import Finding, Report
from servease_appt.inspection.session import OperatorSession

MIN_WIDTH, MAX_WIDTH = 40, 110
COLORS: Final = {"ok": "green", "note": "blue", "warning": "yellow", "problem": "red"}


@click.command("doctor", short_help="Find what is wrong, and what to do about it.")
@json_option
@with_appcontext
def doctor_command(as_json: bool) -> None:
    """Check Redis, workers, services, PostgreSQL, clocks and settings, and say what to do.

    Works while any of them is down. Sends one test invalidation of a random id, and removes dead workers of this
    host from the register. Exit code 1 when there is a warning or a problem, else 0.

    \b
    Examples:
      flask --app wsgi cache doctor
      flask --app wsgi cache doctor --json
    """
    with open_session() as session:
        report = _examine(session)
    if as_json:
        echo_json(report.as_json())
    else:
        for area, findings in groupby(report.findings, key=lambda found: found.area):
            click.echo(click.style(area, bold=True))
            for found in findings:
                _show(found)
        click.echo(f"\n{counted(len(report.bad), 'finding')} to act on." if report.bad else "\nAll is well.")
    if report.bad:
        raise click.exceptions.Exit(1)


def _examine(session: OperatorSession) -> Report:
    """Examine, with a spinner on standard error if that is a terminal."""
    from servease_appt.doctor.examination import examine

    if not sys.stderr.isatty():
        return examine(session)
    with spinner() as turn:
        return examine(session, while_waiting=turn)


@contextmanager
def spinner() -> Iterator[Callable[[], None]]:
    """Yield what turns a spinner on standard error, and remove it at the end."""
    signs = cycle("|/-\\")
    try:
        yield lambda: click.echo(f"\rChecking {next(signs)}", nl=False, err=True)
    finally:
        click.echo("\r" + " " * len("Checking |") + "\r", nl=False, err=True)


def _show(found: Finding) -> None:
    level = click.style(f"{found.level:<8}", fg=COLORS[found.level])
    click.echo(f"  {level} {_wrapped(found.says, 11)}")
    for label, text in (("means:", found.means), ("do:", found.do)):
        if text:
            click.echo(f"           {label:<6} {_wrapped(text, 18)}")


def _wrapped(text: str, indent: int) -> str:
    """Wrap to the width of the terminal; the first line has no indent."""
    width = max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns))
    filled = textwrap.fill(
        printable(text),
        width=width,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.lstrip()
