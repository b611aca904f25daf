"""Which users have written within the last seconds, for all workers: marks in Redis.

A replica may not have a user's write yet when the same user asks another worker for a list. So the worker that
wrote sets a mark before it answers, and until the mark expires every worker reads that user's lists from the
primary. It expires when any replica that may be read has the write.

Redis may lose marks: `FLUSHDB`, a restart from an older snapshot, a failover to a replica that lags behind. So a
further key without a lifetime holds the id of the replication history in which the marks were set. It is lost with
them, or differs from the server's own id after a restart or a failover. Then everybody is marked for the lifetime
of a mark before the id is stored.
"""

import math
from enum import StrEnum
from typing import Any, Final

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import RedisClusterException, RedisError

from servease_appt.cache.breaker import Breaker

_REDIS_COOL_DOWN_S: Final = 2.0
_MARGIN_S: Final = 0.5
"""How much longer a mark lives than a replica may be behind: clocks of two machines do not run equally fast."""
_FAILURES: Final = (RedisError, RedisClusterException, OSError, ValueError)

_LAST_WRITE: Final = """
-- KEYS  the user's mark, everybody's mark, the history of the marks     ARGV  the lifetime of a mark in ms
-- Returns whether each of both marks exists.
local info = redis.pcall('INFO', 'replication')
local history = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or 'not permitted'
if redis.call('GET', KEYS[3]) ~= history then
    redis.call('SET', KEYS[2], 1, 'PX', ARGV[1])
    redis.call('SET', KEYS[3], history)
end
return {redis.call('EXISTS', KEYS[1]), redis.call('EXISTS', KEYS[2])}
"""


class LastWrite(StrEnum):
    """What is known of a user's writes."""

    LONG_AGO = "long ago"
    RECENT = "recent"
    UNKNOWN = "unknown"
    """Redis can't be asked, or has lost its keys."""


class OwnWrites:
    """The marks of one service. Thread-safe and fork-safe, as the client is."""

    def __init__(self, redis: Redis, prefix: str, hold_s: float) -> None:
        """Keep marks in Redis.

        Args:
            redis: where the marks are kept. It is used, and never closed.
            prefix: the key prefix of the service; the mark of a user is `PREFIX:__{wrote}:USER`. The braces keep
                all of them on one node of a cluster, so that one script reads three keys.
            hold_s: after how many seconds a replica that may be read has every write.
        """
        self._redis = redis
        # Not `register_script`: a cluster's client would connect to find that name.
        self._read_marks: Any = Script(redis, _LAST_WRITE.encode())
        self._of_user = f"{prefix}:__{{wrote}}:"
        self._of_all = f"{self._of_user}all"
        self._history = f"{self._of_user}history"
        self._hold_ms = math.ceil((hold_s + _MARGIN_S) * 1000)
        self._breaker = Breaker(threshold=1, cool_down_s=_REDIS_COOL_DOWN_S)

    def mark(self, user_id: str) -> bool:
        """Mark a user who has just written. Returns False if Redis did not take the mark."""
        if not self._breaker.allows():
            return False
        try:
            self._redis.set(self._of_user + user_id, 1, px=self._hold_ms)
        except _FAILURES:
            self._breaker.failed()
            return False
        self._breaker.succeeded()
        return True

    def last_write(self, user_id: str) -> LastWrite:
        """Return whether a user has written recently. Takes one round trip; while Redis is down, none."""
        if not self._breaker.allows():
            return LastWrite.UNKNOWN
        try:
            own, everybody = self._read_marks(
                keys=[self._of_user + user_id, self._of_all, self._history], args=[self._hold_ms]
            )
        except _FAILURES:
            self._breaker.failed()
            return LastWrite.UNKNOWN
        self._breaker.succeeded()
        if own:
            return LastWrite.RECENT
        return LastWrite.UNKNOWN if everybody else LastWrite.LONG_AGO
