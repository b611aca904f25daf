"""The Redis server: does it answer, does it take writes, has it memory left, is its clock right?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from servease_appt.cache.l2.cluster_client import Cluster
from servease_appt.cache.redis_client import database_of
from servease_appt.cache.refusals import LEAST_REDIS, SCRIPT_TEST, cause_of, check_version
from servease_appt.doctor.findings import Area, Finding
from servease_appt.doctor.redis_cures import REFUSALS, RIGHTS, UNUSABLE, UPGRADE, cure_of, root_cause
from servease_appt.doctor.texts import duration
from servease_appt.inspection.session import OperatorSession
from servease_appt.masking import mask_url

PINGS: Final = 20
SLOW_MS: Final = 5.0
REQUEST_TIMEOUT_MS: Final = 200.0
FULL: Final = 0.9
CLOCK_SLACK_S: Final = 1.0
DATABASE: Final = 1
WRITE_TEST_MS: Final = 1000

_DEGRADED: Final = (
    "Pages are slower, not wrong: workers load from the services what they did not load within the last second."
    " Invalidations are refused (HTTP 503, exit code 1)."
)
_area = Area("redis")


def check(session: OperatorSession) -> Iterator[Finding]:
    """Run all checks of Redis. Raises redis-py's errors when the server does not answer."""
    yield _speed(session)
    try:
        server = session.client.info("everything")
    except NoPermissionError as error:
        yield _no_info(error)
        server = {}
    else:
        yield from _server(server)
    if server.get("role") != "slave":
        yield from _write_test(session)
    yield from _script_test(session)
    if server:
        yield from _memory(server)
    yield from _database(session)
    yield _clock(session.client)


def unreachable(session: OperatorSession, error: BaseException) -> Finding:
    """Return the finding for a Redis that can't be used: what failed decides what to do."""
    refusal = REFUSALS.get(root_cause(error))
    if refusal is not None and root_cause(error) not in UNUSABLE:  # MISCONF: it refuses even PING
        what_is_wrong, do = refusal
        return _area.problem(f"{_where(session)} answers. {what_is_wrong}", _DEGRADED, do)
    reason = " ".join(str(error).split()).rstrip(".")
    return _area.problem(f"{_where(session)} can't be used: {reason}.", _DEGRADED, cure_of(error, reason))


def _no_info(error: NoPermissionError) -> Finding:
    return _area.warning(
        f"INFO is refused: {str(error).rstrip('.')}.",
        "Its version, memory and role can't be checked here, and workers with this user can't tell a server that"
        " lost invalidations in a failover by its replication history.",
        RIGHTS,
    )


def _where(session: OperatorSession) -> str:
    return f"Redis at {mask_url(session.settings.redis_url)}"


def _speed(session: OperatorSession) -> Finding:
    median_ms, longest_ms = _pings(session.client)
    if _is_slow(median_ms, longest_ms):
        median_ms, longest_ms = _pings(
            session.client
        )  # measure twice: the host may have been busy for a moment
    says = f"{_where(session)} answers in {median_ms:.2f} ms (slowest of {PINGS}: {longest_ms:.2f} ms)."
    if _is_slow(median_ms, longest_ms):
        return _area.warning(
            says,
            f"A request waits {REQUEST_TIMEOUT_MS:.0f} ms for Redis at most; a slower answer counts as a failure.",
            "Look for slow commands (`redis-cli SLOWLOG GET`), a busy host, or a slow network.",
        )
    return _area.ok(says)


def _pings(client: Redis) -> tuple[float, float]:
    """Return the median and the longest of several pings in milliseconds, without the first, which may connect."""
    client.ping()
    times_ms = []
    for _ in range(PINGS):
        started_s = time.perf_counter()
        client.ping()
        times_ms.append((time.perf_counter() - started_s) * 1000)
    return sorted(times_ms)[PINGS // 2], max(times_ms)


def _is_slow(median_ms: float, longest_ms: float) -> bool:
    return median_ms > SLOW_MS or longest_ms > REQUEST_TIMEOUT_MS


def _server(server: dict[str, Any]) -> Iterator[Finding]:
    name = str(server.get("server_name", "redis"))
    version = str(server.get(f"{name}_version", server["redis_version"]))
    compatible = str(server["redis_version"])
    if check_version("redis", compatible) is not None:
        yield _area.problem(
            f"The server is {name} {version}.",
            f"The cache's scripts need Redis {LEAST_REDIS}: without it nothing is stored or invalidated.",
            UPGRADE,
        )
    else:
        yield _area.ok(f"The server is {name} {version}.")
    if server.get("role") == "slave":
        yield _area.problem(
            "It is a replica.",
            "It takes no writes: nothing is stored, and invalidations are refused.",
            "Point REDIS_URL at the primary, or use redis+sentinel://, which finds it.",
        )


def _write_test(session: OperatorSession) -> Iterator[Finding]:
    """Write one key of our own, which expires after a second."""
    try:
        session.client.set(f"{session.keys.prefix}:__doctor", 1, px=WRITE_TEST_MS)
    except ResponseError as error:
        says, do = REFUSALS.get(
            cause_of(error) or "",
            (
                f"It refuses writes: {str(error).rstrip('.')}.",
                "Look up this error in Redis' documentation.",
            ),
        )
        yield _area.problem(
            says,
            "No value is stored, so every page calls the services. Workers stay connected and hear invalidations.",
            do,
        )


def _script_test(session: OperatorSession) -> Iterator[Finding]:
    """Run a script that changes nothing."""
    try:
        session.client.eval(SCRIPT_TEST, 0)
    except ResponseError as error:
        yield _area.problem(
            f"It refuses Lua scripts: {str(error).strip().rstrip('.')}.",
            "No value is stored, so every page calls the services, and invalidations are refused.",
            UNUSABLE.get(root_cause(error), "Look up this error in Redis' documentation."),
        )


def _memory(server: dict[str, Any]) -> Iterator[Finding]:
    used, limit = int(server["used_memory"]), int(server["maxmemory"])
    policy, evicted = str(server["maxmemory_policy"]), int(server["evicted_keys"])
    size = f"{used / 1048576:.1f} MiB of {f'{limit / 1048576:.1f} MiB' if limit else 'no limit'}"
    says = f"Memory: {size}, policy {policy}, {evicted:,} keys evicted."
    if not limit:
        yield _area.ok(says)
    elif policy == "noeviction":
        yield _area.warning(
            says,
            "When it is full, no value is stored any more and every page calls the services; invalidations still"
            " work.",
            "Set `maxmemory-policy volatile-lru`: every cached value has a TTL.",
        )
    elif policy.startswith("allkeys"):
        yield _area.note(
            says,
            "It may also evict the sequence number, after which every worker empties its L1, and the register of"
            " workers, which they renew.",
            "Prefer volatile-lru.",
        )
    else:
        yield _area.ok(says)
    if limit and used > FULL * limit:
        yield _area.warning(
            f"It is {used / limit:.0%} full.",
            "Values are evicted before their TTL ends, or refused: more calls to the services.",
            "Raise maxmemory, or find out who else uses this server.",
        )


def _database(session: OperatorSession) -> Iterator[Finding]:
    number = database_of(session.client)
    if number == DATABASE or isinstance(session.client, Cluster):  # a cluster has database 0 alone
        yield _area.ok(f"Database {number}, keys under {session.keys.prefix}:.")
        return
    yield _area.warning(
        f"Database {number} instead of {DATABASE}.",
        f"The platform's recipes use database {DATABASE}: FLUSHDB there does not reach this cache, and here it may"
        " delete another service's keys.",
        f"End REDIS_URL with /{DATABASE}, for the workers as well as for this shell.",
    )


def _clock(client: Redis) -> Finding:
    before_s = time.time()
    seconds, microseconds = client.time()
    local_s = (before_s + time.time()) / 2
    ahead_s = int(seconds) + int(microseconds) / 1_000_000 - local_s
    says = f"Its clock is {duration(abs(ahead_s))} {'ahead of' if ahead_s >= 0 else 'behind'} this host's."
    if abs(ahead_s) > CLOCK_SLACK_S:
        return _area.warning(
            says,
            "The cache needs no common clock, but tokens expire too early or too late, and times in logs and"
            " events do not match.",
            "Synchronise both hosts with NTP (`timedatectl`, `chronyc tracking`). If PostgreSQL's clock differs by"
            " as much, this host's is the wrong one.",
        )
    return _area.ok(says)
