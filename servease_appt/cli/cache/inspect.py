"""`cache keys`, `get`, `ttl`, `exists`: what is stored in Redis. Sends SCAN, never KEYS; queries no worker."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import click
from flask.cli import with_appcontext

from servease_appt.cli.cache.naming import entities_argument, keys_of, pattern_of, similar_entity
from servease_appt.cli.cache.session import open_session
from servease_appt.cli.cache.tables import (
    batches,
    broken,
    counted,
    echo_json,
    json_option,
    printable,
    seconds,
    table,
    well,
)
from servease_appt.inspection.entries import read_entry, seconds_left
from servease_appt.inspection.session import OperatorSession
from servease_appt.references.entities import ENTITIES

NOT_A_STRING = "(not a string)"


@click.command("keys", short_help="List the cached keys with their TTL.")
@click.argument("pattern", default="*")
@click.option(
    "--limit",
    default=1000,
    show_default=True,
    type=click.IntRange(min=0),
    help="List at most so many; 0 for all.",
)
@json_option
@with_appcontext
def keys_command(pattern: str, limit: int, as_json: bool) -> None:
    """List the cached keys in Redis with their TTL.

    PATTERN is a glob pattern over keys, or an entity; without it all keys are listed. Uses SCAN, which lets other
    commands run in between; KEYS is never sent.

    \b
    Examples:
      flask --app wsgi cache keys
      flask --app wsgi cache keys vehicle
      flask --app wsgi cache keys 'customer_bcee*' --json
    """
    with open_session() as session:
        found = dict.fromkeys(
            islice(session.cache.l2.scan(pattern_of(pattern, session.keys)), limit + 1 if limit else None)
        )
        more = bool(limit) and len(found) > limit
        names = sorted(found)[:limit] if limit else sorted(found)
        ttls = [
            (key, ttl_ms)
            for batch in batches(names)
            for key, ttl_ms in zip(batch, session.cache.l2.ttl_ms(batch), strict=True)
            if ttl_ms != -2
        ]
        if as_json:
            echo_json(
                [
                    {"key": key, "redis_key": session.keys.data(key), "ttl_s": seconds_left(ttl_ms)}
                    for key, ttl_ms in ttls
                ]
            )
            return
        if ttls:
            click.echo(table(("KEY", "TTL"), [(key, seconds(ttl_ms)) for key, ttl_ms in ttls]))
        click.echo(_summary(session, [key for key, _ in ttls], more))
        if not ttls:
            click.echo(_hint(session, pattern), err=True)


def _summary(session: OperatorSession, keys: list[str], more: bool) -> str:
    counts = Counter(session.cache.codecs.name_of(key) for key in keys)
    parts = ", ".join(f"{n:,} {'other' if name == '-' else name}" for name, n in counts.most_common())
    line = f"{counted(len(keys), 'key')}{f' ({parts})' if parts else ''}"
    return f"{line}, and more: --limit 0 lists all." if more else f"{line}."


def _hint(session: OperatorSession, pattern: str) -> str:
    """What may be wrong when nothing was found."""
    meant = similar_entity(session.keys.plain(pattern))
    if meant and meant != pattern.partition("_")[0]:
        return f"No key matches {printable(pattern)!r}. Did you mean {meant}?"
    if pattern == "*":
        return f"Nothing is cached under {session.keys.prefix}: in this database."
    return f"No key matches {printable(pattern)!r}. Entities: {', '.join(ENTITIES)}."


@click.command("get", short_help="Print cached values as Redis stores them.")
@entities_argument
@json_option
@with_appcontext
def get_command(words: tuple[str, ...], as_json: bool) -> None:
    """Print cached values as they are stored in Redis, one per line.

    Exit code 1 when a value is missing; standard error gives the reason.

    \b
    Examples:
      flask --app wsgi cache get customer bcee5755-2c9f-4c0a-8720-1592b75edf96
      flask --app wsgi cache get customer_bcee5755-2c9f-4c0a-8720-1592b75edf96 --json
    """
    with open_session() as session:
        keys = keys_of(words, session.keys)
        records = [_record(session, key) for key in keys]
    missing = [record for record in records if record["value"] is None]
    if as_json:
        echo_json(records)
    else:
        for record in records:
            if record["value"] is not None:
                click.echo(printable(record["value"]))
        for record in missing:
            click.echo(_why_missing(record), err=True)
    if missing:
        raise click.exceptions.Exit(1)


def _record(session: OperatorSession, key: str) -> dict[str, Any]:
    stored = read_entry(session.client, session.keys, session.cache.codecs, key)
    return {
        "key": key,
        "redis_key": session.keys.data(key),
        "value": NOT_A_STRING if stored.exists and stored.text is None else stored.text,
        "ttl_s": stored.value_s,
        "known_absent_for_s": stored.absent_s,
        "last_known_copy_for_s": stored.stale_s,
    }


def _why_missing(record: dict[str, Any]) -> str:
    key = record["key"]
    if record["known_absent_for_s"] is not None:
        return (
            f"{key} is not in Redis: its service answered 404, which is remembered for"
            f" {record['known_absent_for_s']:.0f} s more."
        )
    if record["last_known_copy_for_s"] is not None:
        return (
            f"{key} is not in Redis. A stale copy exists for {record['last_known_copy_for_s']:.0f} s more;"
            " it is shown if the service fails."
        )
    return f"{key} is not in Redis."


@click.command("ttl", short_help="Show the TTL of values and stale copies.")
@entities_argument
@json_option
@with_appcontext
def ttl_command(words: tuple[str, ...], as_json: bool) -> None:
    """Show the TTL of cached values, of their stale copies and of remembered 404s.

    Exit code 1 when a value is missing.

    \b
    Example:
      flask --app wsgi cache ttl customer bcee5755-2c9f-4c0a-8720-1592b75edf96
    """
    with open_session() as session:
        records = [_record(session, key) for key in keys_of(words, session.keys)]
    if as_json:
        shown = ("key", "redis_key", "ttl_s", "known_absent_for_s", "last_known_copy_for_s")
        echo_json([{name: record[name] for name in shown} for record in records])
    else:
        click.echo(
            table(
                ("KEY", "TTL", "STALE COPY", "REMEMBERED 404"),
                [(record["key"], *map(_shown_ttl, _ttls(record))) for record in records],
            )
        )
    _fail_unless_all_there(records)


def _ttls(record: dict[str, Any]) -> list[float | None]:
    return [record["ttl_s"], record["last_known_copy_for_s"], record["known_absent_for_s"]]


def _shown_ttl(ttl_s: float | None) -> str | None:
    return None if ttl_s is None else f"{ttl_s:.1f} s"


@click.command("exists", short_help="Show whether values are cached in Redis.")
@entities_argument
@json_option
@with_appcontext
def exists_command(words: tuple[str, ...], as_json: bool) -> None:
    """Show whether values are cached in Redis. Exit code 1 when one is not.

    \b
    Example:
      flask --app wsgi cache exists vehicle d540f435-b72e-41a3-8ddd-88a58f625244
    """
    with open_session() as session:
        records = [_record(session, key) for key in keys_of(words, session.keys)]
    if as_json:
        echo_json([{"key": record["key"], "exists": record["value"] is not None} for record in records])
    else:
        rows = [
            (record["key"], broken("no") if record["value"] is None else well("yes")) for record in records
        ]
        click.echo(table(("KEY", "EXISTS"), rows))
    _fail_unless_all_there(records)


def _fail_unless_all_there(records: list[dict[str, Any]]) -> None:
    if any(record["value"] is None for record in records):
        raise click.exceptions.Exit(1)
