"""The workers: who listens, who is registered, who does not answer, and how fast an invalidation arrives."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from servease_appt.cache import CacheUnavailable
from servease_appt.cache.messages import sequence_of
from servease_appt.doctor import growth_checks
from servease_appt.doctor.findings import Area, Finding
from servease_appt.doctor.texts import counted
from servease_appt.inspection.session import OperatorSession
from servease_appt.inspection.workers import (
    Acknowledgement,
    Answers,
    Registration,
    WorkerStatus,
    query_acknowledgements,
    query_statuses,
    registered_workers,
    short_name,
)
from servease_appt.observability.cache_report import secret_key_id
from servease_appt.references.entities import CUSTOMER

AIM_MS: Final = 10.0
SLOW_MS: Final = 100.0

_area = Area("workers")


def check(session: OperatorSession, *, redis_has_problem: bool) -> Iterator[Finding]:
    """Run all checks of the workers. Raises redis-py's errors.

    Args:
        session: what the checks need.
        redis_has_problem: whether Redis itself has a problem, which then is the cause of what is found here.
    """
    queries = session.queries
    sequence = sequence_of(session.client.get(session.keys.sequence))
    registered = registered_workers(queries)
    listening = queries.listeners()
    asked_at_s = time.monotonic()
    answers = query_statuses(queries)
    if redis_has_problem and not answers.readable:
        listening = 0  # a worker that Redis refuses reconnects again and again: it is not blocked
    yield from _listening(session, listening, len(registered), answers)
    yield from _silent(session, registered, answers.readable, listening)
    for status in answers.readable:
        yield from _state(status, sequence, tracking_wanted=session.settings.cache_tracking)
    yield from _l1_switch(session, answers.readable)
    yield from _versions(answers.readable)
    yield from _secret_keys(session, answers.readable)
    yield _live_test(session)
    yield from growth_checks.check(queries, answers.readable, asked_at_s)


def _listening(
    session: OperatorSession, listening: int, registered: int, answers: Answers[WorkerStatus]
) -> Iterator[Finding]:
    answered = len(answers.readable)
    if not listening and registered:
        yield _area.problem(
            f"No worker is connected to this Redis; the register has {counted(registered, 'worker')}.",
            "They do not run, or cannot stay connected: they leave a server that refuses their heartbeat, which is"
            " a write. Meanwhile they serve nothing older than 1 s from L1.",
            "Act on the findings about Redis first. Then look at the workers' log.",
        )
        return
    if not listening:
        yield _area.problem(
            f"No worker listens on {session.keys.channel}.",
            "The service does not run, or it uses another Redis or prefix than this shell; then commands from here"
            " do not reach it.",
            "Run this in the service's own environment: compare REDIS_URL, REDIS_HOST and CACHE_KEY_PREFIX.",
        )
        return
    says = f"{listening} listening, {registered} registered, {answered} answered."
    if not registered and not answered:
        yield _area.problem(
            says,
            "The workers use this server but another database than this shell (messages are not bound to a"
            " database): what is read and deleted from here is not theirs.",
            "Run this with the REDIS_URL of the workers.",
        )
    elif answered < listening:
        yield _area.problem(
            says,
            "A worker that is connected and does not answer is blocked. It stops serving from L1 after 1.5 s.",
            "See below for which one it is, and restart it.",
        )
    elif registered < listening:
        yield _area.warning(
            says,
            "The register of workers has lost an entry: Redis evicted it, or somebody deleted it. Commands don't"
            " notice if a worker that is not registered stops answering.",
            "Run this again after 10 s: workers register again by themselves. If it stays, set"
            " `maxmemory-policy volatile-lru`.",
        )
    else:
        yield _area.ok(says)
    if answers.unreadable:
        yield _area.warning(
            f"{counted(answers.unreadable, 'answer')} could not be read.",
            "Another program publishes on the cache's channels, or a worker runs another version of the service.",
            "Finish the upgrade, or find out who else uses this prefix.",
        )


def _silent(
    session: OperatorSession,
    registered: dict[str, Registration],
    statuses: Sequence[WorkerStatus],
    listening: int,
) -> Iterator[Finding]:
    answered = {status.worker for status in statuses}
    names = {short_name(identity) for identity in answered}
    for identity in sorted(registered.keys() - answered):
        about, name = registered[identity], short_name(identity)
        here = about.pid is not None and about.host == socket.gethostname()
        if name in names or (here and not _is_alive(about.pid)):
            session.queries.forget_worker(identity)
            yield _area.warning(
                f"{name} died without signing off; its entry in the register is now deleted.",
                "It was killed: by kill -9, by the system for lack of memory, or by gunicorn's timeout.",
                "Look for the reason in the service's log and in `dmesg`. Nothing is left to clean up.",
            )
        elif listening > len(statuses):
            yield _area.problem(
                f"{name} does not answer, although {'its process runs' if here else 'it is connected'}.",
                "It does not handle invalidations. It serves nothing older than 1 s from L1, and reads the rest"
                " from Redis or the services.",
                f"Find out what blocks it (`py-spy dump --pid {about.pid}`), or end it (gunicorn starts another):"
                f" kill -9 {about.pid}",
            )
        elif here:
            yield _area.warning(
                f"{name} is not connected to Redis, although its process runs.",
                "It serves nothing older than 1 s from L1. It connects and registers again by itself.",
                "See the findings about Redis, and this worker's log. A worker that is blocked for long is also"
                f" disconnected: py-spy dump --pid {about.pid}",
            )
        else:
            yield _area.warning(
                f"{name} is registered, but not connected.",
                "Its host is down or has lost its connection to Redis. In the latter case it serves nothing older"
                " than 1 s from L1, and registers again by itself.",
                f"Check that host. If it is gone for good: redis-cli -n 1 HDEL {session.keys.workers} {identity}",
            )


def _is_alive(pid: int | None) -> bool:
    if pid is None or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _state(status: WorkerStatus, sequence: int | None, *, tracking_wanted: bool) -> Iterator[Finding]:
    name = short_name(status.worker)
    well = True
    if not status.channel_confirmed:
        well = False
        yield _area.warning(
            f"{name} has not confirmed its channel yet.",
            "It serves nothing older than 1 s from L1.",
            "Run this again: it takes less than 2 s.",
        )
    if status.behind(sequence):
        well = False
        yield _area.warning(
            f"{name} is behind: it has handled invalidation {status.sequence}, Redis counts {sequence}.",
            "It missed messages. It notices that within 0.5 s and empties its L1.",
            "Run this again. If it stays behind, restart it.",
        )
    if tracking_wanted and not status.tracking:
        well = False
        yield _area.warning(
            f"{name} is not informed of changes by other Redis clients.",
            "After a DEL, EVAL or FLUSHDB in redis-cli its L1 keeps the value until it expires.",
            "Allow its Redis user CLIENT TRACKING; use `cache invalidate` until then.",
        )
    if status.redis_refuses is not None:
        well = False
        yield _area.problem(
            f"{name}: Redis refuses what it sends: {status.redis_refuses.rstrip('.')}.",
            "What is refused does not happen: values are not stored, or invalidations answer 503.",
            "Give its Redis user the rights in deploy/users.acl."
            if status.redis_refuses.startswith("NOPERM")
            else "See the findings about Redis: version, memory, replication, disk.",
        )
    for breaker, state in status.all_breakers.items():
        if state != "closed":
            well = False
            what = "Redis" if breaker == "redis" else f"the {breaker} service"
            yield _area.warning(
                f"{name}: the breaker of {what} is {state.replace('_', ' ')}.",
                f"Calls to {what} failed in this worker; it pauses them for 2 s at a time.",
                f"See the findings about {what}.",
            )
    if well:
        yield _area.ok(
            f"{name}: {status.mode}, {status.l1_entries:,} entries in L1, no message missed, breakers closed."
        )


def _l1_switch(session: OperatorSession, statuses: Sequence[WorkerStatus]) -> Iterator[Finding]:
    since_s = session.queries.l1_off_since_s()
    others = [short_name(each.worker) for each in statuses if each.l1_switched_off is (since_s is None)]
    if since_s is not None:
        since = f" since {datetime.fromtimestamp(since_s, UTC):%Y-%m-%d %H:%M:%S} UTC" if since_s else ""
        yield _area.warning(
            f"L1 is switched off{since}.",
            "Every read goes to Redis: a page costs one Redis command more, and no name is wrong.",
            "Once the reason for it is gone: flask --app wsgi cache l1 on",
        )
    if others:
        yield _area.warning(
            f"{', '.join(others)}: L1 is {'off' if since_s is None else 'on'}, unlike the switch in Redis.",
            "A worker reads the switch when it is set and every 5 s; an older version of the service never does.",
            "Run this again after 5 s. If it stays, restart the worker.",
        )


def _versions(statuses: Sequence[WorkerStatus]) -> Iterator[Finding]:
    versions = sorted({status.version for status in statuses if status.version is not None})
    if len(versions) > 1:
        yield _area.note(
            f"Workers of several versions: {', '.join(versions)}.",
            "An upgrade is in progress, or some workers were not restarted.",
            "Restart the remaining workers.",
        )


def _secret_keys(session: OperatorSession, statuses: Sequence[WorkerStatus]) -> Iterator[Finding]:
    """Compare the workers' SECRET_KEY with this shell's by a short hash."""
    ours = secret_key_id(session.settings.secret_key)
    others = [status for status in statuses if status.secret_key_id not in (None, ours)]
    if not others:
        return
    names = ", ".join(short_name(status.worker) for status in others)
    if len(others) < len(statuses):
        yield _area.problem(
            f"Not all workers use the same SECRET_KEY: {names} use another than this shell.",
            "A token that one worker accepts is refused by another, so users get 401 now and then.",
            "Give all workers the SECRET_KEY of the authentication service, and restart them.",
        )
    else:
        yield _area.problem(
            f"The workers use another SECRET_KEY than this shell: {names}.",
            "Links from `cache dashboard` are refused, and so are the calls that `cache warm` and this doctor make"
            " to the services, where these have the workers' key.",
            "Run this in the service's own environment: compare SECRET_KEY.",
        )


def _live_test(session: OperatorSession) -> Finding:
    """Invalidate a random id and see which workers handle it."""
    try:
        answers = _handle_one(session)
        if _slowest_ms(answers) > SLOW_MS:
            answers = _handle_one(session)  # measure twice: the host may have been busy for a moment
    except CacheUnavailable as error:
        return _area.problem(
            f"Redis does not accept invalidations: {error}",
            "POST /cache/invalidate/ answers 503, commands exit with 1, and old values stay until they expire.",
            "See the findings about Redis: a replica, no memory for scripts, or a right that its user lacks.",
        )
    times = ", ".join(f"{short_name(answer.worker)} {answer.after_ms:.1f} ms" for answer in answers)
    says = f"A test invalidation was handled by {times or 'no worker'}."
    if _slowest_ms(answers) > SLOW_MS:
        return _area.warning(
            says,
            f"The aim is {AIM_MS:.0f} ms: for that long after an invalidation an old value may be served.",
            "Check the CPU load of the workers' hosts and the network to Redis.",
        )
    return _area.ok(says)


def _handle_one(session: OperatorSession) -> list[Acknowledgement]:
    session.cache.invalidate([f"{CUSTOMER}_{uuid.uuid4()}"])
    return query_acknowledgements(session.queries).readable


def _slowest_ms(answers: Sequence[Acknowledgement]) -> float:
    return max((answer.after_ms for answer in answers), default=0.0)
