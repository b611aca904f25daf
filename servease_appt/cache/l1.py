"""L1: what one process remembers for a short time. Bounded, timed, thread-safe, fenced.

The fence closes the race in which an invalidation is handled between the moment a value was read from L2 or
from its source and the moment it is kept here (race R1): every handled invalidation gets an epoch, a reader
takes the epoch before it sends its read, and a value is refused when its key was invalidated at a later epoch.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Generic, NamedTuple, TypeVar

from cachetools import FIFOCache

V = TypeVar("V")

# Epochs are kept a key; past this many they are replaced by one floor that stands for all keys, which costs
# some refused or verified puts and never a wrong one.
MAX_EPOCHS = 8192


class Entry(Generic[V]):
    """One value as L1 holds it; `value` is None where the source said that there is none.

    `loaded_at_s` is when the read was sent that brought it, not when it came.
    """

    __slots__ = ("expires_at_s", "loaded_at_s", "value")

    def __init__(self, value: V | None, loaded_at_s: float, expires_at_s: float) -> None:
        self.value = value
        self.loaded_at_s = loaded_at_s
        self.expires_at_s = expires_at_s


class Epoch(NamedTuple):
    """What a reader takes before it sends its read: how much had been handled by then, and when it was.

    What it brings is known to have been true at `at_s`, and not later, however long the way back was.
    """

    number: int
    at_s: float


class Read(NamedTuple, Generic[V]):
    """What `L1.get_many` found, and the epoch to hand back with whatever is read for `missing`."""

    values: dict[str, V | None]
    missing: list[str]
    epoch: Epoch


class _Epochs:
    """The last epoch at which something happened to a key; bounded by a floor for the keys forgotten."""

    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}
        self._floor = 0
        self.latest = 0

    def set(self, key: str, epoch: int) -> None:
        if len(self._epochs) >= MAX_EPOCHS:
            self.set_all(epoch)
        self._epochs[key] = self.latest = epoch

    def set_all(self, epoch: int) -> None:
        self._epochs.clear()
        self._floor = self.latest = epoch

    def later_than(self, key: str, epoch: int) -> bool:
        return self._floor > epoch or self._epochs.get(key, 0) > epoch


class _EntryCache(FIFOCache[str, "Entry[V] | None"]):
    """A FIFOCache that gives None for what it has not, and counts what it evicts for lack of room.

    Lifetimes are looked at by `L1`, once a read: cachetools' timed caches ask the clock again for each key,
    and cost two to four times as much. The oldest goes first, whether it is read or not: what is read comes back
    within seconds anyway, and moving it to the end would cost each hit as much again.
    """

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.evicted: Counter[str] = Counter()

    def __missing__(self, key: str) -> None:
        return None

    def peek(self, key: str, now: float) -> Entry[V] | None:
        """The entry if it has not expired."""
        entry = self[key]
        return entry if entry is not None and now < entry.expires_at_s else None

    def expire(self, now: float) -> None:
        """Drop what has expired."""
        for key in [key for key in self if self.peek(key, now) is None]:
            del self[key]

    def popitem(self) -> tuple[str, Entry[V] | None]:
        key, entry = super().popitem()
        self.evicted[_codec_name(key)] += 1
        return key, entry


def _codec_name(key: str) -> str:
    return key.partition("_")[0]


class L1(Generic[V]):
    """The first tier of one process. All methods are thread-safe; none blocks on anything but one lock.

    While `trusted_until_s` lies in the past, nobody can say whether an invalidation was missed: only entries
    loaded within the last `untrusted_s` seconds are then served. The listener moves it forward.
    """

    def __init__(
        self, *, maxsize: int, untrusted_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._untrusted_s = untrusted_s
        self._lock = threading.Lock()
        self._cache: _EntryCache[V] = _EntryCache(maxsize)
        self._epoch = 1
        self._invalidated = _Epochs()
        self._suspected = _Epochs()
        self.trusted_until_s = float("-inf")

    def get_many(self, keys: Sequence[str]) -> Read[V]:
        """Look all keys up under one lock; expired, untrusted and absent ones are `missing`, in order."""
        values: dict[str, V | None] = {}
        missing: list[str] = []
        cache = self._cache
        with self._lock:
            now = self._clock()
            loaded_after_s = float("-inf") if now < self.trusted_until_s else now - self._untrusted_s
            for key in keys:
                entry = cache[key]
                if entry is not None and now < entry.expires_at_s and entry.loaded_at_s > loaded_after_s:
                    values[key] = entry.value
                else:
                    missing.append(key)
            return Read(values, missing, Epoch(self._epoch, now))

    def epoch(self) -> Epoch:
        """The epoch to take before a read is sent."""
        with self._lock:
            return Epoch(self._epoch, self._clock())

    def put_many(self, entries: Iterable[tuple[str, Entry[V]]], epoch: Epoch) -> tuple[list[str], list[str]]:
        """Keep what was read after `epoch` was taken.

        Returns the keys that were refused, since an invalidation was handled meanwhile, and those that were
        kept although the server said meanwhile that they had changed: these must be compared with L2.
        """
        refused: list[str] = []
        to_verify: list[str] = []
        cache, number = self._cache, epoch.number
        with self._lock:
            if max(self._invalidated.latest, self._suspected.latest) <= number:
                for key, entry in entries:
                    cache[key] = entry
                return refused, to_verify
            for key, entry in entries:
                if self._invalidated.later_than(key, number):
                    refused.append(key)
                    continue
                cache[key] = entry
                if self._suspected.later_than(key, number):
                    to_verify.append(key)
        return refused, to_verify

    def invalidated_since(self, key: str, epoch: Epoch) -> bool:
        """Say whether an invalidation of `key`, or a flush, was handled after `epoch` was taken."""
        with self._lock:
            return self._invalidated.later_than(key, epoch.number)

    def invalidate(self, keys: Iterable[str]) -> int:
        """Drop keys and refuse whatever was read for them before now. Returns how many were held."""
        with self._lock:
            self._epoch += 1
            held = 0
            for key in keys:
                self._invalidated.set(key, self._epoch)
                held += self._cache.pop(key, None) is not None
            return held

    def invalidate_matching(self, pattern: str) -> int:
        """Drop the keys that match a glob pattern, and refuse every value read before now."""
        with self._lock:
            self._epoch += 1
            self._invalidated.set_all(self._epoch)
            matching = [key for key in list(self._cache) if fnmatchcase(key, pattern)]
            for key in matching:
                self._cache.pop(key, None)
            return len(matching)

    def flush(self) -> int:
        """Drop everything and refuse every value read before now. Returns how many entries were held."""
        with self._lock:
            self._epoch += 1
            self._invalidated.set_all(self._epoch)
            held = len(self._cache)
            self._cache.clear()
            return held

    def suspect(self, keys: Iterable[str]) -> dict[str, Entry[V]]:
        """Note that the server changed keys in a way no message of ours explains; return the ones held."""
        with self._lock:
            self._epoch += 1
            keys = list(keys)
            for key in keys:
                self._suspected.set(key, self._epoch)
            return self._held(keys)

    def held(self, keys: Iterable[str]) -> dict[str, Entry[V]]:
        """The entries held right now, trusted or not."""
        with self._lock:
            return self._held(keys)

    def _held(self, keys: Iterable[str]) -> dict[str, Entry[V]]:
        now = self._clock()
        return {key: entry for key in keys if (entry := self._cache.peek(key, now)) is not None}

    def drop_if_same(self, key: str, entry: Entry[V]) -> bool:
        """Drop `key` if it still holds this very entry."""
        with self._lock:
            if self._cache[key] is not entry:
                return False
            del self._cache[key]
            return True

    def keys(self) -> list[str]:
        """The keys held. Makes room: what has expired is dropped here, and not by reads, which pass it over."""
        with self._lock:
            self._cache.expire(self._clock())
            return list(self._cache)

    def size(self) -> int:
        """How many entries are held."""
        return len(self.keys())

    def sizes(self) -> Counter[str]:
        """How many entries are held of each codec."""
        return Counter(map(_codec_name, self.keys()))

    def evicted(self) -> Counter[str]:
        """How many entries of each codec were dropped for lack of room since the start."""
        with self._lock:
            return self._cache.evicted.copy()

    @property
    def evictions(self) -> int:
        """How many entries were dropped for lack of room since the start."""
        return self.evicted().total()
