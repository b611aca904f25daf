"""Versions and acknowledged invalidations in memory that processes share, and the verdict over one read.

Each key has one writer. It stores a newer version, invalidates the key, and notes the moment at which the
invalidation returned. A read that was called after that moment and shows an older version is stale.
"""

from __future__ import annotations

import time
from multiprocessing.context import BaseContext
from typing import Any

KEPT = 64
"""The number of newest acknowledgements that are kept for a key."""
ANNOUNCEMENTS = 4096
"""The number of newest announcements that are kept for a writer; the others follow at less than half of it."""
LAGS_MS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 250, 500, 1000, 2000, float("inf"))
"""Upper ends of the classes in which the lags of stale reads are counted."""


class Board:
    """What all processes of a run see. A key is a number below `keys`, and its writer is `key % writers`.

    Safe for several processes, since each number has one writer.

    Args:
        context: the start method of the processes.
        keys, writers: how many there are.
    """

    def __init__(self, context: BaseContext, keys: int, writers: int) -> None:
        self.keys = keys
        self.writers = writers
        self._live: Any = context.RawArray("q", keys)
        self._acknowledged: Any = context.RawArray("q", keys)
        self._moments: Any = context.RawArray("q", keys * KEPT)
        self._announced: Any = context.RawArray("q", writers)
        self._announcements: Any = context.RawArray("q", writers * ANNOUNCEMENTS)
        self._followed: Any = context.RawArray("q", writers * writers)
        self.stopping: Any = context.RawValue("b", 0)

    # The service that owns the versions

    def live(self, key: int) -> int:
        """Return the version that the service has now."""
        return int(self._live[key])

    def bump(self, key: int) -> None:
        """Store a newer version in the service. Called by the key's writer, before the invalidation."""
        self._live[key] += 1

    # Invalidations

    def acknowledge(self, keys: list[int]) -> None:
        """Note that the invalidation of the live versions of these keys has returned, and announce the keys."""
        moment = time.monotonic_ns()
        for key in keys:
            version = self._live[key]
            self._moments[key * KEPT + version % KEPT] = moment
            self._acknowledged[key] = version
            writer = key % self.writers
            self._announcements[writer * ANNOUNCEMENTS + self._announced[writer] % ANNOUNCEMENTS] = key
            self._announced[writer] += 1

    def acknowledged(self, key: int) -> int:
        """Return the newest version whose invalidation has returned."""
        return int(self._acknowledged[key])

    def invalidations(self) -> int:
        """Return the number of invalidations of all writers that have returned, counted by key."""
        return sum(self._announced)

    # Following other writers

    def news(self, follower: int, limit: int) -> list[int]:
        """Return the next keys that the other writers announced; each is returned once."""
        found: list[int] = []
        for writer in range(self.writers):
            if writer == follower:
                continue
            place = follower * self.writers + writer
            upto = min(self._announced[writer], self._followed[place] + limit)
            found += [
                self._announcements[writer * ANNOUNCEMENTS + number % ANNOUNCEMENTS]
                for number in range(self._followed[place], upto)
            ]
            self._followed[place] = upto
        return found

    def behind(self, writer: int) -> int:
        """Return how many announcements of a writer the slowest of the others has not read."""
        return max(
            (
                self._announced[writer] - self._followed[follower * self.writers + writer]
                for follower in range(self.writers)
                if follower != writer
            ),
            default=0,
        )

    # The verdict

    def lag_ns(self, key: int, shown: int, acknowledged: int, t_call: int) -> int:
        """Return for how long the invalidation of a version newer than the one shown had returned.

        Args:
            key: the key that was read.
            shown: the version that the read returned.
            acknowledged: the newest acknowledged version, read before the call.
            t_call: the moment of the read's call, in nanoseconds of the monotonic clock.

        Returns:
            0 if the read is not stale. If it is older than the acknowledgements that are kept, the time since the
            oldest of these.
        """
        if shown >= acknowledged:
            return 0
        oldest = max(shown + 1, acknowledged - KEPT + 2)
        return max(1, t_call - int(self._moments[key * KEPT + oldest % KEPT]))


class Tally:
    """What one process has seen. Written by that process alone, read by all."""

    FIELDS = ("reads", "stale", "own", "back", "l2", "late", "refused", "calls", "longest_ns")

    def __init__(self, context: BaseContext) -> None:
        self._numbers: Any = context.RawArray("q", len(self.FIELDS))
        self.lags: Any = context.RawArray("q", len(LAGS_MS))

    def add(self, field: str, number: int = 1) -> None:
        """Count something."""
        self._numbers[self.FIELDS.index(field)] += number

    def note_lag(self, lag_ns: int, bound_ns: int) -> None:
        """Count a stale read; `late` if its lag exceeds the bound."""
        self.add("stale")
        if lag_ns > bound_ns:
            self.add("late")
        longest = self.FIELDS.index("longest_ns")
        self._numbers[longest] = max(self._numbers[longest], lag_ns)
        self.lags[next(n for n, top in enumerate(LAGS_MS) if lag_ns <= top * 1e6)] += 1

    def as_dict(self) -> dict[str, int]:
        """Return every count."""
        return dict(zip(self.FIELDS, self._numbers, strict=True))
