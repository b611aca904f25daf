"""The workers: who listens, who is registered, who is deaf or dead, and how fast an invalidation gets around."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

from servease_appt.cache import CacheUnavailable
from servease_appt.cli.cache.naming import short_worker
from servease_appt.cli.cache.session import Access
from servease_appt.cli.cache.stats import behind
from servease_appt.doctor.findings import Area, Finding
from servease_appt.references.entities import CUSTOMER

ANSWER_S: Final = 1.0
AIM_MS: Final = 10.0
SLOW_MS: Final = 100.0

_area = Area("workers")

Status = dict[str, Any]


def check(access: Access) -> Iterator[Finding]:
    """All of it. Raises redis-py's errors."""
    questions = access.questions
    sequence = access.client.get(access.keys.sequence)
    counted = int(sequence) if isinstance(sequence, bytes) else None
    registered = questions.workers()
    listening = questions.listeners()
    statuses = sorted(questions.query("status", timeout_s=ANSWER_S), key=lambda status: str(status["worker"]))
    yield _listening(access, listening, len(registered), statuses)
    yield from _silent(access, registered, statuses, listening)
    for status in statuses:
        yield from _state(status, counted)
    yield from _versions(statuses)
    yield _live_test(access)


def _listening(access: Access, listening: int, registered: int, statuses: Sequence[Status]) -> Finding:
    if not listening:
        return _area.problem(
            f"No worker listens on {access.keys.channel}.",
            "Either the service does not run, or it runs with another Redis, database or prefix than this shell,"
            " and then commands from here do not reach it.",
            "Run this in the service's own environment: compare REDIS_URL, REDIS_HOST and CACHE_KEY_PREFIX.",
        )
    says = f"{listening} listening, {registered} registered, {len(statuses)} answered."
    if not registered and not statuses:
        return _area.problem(
            says,
            "They use this server, but another database than this shell (messages know no databases): what is read"
            " and deleted from here is not theirs.",
            "Run this with the REDIS_URL of the workers.",
        )
    if len(statuses) < listening:
        return _area.problem(
            says,
            "Who is connected and does not answer is stuck. What it holds it stops serving after 1.5 s.",
            "See below which; restart it.",
        )
    return _area.ok(says)


def _silent(
    access: Access, registered: dict[str, dict[str, Any]], statuses: Sequence[Status], listening: int
) -> Iterator[Finding]:
    answered = {status["worker"]: status for status in statuses}
    pids = {(short_worker(identity)) for identity in answered}
    for identity in sorted(registered.keys() - answered.keys()):
        about, name = registered[identity], short_worker(identity)
        here = about.get("host") == socket.gethostname()
        if name in pids or (here and not _is_alive(int(about["pid"]))):
            access.questions.forget_worker(identity)
            yield _area.warning(
                f"{name} has died without leaving; it is now forgotten.",
                "It was killed: kill -9, the system for lack of memory, or a gunicorn timeout.",
                "Look for its end in the service's log and in `dmesg`. Nothing is left to clean up.",
            )
        elif here or listening > len(statuses):
            yield _area.problem(
                f"{name} is deaf: {'its process runs' if here else 'it is registered'}, but it does not answer.",
                "It can't hear invalidations. It serves nothing older than 1 s out of its own memory, and asks"
                " Redis or the services for the rest.",
                f"Find out what keeps it (`py-spy dump --pid {about['pid']}`), or restart it: kill"
                f" {about['pid']}.",
            )
        else:
            yield _area.warning(
                f"{name} is registered, and not connected.",
                "Its host has gone without a word, or has lost its way to Redis; then it serves nothing older than"
                " 1 s out of its own memory, and registers again by itself.",
                f"Look at that host. If it is gone for good: redis-cli -n 1 HDEL {access.keys.workers} {identity}",
            )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _state(status: Status, sequence: int | None) -> Iterator[Finding]:
    name = short_worker(status["worker"])
    missed = behind(sequence, status["sequence"])
    well = True
    if not status["channel_confirmed"]:
        well = False
        yield _area.warning(
            f"{name} has not confirmed its channel yet.",
            "It serves nothing older than 1 s out of its own memory.",
            "Run this again: it takes less than 2 s.",
        )
    if missed:
        well = False
        yield _area.warning(
            f"{name} is behind: it has handled invalidation {status['sequence']}, Redis counts {sequence}.",
            "It has missed messages, which it notices within 0.5 s, and empties its L1.",
            "Run this again. If it stays behind, restart it.",
        )
    if not status["tracking"]:
        well = False
        yield _area.warning(
            f"{name} is not told of changes by other hands.",
            "A DEL, EVAL or FLUSHDB in redis-cli reaches its L1 only when that expires.",
            "Allow its Redis user CLIENT TRACKING, and use `cache invalidate` until then.",
        )
    states = {"Redis": status["redis_breaker"], **status.get("breakers", {})}
    for what, state in states.items():
        if state != "closed":
            well = False
            yield _area.warning(
                f"{name}: the breaker of {what} is {state.replace('_', ' ')}.",
                f"{what} failed in this worker a moment ago, and is left alone for 2 s at a time.",
                f"Look at {what} below." if what != "Redis" else "Look at Redis above.",
            )
    if well:
        yield _area.ok(
            f"{name}: {status['mode']}, {status['l1_entries']:,} in L1, nothing missed, breakers closed."
        )


def _versions(statuses: Sequence[Status]) -> Iterator[Finding]:
    versions = sorted({str(status["version"]) for status in statuses if "version" in status})
    if len(versions) > 1:
        yield _area.note(
            f"Workers of several versions: {', '.join(versions)}.",
            "An upgrade is under way, or part of the workers was forgotten.",
            "Finish it.",
        )


def _live_test(access: Access) -> Finding:
    """Invalidate an id that nobody has, and see who has handled it."""
    try:
        answers = _who_handles_one(access)
        if _slowest_ms(answers) > SLOW_MS:
            answers = _who_handles_one(access)  # a moment in which the host was busy is no finding
    except CacheUnavailable as error:
        return _area.problem(
            f"Redis does not take invalidations: {error}",
            "POST /cache/invalidate/ answers 503, commands exit with 1, and values go only when they expire.",
            "Is it a replica, out of memory for scripts, or does its user lack a right?",
        )
    times = ", ".join(f"{short_worker(answer['worker'])} {answer['after_ms']:.1f} ms" for answer in answers)
    says = f"A test invalidation was handled by {times or 'nobody, since nobody listens'}."
    if _slowest_ms(answers) > SLOW_MS:
        return _area.warning(
            says,
            f"The aim is {AIM_MS:.0f} ms: for so long after an invalidation the old value may be served.",
            "Are the workers' hosts out of CPU, or far from Redis?",
        )
    return _area.ok(says)


def _who_handles_one(access: Access) -> list[dict[str, Any]]:
    access.cache.invalidate([f"{CUSTOMER}_{uuid.uuid4()}"])
    return access.questions.query("heard", timeout_s=ANSWER_S)


def _slowest_ms(answers: Sequence[dict[str, Any]]) -> float:
    return max((answer["after_ms"] for answer in answers), default=0.0)
