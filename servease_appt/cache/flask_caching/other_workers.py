"""Wait until the other workers have dropped deleted keys, so that no reader finds them afterwards."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from servease_appt.cache.two_tier import TwoTierCache

log = logging.getLogger(__name__)

SILENT_FOR_S = 30.0


class OtherWorkers:
    """The other workers of a cache. Thread-safe.

    Args:
        tiers: the cache.
        timeout_s: seconds that one deletion waits at most; 0: it does not wait. Deletions of the next
            `SILENT_FOR_S` seconds do not wait for workers that have not answered by then. These serve nothing
            from L1 once their channel has been silent for 1.5 s.
        clock: returns seconds, and never goes back.
    """

    def __init__(
        self, tiers: TwoTierCache[Any], timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tiers = tiers
        self._timeout_s = timeout_s
        self._clock = clock
        self._silent = 0
        self._silent_until_s = 0.0

    def wait(self, listeners: int | None = None) -> None:
        """Wait until all of them have handled every earlier invalidation, or the time is up.

        Args:
            listeners: the number of connections to which the last invalidation was sent; None: unknown.
        """
        if not self._timeout_s:
            return
        queries, channel = self._tiers.worker_queries, self._tiers.channel
        own = 1 if channel is not None and channel.confirmed else 0
        if listeners is not None and listeners <= own:
            return
        silent = self._silent if self._clock() < self._silent_until_s else 0
        try:
            expected = queries.reachable() - silent
            if expected <= own:
                return
            answers = queries.answers("heard", timeout_s=self._timeout_s, expected=expected)
            missing = expected - sum(1 for _ in answers)
        except (RedisError, OSError) as error:
            log.debug("The query to the other workers after a deletion failed: %s", error)
            return
        if missing > 0:
            log.warning(
                "%s workers have not said within %s s that they handled a deletion", missing, self._timeout_s
            )
            self._silent, self._silent_until_s = silent + missing, self._clock() + SILENT_FOR_S
