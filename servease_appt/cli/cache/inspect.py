"""`cache keys`, `get`, `ttl`, `exists`: what lies in Redis, without KEYS and without touching a worker."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any, cast

import click
from flask.cli import with_appcontext

from servease_appt.cli.cache.naming import METAVAR, keys_of, pattern_of
from servease_appt.cli.cache.session import Access, opened
from servease_appt.cli.cache.tables import (
    batches,
    counted,
    echo_json,
    json_option,
    printable,
    seconds,
    table,
)


def _life_s(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds >= 0 else None


@click.command("keys")
@click.argument("pattern", default="*")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(min=0), help="0 lists all.")
@json_option
@with_appcontext
def keys_command(pattern: str, limit: int, as_json: bool) -> None:
    """List what is cached in Redis and how long it has left.

    PATTERN is a glob pattern over keys, or an entity; everything without it. Redis is asked by SCAN, which lets
    others in between; KEYS is never sent.

    \b
    Examples:
      flask --app wsgi cache keys
      flask --app wsgi cache keys vehicle
      flask --app wsgi cache keys 'customer_bcee*' --json
    """
    with opened() as access:
        found = dict.fromkeys(
            islice(access.cache.l2.scan(pattern_of(pattern, access.keys)), limit + 1 if limit else None)
        )
        more = bool(limit) and len(found) > limit
        names = sorted(found)[:limit] if limit else sorted(found)
        lives = [
            (key, life_ms)
            for batch in batches(names)
            for key, life_ms in zip(batch, access.cache.l2.ttl_ms(batch), strict=True)
            if life_ms != -2
        ]
        if as_json:
            echo_json(
                [
                    {"key": key, "redis_key": access.keys.data(key), "ttl_s": _life_s(life_ms)}
                    for key, life_ms in lives
                ]
            )
            return
        if lives:
            click.echo(table(("KEY", "TTL"), [(key, seconds(life_ms)) for key, life_ms in lives]))
        click.echo(_summary(access, [key for key, _ in lives], more))


def _summary(access: Access, keys: list[str], more: bool) -> str:
    counts = Counter(access.cache.codecs.name_of(key) for key in keys)
    parts = ", ".join(f"{n:,} {'of no entity' if name == '-' else name}" for name, n in counts.most_common())
    line = f"{counted(len(keys), 'key')}{f' ({parts})' if parts else ''}"
    return f"{line}, and more: --limit 0 lists all." if more else f"{line}."


@click.command("get")
@click.argument("words", metavar=METAVAR, nargs=-1, required=True)
@json_option
@with_appcontext
def get_command(words: tuple[str, ...], as_json: bool) -> None:
    """Print cached values as they lie in Redis, one a line.

    Exit code 1 when one of them is not there; why is told on standard error.

    \b
    Examples:
      flask --app wsgi cache get customer bcee5755-2c9f-4c0a-8720-1592b75edf96
      flask --app wsgi cache get customer_bcee5755-2c9f-4c0a-8720-1592b75edf96 --json
    """
    with opened() as access:
        keys = keys_of(words, access.keys)
        records = [_record(access, key) for key in keys]
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


def _record(access: Access, key: str) -> dict[str, Any]:
    data, _, absent, copy = access.keys.group(key)
    with access.client.pipeline(transaction=False) as pipeline:
        pipeline.get(data)
        for name in (data, absent, copy):
            pipeline.pttl(name)
        value, ttl_ms, absent_ms, copy_ms = cast(
            "tuple[Any, int, int, int]", pipeline.execute(raise_on_error=False)
        )
    if isinstance(value, Exception):
        value = b"(no string: " + str(value).encode() + b")"
    return {
        "key": key,
        "redis_key": data,
        "value": None if value is None else value.decode(errors="replace"),
        "ttl_s": _life_s(ttl_ms),
        "known_absent_for_s": _life_s(absent_ms),
        "last_known_copy_for_s": _life_s(copy_ms),
    }


def _why_missing(record: dict[str, Any]) -> str:
    key = record["key"]
    if record["known_absent_for_s"] is not None:
        return (
            f"{key} is not in Redis: its service said that there is none,"
            f" which is remembered for {record['known_absent_for_s']:.0f} s more."
        )
    if record["last_known_copy_for_s"] is not None:
        return (
            f"{key} is not in Redis; a last known copy may stand in for"
            f" {record['last_known_copy_for_s']:.0f} s more."
        )
    return f"{key} is not in Redis."


@click.command("ttl")
@click.argument("words", metavar=METAVAR, nargs=-1, required=True)
@json_option
@with_appcontext
def ttl_command(words: tuple[str, ...], as_json: bool) -> None:
    """Show how long cached values have left, and the last known copies that outlive them.

    Exit code 1 when one of the values is not there.

    \b
    Example:
      flask --app wsgi cache ttl customer bcee5755-2c9f-4c0a-8720-1592b75edf96
    """
    with opened() as access:
        records = [_record(access, key) for key in keys_of(words, access.keys)]
    if as_json:
        shown = ("key", "redis_key", "ttl_s", "known_absent_for_s", "last_known_copy_for_s")
        echo_json([{name: record[name] for name in shown} for record in records])
    else:
        click.echo(
            table(
                ("KEY", "TTL", "LAST KNOWN COPY", "REMEMBERED AS ABSENT"),
                [(record["key"], *map(_shown_life, _lives(record))) for record in records],
            )
        )
    _fail_unless_all_there(records)


def _lives(record: dict[str, Any]) -> list[float | None]:
    return [record["ttl_s"], record["last_known_copy_for_s"], record["known_absent_for_s"]]


def _shown_life(life_s: float | None) -> str | None:
    return None if life_s is None else f"{life_s:.1f} s"


@click.command("exists")
@click.argument("words", metavar=METAVAR, nargs=-1, required=True)
@json_option
@with_appcontext
def exists_command(words: tuple[str, ...], as_json: bool) -> None:
    """Say whether values are cached in Redis; exit code 1 when one of them is not.

    \b
    Example:
      flask --app wsgi cache exists vehicle d540f435-b72e-41a3-8ddd-88a58f625244
    """
    with opened() as access:
        records = [_record(access, key) for key in keys_of(words, access.keys)]
    if as_json:
        echo_json([{"key": record["key"], "exists": record["value"] is not None} for record in records])
    else:
        rows = [(record["key"], "no" if record["value"] is None else "yes") for record in records]
        click.echo(table(("KEY", "EXISTS"), rows))
    _fail_unless_all_there(records)


def _fail_unless_all_there(records: list[dict[str, Any]]) -> None:
    if any(record["value"] is None for record in records):
        raise click.exceptions.Exit(1)
