"""L2 on the primary that sentinels name: an acknowledged invalidation outlives the choice of another primary.

Replication is asynchronous. A primary that is cut off from its replicas takes invalidations until its clients find
out, and its successor never has them. So each invalidation waits until as many replicas have it as make a majority
with the primary. If they do not answer in time, as while a replica is slow, or there are none, the sentinels are
asked whether the primary is still the primary, and it is refused if they can't be reached or name another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis import Redis
from redis.exceptions import ResponseError

from servease_appt.cache.breaker import Breaker
from servease_appt.cache.keys import KeySpace
from servease_appt.cache.l2.single_server import SingleServerL2
from servease_appt.cache.sentinel import OTHER_PRIMARY, UNKNOWN_PRIMARY, Sentinels
from servease_appt.cache.stats import Observer
from servease_appt.cache.wire import Argument

WAIT_MS: Final = 100
"""Milliseconds to wait for the replicas; at most a quarter of the client's timeout.

A server looks for waits that have ended at its next tick, 100 ms later by default (`hz 10`). With half of the
usual timeout of 200 ms, the answer came when the client gave up: an invalidation in some dozens was refused, and
the breaker opened.
"""


class SentinelL2(SingleServerL2):
    """`L2` on a server that sentinels may replace."""

    def __init__(
        self,
        client: Redis,
        keys: KeySpace,
        breaker: Breaker,
        observer: Observer | None,
        sentinels: Sentinels,
    ) -> None:
        super().__init__(client, keys, breaker, observer)
        self._sentinels = sentinels
        timeout_s = client.connection_pool.connection_kwargs.get("socket_timeout") or 1.0
        self._wait_ms = max(1, min(WAIT_MS, int(timeout_s * 250)))

    def _delete_and_publish(self, names: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run the script on a primary that stays one. Raises redis-py's errors; NOREPLICAS if there is none.

        It is tried on a second server if the sentinels name another one now.
        """
        answer, objection = self._on_the_primary(names, args)
        if objection == OTHER_PRIMARY:
            self.client.connection_pool.disconnect(inuse_connections=False)
            answer, objection = self._on_the_primary(names, args)
        if objection is not None:
            raise ResponseError(f"NOREPLICAS No replica has it, and {objection}")
        return answer

    def _on_the_primary(self, names: Sequence[str], args: Sequence[Argument]) -> tuple[Any, str | None]:
        needed = self._replicas_needed()
        answer, replicas, server = self._invalidate.replicated(names, args, needed, self._wait_ms)
        if replicas >= max(1, needed):
            return answer, None
        objection = self._sentinels.objection_now(server)
        # Without a replica nothing can be promoted: sentinels that do not run are no reason to refuse.
        return answer, None if objection == UNKNOWN_PRIMARY and not needed else objection

    def _replicas_needed(self) -> int:
        """Return the number of replicas that make a majority together with the primary; 1 if it is not known.

        0 where the last report had none: there are none, or the only one has just been promoted.
        """
        replicas = None if self.watch is None else self.watch.replicas()
        return 1 if replicas is None else (replicas + 1) // 2
