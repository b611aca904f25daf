"""The parts of one application, for request handlers and commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from redis import AuthenticationError, Redis, RedisError, ResponseError

from servease_appt.appointments.policy import BookingPolicy
from servease_appt.clients import Upstreams
from servease_appt.db.engine import Database
from servease_appt.db.upkeep import Upkeep
from servease_appt.list_reads.lists import ListReads
from servease_appt.observability.metric_history import MetricHistory
from servease_appt.observability.metrics import Metrics
from servease_appt.rate_limits import RateLimits
from servease_appt.references.enrichment import Lookups
from servease_appt.settings import Settings

_UPKEEP_MAY_TAKE_S = 2.0

EXTENSION = "servease"
"""The name under which an application's `extensions` hold its `Container`."""


@dataclass(slots=True)
class Lifecycle:
    """The lifecycle of this process. The server sets `draining`, which returns True during shutdown."""

    draining: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Container:
    """The parts of one application; `servease_appt.extension` makes them. Each is thread-safe and fork-safe.

    Attributes:
        redis: the cache's client. Closing it closes no connection of a pool that the host passed in.
    """

    settings: Settings
    database: Database
    list_reads: ListReads
    redis: Redis
    upstreams: Upstreams
    lookups: Lookups
    policy: BookingPolicy
    metrics: Metrics
    metric_history: MetricHistory
    rate_limits: RateLimits
    upkeep: Upkeep
    lifecycle: Lifecycle = field(default_factory=Lifecycle)

    def redis_answers(self) -> bool:
        """Send Redis one PING. Returns False if it is not answered. Takes at most the client's timeouts.

        A refusal is an answer, as where the server has no RESP3, or the password is wrong.
        """
        try:
            self.redis.ping()
        except (ResponseError, AuthenticationError):
            return True
        except RedisError:
            return False
        return True

    def close(self) -> None:
        """Close every connection that does not belong to the host, and join every thread. Idempotent."""
        self.lookups.cache.close()
        self.upkeep.wait(_UPKEEP_MAY_TAKE_S)
        self.list_reads.close()
        self.redis.close()
        self.upstreams.close()
        self.database.close()
