"""The periodic work on the database in each worker: kept counts and booking events."""

import logging
import random
import threading
from collections.abc import Callable
from typing import Final

from servease_appt.cache.forks import after_fork
from servease_appt.db import events, kept_counts
from servease_appt.db.engine import Database
from servease_appt.db.errors import DatabaseUnavailable

_log = logging.getLogger(__name__)

FOLD_EVERY_S: Final = 30.0
SAMPLE_EVERY_S: Final = 600.0


class Upkeep:
    """Folds the changes of the kept counts, compares samples with the rows, and publishes events. Fork-safe.

    PostgreSQL may hang, so the work runs in a separate thread, one at a time.
    """

    def __init__(
        self,
        database: Database,
        on_sampled: Callable[[int], None] = lambda _wrong: None,
        deliver: Callable[[], None] | None = None,
    ) -> None:
        """Make the work of one worker.

        Args:
            database: where the counts and the events are.
            on_sampled: called with the number of sampled days whose count is wrong.
            deliver: delivers events, at every step; None if nobody wants them.
        """
        self._database = database
        self._on_sampled = on_sampled
        self._deliver = deliver
        self._set_up()
        after_fork(self, Upkeep._set_up)

    def _set_up(self) -> None:
        self._thread: threading.Thread | None = None
        self._fold_at_s = 0.0
        self._sample_at_s = 0.0

    def step(self, now_s: float) -> None:
        """Start the work that is due, and return at once. For one thread at a time.

        Args:
            now_s: seconds of a monotonic clock.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        # Not at once at the start: a starting worker has requests to answer, and other workers start with it.
        is_first = self._fold_at_s == 0
        fold = now_s >= self._fold_at_s
        if fold:
            self._fold_at_s = now_s + FOLD_EVERY_S * random.uniform(0.5, 1)
        if is_first or not (fold or self._deliver is not None):
            return
        sample = fold and now_s >= self._sample_at_s
        if sample:
            self._sample_at_s = now_s + SAMPLE_EVERY_S
        self._thread = threading.Thread(
            target=self._work, args=(fold, sample), name="postgres-upkeep", daemon=True
        )
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the started work has ended, for so many seconds at most; None means as long as it takes."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self, fold: bool, sample: bool) -> None:
        try:
            if self._deliver is not None:
                self._deliver()
            if fold:
                kept_counts.fold(self._database)
                events.publish(self._database)
                events.drop_old(self._database)
            if sample:
                with self._database.reading() as connection:
                    wrong = kept_counts.sampled_differences(connection)
                self._on_sampled(wrong)
                if wrong:
                    _log.error(
                        "Kept counts are wrong for %d of the days sampled: run `db check --repair`", wrong
                    )
        except DatabaseUnavailable:
            _log.debug("No upkeep: PostgreSQL is unavailable")
        except Exception:  # noqa: BLE001 - a failure ends no thread: the next turn tries again
            _log.exception("The upkeep of the database failed")
