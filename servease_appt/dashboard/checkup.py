"""Run the doctor for the page: in a worker, when somebody asks for it."""

from __future__ import annotations

import threading
from typing import Any, Final

from servease_appt.api.errors import detail_error
from servease_appt.container import Container
from servease_appt.doctor.examination import examine
from servease_appt.inspection.session import operator_session

WITHIN_S: Final = 10.0


class Checkup:
    """Runs one examination at a time in this process. Thread-safe."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._running = threading.Lock()

    def as_json(self) -> dict[str, Any]:
        """Return what `cache doctor --json` prints, within `WITHIN_S` and the second that closing may take.

        Raises:
            ApiError: 429 while an examination runs in this worker: each needs threads and connections.
        """
        if not self._running.acquire(blocking=False):
            raise detail_error(429, "The doctor is running. Try again in a few seconds.", Retry_After="5")
        try:
            with operator_session(self._container) as session:
                return examine(session, within_s=WITHIN_S).as_json()
        finally:
            self._running.release()
