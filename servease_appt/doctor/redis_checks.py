"""The Redis server: does it answer, how fast, can the cache work with it, has it room, is its clock right?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from redis import Redis

from servease_appt.cli.cache.session import Access
from servease_appt.doctor.findings import Area, Finding
from servease_appt.settings import mask_url

PINGS: Final = 20
SLOW_MS: Final = 5.0
REQUEST_TIMEOUT_MS: Final = 200.0
OLDEST_MAJOR: Final = 7
FULL: Final = 0.9
CLOCK_SLACK_S: Final = 1.0
DATABASE: Final = 1

_area = Area("redis")


def check(access: Access) -> Iterator[Finding]:
    """All of it. Raises redis-py's errors when the server is away."""
    yield _speed(access)
    server = access.client.info("everything")
    yield from _server(server)
    yield from _memory(server)
    yield from _database(access)
    yield _clock(access.client)


def unreachable(access: Access, error: BaseException) -> Finding:
    """Redis is away."""
    return _area.problem(
        f"{_where(access)} does not answer: {' '.join(str(error).split()).rstrip('.')}.",
        "Pages are slower, not wrong: what a worker has not loaded within the last second, it asks the services"
        " for. Invalidations are refused (HTTP 503, exit code 1).",
        "Start Redis, or correct REDIS_URL or REDIS_HOST and REDIS_PORT. Workers find it again by themselves.",
    )


def _where(access: Access) -> str:
    return f"Redis at {mask_url(access.settings.redis_url)}"


def _speed(access: Access) -> Finding:
    median_ms, longest_ms = _pings(access.client)
    if _is_slow(median_ms, longest_ms):
        median_ms, longest_ms = _pings(access.client)  # a moment in which the host was busy is no finding
    says = f"{_where(access)} answers in {median_ms:.1f} ms (the slowest of {PINGS}: {longest_ms:.1f} ms)."
    if _is_slow(median_ms, longest_ms):
        return _area.warning(
            says,
            f"A request gives Redis {REQUEST_TIMEOUT_MS:.0f} ms; slower answers count as failures.",
            "Look for slow commands (`redis-cli SLOWLOG GET`), a busy host, or a long way to it.",
        )
    return _area.ok(says)


def _pings(client: Redis) -> tuple[float, float]:
    """The median and the longest of several, in milliseconds, not counting one that may have to connect."""
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
    if int(compatible.partition(".")[0]) < OLDEST_MAJOR:
        yield _area.problem(
            f"It is {name} {version}.",
            "The cache's scripts need Redis 7: they are refused, so nothing is stored or invalidated.",
            "Upgrade the server to Redis 7 or Valkey.",
        )
    else:
        yield _area.ok(f"It is {name} {version}.")
    if server.get("role") == "slave":
        yield _area.problem(
            "It is a replica.",
            "It takes no writes: nothing is stored, and invalidations are refused.",
            "Point REDIS_URL at the primary, or use redis+sentinel://, which finds it.",
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
            "When it is full, nothing new is stored any more and every page asks the services; invalidations"
            " still get through.",
            "Set `maxmemory-policy volatile-lru`: all cached values have a lifetime.",
        )
    elif policy.startswith("allkeys"):
        yield _area.note(
            says,
            "It may also evict the workers' register and the sequence number, which costs every worker its L1.",
            "Prefer volatile-lru.",
        )
    else:
        yield _area.ok(says)
    if limit and used > FULL * limit:
        yield _area.warning(
            f"It is {used / limit:.0%} full.",
            "Values are evicted before their time, or refused: more calls to the services.",
            "Raise maxmemory, or find out who else uses it.",
        )


def _database(access: Access) -> Iterator[Finding]:
    number = int(access.client.connection_pool.connection_kwargs.get("db") or 0)
    if number == DATABASE:
        yield _area.ok(f"Database {number}, keys under {access.keys.prefix}:.")
        return
    yield _area.warning(
        f"Database {number} instead of {DATABASE}.",
        f"The platform's recipes look for this cache in database {DATABASE}: FLUSHDB there does not reach it, and"
        " one here may hit somebody else's keys.",
        f"End REDIS_URL with /{DATABASE}, for the workers as well as for this shell.",
    )


def _clock(client: Redis) -> Finding:
    before_s = time.time()
    seconds, microseconds = client.time()
    local_s = (before_s + time.time()) / 2
    ahead_s = int(seconds) + int(microseconds) / 1_000_000 - local_s
    says = (
        f"Its clock is {abs(ahead_s) * 1000:.0f} ms {'ahead of' if ahead_s >= 0 else 'behind'} this host's."
    )
    if abs(ahead_s) > CLOCK_SLACK_S:
        return _area.warning(
            says,
            "The cache itself needs no common clock, but tokens expire too early or too late, and times in logs"
            " and events do not fit together.",
            "Have both hosts follow the same time server (NTP).",
        )
    return _area.ok(says)
