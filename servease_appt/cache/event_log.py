"""The event log of the cache: counts events by entity, keeps the last ones, and passes them to a watcher."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from servease_appt.cache.stats import Event, Recorder, Tier

REMEMBERED = 2000


class LoggedEvent(NamedTuple):
    """One event of one key, or of the whole cache (`key` is `*`). `at_s` is wall-clock time in seconds."""

    at_s: float
    tier: str
    event: str
    key: str
    why: str

    def as_json(self) -> dict[str, float | str]:
        """Return the fields as a JSON object."""
        return self._asdict()


class EventLog:
    """Keeps the last events of one process, except reads. Thread-safe."""

    def __init__(self, recorder: Recorder, name_of: Callable[[str], str]) -> None:
        self._recorder = recorder
        self._name_of = name_of
        self._lock = threading.Lock()
        self._last: deque[LoggedEvent] = deque(maxlen=REMEMBERED)
        self._watcher: Callable[[list[LoggedEvent]], None] | None = None
        self._watched_until_s = 0.0

    def note(self, tier: Tier, event: Event, keys: Sequence[str], why: str = "") -> None:
        """Count and log an event of these keys. One that occurs more than once is logged once."""
        if len(keys) == 1:  # most events; a Counter costs more than the rest
            self._recorder.count(tier, event, self._name_of(keys[0]))
            self._remember(tier, event, keys, why)
            return
        for name, n in Counter(map(self._name_of, keys)).items():
            self._recorder.count(tier, event, name, n)
        self._remember(tier, event, dict.fromkeys(keys), why)

    def note_all(self, tier: Tier, event: Event, why: str = "", n: int = 1) -> None:
        """Count and log an event of the whole cache, or of unknown keys."""
        self._recorder.count(tier, event, "-", n)
        self._remember(tier, event, ("*",), why)

    def last_of(self, key: str, limit: int = 20) -> list[LoggedEvent]:
        """Return the last events that concern a key, newest first."""
        with self._lock:
            found = [logged for logged in self._last if logged.key in (key, "*")]
        return found[: -limit - 1 : -1]

    def since(self, at_s: float, limit: int) -> list[LoggedEvent]:
        """Return the last events after a time (wall clock, in seconds), at most `limit`, newest first."""
        with self._lock:
            newest = list(islice(reversed(self._last), limit))
        return [logged for logged in newest if logged.at_s > at_s]

    def watch(self, watcher: Callable[[list[LoggedEvent]], None], for_s: float) -> None:
        """Pass every event to `watcher`, on the thread where it happens, for the next `for_s` seconds."""
        self._watched_until_s = time.monotonic() + for_s
        self._watcher = watcher

    def _remember(self, tier: Tier, event: Event, keys: Iterable[str], why: str) -> None:
        now_s = time.time()
        events = [LoggedEvent(now_s, tier, event, key, why) for key in keys]
        with self._lock:
            self._last.extend(events)
        watcher = self._watcher
        if watcher is not None:
            if time.monotonic() < self._watched_until_s:
                watcher(events)
            else:
                self._watcher = None
