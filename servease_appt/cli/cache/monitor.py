"""`cache monitor`: what happens in the cache, as it happens."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime

import click
from flask.cli import with_appcontext
from redis.exceptions import RedisError

from servease_appt.cache import CacheError
from servease_appt.cli.cache.feed import Feed, Happening
from servease_appt.cli.cache.naming import short_worker
from servease_appt.cli.cache.session import Access, opened, redis_trouble
from servease_appt.cli.cache.tables import counted, echo_json, printable
from servease_appt.references.entities import ENTITIES

RETRY_S = 1.0


@click.command("monitor")
@click.option("--entity", type=click.Choice(ENTITIES), help="Only what concerns this one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@with_appcontext
def monitor_command(entity: str | None, as_json: bool) -> None:
    """Show what is filled, invalidated, refused, expired and deleted in both tiers, until Ctrl-C.

    Each line tells when, who (a worker, or redis), which tier, what, which key and why. Workers that join or
    leave are shown, too. Reads are not: `cache stats --watch` counts them. Redis' own MONITOR would show every
    command of every client, and slow all of them down.

    \b
    Examples:
      flask --app wsgi cache monitor
      flask --app wsgi cache monitor --entity customer --json
    """
    try:
        with opened() as access:
            access.client.ping()
            while True:
                _stream(access, entity, as_json)
                time.sleep(RETRY_S)
    except KeyboardInterrupt:
        return


def _stream(access: Access, entity: str | None, as_json: bool) -> None:
    """Show what happens until Redis goes away."""
    try:
        with Feed(access) as feed:
            click.echo(f"Watching {counted(feed.listeners, 'worker')}; Ctrl-C ends.", err=True)
            for happening in feed:
                if entity is None or happening.concerns(entity):
                    _show(happening, as_json)
    except (RedisError, CacheError, ConnectionResetError) as error:
        click.echo(f"{redis_trouble(access.settings, error)} Trying again.", err=True)


def _show(happening: Happening, as_json: bool) -> None:
    at = datetime.fromtimestamp(happening.at_s, UTC)
    if as_json:
        fields = asdict(happening)
        del fields["at_s"]
        echo_json(
            {"at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), **fields}, one_line=True
        )
        return
    clock = at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    who = short_worker(happening.worker)
    event = happening.event.replace("_", " ")
    line = f"{clock}  {who:<16}  {happening.tier:<8}  {event:<12}  {happening.key:<45}  {happening.why}"
    click.echo(printable(line.rstrip()))
