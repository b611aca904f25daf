"""`cache stats`: the counters of all workers, each worker's state, and Redis' memory."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import click
from flask.cli import with_appcontext
from redis.exceptions import RedisError

from servease_appt.cache import Mode, Source
from servease_appt.cache.messages import sequence_of
from servease_appt.cli.cache.session import open_session
from servease_appt.cli.cache.tables import (
    Cell,
    broken,
    counted,
    echo_json,
    json_option,
    percent,
    table,
    unwell,
    well,
)
from servease_appt.cli.failures import redis_failure
from servease_appt.inspection.session import OperatorSession
from servease_appt.inspection.workers import (
    WorkerStatus,
    open_breakers,
    query_statuses,
    registered_workers,
    short_name,
)
from servease_appt.observability.cache_report import (
    Tiers,
    events_by_tier,
    lookups_summary,
    references_by_endpoint,
    sum_of_workers,
    with_hit_rates,
)
from servease_appt.references.entities import ENTITIES

CLEAR_SCREEN = "\033[H\033[J"
READS = ("hit", "miss")


@click.command("stats", short_help="Show hit rates and the state of each worker.")
@json_option
@click.option("--watch", is_flag=True, help="Refresh until Ctrl-C.")
@click.option(
    "--interval",
    default=2.0,
    show_default=True,
    type=click.FloatRange(min=0.2),
    help="Seconds between refreshes, with --watch.",
)
@with_appcontext
def stats_command(as_json: bool, watch: bool, interval: float) -> None:
    """Show hits, misses, fills and invalidations of all workers, and the state of each worker.

    Counts since each running worker started. With --watch --json each line is one JSON object.

    \b
    Examples:
      flask --app wsgi cache stats
      flask --app wsgi cache stats --watch --interval 5
      flask --app wsgi cache stats --json
    """
    with open_session() as session:
        report = collect(session)
        if watch:
            with suppress(KeyboardInterrupt):
                _watch(session, report, interval, as_json)
        elif as_json:
            echo_json(report)
        else:
            click.echo(as_text(report))


def _watch(session: OperatorSession, report: dict[str, Any], interval_s: float, as_json: bool) -> None:
    """Show the report again and again until Ctrl-C."""
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
            later = collect(session)
        except RedisError as error:
            click.echo(f"{redis_failure(session.settings, error)} Trying again.", err=True)
            continue
        now = time.monotonic()
        reads_a_second = max(0.0, (later["reads"]["asked"] - report["reads"]["asked"]) / (now - shown_at_s))
        report, shown_at_s = later, now


def collect(session: OperatorSession) -> dict[str, Any]:
    """Query Redis and all workers. Raises redis-py's errors."""
    memory, counts = session.client.info("memory"), session.client.info("stats")
    sequence = sequence_of(session.client.get(session.keys.sequence))
    statuses = query_statuses(session.queries)
    answered = {status.worker for status in statuses.readable}
    totals = sum_of_workers((status.tiers, status.endpoints) for status in statuses.readable)
    tiers = events_by_tier(totals)
    return {
        "prefix": session.keys.prefix,
        "redis": {
            "used_memory": memory["used_memory"],
            "maxmemory": memory["maxmemory"],
            "keys": session.client.dbsize(),
            "evicted_keys": counts["evicted_keys"],
            "expired_keys": counts["expired_keys"],
            "sequence": sequence,
        },
        "reads": lookups_summary(tiers),
        "tiers": tiers,
        "endpoints": with_hit_rates(references_by_endpoint(totals)),
        "workers": [_worker_json(status, sequence) for status in statuses.readable],
        "silent_workers": sorted(registered_workers(session.queries).keys() - answered),
        "unreadable_answers": statuses.unreadable,
    }


def _worker_json(status: WorkerStatus, sequence: int | None) -> dict[str, Any]:
    left_out = ("tiers", "endpoints", "secret_key_id")
    shown = {name: value for name, value in asdict(status).items() if name not in left_out}
    return {**shown, "behind": status.behind(sequence)}


def as_text(report: dict[str, Any], reads_a_second: float | None = None) -> str:
    """Return the report for people."""
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
    speed = "" if reads_a_second is None else f" ({reads_a_second:,.0f} per second)"
    limit = _mib(redis["maxmemory"]) if redis["maxmemory"] else "no limit"
    summary = f"{asked['asked']:,} lookups{speed}, hit rate {share}." if share else "No lookups yet."
    return (
        f"{summary}\n"
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
            if any(counts):
                rows.append((tier, event.replace("_", " "), *counts))
    return table(("TIER", "EVENT", *(entity.upper() for entity in ENTITIES), "OTHER"), rows) if rows else ""


def _endpoints_table(endpoints: dict[str, dict[str, Any]]) -> str:
    rows: list[tuple[Cell, ...]] = []
    for endpoint, counts in endpoints.items():
        numbers = [counts.get(source, 0) for source in Source]
        rows.append((endpoint, *numbers, percent(numbers[0] + numbers[1], sum(numbers))))
    headers = ("ENDPOINT", *(source.upper() for source in Source), "HIT RATE")
    return table(headers, rows) if rows else ""


def _mode(status: dict[str, Any]) -> Cell:
    text = status["mode"] + (" (L1 off)" if status["l1_switched_off"] else "")
    return well(text) if status["mode"] == Mode.BOTH else unwell(text)


def _breakers(status: dict[str, Any]) -> Cell:
    not_closed = open_breakers({"redis": status["redis_breaker"], **status["breakers"]})
    return broken(not_closed) if not_closed else well("closed")


def _workers_table(report: dict[str, Any]) -> str:
    if not report["workers"] and not report["silent_workers"]:
        return "No worker listens on this Redis under this prefix."
    rows: list[tuple[Cell, ...]] = [
        (
            short_name(status["worker"]),
            _mode(status),
            status["l1_entries"],
            status["l1_evictions"],
            well("confirmed") if status["channel_confirmed"] else broken("NOT CONFIRMED"),
            well("on") if status["tracking"] else unwell("OFF"),
            status["behind"],
            _breakers(status),
            f"{status['after_ms']:.1f} ms",
        )
        for status in report["workers"]
    ]
    rows += [
        (short_name(identity), broken("no answer"), *(None,) * 7) for identity in report["silent_workers"]
    ]
    if report["unreadable_answers"]:
        rows.append((f"{counted(report['unreadable_answers'], 'answer')} not readable", *(None,) * 8))
    headers = (
        *("WORKER", "MODE", "L1 ENTRIES", "L1 EVICTIONS", "CHANNEL", "TRACKING", "BEHIND"),
        *("BREAKERS", "ANSWERED IN"),
    )
    return table(headers, rows)
