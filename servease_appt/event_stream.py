"""Deliver booking events to a Redis stream, at least once and in their order.

A transaction that changes appointments writes its events with the change (`servease_appt.db.migrations.events`).
The workers pass them on afterwards, so an event is neither lost nor invented, whichever of PostgreSQL, Redis and
the workers fails in between. A worker that ends after it has added events to the stream, and before it could note
that, leaves them to be added again: their `number` tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC
from time import monotonic
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisClusterException, RedisError

from servease_appt.cache.breaker import Breaker, BreakerState
from servease_appt.db import events
from servease_appt.db.engine import Database
from servease_appt.db.events import Backlog, BookingEvent

_log = logging.getLogger(__name__)

COOL_DOWN_S: Final = 2.0
_AT_ONCE: Final = 500
_MOST_ROUNDS: Final = 20
"""Batches in one call, so that a large backlog does not hold up the other work of its thread."""


class EventStream:
    """Adds events to the stream `PREFIX:__events`. For one thread at a time in each process; fork-safe.

    Args:
        database: where the events are.
        redis: the client that adds them. It is used, and never closed.
        prefix: the key prefix of the service.
        maxlen: about how many entries the stream keeps.
        on_backlog: called with what is left after each delivery, also after one that failed.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        database: Database,
        redis: Redis,
        *,
        prefix: str,
        maxlen: int,
        on_backlog: Callable[[Backlog], None] = lambda _backlog: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._redis = redis
        self._maxlen = maxlen
        self._on_backlog = on_backlog
        self._breaker = Breaker(threshold=1, cool_down_s=COOL_DOWN_S, on_change=self._changed, clock=clock)
        self.key = f"{prefix}:__events"

    def deliver(self) -> None:
        """Deliver what is waiting. While Redis does not take it, one attempt is made every two seconds.

        Raises:
            DatabaseUnavailable: PostgreSQL can't be used.
        """
        _publish_all(self._database)
        if self._breaker.allows():
            self._deliver()
        with self._database.reading() as connection:
            left = events.backlog(connection)
        self._on_backlog(left)

    def _deliver(self) -> None:
        try:
            for _ in range(_MOST_ROUNDS):
                if events.deliver(self._database, self.add, _AT_ONCE) < _AT_ONCE:
                    break
        except (RedisError, RedisClusterException) as error:
            self._breaker.failed()
            _log.debug("Redis does not take booking events: %s", error)
        else:
            self._breaker.succeeded()

    def add(self, batch: Sequence[BookingEvent]) -> None:
        """Add events to the stream. Raises a RedisError; some may have been added then."""
        pipeline = self._redis.pipeline(transaction=False)
        for event in batch:
            pipeline.xadd(self.key, _fields(event), maxlen=self._maxlen, approximate=True)
        pipeline.execute()

    def _changed(self, state: BreakerState) -> None:
        if state is BreakerState.OPEN:
            _log.warning("Redis takes no booking events: they stay in PostgreSQL until it does")
        elif state is BreakerState.CLOSED:
            _log.warning("Redis takes booking events again")


def _publish_all(database: Database) -> None:
    for _ in range(_MOST_ROUNDS):
        if not events.publish(database):
            break


def _fields(event: BookingEvent) -> dict[Any, Any]:
    """Return the fields of an entry: text, empty for None."""
    occurred_at = event.occurred_at.astimezone(UTC).isoformat(timespec="microseconds")
    return {
        "number": str(event.number),
        "event": event.event,
        "appointment_id": event.appointment_id,
        "customer_id": event.customer_id or "",
        "status": event.status or "",
        "occurred_at": occurred_at.replace("+00:00", "Z"),
    }
