"""`cache stats`: the counters of all workers together, each worker's state, and Redis' memory."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

import click
from flask.cli import with_appcontext
from redis.exceptions import RedisError

from servease_appt.cache import Source
from servease_appt.cli.cache.naming import short_worker
from servease_appt.cli.cache.session import Access, opened, redis_trouble
from servease_appt.cli.cache.tables import Cell, echo_json, json_option, percent, table
from servease_appt.references.entities import ENTITIES

CLEAR_SCREEN = "\033[H\033[J"
READS = ("hit", "miss")

Tiers = dict[str, dict[str, dict[str, int]]]


@click.command("stats")
@json_option
@click.option("--watch", is_flag=True, help="Show them again and again, until Ctrl-C.")
@click.option(
    "--interval",
    default=2.0,
    show_default=True,
    type=click.FloatRange(min=0.2),
    help="Seconds, with --watch.",
)
@with_appcontext
def stats_command(as_json: bool, watch: bool, interval: float) -> None:
    """Show hits, misses, fills and invalidations of all workers, and what state each worker is in.

    Workers are asked and count from their own start. With --watch --json each line is one JSON object.

    \b
    Examples:
      flask --app wsgi cache stats
      flask --app wsgi cache stats --watch --interval 5
      flask --app wsgi cache stats --json
    """
    with opened() as access:
        report = collect(access)
        if watch:
            with suppress(KeyboardInterrupt):
                _watch(access, report, interval, as_json)
        elif as_json:
            echo_json(report)
        else:
            click.echo(as_text(report))


def _watch(access: Access, report: dict[str, Any], interval_s: float, as_json: bool) -> None:
    """Show them until Ctrl-C."""
    shown_at_s = time.monotonic()
    reads_a_second: float | None = None
    while True:
        if as_json:
            echo_json(report, one_line=True)
        else:
            text = as_text(report, reads_a_second)
            in_place = sys.stdout.isatty()
            click.echo(f"{CLEAR_SCREEN}{text}" if in_place else f"{text}\n")
        time.sleep(interval_s)
        try:
            later = collect(access)
        except RedisError as error:
            click.echo(f"{redis_trouble(access.settings, error)} Trying again.", err=True)
            continue
        now = time.monotonic()
        reads_a_second = max(0.0, (later["reads"]["asked"] - report["reads"]["asked"]) / (now - shown_at_s))
        report, shown_at_s = later, now


def collect(access: Access) -> dict[str, Any]:
    """Ask Redis and all workers. Raises redis-py's errors."""
    memory, counts = access.client.info("memory"), access.client.info("stats")
    sequence = cast("bytes | None", access.client.get(access.keys.sequence))
    statuses = sorted(access.questions.query("status"), key=lambda status: str(status["worker"]))
    silent = sorted(access.questions.workers().keys() - {status["worker"] for status in statuses})
    tiers = sum_tiers(status.get("tiers", {}) for status in statuses)
    return {
        "prefix": access.keys.prefix,
        "redis": {
            "used_memory": memory["used_memory"],
            "maxmemory": memory["maxmemory"],
            "keys": access.client.dbsize(),
            "evicted_keys": counts["evicted_keys"],
            "expired_keys": counts["expired_keys"],
            "sequence": None if sequence is None else int(sequence),
        },
        "reads": reads(tiers),
        "tiers": tiers,
        "endpoints": sum_endpoints(status.get("endpoints", {}) for status in statuses),
        "workers": [
            {name: value for name, value in status.items() if name not in ("tiers", "endpoints", "id")}
            for status in statuses
        ],
        "silent_workers": silent,
    }


def sum_tiers(of_workers: Iterable[Tiers]) -> Tiers:
    """`{tier: {entity: {event: n}}}` of all workers together."""
    totals: Tiers = {}
    for tiers in of_workers:
        for tier, by_entity in tiers.items():
            for entity, events in by_entity.items():
                known = totals.setdefault(tier, {}).setdefault(entity, {})
                for event, n in events.items():
                    known[event] = known.get(event, 0) + n
    return totals


def sum_endpoints(of_workers: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """`{endpoint: {source: n}}` of all workers together."""
    totals: dict[str, Counter[str]] = {}
    for endpoints in of_workers:
        for endpoint, counts in endpoints.items():
            totals.setdefault(endpoint, Counter()).update(counts)
    return {endpoint: dict(counts) for endpoint, counts in sorted(totals.items())}


def reads(tiers: Tiers) -> dict[str, Any]:
    """How many references were asked for, and the share that no service had to be asked for."""

    def count(tier: str, event: str) -> int:
        return sum(events.get(event, 0) for events in tiers.get(tier, {}).values())

    asked = count("l1", "hit") + count("l1", "miss")
    cached = count("l1", "hit") + count("l2", "hit")
    return {
        "asked": asked,
        "l1": count("l1", "hit"),
        "l2": count("l2", "hit"),
        "hit_rate": round(cached / asked, 4) if asked else None,
    }


def as_text(report: dict[str, Any], reads_a_second: float | None = None) -> str:
    """The report for people."""
    return "\n\n".join(
        part
        for part in (
            _headline(report, reads_a_second),
            _reads_table(report["tiers"]),
            _events_table(report["tiers"]),
            _endpoints_table(report["endpoints"]),
            _workers_table(report),
        )
        if part
    )


def _headline(report: dict[str, Any], reads_a_second: float | None) -> str:
    redis, asked = report["redis"], report["reads"]
    share = percent(asked["l1"] + asked["l2"], asked["asked"])
    speed = "" if reads_a_second is None else f", {reads_a_second:,.0f} a second"
    limit = _mib(redis["maxmemory"]) if redis["maxmemory"] else "no limit"
    return (
        f"{asked['asked']:,} references read{speed}; {share or 'none'} of them without asking a service.\n"
        f"Redis: {redis['keys']:,} keys in this database, {_mib(redis['used_memory'])} of {limit},"
        f" {redis['evicted_keys']:,} evicted."
    )


def _mib(n: int) -> str:
    return f"{n / 1048576:,.1f} MiB"


def _reads_table(tiers: Tiers) -> str:
    rows = []
    for tier in ("l1", "l2"):
        for entity in ENTITIES:
            events = tiers.get(tier, {}).get(entity, {})
            hits, misses = events.get("hit", 0), events.get("miss", 0)
            rows.append((tier, entity, hits, misses, percent(hits, hits + misses)))
    return table(("TIER", "ENTITY", "HITS", "MISSES", "HIT RATE"), rows)


def _events_table(tiers: Tiers) -> str:
    rows: list[tuple[Cell, ...]] = []
    for tier, by_entity in sorted(tiers.items()):
        for event in sorted({event for events in by_entity.values() for event in events} - set(READS)):
            counts = [by_entity.get(entity, {}).get(event, 0) for entity in (*ENTITIES, "-")]
            rows.append((tier, event.replace("_", " "), *counts))
    return table(("TIER", "EVENT", *(entity.upper() for entity in ENTITIES), "OTHER"), rows) if rows else ""


def _endpoints_table(endpoints: dict[str, dict[str, int]]) -> str:
    rows: list[tuple[Cell, ...]] = []
    for endpoint, counts in endpoints.items():
        numbers = [counts.get(source, 0) for source in Source]
        rows.append((endpoint, *numbers, percent(numbers[0] + numbers[1], sum(numbers))))
    headers = ("ENDPOINT", *(source.upper() for source in Source), "HIT RATE")
    return table(headers, rows) if rows else ""


def _workers_table(report: dict[str, Any]) -> str:
    if not report["workers"] and not report["silent_workers"]:
        return "No worker listens on this Redis under this prefix."
    sequence = report["redis"]["sequence"]
    rows: list[tuple[Cell, ...]] = [
        (
            short_worker(status["worker"]),
            status["mode"],
            status["l1_entries"],
            status["l1_evictions"],
            "confirmed" if status["channel_confirmed"] else "NOT CONFIRMED",
            "on" if status["tracking"] else "OFF",
            behind(sequence, status["sequence"]),
            open_breakers(status) or "closed",
            f"{status['after_ms']:.1f} ms",
        )
        for status in report["workers"]
    ]
    rows += [(short_worker(identity), "no answer", *(None,) * 7) for identity in report["silent_workers"]]
    headers = (
        *("WORKER", "MODE", "L1 ENTRIES", "L1 EVICTIONS", "CHANNEL", "TRACKING", "BEHIND"),
        *("BREAKERS", "ANSWERED IN"),
    )
    return table(headers, rows)


def behind(sequence: int | None, handled: int | None) -> int:
    """How many invalidations that Redis had counted before the worker was asked the worker had not handled."""
    if sequence is None or handled == sequence:
        return 0
    return 1 if handled is None else max(0, sequence - handled)


def open_breakers(status: dict[str, Any]) -> str:
    """The breakers of a worker that are not closed, by name."""
    states = {"redis": status["redis_breaker"], **status.get("breakers", {})}
    return ", ".join(
        f"{name} {state.replace('_', ' ')}" for name, state in states.items() if state != "closed"
    )
