"""L1: what one process remembers for a short time. Bounded, timed, thread-safe, fenced.

The fence closes the race in which an invalidation is handled between the moment a value was read from L2 or
from its source and the moment it is kept here (race R1): every handled invalidation gets an epoch, a reader
takes the epoch before it sends its read, and a value is refused when its key was invalidated at a later epoch.
"""

# ruff: noqa: SLF001 - the entries' own places in the list by age are this file's

from __future__ import annotations

import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from cachetools import LRUCache

from servease_appt.cache.clocks import elapsed_s
from servease_appt.cache.epochs import Epoch, Epochs
from servease_appt.cache.results import NoValue

V = TypeVar("V")

# How many expired entries one call may drop: nobody waits for the lock while thousands are dropped at once.
SWEEP = 1000

MISS: Final = NoValue.MISS
NOT_FOUND: Final = NoValue.NOT_FOUND
Miss = Literal[NoValue.MISS]
NotFound = Literal[NoValue.NOT_FOUND]


class _Counts:
    """What is counted of one entity, as entries come and go."""

    __slots__ = ("entries", "evicted", "hits")

    def __init__(self) -> None:
        self.entries = self.evicted = self.hits = 0


class Entry(Generic[V]):
    """One value as L1 holds it; `value` is `NOT_FOUND` where the source said that there is none.

    `loaded_at_s` is when the read was sent that brought it, not when it came; `size` is that of its bytes in L2.
    """

    # `_counts` belongs to the cache that holds the entry.
    __slots__ = ("_counts", "expires_at_s", "loaded_at_s", "size", "value")
    _counts: _Counts

    def __init__(self, value: V | NotFound, loaded_at_s: float, expires_at_s: float, size: int = 0) -> None:
        self.value = value
        self.loaded_at_s: float = loaded_at_s
        self.expires_at_s: float = expires_at_s
        self.size: int = size


class Read(NamedTuple, Generic[V]):
    """What `L1.get_many` found, and the epoch to hand back with whatever is read for `missing`.

    `values` has None for the keys of `not_found`, which the source is known to have no value for.
    """

    values: dict[str, V | None]
    not_found: list[str]
    missing: list[str]
    epoch: Epoch


class _EntryCache(LRUCache[str, Entry[V]]):
    """An LRUCache that counts its entries by entity. Whoever reads `entries` past it has to `touch` what it uses.

    Lifetimes are looked at by `L1`, once a read: cachetools' timed caches ask the clock again for each key. An
    expired entry is dropped when its key is read, by `expire`, or when it is the least recently used.
    """

    def __init__(
        self, maxsize: int, max_bytes: int = sys.maxsize, max_value_bytes: int = sys.maxsize
    ) -> None:
        super().__init__(maxsize)
        self.bytes = 0
        self._max_bytes = max_bytes
        self._max_value_bytes = min(max_value_bytes, max_bytes)
        # cachetools' private names, held by a test: through its methods a hit costs three function calls.
        self.entries: dict[str, Entry[V]] = vars(self)["_Cache__data"]
        self.touch: Callable[[str], None] = vars(self)["_LRUCache__order"].move_to_end
        self.counts: dict[str, _Counts] = {}
        self._by_age: OrderedDict[str, Entry[V]] = OrderedDict()

    def peek(self, key: str, now: float) -> Entry[V] | None:
        """The entry if it has not expired; this is no use of it."""
        entry = self.entries.get(key)
        return entry if entry is not None and now < entry.expires_at_s else None

    def __setitem__(self, key: str, entry: Entry[V]) -> None:
        if entry.size > self._max_value_bytes:
            self.pop(key, None)  # so that no older value stays in its place
            return
        entity = key.partition("_")[0]
        counts = self.counts.get(entity)
        if counts is None:
            counts = self.counts[entity] = _Counts()
        replaced = self.entries.get(key)
        if replaced is None:
            counts.entries += 1
        else:
            self.bytes -= replaced.size
            del self._by_age[key]
        super().__setitem__(key, entry)
        self.bytes += entry.size
        entry._counts = counts
        self._by_age[key] = entry
        while self.bytes > self._max_bytes:
            self.popitem()

    def __delitem__(self, key: str) -> None:
        entry = self.entries[key]
        entry._counts.entries -= 1
        self.bytes -= entry.size
        del self._by_age[key]
        super().__delitem__(key)

    def popitem(self) -> tuple[str, Entry[V]]:
        """Make room: drop the entry that was used least recently."""
        key, entry = super().popitem()
        entry._counts.evicted += 1
        return key, entry

    def clear(self) -> None:
        super().clear()
        self.bytes = 0
        self._by_age.clear()
        for counts in self.counts.values():
            counts.entries = 0

    def expire(self, now: float) -> None:
        """Drop entries that have expired, the oldest first, at most `SWEEP` of them."""
        by_age = self._by_age
        for _ in range(SWEEP):
            if not by_age:
                return
            key = next(iter(by_age))
            if now < by_age[key].expires_at_s:
                return
            del self[key]


class L1(Generic[V]):
    """The first tier of one process: an LRU cache with lifetimes. Thread-safe; nothing blocks but one lock.

    While `trusted_until_s` lies in the past, nobody can say whether an invalidation was missed: only entries
    loaded within the last `untrusted_s` seconds are then served. The listener moves it forward.
    """

    def __init__(
        self,
        *,
        maxsize: int,
        max_bytes: int = sys.maxsize,
        max_value_bytes: int = sys.maxsize,
        untrusted_s: float = 1.0,
        clock: Callable[[], float] = elapsed_s,
    ) -> None:
        self._clock = clock
        self._untrusted_s = untrusted_s
        self._lock = threading.Lock()
        self._cache: _EntryCache[V] = _EntryCache(maxsize, max_bytes, max_value_bytes)
        self._epoch = 1
        self._invalidated = Epochs()
        self._suspected = Epochs()
        self.trusted_until_s: float = float("-inf")

    def is_trusted(self) -> bool:
        """Say whether all invalidations have been heard of, as far as anybody can know."""
        return self._clock() < self.trusted_until_s

    def get(self, key: str) -> V | Miss:
        """Return one value, or `MISS` where `get_many` would not give one. Counts the hit for `take_hits`."""
        cache = self._cache
        with self._lock:
            if key in cache.entries:
                entry = cache.entries[key]
                now = self._clock()
                value = entry.value
                if (
                    now < entry.expires_at_s
                    and (now < self.trusted_until_s or entry.loaded_at_s > now - self._untrusted_s)
                    and value is not NOT_FOUND
                ):
                    cache.touch(key)
                    entry._counts.hits += 1
                    return value
        return MISS

    def take_hits(self) -> list[tuple[str, int]]:
        """Return how many values of each entity `get` has found since this was last called."""
        taken: list[tuple[str, int]] = []
        with self._lock:
            for entity, counts in self._cache.counts.items():
                if counts.hits:
                    taken.append((entity, counts.hits))
                    counts.hits = 0
        return taken

    def get_many(self, keys: Sequence[str]) -> Read[V]:
        """Look all keys up under one lock; expired, untrusted and absent ones are `missing`, in order."""
        values: dict[str, V | None] = {}
        not_found: list[str] = []
        missing: list[str] = []
        entries, touch = self._cache.entries, self._cache.touch
        with self._lock:
            now = self._clock()
            loaded_after_s = float("-inf") if now < self.trusted_until_s else now - self._untrusted_s
            for key in keys:
                if key not in entries:
                    missing.append(key)
                    continue
                entry = entries[key]
                if now >= entry.expires_at_s:
                    missing.append(key)
                    del self._cache[key]
                    continue
                touch(key)
                if entry.loaded_at_s <= loaded_after_s:
                    missing.append(key)
                elif (value := entry.value) is NOT_FOUND:
                    not_found.append(key)
                    values[key] = None
                else:
                    values[key] = value
            return Read(values, not_found, missing, Epoch(self._epoch, now))

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
            cache.expire(self._clock())
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
            if self._cache.entries.get(key) is not entry:
                return False
            del self._cache[key]
            return True

    def keys(self) -> list[str]:
        """Return the keys held, some of which may have expired."""
        with self._lock:
            return list(self._cache)

    def size(self) -> int:
        """Return how many entries are held; kept as they come and go, so that nothing is scanned."""
        with self._lock:
            self._cache.expire(self._clock())
            return len(self._cache)

    def bytes(self) -> int:
        """Return how many bytes the entries held take in L2."""
        with self._lock:
            return self._cache.bytes

    def sizes(self) -> Counter[str]:
        """Return how many entries are held of each entity."""
        with self._lock:
            self._cache.expire(self._clock())
            return Counter({name: n for name, c in self._cache.counts.items() if (n := c.entries)})

    def evicted(self) -> Counter[str]:
        """Return how many entries of each entity were dropped for lack of room since the start."""
        with self._lock:
            return Counter({name: n for name, c in self._cache.counts.items() if (n := c.evicted)})

    @property
    def evictions(self) -> int:
        """How many entries were dropped for lack of room since the start."""
        return self.evicted().total()
