"""How many requests one user may make: token buckets in Redis, shared by all workers.

A bucket holds as many requests as are allowed in a minute and fills evenly. So that a normal user costs no round
trip, each worker lets a tenth of the limit a minute pass by its own count and asks Redis only beyond that: with W
workers a user gets at most 1 + W / 10 times the limit. When Redis cannot be asked, every request is let through:
the limit is there for fairness, and the worker's own queue limits protect it from overload.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum
from time import monotonic
from typing import Any, Final

from cachetools import LRUCache
from redis import Redis
from redis.commands.core import Script
from redis.exceptions import RedisClusterException, RedisError

from servease_appt.cache.breaker import Breaker

_PERIOD_S: Final = 60.0
_SHARE_WITHOUT_REDIS: Final = 10
_USERS_COUNTED: Final = 10_000
_REDIS_COOL_DOWN_S: Final = 2.0

_TAKE_ONE: Final = """
-- KEYS  the bucket     ARGV  how many tokens it holds, seconds in which it fills
-- Returns the milliseconds until there is a token: 0 where one was taken.
local size, fill_s = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local left, at = unpack(redis.call('HMGET', KEYS[1], 'left', 'at'))
left = math.min(size, (tonumber(left) or size) + math.max(0, now - (tonumber(at) or now)) * size / fill_s)
local wait_ms = 0
if left >= 1 then left = left - 1 else wait_ms = math.ceil((1 - left) * fill_s / size * 1000) end
redis.call('HSET', KEYS[1], 'left', tostring(left), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(fill_s * 1000))
return wait_ms
"""


class Cost(StrEnum):
    """Which of a user's two limits a request counts against."""

    NORMAL = "normal"
    COSTLY = "costly"
    """Routes that take much more work than a list: free slots, history, booking."""


class RateLimits:
    """Counts requests by user. Thread-safe; belongs to one process.

    Args:
        redis: where the buckets are kept. It is used, and never closed.
        prefix: the key prefix of the service; buckets are `PREFIX:__rate:COST:USER`.
        per_minute: the limit of each cost; 0 turns it off.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        per_minute: dict[Cost, int],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        # Not `register_script`: a cluster's client would connect to find that name.
        self._take_one: Any = Script(redis, _TAKE_ONE.encode())
        self._prefix = prefix
        self._per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._counted: LRUCache[tuple[Cost, str], int] = LRUCache(_USERS_COUNTED)
        self._period_ends_s = clock() + _PERIOD_S
        self._breaker = Breaker(threshold=1, cool_down_s=_REDIS_COOL_DOWN_S)

    def wait_s(self, user: str, cost: Cost) -> int:
        """Count a request. Returns 0, or after how many seconds to come back when the user has made too many."""
        limit = self._per_minute[cost]
        if not limit or self._count((cost, user)) <= limit // _SHARE_WITHOUT_REDIS:
            return 0
        wait_ms = self._wait_ms(f"{self._prefix}:__rate:{cost}:{user}", limit)
        return -(-wait_ms // 1000)

    def _count(self, key: tuple[Cost, str]) -> int:
        with self._lock:
            now = self._clock()
            if now >= self._period_ends_s:
                self._counted.clear()
                self._period_ends_s = now + _PERIOD_S
            count: int = self._counted.get(key, 0) + 1
            self._counted[key] = count
            return count

    def _wait_ms(self, bucket: str, limit: int) -> int:
        if not self._breaker.allows():
            return 0
        try:
            wait_ms = int(self._take_one(keys=[bucket], args=[limit, _PERIOD_S]))
        except (RedisError, RedisClusterException, OSError, ValueError):
            self._breaker.failed()
            return 0
        self._breaker.succeeded()
        return wait_ms
