"""The parts of one application, as the request handlers and commands find them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from servease_appt.appointments.policy import BookingPolicy
from servease_appt.clients import Upstreams
from servease_appt.db.engine import Database
from servease_appt.observability.metric_history import MetricHistory
from servease_appt.observability.metrics import Metrics
from servease_appt.references.enrichment import Lookups
from servease_appt.settings import Settings

EXTENSION = "servease"
"""The name under which an application's `extensions` hold its `Container`."""


@dataclass(slots=True)
class Lifecycle:
    """Whether this process is on its way out: whoever serves the application says so."""

    draining: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Container:
    """What `app.create_app` has put together. Each part is thread-safe and survives a fork."""

    settings: Settings
    database: Database
    upstreams: Upstreams
    lookups: Lookups
    policy: BookingPolicy
    metrics: Metrics
    metric_history: MetricHistory
    lifecycle: Lifecycle = field(default_factory=Lifecycle)

    def close(self) -> None:
        """Close every connection and join every thread. Idempotent."""
        self.lookups.cache.close()
        self.upstreams.close()
        self.database.close()
