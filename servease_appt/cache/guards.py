"""Guards around objects that users pass to the cache: their exceptions are logged and not raised."""

from __future__ import annotations

import logging
from collections.abc import Callable

from servease_appt.cache.breaker import BreakerState
from servease_appt.cache.stats import Event, Observer, Recorder, Tier

log = logging.getLogger(__name__)


class Guard:
    """Calls a function and logs the first exception that it raises. Thread-safe."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._has_failed = False

    def failed(self, error: Exception) -> None:
        """Log an exception, unless one was logged before."""
        if not self._has_failed:
            self._has_failed = True
            message = "%s failed. It is called again for later events, and further failures are not logged."
            log.error(message, self._what, exc_info=error)

    def call(self, call: Callable[[], None]) -> None:
        """Call a function; no exception is raised."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - logged by `failed`
            self.failed(error)


class GuardedRecorder:
    """A recorder that never raises."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._guard = Guard("The cache's recorder")

    def count(self, tier: Tier, event: Event, entity: str, n: int = 1) -> None:
        """See `Recorder.count`."""
        try:
            self._recorder.count(tier, event, entity, n)
        except Exception as error:  # noqa: BLE001 - logged by `failed`
            self._guard.failed(error)


class GuardedObserver:
    """An observer that never raises."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._guard = Guard("The cache's observer")

    def redis_operation(self, operation: str, seconds: float, outcome: str) -> None:
        """See `Observer.redis_operation`."""
        try:
            self._observer.redis_operation(operation, seconds, outcome)
        except Exception as error:  # noqa: BLE001 - logged by `failed`
            self._guard.failed(error)

    def breaker_changed(self, breaker: str, state: BreakerState) -> None:
        """See `Observer.breaker_changed`."""
        try:
            self._observer.breaker_changed(breaker, state)
        except Exception as error:  # noqa: BLE001 - logged by `failed`
            self._guard.failed(error)
