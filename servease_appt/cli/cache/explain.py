"""`cache explain`: what each tier holds of one entity, the last events, and what the next read will do."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
from flask.cli import with_appcontext

from servease_appt.cli.cache.naming import entities_argument, keys_of
from servease_appt.cli.cache.read_forecast import WorkerView, next_read
from servease_appt.cli.cache.session import open_session
from servease_appt.cli.cache.tables import Cell, broken, echo_json, json_option, printable, table, well
from servease_appt.inspection.entries import StoredEntry, read_entry, same_value
from servease_appt.inspection.session import OperatorSession
from servease_appt.inspection.workers import (
    WorkerEntry,
    WorkerStatus,
    query_entry,
    query_statuses,
    registered_workers,
    short_name,
)
from servease_appt.references.entities import ENTITIES

MAX_EVENTS = 12
EVENTS_OF_NO_KEY = ("unreadable",)


@click.command("explain", short_help="Show why a page shows this name.")
@entities_argument
@json_option
@with_appcontext
def explain_command(words: tuple[str, ...], as_json: bool) -> None:
    """Show what Redis and each worker hold of an entity, why, and what its next read will do.

    \b
    Examples:
      flask --app wsgi cache explain customer bcee5755-2c9f-4c0a-8720-1592b75edf96
      flask --app wsgi cache explain vehicle_d540f435-b72e-41a3-8ddd-88a58f625244 --json
    """
    with open_session() as session:
        reports = [_report(session, key) for key in keys_of(words, session.keys)]
    if as_json:
        echo_json(reports)
    else:
        click.echo("\n\n".join(_as_text(report) for report in reports))


def _report(session: OperatorSession, key: str) -> dict[str, Any]:
    stored = read_entry(session.client, session.keys, session.cache.codecs, key)
    statuses = {status.worker: status for status in query_statuses(session.queries).readable}
    answers = query_entry(session.queries, key)
    answered = {answer.worker for answer in answers.readable}
    events = [
        {**asdict(event), "worker": answer.worker}
        for answer in answers.readable
        for event in answer.events
        if event.event not in EVENTS_OF_NO_KEY
    ]
    return {
        "key": key,
        "redis_key": session.keys.data(key),
        "redis": _stored_json(stored),
        "workers": [_worker(session, stored, answer, statuses) for answer in answers.readable],
        "silent_workers": sorted(registered_workers(session.queries).keys() - answered),
        "unreadable_answers": answers.unreadable,
        "events": sorted(events, key=lambda event: -event["at_s"])[:MAX_EVENTS],
    }


def _stored_json(stored: StoredEntry) -> dict[str, Any]:
    return {
        "there": stored.exists,
        "value": stored.text,
        "readable": stored.digest is not None,
        "value_s": stored.value_s,
        "copy_s": stored.stale_s,
        "absent_s": stored.absent_s,
        "lease_s": stored.lease_s,
        "holder": stored.lease_holder,
    }


def _worker(
    session: OperatorSession, stored: StoredEntry, answer: WorkerEntry, statuses: dict[str, WorkerStatus]
) -> dict[str, Any]:
    l1, status = answer.l1, statuses.get(answer.worker)
    view = WorkerView(l1)
    if status is not None:
        service_breaker = status.breakers.get(stored.entity, "closed")
        view = WorkerView(l1, status.redis_breaker, service_breaker, status.l1_switched_off)
    return {
        "worker": answer.worker,
        "pid": answer.pid,
        "l1": None if l1 is None else asdict(l1),
        "same_as_redis": None if l1 is None else same_value(l1.digest, stored),
        "mode": None if status is None else status.mode,
        "next_read": next_read(stored, view, session.cache.policy),
    }


def _as_text(report: dict[str, Any]) -> str:
    parts = [report["redis_key"], _redis_text(report["redis"], report["key"])]
    if report["workers"]:
        parts += [
            _workers_text(report["workers"]),
            "Next read\n"
            + "\n".join(
                f"  {short_name(worker['worker'])} {worker['next_read']}" for worker in report["workers"]
            ),
        ]
    else:
        parts.append("No worker listens on this Redis under this prefix.")
    if report["silent_workers"]:
        names = ", ".join(map(short_name, report["silent_workers"]))
        parts.append(f"No answer from {names}. `cache doctor` shows the reason.")
    parts.append(_events_text(report["events"]))
    return "\n\n".join(parts)


def _redis_text(redis: dict[str, Any], key: str) -> str:
    def lifetime(name: str, prefix: str = "") -> str:
        return "none" if redis[name] is None else f"{prefix}{redis[name]:.1f} s left"

    value = "none"
    if redis["there"]:
        shown = "(not a string)" if redis["value"] is None else printable(redis["value"])
        unreadable = "" if redis["readable"] else "  UNREADABLE: counts as a miss and will be deleted"
        value = f"{shown}{unreadable}"
    placeholder = ENTITIES[key.partition("_")[0]].placeholder
    lease = "none"
    if redis["lease_s"] is not None:
        lease = f"{printable(redis['holder'] or 'unknown')} loads it, {redis['lease_s']:.1f} s left"
    absence = lifetime("absent_s", f"yes, shown as {placeholder!r}, ")
    lines = (
        ("value", value),
        ("TTL", lifetime("value_s") if redis["there"] else "-"),
        ("stale copy", lifetime("copy_s")),
        ("remembered 404", "no" if absence == "none" else absence),
        ("lease", lease),
    )
    return "In Redis\n" + "\n".join(f"  {name:<16}{text}" for name, text in lines)


def _workers_text(workers: list[dict[str, Any]]) -> str:
    rows: list[tuple[Cell, ...]] = []
    for worker in workers:
        l1, same = worker["l1"], worker["same_as_redis"]
        if l1 is None:
            rows.append((short_name(worker["worker"]), "nothing", None, None, None, None))
            continue
        rows.append(
            (
                short_name(worker["worker"]),
                "remembered 404" if l1["absent"] else "a value",
                f"{l1['age_s']:.1f} s",
                f"{l1['left_s']:.1f} s",
                _yes_or_no(l1["trusted"]),
                None if same is None else _yes_or_no(same),
            )
        )
    return table(("WORKER", "IN L1", "AGE", "TTL", "TRUSTED", "SAME AS REDIS"), rows)


def _yes_or_no(good: bool) -> Cell:
    return well("yes") if good else broken("NO")


def _events_text(events: list[dict[str, Any]]) -> str:
    if not events:
        return "No worker remembers an event of this key."
    rows: list[tuple[Cell, ...]] = [
        (
            datetime.fromtimestamp(event["at_s"], UTC).astimezone().strftime("%H:%M:%S.%f")[:-3],
            short_name(event["worker"]),
            event["tier"],
            event["event"].replace("_", " "),
            "all keys" if event["key"] == "*" else "this key",
            event["why"] or None,
        )
        for event in events
    ]
    return "Last events, newest first\n" + table(("AT", "WORKER", "TIER", "EVENT", "SCOPE", "REASON"), rows)
