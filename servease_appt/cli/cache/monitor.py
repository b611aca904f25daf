"""`cache monitor`: a live stream of the cache's events."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime

import click
from flask.cli import with_appcontext
from redis.exceptions import RedisError

from servease_appt.cache import CacheError
from servease_appt.cli.cache.feed import Feed, MonitorEvent
from servease_appt.cli.cache.naming import entity_option
from servease_appt.cli.cache.session import open_session
from servease_appt.cli.cache.tables import counted, echo_json, printable
from servease_appt.cli.failures import redis_failure
from servease_appt.inspection.session import OperatorSession
from servease_appt.inspection.workers import short_name

RETRY_S = 1.0


@click.command("monitor", short_help="Show the cache's events as they happen.")
@entity_option("Only events of this entity.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@with_appcontext
def monitor_command(entity: str | None, as_json: bool) -> None:
    """Show fills, invalidations, expiries and deletions in both tiers as they happen, until Ctrl-C.

    Each line shows the time, the worker (or redis), the tier, the event, the key and the reason. Workers that
    join or leave are shown too. Reads are not shown: `cache stats --watch` counts them. Redis' own MONITOR would
    show every command of every client and slow all of them down.

    \b
    Examples:
      flask --app wsgi cache monitor
      flask --app wsgi cache monitor --entity customer --json
    """
    try:
        with open_session() as session:
            session.client.ping()
            while True:
                _stream(session, entity, as_json)
                time.sleep(RETRY_S)
    except KeyboardInterrupt:
        return


def _stream(session: OperatorSession, entity: str | None, as_json: bool) -> None:
    """Show events until Redis stops answering."""
    try:
        with Feed(session) as feed:
            click.echo(f"Watching {counted(feed.listeners, 'worker')}. Press Ctrl-C to stop.", err=True)
            for event in feed:
                if entity is None or event.concerns(entity):
                    _show(event, as_json)
    except (RedisError, CacheError, ConnectionResetError) as error:
        click.echo(f"{redis_failure(session.settings, error)} Trying again.", err=True)


def _show(event: MonitorEvent, as_json: bool) -> None:
    at = datetime.fromtimestamp(event.at_s, UTC)
    if as_json:
        fields = asdict(event)
        del fields["at_s"]
        echo_json(
            {"at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), **fields}, one_line=True
        )
        return
    clock = at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    who = short_name(event.worker)
    name = event.event.replace("_", " ")
    line = f"{clock}  {who:<16}  {event.tier:<8}  {name:<12}  {event.key:<45}  {event.why}"
    click.echo(printable(line.rstrip()))
