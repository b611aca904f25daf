"""The log of PostgreSQL failures."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from servease_appt.db.errors import Cause, DatabaseUnavailable

LOG_EVERY_S: Final = 60.0

_log = logging.getLogger(__name__)


class FailureLog:
    """Logs one line for each cause and minute, with the number of unlogged failures. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, name: str = "PostgreSQL") -> None:
        """`clock` gives monotonic seconds; `name` is what the lines call the server."""
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._quiet_until: dict[Cause, float] = {}
        self._unlogged: dict[Cause, int] = {}

    def note(self, error: DatabaseUnavailable) -> None:
        """Log a failure, or count it for the next line of its cause."""
        with self._lock:
            now = self._clock()
            if now < self._quiet_until.get(error.cause, 0.0):
                self._unlogged[error.cause] = self._unlogged.get(error.cause, 0) + 1
                return
            self._quiet_until[error.cause] = now + LOG_EVERY_S
            more = self._unlogged.pop(error.cause, 0)
        _log.error(
            "%s unavailable, cause: %s. %s%s%s",
            self._name,
            error.cause,
            error,
            f" ({error.detail})" if error.detail else "",
            f"; {more} more since the last line" if more else "",
        )
