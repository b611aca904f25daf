"""`flask --app wsgi cache …`: what operators do with the cache from a shell."""

from __future__ import annotations

from typing import cast

import click
from flask import current_app
from flask.cli import with_appcontext

from servease_appt.cache import CacheUnavailable
from servease_appt.entities import ENTITIES
from servease_appt.lookups import Lookups


@click.group("cache")
def commands() -> None:
    """Look at the cache and steer it."""


@commands.command("invalidate")
@click.argument("entity", type=click.Choice(ENTITIES))
@click.argument("ids", metavar="UUID...", nargs=-1, required=True)
@with_appcontext
def invalidate_command(entity: str, ids: tuple[str, ...]) -> None:
    """Drop customers, vehicles or employees from both tiers of every worker.

    Example: flask --app wsgi cache invalidate customer bcee5755-2c9f-4c0a-8720-1592b75edf96
    """
    lookups = cast("Lookups", current_app.extensions["servease"].lookups)
    try:
        dropped = lookups.invalidate(entity, ids)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except CacheUnavailable as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{dropped} invalidated.")
