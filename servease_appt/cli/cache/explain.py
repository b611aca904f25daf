"""`cache explain`: what each tier holds of one entity, how that came about, and what the next read will do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from flask.cli import with_appcontext

from servease_appt.cache.worker_queries import digest
from servease_appt.cli.cache.naming import METAVAR, keys_of, short_worker
from servease_appt.cli.cache.read_forecast import InRedis, WorkerView, next_read
from servease_appt.cli.cache.session import Access, opened
from servease_appt.cli.cache.tables import Cell, echo_json, json_option, printable, table
from servease_appt.references.entities import PLACEHOLDERS

MAX_EVENTS = 12
OF_NO_KEY = ("unreadable",)


@click.command("explain")
@click.argument("words", metavar=METAVAR, nargs=-1, required=True)
@json_option
@with_appcontext
def explain_command(words: tuple[str, ...], as_json: bool) -> None:
    """Tell what Redis and each worker hold of an entity, why, and what its next read will do.

    \b
    Examples:
      flask --app wsgi cache explain customer bcee5755-2c9f-4c0a-8720-1592b75edf96
      flask --app wsgi cache explain vehicle_d540f435-b72e-41a3-8ddd-88a58f625244 --json
    """
    with opened() as access:
        reports = [_report(access, key) for key in keys_of(words, access.keys)]
    if as_json:
        echo_json(reports)
    else:
        click.echo("\n\n".join(_as_text(report) for report in reports))


def _report(access: Access, key: str) -> dict[str, Any]:
    held = look_into_redis(access, key)
    statuses = {status["worker"]: status for status in access.questions.query("status")}
    answers = sorted(access.questions.query("explain", key=key), key=lambda answer: str(answer["worker"]))
    workers = [_worker(access, key, held, answer, statuses.get(answer["worker"], {})) for answer in answers]
    events = [
        {**event, "worker": answer["worker"]}
        for answer in answers
        for event in answer.get("events", [])
        if event["event"] not in OF_NO_KEY
    ]
    return {
        "key": key,
        "redis_key": access.keys.data(key),
        "redis": held.as_json(),
        "workers": workers,
        "silent_workers": sorted(
            access.questions.workers().keys() - {answer["worker"] for answer in answers}
        ),
        "events": sorted(events, key=lambda event: -float(event["at_s"]))[:MAX_EVENTS],
    }


def look_into_redis(access: Access, key: str) -> InRedis:
    """Read the four keys of an entry. Raises redis-py's errors."""
    data, lease, absent, copy = access.keys.group(key)
    with access.client.pipeline(transaction=False) as pipeline:
        pipeline.get(data)
        pipeline.get(lease)
        for name in (data, lease, absent, copy):
            pipeline.pttl(name)
        value, holder, *lives = pipeline.execute(raise_on_error=False)
    value_ms, lease_ms, absent_ms, copy_ms = lives
    payload = value if isinstance(value, bytes) else None
    readable = None if payload is None else access.cache.codecs.decode(key, payload)
    return InRedis(
        payload=payload,
        there=value is not None,
        digest=None if readable is None else digest(access.cache.codecs, key, readable),
        value_s=_life_s(value_ms),
        copy_s=_life_s(copy_ms),
        absent_s=_life_s(absent_ms),
        lease_s=_life_s(lease_ms),
        holder=holder.decode(errors="replace").rpartition(":")[0] if isinstance(holder, bytes) else None,
    )


def _life_s(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds >= 0 else None


def _worker(
    access: Access, key: str, held: InRedis, answer: dict[str, Any], status: dict[str, Any]
) -> dict[str, Any]:
    l1 = answer.get("l1")
    same = None if l1 is None or l1["absent"] else l1["digest"] == held.digest
    entity = key.partition("_")[0]
    view = WorkerView(
        l1=l1,
        redis_breaker=status.get("redis_breaker", "closed"),
        service_breaker=status.get("breakers", {}).get(entity, "closed"),
    )
    return {
        "worker": answer["worker"],
        "pid": answer["pid"],
        "l1": l1,
        "same_as_redis": same,
        "mode": status.get("mode"),
        "next_read": next_read(entity, held, view, access.cache.policy),
    }


def _as_text(report: dict[str, Any]) -> str:
    parts = [report["redis_key"], _redis_text(report["redis"], report["key"])]
    if report["workers"]:
        parts += [
            _workers_text(report["workers"]),
            "On the next read\n"
            + "\n".join(
                f"  {short_worker(worker['worker'])} {worker['next_read']}" for worker in report["workers"]
            ),
        ]
    else:
        parts.append("No worker listens on this Redis under this prefix: nothing more is known.")
    if report["silent_workers"]:
        names = ", ".join(map(short_worker, report["silent_workers"]))
        parts.append(f"No answer from {names}. `cache doctor` tells why.")
    parts.append(_events_text(report["events"]))
    return "\n\n".join(parts)


def _redis_text(redis: dict[str, Any], key: str) -> str:
    def life(name: str, prefix: str = "") -> str:
        return "none" if redis[name] is None else f"{prefix}{redis[name]:.1f} s left"

    value = "none"
    if redis["there"]:
        shown = printable(redis["value"]) if redis["value"] is not None else "(no string)"
        readable = "" if redis["readable"] else "  UNREADABLE: counts as a miss and will be deleted"
        value = f"{shown}{readable}"
    placeholder = PLACEHOLDERS[key.partition("_")[0]]
    lease = (
        "none" if redis["lease_s"] is None else f"{redis['holder']} loads it, {redis['lease_s']:.1f} s left"
    )
    absence = life("absent_s", f"yes, shown as {placeholder!r}, ")
    lines = (
        ("value", value),
        ("its lifetime", life("value_s") if redis["there"] else "-"),
        ("last known copy", life("copy_s")),
        ("known to be absent", "no" if absence == "none" else absence),
        ("lease", lease),
    )
    return "Redis holds\n" + "\n".join(f"  {name:<20}{text}" for name, text in lines)


def _workers_text(workers: list[dict[str, Any]]) -> str:
    rows: list[tuple[Cell, ...]] = []
    for worker in workers:
        l1 = worker["l1"]
        if l1 is None:
            rows.append((short_worker(worker["worker"]), "nothing", None, None, None, None))
            continue
        same = worker["same_as_redis"]
        rows.append(
            (
                short_worker(worker["worker"]),
                "that there is none" if l1["absent"] else "a value",
                f"{l1['age_s']:.1f} s",
                f"{l1['left_s']:.1f} s",
                "yes" if l1["trusted"] else "NO",
                None if same is None else "yes" if same else "NO",
            )
        )
    return table(("WORKER", "HOLDS IN L1", "AGE", "LEFT", "TRUSTED", "SAME AS REDIS"), rows)


def _events_text(events: list[dict[str, Any]]) -> str:
    if not events:
        return "Nothing has happened to it that a worker remembers."
    rows: list[tuple[Cell, ...]] = [
        (
            datetime.fromtimestamp(event["at_s"], UTC).astimezone().strftime("%H:%M:%S.%f")[:-3],
            short_worker(event["worker"]),
            event["tier"],
            event["event"].replace("_", " "),
            "all" if event["key"] == "*" else "this key",
            event["why"] or None,
        )
        for event in events
    ]
    return "Last events, newest first\n" + table(("AT", "WORKER", "TIER", "EVENT", "OF", "WHY"), rows)
