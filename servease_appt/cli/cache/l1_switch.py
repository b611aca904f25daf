"""`cache l1 off` and `cache l1 on`: switch the first tier of every worker while the service runs."""

from __future__ import annotations

import time
from typing import Final

import click
from flask.cli import with_appcontext

from servease_appt.cli.cache.session import open_session
from servease_appt.cli.cache.tables import echo_json, json_option, table
from servease_appt.inspection.session import OperatorSession
from servease_appt.inspection.workers import query_statuses, registered_workers, short_name

WAIT_S: Final = 6.0
"""Longer than the time after which a worker reads the switch by itself."""
ASK_EVERY_S: Final = 0.05


@click.command("l1", short_help="Switch L1 of all workers off, or on again.")
@click.argument("state", type=click.Choice(("off", "on")), metavar="off|on")
@json_option
@with_appcontext
def l1_command(state: str, as_json: bool) -> None:
    """Switch L1 of all workers off, or on again, while the service runs.

    With L1 off, every read goes to Redis, and all protections stay. Workers follow within milliseconds, and within
    5 s if they miss the message. Workers that start later have it off, too, until `cache l1 on`. Exit code 1 when
    Redis refuses it, or when a worker does not confirm it within 6 s.

    \b
    Examples:
      flask --app wsgi cache l1 off
      flask --app wsgi cache l1 on
    """
    off = state == "off"
    with open_session() as session:
        session.queries.switch_l1(off=off)
        followed, not_yet = _wait_for_all(session, off=off)
    if as_json:
        echo_json({"l1": state, "followed": followed, "not_confirmed": not_yet})
    else:
        click.echo(f"L1 is switched {state}.")
        if followed:
            rows = [(short_name(worker), f"{after_s * 1000:.0f} ms") for worker, after_s in followed.items()]
            click.echo(table(("WORKER", "FOLLOWED WITHIN"), rows))
        elif not not_yet:
            click.echo("No worker listens. Those that start will read the switch.")
    if not_yet:
        names = ", ".join(map(short_name, not_yet))
        raise click.ClickException(f"Not confirmed by {names}. Run `cache doctor`.")


def _wait_for_all(session: OperatorSession, *, off: bool) -> tuple[dict[str, float], list[str]]:
    """Wait until all connected workers have followed. Returns who has, in seconds, and who has not.

    A registered worker that is not connected is not waited for: it reads the switch when it connects.
    """
    began_s = time.monotonic()
    followed: dict[str, float] = {}
    while True:
        statuses = query_statuses(session.queries).readable
        passed_s = time.monotonic() - began_s
        for status in statuses:
            if status.l1_switched_off == off:
                followed.setdefault(status.worker, round(passed_s, 3))
        workers = {status.worker for status in statuses}
        if session.queries.listeners() > len(workers):
            workers |= registered_workers(session.queries).keys()
        not_yet = sorted(workers - followed.keys())
        if not not_yet or passed_s > WAIT_S:
            return followed, not_yet
        time.sleep(ASK_EVERY_S)
