"""L1: the in-process tier. Bounded, with lifetimes, thread-safe, fenced.

The fence closes the race in which an invalidation is handled after a value was read from L2 or from its source
and before it is stored here (race R1). Every handled invalidation gets an epoch. A reader takes the epoch before
it sends its read. A value is refused if its key was invalidated at a later epoch.
"""

# ruff: noqa: SLF001 - only this file uses the private links of entries in the list by age

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

# Limit of expired entries that one call drops, so that other threads do not wait long for the lock.
SWEEP = 1000

MISS: Final = NoValue.MISS
NOT_FOUND: Final = NoValue.NOT_FOUND
Miss = Literal[NoValue.MISS]
NotFound = Literal[NoValue.NOT_FOUND]


class _Counts:
    """The counters of one entity."""

    __slots__ = ("entries", "evicted", "hits")

    def __init__(self) -> None:
        self.entries = self.evicted = self.hits = 0


class Entry(Generic[V]):
    """One value in L1; `value` is `NOT_FOUND` if the source answered that there is none.

    `loaded_at_s` is the time at which its read was sent, not the time of the answer. `size` is its size in L2, in
    bytes.
    """

    # `_counts` belongs to `_EntryCache`, which counts its entries with it.
    __slots__ = ("_counts", "expires_at_s", "loaded_at_s", "size", "value")
    _counts: _Counts

    def __init__(self, value: V | NotFound, loaded_at_s: float, expires_at_s: float, size: int = 0) -> None:
        self.value = value
        self.loaded_at_s: float = loaded_at_s
        self.expires_at_s: float = expires_at_s
        self.size: int = size


class Read(NamedTuple, Generic[V]):
    """The result of `L1.get_many`, with the epoch to pass to `put_many` for the values read for `missing`.

    `values` has None for the keys of `not_found`: the source is known to have no value for them.
    """

    values: dict[str, V | None]
    not_found: list[str]
    missing: list[str]
    epoch: Epoch


class _EntryCache(LRUCache[str, Entry[V]]):
    """An LRUCache that counts its entries by entity. A caller that reads `entries` directly must call `touch`.

    `L1` checks lifetimes with one clock reading for all keys; cachetools' timed caches read it for each key. An
    expired entry is dropped when its key is read, by `expire`, or when it is the least recently used.
    """

    def __init__(
        self, maxsize: int, max_bytes: int = sys.maxsize, max_value_bytes: int = sys.maxsize
    ) -> None:
        super().__init__(maxsize)
        self.bytes = 0
        self._max_bytes = max_bytes
        self._max_value_bytes = min(max_value_bytes, max_bytes)
        # cachetools' private names, checked by a test. Through its methods a hit costs three function calls.
        self.entries: dict[str, Entry[V]] = vars(self)["_Cache__data"]
        self.touch: Callable[[str], None] = vars(self)["_LRUCache__order"].move_to_end
        self.counts: dict[str, _Counts] = {}
        self._by_age: OrderedDict[str, Entry[V]] = OrderedDict()

    def peek(self, key: str, now: float) -> Entry[V] | None:
        """Return the entry if it has not expired, without counting as a use; else None."""
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
        """Evict the least recently used entry."""
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
    """The first tier of one process: an LRU cache with lifetimes. Thread-safe; only one lock can block.

    While `trusted_until_s` is in the past, an invalidation may have been missed. L1 then serves only entries that
    were loaded within the last `untrusted_s` seconds. The listener moves `trusted_until_s` forward.
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
        """Return True while the listener confirms that no invalidation was missed."""
        return self._clock() < self.trusted_until_s

    def get(self, key: str) -> V | Miss:
        """Return one value, or `MISS` if `get_many` would return none. Counts the hit for `take_hits`."""
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
        """Return the number of hits of `get` for each entity since the last call."""
        taken: list[tuple[str, int]] = []
        with self._lock:
            for entity, counts in self._cache.counts.items():
                if counts.hits:
                    taken.append((entity, counts.hits))
                    counts.hits = 0
        return taken

    def get_many(self, keys: Sequence[str]) -> Read[V]:
        """Look up all keys under one lock; expired, untrusted and absent keys are `missing`, in order."""
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
        """Return the current epoch. Take it before a read is sent."""
        with self._lock:
            return Epoch(self._epoch, self._clock())

    def put_many(self, entries: Iterable[tuple[str, Entry[V]]], epoch: Epoch) -> tuple[list[str], list[str]]:
        """Store entries that were read after `epoch` was taken.

        Returns two lists. The first has the keys that were refused because an invalidation was handled meanwhile.
        The second has the keys that were stored although a tracking message about them was handled meanwhile: the
        caller must compare these with L2.
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
        """Return True if an invalidation of `key`, or a flush, was handled after `epoch` was taken."""
        with self._lock:
            return self._invalidated.later_than(key, epoch.number)

    def invalidate(self, keys: Sequence[str]) -> int:
        """Drop keys and refuse values read for them before now. Returns the number of entries dropped."""
        with self._lock:
            self._epoch += 1
            self._invalidated.set(keys, self._epoch)
            return sum(self._cache.pop(key, None) is not None for key in keys)

    def invalidate_matching(self, pattern: str) -> int:
        """Drop keys that match a glob pattern, and refuse every value read before now. Returns their number."""
        with self._lock:
            self._epoch += 1
            self._invalidated.set_all(self._epoch)
            matching = [key for key in list(self._cache) if fnmatchcase(key, pattern)]
            for key in matching:
                self._cache.pop(key, None)
            return len(matching)

    def flush(self) -> int:
        """Drop everything and refuse every value read before now. Returns the number of entries dropped."""
        with self._lock:
            self._epoch += 1
            self._invalidated.set_all(self._epoch)
            held = len(self._cache)
            self._cache.clear()
            return held

    def suspect(self, keys: Sequence[str]) -> dict[str, Entry[V]]:
        """Mark keys that changed on the server without an invalidation of ours; return their entries."""
        with self._lock:
            self._epoch += 1
            self._suspected.set(keys, self._epoch)
            return self._held(keys)

    def held(self, keys: Iterable[str]) -> dict[str, Entry[V]]:
        """Return the current entries of these keys, trusted or not."""
        with self._lock:
            return self._held(keys)

    def _held(self, keys: Iterable[str]) -> dict[str, Entry[V]]:
        now = self._clock()
        return {key: entry for key in keys if (entry := self._cache.peek(key, now)) is not None}

    def drop_if_same(self, key: str, entry: Entry[V]) -> bool:
        """Drop `key` if L1 still holds this entry object for it. Returns True if it was dropped."""
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
        """Return the number of entries. No scan: the number is kept up to date."""
        with self._lock:
            self._cache.expire(self._clock())
            return len(self._cache)

    def bytes(self) -> int:
        """Return the total size of the entries, in bytes as stored in L2."""
        with self._lock:
            return self._cache.bytes

    def sizes(self) -> Counter[str]:
        """Return the number of entries of each entity."""
        with self._lock:
            self._cache.expire(self._clock())
            return Counter({name: n for name, c in self._cache.counts.items() if (n := c.entries)})

    def evicted(self) -> Counter[str]:
        """Return the number of entries of each entity that were evicted since the start."""
        with self._lock:
            return Counter({name: n for name, c in self._cache.counts.items() if (n := c.evicted)})

    @property
    def evictions(self) -> int:
        """The number of entries that were evicted since the start."""
        return self.evicted().total()
