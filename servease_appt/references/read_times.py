"""Samples of how long reads of L1 and L2 take, by entity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from servease_appt.cache import Lookup, Source, Tier
from servease_appt.references.entities import Reference

EVERY_S: Final = 0.05
"""Seconds in which a process records one read of a tier: a busy one spends no more on it than a quiet one."""


class ReadObserver(Protocol):
    """Receives durations of reads."""

    def tier_read(self, tier: Tier, entity: str, seconds: float) -> None:
        """Record how many seconds a read for values of an entity waited for a tier."""


class ReadTimes:
    """Passes reads to an observer, of each tier at most one every `EVERY_S`.

    One read is for all entities of an answer, so each of these waits for it: the same duration is recorded for
    each entity that the tier had a value of. Thread-safe: two threads at once may both record theirs.
    """

    def __init__(self, observer: ReadObserver) -> None:
        self._observer = observer
        self._next_of_l1_s = self._next_of_l2_s = float("-inf")

    def note(self, started_s: float, ended_s: float, keys: Sequence[str], lookup: Lookup[Reference]) -> None:
        """Record the lookup of `keys` if one is due; both times are of one monotonic clock, in seconds."""
        if not lookup.sources:
            if ended_s >= self._next_of_l1_s and keys:
                self._next_of_l1_s = ended_s + EVERY_S
                self._record(Tier.L1, keys, ended_s - started_s)
        elif ended_s >= self._next_of_l2_s:
            from_l2 = [key for key, source in lookup.sources.items() if source is Source.L2]
            if from_l2:
                self._next_of_l2_s = ended_s + EVERY_S
                self._record(Tier.L2, from_l2, lookup.cache_s)

    def _record(self, tier: Tier, keys: Iterable[str], seconds: float) -> None:
        for entity in {key.partition("_")[0] for key in keys}:
            self._observer.tier_read(tier, entity, seconds)
